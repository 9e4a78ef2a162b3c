"""Comparisons of models by their scores of images that are left out.

Everything here is NumPy on arrays.
"""

from __future__ import annotations

import numpy as np


def mean_and_error(values: np.ndarray, weight: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over the last axis, and its standard error, where what is left out together counts as one.

    Parameters
    ----------
    values : ndarray of shape (..., n)
    weight : ndarray of shape (n,)
    blocks : ndarray of shape (n,), int
        What is left out together.

    Returns
    -------
    mean, standard_error : ndarray of shape (...)
    """
    share, (_, block) = weight / weight.sum(), np.unique(blocks, return_inverse=True)
    mean = values @ share
    rows = ((values - mean[..., None]) * share).reshape(-1, len(block))
    of_blocks = np.stack([np.bincount(block, row) for row in rows]).reshape(*values.shape[:-1], -1)
    n_blocks = of_blocks.shape[-1]
    return mean, np.sqrt((of_blocks**2).sum(axis=-1) * n_blocks / max(n_blocks - 1, 1))


def surely_best(scores: np.ndarray, weight: np.ndarray, blocks: np.ndarray) -> int:
    """Of models, which has the least score; the first, unless its score is worse by more than one standard error.

    Parameters
    ----------
    scores : ndarray of shape (models, n)
        Of each image, by a model that has not seen it.
    weight : ndarray of shape (n,)
    blocks : ndarray of shape (n,), int

    References
    ----------
    The rule of one standard error: Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984.
    """
    gain, error = mean_and_error(scores[0] - scores, weight, blocks)
    return int(np.where(gain > error, gain, 0).argmax())
