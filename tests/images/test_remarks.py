"""What is said of images that are read all the same, once for all of a kind; Pillow's own warnings are plain."""

import io
import logging
import warnings

import numpy as np
import pytest
from PIL import Image

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, find_unreadable
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._images import decoding
from skl2rclip._images.decoding import find_damaged, open_image
from skl2rclip._images.decoding import find_unreadable as unreadable_headers
from skl2rclip._images.files import stamped
from skl2rclip._images.remarks import warn_of
from skl2rclip.inspection._thumbnails import thumbnails_of
from tests.support.helpers import embedded, in_threads, shown_warnings

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
CLEAR = "transparent throughout, and taken without transparency"
DAMAGED = "its colour profile is damaged and is ignored"


def pil_image(shade=0):
    return Image.fromarray(PIXELS ^ np.uint8(shade))


def write_clear(path, shade=0):
    """An image that is transparent throughout."""
    image = pil_image(shade)
    image.putalpha(0)
    image.save(path)
    return path


def corrupt(shade=0):
    """A JPEG whose EXIF says that it begins behind its end."""
    file = io.BytesIO()
    pil_image(shade).save(file, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    return file.getvalue()


def test_the_image_is_named_and_all_of_a_kind_are_counted(tmp_path):
    paths = [write_clear(tmp_path / f"{i}.png", i) for i in range(5)]
    pil_image().save(paths[0])
    for i in (5, 6):
        paths.append(tmp_path / f"{i}.png")
        pil_image(i).save(paths[i], icc_profile=bytes(500))
    for folder in (None, tmp_path / "cache"):
        assert shown_warnings(embedded, paths, folder) == [
            (UserWarning, f"X[1] ({paths[1]}) and 3 others: {CLEAR}"),
            (UserWarning, f"X[5] ({paths[5]}) and 1 other: {DAMAGED}"),
        ]
    assert shown_warnings(embedded, paths, tmp_path / "cache") == []  # known, and not looked at


def test_numbers_do_not_make_another_kind():
    [(_, message)] = shown_warnings(warn_of, {7: ["12 bits"], 2: ["10 bits"]}, {2: "a.png"}, {2: [2], 7: [7]})
    assert message == "X[2] (a.png) and 1 other: 10 bits"


def test_an_image_given_several_times_is_decoded_once_and_counts_every_time(tmp_path, caplog):
    path = write_clear(tmp_path / "a.png")
    caplog.set_level(logging.INFO, "skl2rclip")
    [(_, message)] = shown_warnings(embedded, [pil_image(), path, pil_image(2), path, str(path)], None)
    assert message == f"X[1] ({path}) and 2 others: {CLEAR}"
    assert "X[1], X[3], X[4]" in caplog.text


def test_files_of_the_same_content_are_all_counted(tmp_path):
    paths = [write_clear(tmp_path / f"{i}.png") for i in range(5)]
    for folder in (None, tmp_path / "cache"):
        [(_, message)] = shown_warnings(embedded, paths, folder)
        assert message == f"X[0] ({paths[0]}) and 4 others: {CLEAR}"


def test_an_encoders_warning_points_to_the_line_of_the_call(tmp_path):
    path = write_clear(tmp_path / "a.png", 3)
    encoder = CLIPImageEncoder("skl2rclip-tiny")
    for method in (encoder.fit_transform, encoder.transform):
        forget_embeddings()
        with pytest.warns(UserWarning, match=CLEAR) as shown:
            method([path])
        assert [each.filename for each in shown] == [__file__]


def test_without_a_file_the_place_alone_is_named(tmp_path):
    content = write_clear(tmp_path / "a.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert shown_warnings(embedded, [pil_image(), content, image], None) == [
            (UserWarning, f"X[1] and 1 other: {CLEAR}"),
        ]


def test_the_line_that_is_named_is_the_users(tmp_path):
    with pytest.warns(UserWarning, match=CLEAR) as shown:
        find_unreadable([write_clear(tmp_path / "a.png")])
    assert [each.filename for each in shown] == [__file__]


def test_pillows_warnings_are_shown_as_pillow_gives_them():
    with pytest.warns(UserWarning, match=r"^Corrupt EXIF data") as shown:
        np.testing.assert_array_equal(embedded([corrupt()], None), embedded([corrupt()], None))
    assert all("PIL" in each.filename for each in shown)


def test_nothing_of_the_process_is_replaced_while_images_are_decoded(tmp_path, monkeypatch):
    plain, seen, read = (warnings.warn, warnings.showwarning), [], decoding.read_image

    def watched(*arguments):
        seen.append((warnings.warn, warnings.showwarning) == plain)
        return read(*arguments)

    monkeypatch.setattr(decoding, "read_image", watched)
    embedded([write_clear(tmp_path / "a.png"), corrupt()], None)
    assert seen == [True, True]


def test_threads_that_catch_warnings_do_not_disturb_each_other(tmp_path):
    path, filters = write_clear(tmp_path / "a.png"), warnings.filters[:]
    expected = np.asarray(open_image(path))

    def catch():
        for _ in range(300):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")

    def decode():
        for _ in range(100):
            np.testing.assert_array_equal(np.asarray(open_image(path)), expected)

    in_threads(catch, decode, decode)
    assert warnings.filters == filters


def test_headers_are_looked_at_in_silence_and_find_unreadable_says_what_it_saw(tmp_path):
    paths = [write_clear(tmp_path / "a.png"), tmp_path / "missing.png"]
    images = stamped(paths)
    assert shown_warnings(unreadable_headers, images) == shown_warnings(find_damaged, images, range(2)) == []
    expected = [(UserWarning, f"X[0] ({paths[0]}): {CLEAR}")]
    assert shown_warnings(find_unreadable, paths) == shown_warnings(thumbnails_of, paths, [1, 0], 8) == expected


def test_warnings_name_x_also_where_images_are_left_out(tiny, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        pil_image(i).save(path)
    write_clear(paths[4], 4)
    paths[1].write_bytes(paths[1].read_bytes()[:-300])
    model = L2RCLIPClassifier(
        tiny, ranks=[0, 1], on_bad_image="skip", image_epochs=1, prompt_epochs=1, device="cpu", embedding_cache=None
    )
    shown = [text for _, text in shown_warnings(model.fit, paths, [0, 1, 0, 1, 0, 1])]
    assert [text for text in shown if "transparent" in text] == [f"X[4] ({paths[4]}): {CLEAR}"]
    assert sum("leaves images out" in text for text in shown) == 1
