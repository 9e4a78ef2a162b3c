"""What X may be, and that every kind of image becomes the right pixels."""

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from skl2rclip._images import decoding as images_module
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import Decoder, find_unreadable, open_image, read_image, thread_count
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from tests.support.helpers import file_access

PLAIN = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)


def decode(X, preprocessing=PLAIN):
    images = stamped(as_image_list(X))
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder(images, [preprocessing], pool)
        [pixels] = decoder.start(range(len(images)))()
    assert not decoder.failures
    return pixels


@pytest.fixture
def pil_images():
    return np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3)).astype(np.uint8)


@pytest.fixture
def files(pil_images, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(pil_images))]
    for path, pixels in zip(paths, pil_images, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


# ------------------------------------------------------------ what X may be


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        lambda paths: [str(path) for path in paths],
        lambda paths: np.array([str(path) for path in paths]),
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array([[str(path)] for path in paths]),
        lambda paths: [[str(path)] for path in paths],
        lambda paths: pd.Series([str(path) for path in paths], index=[7, 3, 5, 1]),
        lambda paths: pd.Series(paths, dtype="object"),
        lambda paths: pd.Series([str(path) for path in paths], dtype="string"),
        lambda paths: pd.DataFrame({"path": [str(path) for path in paths]}),
        lambda paths: [Image.open(path) for path in paths],
        lambda paths: [np.asarray(Image.open(path)) for path in paths],
        lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
        lambda paths: [str(paths[0]), paths[1], Image.open(paths[2]), np.asarray(Image.open(paths[3]))],
    ],
)
def test_every_way_of_giving_images_means_the_same_pixels(files, pil_images, form):
    expected = np.stack([np.asarray(PLAIN.resizer()(Image.fromarray(pixels))) for pixels in pil_images])
    np.testing.assert_array_equal(decode(form(files)), expected)


def test_object_array_of_images_of_different_sizes():
    X = np.empty(2, dtype=object)
    X[0], X[1] = np.zeros((9, 12), np.uint8), np.full((20, 11, 3), 255, np.uint8)
    np.testing.assert_array_equal(decode(X).reshape(2, -1).mean(axis=1), [0, 255])


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 8, 1), (3, 8, 8, 3), (3, 8, 8, 4)])
def test_stacked_arrays(shape):
    assert decode(np.full(shape, 255, np.uint8)).min() == 255


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a.png", ValueError, r"single str: write \[image\]"),
        (Path("a.png"), ValueError, r"single \w+Path"),
        (Image.new("L", (2, 2)), ValueError, r"write \[image\]"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"looks like one colour image: write X=\[image\]"),
        (np.zeros((8, 8), np.uint8), ValueError, "Reshape your data if its rows are flattened images"),
        (None, TypeError, "must be a sequence of images"),
        (iter([]), ValueError, "X is empty.*An iterator can be gone through once only: make it a list"),
        (5, TypeError, "got int; make it a list first"),
        ({"a.png": 1}, TypeError, "got dict"),
        ([], ValueError, "X is empty"),
        (np.array([["a", "b"]]), ValueError, "one column of images"),
        (
            ["a.png", 3],
            TypeError,
            r"X\[1\] must be a path, .*content of a file, a PIL image or a uint8 array, got int",
        ),
        (["a.png", None], TypeError, r"X\[1\] must be a path.*NoneType.*missing"),
        ([np.zeros((4, 4), complex)], ValueError, r"X\[0\] must be an array of integers, floats or booleans"),
        ([np.zeros((4, 4, 2), np.uint8)], ValueError, r"X\[0\] must have shape .* got \(4, 4, 2\)"),
        ([np.zeros((0, 4), np.uint8)], ValueError, "at least one pixel"),
    ],
)
def test_what_is_no_sequence_of_images_is_named(X, error, message):
    with pytest.raises(error, match=message):
        as_image_list(X)


# ------------------------------------------------------------------ decoding


