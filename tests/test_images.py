import io
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from skl2rclip import _images as images_module
from skl2rclip._images import as_image_list, decode_chunks, find_unreadable, open_image, thread_count
from skl2rclip._preprocessing import Preprocessing, augment
from skl2rclip.errors import UnreadableImagesError

PLAIN = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)


def decode(X, preprocessing=PLAIN, **options):
    images = as_image_list(X)
    chunks = [pixels for _, [pixels] in decode_chunks(images, [preprocessing], **options)]
    return np.concatenate(chunks)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3)).astype(np.uint8)


@pytest.fixture
def files(pictures, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for path, pixels in zip(paths, pictures, strict=True):
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
def test_every_way_of_giving_images_means_the_same_pixels(files, pictures, form):
    expected = np.stack([np.asarray(PLAIN.resizer()(Image.fromarray(pixels))) for pixels in pictures])
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
        ("a.png", ValueError, r"single path: write \['a.png'\]"),
        (Path("a.png"), ValueError, "single path"),
        (Image.new("L", (2, 2)), ValueError, r"write \[image\]"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"looks like one colour image: write X=\[image\]"),
        (np.zeros((8, 8), np.uint8), ValueError, "Reshape your data if its rows are flattened images"),
        (None, TypeError, "must be a sequence of images"),
        ((path for path in ["a.png"]), TypeError, "got generator; make it a list first"),
        ({"a.png": 1}, TypeError, "got dict"),
        ([], ValueError, "X is empty"),
        (np.array([["a", "b"]]), ValueError, "one column of images"),
        (["a.png", 3], TypeError, r"X\[1\] must be a path, a PIL image or a uint8 array, got int"),
        (["a.png", None], TypeError, r"X\[1\] must be a path.*NoneType"),
        ([np.zeros((4, 4), float)], ValueError, r"X\[0\] must be a uint8 array .* got dtype float64; scale"),
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
        return Image.fromarray(ramp.astype(np.float32))
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
    decoded = open_image(gradient(mode))
    assert decoded.mode == "RGB"
    ramp = np.linspace(0, 255, 16).astype(int)
    assert np.abs(np.asarray(decoded)[0].astype(int) - ramp[:, None]).max() <= 4


def test_one_bit_images_are_black_and_white():
    decoded = np.asarray(open_image(gradient("L").point(lambda value: 255 * (value > 127)).convert("1")))
    assert set(decoded.ravel()) == {0, 255}


@pytest.mark.parametrize("mode", ["I;16", "F", "1", "CMYK", "P", "LA"])
def test_modes_survive_a_file(mode, tmp_path):
    image = gradient(mode)
    path = tmp_path / "picture.tiff"
    image.save(path)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(open_image(image)))


def test_floating_point_images_of_unit_range_are_scaled():
    unit = Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32)[None].repeat(16, axis=0))
    np.testing.assert_allclose(np.asarray(open_image(unit))[0, :, 0], np.linspace(0, 255, 16), atol=1)
    broken = Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 300, -5]], np.float32))
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
    assert np.asarray(open_image(palette)).min() == 255
    grey = io.BytesIO()
    Image.new("L", (4, 4), 7).save(grey, "PNG", transparency=7)
    assert np.asarray(open_image(Image.open(grey))).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation, tmp_path):
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    upright.save(path, exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(ImageOps.exif_transpose(Image.open(path))))


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


def test_extreme_strips_do_not_fill_the_memory():
    assert decode([Image.new("RGB", (1, 20_000), "red"), Image.new("RGB", (20_000, 1))]).shape == (2, 8, 8, 3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 23), chunk_size=st.integers(1, 9), n_jobs=st.sampled_from([None, 1, 3, -1]))
