"""Sets of copies, which come first, and what is said of them."""

from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from skl2rclip import inspection
from tests.support.displays import copies_of

draw = inspection.DuplicateImagesDisplay.from_frame
IMAGES = [np.full((12, 20, 3), 9 * row, np.uint8) for row in range(12)]


def captions(display, number):
    return [text.get_text().splitlines() for text in display.texts_[number]]


def headings(display):
    return [text.get_text() for text in display.headings_]


def test_each_set_is_a_row_of_its_images_with_labels_and_groups():
    copies = copies_of([3, 7], [1, 8, 9])
    copies.loc[2:, ["kind", "distance"]] = "near", 0.04
    display = draw(copies, IMAGES, [0] * 12, [0, 1, 2, 3, 4, 5, 6, 3, 1, 1, 0, 0])
    assert [rows.tolist() for rows in display.indices] == [[3, 7], [1, 8, 9]]
    assert captions(display, 0)[1] == ["index 7, exact", "label 0", "group 3"]
    assert captions(display, 1)[0] == ["index 1, near, 0.04 apart", "label 0", "group 1"]
    assert headings(display) == ["set 0: 2 images", "set 1: 3 images"]
    for number, rows in enumerate(display.indices):
        for row, image in zip(rows, display.images_[number], strict=True):
            np.testing.assert_array_equal(image.get_array(), IMAGES[row])
    assert display.ax_.get_title(loc="left") == "Copies: 2 of 2 sets, of 5 among 12 images"


def test_sets_that_contradict_or_cross_groups_come_first_and_stand_out():
    copies = copies_of([0, 1], [2, 3], [4, 5])
    labels, groups = list("aaabcd") + ["a"] * 6, list("ppqqrs") + ["p"] * 6
    display = draw(copies, IMAGES, labels, groups)
    assert headings(display) == [
        "set 2: 2 images, labels contradict, crosses groups",
        "set 1: 2 images, labels contradict",
        "set 0: 2 images",
    ]
    assert display.is_doubtful == [True, True, False]
    colours = [text.get_color() for text in display.headings_]
    assert colours[0] == colours[1] != colours[2]
    assert headings(draw(copies, IMAGES, labels, groups, n_sets=1)) == headings(display)[:1]


def test_a_frame_of_polars_is_drawn_too():
    polars = pytest.importorskip("polars")
    display = draw(polars.DataFrame(copies_of([3, 7], [1, 8]).to_dict("list")), IMAGES)
    assert headings(display) == ["set 0: 2 images", "set 1: 2 images"]


def test_what_the_frame_knows_is_said_without_labels():
    copies = copies_of([0, 1], [2, 3]).assign(contradicts=[False, False, True, True])
    assert headings(draw(copies, IMAGES)) == ["set 1: 2 images, labels contradict", "set 0: 2 images"]


def test_of_large_sets_images_with_labels_of_their_own_are_shown_and_the_rest_is_counted():
    labels = [0] * 11 + [1]
    display = draw(copies_of(range(12)), IMAGES, labels, n_images=3)
    assert display.indices[0].tolist() == [0, 11, 1]
    assert headings(display) == ["set 0: 12 images, labels contradict, and 9 more"]


def test_no_other_images_are_decoded_and_what_cannot_be_read_is_a_blank_tile(tmp_path):
    Image.new("RGB", (10, 20), "red").save(tmp_path / "good.png")
    paths = [tmp_path / name for name in ("absent.png", "good.png", "gone.png")]
    display = draw(copies_of([1, 2]), paths)
    assert [image is None for image in display.images_[0]] == [False, True]
    assert captions(display, 0)[0] == ["good.png", "index 1, exact"]
    assert any("gone.png" in text.get_text() for text in display.ax_.texts)


def test_words_stand_for_labels_and_without_copies_the_title_says_so():
    display = draw(copies_of([0, 1]), IMAGES, [0, 1] * 6, display_labels={0: "bad", 1: "good"})
    assert [lines[1] for lines in captions(display, 0)] == ["label bad", "label good"]
    nothing = draw(copies_of(), IMAGES, [0] * 12)
    assert nothing.ax_.get_title(loc="left") == "Copies: 0 of 0 sets, of 0 among 12 images"


@pytest.mark.parametrize("size", [None, (4, 3)])
def test_tiles_headings_and_captions_do_not_overlap(size, tmp_path):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path, shape in zip(paths, [(30, 20), (20, 30), (9, 40), (40, 9)] * 3, strict=True):
        Image.new("RGB", shape, "red").save(path)
    display = draw(copies_of([0, 1, 2], [3, 7], [5, 6, 8]), paths, ["a long word for a label"] * 12, range(12), ax=ax)
    display.figure_.canvas.draw()
    artists = [*chain(*display.images_, *display.texts_), *display.headings_]
    boxes = [artist.get_window_extent() for artist in artists]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        (([0, 1], IMAGES), {}, TypeError, "copies must be a frame .* got list without the column 'set'"),
        ((copies_of([0, 99]), IMAGES), {}, ValueError, "indices from 0 to 99, and X holds 12 images"),
        ((copies_of([0, 1]).assign(index=[0.5, 1]), IMAGES), {}, ValueError, "a column 'index' of float64"),
        ((copies_of([0, 1]), IMAGES, [0]), {}, ValueError, "12 images in X and 1"),
        ((copies_of([0, 1]), IMAGES, None, [0]), {}, ValueError, "groups has the shape"),
        ((copies_of([0, 1]), np.zeros((12, 9))), {}, ValueError, "the X that find_duplicates was given"),
        ((copies_of([0, 1]), IMAGES), {"n_sets": 0}, ValueError, "n_sets must be"),
        ((copies_of([0, 1]), IMAGES), {"n_images": 0}, ValueError, "n_images must be"),
    ],
)
def test_what_cannot_be_drawn_is_named(arguments, options, error, said):
    with pytest.raises(error, match=said):
        draw(*arguments, **options)
