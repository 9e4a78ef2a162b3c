"""From an image of more than eight bits, of floating or of signed values to uint8: which of its values is white.

What the file says holds; else what the user says, as `WhiteLevel`; else the full range of the type. Nothing is decided
from other images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from skl2rclip._images.formats import bits_of, is_signed
from skl2rclip._images.memory import BAND_PIXELS

_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and a value of it
_BEYOND_WHITE = 2.0**64
_SIXTEEN_BITS = 2.0**16 - 1
_MAX_CHUNKS = 1_000  # of a PNG, before its pixels
# what enlarging, sharpening and rounding add, as shares of white
_MAX_SHARE, _MIN_SHARE = 1.1, -0.05
# an image of more bits that uses no more of its range may hold fewer bits than its type
_DARK_SHARE = 1 / 8
_AS_ARRAY = (
    "read it as an array in the order red, green, blue, with tifffile.imread(name) or "
    "cv2.imread(name, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)[..., ::-1]"
)
_AS_RGB = "convert it to RGB first, as arrays of CMYK are not read"


@dataclass(frozen=True, slots=True)
class WhiteLevel:
    """What the user says of images that do not say themselves which value is white."""

    value: float | None = None  # the parameter `white_level`; None stands for the full range of the type
    # of an image that uses so little of its type's range that it may hold fewer bits, as `fit` does
    refuses_dark: bool = False


FULL_RANGE = WhiteLevel()


def is_deep(image: Image.Image | np.ndarray) -> bool:
    """Whether an array, or the pixels of a PIL image, have more than eight bits, or floating or signed values."""
    if isinstance(image, np.ndarray):
        return image.dtype.kind in "iuf" and image.dtype != np.uint8
    return image.mode[0] in "IF"  # I, I;16, I;16B, I;16L, I;16N, F


def is_cut_to_eight_bits(image: Any) -> bool:
    """Whether Pillow, which has opened and not decoded an image, will keep the upper eight bits of sixteen."""
    return image.mode[0] != "I" and ";16" in _raw_mode(image)


def white_of_file(image: Any) -> float | None:
    """Tell which value is white, as far as the file of an image says it; of one that was decoded, less is known.

    A TIFF and a DICOM file say it by a number of bits that is not that of a type, and a PNG by its significant bits.
    The values of PGM and JPEG 2000 Pillow scales to sixteen bits, except those of a PGM that has sixteen itself.
    """
    if image.format == "TIFF":
        n_bits = bits_of(getattr(image, "tag_v2", {}))
        return 2.0**n_bits - 1 if 8 < n_bits < 16 else None
    if not is_deep(image) and not is_cut_to_eight_bits(image):
        return None
    if image.format == "DICOM":
        n_bits = image.info["bits_stored"]
        return 2.0**n_bits - 1 if n_bits < 16 else None
    if image.format == "PNG":
        file = getattr(image, "fp", None)
        significant = None if file is None else _significant_bits(file)
        return None if significant is None else 2.0**significant - 1
    is_scaled = image.format == "JPEG2000" or (image.format == "PPM" and ";16" not in _raw_mode(image))
    return _SIXTEEN_BITS if is_scaled and image.mode[0] == "I" else None


def check_signed(image: Image.Image | np.ndarray, white: WhiteLevel) -> None:
    """Refuse signed integers where the user does not say which value is white, before anything is decoded."""
    if is_deep(image) and white.value is None and _full_range(image) is None:
        raise ValueError(
            "it holds signed integers, and nothing says which value is white: white_level says it, as in "
            "white_level=255 or white_level=4095"
        )


def resolve_white(
    image: Image.Image | np.ndarray, said: float | None, white: WhiteLevel, *, is_cut: bool = False
) -> tuple[float, str | None]:
    """Tell which value is white in a decoded image, and why it may hold fewer bits than its type and so be too dark.

    What its file said counts unless values are above it, as those of a PNG that were scaled to all of its sixteen bits.
    Where Pillow has kept the upper eight of sixteen bits (`is_cut`), the lower ones count as ones. Where nothing says
    which value is white, values lie beyond what does, or `white` refuses a dark image, a ValueError says the remedy.
    """
    low, high, colour = _range_of(image, is_cut)
    level = white.value if said is None else (said if high <= said else _SIXTEEN_BITS)
    if level is not None:
        _check_within(low, high, level, image, is_cut)
        return level, None
    check_signed(image, white)
    full = _SIXTEEN_BITS if is_cut else _full_range(image)
    assert full is not None
    _check_within(low, high, full, image, is_cut)
    if _is_floating(image) or not 0 < colour <= _DARK_SHARE * full:
        return full, None
    doubt = (
        f"its largest value is {colour:.0f} of the {_whole(full)} of its type, so that it may hold fewer bits: "
        f"{f'{_as_array(image)}, and ' if is_cut else ''}white_level={_proposal(colour)} says which value is white "
        f"(white_level={_whole(full)} if it is as dark as that)"
    )
    if white.refuses_dark:
        raise ValueError(doubt)
    return full, doubt


def _as_array(image: Image.Image | np.ndarray) -> str:
    return _AS_RGB if isinstance(image, Image.Image) and image.mode == "CMYK" else _AS_ARRAY


def _check_within(low: float, high: float, level: float, image: Image.Image | np.ndarray, is_cut: bool) -> None:
    if low < _MIN_SHARE * level or high > _MAX_SHARE * level:
        remedy = f"white_level={_proposal(high)} says that this is white"
        if low < _MIN_SHARE * level:  # integers of the same type would wrap
            ends = f"({low:.6g}, {high:.6g}), (0, {level:.6g})"
            remedy = f"scale them, all images alike, as with np.interp(image, {ends})"
        raise ValueError(f"its values go from {low:.6g} to {high:.6g} instead of 0 to {level:.6g}: {remedy}")
    if is_cut and level < _SIXTEEN_BITS:
        raise ValueError(
            f"{level:.6g} is white, and Pillow keeps the upper eight of its 16 bits only: {_as_array(image)}"
        )


def array_as_bytes(array: np.ndarray, white: float) -> np.ndarray:
    """Scale an array of shape (H, W) or (H, W, C) to uint8, some rows at a time."""
    parts = [
        _scaled(_finite(rows), white, _is_floating(array)).clip(0, 255).round().astype(np.uint8)
        for rows in _rows_of(array)
    ]
    return np.concatenate(parts)


def grey_as_bytes(part: Image.Image, whole: Image.Image, white: float) -> np.ndarray:
    """Scale a part of a decoded image of mode I, F, or one of those of I;16, to uint8 of shape (H, W)."""
    tags: Any = getattr(whole, "tag_v2", {})
    values = _finite(_values_of(part, _is_unsigned(whole)))
    grey = _scaled(values, white, whole.mode == "F")
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO or whole.info.get("white_is_zero"):
        grey = 255 - grey
    grey = grey.clip(0, 255).round().astype(np.uint8)
    transparent = whole.info.get("transparency")
    if isinstance(transparent, int) and whole.mode != "F":
        grey[values == transparent] = 255
    return grey


def bands_of(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Cut an image into bands of rows that are converted one after the other: left, top, right, bottom."""
    width, height = size
    n_rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, n_rows):
        yield 0, top, width, min(height, top + n_rows)


