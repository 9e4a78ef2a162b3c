"""Intervals of scores from images drawn anew."""

import tracemalloc
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error

from skl2rclip.metrics import bootstrap_scores, mean_absolute_rank_error, ranked_probability_score

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 200)
SAID = np.clip(Y + RNG.integers(-1, 2, 200), 0, 3)


def test_intervals_are_those_of_the_normal_distribution_where_images_are_many():
    scores = bootstrap_scores(Y, SAID, {"mae": mean_absolute_error, "accuracy": accuracy_score}, random_state=0)
    errors = np.abs(Y - SAID)
    half = 1.96 * errors.std() / np.sqrt(len(Y))
    assert scores.mae.score == errors.mean()
    assert scores.mae.low == pytest.approx(errors.mean() - half, abs=0.02)
    assert scores.mae.high == pytest.approx(errors.mean() + half, abs=0.02)
    narrow = bootstrap_scores(Y, SAID, mean_absolute_error, confidence_level=0.5, random_state=0)
    assert scores.mae.low < narrow.low < narrow.high < scores.mae.high
    assert scores.accuracy.score == (errors == 0).mean()


def test_whole_groups_are_drawn():
    groups, n = np.repeat(np.arange(20), 10), 20
    of_groups = RNG.integers(0, 2, n)
    y, said = np.zeros(200, int), of_groups[groups]  # images of a group are alike
    apart, together = (bootstrap_scores(y, said, mean_absolute_error, g, random_state=0) for g in (None, groups))
    assert together.score == apart.score == of_groups.mean()
    assert together.high - together.low == pytest.approx(2 * 1.96 * of_groups.std() / np.sqrt(n), abs=0.06)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_two_models_are_compared_on_the_same_draws():
    worse = np.where(np.arange(200) % 10 == 0, 3 - SAID, SAID)
    scores = bootstrap_scores(Y, {"ours": SAID, "theirs": worse}, mean_absolute_rank_error, random_state=0)
    difference = scores.difference
    assert difference.score == scores.ours.score - scores.theirs.score
    # which images are drawn moves both alike
    assert difference.high - difference.low < scores.ours.high - scores.ours.low
    same = bootstrap_scores(Y, {"a": SAID, "b": SAID}, mean_absolute_rank_error)
    assert same.difference == {"score": 0, "low": 0, "high": 0}


def test_probabilities_and_labels_with_an_order_are_drawn_too():
    proba = RNG.dirichlet(np.ones(3), 30)
    words = pd.Series(
        pd.Categorical.from_codes(RNG.integers(0, 3, 30), ["low", "mid", "high"], ordered=True), index=range(9, 39)
    )
    columns = np.argsort(["low", "mid", "high"])
    score = bootstrap_scores(words, pd.DataFrame(proba[:, columns]), ranked_probability_score, n_resamples=20)
    assert score.score == ranked_probability_score(words, proba[:, columns])
    known = partial(mean_absolute_rank_error, ranks=["low", "mid", "high"])
    assert bootstrap_scores(words.astype(str), words.astype(str), known, n_resamples=5).score == 0


def test_a_score_that_is_never_known_has_no_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = bootstrap_scores(Y, SAID, lambda true, said: np.nan, n_resamples=3)
    assert np.isnan([scores.score, scores.low, scores.high]).all()


def test_names_may_be_of_any_kind():
    scores = bootstrap_scores(Y, {"": SAID, 2: Y}, {"": mean_absolute_error}, n_resamples=3)
    assert list(scores[""]) == ["", 2, "difference"]
    assert scores[""]["difference"].score == scores[""][""].score > scores[""][2].score == 0


def test_draws_are_made_one_by_one():
    y = np.zeros(20_000, int)
    tracemalloc.start()
    bootstrap_scores(y, y, lambda true, said: 0, np.arange(20_000) % 20, n_resamples=50)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 6e6  # all of them take 8e6


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((Y, {"ours": SAID, "difference": Y}), {}, "predictions has a model called 'difference'"),
        ((Y, {}), {}, "one model or of two, got 0"),
        ((iter(Y), SAID), {}, "y_true must hold a row for each image, got .*: make it a list first"),
        ((Y, None), {}, "predictions must hold a row for each image, got NoneType"),
        ((Y, SAID[:9]), {}, "predictions has 9 rows, and y_true 200 labels"),
        ((Y, {"a": SAID, "b": SAID[1:]}), {}, r"predictions\['b'\] has 199 rows"),
        ((Y, dict.fromkeys("abc", SAID)), {}, "one model or of two, got 3: a, b, c"),
        ((Y, SAID), {"groups": np.zeros(200)}, "two groups to draw from, got 1"),
        ((Y[:1], SAID[:1]), {}, "two images to draw from, got 1"),
        ((Y, SAID), {"confidence_level": 1}, "confidence_level must be in"),
        ((Y, SAID), {"n_resamples": 0}, "n_resamples must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_named(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        bootstrap_scores(*arguments, mean_absolute_error, **options)


@pytest.mark.parametrize(
    ("metric", "error", "match"),
    [
        ("mae", TypeError, "metrics must be a function .*, got 'mae'"),
        ({"mae": None}, TypeError, r"metrics\['mae'\] must be a function"),
        ({}, ValueError, "metrics holds no metric"),
        (lambda true, said: np.abs(true - said), ValueError, "metrics must return a number, got ndarray"),
        ({"mae": lambda true, said: None}, ValueError, r"metrics\['mae'\] must return a number, got NoneType"),
    ],
)
def test_what_is_no_metric_is_named(metric, error, match):
    with pytest.raises(error, match=match):
        bootstrap_scores(Y, SAID, metric)
