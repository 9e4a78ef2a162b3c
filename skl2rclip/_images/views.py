"""Views of an image: itself, its mirror image, and windows of it, at the resolution that a tower takes.

A window depends on what the image shows and on the number of the view alone, so that whoever asks for it again, in
another fold, fit or process, gets the same pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # which imports torch, and readers of data sets do without
    from skl2rclip._images.preprocessing import Preprocessing

# of the image's area, that a window has at least
_MIN_AREA = 0.6
# how many times larger than the tower's input a window is at least before it is resized smoothly
_OVERSAMPLING = 3
# to be raised where a view shows something else than before
VERSION = 1

Resize = Callable[[Image.Image], Image.Image]


def pixels_of_view(
    image: Image.Image, view: int, whole: np.ndarray, preprocessing: Preprocessing, resize: Resize
) -> np.ndarray:
    """Pixels of one view, ndarray of shape (H, W, 3), uint8.

    View 0 is the image as predictions see it, view 1 its mirror image as they would see that; each further one is a
    window of 60 to 100% of its area and of its form, somewhere in it, one of two mirrored.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright RGB; it is left as it is.
    view : int
    whole : ndarray of shape (H, W, 3), uint8
        Pixels of view 0.
    preprocessing : Preprocessing
    resize : callable
        Its `resizer`.

    References
    ----------
    Random resized crops: Szegedy et al., "Going deeper with convolutions", CVPR 2015, there of 8 to 100% of the area.
    """
    if view == 0:
        return whole
    if view == 1:  # before it is resized: what is cut off at the sides need not be even
        return np.asarray(resize(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    area, across, down, side = _uniforms(whole, view)
    scale = (_MIN_AREA + (1 - _MIN_AREA) * area) ** 0.5
    width, height = (max(1, round(scale * length)) for length in image.size)
    left, top = int(across * (image.width - width + 1)), int(down * (image.height - height + 1))
    # large windows are brought near to their size quickly, and no copy is larger than the tower's input asks for
    factor = max(1, int(preprocessing.shrinkage((width, height)) / _OVERSAMPLING))
    pixels = np.asarray(resize(image.reduce(factor, (left, top, left + width, top + height))))
    return pixels[:, ::-1] if side < 0.5 else pixels


def _uniforms(whole: np.ndarray, view: int) -> list[float]:
    """Four numbers in [0, 1) that look drawn at random, and are the same wherever the pixels are."""
    digest = hashlib.blake2b(whole.tobytes() + view.to_bytes(4, "little"), digest_size=32).digest()
    # of their upper 53 bits, which a float holds
    return [(int(number) >> 11) / 2**53 for number in np.frombuffer(digest, "<u8")]
