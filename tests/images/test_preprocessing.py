"""Geometry, normalisation and augmentation, against open_clip's own transform."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from skl2rclip._images.decoding import open_image
from skl2rclip._images.preprocessing import Preprocessing, augment, normalize

PLAIN = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_pixels_equal_open_clips_transform(resize_mode, interpolation, size):
    if resize_mode == "longest" and size[0] != size[1]:
        pytest.skip("open_clip has no such thing")
    mean, std = (0.48, 0.45, 0.4), (0.27, 0.26, 0.28)
    config = {"size": size, "mean": mean, "std": std, "interpolation": interpolation, "resize_mode": resize_mode}
    preprocessing = Preprocessing.from_config(config)
    rng = np.random.default_rng(0)
    given_size = size[0] if size[0] == size[1] else size
    transform = image_transform_v2(PreprocessCfg(**{**config, "size": given_size}), is_train=False)
    for shape in ((30, 41), (17, 9), (16, 16), (5, 60)):
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        pixels = torch.from_numpy(np.array(preprocessing.resizer()(image)))
        torch.testing.assert_close(normalize(pixels[None], preprocessing)[0], transform(image), atol=1e-5, rtol=0)


def test_a_configuration_comes_back():
    preprocessing = Preprocessing((12, 20), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "bilinear", "longest", 7)
    assert Preprocessing.from_config(preprocessing.to_config()) == preprocessing
    assert Preprocessing.from_config({"size": 9, "mean": [0.0], "std": [1.0]}).size == (9, 9)
    assert preprocessing.enlarged(8, 7).size == (14, 23)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), mode=st.sampled_from(["1", "L", "RGBA", "CMYK", "P"]))
def test_any_size_and_mode_becomes_the_size_of_the_tower(height, width, mode):
    for resize_mode in ("shortest", "longest", "squash"):
        preprocessing = Preprocessing((9, 7), (0.5,) * 3, (0.5,) * 3, resize_mode=resize_mode)
        resized = preprocessing.resizer()(open_image(Image.new(mode, (width, height))))
        assert np.asarray(resized).shape == (9, 7, 3)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1)])
def test_extreme_strips_do_not_fill_the_memory(size):
    assert PLAIN.resizer()(Image.new("RGB", size, "red")).size == (8, 8)


@pytest.mark.parametrize(
    ("resize_mode", "tower"),
    [("shortest", (40, 40)), ("shortest", (40, 60)), ("longest", (40, 40)), ("squash", (40, 40))],
)
@pytest.mark.parametrize("size", [(90, 60), (61, 150), (80, 80), (30, 20), (1200, 50)])
def test_the_box_is_where_the_pixels_of_the_tower_come_from(resize_mode, tower, size):
    preprocessing = Preprocessing(tower, (0.5,) * 3, (0.5,) * 3, resize_mode=resize_mode, interpolation="bilinear")
    left, top, right, bottom = preprocessing.box_of(size)
    across = (np.arange(size[0]) + 0.5) / size[0] * 200 + 20
    down = (np.arange(size[1]) + 0.5) / size[1] * 200 + 20
    ramps = np.stack([*np.broadcast_arrays(across, down[:, None]), np.full(size[::-1], 220.0)], axis=2)
    seen = np.asarray(preprocessing.resizer()(Image.fromarray(ramps.round().astype(np.uint8)))).astype(float)
    rows, columns = np.nonzero(seen[:, :, 2] > 200)  # the rest is padding
    for channel, places, low, high, length, extent in (
        (0, columns, left, right, tower[1], size[0]),
        (1, rows, top, bottom, tower[0], size[1]),
    ):
        expected = (low + (places + 0.5) / length * (high - low)) / extent
        found = (seen[rows, columns, channel] - 20) / 200
        inner = (expected > 0.1) & (expected < 0.9)
        np.testing.assert_allclose(found[inner], expected[inner], atol=0.6 * (high - low) / length / extent + 0.01)


def test_augmentation_cuts_windows_and_mirrors_half_of_them():
    rows, columns = np.mgrid[:10, :12].astype(np.uint8)
    image = torch.from_numpy(np.stack([rows, columns, rows + columns], axis=2))
    windows = augment(image.expand(400, -1, -1, -1), (8, 9), torch.Generator().manual_seed(0)).numpy().astype(int)
    assert windows.shape == (400, 8, 9, 3)
    steps = np.diff(windows[..., 1], axis=2)
    mirrored = (steps == -1).all(axis=(1, 2))
    assert ((steps == 1).all(axis=(1, 2)) | mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6
    assert (np.diff(windows[..., 0], axis=1) == 1).all()
    assert set(windows[:, 0, 0, 0]) == {0, 1, 2}
    assert set(windows[~mirrored][:, 0, 0, 1]) == set(windows[mirrored][:, 0, -1, 1]) == {0, 1, 2, 3}
    assert (windows[..., 0] + windows[..., 1] == windows[..., 2]).all()  # channels stay together


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 400_000), (400_000, 1), (3, 100_000), (100_000, 3)])
def test_no_step_on_the_way_of_a_strip_is_large(resize_mode, size, monkeypatch):
    resize, steps = Image.Image.resize, []

    def watched(image, new_size, *arguments, **options):
        # Pillow resizes rows first, then columns
        steps.append(max(new_size[0] * image.height, new_size[0] * new_size[1]))
        assert steps[-1] < 10**6
        return resize(image, new_size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    strip = Image.new("RGB", size, "red")
    preprocessing = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3, resize_mode=resize_mode)
    resized = np.asarray(preprocessing.resizer()(strip))
    assert resized.shape == (8, 8, 3)
    assert (resized[4, 4] == [255, 0, 0]).all() or resize_mode == "longest"
    assert (resized == [255, 0, 0]).all(axis=2).any()
    assert steps


@pytest.mark.parametrize("resize_mode", ["longest", "squash"])
def test_strips_are_shrunk_along_their_long_side_as_the_whole_would_be(resize_mode):
    ramp = np.linspace(0, 255, 6000).astype(np.uint8)
    strip = Image.fromarray(np.stack([ramp] * 2)).convert("RGB")
    preprocessing = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, resize_mode=resize_mode)
    row = np.asarray(preprocessing.resizer()(strip))[8 if resize_mode == "squash" else slice(7, 9)]
    expected = np.linspace(0, 255, 16)
    assert np.abs(row.reshape(-1, 16, 3).max(axis=0)[:, 0] - expected).max() < 12


@pytest.mark.parametrize(("resize_mode", "expected"), [("shortest", 3), ("squash", 3), ("longest", 5)])
def test_how_many_times_an_image_is_shrunk(resize_mode, expected):
    assert Preprocessing((8, 8), (), (), resize_mode=resize_mode).shrinkage((40, 24)) == expected
