"""Metrics of predicted distributions: a proper score, and the error of expected values; and the order of prototypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.labels import check_labels, holds_numbers
from skl2rclip._ordinal.rank_lookup import (
    check_probabilities,
    in_rank_order,
    known_scale,
    scale_of_columns,
    true_labels,
)
from skl2rclip._ordinal.ranks import order_unknown
from skl2rclip.metrics._averages import mean_of


def ranked_probability_score(y_true: Any, y_proba: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Mean ranked probability score of predicted distributions, a proper score that knows the order.

    ``mean_i sum_k (F_ik - [y_i <= k])^2`` over the first K - 1 ranks, F the probabilities summed up in rank order.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_proba : array-like of shape (n, K)
        Probabilities; columns in the order of the sorted labels, as `predict_proba` returns them.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Without it, an ordered Categorical `y_true` gives them; else labels must be the
        integers 0 to K - 1, which are the columns.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        In [0, K - 1]; 0 is perfect. For two ranks it is half of scikit-learn's Brier score of both classes.

    Raises
    ------
    ValueError
        If shapes do not fit, rows do not sum to one, or a label is not a rank.

    References
    ----------
    E. S. Epstein, "A scoring system for probability forecasts of ranked categories", Journal of Applied Meteorology 8,
    1969, in the form without division by K - 1.

    Examples
    --------
    >>> from skl2rclip.metrics import ranked_probability_score
    >>> ranked_probability_score([0], [[0.5, 0.5, 0.0]])
    0.25
    >>> ranked_probability_score([0], [[0.5, 0.0, 0.5]])  # as likely to be right, and further off where it is not
    0.5
    """
    true, probabilities = check_probabilities(y_true, y_proba)
    scale = scale_of_columns(true, probabilities.shape[1], ranks)
    ordered = in_rank_order(probabilities, scale.class_order, len(scale.ranks))
    return mean_of(ranked_scores(ordered, scale.encode(true.values, "y_true")), sample_weight)


def mean_absolute_expectation_error(
    y_true: Any, y_expected: Any, *, ranks: Any = None, sample_weight: Any = None
) -> float:
    """Mean absolute error of expected values, such as `L2RCLIPClassifier.predict_expectation` returns.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_expected : array-like of shape (n,)
        Numbers in the unit of numeric labels; for words positions along `ranks`, from 1 to K.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    Examples
    --------
    >>> from skl2rclip.metrics import mean_absolute_expectation_error
    >>> mean_absolute_expectation_error([20, 30], [21.5, 29.5])  # years
    1.0
    >>> mean_absolute_expectation_error(["low", "high"], [1.25, 1.75], ranks=["low", "high"])  # positions from 1 on
    0.25
    """
    expected = check_labels(y_expected, "y_expected")
    if not holds_numbers(expected):
        raise ValueError("y_expected must hold numbers, such as predict_expectation returns, got strings.")
    true = true_labels(y_true, len(expected), "y_expected")
    if ranks is None and true.own is None and not holds_numbers(true.values):
        raise ValueError(order_unknown(true.values))  # of a single word, too: the numbers are positions of its rank
    scale = known_scale([true], ranks=ranks)
    return mean_of(np.abs(scale.values[scale.encode(true.values, "y_true")] - expected), sample_weight)


def ordinality(prototypes: Any) -> float:
    """Share of neighbouring pairs of similarities that have the right order.

    Seen from each rank, similarity to the other ranks should fall with every step away from it, upwards and downwards.
    The score counts the steps at which it does.

    Parameters
    ----------
    prototypes : array-like of shape (K, D)
        Unit rows in rank order.

    Returns
    -------
    float
        In [0, 1]; 1 where every step is in order, about 1/2 for random prototypes.

    Raises
    ------
    ValueError
        If there are fewer than two rows, or what they hold is not finite.

    References
    ----------
    After the ordinality score of OrdinalCLIP (Li et al., NeurIPS 2022), which counts the steps upwards; that downward
    steps count too is this library's choice.

    Examples
    --------
    >>> import numpy as np
    >>> from skl2rclip.metrics import ordinality
    >>> angles = np.array([0.0, 0.5, 1.0])
    >>> along_an_arc = np.column_stack([np.cos(angles), np.sin(angles)])
    >>> ordinality(along_an_arc), ordinality(along_an_arc[[1, 0, 2]])
    (1.0, 0.666...)
    """
    rows = np.asarray(prototypes, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"prototypes must be finite, a row for each of at least 2 ranks, got the shape {rows.shape}.")
    similarity = rows @ rows.T  # (K, K)
    falls_upwards = similarity[:, :-1] > similarity[:, 1:]  # from k to k + 1
    above = np.triu(np.ones_like(falls_upwards))  # steps away from the rank, upwards
    below = np.tril(np.ones_like(falls_upwards), -1)
    falls_downwards = similarity[:, 1:] > similarity[:, :-1]
    right = (falls_upwards * above).sum() + (falls_downwards * below).sum()
    return float(right / (above.sum() + below.sum()))
