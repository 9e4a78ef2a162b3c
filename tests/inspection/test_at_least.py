"""Each 'at least this rank', with intervals, of one model and of two in pairs."""

from copy import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from skl2rclip import inspection
from skl2rclip.metrics import at_least_rank_scores, bootstrap_scores
from skl2rclip.metrics._at_least import SCORES, at_least, scores_by_weights
from tests.support.displays import GRADES, drawn_texts

draw = inspection.AtLeastRankDisplay.from_predictions
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 120)


def sure(y, spread, seed=1):
    """Probabilities around a place that is off by as much."""
    place = y + np.random.default_rng(seed).normal(0, spread, len(y))
    weight = np.exp(-((place[:, None] - np.arange(4)) ** 2)).round(2) + 1e-3  # of which some are equal
    return weight / weight.sum(axis=1, keepdims=True)


GOOD, POOR = sure(Y, 0.5), sure(Y, 1.5, 2)


def test_scores_by_weights_are_those_of_the_metric():
    weights = RNG.integers(0, 3, (5, 120))
    for k in (1, 2, 3):
        probability = at_least(POOR)[:, k - 1]
        found = scores_by_weights(k <= Y, probability, 0.3, weights)
        for row, weight in zip(found, weights, strict=True):
            scores = at_least_rank_scores(Y, POOR, threshold=0.3, sample_weight=weight)
            assert row == pytest.approx([scores[name][k - 1] for name in SCORES])


def test_scores_are_those_of_the_metric_and_intervals_those_of_the_bootstrap():
    display = draw(Y, GOOD, threshold=0.4, n_resamples=400)
    scores = at_least_rank_scores(Y, GOOD, threshold=0.4)
    for name in SCORES:
        np.testing.assert_allclose(display.scores[name], [scores[name]])
    assert display.n_at_least.tolist() == [(k <= Y).sum() for k in (1, 2, 3)]

    def sensitivity(y, proba):
        return (proba[y >= 2, 2:].sum(axis=1) >= 0.4).mean()

    expected = bootstrap_scores(Y, GOOD, sensitivity, n_resamples=400, random_state=0)
    assert expected.score == pytest.approx(scores.sensitivity[1])
    np.testing.assert_allclose(display.intervals["sensitivity"][0, 1], [expected.low, expected.high], atol=0.03)
    assert display.intervals["sensitivity"].shape == (1, 3, 2)
    assert display.differences["roc_auc"].shape == (0, 3)


def test_two_models_are_compared_on_the_same_draws():
    display = draw(Y, {"good": GOOD, "poor": POOR}, n_resamples=300)
    for name in SCORES:
        np.testing.assert_allclose(display.differences[name][0], -np.diff(display.scores[name], axis=0)[0])
    assert (display.difference_intervals["roc_auc"][0, :, 0] > 0).all()  # surely better
    same = draw(Y, {"one": POOR, "two": POOR}, n_resamples=50)
    np.testing.assert_array_equal(same.difference_intervals["specificity"], 0)
    assert (np.ptp(same.intervals["specificity"], axis=-1) > 0).all()


def test_groups_are_drawn_whole():
    rows, groups = np.repeat(np.arange(40), 5), np.repeat(np.arange(40), 5)
    once = draw(Y[:40], GOOD[:40], n_resamples=200)
    together = draw(Y[rows], GOOD[rows], groups=groups, n_resamples=200)
    for name in SCORES:
        np.testing.assert_allclose(together.intervals[name], once.intervals[name])
    apart = draw(Y[rows], GOOD[rows], n_resamples=200)
    assert np.ptp(apart.intervals["sensitivity"]) < 0.8 * np.ptp(together.intervals["sensitivity"])
    assert "200 images in 40 groups" in together.ax_.get_title(loc="left").replace("\n", " ")


