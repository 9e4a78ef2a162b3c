"""Scorers: scikit-learn's, made of the metrics, that know the order of the labels or say that they do not.

What is scored is any estimator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import sklearn
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils.fixes import parse_version
from sklearn.utils.metadata_routing import UNUSED

from skl2rclip._ordinal.decisions import expected_value
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.rank_lookup import NamedLabels, in_rank_order, known_scale
from skl2rclip._ordinal.ranks import RankScale, given_ranks
from skl2rclip.metrics._distributions import mean_absolute_expectation_error, ranked_probability_score
from skl2rclip.metrics._points import (
    average_mean_absolute_rank_error,
    mean_absolute_rank_error,
    quadratic_weighted_kappa,
    spearman_correlation,
)

_WHAT = "what the estimator predicts"
# of each scorer; what all of them have is said of their class
_DOCUMENTATION = """{minus}`{metric}` as a scorer, for ``scoring=`` in searches and cross-validation.

The order of the labels is, in this order: that of ``{name}.with_ranks([...])``; what the estimator has learned
(``ranks_``, also at the end of a pipeline, in a search, in a calibrated or frozen classifier); for numbers their own,
of all that the estimator and `y` know; that of an ordered Categorical `y`. Where none of these is known it raises.

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
ranks : array-like of shape (K,), optional
    All labels, lowest first.
**metadata
    Nothing else is taken.

Returns
-------
float
    The more, the better.

