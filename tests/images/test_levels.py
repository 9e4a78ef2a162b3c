"""Pictures of more than eight bits, inverted, in separate planes, with thumbnails, and with transparent colours."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from skl2rclip._images.decoding import Decoder, find_unreadable, image_threads, open_image, stamped
from skl2rclip._images.memory import orientation_of
from skl2rclip._images.preprocessing import Preprocessing
from tests.support.small_images import transparent_png

SIDE = 32
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
EIGHT_BITS = np.floor(RAMP * 255.999).astype(np.uint8)
SQUARE = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="shortest")


def grey(image):
    return np.asarray(open_image(image))[..., 0].astype(int)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey_tiffs_look_as_tifffile_reads_them(photometric, dtype, byteorder, tmp_path):
    path = tmp_path / "picture.tif"
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    values = (RAMP * white).astype(dtype)
    tifffile.imwrite(path, values, photometric=photometric, byteorder=byteorder)
    if (photometric, dtype, byteorder) == ("miniswhite", "uint16", ">"):
        assert find_unreadable(stamped([path]))  # Pillow cannot read these, and says so
        return
    read = tifffile.imread(path).astype(float) * 255 / white
    assert np.abs(grey(path) - (255 - read if photometric == "miniswhite" else read)).max() <= 1


def test_a_tiff_of_32_bits_keeps_its_levels_above_the_sign(tmp_path):
    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, (RAMP * (2**32 - 1)).astype(np.uint32), photometric="minisblack")
    assert np.abs(grey(path) - EIGHT_BITS).max() <= 1


def twelve_bits(values):
    """A TIFF of one strip with two samples in three bytes."""
    first, second = values.reshape(-1, 2).T.astype(np.uint32)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    height, width = values.shape
    fields = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (278, height), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def test_a_tiff_of_12_bits_keeps_its_levels():
    values = np.floor(RAMP * 4095).astype(int)
    content = twelve_bits(values)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), values)
    np.testing.assert_array_equal(grey(content), values >> 4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_separate_planes_are_read_as_tifffile_reads_them_or_refused(dtype, compression, tmp_path):
    path = tmp_path / "picture.tif"
    planes = (np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]]) * np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression=compression)
    if dtype == "uint16" and compression is None:
        [reason] = find_unreadable(stamped([path])).values()
        assert "save it interleaved" in reason
        return
    expected = np.moveaxis(tifffile.imread(path), 0, -1) * (255 / np.iinfo(dtype).max)
    assert np.abs(np.asarray(open_image(path)) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_signed_integers_are_refused_before_decoding(dtype, tmp_path):
    path = tmp_path / "picture.tif"
    tifffile.imwrite(path, (RAMP * 100).astype(dtype), photometric="minisblack")
    [reason] = find_unreadable(stamped([path])).values()
    assert "signed integers" in reason


def pages(path, *pictures):
    """Write pages of a TIFF: pixels, and the kind of page."""
    with tifffile.TiffWriter(path) as writer:
        for values, kind in pictures:
            writer.write(values, photometric="minisblack", subfiletype=kind, metadata=None)


def test_the_first_page_that_is_no_thumbnail_is_read(tmp_path):
    path = tmp_path / "picture.tif"
    pages(path, (EIGHT_BITS[::4, ::4], 1), (EIGHT_BITS[::2, ::2], 1), (EIGHT_BITS, 0))
    np.testing.assert_array_equal(grey(path), EIGHT_BITS)
    pages(path, (EIGHT_BITS, 0), (EIGHT_BITS[::4, ::4], 1))
    np.testing.assert_array_equal(grey(path), EIGHT_BITS)


def test_a_thumbnail_alone_and_camera_raw_are_to_be_developed(tmp_path):
    path = tmp_path / "picture.nef"
    pages(path, (EIGHT_BITS, 1))
    raw = tmp_path / "picture.dng"
    tifffile.imwrite(raw, EIGHT_BITS, photometric="minisblack", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    reasons = find_unreadable(stamped([path, raw]))
    assert set(reasons) == {0, 1}
    assert all("develop it first" in reason for reason in reasons.values())


def test_a_transparent_grey_of_16_bits_is_white(tmp_path):
    path = tmp_path / "picture.png"
    values = (np.arange(16).reshape(4, 4) * 4000).astype(np.uint16)
    Image.fromarray(values).save(path, transparency=8000)
    expected = values >> 8
    expected[0, 2] = 255
    np.testing.assert_array_equal(grey(path), expected)


def test_a_transparent_colour_of_16_bits_is_white():
    colours = np.array([[[5000, 6000, 7000], [40000, 30000, 20000]]], ">u2")
    content = transparent_png(2, 1, 2, 16, [row.tobytes() for row in colours], colours[0, 0].tobytes())
    assert np.asarray(open_image(content))[0].tolist() == [[255, 255, 255], [156, 117, 78]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_throughout_is_taken_without_its_alpha(mode):
    opaque = Image.fromarray(EIGHT_BITS)
    if mode == "P":
        image = opaque.convert("P")
        image.info["transparency"] = bytes(256)
    else:
        image = opaque.convert("RGB").quantize(256).convert("PA") if mode == "PA" else opaque.convert(mode)
        image.putalpha(0)
    assert np.abs(grey(image) - EIGHT_BITS).max() <= 4
    decoder_images = stamped([image, np.zeros((4, 4), np.uint8)])
    with image_threads(1) as pool:
        decoder = Decoder(decoder_images, [SQUARE], pool)
        decoder.start([0, 1])()
    assert decoder.failures == {}
    assert decoder.warnings.rows() == {0}


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 60, b"Exif\0\0MM"]
)
def test_damaged_exif_costs_nothing_but_itself(damage):
    content = io.BytesIO()
    Image.fromarray(EIGHT_BITS).save(content, "JPEG", exif=damage, quality=100)
    with Image.open(content) as image:
        assert orientation_of(image) == 1
    assert np.abs(grey(content.getvalue()) - EIGHT_BITS).max() <= 4
