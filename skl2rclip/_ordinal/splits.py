"""Which images are left out: what goes together, folds, and images for validation, all evenly along the ranks.

Everything here is NumPy on arrays.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def blocks_of(embeddings: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Give a number to each set of images that is left out together: equal embeddings, groups, what these connect.

    Numbers rise from the first image on, whatever the embeddings are: their last bits depend on how many images passed
    the tower at once, and folds must not.
    """
    rows = np.ascontiguousarray(embeddings, np.float32)
    contents = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, same = np.unique(contents, return_index=True, return_inverse=True)
    same = np.argsort(np.argsort(first))[same]
    if groups is None:
        return same
    group = np.unique(groups, return_inverse=True)[1]
    n_same = same.max() + 1
    links = coo_array((np.ones(len(rows)), (same, n_same + group)), shape=(n_same + group.max() + 1,) * 2)
    return connected_components(links, directed=False)[1][same]


def folds(target: np.ndarray, blocks: np.ndarray, n_folds: int, generator: np.random.Generator) -> np.ndarray:
    """Divide images into folds, evenly along the ranks; what is left out together stays together.

    Returns
    -------
    ndarray of shape (n,), int
        Fold of each image; fewer folds than asked for where there are fewer sets of images to divide.
    """
    rank = np.bincount(blocks, target) / np.bincount(blocks)  # mean rank of each block
    shuffled = generator.permutation(len(rank))
    by_rank = shuffled[np.argsort(rank[shuffled], kind="stable")]
    n_folds = min(n_folds, len(rank))
    fold = np.empty(len(rank), int)
    for start in range(0, len(rank), n_folds):
        part = by_rank[start : start + n_folds]
        fold[part] = generator.permutation(n_folds)[: len(part)]
    return fold[blocks]


def split_off_validation(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """Choose validation images evenly along the ranks, and never the only image of a rank.

    scikit-learn's stratified splits refuse ranks with a single image and sets smaller than the number of ranks, both
    common among ages; ordered labels allow to take every so-many-th image of the sorted set instead.

    Parameters
    ----------
    target : ndarray of shape (n,), int
        Index of each image's rank.
    fraction : float
        Share to hold out, in (0, 1).
    generator : numpy Generator
    groups : ndarray of shape (n,), optional
        Images of one group are held out together, or not at all.

    Returns
    -------
    ndarray of shape (n,), bool
        True for the images to hold out.
    """
    if groups is not None:
        return _split_off_groups(target, fraction, generator, groups)
    shuffled = generator.permutation(len(target))
    by_rank = shuffled[np.argsort(target[shuffled], kind="stable")]
    counts = np.bincount(target)
    place = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the rank
    candidates = by_rank[place > 0]
    n_held_out = min(max(1, round(fraction * len(target))), len(candidates))
    held_out = np.zeros(len(target), dtype=bool)
    if n_held_out:
        offset = generator.random()
        every = len(candidates) / n_held_out
        held_out[candidates[((np.arange(n_held_out) + offset) * every).astype(int)]] = True
    return held_out


def _split_off_groups(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray
) -> np.ndarray:
    """Choose whole groups along the ranks, none that a rank would lose its last image with."""
    group = np.unique(groups, return_inverse=True)[1]
    mean_rank = np.bincount(group, target) / np.bincount(group)
    shuffled = generator.permutation(len(mean_rank))
    by_rank = shuffled[np.argsort(mean_rank[shuffled], kind="stable")]
    # from one end of the scale to the other in strides, so that few groups already stand for all ranks
    stride = max(1, round(1 / fraction))
    offset = int(generator.integers(stride))
    order = np.concatenate([by_rank[(offset + first) % stride :: stride] for first in range(stride)])
    left, held_out = np.bincount(target), np.zeros(len(target), dtype=bool)
    wanted = max(1, round(fraction * len(target)))
    # groups that are too large by themselves come last, the smaller ones first, and never half of the images
    sizes = np.bincount(group)
    is_large = sizes[order] > wanted
    large = order[is_large]
    for number in [*order[~is_large], *large[np.argsort(sizes[large], kind="stable")]]:
        members = group == number
        counts = np.bincount(target[members], minlength=len(left))
        if held_out.sum() >= wanted:
            break
        overshoots = held_out.any() and held_out.sum() + sizes[number] > 2 * wanted
        if (counts < left)[counts > 0].all() and sizes[number] <= len(target) / 2 and not overshoots:
            held_out |= members
            left = left - counts
    return held_out
