"""Panels, ticks and labels that all displays share."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skl2rclip import inspection
from skl2rclip.inspection._drawing import short
from tests.support.displays import GRADES


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