def gradient(mode):
    """A grey ramp in any of Pillow's modes."""
    ramp = np.linspace(0, 255, 16).astype(np.uint8)[None].repeat(16, axis=0)
    image = Image.fromarray(ramp)
    if mode == "I;16":
        return Image.fromarray(ramp.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(ramp.astype(np.int32) * 257)
    if mode == "F":
        return Image.fromarray((ramp / 255).astype(np.float32))
    if mode in ("La", "RGBa"):
        return image.convert(mode.upper()).convert(mode)
    if mode == "PA":
        return image.convert("P").convert("PA")
    if mode in ("HSV", "YCbCr", "CMYK", "RGBX"):
        return image.convert("RGB").convert(mode)
    return image.convert(mode)


@pytest.mark.parametrize(
    "mode",
    ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"],
)
def test_modes_all_decode_to_the_same_grey_ramp(mode):
    decoded = open_image(gradient(mode), white=WhiteLevel(65535 if mode == "I" else None))
    assert decoded.mode == "RGB"
    ramp = np.linspace(0, 255, 16).astype(int)
    assert np.abs(np.asarray(decoded)[0].astype(int) - ramp[:, None]).max() <= 4


def test_one_bit_images_are_black_and_white():
    decoded = np.asarray(open_image(gradient("L").point(lambda value: 255 * (value > 127)).convert("1")))
    assert set(decoded.ravel()) == {0, 255}


@pytest.mark.parametrize("mode", ["I;16", "F", "1", "CMYK", "P", "LA"])
def test_modes_survive_a_file(mode, tmp_path):
    image = gradient(mode)
    path = tmp_path / "image.tiff"
    image.save(path)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(open_image(image)))


def test_floating_point_images_of_unit_range_are_scaled():
    unit = Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32)[None].repeat(16, axis=0))
    np.testing.assert_allclose(np.asarray(open_image(unit))[0, :, 0], np.linspace(0, 255, 16), atol=1)
    broken = Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 1.02, -0.02]], np.float32))
    assert np.asarray(open_image(broken))[0, :, 0].tolist() == [0, 255, 0, 255, 0]


def test_transparency_lies_over_white():
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    decoded = np.asarray(open_image(Image.fromarray(pixels)))
    assert decoded[:2].max() == 0
    assert decoded[2:].min() == 255
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.info["transparency"] = 0
    palette.putpixel((0, 0), 1)
    decoded = np.asarray(open_image(palette))
    assert decoded[0, 0].tolist() == [200, 100, 50]
    assert decoded[1:].min() == 255
    grey = io.BytesIO()
    Image.fromarray(np.array([[7, 8]], np.uint8)).save(grey, "PNG", transparency=7)
    assert np.asarray(open_image(Image.open(grey)))[0, :, 0].tolist() == [255, 8]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation, tmp_path):
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    upright.save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(ImageOps.exif_transpose(Image.open(path))))


def test_a_png_is_turned_also_where_exif_stands_behind_its_pixels():
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    upright.save(file, "PNG")
    chunk = b"eXIf" + exif.tobytes()[6:]
    added = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = file.getvalue()[:-12] + added + file.getvalue()[-12:]
    np.testing.assert_array_equal(np.asarray(open_image(content)), np.rot90(np.asarray(upright), -1))


def test_only_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert np.asarray(open_image(path))[0, 0].tolist() == [255, 0, 0]


def test_pillow_images_are_not_changed():
    image = gradient("RGBA")
    before = image.tobytes()
    decode([image])
    assert image.mode == "RGBA"
    assert image.tobytes() == before


def test_each_image_is_decoded_once_for_several_sizes(pil_images, monkeypatch):
    calls = []
    monkeypatch.setattr(images_module, "read_image", lambda *image: calls.append(1) or read_image(*image))
    with ThreadPoolExecutor(2) as pool:
        decoded = Decoder(list(pil_images), [PLAIN, PLAIN.enlarged(2, 1)], pool).start(range(4))()
    assert [array.shape for array in decoded] == [(4, 8, 8, 3), (4, 16, 16, 3)]
    assert len(calls) == len(pil_images)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.ppm", "a.tiff", "a.webp"])
