"""Which formats are opened, and up to which size."""

import io
import re
import struct
import subprocess
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

import skl2rclip
from skl2rclip._images.decoding import find_unreadable, open_image, stamped
from skl2rclip._images.formats import RefusedFormatError
from skl2rclip._images.header import opened_picture


def content_of(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "SGI", "PCX", "ICO", "QOI"]
)
def test_pictures_are_opened_as_pillow_opens_them(kind):
    content = content_of(Image.new("RGB", (12, 10), "red"), kind)
    opened, expected = opened_picture(io.BytesIO(content)), Image.open(io.BytesIO(content))
    assert (opened.format, opened.mode, opened.size) == (expected.format, expected.mode, expected.size)
    assert opened.tobytes() == expected.tobytes()


def test_what_is_no_picture_is_not_identified():
    for content in (b"", b"words", b"\x89PNG\r\n\x1a\n", bytes(1000)):
        with pytest.raises(Image.UnidentifiedImageError):
            opened_picture(io.BytesIO(content))


def test_what_another_program_would_draw_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "drawing.eps"
    Image.new("RGB", (8, 8)).save(path)
    calls = []
    monkeypatch.setattr(subprocess, "check_call", lambda *arguments, **options: calls.append(arguments))
    [reason] = find_unreadable(stamped([path])).values()
    assert reason == "EPS files are not read: it would be drawn by another program, Ghostscript"
    for image in (path, Image.open(path)):
        with pytest.raises(RefusedFormatError, match="EPS"):
            open_image(image)
    assert calls == []


def test_a_windows_icon_with_a_large_picture_in_it_is_refused_before_it_is_decoded():
    inner = content_of(Image.new("L", (2000, 2000)), "PNG")
    content = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    with pytest.raises(RefusedFormatError, match="a picture of 2000 x 2000 pixels in it"):
        opened_picture(io.BytesIO(content))


def test_pillows_limit_is_the_users_and_nobody_is_warned_below_it(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    Image.new("RGB", (12, 10)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns of more, and refuses twice as many
        assert open_image(path).size == (12, 10)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
        [reason] = find_unreadable(stamped([path])).values()
        assert "it has 12 x 10 pixels, more than the 100 that Pillow lets through" in reason
        assert "PIL.Image.MAX_IMAGE_PIXELS" in reason
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert find_unreadable(stamped([path])) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"HEIC, .*pillow-heif and call pillow_heif.register_heif_opener\(\)"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC, .*pillow-heif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF, .*newer Pillow, or pillow-avif-plugin"),
        (b"\xff\x0a\xfa\x1f\x01\x91\x08\x06", "JPEG XL, .*pillow-jxl-plugin and import pillow_jxl"),
        (b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a\0\0\0\x14ftypjxl ", "JPEG XL, .*also in each worker process"),
    ],
)
def test_formats_of_plugins_name_the_plugin(content, message, tmp_path, monkeypatch):
    Image.init()
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in ("AVIF", "HEIF", "JXL")])
    path = tmp_path / "picture"
    path.write_bytes(content + bytes(100))
    for given in (path, path.read_bytes()):
        [reason] = find_unreadable(stamped([given])).values()
        assert re.search(message, reason)


def test_a_registered_plugin_is_used(tmp_path, monkeypatch):
    class Plain(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode, self.tile = (2, 2), "L", [("raw", (0, 0, 2, 2), 16, ("L", 0, 1))]

    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    monkeypatch.setitem(Image.OPEN, "HEIF", (Plain, lambda prefix: prefix[4:12] == b"ftypheic"))
    content = b"\0\0\0\x18ftypheic\0\0\0\0" + bytes([9] * 4)
    assert np.asarray(open_image(content)).tolist() == [[[9, 9, 9]] * 2] * 2


def test_a_tiff_that_pillow_cannot_read_is_named_with_what_reads_it():
    levels = np.linspace(0, 1, 48).reshape(6, 8)
    content = io.BytesIO()
    tifffile.imwrite(content, levels)
    assert "give the array of tifffile.imread(name)" in skl2rclip.find_unreadable([content.getvalue()])[0]
    assert skl2rclip.find_unreadable([tifffile.imread(io.BytesIO(content.getvalue()))]) == {}
