"""Which images are decoded, and how."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skl2rclip import inspection
from tests.support.displays import SHEETS, brightness


def test_images_stand_upright_in_their_shape(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    display = inspection.SortedPicturesDisplay.from_predictions([tmp_path / "turned.jpg"], [1])
    pixels = display.thumbnails[0]
    assert pixels.shape == (40, 20, 3)
    assert pixels[:10].mean() > 200 > 50 > pixels[-10:].mean()
    left, right, bottom, top = display.images_[0].get_extent()
    assert abs(bottom - top) == pytest.approx(2 * (right - left))


@pytest.mark.parametrize("display", [*SHEETS, inspection.RankDistributionDisplay])
def test_stored_embeddings_are_refused_unless_images_come_beside_them(display, shades):
    images, labels = shades
    X = brightness(images)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels)
    name = display.__name__
    for table in (X, pd.DataFrame(X, columns=["mean", "deviation"])):
        with pytest.raises(ValueError, match=rf"stored embeddings.*\(40, 2\).* {name} .*images=\[\.\.\.\]"):
            display.from_estimator(classifier, table, labels)
    display.from_estimator(classifier, X, labels, images=images)
    with pytest.raises(ValueError, match="images must hold one for each of the 40 rows of X, got 3"):
        display.from_estimator(classifier, X, labels, images=images[:3])


@pytest.mark.parametrize("sheet", SHEETS)
def test_containers_of_images_are_taken_as_the_estimators_take_them(sheet, model, shade_paths, shades):
    _, labels = shades
    wrong = (labels + 2) % 5
    expected = sheet.from_estimator(model, shade_paths, wrong, n_images=4)
    for X in (pd.Series(shade_paths), pd.DataFrame({"path": shade_paths}), np.array(shade_paths), iter(shade_paths)):
        display = sheet.from_estimator(model, X, wrong, n_images=4)
        assert display.indices.tolist() == expected.indices.tolist()
        np.testing.assert_array_equal(display.thumbnails[0], expected.thumbnails[0])