def test_bytes_that_have_been_read_decode_as_the_file_does(pil_images, tmp_path, name):
    Image.fromarray(pil_images[0]).save(tmp_path / name)
    [image] = stamped([tmp_path / name])
    with file_access() as asked:
        from_file = np.asarray(open_image(image))
        from_bytes = np.asarray(open_image(image, image.read()))
    np.testing.assert_array_equal(from_file, from_bytes)
    np.testing.assert_array_equal(from_file, np.asarray(Image.open(tmp_path / name).convert("RGB")))
    assert asked.of([tmp_path / name]) == {(0, 2)}


def test_thread_counts_are_joblibs():
    assert thread_count(3) == 3
    assert thread_count(None) == thread_count(-1) == joblib.cpu_count()
    assert thread_count(-10_000) == 1


# ---------------------------------------------------------------- bad images


@pytest.fixture
def bad_files(files, tmp_path):
    """A missing file, an empty one, a truncated one, one that is no image, and a folder."""
    empty, truncated, text, folder = (tmp_path / name for name in ("empty.png", "cut.jpg", "words.png", "folder.png"))
    empty.touch()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-1500])
    text.write_text("not an image")
    folder.mkdir()
    return {
        tmp_path / "missing.png": "no such file",
        empty: "the file is empty",
        truncated: "truncated",
        text: "not an image, or of a format that Pillow cannot read",
        folder: "this is a folder",
    }


def test_headers_are_read_once_and_what_the_stamp_says_costs_nothing(files, bad_files):
    images = stamped([files[0], *bad_files, files[0], *bad_files])
    with file_access() as asked:
        found = find_unreadable(images, n_jobs=2)
    truncated, text = (path for path in bad_files if path.name in ("cut.jpg", "words.png"))
    assert asked.of([files[0], truncated, text]) == {(0, 1)}
    assert asked.of(set(bad_files) - {truncated, text}) == {(0, 0)}
    assert list(found) == [1, 2, 4, 5, 7, 8, 10, 11]  # the header of the truncated one is fine
    for index, reason in found.items():
        assert list(bad_files.values())[(index - 1) % 6] in reason


def test_what_is_known_to_be_sound_is_not_opened(files, bad_files):
    text = next(path for path in bad_files if path.name == "words.png")
    images = stamped([text, files[0], text])
    with file_access() as asked:
        assert find_unreadable(images, is_known=[True, True, True]) == {}
        assert asked.of([text, files[0]]) == {(0, 0)}
        assert list(find_unreadable(images, is_known=np.array([True, True, False]))) == [2]
    assert asked.of([text]) == {(0, 1)}


def test_decoding_says_what_is_wrong_and_goes_on(files, bad_files, pil_images):
    images = stamped([files[0], *bad_files, files[1]])
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder(images, [PLAIN], pool)
        [pixels] = decoder.start([0, 1, 2, 6])()
        assert list(decoder.failures) == [1, 2]
        decoder.start([3, 4, 5])()
    np.testing.assert_array_equal(pixels[[0, 3]], decode(pil_images[:2]))
    assert sorted(decoder.failures) == [1, 2, 3, 4, 5]
    for index, expected in enumerate(bad_files.values(), start=1):
        assert expected in decoder.failures[index]


def test_a_file_that_vanishes_after_its_stamp_is_named(files):
    images = stamped(files)
    files[1].unlink()
    with ThreadPoolExecutor(1) as pool:
        decoder = Decoder(images, [PLAIN], pool)
        decoder.start(range(4))()
    assert decoder.failures == find_unreadable(images) == {1: "no such file"}


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with a name")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert find_unreadable(stamped([tmp_path / "pipe.png", "a\0b"])) == {
        0: "this is a pipe, not a regular file",
        1: "there is a null character in its name",
    }


def test_broken_pillow_images_are_named(bad_files):
    truncated = Image.open(next(path for path in bad_files if path.name == "cut.jpg"))
    with ThreadPoolExecutor(1) as pool:
        decoder = Decoder([truncated], [PLAIN], pool)
        decoder.start([0])()
    assert "truncated" in decoder.failures[0]
