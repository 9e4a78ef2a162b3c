"""Which formats are opened, and up to which size."""

import io
import struct
import subprocess
import warnings

import pytest
from PIL import Image

from skl2rclip._images import find_unreadable, open_image, stamped
from skl2rclip._picture_formats import RefusedFormatError, opened_picture


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
