"""Geometry, normalisation and augmentation, against open_clip's own transform."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from skl2rclip._images import open_image
from skl2rclip._preprocessing import Preprocessing, augment, normalize

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
        picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        pixels = torch.from_numpy(np.array(preprocessing.resizer()(picture)))
        torch.testing.assert_close(normalize(pixels[None], preprocessing)[0], transform(picture), atol=1e-5, rtol=0)


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
