"""Metrics of predicted intervals: how often they hold the truth, and how wide they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import check_labels, listing
from skl2rclip._ordinal.rank_lookup import NamedLabels, known_scale, true_labels
from skl2rclip.metrics._averages import in_unit, mean_of


def interval_coverage(y_true: Any, y_interval: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Share of the images whose true label lies in the predicted interval, ends included.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_interval : array-like of shape (n, 2)
        Lowest and highest label of each interval, such as `L2RCLIPClassifier.predict_interval` returns.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        In [0, 1]. It should be near the coverage that was asked for with twenty ranks or more, and above it with fewer:
        of three ranks 0.97 is what right probabilities give where 0.8 is asked for.

    Raises
    ------
    ValueError
        If `y_interval` is not of shape (n, 2), or an interval ends before it begins.

    Examples
    --------
    >>> from skl2rclip.metrics import interval_coverage
    >>> interval_coverage([20, 30, 40, 50], [[18, 22], [25, 29], [35, 45], [50, 60]])
    0.75
    """
    true, lowest, highest, _ = _interval_positions(y_true, y_interval, ranks)
    return mean_of((lowest <= true) & (true <= highest), sample_weight)


def mean_interval_width(
    y_true: Any, y_interval: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Mean distance of the two ends of predicted intervals: of two with one coverage, the narrower tells more.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels, of which only the order counts that an ordered Categorical has.
    y_interval : array-like of shape (n, 2)
        Lowest and highest label of each interval, such as `L2RCLIPClassifier.predict_interval` returns.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the width of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 where each interval is a single label.

    Examples
    --------
    >>> from skl2rclip.metrics import mean_interval_width
    >>> mean_interval_width([20, 30], [[18, 22], [25, 35]])
    7.0
    """
    _, lowest, highest, values = _interval_positions(y_true, y_interval, ranks)
    values = in_unit(values, in_ranks)
    return mean_of(np.abs(values[highest] - values[lowest]), sample_weight)


def _interval_positions(
    y_true: Any, y_interval: Any, ranks: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rank positions of the truth and of both ends, and the numeric values of the ranks."""
    # NumPy makes words of a list that holds numbers and words, which is to be said instead
    pairs = np.asarray(y_interval, dtype=None if hasattr(y_interval, "dtype") else object)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"y_interval must be of shape (n, 2), lowest and highest label, got the shape {pairs.shape}.")
    ends = NamedLabels("y_interval", check_labels(pairs.ravel(), "y_interval"))
    true = true_labels(y_true, len(pairs), "y_interval")
    scale = known_scale([true, ends], ranks=ranks)
    lowest, highest = scale.encode(ends.values, "y_interval").reshape(-1, 2).T
    if (lowest > highest).any():
        row = int((lowest > highest).argmax())
        raise ValueError(
            f"y_interval[{row}] ends before it begins: {listing(ends.values[2 * row : 2 * row + 2].tolist())}. The "
            "lowest label comes first."
        )
    return scale.encode(true.values, "y_true"), lowest, highest, scale.values
