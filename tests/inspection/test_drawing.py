"""Panels, ticks and labels that all displays share."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skl2rclip import inspection
from skl2rclip._ordinal.ranks import scale_of
from skl2rclip.inspection._drawing import display_names, in_a_line, rounded, short
from skl2rclip.inspection._thumbnails import Thumbnail
from tests.support.displays import GRADES, copies_of, drawn_texts


def test_two_panels_go_into_two_axes_and_into_no_three(graded):
    _, axes = plt.subplots(1, 2)
    display = inspection.RankCalibrationDisplay.from_estimator(*graded, ranks=GRADES, ax=axes)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="draws 2 panels, and ax holds 3 Axes"):
        inspection.RankCalibrationDisplay.from_estimator(*graded, ranks=GRADES, ax=plt.subplots(1, 3)[1])


def test_long_labels_keep_both_ends():
    assert short("fair") == "fair"
    long = short("moderate non-proliferative diabetic retinopathy", 20)
    assert len(long) <= 20
    assert long.startswith("moderate non")
    assert long.endswith("pathy")


@pytest.mark.parametrize("K", [2, 5, 21, 101])
def test_ticks_stand_at_their_ranks_and_have_room(K):
    ranks = np.arange(18, 18 + K)
    display = inspection.OrdinalConfusionDisplay.from_predictions(ranks, ranks)
    display.figure_.canvas.draw()
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        places = axis.get_ticklocs()
        texts = [label.get_text() for label in axis.get_ticklabels()]
        assert texts == [str(ranks[int(place)]) for place in places]
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    assert len(texts) == K or int(texts[0]) % 5 == 0 or K == 21


def test_what_is_no_axes_is_refused_by_name():
    display = inspection.RankPredictionDisplay.from_predictions([1, 2], [1, 2])
    with pytest.raises(TypeError, match="draws in Axes of matplotlib, got ax='x'"):
        display.plot(ax="x")


WORDS = [r"$\frac$", "$a_1$ to $b^2$", "_low", "50 % & more_{x}", "first\nsecond\x00\ud800 line", "x" * 200]


def _of_words(name, X):
    true, predicted = WORDS, [*WORDS[1:], WORDS[0]]
    display = getattr(inspection, name)
    if name in ("OrdinalConfusionDisplay", "RankPredictionDisplay"):
        return display.from_predictions(true, predicted, ranks=WORDS)
    if name == "LargestErrorsDisplay":
        return display.from_predictions(X, true, predicted, ranks=WORDS)
    if name == "SortedPicturesDisplay":
        return display.from_predictions(X, predicted, true, ranks=WORDS)
    if name == "DuplicateImagesDisplay":
        return display.from_frame(copies_of(range(6)), X, WORDS, n_images=6)
    if name == "AtLeastRankDisplay":
        return display.from_predictions(true, {word: np.eye(6)[np.argsort(WORDS)] for word in WORDS[::-1]}, ranks=WORDS)
    if name == "AttributionDisplay":
        parts, tiles = [np.zeros((4, 4))] * 6, [Thumbnail(image) for image in X]
        words = {
            "y_true": true,
            "y_pred": predicted,
            "display_labels": dict(zip(WORDS, map(in_a_line, WORDS), strict=True)),
        }
        return display(np.arange(6), parts, thumbnails=tiles, expectations=np.zeros(6), **words).plot()
    if name == "PairedErrorsDisplay":
        return display.from_predictions(range(6), {word: range(6) for word in WORDS})
    if name == "PrototypeSimilarityDisplay":
        return display(np.eye(6), display_labels=WORDS).plot()
    return display([0.1, 0.2, 0.4, 0.1, 0.1, 0.1], ranks=WORDS, index=0, y_true=WORDS[0], y_pred=WORDS[1]).plot()


@pytest.mark.parametrize("name", sorted(set(inspection.__all__) - {"RankCalibrationDisplay", "TrainingHistoryDisplay"}))
def test_names_are_drawn_as_they_are_whatever_matplotlib_takes_for_mark_up(name):
    display = _of_words(name, list(np.zeros((6, 4, 4, 3), np.uint8)))
    said = drawn_texts(display.figure_)
    with_words = [(text, is_read) for text, is_read in said if "$" in text or "_low" in text or "second" in text]
    assert any("$a_1$ to $b^2$" in text for text, _ in with_words)
    assert any("_low" in text for text, _ in with_words)
    assert any(r"second\x00\ud800 line" in text.replace("\n", " ") or "second…" in text for text, _ in with_words)
    assert not any(is_read for _, is_read in with_words)
    assert max(len(line) for text, _ in said for line in text.splitlines()) < 90


def test_long_names_that_differ_at_their_ends_stay_apart_beside_an_axis():
    names = [f"{'a very long beginning that all of them share ' * 3} and their own end {k}" for k in range(3)]
    display = inspection.OrdinalConfusionDisplay.from_predictions([0, 1, 2], [0, 1, 2], display_labels=names)
    shown = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert len(set(shown)) == 3
    assert all(text.count("\n") == 2 and text.endswith(f"end {k}") for k, text in enumerate(shown))


def test_display_labels_are_words_in_rank_order_by_label_or_the_ranks_themselves():
    scale = scale_of(np.array([1.0, 2.5, 4.0]), ["low", "mid", "high"])
    assert display_names(scale) == ["low", "mid", "high"]
    assert display_names(scale, "ranks") == ["1", "2.5", "4"]
    assert display_names(scale, {4: "c", 1: "a", 2.5: "b", 9: "unused"}) == ["a", "b", "c"]
    assert display_names(scale, np.array([7, 8, 9])) == ["7", "8", "9"]
    with pytest.raises(ValueError, match=r"display_labels has no word for \[2.5, 4.0\]"):
        display_names(scale, {1: "a"})
    with pytest.raises(ValueError, match="be 'ranks' for the labels, got 'abc'"):
        display_names(scale, "abc")


@pytest.mark.parametrize(
    ("value", "spread", "said"),
    [
        (0.6884, 0.034, "0.69"),
        (0.65, 0.11, "0.65"),
        (31.72, 6.0, "32"),
        (4.463, 0.5, "4.5"),
        (0.25, 0.0, "0.25"),
        (1975.0, 0.0, "1975"),
        (1975.0, 1e-09, "1975"),
        (-0.001, 0.5, "0.0"),
        (0.00021, 4e-05, "0.00021"),
        (0.0, 0.0, "0"),
    ],
)
def test_digits_that_mean_nothing_are_not_written(value, spread, said):
    assert rounded(value, spread) == said


@pytest.mark.parametrize("K", [5, 12, 20])
@pytest.mark.parametrize("size", [None, (7, 6)])
def test_words_beside_an_axis_do_not_overlap_where_they_are_turned(K, size):
    words = [f"moderate, non-proliferative diabetic retinopathy {k}" for k in range(K)]
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    display = inspection.OrdinalConfusionDisplay.from_predictions(
        np.arange(K), np.arange(K), display_labels=words, ax=ax
    )
    display.figure_.canvas.draw()
    lines = [(label.get_position()[0], label.get_text().count("\n") + 1) for label in display.ax_.get_xticklabels()]
    points_of_a_rank = display.ax_.get_window_extent().width / display.figure_.dpi * 72 / K
    for (one, n_lines), (other, _) in itertools.pairwise(lines):
        assert (other - one) * points_of_a_rank / np.sqrt(2) >= 10 * n_lines * 0.9  # at right angles to the text
