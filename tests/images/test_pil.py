"""PIL images that come in: the same pixels however often and from wherever; they are decoded where they are."""

import io
import struct
import threading
import warnings
import zlib

import fuzz_images
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from skl2rclip._images import pil
from skl2rclip._images.decoding import find_damaged, find_unreadable, open_image
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.memory import MemoryTicket, TooLargeError, is_waiting
from tests.support.helpers import cache_for_tests, embedded, in_threads

RAMP = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)


def content_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def in_eight_threads(image):
    """Pixels that eight threads get which begin at the same time; one result if they are the same."""
    barrier = threading.Barrier(8)

    def work():
        barrier.wait(30)
        return np.asarray(open_image(image))

    results = in_threads(*[work] * 8)
    assert all(np.array_equal(results[0], result) for result in results)
    return results[0]


@pytest.fixture(scope="module")
def whole_images():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fuzz_images.whole_images(np.random.default_rng(0))


def test_images_of_every_format_are_read_as_their_files(whole_images):
    n_read = 0
    for kind, content in whole_images:
        try:
            Image.open(io.BytesIO(content)).load()
        except OSError:  # which Pillow has written: before 13, TGA of one bit a pixel
            continue
        try:
            expected = np.asarray(open_image(content))
        except ValueError:  # mode I, drawings
            continue
        image = Image.open(io.BytesIO(content))
        loaded = Image.open(io.BytesIO(content))
        loaded.load()
        pixels, info = loaded.tobytes(), dict(loaded.info)
        for _ in range(2):
            np.testing.assert_array_equal(np.asarray(open_image(image)), expected, err_msg=kind)
            np.testing.assert_array_equal(np.asarray(open_image(loaded)), expected, err_msg=kind)
            assert not is_waiting(image), kind
            assert (image.tobytes(), image.info) == (loaded.tobytes(), loaded.info) == (pixels, info), kind
        n_read += 1
    assert n_read > 300


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"exif": turned()}),
        ("JPEG", "CMYK", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGBA", {"exif": turned()}),
        ("GIF", "P", {"transparency": 3}),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "exif": turned()}),
        ("WEBP", "RGBA", {}),
        ("BMP", "P", {}),
    ],
)
def test_eight_threads_get_the_same_pixels_of_one_image(kind, mode, options, tmp_path):
    pil_image = Image.fromarray(COLOUR).quantize(64) if mode == "P" else Image.fromarray(COLOUR).convert(mode)
    path = tmp_path / "image"
    path.write_bytes(content_of(pil_image, kind, **options))
    expected = np.asarray(open_image(path))
    with Image.open(path) as image:
        np.testing.assert_array_equal(in_eight_threads(image), expected)
        pixels, info = image.tobytes(), dict(image.info)
        np.testing.assert_array_equal(in_eight_threads(image), expected)
        assert (image.tobytes(), image.info) == (pixels, info)


