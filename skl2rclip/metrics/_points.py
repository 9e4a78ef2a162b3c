"""Metrics of predicted labels: their errors, their agreement with the true ones, and their rank correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._utils.arguments import check_real
from skl2rclip.metrics._averages import in_unit, mean_of, weighted_pair


def mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Mean absolute error (MAE) of predicted labels.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the error of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    Examples
    --------
    >>> from skl2rclip.metrics import mean_absolute_rank_error
    >>> mean_absolute_rank_error([20, 30, 40], [20, 35, 30])  # years
    5.0
    >>> mean_absolute_rank_error(["bad", "good", "fair"], ["fair", "good", "fair"], ranks=["bad", "fair", "good"])
    0.333...
    """
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    values = in_unit(scale.values, in_ranks)
    return mean_of(np.abs(values[true] - values[predicted]), sample_weight)


def average_mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Average over the ranks of each rank's mean absolute error (AMAE), in which rare ranks count like common ones.

    Ranks of which `y_true` holds no image, or none with weight, do not count.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts among those of its rank; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the error of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    References
    ----------
    S. Baccianella, A. Esuli, F. Sebastiani, "Evaluation measures for ordinal regression", ISDA 2009, who call it
    macroaveraged mean absolute error.

    Examples
    --------
    >>> from skl2rclip.metrics import average_mean_absolute_rank_error, mean_absolute_rank_error
    >>> y_true, y_pred = [0, 0, 0, 0, 2], [0, 0, 0, 0, 0]  # the rare rank is always missed
    >>> mean_absolute_rank_error(y_true, y_pred), average_mean_absolute_rank_error(y_true, y_pred)
    (0.4, 1.0)
    """
    return float(_errors_by_rank(y_true, y_pred, ranks, sample_weight, in_ranks).mean())


def maximum_mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Largest of the ranks' mean absolute errors (MMAE): that of the rank which is predicted worst.

    Ranks of which `y_true` holds no image, or none with weight, do not count.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts among those of its rank; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the error of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    References
    ----------
    M. Cruz-Ramirez, C. Hervas-Martinez, J. Sanchez-Monedero, P. A. Gutierrez, "Metrics to guide a multi-objective
    evolutionary algorithm for ordinal classification", Neurocomputing 135, 2014.

    Examples
    --------
    >>> from skl2rclip.metrics import maximum_mean_absolute_rank_error
    >>> maximum_mean_absolute_rank_error([0, 0, 1, 1, 2], [0, 1, 1, 1, 0])  # rank 2 is predicted worst
    2.0
    """
    return float(_errors_by_rank(y_true, y_pred, ranks, sample_weight, in_ranks).max())


def _errors_by_rank(y_true: Any, y_pred: Any, ranks: Any, sample_weight: Any, in_ranks: bool) -> np.ndarray:
    """Mean absolute error of each true rank that has images with weight."""
    scale, true, predicted, weight = weighted_pair(y_true, y_pred, ranks, sample_weight)
    values = in_unit(scale.values, in_ranks)
    place = np.unique(true, return_inverse=True)[1]
    # shares within the rank first, so that small weights do not vanish and large ones do not overflow
    share = weight / np.bincount(place, weight)[place]
    return np.bincount(place, share * np.abs(values[true] - values[predicted]))


def cumulative_score(
    y_true: Any,
    y_pred: Any,
    *,
    tolerance: float = 5,
    ranks: Any = None,
    sample_weight: Any = None,
    in_ranks: bool = False,
) -> float:
    """Share of the images whose error is at most `tolerance`: CS(tolerance) in age estimation, accuracy within k ranks.

    With ``tolerance=1, in_ranks=True`` it is what others call 1-off accuracy, with ``tolerance=0`` the accuracy.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    tolerance : float, default=5
        Largest error that counts as right, in the unit of numeric labels (years, say), else in ranks.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.

    Examples
    --------
    >>> from skl2rclip.metrics import cumulative_score
    >>> cumulative_score([20, 30, 40, 50], [20, 34, 47, 52], tolerance=5)  # within five years
    0.75
    """
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    check_real("tolerance", tolerance, 0)
    values = in_unit(scale.values, in_ranks)
    # rounding must not push what is exactly as far off as is allowed beyond it: 1.1 - 1.0 > 0.1
    rounding = 4 * np.finfo(np.float64).eps * np.abs(values).max()
    return mean_of(np.abs(values[true] - values[predicted]) <= tolerance + rounding, sample_weight)