def test_chunks_come_in_order_and_complete(n, chunk_size, n_jobs):
    X = np.arange(n, dtype=np.uint8)[:, None, None].repeat(8, axis=1).repeat(8, axis=2)
    where = [place for place, _ in decode_chunks(as_image_list(X), [PLAIN], chunk_size=chunk_size)]
    np.testing.assert_array_equal(np.concatenate(where), np.arange(n))
    assert max(map(len, where)) <= chunk_size
    np.testing.assert_array_equal(decode(X, n_jobs=n_jobs, chunk_size=chunk_size)[:, 0, 0, 0], np.arange(n))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), mode=st.sampled_from(["1", "L", "RGBA", "CMYK", "P"]))
def test_any_size_and_mode_becomes_the_size_of_the_tower(height, width, mode):
    for resize_mode in ("shortest", "longest", "squash"):
        preprocessing = Preprocessing((9, 7), (0.5,) * 3, (0.5,) * 3, resize_mode=resize_mode)
        assert decode([Image.new(mode, (width, height))], preprocessing).shape == (1, 9, 7, 3)


def test_each_image_is_decoded_once_for_several_sizes(pictures, monkeypatch):
    calls = []
    monkeypatch.setattr(images_module, "open_image", lambda image: calls.append(1) or open_image(image))
    [(_, decoded)] = decode_chunks(as_image_list(pictures), [PLAIN, PLAIN.enlarged(2, 1)])
    assert [array.shape[1] for array in decoded] == [8, 16]
    assert len(calls) == len(pictures)


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
    text.write_text("not a picture")
    folder.mkdir()
    return {
        tmp_path / "missing.png": "no such file",
        empty: "the file is empty",
        truncated: "truncated",
        text: "not an image, or of a format that Pillow cannot read",
        folder: "this is a folder",
    }


def test_unreadable_files_are_found_with_their_reasons(files, bad_files):
    found = find_unreadable([files[0], *bad_files], thorough=True)
    assert list(found) == [1, 2, 3, 4, 5]
    for reason, expected in zip(found.values(), bad_files.values(), strict=True):
        assert expected in reason
    assert 3 not in find_unreadable([files[0], *bad_files], thorough=False)  # its header is fine


def test_decoding_names_index_path_and_reason_after_trying_all(files, bad_files):
    X = [files[0], *bad_files, files[1], *bad_files]
    with pytest.raises(UnreadableImagesError) as caught:
        decode(X, chunk_size=2)
    message = str(caught.value)
    assert message.startswith("10 images of 12 cannot be read:\n")
    for index, (path, reason) in enumerate(bad_files.items(), start=1):
        assert f"X[{index}] ({path}): " in message
        assert reason in message
    assert "... and 5 more" in message
    assert sorted(caught.value.failures) == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]


def test_broken_pillow_images_are_named(bad_files):
    truncated = Image.open(next(path for path in bad_files if path.name == "cut.jpg"))
    assert "truncated" in find_unreadable([truncated], thorough=True)[0]


def test_a_file_that_breaks_later_is_read_again(files):
    assert find_unreadable(files, thorough=True) == {}
    files[2].write_bytes(files[2].read_bytes()[:60])
    assert list(find_unreadable(files, thorough=True)) == [2]


# ---------------------------------------------------- arrays and augmentation


def test_augmentation_cuts_windows_and_mirrors_half_of_them():
    rows, columns = np.mgrid[:10, :12].astype(np.uint8)
    picture = torch.from_numpy(np.stack([rows, columns, rows + columns], axis=2))
    windows = augment(picture.expand(400, -1, -1, -1), (8, 9), torch.Generator().manual_seed(0)).numpy().astype(int)
    assert windows.shape == (400, 8, 9, 3)
    steps = np.diff(windows[..., 1], axis=2)
    mirrored = (steps == -1).all(axis=(1, 2))
    assert ((steps == 1).all(axis=(1, 2)) | mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6
    assert (np.diff(windows[..., 0], axis=1) == 1).all()
    assert set(windows[:, 0, 0, 0]) == {0, 1, 2}
    assert set(windows[~mirrored][:, 0, 0, 1]) == set(windows[mirrored][:, 0, -1, 1]) == {0, 1, 2, 3}
    assert (windows[..., 0] + windows[..., 1] == windows[..., 2]).all()  # channels stay together
