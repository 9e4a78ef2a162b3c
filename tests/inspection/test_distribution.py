"""One image and its distribution."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skl2rclip import inspection
from skl2rclip.errors import UnreadableImagesError
from tests.support.displays import brightness


def test_the_distribution_of_one_image_has_its_mean_median_and_interval(model, shades):
    images, numbers = shades
    display = inspection.RankDistributionDisplay.from_estimator(model, images, numbers, index=7, coverage=0.9)
    expected = model.predict_proba(images)[7]
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], expected, atol=1e-6)
    assert display.mean == pytest.approx(model.predict_expectation(images)[7], abs=1e-5)
    assert display.interval.tolist() == model.predict_interval(images, coverage=0.9)[7].tolist()
    assert display.median == next(k for k in range(5) if expected[: k + 1].sum() >= 0.5)
    assert display.mean_line_.get_xdata()[0] == pytest.approx(display.mean)
    assert display.interval_line_.get_xdata().tolist() == display.interval.tolist()
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), images[7])
    assert display.axes_[0].get_title(loc="left").splitlines()[:2] == ["index 7", f"true {numbers[7]}"]


def test_only_that_image_is_predicted(shades):
    class Counting(LogisticRegression):
        def predict_proba(self, X):
            asked.append(len(X))
            return super().predict_proba(X)

    asked = []
    looking = make_pipeline(FunctionTransformer(brightness), Counting(max_iter=500)).fit(list(shades[0]), shades[1])
    inspection.RankDistributionDisplay.from_estimator(looking, iter(shades[0]), index=39)
    assert asked == [1]
    with pytest.raises(ValueError, match=r"index must be in \[0, 39\], got 40"):
        inspection.RankDistributionDisplay.from_estimator(looking, shades[0], index=40)


def test_the_mean_stands_between_ranks_that_are_unevenly_spaced():
    display = inspection.RankDistributionDisplay([0.0, 0.5, 0.5], ranks=[1, 10, 100]).plot()
    assert display.mean == 55
    assert display.mean_line_.get_xdata()[0] == pytest.approx(1.5)
    descending = inspection.RankDistributionDisplay([0.5, 0.5, 0.0], ranks=[100, 10, 1]).plot()
    assert descending.mean_line_.get_xdata()[0] == pytest.approx(0.5)


def test_the_image_that_cannot_be_read_is_named_as_in_x(model, shades, tmp_path):
    X = [*shades[0][:3], tmp_path / "absent.png"]
    with pytest.raises(UnreadableImagesError, match=r"X\[3\] \(.*absent.png\): no such file") as caught:
        inspection.RankDistributionDisplay.from_estimator(model, X, index=3)
    assert caught.value.failures == {3: "no such file"}
    with pytest.raises(ValueError, match="X is empty"):
        inspection.RankDistributionDisplay.from_estimator(model, [])
