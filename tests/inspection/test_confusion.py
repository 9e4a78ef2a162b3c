"""The confusion matrix and its bands."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from skl2rclip import inspection
from tests.support.displays import GRADES


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_is_scikit_learns_in_rank_order(normalize, graded):
    classifier, X, words = graded
    weight = np.random.default_rng(0).uniform(size=len(words))
    options = {"normalize": normalize, "sample_weight": weight}
    display = inspection.OrdinalConfusionDisplay.from_estimator(classifier, X, words, ranks=GRADES, **options)
    expected = confusion_matrix(words, classifier.predict(X), labels=GRADES, **options)
    np.testing.assert_allclose(display.confusion_matrix, expected)
    np.testing.assert_allclose(display.im_.get_array(), expected)
    assert display.text_[1, 2].get_text() == f"{expected[1, 2]:.2f}"


def test_bands_outline_the_cells_within_their_distance_and_tell_their_share():
    true, predicted = [0, 1, 2, 3, 4, 0], [0, 2, 2, 1, 4, 4]
    display = inspection.OrdinalConfusionDisplay.from_predictions(true, predicted, bands=[1, 2])
    np.testing.assert_allclose(display.band_shares, [4 / 6, 5 / 6])
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    for line, band in zip(display.lines_, [1, 2], strict=True):
        sides = set()
        for one, other in itertools.pairwise(line.get_xydata()):
            if np.isfinite([one, other]).all():
                across, down = (one + other) / 2
                step = (0.5, 0) if one[0] == other[0] else (0, 0.5)  # to the cells on both sides
                sides.add(frozenset((int(down + sign * step[1]), int(across + sign * step[0])) for sign in (-1, 1)))
        neighbours = [((i, j), cell) for i in range(5) for j in range(5) for cell in ((i + 1, j), (i, j + 1))]
        expected = {
            frozenset(pair)
            for pair in neighbours
            if max(pair[1]) < 5 and (distance[pair[0]] <= band) != (distance[pair[1]] <= band)
        }
        assert {side for side in sides if max(map(max, side)) < 5} == expected
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "at most 1 rank off: 67%",
        "at most 2 ranks off: 83%",
    ]


def test_bands_must_be_distances():
    with pytest.raises(ValueError, match="bands must be an integer of at least 0, got -1"):
        inspection.OrdinalConfusionDisplay.from_predictions([0, 1], [0, 1], bands=[-1])


@pytest.mark.parametrize(("K", "bands"), [(2, [0]), (5, [0, 1, 2]), (21, [0, 1, 2]), (101, [0, 5, 10])])
def test_bands_and_numbers_suit_the_number_of_ranks(K, bands):
    display = inspection.OrdinalConfusionDisplay.from_predictions(np.arange(K), np.arange(K))
    assert display.bands == bands
    assert (display.text_ is not None) == (K <= 15)


@pytest.mark.parametrize("K", [2, 5, 62])
def test_exact_has_a_mark_of_its_own_around_the_cells_that_it_counts(K):
    display = inspection.OrdinalConfusionDisplay.from_predictions(np.arange(K), np.arange(K))
    exact, *others = display.lines_
    assert exact.get_label() == "exact: 100%"
    corners = exact.get_xydata()[~np.isnan(exact.get_xdata())]
    of_cells = {(k + i, k + j) for k in range(K) for i in (-0.5, 0.5) for j in (-0.5, 0.5)}
    assert {tuple(corner) for corner in corners.tolist()} == of_cells - {(-0.5, -0.5)}  # that of the axes
    seen = [(line.get_linestyle(), line.get_linewidth(), line._unscaled_dash_pattern) for line in display.lines_]
    assert exact.get_linestyle() != "None"
    assert all(other != seen[0] for other in seen[1:])
    assert len(others) == len(display.bands) - 1


@pytest.mark.parametrize(
    ("normalize", "label"),
    [(None, "number of images"), ("true", "share of the images of the true rank"), ("all", "share of all images")],
)
def test_the_colour_bar_says_whether_images_or_shares_are_shown(normalize, label):
    true, predicted = [0, 0, 0, 1, 2], [0, 0, 1, 1, 2]
    display = inspection.OrdinalConfusionDisplay.from_predictions(true, predicted, normalize=normalize)
    assert display.im_.colorbar.ax.get_ylabel() == label
    assert display.text_[2, 0].get_text() == "0"  # none at all, whatever is counted
    if normalize == "true":
        np.testing.assert_allclose(display.confusion_matrix.sum(axis=1), 1)
        assert display.text_[0, 0].get_text() == "0.67"
