"""`find_duplicates`: which images of X are copies of one another, and groups that keep them together in a split.

A frozen tower says which images are worth a second look, and their pixels whether they are copies. What pixels are
compared by stands in ``_images.likeness``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skl2rclip._images.collection import as_image_list
from skl2rclip._images.files import ImageLike, stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.likeness import (
    angles,
    differing_bits,
    frequencies_of,
    hashes_of_crops,
    have_like_colours,
    textures_of,
)
from skl2rclip._settings import checked
from skl2rclip._utils.arguments import check_groups, check_integer, check_no_embeddings, check_real, check_string

# images that are looked at, of those nearest to an image and to its mirror image
_N_BY_TOWER, _N_BY_TEXTURE = 20, 10
# pairs that differ in more bits under few crops do not agree under any
_WORTH_ALL_CROPS = 0.3


def find_duplicates(
    X: Any,
    y: Any = None,
    groups: Any = None,
    *,
    model_name: str = "skl2rclip-tiny",
    pretrained: str | os.PathLike | None = None,
    threshold: float = 0.1,
    device: str = "auto",
    embedding_cache: str | os.PathLike | None = None,
    max_memory: int | str | None = None,
    n_jobs: int | None = None,
    white_level: float | None = None,
) -> Any:
    """Find images of X that are copies of one another, so that none is in training and test at once.

    Exact copies have the same pixels, as the library decodes them: whatever the file is called, in which container it
    is, and whether EXIF or the pixels say how it lies. Near ones were recompressed, resized, mirrored, made brighter
    or darker by a tenth, or cropped by up to 5% at each side.

    For each image the nearest ones by a frozen tower and by small grey pixels, and those nearest to its mirror image,
    are looked at: they are copies where their perceptual hashes differ in no more than `threshold` of the bits, or
    their low frequencies have nearly the same direction, and their colours agree. Copies of copies are one set. What an
    image looks like is kept beside its embedding: one that this process has seen, or any with this `embedding_cache`,
    is neither decoded nor embedded again.

    Parameters
    ----------
    X : sequence of n images
        As `L2RCLIPClassifier.fit` takes them. A generator is used up by it.
    y : array-like of shape (n,), optional
        Labels, to be told of sets in which they contradict one another.
    groups : array-like of shape (n,), optional
        Whose image each is, to be told of sets that cross groups.
    model_name : str, default="skl2rclip-tiny"
        The tower that chooses what is looked at, as `CLIPImageEncoder` takes it. Larger ones find more cropped copies
        and take longer.
    pretrained : str, path or None, default=None
        Its weights, as `CLIPImageEncoder` takes them; not used with ``skl2rclip-tiny`` and ``skl2rclip-photo``.
    threshold : float, default=0.1
        Share of the 256 bits of their hashes in which near copies may differ, in [0, 0.5]. In images without contrast
        noise decides the bits, so that the angle between the low frequencies behind them counts where it is less; a
        correlation of 0.99 is 0.1. Raise it to find copies that were changed more, which takes more of different images
        that look alike for copies.
    device : str, default="auto"
        Where the tower computes, by the name that torch has for it.
    embedding_cache : str, path or None, default=None
        Folder that keeps embeddings, which the estimators use too.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", as `CLIPImageEncoder` takes it.
    n_jobs : int or None, default=None
        Threads that decode; None and -1 take all cores.
    white_level : float or None, default=None
        Which value is white in images of more than eight bits, as the estimators take it.

    Returns
    -------
    pandas.DataFrame
        A row for each image that has a copy, sorted by set: ``set``, a number from 0; ``index``, its place in X;
        ``distance``, what `threshold` bounds, from the nearest image that it was compared with in its set; ``kind``,
        "exact" where another image of the set has the same pixels, else "near". With `y` ``contradicts`` says of a set
        that its labels are not the same, with `groups` ``crosses_groups`` that its groups are not. Without copies it
        has the columns, and no row.

    Raises
    ------
    ImportError
        If ImageHash or pandas is not installed: the extra ``duplicates``.
    UnreadableImagesError
        Naming index, path and reason.
    ValueError, TypeError
        If an entry of X is no image at all, or y or groups have not one entry for each.
    InvalidParameterError
        If a parameter is out of range, or there is no such model or device.

    See Also
    --------
    group_duplicates : Groups for splits and fits that keep copies together.
    find_unreadable : Which images cannot be read.
    skl2rclip.inspection.DuplicateImagesDisplay : The sets, to be looked at.

    References
    ----------
    The hash: N. Krawetz, "Looks Like It", The Hacker Factor Blog, 2011, as in the package ImageHash. Embeddings that
    choose and pixels that decide: as in re-ranking, Philbin et al., "Object retrieval with large vocabularies and fast
    spatial matching", CVPR 2007.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from skl2rclip import find_duplicates
    >>> china, flower = load_sample_images().images
    >>> smaller_and_mirrored = china[::2, ::-2]
    >>> copies = find_duplicates([china, flower, smaller_and_mirrored, flower.copy()], y=[1, 2, 3, 2])
    >>> copies[["set", "index", "kind", "contradicts"]]
       set  index   kind  contradicts
    0    0      0   near         True
    1    0      2   near         True
    2    1      1  exact        False
    3    1      3  exact        False
    """
    check_installed()
    bound = check_real("threshold", threshold, 0, 0.5)
    check_string("device", device)  # not a list, which the classifier takes
    plain = checked(
        {
            "model_name": model_name,
            "pretrained": pretrained,
            "device": device,
            "embedding_cache": embedding_cache,
            "max_memory": max_memory,
            "n_jobs": n_jobs,
            "white_level": white_level,
        }
    )
    check_no_embeddings(X)
    images = stamped(as_image_list(X))
    of_image = {
        called: check_groups(names, len(images), where)
        for called, where, names in (("contradicts", "y", y), ("crosses_groups", "groups", groups))
        if names is not None
    }
    embeddings = _embeddings(images, plain)
    seen = _appearances(images, plain)
    pairs, distances = _copies(embeddings, seen, bound)
    import pandas as pd

    return pd.DataFrame(_columns(len(images), pairs, distances, of_image))


def group_duplicates(copies: Any, n_images: int, groups: Any = None) -> np.ndarray:
    """Make groups that keep copies together, for the `groups` of `GroupKFold` and of `L2RCLIPClassifier.fit`.

    Images of one set are in one group, and so are those of one of `groups`: groups that a set crosses become one. An
    image that shares neither with another is a group of its own.

    Parameters
    ----------
    copies : pandas.DataFrame
        As `find_duplicates` returns it, or those rows of it that you believe.
    n_images : int
        How many images it was asked about, ``len(X)``.
    groups : array-like of shape (n_images,), optional
        What images belong to already, such as patients or plants.

    Returns
    -------
    ndarray of shape (n_images,), int64
        Groups, numbered from 0 in the order of the images.

    Raises
    ------
    TypeError
        If `copies` has no columns ``set`` and ``index``.
    ValueError
        If it names images that there are not, or groups have not one entry for each.
    InvalidParameterError
        If `n_images` is no number of images.

    See Also
    --------
    find_duplicates : Which images are copies of one another.

    Examples
    --------
    >>> import pandas as pd
    >>> from skl2rclip import group_duplicates
    >>> copies = pd.DataFrame({"set": [0, 0], "index": [1, 3]})
    >>> group_duplicates(copies, 5)
    array([0, 1, 2, 1, 3])
    >>> group_duplicates(copies, 5, groups=["Ann", "Ann", "Bob", "Eve", "Eve"])
    array([0, 0, 1, 0, 0])
    """
    n = check_integer("n_images", n_images, minimum=1)
    of_image = np.arange(n) if groups is None else check_groups(groups, n)
    rows, sets = _members_of_sets(copies, n)
    n_groups = n + len(of_image)  # sets have the numbers from here on
    joined = np.concatenate([np.stack([np.arange(n), n + of_image]), np.stack([rows, n_groups + sets])], axis=1)
    size = n_groups + sets.max(initial=-1) + 1
    _, component = connected_components(coo_array((np.ones(joined.shape[1], bool), joined), (size, size)), False)
    return _numbered(component[:n])


def _members_of_sets(copies: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Read indices of images that have a copy, and their sets, numbered from 0."""
    missing = {"set", "index"} - set(getattr(copies, "columns", ()))
    if missing:
        raise TypeError(
            f"copies must be a frame as find_duplicates returns it, and has no column {sorted(missing)[0]!r}; got "
            f"{type(copies).__name__}."
        )
    rows = np.asarray(copies["index"])
    if len(rows) and rows.dtype.kind not in "iu":
        raise ValueError(
            f"copies has a column 'index' of {copies['index'].dtype}, and those of find_duplicates are integers: "
            "give it as it was returned."
        )
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(
            f"copies has indices from {rows.min()} to {rows.max()}, and n_images is {n}: give both of the same X, of "
            "which nothing has been left out since."
        )
    return rows.astype(np.int64), np.unique(np.asarray(copies["set"]), return_inverse=True)[1]