Examples
--------
>>> from sklearn.dummy import DummyClassifier
>>> from sklearn.model_selection import cross_val_score
>>> from skl2rclip.metrics import {name}
>>> X, y = [[0]] * 6, [1, 2, 3, 1, 2, 3]
>>> cross_val_score(DummyClassifier(strategy="prior"), X, y, scoring={name}, cv=2).shape
(2,)
"""
MethodCaller = Callable[..., Any]


class RankScorer(_BaseScorer):
    """A scorer ``scorer(estimator, X, y, sample_weight=None)``, to be given as ``scoring=``.

    The order of the labels is, in this order: `ranks`; what the estimator has learned (``ranks_``, also at the end of a
    pipeline, in a search, in a calibrated or frozen classifier); for numbers their own, of all that the estimator and
    `y` know; that of an ordered Categorical `y`. Where none of these is known it raises.

    Parameters
    ----------
    name : str
        What it is called.
    metric : callable
        ``metric(y_true, response, ranks=..., sample_weight=...)``.
    sign : {1, -1}
        -1 where less is better.
    response_method : {"predict", "predict_proba"}
    of_expectation : bool, default=False
        Give the metric the expected values of the probabilities.
    ranks : array-like of shape (K,), optional
        All labels, lowest first.
    """

    # not an array with an entry for each sample, which could be routed; before 1.9 scikit-learn does not ask
    if parse_version(sklearn.__version__) >= parse_version("1.9"):
        __metadata_request__score: ClassVar[dict[str, str]] = {"ranks": UNUSED}

    def __init__(
        self,
        name: str,
        metric: Callable[..., float],
        *,
        sign: int,
        response_method: str,
        of_expectation: bool = False,
        ranks: Any = None,
    ):
        super().__init__(metric, sign, {}, response_method)
        self.__name__ = name
        self.__doc__ = _DOCUMENTATION.format(name=name, minus="Minus " * (sign < 0), metric=metric.__name__)
        self.ranks = ranks
        self._of_expectation = of_expectation

    def __repr__(self) -> str:
        return self.__name__ if self.ranks is None else f"{self.__name__}.with_ranks({list(self.ranks)!r})"

    def with_ranks(self, ranks: Any) -> RankScorer:
        """Return a scorer for labels in this order.

        Parameters
        ----------
        ranks : array-like of shape (K,)
            All labels, lowest first.

        Returns
        -------
        RankScorer
            A new one, which asks for the same metadata.
        """
        given_ranks(ranks)
        other = copy.deepcopy(self)
        other.ranks = ranks
        return other

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: Any = None, *, ranks: Any = None, **metadata: Any
    ) -> float:
        """Score a fitted estimator.

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
        ranks : array-like of shape (K,), optional
            All labels, lowest first; see `with_ranks`.
        **metadata
            Nothing else is taken.

        Returns
        -------
        float
            The more, the better.
        """
        if metadata:
            raise TypeError(f"{self.__name__} takes sample_weight and ranks, got {', '.join(metadata)}.")
        scorer = self if ranks is None else self.with_ranks(ranks)
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        return scorer._score(_call, estimator, X, y, **weight)

    def _score(self, method_caller: MethodCaller, estimator: Any, X: Any, y_true: Any, **metadata: Any) -> float:
        """Score as scikit-learn asks its scorers to; `method_caller` may remember what was predicted."""
        if self._response_method == "predict":
            response = method_caller(estimator, "predict", X)
            scale = self._scale(estimator, y_true, check_labels(response, "the prediction"))
        else:
            response = _probabilities(method_caller, estimator, X)
            scale = self._scale(estimator, y_true, None)
            columns = scale.encode(check_labels(estimator.classes_, "classes_"), "classes_")
            # labels that the estimator does not know have no probability
            ordered = in_rank_order(response, columns, len(scale.ranks))
            of_classes = ordered[:, scale.class_order]
            response = expected_value(ordered, scale.values) if self._of_expectation else of_classes
        return self._sign * self._score_func(y_true, response, ranks=scale.ranks, **metadata)

    def _scale(self, estimator: Any, y: Any, predicted: np.ndarray | None) -> RankScale:
        advice = f"{self.__name__}.with_ranks([...]) is a scorer that knows it."
        return scale_of_estimator(estimator, y, predicted=predicted, ranks=self.ranks, advice=advice)


def scale_of_estimator(
    estimator: Any, y: Any = None, *, predicted: np.ndarray | None = None, ranks: Any = None, advice: str = ""
) -> RankScale:
    """Work out the order of a fitted classifier's labels, as `RankScorer` describes it.

    Parameters
    ----------
    estimator : fitted classifier
        It may be a pipeline that ends in a classifier, or a search for one.
    y, predicted : array-like of shape (n,), optional
        True labels, and those that it has predicted.
    ranks : array-like of shape (K,), optional
        All labels, lowest first.
    advice : str, default=""
        What to do where the order of words is not known.

    Raises
    ------
    ValueError
        If words and numbers would be compared, or the order of words is not known, or known in two ways.
    """
    classes = getattr(estimator, "classes_", None)
    labels = [] if classes is None else [NamedLabels(_WHAT, check_labels(classes, "classes_"))]
    labels += [] if predicted is None else [NamedLabels(_WHAT, predicted)]
    if y is not None or not labels:
        labels.insert(0, NamedLabels.of(y, "y"))
    learned = [] if ranks is not None else _learned(estimator)
    return known_scale(labels, learned=learned, ranks=ranks, advice=advice)


def _call(estimator: Any, method: str, X: Any) -> Any:
    return getattr(estimator, method)(X)


def _probabilities(method_caller: MethodCaller, estimator: Any, X: Any) -> np.ndarray:
    if not hasattr(estimator, "predict_proba"):
        raise AttributeError(f"{type(estimator).__name__} has none of the following attributes: predict_proba.")
    # of two classes scikit-learn keeps one column
    call = _call if len(getattr(estimator, "classes_", ())) == 2 else method_caller
    return np.asarray(call(estimator, "predict_proba", X), dtype=np.float64)


def _learned(estimator: Any) -> list[np.ndarray]:
    """Ranks that an estimator, or what it is made of, has learned, each an array in rank order."""
    return [given_ranks(part.ranks_) for part in parts_with(estimator, "ranks_")]


def parts_with(estimator: Any, name: str) -> list[Any]:
    """Find who has learned an attribute of this name: the estimator, or those that it is made of."""
    if getattr(estimator, name, None) is not None:
        return [estimator]
    for inner in ("best_estimator_", "_final_estimator", "estimator_"):
        if hasattr(estimator, inner):
            return parts_with(getattr(estimator, inner), name)
    parts = getattr(estimator, "calibrated_classifiers_", [])
    return [found for part in parts for found in parts_with(getattr(part, "estimator", None), name)]


def _scorer(
    metric: Callable[..., float], response_method: str = "predict", *, sign: int = -1, of_expectation: bool = False
) -> RankScorer:
    name = f"{'neg_' if sign < 0 else ''}{metric.__name__}_scorer"
    return RankScorer(name, metric, sign=sign, response_method=response_method, of_expectation=of_expectation)


neg_mean_absolute_rank_error_scorer = _scorer(mean_absolute_rank_error)
neg_average_mean_absolute_rank_error_scorer = _scorer(average_mean_absolute_rank_error)
spearman_correlation_scorer = _scorer(spearman_correlation, sign=1)
quadratic_weighted_kappa_scorer = _scorer(quadratic_weighted_kappa, sign=1)
neg_mean_absolute_expectation_error_scorer = _scorer(
    mean_absolute_expectation_error, "predict_proba", of_expectation=True
)
neg_ranked_probability_score_scorer = _scorer(ranked_probability_score, "predict_proba")
