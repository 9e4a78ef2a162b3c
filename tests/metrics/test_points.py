"""Metrics of labels, against scikit-learn, scipy and slow loops."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, mean_absolute_error

from skl2rclip.metrics import (
    average_mean_absolute_rank_error,
    cumulative_score,
    kendall_correlation,
    maximum_mean_absolute_rank_error,
    mean_absolute_rank_error,
    quadratic_weighted_kappa,
    spearman_correlation,
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
