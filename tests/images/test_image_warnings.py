"""What Pillow warns of names the picture, once for all of a kind, and what the user has set for warnings holds."""

import io
import logging
import struct
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from skl2rclip import L2RCLIPClassifier, find_unreadable
from skl2rclip._images.decoding import find_damaged, open_image, stamped
from skl2rclip._images.image_warnings import PictureWarnings
from skl2rclip.inspection._thumbnails import thumbnails_of
from tests.support.helpers import embedded, in_threads, shown_warnings

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
CORRUPT = "Corrupt EXIF data. Expecting to read 2 bytes but only got 0."


def picture(shade=0):
    return Image.fromarray(PIXELS ^ np.uint8(shade))


def write_corrupt(path, shade=0):
    """A JPEG whose EXIF says that it begins behind its end."""
    picture(shade).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    return path


def write_long_tag(path, shade=0):
    """A TIFF with a description that is longer than the file."""
    file = io.BytesIO()
    picture(shade).save(file, "TIFF", tiffinfo={270: "a description of some length"})
    content = bytearray(file.getvalue())
    place = content.index(struct.pack("<HH", 270, 2)) + 4
    content[place : place + 4] = struct.pack("<I", 10_000 + shade)
    path.write_bytes(content)
    return path


def test_the_picture_is_named_and_all_of_a_kind_are_counted(tmp_path):
    paths = [write_corrupt(tmp_path / f"{i}.jpg", i) for i in range(5)]
    paths[0] = tmp_path / "0.png"
    picture().save(paths[0])
    paths += [write_long_tag(tmp_path / "5.tif", 5), write_long_tag(tmp_path / "6.tif", 6)]
    for folder in (None, tmp_path / "cache"):
        shown = shown_warnings(embedded, paths, folder)
        assert shown[0] == (UserWarning, f"X[1] ({paths[1]}) and 3 others: {CORRUPT}")
        assert shown[1][1].startswith(f"X[5] ({paths[5]}) and 1 other: ")
        assert len(shown) == 2
    assert shown_warnings(embedded, paths, tmp_path / "cache") == []  # known, and not looked at


def test_a_picture_given_several_times_is_decoded_once_and_counts_every_time(tmp_path, caplog):
    path = write_corrupt(tmp_path / "a.jpg")
    caplog.set_level(logging.INFO, "skl2rclip")
    [(_, message)] = shown_warnings(embedded, [picture(), path, picture(2), path, str(path)], None)
    assert message == f"X[1] ({path}) and 2 others: {CORRUPT}"
    assert "X[1], X[3], X[4]" in caplog.text


def test_without_a_file_the_place_alone_is_named(tmp_path):
    content = write_corrupt(tmp_path / "a.jpg").read_bytes()
    with Image.open(tmp_path / "a.jpg") as image:
        assert shown_warnings(embedded, [picture(), content, image], None) == [
            (UserWarning, f"X[1] and 1 other: {CORRUPT}"),
        ]


def test_the_users_filters_hold_for_pillows_own_words(tmp_path):
    images = [picture(), write_corrupt(tmp_path / "a.jpg"), Image.new("RGBA", (8, 8), (1, 2, 3, 0))]
    transparent = (UserWarning, "X[2]: transparent throughout, and taken without transparency")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        embedded(images, None)
    assert [(each.category, str(each.message)) for each in shown] == [transparent]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", module=r"PIL\.")
        embedded(images, None)
    assert [(each.category, str(each.message)) for each in shown] == [transparent]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Corrupt EXIF data")
        with pytest.raises(UserWarning, match=r"^X\[1\] .*a\.jpg\): Corrupt EXIF data"):
            embedded(images, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        embedded(images, None)


def test_the_line_that_is_named_is_the_users(tmp_path):
    path = write_corrupt(tmp_path / "a.jpg")
    with pytest.warns(UserWarning, match="Corrupt") as shown:
        find_unreadable([path])
    assert [each.filename for each in shown] == [__file__]


def test_other_threads_are_warned_as_before_while_pictures_are_decoded(tmp_path):
    plain, book = warnings.warn, PictureWarnings()
    begun, over = threading.Event(), threading.Event()

    def decode():
        with book.of(3):
            begun.set()
            assert over.wait(30)
            open_image(write_corrupt(tmp_path / "a.jpg"))

    def go_on():
        assert begun.wait(30)
        assert warnings.warn != plain
        warnings.warn("of another thread", RuntimeWarning, stacklevel=1)
        over.set()

    with pytest.warns(RuntimeWarning, match="of another thread") as shown:
        in_threads(decode, go_on)
    assert [each.filename for each in shown] == [__file__]
    assert warnings.warn == plain
    assert book.rows() == {3}
    assert shown_warnings(book.warn, {3: "a.jpg"}) == [(UserWarning, f"X[3] (a.jpg): {CORRUPT}")]


def test_what_somebody_else_has_put_in_place_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(warnings, "warn", warnings.warn)
    with PictureWarnings().of(0):
        other = warnings.warn = lambda *arguments, **options: None
    assert warnings.warn is other


def test_eight_threads_keep_their_rows_apart(tmp_path):
    path, book = write_corrupt(tmp_path / "a.jpg"), PictureWarnings()

    def work(row):
        for _ in range(20):
            with book.of(row):
                open_image(path if row % 2 else picture())

    in_threads(*[lambda row=row: work(row) for row in range(8)])
    assert book.rows() == {1, 3, 5, 7}


def test_headers_are_looked_at_in_silence_and_find_unreadable_says_what_it_saw(tmp_path):
    paths = [write_long_tag(tmp_path / "a.tif"), write_corrupt(tmp_path / "b.jpg"), tmp_path / "missing.png"]
    images = stamped(paths)
    assert shown_warnings(find_damaged, images, range(3)) == []
    kinds = {text.partition(": ")[0] for _, text in shown_warnings(find_unreadable, paths)}
    assert kinds == {f"X[0] ({paths[0]})", f"X[1] ({paths[1]})"}
    assert shown_warnings(thumbnails_of, paths, [1, 0], 8)[0][1].startswith(f"X[1] ({paths[1]}): Corrupt EXIF")


def test_warnings_name_x_also_where_pictures_are_left_out(tiny, tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(paths):
        picture(i).save(path)
    write_corrupt(paths[4], 4)
    paths[1].write_bytes(paths[1].read_bytes()[:-300])
    model = L2RCLIPClassifier(
        tiny, ranks=[0, 1], on_bad_image="skip", image_epochs=1, prompt_epochs=1, device="cpu", embedding_cache=None
    )
    shown = [text for _, text in shown_warnings(model.fit, paths, [0, 1, 0, 1, 0, 1])]
    assert [text for text in shown if "EXIF" in text] == [f"X[4] ({paths[4]}): {CORRUPT}"]
    assert sum("leaves images out" in text for text in shown) == 1