def quadratic_weighted_kappa(y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Cohen's kappa with quadratic weights, the agreement of two gradings beyond chance.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        At most 1, which is perfect; 0 is chance, and where both gradings are one and the same constant.

    Examples
    --------
    >>> from skl2rclip.metrics import quadratic_weighted_kappa
    >>> quadratic_weighted_kappa([0, 1, 2, 3], [0, 1, 2, 2])
    0.875
    >>> quadratic_weighted_kappa([0, 1, 2, 3], [1, 1, 1, 1])  # no better than chance
    0.0
    """
    _, true, predicted, weight = weighted_pair(y_true, y_pred, ranks, sample_weight)
    if len(np.unique(np.concatenate([true, predicted]))) == 1:
        return 0.0
    means = np.average(true, weights=weight), np.average(predicted, weights=weight)
    # the expected square of the difference of two that have nothing to do with each other
    by_chance = (
        np.average((true - means[0]) ** 2, weights=weight)
        + np.average((predicted - means[1]) ** 2, weights=weight)
        + (means[0] - means[1]) ** 2
    )
    return float(1 - np.average((true - predicted) ** 2, weights=weight) / by_chance)


def spearman_correlation(y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Spearman's rank correlation: how well predictions put the images in order, whatever their distances.

    The correlation of the places that the images have when they are sorted, ties sharing the mean of theirs. Without
    weights it is `scipy.stats.spearmanr`, which knows none; an image of weight 2 counts as if it came twice.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels; numbers may be expected values too.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        In [-1, 1]; 1 is the right order, -1 its reverse. 0 is no relation, and where either side is constant.

    Examples
    --------
    >>> from skl2rclip.metrics import spearman_correlation
    >>> round(spearman_correlation([1, 2, 3, 4], [10, 20, 40, 30]), 3)  # the order alone counts
    0.8
    """
    _, true, predicted, weight = weighted_pair(y_true, y_pred, ranks, sample_weight)
    if _is_constant(true) or _is_constant(predicted):
        return 0.0
    places = np.stack([_places(true, weight), _places(predicted, weight)])
    places -= np.average(places, axis=1, weights=weight)[:, None]
    products = (weight * places) @ places.T  # (2, 2)
    return _correlation(products[0, 1], products[0, 0], products[1, 1])


def _places(labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weight of what comes before each in sorted order, ties in the middle."""
    _, place = np.unique(labels, return_inverse=True)
    total = np.bincount(place, weight)
    return (np.cumsum(total) - total / 2)[place]


def kendall_correlation(y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Kendall's tau-b: by how much pairs of images in the right order outnumber those in the wrong one.

    ``(C - D) / sqrt((P - T)(P - U))``: of P pairs C are in the right order, D in the wrong one, T have one true label
    and U one predicted label. Without weights it is `scipy.stats.kendalltau`, which knows none; an image of weight 2
    counts as if it came twice.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels; numbers may be expected values too.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
    sample_weight : array-like of shape (n,), optional
        How much each image counts, and a pair the product of its two; all count the same by default.

    Returns
    -------
    float
        In [-1, 1]; 1 is the right order, -1 its reverse. 0 is no relation, and where either side is constant.

    References
    ----------
    M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.

    Examples
    --------
    >>> from skl2rclip.metrics import kendall_correlation
    >>> kendall_correlation([1, 2, 3, 4], [1, 2, 4, 3])  # of six pairs five are in order
    0.666...
    """
    _, true, predicted, weight = weighted_pair(y_true, y_pred, ranks, sample_weight)
    if _is_constant(true) or _is_constant(predicted):
        return 0.0
    column = np.unique(predicted, return_inverse=True)[1]
    below = np.zeros(column.max() + 1)  # weight of lower true ranks, by predicted rank
    excess = untied = 0.0
    by_rank = np.argsort(true, kind="stable")
    for rows in np.split(by_rank, np.flatnonzero(np.diff(true[by_rank])) + 1):
        here = np.bincount(column[rows], weight[rows], len(below))
        up_to = np.cumsum(below)
        excess += here @ (up_to - below - (up_to[-1] - up_to))
        untied += here.sum() * up_to[-1]
        below += here
    return _correlation(excess, untied, below @ (np.cumsum(below) - below))


def _correlation(shared: float, one: float, other: float) -> float:
    """``shared / sqrt(one other)``, of factors that may be tiny, and 0 where one of them has vanished."""
    scale = np.sqrt(one) * np.sqrt(other)
    return float(np.clip(shared / scale, -1, 1)) if scale > 0 else 0.0


def _is_constant(labels: np.ndarray) -> bool:
    return bool((labels == labels[0]).all())
