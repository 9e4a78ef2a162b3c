"""Metrics of distributions and prototypes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss

from skl2rclip.metrics import (
    mean_absolute_expectation_error,
    ordinality,
    ranked_probability_score,
)

GRADES = ["bad", "fair", "good"]


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
