"""`ImageCrop`: the part of an image file within a box, as an entry of X, and which pixels a box means."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from skl2rclip.errors import shown_box, visible

Box = tuple[float, float, float, float]
# some tools count the last pixel differently, or round up: a box that reaches so far beyond its image is cut
_TOLERANCE = 1


@dataclass(frozen=True, slots=True)
class ImageCrop:
    """Part of an image file: an entry of X for `fit`, `predict` and all that takes images.

    It is read as an image file that holds these pixels alone would be. It is immutable, has a hash, and is one entry of
    a list or of an array of dtype object. The embedding cache knows it by the content of the file and the box.

    Parameters
    ----------
    path : str or path-like
        The file.
    box : sequence of 4 numbers
        ``(x, y, width, height)`` in pixels, as COCO has it: the upper left corner and the sides, in the image as it is
        shown, which is upright where EXIF says that it lies. Edges are rounded to whole pixels. A box that reaches
        one pixel beyond its image is cut there; one that reaches further makes the entry unreadable, with the reason.

    Attributes
    ----------
    path : str or path-like
        As given.
    box : tuple of 4 floats
        As given.

    Raises
    ------
    ValueError
        If the box is not four finite numbers, or has a side of less than a pixel.
    TypeError
        If the path is none.

    See Also
    --------
    skl2rclip.datasets.read_image_table : Images, boxes and ranks that a table lists.
    skl2rclip.datasets.read_coco_annotations : The boxes of annotations in COCO's format.

    Examples
    --------
    >>> from skl2rclip import ImageCrop
    >>> ImageCrop("orchard/7.jpg", (120, 40, 64, 64))
    ImageCrop('orchard/7.jpg', (120, 40, 64, 64))
    """

    path: str | os.PathLike
    box: Box

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"path must be that of a file, got {type(self.path).__name__}; crop an image itself.")
        object.__setattr__(self, "box", _checked_box(self.box, visible(os.fsdecode(self.path))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, {shown_box(self.box)})"


def _checked_box(box: Any, name: str) -> Box:
    wanted = f"box of {name} must be (x, y, width, height) in pixels"
    if isinstance(box, str | bytes) or not isinstance(box, Iterable):
        raise ValueError(f"{wanted}, got {box!r}.")
    given = tuple(box)
    try:
        numbers = tuple(float(each) for each in given)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}, got {given!r}.") from None
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{wanted}, four finite numbers, got {shown_box(numbers)}.")
    x, y, width, height = numbers
    if width < 1 or height < 1:
        fractions = all(0 <= each <= 1 for each in numbers)
        hint = " Shares of the image's sides become pixels by multiplying them with its sides." if fractions else ""
        raise ValueError(f"{wanted}, with sides of a pixel or more, got {shown_box(numbers)}.{hint}")
    return x, y, width, height


def edges_of(box: Box) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box in whole pixels; it never becomes empty."""
    x, y, width, height = box
    left, top, right, bottom = (math.floor(edge + 0.5) for edge in (x, y, x + width, y + height))
    return left, top, right, bottom


def lies_within(box: Box, size: tuple[int, int]) -> bool:
    """Whether a box lies within an upright image of this width and height, but for what is cut."""
    edges, (left, top, right, bottom) = edges_of(box), _cut(box, size)
    beyond = max(left - edges[0], top - edges[1], edges[2] - right, edges[3] - bottom)
    return beyond <= _TOLERANCE and left < right and top < bottom


def edges_within(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Edges of a box in an upright image of this width and height, or a ValueError that says what is wrong with it."""
    if not lies_within(box, size):
        raise ValueError(_why_outside(box, size))
    return _cut(box, size)


def _cut(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = edges_of(box)
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _why_outside(box: Box, size: tuple[int, int]) -> str:
    x, y, width, height = box
    said = (
        f"its box goes from ({x:g}, {y:g}) to ({x + width:g}, {y + height:g}), beyond the {size[0]} x {size[1]} pixels "
        "of the upright image"
    )
    if 0 <= x < width <= size[0] + _TOLERANCE and 0 <= y < height <= size[1] + _TOLERANCE:
        return f"{said}; if its last two numbers are the other corner, the box is (x1, y1, x2 - x1, y2 - y1)"
    return f"{said}; a box is (x, y, width, height)"


def scaled_edges(
    edges: tuple[int, int, int, int], size: tuple[int, int], decoded: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Edges in an image that was decoded at other sides than it has."""
    by_width, by_height = decoded[0] / size[0], decoded[1] / size[1]
    left, top, right, bottom = edges
    return (
        math.floor(left * by_width),
        math.floor(top * by_height),
        min(decoded[0], math.ceil(right * by_width)),
        min(decoded[1], math.ceil(bottom * by_height)),
    )
