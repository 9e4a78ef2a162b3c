"""Tiles and captions, and what cannot be read."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from skl2rclip import inspection
from tests.support.displays import SHEETS


def test_what_cannot_be_read_is_a_named_blank_tile(tmp_path):
    good = tmp_path / "good.png"
    Image.new("RGB", (10, 20), "red").save(good)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(good.read_bytes()[:40])
    (tmp_path / "folder.png").mkdir()
    paths = [good, damaged, tmp_path / "folder.png", tmp_path / "absent.png"]
    display = inspection.LargestErrorsDisplay.from_predictions(paths, [0, 0, 0, 0], [4, 3, 2, 1])
    assert [image is None for image in display.images_] == [False, True, True, True]
    assert display.problems[0] is None
    said = [text.get_text() for text in display.ax_.texts]
    assert any("damaged.png" in text for text in said)
    assert any("folder.png" in text and "folder, not" in text.replace("\n", " ") for text in said)
    assert any("absent.png" in text and "no such file" in text.replace("\n", " ") for text in said)


@pytest.mark.parametrize("sheet", SHEETS)
def test_images_that_the_classifier_cannot_read_come_last_and_are_told(sheet, model, shade_paths, shades, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    paths, labels = [str(damaged), *shade_paths[:9]], (shades[1][:10] + 1) % 5
    display = sheet.from_estimator(model, paths, labels)
    assert display.indices[-1] == 0
    assert display.y_pred[-1] is None
    assert display.images_[-1] is None
    assert "1 cannot be read" in display.ax_.get_title(loc="left")
    expected = dict(enumerate(model.predict(paths[1:]).tolist(), start=1))
    assert [expected[index] for index in display.indices[:-1].tolist()] == display.y_pred[:-1]


@pytest.mark.parametrize("size", [None, (4, 3)])
def test_tiles_do_not_overlap_and_captions_stay_in_their_columns(size):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    images = [np.full((30, 40), 9 * i, np.uint8) for i in range(20)]
    words = ["moderate non-proliferative diabetic retinopathy", "severe non-proliferative diabetic retinopathy"]
    y = np.array(words)[np.arange(20) % 2]
    display = inspection.SortedPicturesDisplay.from_predictions(images, y, y[::-1], ranks=words, n_images=20, ax=ax)
    display.figure_.canvas.draw()
    artists = [*display.images_, *display.texts_]
    boxes = [artist.get_window_extent() for artist in artists]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert not one.overlaps(other)


@pytest.mark.parametrize(("shape", "share"), [((10, 40), 0.25), ((40, 40), 1.0), ((40, 20), 1.0)])
def test_rows_of_a_contact_sheet_are_as_high_as_their_images(shape, share):
    images = [np.zeros((*shape, 3), np.uint8)] * 6
    display = inspection.LargestErrorsDisplay.from_predictions(images, [0, 1] * 3, [1, 0] * 3).plot(n_columns=3)
    tops = sorted({round(min(image.get_extent()[2:]), 6) for image in display.images_})
    lines = 0.1 * max(text.get_text().count("\n") + 1 for text in display.texts_)
    assert np.diff(tops) == pytest.approx([share + lines + 0.12])


@pytest.mark.parametrize("sheet", SHEETS)
def test_captions_name_files_and_ranks(sheet, tmp_path):
    paths = [tmp_path / f"{number}$leaf_{number}$.png" for number in range(3)]
    for path in paths:
        Image.new("RGB", (10, 20), "red").save(path)
    columns = {"y_true": ["low", "mid", "high"], "y_pred": ["mid", "high", "low"]}
    display = sheet.from_predictions(paths, **columns, ranks=["low", "mid", "high"])
    for index, text in zip(display.indices.tolist(), display.texts_, strict=True):
        lines = text.get_text().splitlines()
        assert f"{index}$leaf_{index}$.png" in lines
        assert f"true {columns['y_true'][index]}" in lines
        assert f"predicted {columns['y_pred'][index]}" in lines
        assert not text.get_parse_math()
