"""Which images are shown, and in which order."""

import numpy as np
from PIL import Image

from skl2rclip import inspection
from tests.support.displays import texts_of


def test_a_set_is_sorted_by_rank_and_then_by_expectation(looking, shades):
    images = list(shades[0])
    display = inspection.SortedPicturesDisplay.from_estimator(looking, images)
    predicted, expectation = looking.predict(images), looking.predict_proba(images) @ np.arange(5)
    expected = sorted(range(40), key=lambda i: (predicted[i], expectation[i]))
    assert display.indices.tolist() == expected
    assert display.y_pred == predicted[expected].tolist()
    few = inspection.SortedPicturesDisplay.from_estimator(looking, images, shades[1], n_images=3)
    assert few.indices.tolist() == [expected[0], expected[20], expected[-1]]
    assert texts_of(few)[0][-1] == f"true {shades[1][expected[0]]}"


def test_ten_thousand_images_make_one_sheet_for_which_few_are_opened(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (300, 200), "red").save(path)
    paths = [str(tmp_path / "absent.png")] * 10_000
    paths[0] = paths[-1] = str(path)
    labels = np.sort(np.random.default_rng(0).integers(0, 5, 10_000))
    display = inspection.SortedPicturesDisplay.from_predictions(paths, labels, n_images=10)
    assert len(display.texts_) == 10
    assert [thumbnail is not None for thumbnail in display.thumbnails] == [True, *[False] * 8, True]
    assert max(display.thumbnails[0].shape) <= 160
