"""Which errors are shown, and in which order."""

from collections import Counter

import numpy as np

from skl2rclip import inspection
from tests.support.displays import GRADES, texts_of


def test_of_each_kind_of_error_the_surest_are_chosen_and_the_largest_come_first(looking, shades):
    images, numbers = shades
    wrong = (numbers * 3 + 1) % 5
    display = inspection.LargestErrorsDisplay.from_estimator(looking, list(images), wrong, n_images=6)
    predicted, probabilities = looking.predict(list(images)), looking.predict_proba(list(images))
    kinds = {}
    for row in sorted(range(40), key=lambda i: probabilities[i, wrong[i]]):
        if predicted[row] != wrong[row]:
            kinds.setdefault((wrong[row], predicted[row]), []).append(row)
    chosen = []
    while len(chosen) < 6:  # D'Hondt's way, one place after the other
        size = {
            kind: (abs(int(kind[0]) - int(kind[1])) / (1 + sum(row in rows for row in chosen)), abs(kind[0] - kind[1]))
            for kind, rows in kinds.items()
            if not set(rows) <= set(chosen)
        }
        best = max(size, key=size.get)
        chosen.append(next(row for row in kinds[best] if row not in chosen))
    assert sorted(display.indices.tolist()) == sorted(chosen)
    sizes = np.abs(display.errors)
    assert (np.diff(sizes) <= 0).all()
    np.testing.assert_array_equal(display.errors, predicted[display.indices] - wrong[display.indices])
    first = display.indices[0]
    error = predicted[first] - wrong[first]
    expected = [f"index {first}, off by {error:+d}", f"true {wrong[first]}", f"predicted {predicted[first]}"]
    assert texts_of(display)[0] == expected
    np.testing.assert_array_equal(display.images_[0].get_array(), images[first])


def test_a_frequent_kind_of_error_does_not_hide_the_others():
    true = np.repeat([0, 4, 1, 2], [30, 2, 5, 5])
    predicted = np.repeat([4, 0, 4, 3], [30, 2, 5, 5])
    images = list(np.zeros((len(true), 4, 4, 3), np.uint8))
    display = inspection.LargestErrorsDisplay.from_predictions(images, true, predicted, n_images=10)
    kinds = Counter(zip(display.y_true, display.y_pred, strict=True))
    assert kinds == {(0, 4): 4, (4, 0): 2, (1, 4): 3, (2, 3): 1}
    assert [abs(error) for error in display.errors] == [4] * 6 + [3] * 3 + [1]
    assert (display.y_true[:4], display.y_pred[:4]) == ([0, 4, 0, 4], [4, 0, 4, 0])  # in turns
    everything = inspection.LargestErrorsDisplay.from_predictions(images, true, predicted, n_images=100)
    assert sorted(everything.indices) == list(range(42))


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