def _numbered(names: np.ndarray) -> np.ndarray:
    """Give numbers to names, ndarray of shape (n,), from 0 in the order in which it comes first."""
    _, first, of_each = np.unique(names, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[of_each]


def check_installed() -> None:
    """Raise unless the packages are there that this takes beside those of the library."""
    for package, use in (("imagehash", "ImageHash compares pixels"), ("pandas", "pandas holds the result")):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f'{use}, and is not installed: pip install "skl2rclip[duplicates]"') from error


# --------------------------------------------------------------- what is read


def _embeddings(images: Sequence[ImageLike], plain: dict[str, Any]) -> np.ndarray:
    """Embed images and their mirror images, (n, 2, D)."""
    from skl2rclip._clip.backbone import load_backbone
    from skl2rclip._clip.source import BackboneSource, warn_if_random
    from skl2rclip._embedding.embedder import check_headers, embed_images
    from skl2rclip._embedding.encoding import cache_of, shared_encoding
    from skl2rclip._utils.devices import resolve_device

    device = resolve_device(plain["device"])
    source = BackboneSource(plain["model_name"], plain["pretrained"], 0)
    warn_if_random(source)
    folder, n_jobs, max_memory = plain["embedding_cache"], plain["n_jobs"], plain["max_memory"]
    white = WhiteLevel(plain["white_level"])
    known = check_headers(images, folder, n_jobs, max_memory, white)
    backbone = load_backbone(source)
    encoding = shared_encoding(backbone, device, "auto", "auto")
    cache = cache_of(backbone, device, "auto", folder, max_memory, white)
    rows = embed_images(images, encoding, cache, n_jobs, max_memory, white=white, known=known, n_views=2)
    return rows.reshape(len(images), 2, -1)


