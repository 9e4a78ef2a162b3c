"""Coverage of intervals and the PIT histogram, against slow loops and drawn samples."""

import numpy as np
import pandas as pd
import pytest

from skl2rclip import inspection
from skl2rclip.inspection._calibration import coverage_by_level, pit_histogram
from tests.support.displays import GRADES


def sampled(n, K, seed=0):
    """Distributions, and ranks that are drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(K, 0.7), n)
    return probabilities, np.array([rng.choice(K, p=row) for row in probabilities])


def test_coverage_equals_a_slow_loop():
    probabilities, true = sampled(50, 5)
    levels = [0.1, 0.5, 0.9]
    coverage, promised = coverage_by_level(probabilities, true, levels)
    for place, level in enumerate(levels):
        hits, held = [], []
        for row, rank in zip(probabilities, true, strict=True):
            low = next(k for k in range(5) if row[: k + 1].sum() > (1 - level) / 2)
            high = next(k for k in range(4, -1, -1) if row[k:].sum() > (1 - level) / 2)
            hits.append(low <= rank <= high)
            held.append(row[low : high + 1].sum())
        assert coverage[place] == pytest.approx(np.mean(hits))
        assert promised[place] == pytest.approx(np.mean(held))


def test_pit_is_the_mean_of_the_randomised_one():
    probabilities, true = sampled(40, 5)
    rng = np.random.default_rng(1)
    upper = np.cumsum(probabilities, axis=1)[np.arange(40), true]
    lower = upper - probabilities[np.arange(40), true]
    drawn = rng.uniform(lower, upper, (20_000, 40)).ravel()
    expected = np.histogram(drawn, bins=8, range=(0, 1))[0] / len(drawn)
    np.testing.assert_allclose(pit_histogram(probabilities, true, 8), expected, atol=2e-3)


def test_pit_of_ranks_without_probability_lies_where_they_stand():
    probabilities = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    histogram = pit_histogram(probabilities, np.array([0, 2, 1]), 4)
    np.testing.assert_allclose(histogram, [1 / 3, 1 / 3, 0, 1 / 3])


def test_honest_distributions_are_flat_and_cover_what_they_promise():
    probabilities, true = sampled(4000, 6)
    display = inspection.RankCalibrationDisplay.from_predictions(true, probabilities)
    np.testing.assert_allclose(display.pit, 0.1, atol=0.02)
    np.testing.assert_allclose(display.coverage, display.promised, atol=0.03)
    assert (display.promised >= display.nominal - 1e-9).all()
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], 10 * display.pit)
    np.testing.assert_allclose(display.line_.get_ydata(), display.coverage)


def test_distributions_that_are_too_narrow_show_it():
    probabilities, true = sampled(2000, 6)
    narrow = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    display = inspection.RankCalibrationDisplay.from_predictions(true, narrow)
    assert display.pit[[0, -1]].min() > 0.12
    assert (display.coverage < display.promised - 0.05).any()


def test_columns_are_those_of_the_sorted_labels(graded):
    classifier, X, words = graded
    kinds = [
        inspection.RankCalibrationDisplay.from_estimator(classifier, X, words, ranks=GRADES),
        inspection.RankCalibrationDisplay.from_predictions(words, classifier.predict_proba(X), ranks=GRADES),
        inspection.RankCalibrationDisplay.from_predictions(
            pd.Categorical(words, GRADES, ordered=True), classifier.predict_proba(X)
        ),
    ]
    order = [sorted(GRADES).index(grade) for grade in GRADES]
    true = np.array([GRADES.index(word) for word in words])
    expected = pit_histogram(classifier.predict_proba(X)[:, order], true, 10)
    for display in kinds:
        np.testing.assert_allclose(display.pit, expected)


@pytest.mark.parametrize(
    ("y", "probabilities", "said"),
    [
        ([0, 1], [[0.5, 0.5]], "a row for each of the 2 labels"),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], "sum to one"),
        ([0, 1], [[-0.5, 1.5], [0.5, 0.5]], "negative"),
        ([10, 20], [[0.2, 0.3, 0.5]] * 2, "3 columns, but 2 labels are known"),
        (["a", "b"], [[0.5, 0.5]] * 2, "order is not known"),
    ],
)
def test_probabilities_that_are_none_are_refused(y, probabilities, said):
    with pytest.raises(ValueError, match=said):
        inspection.RankCalibrationDisplay.from_predictions(y, probabilities)


def test_the_figure_says_what_good_is():
    probabilities, true = sampled(50, 5)
    display = inspection.RankCalibrationDisplay.from_predictions(true, probabilities)
    left, right = (ax.get_title(loc="left") for ax in display.axes_)
    assert left.startswith("Good: the points lie in the grey band.")
    assert right.startswith("Good: the bars end in the grey band.")
    for ax in display.axes_:
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert "95 % of honest samples of 50 images" in names