def _rows_of(array: np.ndarray) -> Iterator[np.ndarray]:
    for _, top, _, bottom in bands_of((array.shape[1], array.shape[0])):
        yield array[top:bottom]


def _raw_mode(image: Any) -> str:
    """Return how the values stand in the file of an image that has not been decoded, as Pillow names it."""
    for tile in getattr(image, "tile", ())[:1]:
        arguments = tile[3] if isinstance(tile[3], list | tuple) else (tile[3],)
        return next((each for each in arguments[:1] if isinstance(each, str)), "")
    return ""


def _significant_bits(file: IO[bytes]) -> int | None:
    """Return the largest number of bits that a PNG's sBIT names for a channel, where it has one."""
    here, place = file.tell(), 8
    try:
        for _ in range(_MAX_CHUNKS):
            file.seek(place)
            header = file.read(8)
            length, name = int.from_bytes(header[:4], "big"), header[4:]
            if name == b"sBIT" and 1 <= length <= 4:
                n_bits = max(file.read(length), default=0)
                return n_bits if 8 <= n_bits <= 16 else None
            if name in (b"IDAT", b"IEND", b""):
                return None
            place += 12 + length
        return None
    finally:
        file.seek(here)


def _is_floating(image: Image.Image | np.ndarray) -> bool:
    return image.dtype.kind == "f" if isinstance(image, np.ndarray) else image.mode == "F"


def _full_range(image: Image.Image | np.ndarray) -> float | None:
    """Return the largest value of the type, 1 of floats; None of signed integers."""
    if _is_floating(image):
        return 1.0
    if isinstance(image, np.ndarray):
        return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else None
    if image.mode != "I" or image.format in ("PNG", "PPM"):
        return _SIXTEEN_BITS
    return 2.0**32 - 1 if _is_unsigned(image) else None


def _is_unsigned(image: Image.Image) -> bool:
    """Whether the 32 bits that Pillow has as signed are not."""
    tags: Any = getattr(image, "tag_v2", {})
    return image.mode == "I" and bool(tags) and bits_of(tags) == 32 and not is_signed(tags)


def _range_of(image: Image.Image | np.ndarray, is_cut: bool) -> tuple[float, float, float]:
    """Lowest and highest value of a decoded image, and the highest of its colours, without alpha."""
    if isinstance(image, np.ndarray):
        low, high = _over_all([_extremes(rows) for rows in _rows_of(image)])
        has_alpha = image.shape[2:] == (4,)
        return low, high, _over_all([_extremes(rows[..., :3]) for rows in _rows_of(image)])[1] if has_alpha else high
    if is_cut:
        colours = [name for name in image.getbands() if name != "A"]
        high = 256 * max(_extremes(np.asarray(image.getchannel(name)))[1] for name in colours) + 255
        return 0.0, high, high
    is_unsigned = _is_unsigned(image)
    low, high = _over_all([_extremes(_values_of(image.crop(band), is_unsigned)) for band in bands_of(image.size)])
    return low, high, high


def _over_all(extremes: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value, without NaN and infinities; 0 and 0 where nothing is left."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _whole(full: float) -> int:
    """Return the largest value of a type, which double precision rounds where it has 64 bits."""
    return int(full) - (full == _BEYOND_WHITE)


def _proposal(high: float) -> int:
    """Return white of the fewest of the usual bits that hold a value."""
    return next((2**n - 1 for n in (8, 10, 12, 14, 16, 32) if high < 2**n), math.ceil(high))


def _values_of(image: Image.Image, is_unsigned: bool) -> np.ndarray:
    values = np.asarray(image)
    return values.view(np.uint32) if is_unsigned else values


def _finite(values: np.ndarray) -> np.ndarray:
    """Values as float64: NaN and what is infinitely dark are 0, and what is infinitely bright is far beyond white."""
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=_BEYOND_WHITE, neginf=0.0)


def _scaled(values: np.ndarray, white: float, are_floats: bool) -> np.ndarray:
    """Values from 0 to 255; of integers the upper eight bits."""
    return values * (255 / white) if are_floats or white < 255 else np.floor(values * (256 / (white + 1)))
