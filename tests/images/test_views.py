"""Views of images: what a window shows, and what it depends on."""

import numpy as np
import pytest
from PIL import Image

from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._images.views import pixels_of_view

SIDE = 64
TOWER = Preprocessing(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.2,) * 3)
RESIZE = TOWER.resizer()


def places(size=(SIDE, SIDE), first=0):
    """An image whose red says how far right a pixel is, and whose green how far down, both from `first` to 255."""
    width, height = size
    right, down = (np.linspace(first, 255, length).round().astype(np.uint8) for length in size)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = right, down[:, None]
    return Image.fromarray(pixels)


def view_of(image, view):
    return pixels_of_view(image, view, np.asarray(RESIZE(image)), TOWER, RESIZE)


def test_the_first_two_views_are_what_predictions_see_and_its_mirror_image():
    image = places((300, 200))
    whole = np.asarray(RESIZE(image))
    np.testing.assert_array_equal(view_of(image, 0), whole)
    np.testing.assert_array_equal(view_of(image, 1), whole[:, ::-1])


@pytest.mark.parametrize("size", [(131, 96), (96, 131), (65, 64)])
def test_the_mirror_image_is_the_image_of_a_mirrored_file(size):
    image = places(size)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_array_equal(view_of(image, 1), view_of(mirrored, 0))
    np.testing.assert_array_equal(view_of(mirrored, 1), view_of(image, 0))


@pytest.mark.parametrize("size", [(SIDE, SIDE), (900, 900), (37, 37)])
def test_windows_hold_most_of_the_area_anywhere_and_half_of_them_are_mirrored(size):
    windows = [view_of(places(size, first), view).astype(int) for first in range(10) for view in range(2, 22)]
    across = np.array([window[:, -1, 0].mean() - window[:, 0, 0].mean() for window in windows]) / 250
    down = np.array([window[-1, :, 1].mean() - window[0, :, 1].mean() for window in windows]) / 250
    area = np.abs(across) * down
    assert 0.52 < area.min() < 0.7
    assert 0.9 < area.max() < 1.05
    assert 0.4 < np.mean(across < 0) < 0.6
    np.testing.assert_allclose(np.abs(across), down, atol=0.08)  # of the image's own form
    lowest = np.array([window[..., 0].min() for window in windows])
    assert lowest.min() < 15
    assert lowest.max() > 30


def test_a_window_depends_on_content_and_number_alone():
    pixels = np.random.default_rng(0).integers(0, 255, (80, 70, 3), dtype=np.uint8)
    one, same, other = (Image.fromarray(each) for each in (pixels, pixels.copy(), 255 - pixels))
    np.testing.assert_array_equal(view_of(one, 5), view_of(same, 5))
    assert (view_of(one, 5) != view_of(one, 6)).any()
    places_of = [view_of(places(first=first), 5)[0, 0] for first in (0, 1)]
    assert np.abs(places_of[0].astype(int) - places_of[1]).max() > 3  # other windows, not the same of other pixels
    assert (view_of(other, 5) != view_of(one, 5)).any()
    np.testing.assert_array_equal(np.asarray(one), pixels)  # the user's own image is left as it is


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (700, 1), (3000, 40)])
def test_images_of_any_form_have_windows(size):
    for view in range(5):
        assert view_of(places(size), view).shape == (SIDE, SIDE, 3)
