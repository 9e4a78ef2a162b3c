"""Predicted against true ranks, intervals, and errors by rank."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, mean_absolute_error
from sklearn.svm import LinearSVC

from skl2rclip import inspection
from tests.support.displays import GRADES


def test_errors_by_rank_equal_a_slow_loop_and_scikit_learns(graded):
    classifier, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(classifier, X, words, ranks=GRADES)
    true = np.array([GRADES.index(word) for word in words])
    predicted = np.array([GRADES.index(word) for word in classifier.predict(X)])
    expected = [mean_absolute_error(true[true == k], predicted[true == k]) for k in range(5)]
    np.testing.assert_allclose(display.mae_by_rank, expected)
    assert display.mae == pytest.approx(mean_absolute_error(true, predicted))
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], expected)
    ticks = [tick.get_text().replace("\n", ", ") for tick in display.axes_[1].get_xticklabels()]
    assert ticks == [f"{name}, n = {count}" for name, count in zip(GRADES, np.bincount(true), strict=True)]
    assert not display.axes_[1].texts  # where the line of the mean would cross them
    assert "number n of images" in display.axes_[1].get_xlabel()


def test_each_image_is_a_point_at_its_ranks_with_its_interval(graded):
    classifier, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(classifier, X, words, ranks=GRADES, coverage=0.6)
    points = display.points_.get_offsets()
    true = np.array([GRADES.index(word) for word in words])
    np.testing.assert_array_equal(np.round(points[:, 0]), true)
    assert len(np.unique(points, axis=0)) == len(points)
    np.testing.assert_array_equal(points[:, 1], [GRADES.index(word) for word in classifier.predict(X)])
    order = [list(classifier.classes_).index(grade) for grade in GRADES]
    for row, segment, ends in zip(
        classifier.predict_proba(X)[:, order], display.intervals_.get_segments(), display.y_interval, strict=True
    ):
        low, high = np.round(segment[:, 1]).astype(int)
        assert [GRADES[low], GRADES[high]] == ends.tolist()
        assert row[low : high + 1].sum() >= 0.6 - 1e-9
        assert row[:low].sum() <= 0.2 + 1e-9
        assert row[high + 1 :].sum() <= 0.2 + 1e-9


def test_many_images_become_discs_of_their_number():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 21, 10_000)
    predicted = np.clip(true + rng.integers(-2, 3, 10_000), 0, 20)
    ends = np.column_stack([np.maximum(true - 1, 0), np.minimum(true + 2, 20)])
    display = inspection.RankPredictionDisplay.from_predictions(true, predicted, y_interval=ends)
    counts = confusion_matrix(true, predicted)
    places = display.points_.get_offsets().astype(int)
    sizes = display.points_.get_sizes()
    assert len(places) == (counts > 0).sum() < 150
    np.testing.assert_allclose(sizes / sizes.max(), counts[places[:, 0], places[:, 1]] / counts.max())
    middle = next(bar for bar in display.intervals_ if round(bar.get_x() + bar.get_width() / 2) == 10)
    assert middle.get_y() + 0.12 == pytest.approx(9)
    assert middle.get_height() - 0.24 == pytest.approx(3)


def test_ranks_without_images_have_no_error():
    display = inspection.RankPredictionDisplay.from_predictions([10, 10, 40], [10, 20, 40], ranks=[10, 20, 40])
    np.testing.assert_array_equal(display.mae_by_rank, [5, np.nan, 0])
    np.testing.assert_array_equal(display.n_by_rank, [2, 0, 1])
    assert "no image" in [text.get_text() for text in display.axes_[1].get_legend().get_texts()]


def test_without_coverage_no_probabilities_are_asked_for(graded):
    _, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(
        LinearSVC().fit(X, words), X, words, ranks=GRADES, coverage=None, kind="predictions"
    )
    assert display.intervals_ is None
    assert display.bars_ is None
    assert len(display.axes_) == 1


def test_what_does_not_fit_is_refused():
    draw = inspection.RankPredictionDisplay.from_predictions
    with pytest.raises(ValueError, match="same length"):
        draw([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"two labels for each of 2 images, got the shape \(2,\)"):
        draw([1, 2], [1, 2], y_interval=[1, 2])
    with pytest.raises(ValueError, match="kind must be one of"):
        draw([1, 2], [1, 2], kind="residuals")
    with pytest.raises(ValueError, match="display_labels must hold one for each of the 2 ranks, got 1"):
        draw([1, 2], [1, 2], display_labels=["one"])


def test_intervals_that_end_before_they_begin_and_impossible_coverages_are_refused():
    with pytest.raises(ValueError, match=r"y_interval\[1\] ends before it begins: .*The lowest label comes first"):
        inspection.RankPredictionDisplay.from_predictions([1, 2, 3], [1, 2, 3], y_interval=[[1, 2], [3, 2], [3, 3]])
    with pytest.raises(ValueError, match=r"coverage must be in \(0, 1\), got 2"):
        inspection.RankPredictionDisplay.from_predictions([1, 2, 3], [1, 2, 3], coverage=2)


@pytest.mark.parametrize("max_points", [200, 0])
def test_nothing_is_drawn_beyond_the_scale(max_points):
    true, ends = [0, 1, 2, 2], [[0, 0], [0, 2], [1, 2], [2, 2]]
    display = inspection.RankPredictionDisplay.from_predictions(true, [0, 1, 1, 2], y_interval=ends, coverage=0.8)
    ax = display.plot(max_points=max_points, kind="predictions").ax_
    heights = [line.get_ydata() for line in ax.lines]  # exact, and what stands in the legend alone
    if max_points:
        heights += [segment[:, 1] for segment in display.intervals_.get_segments()]
    else:
        heights += [[bar.get_y(), bar.get_y() + bar.get_height()] for bar in display.intervals_]
    drawn = np.concatenate(heights)
    assert drawn.min() == 0
    assert drawn.max() == 2
    assert all(np.ptp(each) > 0.1 for each in heights if len(each))  # an interval of one rank is seen


@pytest.mark.parametrize(
    ("errors", "said"),
    [([0, 1] * 200, "all 400 images: 0.50"), ([0, 9, 3], "all 3 images: 4"), ([1], "all 1 image: 1")],
)
def test_the_mean_error_has_no_more_digits_than_mean_something(errors, said):
    display = inspection.RankPredictionDisplay.from_predictions(np.zeros(len(errors)), errors, ranks=range(10))
    assert said in [text.get_text() for text in display.axes_[1].get_legend().get_texts()]


@pytest.mark.parametrize(
    ("ranks", "words", "unit"),
    [
        ([0, 1, 2], None, ""),
        ([0, 1, 2], ["low", "mid", "high"], " in ranks"),
        ([10, 20, 50], ["low", "mid", "high"], " in the unit of the labels"),
        ([10, 20, 50], ["10 years", "20", "50"], " in the unit of the labels"),
    ],
)
def test_where_words_stand_for_numbers_the_axis_says_what_errors_count(ranks, words, unit):
    display = inspection.RankPredictionDisplay.from_predictions(ranks, ranks, display_labels=words)
    assert display.axes_[1].get_ylabel() == f"mean absolute error{unit}"
