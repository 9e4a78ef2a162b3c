"""The images that our small CLIPs learn from: the same at 64 pixels as ever, and the same scenes at any size."""

import hashlib

import numpy as np
import photo_scenes
import pytest
import rendering
from PIL import Image

from skl2rclip.datasets import make_graded_photographs

ALL = {**rendering.PROPERTIES, **rendering.NEW_PROPERTIES}
# of images as skl2rclip-tiny has learned from them, by `digest`
AS_EVER = "69005b14c9e5280aef91fc9ce6abb5cbb772ac9f1c56a38c7e26a6aad4e2117d"
SCENES = ("dots", "shape", "glass", "line", "fruit", "face")


def digest():
    """SHA-256 of images of every property and of the training, at the size of old."""
    rng, found = np.random.default_rng(0), hashlib.sha256()
    for name, spec in ALL.items():
        for level in (spec.levels[0], spec.levels[len(spec.levels) // 2], spec.levels[-1]):
            found.update(rendering.render(name, level, rng).tobytes())
    for _ in range(40):
        found.update(rendering.random_image(rng)[0].tobytes())
    return found.hexdigest()


def test_at_64_pixels_every_pixel_is_as_ever():
    assert digest() == AS_EVER


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_is_the_same_at_any_size(name):
    for level in (3, 9):
        small, large = (getattr(rendering, name)(level, np.random.default_rng(level), side) for side in (64, 224))
        assert large.size == (224, 224)
        reduced = np.asarray(large.resize((64, 64), Image.Resampling.BOX), float)
        assert np.abs(reduced - np.asarray(small, float)).mean() < 6


@pytest.mark.parametrize("name", list(ALL))
def test_every_property_has_the_size_that_is_asked_for(name):
    image = rendering.render(name, ALL[name].levels[-1], np.random.default_rng(0), side=224)
    assert image.shape == (224, 224, 3)
    assert image.dtype == np.uint8


def test_effects_are_in_proportion_to_the_size():
    """A blurred or framed image of 224 pixels is, reduced, about as sharp as one of 64."""
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rendering.photographs()[0]).resize((448, 448)), np.float32)[:224, :224] / 255
    small = np.asarray(Image.fromarray((255 * pixels).astype(np.uint8)).resize((64, 64)), np.float32) / 255

    def roughness(image):
        return np.abs(np.diff(image, axis=0)).mean()

    blurred = rendering._blur(pixels, 0.6, rng)
    reduced = np.asarray(Image.fromarray((255 * blurred).astype(np.uint8)).resize((64, 64)), np.float32) / 255
    assert roughness(reduced) == pytest.approx(roughness(rendering._blur(small, 0.6, rng)), rel=0.15)


@pytest.fixture
def resized(monkeypatch):
    """Sizes from and to which images were resized."""
    sizes, resize = [], Image.Image.resize

    def noted(image, size, *arguments, **options):
        sizes.append((image.size, size))
        return resize(image, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", noted)
    return sizes


def test_crops_of_photographs_are_never_enlarged(resized):
    rng = np.random.default_rng(0)
    for side in (64, 224):
        for _ in range(20):
            rendering.crop(rng, side)
            photo_scenes.other_photograph(rng, side)
        for photograph in ("temple", "flower"):
            made = make_graded_photographs(20, photograph=photograph, image_size=side, random_state=0)
            assert made.data.shape == (20, side, side, 3)
    assert len(resized) >= 120
    assert all(width >= new[0] and height >= new[1] for (width, height), new in resized)


@pytest.mark.parametrize(("name", "scene"), photo_scenes._SCENES)
def test_varied_scenes_show_more_with_the_level(name, scene):
    """Further levels change more of the image that level zero, or one, would be."""
    changes = []
    for level in (rendering.PROPERTIES[name].levels[1], rendering.PROPERTIES[name].levels[-1]):
        pair = [np.asarray(scene(each, np.random.default_rng(3), 224), float) for each in (0, level)]
        changes.append(np.abs(pair[1] - pair[0]).mean())
    assert changes[0] < changes[1]


def test_training_images_of_the_photo_model_show_no_level_that_is_held_out():
    rng = np.random.default_rng(0)
    for make in (photo_scenes.varied_image, photo_scenes.other_photograph):
        for _ in range(40):
            image, levels = make(rng, 64)
            assert image.shape == (64, 64, 3)
            assert levels
            assert all(level in rendering.PROPERTIES[name].captioned for name, level in levels.items())
    assert photo_scenes.collage(rng, 64).shape == (64, 64, 3)