def test_what_is_drawn_are_the_scores_and_their_intervals():
    display = draw(Y, {"good": GOOD, "poor": POOR}, n_resamples=50, display_labels=list("abcd"))
    for panel, name in enumerate(SCORES):
        for model in range(2):
            points, _, (bars,) = display.points_[panel][model]
            np.testing.assert_allclose(points.get_xdata(), display.scores[name][model])
            ends = np.array([segment[:, 0] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, display.intervals[name][model], atol=1e-9)
    heights = [display.points_[0][model][0].get_ydata() for model in range(2)]
    assert (heights[0] != heights[1]).all()  # not one on the other
    ticks = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert ticks == [f"{word}\n{count} of 120" for word, count in zip("bcd", display.n_at_least, strict=True)]
    display.plot(kind="differences")
    np.testing.assert_allclose(display.points_[1][0][0].get_xdata(), display.differences["sensitivity"][0])
    assert "good less poor" in {text for text, _ in drawn_texts(display.figure_)}
    axes = plt.subplots(1, 3)[1]
    assert list(display.plot(ax=axes).axes_) == list(axes)


def test_what_no_image_tells_is_left_out():
    display = draw([0, 1, 1, 0], np.eye(3)[[0, 1, 1, 0]], n_resamples=20)
    np.testing.assert_array_equal(display.scores["roc_auc"], [[1, np.nan]])
    assert np.isnan(display.intervals["sensitivity"][0, 1]).all()
    display.figure_.canvas.draw()


def test_words_come_from_a_categorical_or_from_the_classifier_that_knows_them(named, shades):
    words = pd.Categorical.from_codes([0, 1, 2, 2], ["none", "mild", "severe"], ordered=True)
    display = draw(words, np.eye(3)[[1, 0, 2, 2]], n_resamples=5)  # columns mild, none, severe
    assert display.display_labels == ["mild", "severe"]
    assert display.scores["roc_auc"].tolist() == [[1, 1]]
    dummy = DummyClassifier().fit(*shades)
    models = {"dummy": dummy, "ours": named}
    both = inspection.AtLeastRankDisplay.from_estimators(models, *shades, n_resamples=5)
    assert both.display_labels == GRADES[1:]
    np.testing.assert_allclose(both.scores["roc_auc"][0], 0.5)
    expected = at_least_rank_scores(shades[1], named.predict_proba(shades[0]))
    np.testing.assert_allclose(both.scores["sensitivity"][1], expected.sensitivity)


def test_a_fitted_classifier_lends_another_its_order_of_words(graded):
    probe, X, words = graded
    probe = copy(probe)
    learned = copy(probe)
    learned.ranks_ = np.array(GRADES)
    both = inspection.AtLeastRankDisplay.from_estimators({"probe": probe, "ours": learned}, X, words, n_resamples=5)
    assert both.display_labels == GRADES[1:]
    expected = at_least_rank_scores(words, probe.predict_proba(X), ranks=GRADES)
    np.testing.assert_allclose(both.scores["specificity"], [expected.specificity] * 2)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((Y, GOOD[:9]), {}, "y_proba must have a row for each of the 120 labels"),
        ((Y, {}), {}, "y_proba must be a dict of models"),
        ((Y, GOOD), {"groups": np.zeros(120)}, "at least two groups to draw from, got 1"),
        ((Y, GOOD), {"threshold": 1.5}, "threshold must be in"),
        ((Y, GOOD), {"n_resamples": 0}, "n_resamples must be"),
        ((Y, GOOD), {"kind": "both"}, "kind must be"),
        ((Y, GOOD), {"kind": "differences"}, "draws differences of two models or more, and has one"),
    ],
)
def test_what_cannot_be_scored_is_named(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        draw(*arguments, **options)


def test_estimators_are_checked_before_anything_is_predicted(graded):
    _, X, words = graded
    never = LogisticRegression().fit(X, words)
    never.predict_proba = None
    with pytest.raises(ValueError, match="groups has the shape"):
        inspection.AtLeastRankDisplay.from_estimator(never, X, words, groups=[1, 2], ranks=GRADES)
    with pytest.raises(ValueError, match="compares with true labels, and y is None"):
        inspection.AtLeastRankDisplay.from_estimator(never, X, None)
    with pytest.raises(ValueError, match="estimators must be a dict"):
        inspection.AtLeastRankDisplay.from_estimators([never], X, words)
