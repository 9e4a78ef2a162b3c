import copy
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, check_scoring, cohen_kappa_score, mean_absolute_error
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skl2rclip.metrics import (
    average_mean_absolute_rank_error,
    cumulative_score,
    interval_coverage,
    kendall_correlation,
    maximum_mean_absolute_rank_error,
    mean_absolute_expectation_error,
    mean_absolute_rank_error,
    mean_interval_width,
    neg_average_mean_absolute_rank_error_scorer,
    neg_mean_absolute_expectation_error_scorer,
    neg_mean_absolute_rank_error_scorer,
    neg_ranked_probability_score_scorer,
    ordinality,
    quadratic_weighted_kappa,
    quadratic_weighted_kappa_scorer,
    ranked_probability_score,
    spearman_correlation,
    spearman_correlation_scorer,
)

GRADES = ["bad", "fair", "good"]
TRUE, PREDICTED = ["bad", "good", "fair", "good"], ["good", "good", "bad", "fair"]


def test_error_of_numbers_is_in_their_unit_and_equals_scikit_learns():
    true, predicted = [20, 35, 50], [35, 35, 20]
    assert mean_absolute_rank_error(true, predicted) == mean_absolute_error(true, predicted) == 15
    assert mean_absolute_rank_error(true, predicted, in_ranks=True) == 1
    assert mean_absolute_rank_error(true, predicted, sample_weight=[0, 1, 1]) == 15


def test_error_of_words_counts_steps():
    assert mean_absolute_rank_error(TRUE, PREDICTED, ranks=GRADES) == 1.0
    with pytest.raises(ValueError, match=r"order is not known.*ranks=\['bad', 'fair', 'good'\]"):
        mean_absolute_rank_error(TRUE, PREDICTED)


def test_cumulative_score():
    assert cumulative_score([20, 30, 40], [25, 36, 40]) == pytest.approx(2 / 3)
    assert cumulative_score(TRUE, PREDICTED, tolerance=1, ranks=GRADES) == 0.75


def test_kappa_equals_scikit_learns_on_rank_positions():
    expected = cohen_kappa_score([0, 2, 1, 2], [2, 2, 0, 1], weights="quadratic")
    assert quadratic_weighted_kappa(TRUE, PREDICTED, ranks=GRADES) == pytest.approx(expected)
    assert quadratic_weighted_kappa([1, 2, 3], [1, 2, 3]) == 1
    assert quadratic_weighted_kappa([2, 2], [2, 2]) == 0


METRICS = [
    mean_absolute_rank_error,
    average_mean_absolute_rank_error,
    maximum_mean_absolute_rank_error,
    cumulative_score,
    quadratic_weighted_kappa,
    spearman_correlation,
    kendall_correlation,
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        (["a", "b"], [0, 1], "y_true holds strings .* and y_pred numbers .*cannot be compared"),
        ([0, 1], ["a", "b"], "y_true holds numbers .* and y_pred strings"),
        ([True, False], ["a", "b"], "y_true holds booleans .* and y_pred strings"),
        ([b"a", b"b"], ["a", "b"], r"bytes.*decode"),
        ([1, 2], ["1", "2"], "Make those of y_pred numbers"),
        ([1, None], [1, 2], r"Input y_true contains NaN.*index 1"),
        ([1, 2], [pd.NA, 2], r"Input y_pred contains NaN.*index 0"),
        ([], [], "y_true and y_pred are empty"),
        (None, [1], "y_true is None"),
    ],
)
def test_what_cannot_be_compared_is_named(metric, true, predicted, message):
    for ranks in (None, GRADES):
        with pytest.raises(ValueError, match=message):
            metric(true, predicted, ranks=ranks)


