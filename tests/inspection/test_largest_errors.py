"""Which errors are shown, and in which order."""

import numpy as np

from skl2rclip import inspection
from tests.support.displays import GRADES, texts_of


def test_the_largest_errors_come_first_and_of_equal_ones_the_surest(looking, shades):
    images, numbers = shades
    wrong = (numbers * 3 + 1) % 5
    display = inspection.LargestErrorsDisplay.from_estimator(looking, list(images), wrong, n_images=6)
    predicted, probabilities = looking.predict(list(images)), looking.predict_proba(list(images))
    rows = [i for i in range(40) if predicted[i] != wrong[i]]
    rows.sort(key=lambda i: (-abs(int(predicted[i]) - int(wrong[i])), probabilities[i, wrong[i]]))
    assert display.indices.tolist() == rows[:6]
    np.testing.assert_array_equal(display.errors, predicted[rows[:6]] - wrong[rows[:6]])
    first = rows[0]
    error = predicted[first] - wrong[first]
    expected = [f"index {first}, {error:+d}", f"true {wrong[first]}", f"predicted {predicted[first]}"]
    assert texts_of(display)[0] == expected
    np.testing.assert_array_equal(display.images_[0].get_array(), images[first])


def test_images_without_error_are_not_shown():
    images = [np.full((8, 8), 50 * i, np.uint8) for i in range(3)]
    draw = inspection.LargestErrorsDisplay.from_predictions
    display = draw(images, ["bad", "fair", "good"], ["bad", "good", "good"], ranks=GRADES)
    assert display.indices.tolist() == [1]
    assert display.errors.tolist() == [1]
    assert "1 of 3 images" in display.ax_.get_title(loc="left")
    perfect = draw(images, [0, 1, 2], [0, 1, 2])
    assert perfect.texts_ == []
    assert "No errors" in perfect.ax_.get_title(loc="left")
