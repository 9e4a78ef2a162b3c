"""Ordinal metrics, and scorers for cross-validation that know the ranks of the estimator they score.

Metrics are functions of labels, or of prototypes; what labels mean lives in ``_ranks``. Scorers only call an estimator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from skl2rclip._labels import check_labels
from skl2rclip._ranks import rank_scale, ranked_scores
from skl2rclip._validation import check_sample_weight


def _positions(y_true: Any, y_pred: Any, ranks: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank positions of both, and the numeric values of the ranks."""
    true, predicted = check_labels(y_true), check_labels(y_pred)
    if len(true) != len(predicted):
        raise ValueError(f"y_true and y_pred must have the same length, got {len(true)} and {len(predicted)}.")
    if ranks is None:
        ranks = np.unique(np.concatenate([true, predicted])) if true.dtype.kind in "biuf" else ranks
        if ranks is not None and len(ranks) == 1:
            return np.zeros(len(true), int), np.zeros(len(true), int), np.asarray(ranks, dtype=float)
    scale, encoded = rank_scale(true, ranks)
    return encoded, scale.encode(predicted), scale.values


def mean_absolute_rank_error(
    y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None, in_ranks: bool = False
) -> float:
    """Mean absolute error (MAE) of predicted labels.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words.
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
        If the labels are words and `ranks` is missing, or a label is not a rank.
    """
    true, predicted, values = _positions(y_true, y_pred, ranks)
    if in_ranks:
        values = np.arange(len(values))
    return float(np.average(np.abs(values[true] - values[predicted]), weights=_weights(sample_weight, len(true))))


def cumulative_score(
    y_true: Any, y_pred: Any, *, tolerance: float = 5, ranks: Any = None, sample_weight: Any = None
) -> float:
    """Share of the images whose error is at most `tolerance`, CS(tolerance) in age estimation.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    tolerance : float, default=5
        Largest error that counts as right, in the unit of numeric labels (years, say), else in ranks.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        In [0, 1]; 1 is perfect.
    """
    true, predicted, values = _positions(y_true, y_pred, ranks)
    near = np.abs(values[true] - values[predicted]) <= tolerance
    return float(np.average(near, weights=_weights(sample_weight, len(true))))


def quadratic_weighted_kappa(y_true: Any, y_pred: Any, *, ranks: Any = None, sample_weight: Any = None) -> float:
    """Cohen's kappa with quadratic weights, the agreement of two gradings beyond chance.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed where labels are words.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        At most 1, which is perfect; 0 is chance, and where both gradings are one and the same constant.
    """
    true, predicted, values = _positions(y_true, y_pred, ranks)
    if len(np.unique(np.concatenate([true, predicted]))) == 1:
        return 0.0
    kappa = cohen_kappa_score(
        true, predicted, labels=np.arange(len(values)), weights="quadratic", sample_weight=sample_weight
    )
    return float(kappa)


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
        All labels, lowest first. Without it, labels must be the integers 0 to K - 1, which are the columns.
    sample_weight : array-like of shape (n,), optional

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
    labels, probabilities = check_labels(y_true), np.asarray(y_proba, dtype=np.float64)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(
            f"y_proba must have a row for each of the {len(labels)} labels, got the shape {probabilities.shape}."
        )
    n_ranks = probabilities.shape[1]
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise ValueError("y_proba must hold probabilities, got negative or infinite values, or NaN.")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("y_proba must hold rows that sum to one.")
    scale, target = rank_scale(labels, np.arange(n_ranks) if ranks is None else ranks)
    if len(scale.ranks) != n_ranks:
        raise ValueError(f"y_proba has {n_ranks} columns, but ranks lists {len(scale.ranks)} labels.")
    in_rank_order = np.empty_like(probabilities)
    in_rank_order[:, scale.class_order] = probabilities
    scores = ranked_scores(in_rank_order, target)
    return float(np.average(scores, weights=_weights(sample_weight, len(labels))))


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

    References
    ----------
    After the ordinality score of OrdinalCLIP (Li et al., NeurIPS 2022), which counts the steps upwards; that downward
    steps count too is this library's choice.
    """
    rows = np.asarray(prototypes, dtype=np.float64)
    similarity = rows @ rows.T  # (K, K)
    falls_upwards = similarity[:, :-1] > similarity[:, 1:]  # from k to k + 1
    above = np.triu(np.ones_like(falls_upwards))  # steps away from the rank, upwards
    below = np.tril(np.ones_like(falls_upwards), -1)
    falls_downwards = similarity[:, 1:] > similarity[:, :-1]
    right = (falls_upwards * above).sum() + (falls_downwards * below).sum()
    return float(right / (above.sum() + below.sum()))


def _weights(sample_weight: Any, n: int) -> np.ndarray | None:
    return None if sample_weight is None else check_sample_weight(sample_weight, n)


def _ranks_of(estimator: Any) -> Any:
    """Ranks of a fitted estimator, also at the end of a pipeline or inside a search."""
    for inner in ("best_estimator_", "_final_estimator", "estimator"):
        if not hasattr(estimator, "ranks_") and hasattr(estimator, inner):
            return _ranks_of(getattr(estimator, inner))
    return getattr(estimator, "ranks_", None)


def neg_mean_absolute_rank_error_scorer(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Score an estimator by its MAE, negated so that more is better; give it as ``scoring=``.

    Unlike scikit-learn's ``"neg_mean_absolute_error"`` it takes labels that are words, whose order it learns from the
    estimator's ``ranks_``.

    Parameters
    ----------
    estimator : fitted classifier
        What is scored; it may be a pipeline that ends in a classifier, or a search for one.
    X : sequence of n images
        What the estimator predicts from.
    y : array-like of shape (n,)
        Their true labels.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        Not positive.
    """
    predicted = estimator.predict(X)
    return -mean_absolute_rank_error(y, predicted, ranks=_ranks_of(estimator), sample_weight=sample_weight)


def quadratic_weighted_kappa_scorer(estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Score an estimator by `quadratic_weighted_kappa`; give it as ``scoring=``.

    Parameters
    ----------
    estimator : fitted classifier
        What is scored; it may be a pipeline that ends in a classifier, or a search for one.
    X : sequence of n images
        What the estimator predicts from.
    y : array-like of shape (n,)
        Their true labels.
    sample_weight : array-like of shape (n,), optional
        How much each image counts; all count the same by default.

    Returns
    -------
    float
        At most 1.
    """
    predicted = estimator.predict(X)
    return quadratic_weighted_kappa(y, predicted, ranks=_ranks_of(estimator), sample_weight=sample_weight)
