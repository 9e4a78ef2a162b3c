"""How alike two images are to look at, whatever their files are: digests of their pixels, and perceptual hashes.

The hashes are those of ImageHash. Which images are worth comparing is not known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
from PIL import Image

from skl2rclip._images.levels import bands_of

# bits along a side of a hash: 256 of them tell leaves apart that differ little in 64
_HASH_SIDE = 16
# how many times as many pixels along a side are transformed
_HIGHFREQ_FACTOR = 2
_GREY_SIDE, _TEXTURE_SIDE, _COLOUR_SIDE = 64, 16, 8
# shares of the sides that a copy may have lost, from all four alike, and from each by itself
_ALIKE = (0.0, 0.025, 0.05)
_EACH = tuple(product(_ALIKE, repeat=4))
# a brighter or darker copy is not further from the other than this factor
_MAX_GAIN = 1.25
# mean square root of what colours may differ by, of 1
_MAX_COLOUR = 0.1

Crop = tuple[float, ...]


@dataclass(frozen=True)
class Appearance:
    """What is kept of an image to compare it with others, 4 kB and its hashes."""

    digest: bytes  # of size and pixels: equal where every pixel is
    grey: np.ndarray  # (64, 64), uint8
    colour: np.ndarray  # (8, 8, 3), float32, of 1
    # (2, 2, 256), float32: as it is and mirrored, whole and a little cropped, without brightness and contrast
    texture: np.ndarray
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
        return cls(digest.digest(), grey, colour, _textures(grey), _hashes(grey, [(loss,) * 4 for loss in _ALIKE]))

    @cached_property
    def all_hashes(self) -> np.ndarray:
        """Hashes under every crop that is tried, ndarray of shape (2, 81, 32), uint8."""
        return _hashes(self.grey, _EACH)


def _hashes(grey: np.ndarray, crops: Iterable[Crop]) -> np.ndarray:
    """Hash an image, and its mirror image, without some share of each side: (2, crops, 32), uint8."""
    from imagehash import phash  # of an extra

    side = _HASH_SIDE * _HIGHFREQ_FACTOR
    hashes = [phash(part, _HASH_SIDE, _HIGHFREQ_FACTOR).hash.ravel() for part in _parts(grey, crops, side)]
    return np.packbits(hashes, axis=-1).reshape(2, -1, _HASH_SIDE**2 // 8)


def _textures(grey: np.ndarray) -> np.ndarray:
    parts = np.array([np.asarray(part).ravel() for part in _parts(grey, [(0.0,) * 4, (0.025,) * 4], _TEXTURE_SIDE)])
    centred = parts - parts.mean(axis=1, keepdims=True, dtype=np.float32)
    lengths = np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1.0)
    return (centred / lengths).reshape(2, 2, -1).astype(np.float32)


def _parts(grey: np.ndarray, crops: Iterable[Crop], side: int) -> Iterator[Image.Image]:
    """Resize an image, then its mirror image, without shares of the left, upper, right and lower side each."""
    for image, crop in product((Image.fromarray(grey), Image.fromarray(grey[:, ::-1].copy())), crops):
        left, upper, right, lower = (share * _GREY_SIDE for share in crop)
        box = (left, upper, _GREY_SIDE - right, _GREY_SIDE - lower)
        yield image.resize((side, side), Image.Resampling.LANCZOS, box=box)


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
