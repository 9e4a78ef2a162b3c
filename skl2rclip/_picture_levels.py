"""Which value is white in a picture of more than eight bits, as far as file and mode tell.

Where neither tells, and where a picture would come out black because its values use little of what its type could hold,
it is refused by name rather than learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from skl2rclip._picture_cost import BAND_PIXELS

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 284, 339  # tags of TIFF
_SIGNED = 2
_WHITE_IS_ZERO = 0
_SEPARATE = 2
# Pillow scales grey values of these to sixteen bits, whatever they had in the file
_OF_SIXTEEN_BITS = ("PNG", "PPM")
# what enlarging, sharpening and rounding add to values from 0 to 1
_MOST_OF_UNIT = 2.0
_LEAST_OF_BYTES, _MOST_OF_BYTES = 16.0, 270.0
_MOST_BELOW_ZERO = 0.05
_REMEDY = "Image.fromarray((np.asarray(image) / white * 255).round().astype('uint8')), with the value that is white"


@dataclass(frozen=True)
class GreyLevels:
    """How values of one channel become uint8.

    Attributes
    ----------
    white : float
        The value that is shown as white; black is 0.
    is_inverted : bool
        Whether 0 is white, and `white` is black.
    transparent : int or None
        The value of pixels that are not there, and so are white.
    is_unsigned : bool
        Whether the 32 bits that Pillow has as signed are not.
    """

    white: float
    is_inverted: bool = False
    transparent: int | None = None
    is_unsigned: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> GreyLevels:
        """Tell from a decoded picture of mode I, F, or one of those of I;16.

        Raises
        ------
        ValueError
            If neither file nor mode say which value is white, or all would be black.
        """
        tags: Any = getattr(image, "tag_v2", {})
        is_unsigned = image.mode == "I" and bool(tags) and _bits_of(tags) == 32
        low, high = _range_of(image, is_unsigned)
        if image.mode == "F":
            white = _white_of_floats(low, high)
        elif image.mode == "I":
            white = 2.0**32 - 1 if is_unsigned else _white_of_integers(image, low, high)
        else:
            white = 2.0 ** _bits_of(tags) - 1 if tags else 65535.0
        if image.mode != "F":
            _check_not_black(high, white)
        transparent = image.info.get("transparency")
        return cls(
            white,
            tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
            transparent if isinstance(transparent, int) and image.mode != "F" else None,
            is_unsigned,
        )

    def applied(self, image: Image.Image) -> np.ndarray:
        """Values of a picture, or of a part of it, as uint8 of shape (H, W)."""
        values = _finite_values(image, self.is_unsigned)
        grey = values * (255 / self.white) if image.mode == "F" else np.floor(values * (256 / (self.white + 1)))
        if self.is_inverted:
            grey = 255 - grey
        grey = grey.clip(0, 255).round().astype(np.uint8)
        if self.transparent is not None:
            grey[values == self.transparent] = 255
        return grey


def check_samples(picture: Any) -> None:
    """Refuse a TIFF whose samples Pillow misreads, from its tags.

    Raises
    ------
    ValueError
    """
    tags = picture.tag_v2
    is_raw = tags.get(_COMPRESSION, 1) == 1  # told by the tag, because what has been decoded has no tiles any more
    if tags.get(_PLANES) == _SEPARATE and _bits_of(tags) > 8 and is_raw:
        raise ValueError(
            f"its planes of {_bits_of(tags)} bits are stored one behind the other, which Pillow misreads: save it "
            "interleaved (PlanarConfiguration 1)"
        )
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise ValueError(
            "it holds signed integers, and nothing says which value is black and which is white: scale them and save "
            "uint8"
        )


def bands_of(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Cut a picture into bands of rows that are converted one after the other: left, top, right, bottom."""
    width, height = size
    n_rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, n_rows):
        yield 0, top, width, min(height, top + n_rows)


def _bits_of(tags: Any) -> int:
    return max(tags.get(_BITS, (8,)))


def _finite_values(image: Image.Image, is_unsigned: bool) -> np.ndarray:
    """Values as float64 of shape (H, W): NaN is 0, and infinity is 255."""
    values = np.asarray(image)
    if is_unsigned:
        values = values.view(np.uint32)
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)


def _range_of(image: Image.Image, is_unsigned: bool) -> tuple[float, float]:
    """Lowest and highest value."""
    extremes = []
    for band in bands_of(image.size):
        values = _finite_values(image.crop(band), is_unsigned)
        extremes.append((float(values.min()), float(values.max())))
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _white_of_floats(low: float, high: float) -> float:
    if high <= _MOST_OF_UNIT and low >= -_MOST_BELOW_ZERO:
        return 1.0
    if _LEAST_OF_BYTES <= high <= _MOST_OF_BYTES and low >= -_MOST_BELOW_ZERO * 255:
        return 255.0
    raise ValueError(
        f"its values are floats from {low:.6g} to {high:.6g}, neither 0 to 1 nor 0 to 255, and nothing says which is "
        f"white: give {_REMEDY}"
    )


def _white_of_integers(image: Image.Image, low: float, high: float) -> float:
    # what exceeds 12 bits and not 16 would be black if it were anything else than 16 bits
    if image.format in _OF_SIXTEEN_BITS or (low >= 0 and (4095 < high <= 65535 or high == 0)):
        return 65535.0
    raise ValueError(
        f"it is of mode I, which may hold 8, 12, 16 or 32 bits, and its values go from {low:.0f} to {high:.0f}: give "
        f"{_REMEDY}"
    )


def _check_not_black(high: float, white: float) -> None:
    """Raise where the brightest pixel is one of the darkest sixteenth: fewer bits in a type that could hold more."""
    if white > 4095 and 0 < high < (white + 1) / 16:
        raise ValueError(
            f"its values end at {high:.0f} of {white:.0f}, so that it would be black: if it holds fewer bits than its "
            f"type, give {_REMEDY}"
        )
