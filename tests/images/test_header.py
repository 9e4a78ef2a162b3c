"""Which formats are opened, and up to which size."""

import io
import pickle
import re
import subprocess

import joblib
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile, features

import skl2rclip
from skl2rclip import CLIPImageEncoder
from skl2rclip._images.decoding import find_unreadable, open_image
from skl2rclip._images.files import stamped
from skl2rclip._images.formats import RefusedFormatError
from skl2rclip._images.header import open_header
from tests.support.helpers import truncate, write_images


def content_of(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "SGI", "PCX", "QOI"])
def test_images_are_opened_as_pillow_opens_them(kind):
    content = content_of(Image.new("RGB", (12, 10), "red"), kind)
    opened, expected = open_header(io.BytesIO(content)).image, Image.open(io.BytesIO(content))
    assert (opened.format, opened.mode, opened.size) == (expected.format, expected.mode, expected.size)
    assert opened.tobytes() == expected.tobytes()


def test_what_is_no_image_is_not_identified():
    for content in (b"", b"words", b"\x89PNG\r\n\x1a\n", bytes(1000)):
        with pytest.raises(Image.UnidentifiedImageError):
            open_header(io.BytesIO(content))


def test_what_another_program_would_draw_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "drawing.eps"
    Image.new("RGB", (8, 8)).save(path)
    calls = []
    monkeypatch.setattr(subprocess, "check_call", lambda *arguments, **options: calls.append(arguments))
    [reason] = find_unreadable(stamped([path])).values()
    assert reason == "EPS files are not read: they would be drawn by another program, Ghostscript"
    for image in (path, Image.open(path)):
        with pytest.raises(RefusedFormatError, match="EPS"):
            open_image(image)
    assert calls == []


@pytest.mark.parametrize("kind", ["ICO", "ICNS"])
def test_icons_are_refused_before_pillow_decodes_them(kind):
    with pytest.raises(RefusedFormatError, match=f"{kind} files are not read: an icon is decoded when it is opened"):
        open_header(io.BytesIO(content_of(Image.new("L", (64, 64)), kind)[:100]))


def test_pillows_limit_is_the_users(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("RGB", (12, 10)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns of more, and refuses twice as many
    with pytest.warns(Image.DecompressionBombWarning):
        assert open_image(path).size == (12, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    [reason] = find_unreadable(stamped([path])).values()
    assert "Image size (120 pixels) exceeds limit of 100 pixels" in reason
    assert "A higher PIL.Image.MAX_IMAGE_PIXELS allows it." in reason
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert find_unreadable(stamped([path])) == {}


def test_limits_reach_workers_by_their_initializer_and_never_by_a_pickle(tiny, tmp_path, monkeypatch):
    def prepare():
        """What docs/inputs-reference.md tells workers."""
        from PIL import Image, ImageFile

        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = True, None

    paths = write_images(tmp_path, 3)
    truncate(paths[1])
    encoder = CLIPImageEncoder(tiny, device="cpu").fit()
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert encoder.transform(paths).shape == (3, 24)
        pickled = pickle.dumps(encoder)
    # they import nothing of torch for this
    with joblib.parallel_config("loky", n_jobs=2, initializer=prepare):
        [bad] = joblib.Parallel(timeout=120)([joblib.delayed(skl2rclip.find_unreadable)(paths)])
    assert bad == {}
    pickle.loads(pickled)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert list(skl2rclip.find_unreadable(paths)) == [1]


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
    path = tmp_path / "image"
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


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_what_pillow_has_the_decoder_of_is_damaged():
    content = content_of(Image.new("RGB", (64, 64)), "AVIF")
    assert skl2rclip.find_unreadable([content[:40]]) == {0: "a damaged AVIF"}
