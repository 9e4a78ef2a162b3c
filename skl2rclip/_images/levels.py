"""From a picture of more than eight bits to uint8: what file, mode and dtype say of its values, and where these end.

Where none of them says which value is white, ``_images.white_levels`` decides, from all pictures of a kind. A picture
that would come out black, because its values use little of what its type could hold, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from skl2rclip._images.memory import BAND_PIXELS
from skl2rclip._images.white_levels import ValueRange, is_black

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 284, 339  # tags of TIFF
_SIGNED = 2
_WHITE_IS_ZERO = 0
_SEPARATE = 2
_BEYOND_WHITE = 2.0**64
# Pillow scales grey values of these to sixteen bits, whatever the file says that they have
_SCALED_TO_SIXTEEN_BITS = ("PPM", "JPEG2000")


def kind_of(picture: Image.Image | np.ndarray) -> str | None:
    """Tell of which of `_images.white_levels.KINDS` a picture is, from its header or dtype.

    Returns
    -------
    str or None
        None where file, mode or dtype say which value is white.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype.kind in "iu" and picture.dtype.itemsize > 1:
            return "uint16" if picture.dtype.kind == "u" and picture.dtype.itemsize == 2 else "integer"
        return {"i": "integer", "f": "floating"}.get(picture.dtype.kind)
    if picture.mode == "F":
        return "floating"
    if picture.mode[0] != "I" or picture.format in _SCALED_TO_SIXTEEN_BITS:
        return None
    tags: Any = getattr(picture, "tag_v2", {})
    if picture.mode == "I":
        if tags and _bits_of(tags) == 32:
            return None
        return "uint16" if picture.format == "PNG" else "integer"
    return "uint16" if not tags or _bits_of(tags) == 16 else None


def is_cut_to_eight_bits(picture: Any) -> bool:
    """Whether Pillow, which has opened and not decoded a picture, will keep the upper eight bits of sixteen."""
    if picture.mode[0] == "I":
        return False
    modes = (
        tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(picture, "tile", ())[:1] if tile[3]
    )
    return any(isinstance(mode, str) and ";16" in mode for mode in modes)


def range_of(picture: Image.Image | np.ndarray, kind: str, is_cut: bool = False) -> ValueRange:
    """Find where the values of a decoded picture begin and end."""
    if isinstance(picture, np.ndarray):
        extremes = [_extremes(rows) for rows in _rows_of(picture)]
    elif is_cut:
        colours = [name for name in picture.getbands() if name != "A"]
        extremes = [(0, 256 * _extremes(np.asarray(picture.getchannel(name)))[1] + 255) for name in colours]
    else:
        extremes = [_extremes(np.asarray(picture.crop(band))) for band in bands_of(picture.size)]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    return ValueRange(kind, low, high, is_cut, isinstance(picture, np.ndarray), _highest_parts(picture))


def _highest_parts(picture: Image.Image | np.ndarray) -> tuple[float, float] | None:
    """Highest value of the colours and of alpha, of an array that has both."""
    if not isinstance(picture, np.ndarray) or picture.ndim < 3 or picture.shape[2] != 4:
        return None
    colour, alpha = (
        max(_extremes(rows)[1] for rows in _rows_of(part)) for part in (picture[..., :3], picture[..., 3:])
    )
    return colour, alpha


def array_as_bytes(array: np.ndarray, white: float) -> np.ndarray:
    """Scale an array of shape (H, W) or (H, W, C) to uint8, some rows at a time."""
    are_floats = array.dtype.kind == "f"
    parts = [
        _scaled(_finite(rows), white, are_floats).clip(0, 255).round().astype(np.uint8) for rows in _rows_of(array)
    ]
    return np.concatenate(parts)


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
    def of(cls, image: Image.Image, white: float | None = None) -> GreyLevels:
        """Tell from a decoded picture of mode I, F, or one of those of I;16.

        Parameters
        ----------
        image : PIL image
        white : float, optional
            What has been decided; needed where `kind_of` names a kind.

        Raises
        ------
        ValueError
            If all would be black.
        """
        tags: Any = getattr(image, "tag_v2", {})
        is_unsigned = image.mode == "I" and bool(tags) and _bits_of(tags) == 32
        if white is None:
            white = _white_as_told(image, tags)
            _check_not_black(image, is_unsigned, white)
        transparent = image.info.get("transparency")
        return cls(
            white,
            tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
            transparent if isinstance(transparent, int) and image.mode != "F" else None,
            is_unsigned,
        )

    def applied(self, image: Image.Image) -> np.ndarray:
        """Values of a picture, or of a part of it, as uint8 of shape (H, W)."""
        values = _values_of(image, self.is_unsigned)
        grey = _scaled(values, self.white, image.mode == "F")
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


def _rows_of(array: np.ndarray) -> Iterator[np.ndarray]:
    for _, top, _, bottom in bands_of((array.shape[1], array.shape[0])):
        yield array[top:bottom]


def _bits_of(tags: Any) -> int:
    return max(tags.get(_BITS, (8,)))


def _values_of(image: Image.Image, is_unsigned: bool) -> np.ndarray:
    """Values as float64 of shape (H, W), all finite."""
    values = np.asarray(image)
    return _finite(values.view(np.uint32) if is_unsigned else values)


def _finite(values: np.ndarray) -> np.ndarray:
    """Values as float64: NaN and what is infinitely dark are 0, and what is infinitely bright is far beyond white."""
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=_BEYOND_WHITE, neginf=0.0)


def _scaled(values: np.ndarray, white: float, are_floats: bool) -> np.ndarray:
    """Values from 0 to 255; of integers the upper eight bits."""
    return values * (255 / white) if are_floats else np.floor(values * (256 / (white + 1)))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value, without NaN and infinities; 0 and 0 where nothing is left."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _white_as_told(image: Image.Image, tags: Any) -> float:
    if tags:
        return 2.0 ** _bits_of(tags) - 1
    return 65535.0


def _check_not_black(image: Image.Image, is_unsigned: bool, white: float) -> None:
    """Raise where a picture holds fewer bits than its file says."""
    high = max(float(_values_of(image.crop(band), is_unsigned).max()) for band in bands_of(image.size))
    if is_black(high, white):
        remedy = ValueRange("integer", 0, high).remedy
        raise ValueError(
            f"its values end at {high:.0f} of {white:.0f}, so that it would be black: if it holds fewer bits than its "
            f"type, {remedy}"
        )
