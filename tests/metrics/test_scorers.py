"""Scorers know the order of the labels, or ask for it."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import check_scoring, mean_absolute_error
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skl2rclip.metrics import (
    average_mean_absolute_rank_error,
    mean_absolute_expectation_error,
    mean_absolute_rank_error,
    neg_average_mean_absolute_rank_error_scorer,
    neg_mean_absolute_expectation_error_scorer,
    neg_mean_absolute_rank_error_scorer,
    neg_ranked_probability_score_scorer,
    quadratic_weighted_kappa,
    quadratic_weighted_kappa_scorer,
    ranked_probability_score,
    spearman_correlation,
    spearman_correlation_scorer,
)

SCORERS = [
    neg_mean_absolute_rank_error_scorer,
    neg_average_mean_absolute_rank_error_scorer,
    spearman_correlation_scorer,
    quadratic_weighted_kappa_scorer,
    neg_mean_absolute_expectation_error_scorer,
    neg_ranked_probability_score_scorer,
]

WORDS = np.array(["void", "dim", "mild", "light", "blank"])

every_scorer = pytest.mark.parametrize("scorer", SCORERS, ids=repr)


@pytest.fixture(scope="module")
def table():
    """Table of three clouds, and their labels 0, 1 and 2."""
    X, y = make_classification(60, n_informative=4, n_classes=3, class_sep=0.5, random_state=0)
    return X, y


def by_hand(scorer, estimator, X, y, ranks, weight=None):
    """What the metrics say of an estimator that knows all ranks."""
    order = np.argsort(np.argsort(ranks))
    in_rank_order = estimator.predict_proba(X)[:, order]
    numbers = np.asarray(ranks).dtype.kind in "bi"
    expectation = in_rank_order @ (np.asarray(ranks) if numbers else np.arange(1, len(ranks) + 1))
    options = {"ranks": ranks, "sample_weight": weight}
    return {
        "neg_mean_absolute_rank_error_scorer": lambda: -mean_absolute_rank_error(y, estimator.predict(X), **options),
        "neg_average_mean_absolute_rank_error_scorer": lambda: (
            -average_mean_absolute_rank_error(y, estimator.predict(X), **options)
        ),
        "spearman_correlation_scorer": lambda: spearman_correlation(y, estimator.predict(X), **options),
        "quadratic_weighted_kappa_scorer": lambda: quadratic_weighted_kappa(y, estimator.predict(X), **options),
        "neg_mean_absolute_expectation_error_scorer": lambda: (
            -mean_absolute_expectation_error(y, expectation, **options)
        ),
        "neg_ranked_probability_score_scorer": lambda: (
            -ranked_probability_score(y, estimator.predict_proba(X), **options)
        ),
    }[scorer.__name__]()


@every_scorer
def test_scorers_score_any_classifier_of_numbers(table, scorer):
    X, y = table
    y, weight = np.array([20, 35, 80])[y], np.arange(60) % 4
    classifier = LogisticRegression().fit(X, y)
    assert scorer(classifier, X, y) == pytest.approx(by_hand(scorer, classifier, X, y, [20, 35, 80]))
    assert scorer(classifier, X, y, weight) == scorer(classifier, X, y, sample_weight=weight)
    assert scorer(classifier, X, y, weight) == pytest.approx(by_hand(scorer, classifier, X, y, [20, 35, 80], weight))
    binary = LogisticRegression().fit(X, y > 20)
    assert scorer(binary, X, y > 20) == pytest.approx(by_hand(scorer, binary, X, y > 20, [False, True]))
    # labels that the classifier has not seen, or that y does not hold
    some = LogisticRegression().fit(X[y > 20], y[y > 20])
    assert np.isfinite(scorer(some, X, y))
    assert np.isfinite(scorer(classifier, X[:1], y[:1]))
    assert np.isfinite(scorer(classifier, X[:1], [99]))


def test_scorers_know_of_ranks_that_the_fold_does_not_show(table):
    X, y = table
    classifier = LogisticRegression().fit(X, y)
    scale = {"ranks": [0, 1, 2]}
    rows = np.flatnonzero(y != 1)
    rows = rows[classifier.predict(X[rows]) != 1]
    expected = quadratic_weighted_kappa(y[rows], classifier.predict(X[rows]), **scale)
    assert quadratic_weighted_kappa_scorer(classifier, X[rows], y[rows]) == pytest.approx(expected)
    few = X[y > 0], y[y > 0]
    some = LogisticRegression().fit(*few)
    full = np.hstack([np.zeros((60, 1)), some.predict_proba(X)])
    assert neg_ranked_probability_score_scorer(some, X, y) == pytest.approx(-ranked_probability_score(y, full))


def test_scorers_count_categories_of_numbers_that_no_image_shows_as_metrics_do(table):
    X, y = table[0], np.array([1, 2, 4])[table[1]]
    classifier = LogisticRegression().fit(X, y)
    categorical = pd.Categorical(y, [1, 2, 3, 4], ordered=True)
    expected = quadratic_weighted_kappa(categorical, classifier.predict(X))
    assert expected != quadratic_weighted_kappa(y, classifier.predict(X))
    assert quadratic_weighted_kappa_scorer(classifier, X, categorical) == pytest.approx(expected)


def test_what_the_estimator_predicts_beyond_the_categories_of_y_is_named(table):
    X, words = table[0], np.array(["none", "mild", "severe"])[table[1]]
    classifier = LogisticRegression().fit(X, words)
    few = pd.Categorical(["none"] * len(X), ["none", "mild"], ordered=True)
    with pytest.raises(ValueError, match=r"what the estimator predicts contains labels .*: \['severe'\]"):
        neg_mean_absolute_rank_error_scorer(classifier, X, few)


@every_scorer
def test_scorers_ask_for_the_order_of_words_where_it_is_not_known(table, scorer):
    X, words = table[0], np.array(["none", "mild", "severe"])[table[1]]
    ranks = ["none", "mild", "severe"]
    classifier = LogisticRegression().fit(X, words)
    with pytest.raises(ValueError, match=r"ranks=\['none', 'mild', 'severe'\].*scorer.with_ranks"):
        scorer(classifier, X, words)
    expected = pytest.approx(by_hand(scorer, classifier, X, words, ranks))
    assert scorer(classifier, X, words, ranks=ranks) == expected
    assert scorer.with_ranks(ranks)(classifier, X, words) == expected
    assert scorer(classifier, X, pd.Categorical(words, ranks, ordered=True)) == expected
    assert scorer.ranks is None
    assert cross_val_score(classifier, X, words, scoring=scorer.with_ranks(ranks), error_score="raise").shape == (5,)
    with pytest.raises(ValueError, match="not among the ranks"):
        scorer.with_ranks(["none", "mild"])(classifier, X, words)
    with pytest.raises(ValueError, match="must not repeat"):
        scorer.with_ranks(["none", "none"])
    with pytest.raises(ValueError, match=r"y holds numbers .* what the estimator predicts strings"):
        scorer(classifier, X, table[1])
    voting = VotingClassifier([("c", LogisticRegression())], voting="soft").fit(X, words)
    with pytest.raises(ValueError, match="order is not known"):
        scorer(voting, X, words)


@pytest.fixture(scope="module")
def _wrapping_before():
    return []


@pytest.fixture
def wrapping(make_classifier, shades, _wrapping_before):
    """A fitted classifier of words, and what wraps it, fitted once for all scorers."""
    if not _wrapping_before:
        X, y, flat = shades[0], WORDS[shades[1]], FunctionTransformer()
        classifier = make_classifier(ranks=list(WORDS), prompt_epochs=1)
        fitted = clone(classifier).fit(X, y)
        _wrapping_before += [
            fitted,
            FrozenEstimator(fitted),
            make_pipeline(flat, FrozenEstimator(fitted)),
            make_pipeline(flat, classifier).fit(X, y),
            CalibratedClassifierCV(FrozenEstimator(fitted)).fit(X, y),
            CalibratedClassifierCV(classifier, cv=2).fit(X, y),
        ]
    return _wrapping_before


@every_scorer
def test_scorers_find_the_ranks_in_whatever_wraps_the_classifier(make_classifier, shades, scorer, wrapping):
    X, y, names, flat = shades[0], WORDS[shades[1]], WORDS, FunctionTransformer()
    fitted = wrapping[0]
    pipeline = make_pipeline(flat, make_classifier(ranks=list(names), prompt_epochs=1))
    grid = {"l2rclipclassifier__blend_ratio": [0.1]}
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=2, error_score="raise").fit(X, y)
    for estimator in (*wrapping, search, make_pipeline(flat, FrozenEstimator(search))):
        assert scorer(estimator, X, y) == pytest.approx(by_hand(scorer, estimator, X, y, names))
    wrong = pd.Categorical(y, names[[1, 0, 2, 3, 4]], ordered=True)
    with pytest.raises(ValueError, match="y is a Categorical in the order"):
        scorer(fitted, X, wrong)
    expectation = mean_absolute_expectation_error(y, fitted.predict_expectation(X), ranks=names)
    assert neg_mean_absolute_expectation_error_scorer(fitted, X, y) == pytest.approx(-expectation)


@every_scorer
def test_scorers_are_scikit_learns(table, scorer):
    X, y = table
    assert repr(scorer) == scorer.__name__
    assert check_scoring(LogisticRegression(), scoring=scorer) is scorer
    for copied in (pickle.loads(pickle.dumps(scorer)), copy.deepcopy(scorer), clone(scorer, safe=False)):
        fitted = LogisticRegression().fit(X, y)
        assert repr(copied) == repr(scorer)
        assert copied(fitted, X, y) == scorer(fitted, X, y)
    assert repr(pickle.loads(pickle.dumps(scorer.with_ranks([0, 1, 2])))).endswith(".with_ranks([0, 1, 2])")
    search = clone(GridSearchCV(LogisticRegression(), {"C": [1.0]}, scoring=scorer, cv=3)).fit(X, y)
    assert search.best_score_ == pytest.approx(cross_val_score(LogisticRegression(), X, y, cv=3, scoring=scorer).mean())
    with pytest.raises(TypeError, match="takes sample_weight and ranks, got age"):
        scorer(LogisticRegression().fit(X, y), X, y, age=3)


def test_several_scorers_share_their_predictions(table):
    X, y = table
    calls = []

    class Counted(LogisticRegression):
        def predict(self, X):
            calls.append("predict")
            return super().predict(X)

        def predict_proba(self, X):
            calls.append("predict_proba")
            return super().predict_proba(X)

    scoring = {repr(scorer): scorer for scorer in SCORERS}
    result = cross_validate(Counted(), X, y, cv=KFold(2), scoring={**scoring, "loss": "neg_log_loss"})
    assert sorted(calls) == ["predict"] * 2 + ["predict_proba"] * 2
    for name, scorer in scoring.items():
        alone = cross_val_score(LogisticRegression(), X, y, cv=KFold(2), scoring=scorer)
        np.testing.assert_allclose(result[f"test_{name}"], alone)


@every_scorer
def test_weights_reach_a_scorer_that_asks_for_them_and_no_other(table, scorer):
    X, y = table
    weight = np.arange(60) % 3 + 0.5
    with pytest.raises(RuntimeError, match="only available when metadata routing"):
        copy.deepcopy(scorer).set_score_request(sample_weight=True)
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False),
            LogisticRegression().set_fit_request(sample_weight=False),
        )
        options = {"cv": KFold(3), "error_score": "raise", "params": {"sample_weight": weight}}
        with pytest.raises((UnsetMetadataPassedError, TypeError), match="sample_weight"):
            cross_val_score(classifier, X, y, scoring=copy.deepcopy(scorer), **options)
        asking = copy.deepcopy(scorer).set_score_request(sample_weight=True)
        assert repr(asking) == repr(scorer)
        scores = cross_val_score(classifier, X, y, scoring=asking, **options)
        expected = []
        for train, test in KFold(3).split(X):
            fitted = clone(classifier).fit(X[train], y[train])
            expected.append(scorer(fitted, X[test], y[test], weight[test]))
        np.testing.assert_allclose(scores, expected)
        for other in (asking.with_ranks([0, 1, 2]), pickle.loads(pickle.dumps(asking)), clone(asking, safe=False)):
            np.testing.assert_allclose(cross_val_score(classifier, X, y, scoring=other, **options), expected)
        renamed = copy.deepcopy(scorer).set_score_request(sample_weight="importance")
        options["params"] = {"importance": weight}
        np.testing.assert_allclose(cross_val_score(classifier, X, y, scoring=renamed, **options), expected)


def test_what_cannot_be_scored_says_so(table):
    X, y = table
    regression = LinearRegression().fit(X, y)
    assert neg_mean_absolute_rank_error_scorer(regression, X, y) == pytest.approx(
        -mean_absolute_error(y, regression.predict(X))
    )
    for scorer in SCORERS[-2:]:
        with pytest.raises(
            AttributeError, match="LinearRegression has none of the following attributes: predict_proba"
        ):
            scorer(regression, X, y)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        SCORERS[0](LogisticRegression(), X, y)
    with pytest.raises(ValueError, match="empty"):
        SCORERS[0](FrozenEstimator(Empty()), X, [])


class Empty:
    """Predicts nothing."""

    coef_ = classes_ = np.array([0, 1])

    def predict(self, X):
        return []
