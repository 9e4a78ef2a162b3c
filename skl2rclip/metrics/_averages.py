"""Images that count more or less, and the unit that errors are in: what all metrics share."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._utils.arguments import check_sample_weight


def weighted_pair(
    y_true: Any, y_pred: Any, ranks: Any, sample_weight: Any
) -> tuple[RankScale, np.ndarray, np.ndarray, np.ndarray]:
    """Look up ranks and positions of true and predicted labels, and leave out what has no weight.

    Returns
    -------
    scale : RankScale
    true, predicted : ndarray of shape (m,), int64
    weight : ndarray of shape (m,), float64
        At most one.
    """
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    weight = _weights(sample_weight, len(true))
    counts = weight > 0
    return scale, true[counts], predicted[counts], weight[counts]


def mean_of(values: np.ndarray, sample_weight: Any) -> float:
    """Weighted mean, in which what has no weight does not count, be it infinite."""
    weight = _weights(sample_weight, len(values))
    counts = weight > 0
    return float(np.average(values[counts], weights=weight[counts]))


def _weights(sample_weight: Any, n: int) -> np.ndarray:
    weight = check_sample_weight(sample_weight, n)
    return weight / weight.max()  # whose sum is finite


def in_unit(values: np.ndarray, in_ranks: bool) -> np.ndarray:
    """Where the ranks lie: one step apart, or in the unit of numeric labels."""
    return np.arange(len(values)) if in_ranks else values
