"""What all metrics make of labels."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from skl2rclip.metrics import (
    average_mean_absolute_rank_error,
    cumulative_score,
    interval_coverage,
    kendall_correlation,
    maximum_mean_absolute_rank_error,
    mean_absolute_expectation_error,
    mean_absolute_rank_error,
    mean_interval_width,
    quadratic_weighted_kappa,
    ranked_probability_score,
    spearman_correlation,
)

GRADES = ["bad", "fair", "good"]

TRUE, PREDICTED = ["bad", "good", "fair", "good"], ["good", "good", "bad", "fair"]

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


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same length, got 2 and 3"):
        mean_absolute_rank_error([1, 2], [1, 2, 3])
