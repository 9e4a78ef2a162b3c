"""Each 'at least this rank' as a decision of its own: how well it is told, and at which threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from skl2rclip._ordinal.rank_lookup import check_probabilities, in_rank_order, scale_of_columns
from skl2rclip._utils.arguments import check_real, check_sample_weight

SCORES = ("roc_auc", "sensitivity", "specificity")
# of a probability; what is less is rounding: 0.6 + 0.3 is 0.9
_SIGNIFICANT_BITS = 36


def at_least_rank_scores(
    y_true: Any, y_proba: Any, *, ranks: Any = None, threshold: float = 0.5, sample_weight: Any = None
) -> Bunch:
    """Score the decisions 'at least this rank', one for each rank but the lowest, such as 'moderate or worse'.

    The probability of a decision is that of all ranks from there on, summed up, to ten digits; it is taken where that
    is at least `threshold`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_proba : array-like of shape (n, K)
        Probabilities; columns in the order of the sorted labels, as `predict_proba` returns them.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Without it, an ordered Categorical `y_true` gives them; else labels must be the
        integers 0 to K - 1, which are the columns.
    threshold : float, default=0.5
        In [0, 1].
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    Bunch
        Of arrays of shape (K - 1,), NaN where `y_true` holds no image that would tell:

        rank : ndarray
            The label from which on the decision is taken.
        prevalence : ndarray, float64
            Share of the images that are at least of this rank.
        roc_auc : ndarray, float64
            Area under the curve of sensitivity over 1 - specificity, for all thresholds.
        sensitivity, specificity : ndarray, float64
            Share of the images of at least this rank for which it is taken, and of the others for which it is not.

    Raises
    ------
    ValueError
        If shapes do not fit, rows do not sum to one, there is a single column, or a label is not a rank.

    References
    ----------
    Ordered classes as a row of binary decisions: Frank and Hall, "A simple approach to ordinal classification", ECML
    2001.

    Examples
    --------
    >>> from skl2rclip.metrics import at_least_rank_scores
    >>> proba = [[0.9, 0.1, 0.0], [0.2, 0.6, 0.2], [0.3, 0.4, 0.3], [0.0, 0.2, 0.8]]
    >>> scores = at_least_rank_scores([0, 1, 2, 2], proba)
    >>> scores.rank.tolist(), scores.sensitivity.tolist(), scores.specificity.tolist()
    ([1, 2], [1.0, 0.5], [1.0, 1.0])
    """
    check_real("threshold", threshold, 0, 1)
    labels, probabilities = check_probabilities(y_true, y_proba)
    scale = scale_of_columns(labels, probabilities.shape[1], ranks)
    true = scale.encode(labels.values, "y_true")
    weight = check_sample_weight(sample_weight, len(true))
    of_higher = at_least(in_rank_order(probabilities, scale.class_order, len(scale.ranks)))
    columns = [_scores(true >= k, of_higher[:, k - 1], threshold, weight) for k in range(1, len(scale.ranks))]
    names = ("prevalence", *SCORES)
    return Bunch(rank=scale.ranks[1:], **dict(zip(names, np.transpose(columns), strict=True)))


def at_least(probabilities: np.ndarray) -> np.ndarray:
    """Sum probabilities (n, K) of ranks up to those of each rank but the lowest and all above it, (n, K - 1).

    Sums that differ by rounding alone are equal: neighbours and trees give many images the same probability.
    """
    if probabilities.shape[1] < 2:
        raise ValueError("y_proba has a single column, and 'at least this rank' takes two ranks or more.")
    # from the highest rank down, so that the last one's own is not the rest of a sum
    return _without_rounding(probabilities[:, :0:-1].cumsum(axis=1)[:, ::-1])


def _without_rounding(values: Any) -> Any:
    """Keep the digits of numbers that sums have in common, whatever the order in which they were summed up."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, _SIGNIFICANT_BITS)), exponent - _SIGNIFICANT_BITS)


def _scores(is_so: np.ndarray, probability: np.ndarray, threshold: float, weight: np.ndarray) -> tuple[float, ...]:
    counts = weight > 0
    is_so, probability, weight = is_so[counts], probability[counts], weight[counts]
    taken = probability >= _without_rounding(threshold)
    both = is_so.any() and not is_so.all()
    return (
        float(np.average(is_so, weights=weight)),
        float(roc_auc_score(is_so, probability, sample_weight=weight)) if both else np.nan,
        _share(taken, is_so, weight),
        _share(~taken, ~is_so, weight),
    )


def _share(is_right: np.ndarray, of: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(is_right[of], weights=weight[of])) if of.any() else np.nan


def scores_by_weights(is_so: np.ndarray, probability: np.ndarray, threshold: float, weights: np.ndarray) -> np.ndarray:
    """Score one decision under many weightings of the images: `SCORES`, ndarray of shape (R, 3).

    It is what `at_least_rank_scores` says of each row of weights, for as many draws as intervals take.

    Parameters
    ----------
    is_so : ndarray of shape (n,), bool
    probability : ndarray of shape (n,)
    threshold : float
    weights : ndarray of shape (R, n)
        How often each image was drawn.
    """
    order = np.argsort(probability, kind="stable")
    is_so, probability, weights = is_so[order], probability[order], weights[:, order].astype(np.float64)
    # images of equal probability count as one
    starts = np.flatnonzero(np.diff(probability, prepend=-np.inf))
    positive, negative = (np.add.reduceat(weights * side, starts, axis=1) for side in (is_so, ~is_so))
    taken = probability[starts] >= _without_rounding(threshold)
    below = negative.cumsum(axis=1) - negative / 2  # which ranks a pair of equal ones half
    n_positive, n_negative = positive.sum(axis=1), negative.sum(axis=1)
    with np.errstate(invalid="ignore"):
        area = (positive * below).sum(axis=1) / (n_positive * n_negative)
        sensitivity = positive[:, taken].sum(axis=1) / n_positive
        specificity = negative[:, ~taken].sum(axis=1) / n_negative
    return np.stack([area, sensitivity, specificity], axis=1)
