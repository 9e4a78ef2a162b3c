"""Images of more than eight bits: which value is white, 0 as white, planes, thumbnails and transparent colours."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from skl2rclip._images.decoding import Decoder, find_damaged, find_unreadable, image_threads, open_image, read_image
from skl2rclip._images.files import stamped
from skl2rclip._images.header import orientation_of
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from tests.support.small_images import transparent_png

SIDE = 32
RAMP = np.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
EIGHT_BITS = np.floor(RAMP * 255.999).astype(np.uint8)
SQUARE = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="shortest")


def grey(image, white_level=None):
    return np.asarray(open_image(image, white=WhiteLevel(white_level)))[..., 0].astype(int)


def refused(image, white_level=None):
    """Why `fit` refuses an image, or None."""
    return find_damaged([image], [0], white=WhiteLevel(white_level, refuses_dark=True)).get(0)


def of_bits(n_bits, values=EIGHT_BITS):
    """The image in uint16, whose upper eight of so many bits are its own."""
    return values.astype(np.uint16) << (n_bits - 8) | (1 << (n_bits - 8)) - 1


def png(array, significant_bits=None):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    content = content.getvalue()
    if significant_bits is None:
        return content
    chunk = b"sBIT" + bytes([significant_bits])
    return content[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


def tiff(array):
    content = io.BytesIO()
    tifffile.imwrite(content, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    return content.getvalue()


def pgm(array, largest):
    height, width = array.shape
    return b"P5 %d %d %d\n" % (width, height, largest) + array.astype(">u2").tobytes()


AS_GIVEN = pytest.mark.parametrize(
    "as_given", [np.array, png, tiff, Image.fromarray], ids=["array", "png", "tiff", "I;16"]
)


@AS_GIVEN
def test_sixteen_bits_are_taken_as_such_and_fewer_by_their_white_level(as_given):
    np.testing.assert_array_equal(grey(as_given(of_bits(16))), EIGHT_BITS)
    for n_bits in (8, 10, 12, 14):
        np.testing.assert_array_equal(grey(as_given(of_bits(n_bits)), 2**n_bits - 1), EIGHT_BITS)


@AS_GIVEN
def test_fit_refuses_what_uses_an_eighth_of_its_type_and_says_the_remedy(as_given):
    reason = refused(as_given(of_bits(12)))
    assert reason.startswith("its largest value is 4095 of the 65535 of its type")
    assert "white_level=4095 says which value is white (white_level=65535 if" in reason
    for white_level in (4095, 65535):
        assert refused(as_given(of_bits(12)), white_level) is None
    dark = read_image(as_given(of_bits(12)))  # predictions take it, and say so
    assert dark.is_dark
    assert dark.remarks[0].startswith("its largest value is 4095")
    np.testing.assert_array_equal(np.asarray(dark.image)[..., 0], of_bits(12) >> 8)


def test_an_eighth_is_where_dark_begins_and_black_is_black():
    for values, is_refused in ((8191, True), (8192, False), (1, True), (0, False)):
        assert (refused(np.full((4, 4), values, np.uint16)) is not None) is is_refused
    assert "white_level=65535" in refused(np.full((4, 4), 65535, np.uint32))
    opaque = np.full((4, 4, 4), 65535, np.uint16)
    opaque[..., :3] = 4095
    assert "its largest value is 4095" in refused(opaque)


def test_floats_go_from_0_to_1_or_to_their_white_level():
    for as_given in (np.array, Image.fromarray, tiff):
        np.testing.assert_array_equal(grey(as_given((EIGHT_BITS / 255).astype(np.float32))), EIGHT_BITS)
        np.testing.assert_array_equal(grey(as_given(EIGHT_BITS.astype(np.float32)), 255), EIGHT_BITS)
        reason = refused(as_given(EIGHT_BITS.astype(np.float32)))
        assert reason == "its values go from 0 to 255 instead of 0 to 1: white_level=255 says that this is white"
    assert refused(np.array([[-0.05, 0.01]])) is None  # dark floats do not hold fewer bits
    assert grey(np.array([[-0.05, 1.1, np.nan, np.inf, -np.inf]])).tolist() == [[0, 255, 0, 255, 0]]
    for low, high in ((-0.051, 1), (0, 1.11)):
        assert f"from {low} to {high}" in refused(np.array([[low, high]]))
    assert "instead of 0 to 4095" in refused(of_bits(16), 4095)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
@pytest.mark.parametrize("as_given", [np.array, Image.fromarray, tiff], ids=["array", "I", "tiff"])
def test_signed_integers_need_a_white_level_which_shows_before_decoding(dtype, as_given, tmp_path):
    if as_given is Image.fromarray and dtype == "int16":
        dtype = "int32"
    image = as_given(EIGHT_BITS.astype(dtype))
    assert "it holds signed integers" in refused(image)
    assert find_unreadable([image], white=WhiteLevel()) == {0: refused(image)}
    assert find_unreadable([image], white=WhiteLevel(255)) == {}
    np.testing.assert_array_equal(grey(image, 255), EIGHT_BITS)
    assert "from -4 to 251 instead of 0 to 4" in refused(as_given(EIGHT_BITS.astype(dtype) - 4), 4)


def test_integers_below_255_are_scaled_and_eight_bits_are_left_alone():
    np.testing.assert_array_equal(grey(np.array([[0, 1]]), 1), [[0, 255]])
    for image in (EIGHT_BITS, png(EIGHT_BITS), tiff(EIGHT_BITS), EIGHT_BITS > 127):
        np.testing.assert_array_equal(grey(image, 4095), grey(image))


def test_colours_of_16_bits_of_which_pillow_drops_what_counts_are_to_be_given_as_arrays():
    colours = np.stack([of_bits(16)] * 3, -1)
    np.testing.assert_array_equal(grey(tiff(colours)), EIGHT_BITS)
    twelve = np.stack([of_bits(12)] * 3, -1)
    for reason in (refused(tiff(twelve)), refused(tiff(twelve), 4095)):
        assert "with tifffile.imread(name) or cv2.imread(name, cv2.IMREAD_ANYDEPTH" in reason
    np.testing.assert_array_equal(grey(twelve, 4095), EIGHT_BITS)


def test_significant_bits_of_a_png_hold():
    for white_level in (None, 1023):
        np.testing.assert_array_equal(grey(png(of_bits(12), 12), white_level), EIGHT_BITS)
    assert refused(png(of_bits(12) // 40, 12)) is None
    # the standard scales values to all bits of a sample
    np.testing.assert_array_equal(grey(png(of_bits(16), 12)), EIGHT_BITS)


def test_the_largest_value_of_a_pgm_holds():
    for white_level in (None, 1023):
        np.testing.assert_allclose(grey(pgm(of_bits(12), 4095), white_level), EIGHT_BITS, atol=1)
    assert "white_level=4095" in refused(pgm(of_bits(12), 65535))
    np.testing.assert_array_equal(grey(pgm(of_bits(12), 65535), 4095), EIGHT_BITS)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_grey_tiffs_look_as_tifffile_reads_them(photometric, dtype, byteorder, tmp_path):
    path = tmp_path / "image.tif"
    white = 1 if dtype == "float32" else np.iinfo(dtype).max
    values = (RAMP * white).astype(dtype)
    tifffile.imwrite(path, values, photometric=photometric, byteorder=byteorder)
    if (photometric, dtype, byteorder) == ("miniswhite", "uint16", ">"):
        assert find_unreadable(stamped([path]))  # Pillow cannot read these, and says so
        return
    read = tifffile.imread(path).astype(float) * 255 / white
    assert np.abs(grey(path) - (255 - read if photometric == "miniswhite" else read)).max() <= 1


def test_a_tiff_of_32_bits_keeps_its_levels_above_the_sign(tmp_path):
    path = tmp_path / "image.tif"
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
    np.testing.assert_array_equal(grey(content, 1023), values >> 4)
    assert refused(twelve_bits(values // 40)) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_separate_planes_are_read_as_tifffile_reads_them_or_refused(dtype, compression, tmp_path):
    path = tmp_path / "image.tif"
    planes = (np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]]) * np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression=compression)
    if dtype == "uint16" and compression is None:
        [reason] = find_unreadable(stamped([path])).values()
        assert "save it interleaved" in reason
        return
    expected = np.moveaxis(tifffile.imread(path), 0, -1) * (255 / np.iinfo(dtype).max)
    assert np.abs(np.asarray(open_image(path)) - expected).max() <= 1


def test_signed_integers_of_eight_bits_are_refused_whatever_the_white_level():
    assert "which Pillow misreads" in refused(tiff(EIGHT_BITS.astype(np.int8)), 127)


def pages(path, *images):
    """Write pages of a TIFF: pixels, and the kind of page."""
    with tifffile.TiffWriter(path) as writer:
        for values, kind in images:
            writer.write(values, photometric="minisblack", subfiletype=kind, metadata=None)


def test_the_first_page_that_is_no_thumbnail_is_read(tmp_path):
    path = tmp_path / "image.tif"
    pages(path, (EIGHT_BITS[::4, ::4], 1), (EIGHT_BITS[::2, ::2], 1), (EIGHT_BITS, 0))
    np.testing.assert_array_equal(grey(path), EIGHT_BITS)
    pages(path, (EIGHT_BITS, 0), (EIGHT_BITS[::4, ::4], 1))
    np.testing.assert_array_equal(grey(path), EIGHT_BITS)


def test_a_thumbnail_alone_and_camera_raw_are_to_be_developed(tmp_path):
    path = tmp_path / "image.nef"
    pages(path, (EIGHT_BITS, 1))
    raw = tmp_path / "image.dng"
    tifffile.imwrite(raw, EIGHT_BITS, photometric="minisblack", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    reasons = find_unreadable(stamped([path, raw]))
    assert set(reasons) == {0, 1}
    assert all("develop it first" in reason for reason in reasons.values())


def test_a_transparent_grey_of_16_bits_is_white(tmp_path):
    path = tmp_path / "image.png"
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
    assert [row for row, remarks in decoder.remarks.items() if remarks] == [0]


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 60, b"Exif\0\0MM"]
)
def test_damaged_exif_costs_nothing_but_itself(damage):
    content = io.BytesIO()
    Image.fromarray(EIGHT_BITS).save(content, "JPEG", exif=damage, quality=100)
    with Image.open(content) as image:
        assert orientation_of(image) == 1
    assert np.abs(grey(content.getvalue()) - EIGHT_BITS).max() <= 4


def test_the_largest_value_of_64_bits_is_said_exactly():
    reason = refused(np.full((4, 4), 5, np.uint64))
    assert "of the 18446744073709551615 of" in reason
    assert "white_level=18446744073709551615 if" in reason


def test_an_array_is_no_remedy_for_cmyk():
    content = io.BytesIO()
    tifffile.imwrite(content, np.full((8, 8, 4), 4095, np.uint16), photometric="separated")
    for white_level in (None, 4095):
        reason = refused(content.getvalue(), white_level)
        assert "convert it to RGB first" in reason
        assert "tifffile" not in reason
