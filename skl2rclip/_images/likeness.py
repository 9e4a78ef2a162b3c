"""How alike two images are to look at, whatever their files are: digests of their pixels, and perceptual hashes.

The hashes are those of ImageHash. Which images are worth comparing is not known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from skl2rclip._images.levels import bands_of

# bits along a side of a hash: 256 of them tell leaves apart that differ little in 64
_HASH_SIDE = 16
# how many times as many pixels along a side are transformed
_HIGHFREQ_FACTOR = 2
_GREY_SIDE, _COLOUR_SIDE = 64, 8
# shares of the sides that a copy may have lost, from all four alike, and from each by itself
_ALIKE = (0.0, 0.025, 0.05)
_EACH = tuple(product(_ALIKE, repeat=4))
# a brighter or darker copy is not further from the other than this factor
_MAX_GAIN = 1.25
# mean square root of what colours may differ by, of 1
_MAX_COLOUR = 0.1

Crop = tuple[float, ...]


def hashing() -> Callable[..., Any]:
    """Return ImageHash's perceptual hash, or say how it is installed."""
    try:
        from imagehash import phash
    except ImportError as error:
        raise ImportError(
            'Pixels are compared with ImageHash, which is not installed: pip install "skl2rclip[duplicates]"'
        ) from error
    return phash


@dataclass(frozen=True)
class Appearance:
    """What is kept of an image to compare it with others, 4 kB and its hashes."""

    digest: bytes  # of size and pixels: equal where every pixel is
    grey: np.ndarray  # (64, 64), uint8
    colour: np.ndarray  # (8, 8, 3), float32, of 1
    hashes: np.ndarray = field(repr=False)  # (2, 3, 32), uint8: as it is and mirrored, cropped by `_ALIKE`

    @classmethod
    def of(cls, image: Image.Image) -> Appearance:
        """Look at an RGB image, which is left as it is."""
        digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
        for band in bands_of(image.size):
            digest.update(image.crop(band).tobytes())
        small = image.resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        colour = np.asarray(small.reduce(_GREY_SIDE // _COLOUR_SIDE), np.float32) / 255
        grey = np.asarray(small.convert("L"))
        return cls(digest.digest(), grey, colour, _hashes(grey, [(loss,) * 4 for loss in _ALIKE]))

    @cached_property
    def all_hashes(self) -> np.ndarray:
        """Hashes under every crop that is tried, ndarray of shape (2, 81, 32), uint8."""
        return _hashes(self.grey, _EACH)


def _hashes(grey: np.ndarray, crops: Iterable[Crop]) -> np.ndarray:
    """Hash an image, and its mirror image, without some share of each side: (2, crops, 32), uint8."""
    phash, rows = hashing(), []
    crops = list(crops)
    for pixels in (grey, grey[:, ::-1]):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        for crop in crops:
            part = _part(image, crop)
            rows.append(phash(part, _HASH_SIDE, _HIGHFREQ_FACTOR).hash.ravel())
    return np.packbits(rows, axis=-1).reshape(2, len(crops), -1)


def _part(image: Image.Image, crop: Crop) -> Image.Image:
    """Leave out shares of the left, upper, right and lower side, in fractions of pixels."""
    if not any(crop):
        return image
    left, upper, right, lower = (share * _GREY_SIDE for share in crop)
    side, box = _HASH_SIDE * _HIGHFREQ_FACTOR, (left, upper, _GREY_SIDE - right, _GREY_SIDE - lower)
    return image.resize((side, side), Image.Resampling.LANCZOS, box=box)


def differing_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least share of bits in which hashes of pairs of images differ, ndarray of shape (pairs,).

    Either may be the mirror image of the other, and a cropped part of it.

    Parameters
    ----------
    a, b : ndarray of shape (pairs, 2, crops, 32), uint8
        As `Appearance.hashes`.
    """
    # each crop of a, as it is and mirrored, beside the whole of b, and the whole of a beside each crop of b
    beside = (np.unpackbits(a ^ b[:, :1, :1], axis=-1), np.unpackbits(a[:, :, :1] ^ b[:, :1], axis=-1))
    return np.minimum(*(bits.mean(axis=-1) for bits in beside)).min(axis=(1, 2))


def have_like_colours(a: Appearance, b: Appearance) -> bool:
    """Whether colours agree but for brightness, which hashes do not see, in any of the two directions."""
    return min(_colour_distance(a.colour, b.colour), _colour_distance(a.colour[:, ::-1], b.colour)) <= _MAX_COLOUR


def _colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    gain = np.clip((a * b).sum() / max(float((b * b).sum()), 1e-6), 1 / _MAX_GAIN, _MAX_GAIN)
    return float(np.sqrt(np.mean((a - gain * b) ** 2)))