def test_images_that_share_a_file_do_not_move_it_under_each_other():
    contents = [content_of(Image.fromarray(COLOUR // shade), "PNG") for shade in (1, 2)]
    file = io.BytesIO(contents[0])
    first, second = Image.open(file), Image.open(file)
    results = in_threads(*[lambda image=image: np.asarray(open_image(image)) for image in (first, second) * 4])
    for result in results:
        np.testing.assert_array_equal(result, COLOUR)
    np.testing.assert_array_equal(np.asarray(first), COLOUR)
    third = Image.open(file)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        open_image(third)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
@pytest.mark.parametrize("is_decoded", [False, True])
def test_the_frame_that_an_image_was_moved_to_is_meant(kind, is_decoded):
    frames = [Image.fromarray(COLOUR // shade) for shade in (1, 2, 4)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = content_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    image, other = (Image.open(io.BytesIO(content)) for _ in range(2))
    if is_decoded:
        image.load()
    for frame in (2, 1, 0):
        image.seek(frame)
        other.seek(frame)
        expected = np.asarray(other.convert("RGB"))
        np.testing.assert_array_equal(in_eight_threads(image), expected)
        assert abs(expected.astype(int) - COLOUR // (1, 2, 4)[frame]).max() < 40
        assert image.tell() == frame


def test_a_draft_and_what_else_was_changed_before_decoding_are_meant():
    content = content_of(Image.fromarray(COLOUR).resize((300, 403)), "JPEG", exif=turned())
    image = Image.open(io.BytesIO(content))
    image.draft("L", (40, 50))
    other = Image.open(io.BytesIO(content))
    other.draft("L", (40, 50))
    expected = np.asarray(ImageOps.exif_transpose(other))
    assert expected.shape < (100, 100)
    np.testing.assert_array_equal(in_eight_threads(image)[..., 0], expected)
    upright = Image.open(io.BytesIO(content))
    upright.getexif()[0x0112] = 1
    assert open_image(upright).size == (300, 403)
    opaque = Image.open(io.BytesIO(content_of(Image.fromarray(RAMP), "PNG", transparency=0)))
    del opaque.info["transparency"]
    np.testing.assert_array_equal(np.asarray(open_image(opaque))[..., 0], RAMP)


def test_what_was_closed_or_verified_says_so(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content_of(Image.fromarray(COLOUR), "PNG"))
    with Image.open(path) as image:
        pass
    verified = Image.open(path)
    verified.verify()
    decoded = Image.open(path)
    decoded.load()
    decoded.close()
    for each in (image, verified, decoded):
        with pytest.raises(ValueError, match="it has been closed or verified: open it again, or give its path"):
            open_image(each)


def test_what_does_not_fit_is_refused_before_it_is_decoded():
    image = Image.open(io.BytesIO(content_of(Image.fromarray(COLOUR).resize((800, 800)), "JPEG")))
    [reason] = find_unreadable([image], max_memory=10**6).values()
    assert "decoding its 800 x 800 pixels takes up to" in reason
    with MemoryTicket(10**6) as ticket, pytest.raises(TooLargeError, match="800 x 800"):
        open_image(image, None, ticket, lambda size: 8.0)  # which a file would be decoded by
    assert is_waiting(image)
    image.load()
    assert find_unreadable([image], max_memory=10**6) == {}


def pages(path, *images):
    with tifffile.TiffWriter(path) as writer:
        for values, kind in images:
            writer.write(values, photometric="minisblack", subfiletype=kind, metadata=None)


def test_a_tiff_that_stands_at_a_thumbnail_is_refused_until_it_is_moved(tmp_path):
    path = tmp_path / "image.tif"
    pages(path, (RAMP[::4, ::4], 1), (RAMP, 0), (RAMP // 2, 0))
    with Image.open(path) as image:
        for _ in range(2):
            [reason] = find_unreadable([image]).values()
            assert reason == (
                "it stands at a page that the file calls a thumbnail: give its path, or seek to the full page first"
            )
            image.load()
        image.seek(2)
        np.testing.assert_array_equal(np.asarray(open_image(image))[..., 0], RAMP // 2)
    pages(path, (RAMP, 0), (RAMP[::4, ::4], 1))
    with Image.open(path) as image:
        image.seek(1)
        assert "a page that the file calls a thumbnail" in find_unreadable([image])[0]


@pytest.mark.parametrize("is_decoded", [False, True])
@pytest.mark.parametrize("kind", ["planes", "signed", "raw", "thumbnail alone"])
def test_tiffs_opened_by_the_user_meet_the_checks_of_files(kind, is_decoded, tmp_path):
    path = tmp_path / "image.tif"
    if kind == "planes":
        planes = np.moveaxis(COLOUR, -1, 0).astype(np.uint16) * 257
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    elif kind == "signed":
        tifffile.imwrite(path, (RAMP // 2).astype(np.int16), photometric="minisblack")
    elif kind == "raw":
        tifffile.imwrite(path, RAMP, photometric="minisblack", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    else:
        pages(path, (RAMP, 1))
    with Image.open(path) as image:
        if is_decoded:
            image.load()
        reasons = find_unreadable(stamped([path, image]), white=WhiteLevel())
        assert set(reasons) == {0, 1}
        if kind != "thumbnail alone":
            assert reasons[0] == reasons[1]
        with pytest.raises(ValueError, match=r"thumbnail|save it interleaved|signed integers|camera raw"):
            open_image(image)


def test_the_transparent_colour_of_16_bits_is_found_in_images_too():
    from tests.support.small_images import transparent_png

    colours = np.array([[[5000, 6000, 7000], [40000, 30000, 20000]]], ">u2")
    content = transparent_png(2, 1, 2, 16, [row.tobytes() for row in colours], colours[0, 0].tobytes())
    for is_decoded in (False, True):
        image = Image.open(io.BytesIO(content))
        if is_decoded:
            image.load()
        assert np.asarray(open_image(image))[0].tolist() == [[255, 255, 255], [156, 117, 78]]
        assert image.info["transparency"] == (5000, 6000, 7000)


def test_an_opened_image_is_embedded_as_its_file_and_the_same_entry_of_the_cache_as_its_pixels(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(content_of(Image.fromarray(COLOUR), "JPEG"))
    with Image.open(path) as image, cache_for_tests() as cache:
        key = cache.read(image)[0]
        assert key == cache.read(image)[0] == cache.read(np.asarray(image))[0]
        rows = embedded([image, path, image], tmp_path / "folder")
        np.testing.assert_allclose(rows, embedded([path], tmp_path / "other")[[0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_what_a_header_says_is_kept_when_an_image_is_decoded(n_channels):
    values = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
    content = png_of_16_bits(np.stack([values] * n_channels, -1), bytes([12] * n_channels))
    image = Image.open(io.BytesIO(content))
    white = WhiteLevel(refuses_dark=True)
    first = find_damaged([image], [0], white=white)
    assert first == find_damaged([image], [0], white=white) == find_damaged([content], [0], white=white)
    assert bool(first) is (n_channels == 3)  # of which Pillow keeps the upper eight bits
    if n_channels == 1:
        np.testing.assert_array_equal(np.asarray(open_image(image, white=white))[..., 0], values >> 4)
    n_known = len(pil._headers)
    del image
    assert len(pil._headers) == n_known - 1


def test_colours_of_16_bits_that_hold_12_are_refused_however_often_they_are_looked_at():
    values = np.full((8, 8, 3), 4095, np.uint16)
    images = [Image.open(io.BytesIO(png_of_16_bits(values)))]
    with cache_for_tests() as cache:
        cache.read(images[0])
    for _ in range(2):
        assert "cv2.imread" in find_damaged(images, [0], white=WhiteLevel(refuses_dark=True))[0]


def png_of_16_bits(values, significant=b""):
    height, width, n_channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[n_channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if significant:
        chunks.insert(1, (b"sBIT", significant))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
