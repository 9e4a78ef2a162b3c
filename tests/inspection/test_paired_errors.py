"""Errors of several classifiers on the same images, and intervals of their differences."""

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_absolute_error

from skl2rclip import inspection
from tests.support.displays import GRADES, drawn_texts

draw = inspection.PairedErrorsDisplay.from_predictions


def noisy(true, spread, seed):
    return np.clip(true + np.random.default_rng(seed).integers(-spread, spread + 1, len(true)), 0, 9)


@pytest.fixture(scope="module")
def three():
    true = np.random.default_rng(0).integers(0, 10, 150)
    return true, {"ours": noisy(true, 1, 1), "probe": noisy(true, 3, 2), "other": noisy(true, 1, 3)}


def test_errors_and_differences_are_scikit_learns(three):
    true, predicted = three
    display = draw(true, predicted)
    expected = np.array([mean_absolute_error(true, each) for each in predicted.values()])
    np.testing.assert_allclose(display.mae, expected)
    np.testing.assert_allclose(display.difference, expected[0] - expected[1:])
    np.testing.assert_allclose(display.points_[0].get_xdata(), expected)
    np.testing.assert_allclose(display.difference_points_[0].get_xdata(), display.difference)
    assert display.difference_interval[0, 1] < 0  # surely better
    assert display.difference_interval[1, 0] < 0 < display.difference_interval[1, 1]


def test_intervals_are_those_of_scipys_bootstrap(three):
    true, predicted = three
    display = draw(true, predicted, confidence_level=0.9, n_resamples=4000)
    errors = [np.abs(true - each) for each in predicted.values()]
    options = {"confidence_level": 0.9, "n_resamples": 4000, "method": "percentile", "random_state": 1}
    for interval, values in [
        (display.mae_interval[1], errors[1]),
        (display.difference_interval[0], errors[0] - errors[1]),
    ]:
        expected = stats.bootstrap((values,), np.mean, **options).confidence_interval
        np.testing.assert_allclose(interval, expected, atol=0.02)


def test_groups_are_drawn_whole():
    """Ten copies of an image tell no more than one, and images weigh the same in large and small groups."""
    true = np.random.default_rng(0).integers(0, 10, 30)
    ours, probe = noisy(true, 1, 1), noisy(true, 3, 2)
    once = draw(true, {"ours": ours, "probe": probe}, n_resamples=500)
    columns = [np.repeat(each, 10) for each in (true, ours, probe, np.arange(30))]
    copied = draw(columns[0], {"ours": columns[1], "probe": columns[2]}, groups=columns[3], n_resamples=500)
    np.testing.assert_allclose(copied.difference_interval, once.difference_interval)
    np.testing.assert_allclose(copied.mae_interval, once.mae_interval)
    apart = draw(columns[0], {"ours": columns[1], "probe": columns[2]}, n_resamples=500)
    assert np.ptp(apart.difference_interval) < 0.5 * np.ptp(copied.difference_interval)
    assert "300 images in 30 groups" in copied.ax_.get_title(loc="left")
    uneven = draw([0, 0, 0, 0], {"a": [1, 1, 1, 4], "b": [0, 0, 0, 0]}, groups=["x", "x", "x", "y"], ranks=range(5))
    assert uneven.mae[0] == 7 / 4
    np.testing.assert_allclose(uneven.mae_interval[0], [1, 4])


def test_equal_models_differ_by_nothing_and_the_same_seed_draws_the_same(three):
    true, predicted = three
    same = draw(true, {"one": predicted["ours"], "two": predicted["ours"]})
    np.testing.assert_array_equal(same.difference_interval, [[0, 0]])
    one, two = (draw(true, predicted, random_state=3, n_resamples=50) for _ in range(2))
    np.testing.assert_array_equal(one.mae_interval, two.mae_interval)


def test_a_fitted_classifier_lends_a_probe_its_order_of_words(make_classifier, shades):
    images, numbers = shades
    words = np.array(GRADES)[numbers]
    ours = make_classifier(prompt_epochs=1, ranks=GRADES).fit(images, words)
    dummy = DummyClassifier().fit(images, words)
    display = inspection.PairedErrorsDisplay.from_estimators({"dummy": dummy, "$ours_1$": ours}, images, words)
    place = {grade: k for k, grade in enumerate(GRADES)}
    for error, model in zip(display.mae, (dummy, ours), strict=True):
        pairs = zip(model.predict(images), words, strict=True)
        assert error == pytest.approx(np.mean([abs(place[one] - place[other]) for one, other in pairs]))
    said = dict(drawn_texts(display.figure_))
    assert said["$ours_1$"] is said["below 0: dummy is better"] is False
    assert "mean absolute error in ranks" in said


def test_what_is_wrong_is_said_before_anything_is_predicted(graded):
    class Silent(LogisticRegression):
        def predict(self, X):
            raise AssertionError("asked")

    _, X, words = graded
    silent = Silent(max_iter=500).fit(X, words)
    compare = inspection.PairedErrorsDisplay.from_estimators
    two = {"one": silent, "two": silent}
    for changed, said in [
        ({"estimators": {"one": silent}}, "estimators must be a dict of two or more"),
        ({"estimators": [silent, silent]}, "estimators must be a dict of two or more"),
        ({"y": None}, "y is None"),
        ({"y": words[1:]}, "y_true and X must have the same length, got 119 and 120"),
        ({"ranks": None}, "order is not known"),
        ({"ranks": GRADES[1:]}, "not among the ranks"),
        ({"groups": [1, 2]}, r"groups has the shape \(2,\)"),
        ({"confidence_level": 95}, r"confidence_level must be in \(0, 1\), got 95"),
        ({"n_resamples": 0}, "n_resamples must be"),
    ]:
        given = {"estimators": two, "X": X, "y": words, "ranks": GRADES, **changed}
        with pytest.raises(ValueError, match=said):
            compare(**given)
    with pytest.raises(ValueError, match="at least two groups to draw from, got 1"):
        draw([1, 2], {"one": [1, 2], "two": [2, 2]}, groups=["a", "a"])
    with pytest.raises(ValueError, match="at least two images to draw from, got 1"):
        draw([1], {"one": [1], "two": [2]})


def test_errors_are_counted_in_ranks_where_the_numbers_stand_for_words(named, model, shades):
    compare = inspection.PairedErrorsDisplay.from_estimators
    assert compare({"one": model, "two": named}, *shades).unit == "ranks"
    with_more = (shades[0][:20], np.append(shades[1][:19], 5))  # a label that has no word
    assert compare({"one": model, "two": named}, *with_more).unit == "ranks"
    numbers = compare({"one": model, "two": model}, *shades)
    assert numbers.unit == ""
    assert numbers.ax_.get_xlabel() == "mean absolute error"
    years = draw([20, 30], {"one": [20, 30], "two": [30, 30]}, unit="years")
    assert years.ax_.get_xlabel() == "mean absolute error in years"
    assert years.axes_[1].get_xlabel() == "difference on the same images in years"
