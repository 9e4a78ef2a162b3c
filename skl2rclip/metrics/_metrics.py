"""Ordinal metrics, and scorers for cross-validation that know the ranks of the estimator they score.

Metrics are functions of labels, or of prototypes; what labels mean lives in ``_ordinal.ranks``. Scorers are made of
them; how they learn the order of an estimator's labels is in ``metrics._scorers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.labels import check_labels, holds_numbers, listing
from skl2rclip._ordinal.rank_lookup import (
    NamedLabels,
    check_probabilities,
    encoded_pair,
    in_rank_order,
    known_scale,
    scale_of_columns,
    true_labels,
)
from skl2rclip._ordinal.ranks import order_unknown
from skl2rclip._utils.arguments import check_real, check_sample_weight
from skl2rclip.metrics._scorers import RankScorer


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

    Raises
    ------
    ValueError
        If the labels are words and their order is not known, a label is not a rank, or there are none.
    """
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    values = _in_unit(scale.values, in_ranks)
    return _mean(np.abs(values[true] - values[predicted]), sample_weight)


def average_mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Average over the ranks of each rank's mean absolute error (AMAE), in which rare ranks count like common ones.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical. Ranks of
        which `y_true` holds no image, or none with weight, do not count.
    sample_weight : array-like of shape (n,), optional
        How much each image counts among those of its rank; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the error of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    Raises
    ------
    ValueError
        If the labels are words and their order is not known, a label is not a rank, or there are none.

    References
    ----------
    S. Baccianella, A. Esuli, F. Sebastiani, "Evaluation measures for ordinal regression", ISDA 2009, who call it
    macroaveraged mean absolute error.
    """
    return float(_errors_by_rank(y_true, y_pred, ranks, sample_weight, in_ranks).mean())


def maximum_mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Largest of the ranks' mean absolute errors (MMAE): that of the rank which is predicted worst.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical. Ranks of
        which `y_true` holds no image, or none with weight, do not count.
    sample_weight : array-like of shape (n,), optional
        How much each image counts among those of its rank; all count the same by default.
    in_ranks : bool, default=False
        Count steps along `ranks` also where labels are numbers; by default the error of numbers is in their own unit.

    Returns
    -------
    float
        Not negative; 0 is perfect.

    Raises
    ------
    ValueError
        If the labels are words and their order is not known, a label is not a rank, or there are none.

    References
    ----------
    M. Cruz-Ramirez, C. Hervas-Martinez, J. Sanchez-Monedero, P. A. Gutierrez, "Metrics to guide a multi-objective
    evolutionary algorithm for ordinal classification", Neurocomputing 135, 2014.
    """
    return float(_errors_by_rank(y_true, y_pred, ranks, sample_weight, in_ranks).max())


