"""Images, or whole groups of them, drawn anew with replacement, for intervals of what is measured on them.

References
----------
B. Efron, R. J. Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def drawn_anew(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield which of n images or groups are drawn, as many as there are, ndarrays of shape (n,), int64."""
    generator = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield generator.integers(n, size=n)


def sums_by_group(columns: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum columns (m, n) over the images of each group, numbered from 0, (m, G), and count these, (G,)."""
    return np.stack([np.bincount(group, weights=column) for column in columns]), np.bincount(group)


def resampled_means(sums: np.ndarray, counts: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Means over the images of groups that are drawn, ndarray of shape (m, n_resamples), by sums and counts of each."""
    draws = drawn_anew(len(counts), n_resamples, seed)
    return np.stack([sums[:, rows].sum(axis=1) / counts[rows].sum() for rows in draws], axis=1)


def drawn_counts(group: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, with its group, numbered from 0: ndarrays of shape (n,), int64."""
    n = int(group.max(initial=-1)) + 1
    for rows in drawn_anew(n, n_resamples, seed):
        yield np.bincount(rows, minlength=n)[group]
