"""`make_graded_photographs`: crops of scikit-learn's two photographs, degraded at five severities."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch

from skl2rclip._utils.arguments import check_choice, check_integer, check_real

GRADES = ("bad", "poor", "fair", "good", "excellent")
# by grade, worst first
_BLUR_RADIUS = (3.5, 2.2, 1.4, 0.8, 0.3)  # pixels of a crop of `_SIDE`
_NOISE_DEVIATION = (64, 32, 16, 8, 2)  # grey levels of 255
_JPEG_QUALITY = (4, 9, 18, 40, 90)
_STOPS_UNDER = (3.2, 2.2, 1.4, 0.7, 0.1)  # halvings of the light
_GAMMA = 2.2
_SIDE = 64
_PHOTOGRAPHS = ("temple", "flower")

_DESCR = """Graded photographs: crops of a photograph, degraded at five severities.

Source: the two photographs of sklearn.datasets.load_sample_images, a temple and a flower, whose attributions it prints.
Made here: crops of random place and size, {side} x {side} pixels, degraded in turn by blur, sensor noise, JPEG
compression and under-exposure. The grades are the words of the five-grade quality scale of Recommendation ITU-R BT.500;
which severity is called which is a choice made here, and nobody has judged the images.

{n} crops of the {photograph}; rank 0 is bad, rank 4 is excellent.
"""


def make_graded_photographs(
    n_images: int = 100,
    *,
    photograph: str = "temple",
    image_size: int = 64,
    random_state: Any = None,
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Make images whose quality has five grades, from the two photographs that come with scikit-learn.

    Twenty images in a row have each degradation at each grade once: blur, sensor noise, JPEG compression and
    under-exposure. Learn from crops of one photograph and test on crops of the other.

    Parameters
    ----------
    n_images : int, default=100
        How many crops.
    photograph : {"temple", "flower"}, default="temple"
        Where they are cut from.
    image_size : int, default=64
        Height and width of the crops in pixels, from 16 to 400. Blur is in proportion, and no crop is enlarged.
    random_state : int, Generator or None, default=None
        Of places, sizes and noise. An int or None is a seed of `numpy.random.default_rng`; a Generator goes on from
        where it is, which a second call takes over.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray of shape (n_images, image_size, image_size, 3), uint8
            The crops.
        target : ndarray of shape (n_images,), int64
            Grades from 0, bad, to 4, excellent.
        ranks : list of 5 int
            All grades, lowest first.
        rank_names : list of 5 str
            Their words.
        prompt : str
            For `L2RCLIPClassifier`.
        DESCR : str
            What they are and how they were made.

    Examples
    --------
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> photographs = make_graded_photographs(20, random_state=0)
    >>> photographs.data.shape
    (20, 64, 64, 3)
    >>> photographs.rank_names
    ['bad', 'poor', 'fair', 'good', 'excellent']
    """
    check_integer("n_images", n_images, 1)
    check_choice("photograph", photograph, _PHOTOGRAPHS)
    check_integer("image_size", image_size, 16)
    check_real("image_size", image_size, 16, 400)
    rng = np.random.default_rng(random_state)
    original = load_sample_images().images[_PHOTOGRAPHS.index(photograph)]
    crops, grades = zip(*(_degraded_crop(original, number, image_size, rng) for number in range(n_images)), strict=True)
    data, target = np.stack([np.asarray(crop) for crop in crops]), np.array(grades, dtype=np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        ranks=list(range(len(GRADES))),
        rank_names=list(GRADES),
        prompt="the quality of this photo is",
        DESCR=_DESCR.format(n=n_images, photograph=photograph, side=image_size),
    )


def _degraded_crop(
    photograph: np.ndarray, number: int, image_size: int, rng: np.random.Generator
) -> tuple[Image.Image, int]:
    """Cut a crop of random place and size, and degrade it in the way and at the grade that its number says."""
    largest = min(photograph.shape[:2])
    side = int(rng.integers(min(2 * image_size, max(image_size, largest // 2)), min(6 * image_size, largest + 1)))
    top, left = (int(rng.integers(length - side + 1)) for length in photograph.shape[:2])
    crop = Image.fromarray(photograph[top : top + side, left : left + side]).resize((image_size, image_size))
    way, grade = divmod(number % (len(_WAYS) * len(GRADES)), len(GRADES))
    return _WAYS[way](crop, grade, rng), grade


def _blurred(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    return crop.filter(ImageFilter.GaussianBlur(_BLUR_RADIUS[grade] * crop.width / _SIDE))


def _noisy(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(crop) + rng.normal(0, _NOISE_DEVIATION[grade], (*crop.size[::-1], 3))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _compressed(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=_JPEG_QUALITY[grade])
    return Image.open(file).convert("RGB")


def _under_exposed(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    light = (np.asarray(crop) / 255) ** _GAMMA * 2.0 ** -_STOPS_UNDER[grade]
    return Image.fromarray((255 * light ** (1 / _GAMMA)).round().astype(np.uint8))


_Way = Callable[[Image.Image, int, np.random.Generator], Image.Image]
_WAYS: tuple[_Way, ...] = (_blurred, _noisy, _compressed, _under_exposed)