def _errors_by_rank(y_true: Any, y_pred: Any, ranks: Any, sample_weight: Any, in_ranks: bool) -> np.ndarray:
    """Mean absolute error of each true rank that has images with weight."""
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    values = _in_unit(scale.values, in_ranks)
    true, predicted, weight = _with_weight(true, predicted, sample_weight)
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
    """
    scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
    check_real("tolerance", tolerance, 0)
    values = _in_unit(scale.values, in_ranks)
    # rounding must not push what is exactly as far off as is allowed beyond it: 1.1 - 1.0 > 0.1
    rounding = 4 * np.finfo(np.float64).eps * np.abs(values).max()
    return _mean(np.abs(values[true] - values[predicted]) <= tolerance + rounding, sample_weight)


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
    """
    _, true, predicted = encoded_pair(y_true, y_pred, ranks)
    true, predicted, weight = _with_weight(true, predicted, sample_weight)
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

    Raises
    ------
    ValueError
        If the labels are words and their order is not known, a label is not a rank, or there are none.
    """
    _, true, predicted = encoded_pair(y_true, y_pred, ranks)
    true, predicted, weight = _with_weight(true, predicted, sample_weight)
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

    Raises
    ------
    ValueError
        If the labels are words and their order is not known, a label is not a rank, or there are none.

    References
    ----------
    M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.
    """
    _, true, predicted = encoded_pair(y_true, y_pred, ranks)
    true, predicted, weight = _with_weight(true, predicted, sample_weight)
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
        In [0, 1]. It should be near the coverage that was asked for, or above it where there are few ranks.

    Raises
    ------
    ValueError
        If `y_interval` is not of shape (n, 2), an interval ends before it begins, the labels are words and their order
        is not known, a label is not a rank, or there are none.
    """
    true, lowest, highest, _ = _interval_positions(y_true, y_interval, ranks)
    return _mean((lowest <= true) & (true <= highest), sample_weight)


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

    Raises
    ------
    ValueError
        As `interval_coverage`.
    """
    _, lowest, highest, values = _interval_positions(y_true, y_interval, ranks)
    values = _in_unit(values, in_ranks)
    return _mean(np.abs(values[highest] - values[lowest]), sample_weight)


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

    Raises
    ------
    ValueError
        If `y_expected` does not hold finite numbers, the labels are words and their order is not known, a label is not
        a rank, or there are none.
    """
    expected = check_labels(y_expected, "y_expected")
    if not holds_numbers(expected):
        raise ValueError("y_expected must hold numbers, such as predict_expectation returns, got strings.")
    true = true_labels(y_true, len(expected), "y_expected")
    if ranks is None and true.own is None and not holds_numbers(true.values):
        raise ValueError(order_unknown(true.values))  # of a single word, too: the numbers are positions of its rank
    scale = known_scale([true], ranks=ranks)
    return _mean(np.abs(scale.values[scale.encode(true.values, "y_true")] - expected), sample_weight)


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
    """
    true, probabilities = check_probabilities(y_true, y_proba)
    scale = scale_of_columns(true, probabilities.shape[1], ranks)
    ordered = in_rank_order(probabilities, scale.class_order, len(scale.ranks))
    return _mean(ranked_scores(ordered, scale.encode(true.values, "y_true")), sample_weight)


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


def _weights(sample_weight: Any, n: int) -> np.ndarray:
    weight = check_sample_weight(sample_weight, n)
    return weight / weight.max()  # whose sum is finite


def _in_unit(values: np.ndarray, in_ranks: bool) -> np.ndarray:
    """Where the ranks lie: one step apart, or in the unit of numeric labels."""
    return np.arange(len(values)) if in_ranks else values


def _with_weight(
    true: np.ndarray, predicted: np.ndarray, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out what has no weight; return the weights of the rest too."""
    weight = _weights(sample_weight, len(true))
    counts = weight > 0
    return true[counts], predicted[counts], weight[counts]


def _mean(values: np.ndarray, sample_weight: Any) -> float:
    weight = _weights(sample_weight, len(values))
    counts = weight > 0  # an infinite error without weight is none
    return float(np.average(values[counts], weights=weight[counts]))


neg_mean_absolute_rank_error_scorer = RankScorer(
    "neg_mean_absolute_rank_error_scorer", mean_absolute_rank_error, sign=-1, response_method="predict"
)
neg_average_mean_absolute_rank_error_scorer = RankScorer(
    "neg_average_mean_absolute_rank_error_scorer",
    average_mean_absolute_rank_error,
    sign=-1,
    response_method="predict",
)
spearman_correlation_scorer = RankScorer(
    "spearman_correlation_scorer", spearman_correlation, sign=1, response_method="predict"
)
quadratic_weighted_kappa_scorer = RankScorer(
    "quadratic_weighted_kappa_scorer", quadratic_weighted_kappa, sign=1, response_method="predict"
)
neg_mean_absolute_expectation_error_scorer = RankScorer(
    "neg_mean_absolute_expectation_error_scorer",
    mean_absolute_expectation_error,
    sign=-1,
    response_method="predict_proba",
    of_expectation=True,
)
neg_ranked_probability_score_scorer = RankScorer(
    "neg_ranked_probability_score_scorer", ranked_probability_score, sign=-1, response_method="predict_proba"
)