def _appearances(images: Sequence[ImageLike], plain: dict[str, Any]) -> np.ndarray:
    """Look at every image that has not been looked at before, (n,), `APPEARANCE`."""
    from skl2rclip._embedding.appearances import appearances_of

    white = WhiteLevel(plain["white_level"])
    return appearances_of(images, plain["embedding_cache"], plain["n_jobs"], plain["max_memory"], white)


# --------------------------------------------------------------------- pairs


def _copies(embeddings: np.ndarray, seen: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Find pairs of copies: indices (pairs, 2), and in what share of bits each pair differs, 0 for exact copies."""
    _, first, of_each = np.unique(seen["digest"], axis=0, return_index=True, return_inverse=True)
    first, rows = first[of_each.ravel()], np.arange(len(seen))
    repeated = first != rows
    exact = np.stack([first[repeated], rows[repeated]], axis=1)
    different = np.flatnonzero(~repeated)
    candidates = different[_candidates(embeddings[different], seen["grey"][different])]
    near, distances = _near(candidates, seen, threshold)
    # what hashes do not see is no exact copy
    distances = np.maximum(distances, np.finfo(np.float64).tiny)
    return np.concatenate([exact, near]), np.concatenate([np.zeros(len(exact)), distances])


def _candidates(embeddings: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Pair each image with those that are worth a second look: indices (pairs, 2), each pair once.

    Those are near by the tower, or by small grey pixels: towers see brightness and what lies at the edges, and some of
    them see it well.
    """
    pairs = np.concatenate([_neighbors(embeddings, _N_BY_TOWER), _neighbors(textures_of(grey), _N_BY_TEXTURE)])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.stack(np.divmod(np.unique(pairs @ (len(grey), 1)), len(grey)), axis=1)


def _neighbors(views: np.ndarray, k: int) -> np.ndarray:
    """Pair each image with the k nearest to each of its views (n, views, D), of which the first is the image itself."""
    from sklearn.neighbors import NearestNeighbors

    n = len(views)
    if n < 2:
        return np.empty((0, 2), int)
    index = NearestNeighbors(n_neighbors=min(k + 1, n), algorithm="brute").fit(views[:, 0])  # one may be itself
    found = np.concatenate([index.kneighbors(view, return_distance=False) for view in views.swapaxes(0, 1)], axis=1)
    return np.stack([np.repeat(np.arange(n), found.shape[1]), found.ravel()], axis=1)


def _near(pairs: np.ndarray, seen: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Keep the pairs whose pixels agree, and say in what share of bits they differ."""
    distances = _in_portions(differing_bits, seen["hashes"], pairs, 10_000)
    distances = np.minimum(distances, _angles(pairs, seen["grey"]))
    is_worth = distances <= max(threshold, _WORTH_ALL_CROPS)
    pairs, distances = pairs[is_worth], distances[is_worth]
    alike = _in_portions(have_like_colours, seen["colour"], pairs, 10_000).astype(bool)
    pairs, distances = pairs[alike], distances[alike]
    is_doubtful = distances > threshold
    rows, places = np.unique(pairs[is_doubtful], return_inverse=True)
    crops = [hashes_of_crops(seen["grey"][part]) for part in _portions(rows, 100)]
    if crops:
        bits = _in_portions(differing_bits, np.concatenate(crops), places.reshape(-1, 2), 500)
        distances[is_doubtful] = np.minimum(distances[is_doubtful], bits)
    is_near = distances <= threshold
    return pairs[is_near], distances[is_near]


def _angles(pairs: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Compare low frequencies of pairs, which tell where noise decides the bits; infinity where they are far apart."""
    frequencies = np.concatenate(
        [np.empty((0, 2, 3, 255), np.float32), *(frequencies_of(each) for each in _portions(grey, 1000))]
    )
    found = _in_portions(angles, frequencies[:, :, :1], pairs, 10_000)
    is_worth = found <= 2 * _WORTH_ALL_CROPS
    found[~is_worth] = np.inf
    found[is_worth] = _in_portions(angles, frequencies, pairs[is_worth], 2000)
    return found


def _in_portions(
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray], values: np.ndarray, pairs: np.ndarray, size: int
) -> np.ndarray:
    """Compare the values of pairs, so many at once, which bounds the memory: ndarray of shape (pairs,)."""
    portions = (part.T for part in _portions(pairs, size))
    return np.concatenate([np.empty(0), *(compare(values[a], values[b]) for a, b in portions)])


def _portions(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


# --------------------------------------------------------------------- frame


def _columns(
    n: int, pairs: np.ndarray, distances: np.ndarray, of_image: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Columns of the frame: connected components of pairs are sets."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    nearest = np.full(n, np.inf)
    for side in pairs.T:
        np.minimum.at(nearest, side, distances)
    rows = np.flatnonzero(np.isfinite(nearest))
    sets = _numbered(component[rows])
    order = np.argsort(sets, kind="stable")
    rows, sets = rows[order], sets[order]
    kinds = np.where(nearest[rows] == 0, "exact", "near").astype(object)
    columns = {"set": sets, "index": rows, "distance": nearest[rows].round(6), "kind": kinds}
    for called, names in of_image.items():
        pairs = np.unique(np.stack([sets, names[rows]]), axis=1)
        columns[called] = np.bincount(pairs[0], minlength=1)[sets] > 1
    return columns