@pytest.mark.parametrize("label", [5, "good", 2.5, True, Decimal(2)])
def test_a_single_label_has_its_right_value(label):
    assert mean_absolute_rank_error([label] * 2, [label] * 2) == 0
    assert average_mean_absolute_rank_error([label], [label]) == maximum_mean_absolute_rank_error([label], [label]) == 0
    assert cumulative_score([label], [label]) == 1
    for agreement in (quadratic_weighted_kappa, spearman_correlation, kendall_correlation):
        assert agreement([label] * 3, [label] * 3) == 0
    assert interval_coverage([label] * 2, [[label] * 2] * 2) == 1
    assert mean_interval_width([label] * 2, [[label] * 2] * 2) == 0


def test_numbers_are_numbers_however_they_come():
    true, predicted = np.array([0.1, 0.3], np.float32), [Decimal("0.1"), Decimal("0.2")]
    assert mean_absolute_rank_error(true, predicted) == pytest.approx(0.05)
    assert mean_absolute_rank_error(true, [0.1, 0.3]) == 0
    assert mean_absolute_rank_error([2**60, 0], [2**60, 2**59]) == 2**58


def test_the_order_of_an_ordered_categorical_is_known():
    true = pd.Series(pd.Categorical(TRUE, GRADES[::-1], ordered=True))
    for metric in METRICS:
        options = {"tolerance": 1} if metric is cumulative_score else {}
        assert metric(true, PREDICTED, **options) == pytest.approx(metric(TRUE, PREDICTED, ranks=GRADES, **options))
    p = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    assert ranked_probability_score(true, p) == pytest.approx(ranked_probability_score(TRUE, p, ranks=GRADES))
    assert mean_absolute_expectation_error(true, [1, 1, 1, 2.5]) == mean_absolute_expectation_error(
        TRUE, [1, 1, 1, 2.5], ranks=GRADES[::-1]
    )
    with pytest.raises(ValueError, match="Categoricals in two orders"):
        mean_absolute_rank_error(true, pd.Categorical(PREDICTED, GRADES, ordered=True))
    intervals = pd.cut([1, 5, 9], [0, 4, 8, 12])
    assert mean_absolute_rank_error(intervals, [str(intervals[i]) for i in (2, 1, 2)]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("factor", [1, 1e-320, 5e307])
@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_kappa_equals_scikit_learns_where_that_is_a_number(factor, n_labels):
    rng = np.random.default_rng(n_labels)
    true, predicted = rng.integers(0, n_labels, (2, 30))
    weight = rng.integers(0, 3, 30)
    kappa = quadratic_weighted_kappa(true, predicted, sample_weight=factor * weight)
    if n_labels > 1:
        expected = cohen_kappa_score(true, predicted, weights="quadratic", sample_weight=weight)
        assert kappa == pytest.approx(expected)
    else:
        assert kappa == 0


def test_kappa_of_what_has_weight_is_a_number():
    assert quadratic_weighted_kappa([0, 1, 2], [0, 2, 1], sample_weight=[1, 0, 0]) == 0
    assert quadratic_weighted_kappa([0, 1, 2], [1, 1, 1]) == 0
    with pytest.raises(ValueError, match="at least one non-zero"):
        quadratic_weighted_kappa([0, 1], [1, 0], sample_weight=[0, 0])


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_has_no_weight_does_not_count_whatever_it_is():
    assert mean_absolute_rank_error([1e308, 1], [-1e308, 3], sample_weight=[0, 1]) == 2


def test_kappa_of_many_ranks_needs_no_table_of_them():
    assert quadratic_weighted_kappa([0, 10**6], [1, 10**6 - 1], ranks=range(10**6 + 1)) == pytest.approx(1, abs=1e-5)


def test_rounding_takes_nothing_from_the_tolerance():
    assert cumulative_score([1.1, 0.3, 2.0], [1.0, 0.1, 1.7], tolerance=0.1) == pytest.approx(1 / 3)
    for tolerance in (-1, np.nan, "5"):
        with pytest.raises(ValueError, match="tolerance must be in"):
            cumulative_score([1, 2], [1, 2], tolerance=tolerance)


def test_error_of_expectations():
    assert mean_absolute_expectation_error([20, 30], [21.5, 30], sample_weight=[1, 3]) == pytest.approx(1.5 / 4)
    assert mean_absolute_expectation_error(["bad", "good"], [1.5, 3], ranks=GRADES) == 0.25
    for y, expected, message in (
        (["bad", "good"], [1, 2], "order is not known"),
        (["bad"], [1], "order is not known"),
        ([1, 2], ["a", "b"], "y_expected must hold numbers"),
        ([1, 2], [1, np.nan], r"Input y_expected contains NaN or infinity \(index 1\)"),
        ([1, 2], [1], "same length"),
        ([], [], "empty"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_absolute_expectation_error(y, expected)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same length, got 2 and 3"):
        mean_absolute_rank_error([1, 2], [1, 2, 3])


def test_ordinality_of_an_arc_is_perfect_and_of_noise_one_half():
    angle = np.linspace(0, 3, 9)
    assert ordinality(np.stack([np.cos(angle), np.sin(angle)], axis=1)) == 1
    noise = np.random.default_rng(0).normal(size=(200, 50))
    assert ordinality(noise / np.linalg.norm(noise, axis=1, keepdims=True)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rows", [[[1.0, 0.0]], np.zeros((0, 3)), [[1.0, 0], [np.nan, 1]], [1.0, 2]])
def test_ordinality_of_what_has_no_order_is_refused(rows):
    with pytest.raises(ValueError, match="a row for each of at least 2 ranks"):
        ordinality(rows)


def test_ordinality_counts_the_steps_in_order():
    rows = np.array([[1, 0], [0, 1], [0.8, 0.6]])  # similarities 0 (1 to 2), 0.8 (1 to 3), 0.6 (2 to 3)
    # from 1: self > 0, not 0 > 0.8; from 2: both neighbours; from 3: self > 0.6, not 0.6 > 0.8
    assert ordinality(rows) == pytest.approx(4 / 6)


@pytest.mark.parametrize("scorer", [neg_mean_absolute_rank_error_scorer, quadratic_weighted_kappa_scorer])
def test_scorers_know_the_ranks_of_what_they_score(make_classifier, shades, scorer):
    X, y = shades
    names = np.array(["void", "dim", "mild", "light", "blank"])
    classifier = make_classifier(ranks=list(names))
    scores = cross_val_score(classifier, X, names[y], cv=2, scoring=scorer, error_score="raise")
    assert np.isfinite(scores).all()
    pipeline = make_pipeline(FunctionTransformer(), classifier)
    search = GridSearchCV(
        pipeline, {"l2rclipclassifier__blend_ratio": [0.1]}, scoring=scorer, cv=2, error_score="raise"
    )
    search.fit(X, names[y])
    assert search.best_score_ == pytest.approx(scores.mean())
    metric = {
        neg_mean_absolute_rank_error_scorer: lambda *args: -mean_absolute_rank_error(*args, ranks=names),
        quadratic_weighted_kappa_scorer: lambda *args: quadratic_weighted_kappa(*args, ranks=names),
    }[scorer]
    assert scorer(search, X, names[y]) == pytest.approx(metric(names[y], search.predict(X)))


# -------------------------------------------------------------- errors by rank


def slow_errors_by_rank(true, predicted, weight, values):
    """Mean absolute error of each true rank, image by image."""
    errors = {}
    for rank in set(true[weight > 0].tolist()):
        total = count = 0.0
        for t, p, w in zip(true, predicted, weight, strict=True):
            if t == rank:
                total, count = total + w * abs(values[t] - values[p]), count + w
        errors[rank] = total / count
    return list(errors.values())


@pytest.mark.parametrize("factor", [1, 1e-320, 5e307])
@pytest.mark.parametrize("n_ranks", [2, 3, 11])
def test_average_and_largest_error_of_the_ranks_equal_slow_loops(n_ranks, factor):
    rng = np.random.default_rng(n_ranks)
    true, predicted = rng.integers(0, n_ranks, (2, 40))
    weight, values = rng.integers(0, 4, 40), np.cumsum(rng.integers(1, 9, n_ranks))
    for in_ranks, unit in ((False, values), (True, np.arange(n_ranks))):
        errors = slow_errors_by_rank(true, predicted, weight, unit)
        options = {"ranks": values, "sample_weight": factor * weight, "in_ranks": in_ranks}
        labels = values[true], values[predicted]
        assert average_mean_absolute_rank_error(*labels, **options) == pytest.approx(np.mean(errors))
        assert maximum_mean_absolute_rank_error(*labels, **options) == pytest.approx(max(errors))


def test_errors_by_rank_of_a_published_example():
    # of dlordinal 2.7 and skordinal 0.2, in their documentation
    true, predicted = [0, 0, 1, 2, 3, 0, 0], [0, 1, 1, 2, 3, 0, 1]
    assert average_mean_absolute_rank_error(true, predicted) == 0.125
    assert maximum_mean_absolute_rank_error(true, predicted) == 0.5
    assert kendall_correlation(true, predicted) == pytest.approx(0.8140915784106943)
    assert cumulative_score(true, [0, 1, 1, 2, 0, 0, 1], tolerance=1, in_ranks=True) == pytest.approx(6 / 7)


def test_ranks_without_images_do_not_count_and_rare_ones_count_like_the_others():
    true, predicted = ["bad"] * 99 + ["good"], ["bad"] * 100
    assert average_mean_absolute_rank_error(true, predicted, ranks=GRADES) == 1
    assert maximum_mean_absolute_rank_error(true, predicted, ranks=GRADES) == 2
    no_good = np.arange(100) < 99
    assert maximum_mean_absolute_rank_error(true, predicted, ranks=GRADES, sample_weight=no_good) == 0


def test_cumulative_score_counts_ranks_of_numbers_where_it_is_asked_to():
    true, predicted = [20, 35, 80, 20], [35, 35, 20, 20]
    assert cumulative_score(true, predicted, tolerance=1) == 0.5
    assert cumulative_score(true, predicted, tolerance=1, in_ranks=True) == 0.75
    assert cumulative_score(true, predicted, tolerance=0, in_ranks=True) == accuracy_score(true, predicted)


# ------------------------------------------------------------- rank correlations

CORRELATIONS = {spearman_correlation: scipy.stats.spearmanr, kendall_correlation: scipy.stats.kendalltau}
every_correlation = pytest.mark.parametrize("correlation", CORRELATIONS)


@every_correlation
@pytest.mark.parametrize("n_ranks", [2, 3, 10, 1000])
def test_correlations_equal_scipys_with_weights_as_repetitions(correlation, n_ranks):
    rng = np.random.default_rng(n_ranks)
    true, weight = rng.integers(0, n_ranks, 60), rng.integers(0, 4, 60)
    predicted = np.clip(true + rng.integers(-2, 3, 60), 0, n_ranks - 1)
    theirs = CORRELATIONS[correlation]
    assert correlation(true, predicted) == pytest.approx(theirs(true, predicted).statistic)
    assert correlation(true, -predicted) == pytest.approx(-theirs(true, predicted).statistic)
    repeated = theirs(np.repeat(true, weight), np.repeat(predicted, weight)).statistic
    for factor in (1, 1e-320, 5e307):
        assert correlation(true, predicted, sample_weight=factor * weight) == pytest.approx(repeated)


@every_correlation
def test_correlations_of_expected_values_of_many_images_equal_scipys(correlation):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, 2000)
    expected = true + rng.normal(size=2000)
    assert correlation(true, expected) == pytest.approx(CORRELATIONS[correlation](true, expected).statistic)


@every_correlation
def test_correlations_know_the_order_of_words(correlation):
    numbers = [GRADES.index(word) for word in TRUE], [GRADES.index(word) for word in PREDICTED]
    theirs = CORRELATIONS[correlation](*numbers).statistic
    assert correlation(TRUE, PREDICTED, ranks=GRADES) == pytest.approx(theirs)
    assert correlation(TRUE, PREDICTED, ranks=GRADES[::-1]) == pytest.approx(theirs)
    assert correlation(GRADES, GRADES, ranks=GRADES) == pytest.approx(1)
    assert correlation(GRADES, GRADES[::-1], ranks=GRADES) == pytest.approx(-1)


@every_correlation
def test_correlations_with_what_is_constant_are_zero(correlation):
    assert correlation([1, 2, 3], [2, 2, 2]) == correlation([2, 2, 2], [1, 2, 3]) == correlation([1], [5]) == 0
    assert correlation([1, 2, 3], [1, 1, 3], sample_weight=[1, 1, 0]) == 0
    for tiny in (1e-17, 1e-200, 5e-324):
        assert np.isfinite(correlation([1, 2], [1, 2], sample_weight=[1, tiny]))


# --------------------------------------------------------------------- intervals


def test_coverage_and_width_of_intervals():
    intervals = [[20, 30], [25, 25], [40, 60]]
    assert interval_coverage([30, 24, 40], intervals) == pytest.approx(2 / 3)
    assert interval_coverage([30, 24, 40], np.array(intervals), sample_weight=[0, 3, 1]) == 0.25
    assert mean_interval_width([30, 24, 40], pd.DataFrame(intervals)) == 10
    assert mean_interval_width([30, 24, 40], intervals, ranks=[20, 24, 25, 30, 40, 60], in_ranks=True) == 4 / 3
    assert interval_coverage([30.5], [[30.25, 30.75]]) == 1


def test_intervals_of_words_know_their_order():
    intervals = [["bad", "fair"], ["fair", "good"]]
    assert interval_coverage(["good", "good"], intervals, ranks=GRADES) == 0.5
    assert mean_interval_width(["good", "good"], intervals, ranks=GRADES) == 1
    true = pd.Categorical(["good", "good"], GRADES, ordered=True)
    assert interval_coverage(true, intervals) == 0.5
    # ranks that fall: the interval begins at the first of them
    assert interval_coverage([3, 1], [[3, 2], [3, 2]], ranks=[3, 2, 1]) == 0.5
    assert mean_interval_width([3, 1], [[3, 2], [3, 1]], ranks=[3, 2, 1]) == 1.5


@pytest.mark.parametrize("metric", [interval_coverage, mean_interval_width])
@pytest.mark.parametrize(
    ("true", "intervals", "options", "message"),
    [
        ([1], [1, 2], {}, r"shape \(n, 2\).*got the shape \(2,\)"),
        ([1], [[1, 2, 3]], {}, r"got the shape \(1, 3\)"),
        ([1, 2], [[1, 2]], {}, "y_true and y_interval must have the same length, got 2 and 1"),
        ([1, 2], [[1, 2], [3, 2]], {}, r"y_interval\[1\] ends before it begins: \[3, 2\]"),
        (["bad"], [["good", "bad"]], {"ranks": GRADES}, r"y_interval\[0\] ends before"),
        (["bad"], [["bad", "good"]], {}, "order is not known"),
        (["bad"], [[0, 1]], {}, "y_true holds strings .* y_interval numbers"),
        ([1], [[1, "2"]], {}, "y_interval|numbers or all strings"),
        ([1], [[1, np.nan]], {}, "y_interval contains NaN"),
        (["bad"], [["bad", "best"]], {"ranks": GRADES}, r"y_interval contains labels .*\['best'\]"),
        ([], np.zeros((0, 2)), {}, "empty"),
    ],
)
def test_what_is_no_interval_is_named(metric, true, intervals, options, message):
    with pytest.raises(ValueError, match=message):
        metric(true, intervals, **options)


def test_coverage_of_a_classifiers_own_intervals(make_classifier, shades):
    X, y = shades
    classifier = make_classifier(prompt_epochs=1).fit(X, y)
    intervals = classifier.predict_interval(X, coverage=0.9)
    inside = [low <= label <= high for label, (low, high) in zip(y, intervals, strict=True)]
    assert interval_coverage(y, intervals) == np.mean(inside)
    assert mean_interval_width(y, intervals) == np.mean(np.diff(intervals, axis=1))


# ------------------------------------------------------ ranked probability score


def test_ranked_probability_score_is_the_sum_of_brier_scores_of_the_thresholds():
    rng = np.random.default_rng(0)
    y, p, w = rng.integers(0, 4, 50), rng.dirichlet(np.ones(4), 50), rng.uniform(0.1, 2, 50)
    expected = sum(brier_score_loss(y <= k, p[:, : k + 1].sum(1).clip(0, 1), sample_weight=w) for k in range(3))
    assert ranked_probability_score(y, p, sample_weight=w) == pytest.approx(expected)


def test_ranked_probability_score_knows_the_order_of_words_and_perfection():
    words, ranks = np.array(["bad", "fair", "good"]), ["good", "fair", "bad"]  # sorted: bad, fair, good
    certain = np.eye(3)
    assert ranked_probability_score(words, certain, ranks=ranks) == 0
    assert ranked_probability_score(["bad"], [[0, 0, 1.0]], ranks=ranks) == 2
    assert ranked_probability_score(["bad"], [[0, 1.0, 0]], ranks=ranks) == 1


@pytest.mark.parametrize(
    ("y", "p", "options", "message"),
    [
        ([0, 1], [[1.0, 0.0]], {}, r"a row for each of the 2 labels, got the shape \(1, 2\)"),
        ([0], [0.5, 0.5], {}, "a row for each"),
        ([0], [[0.5, 0.4]], {}, "rows that sum to one"),
        ([0], [[1.5, -0.5]], {}, "negative or infinite"),
        ([0], [[np.nan, 1.0]], {}, "NaN"),
        ([2], [[0.5, 0.5]], {}, r"not among the ranks: \[2\]"),
        (["a"], [[0.5, 0.5]], {}, "not among the ranks"),
        ([1, 2], [[0.5, 0.5]] * 2, {}, r"the integers 0 to 1, .*ranks=classifier.ranks_"),
        ([20], [[0.5, 0.5]], {}, r"not among the ranks: \[20\]"),
        (["a"], [[0.5, 0.5]], {"ranks": [0, 1]}, "y_true holds strings .* and the ranks numbers"),
        (pd.Categorical(["a"], ["a", "b", "c"], ordered=True), [[0.5, 0.5]], {}, "2 columns, but y_true has as categ"),
        ([], np.zeros((0, 2)), {}, "empty"),
        (["a"], [[0.5, 0.5]], {"ranks": ["a", "b", "c"]}, "2 columns, but ranks lists 3"),
    ],
)
def test_distributions_that_are_none_are_named(y, p, options, message):
    with pytest.raises(ValueError, match=message):
        ranked_probability_score(y, p, **options)


# ------------------------------------------------------------------------ scorers

SCORERS = [
    neg_mean_absolute_rank_error_scorer,
    neg_average_mean_absolute_rank_error_scorer,
    spearman_correlation_scorer,
    quadratic_weighted_kappa_scorer,
    neg_mean_absolute_expectation_error_scorer,
    neg_ranked_probability_score_scorer,
]
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


@every_scorer
def test_scorers_find_the_ranks_in_whatever_wraps_the_classifier(make_classifier, shades, scorer):
    X, names = shades[0], np.array(["void", "dim", "mild", "light", "blank"])
    y, flat = names[shades[1]], FunctionTransformer()
    classifier = make_classifier(ranks=list(names), prompt_epochs=1)
    fitted = clone(classifier).fit(X, y)
    pipeline = make_pipeline(flat, classifier)
    search = GridSearchCV(
        pipeline, {"l2rclipclassifier__blend_ratio": [0.1]}, scoring=scorer, cv=2, error_score="raise"
    )
    for estimator in (
        fitted,
        FrozenEstimator(fitted),
        make_pipeline(flat, FrozenEstimator(fitted)),
        clone(pipeline).fit(X, y),
        clone(search).fit(X, y),
        make_pipeline(flat, clone(search)).fit(X, y),
        CalibratedClassifierCV(FrozenEstimator(fitted)).fit(X, y),
        CalibratedClassifierCV(classifier, cv=2).fit(X, y),
    ):
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
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
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
