"""What a picture takes in memory while it is decoded, told from its header, and the turns that decoding threads take.

Nothing is decoded here, and no path is known. What differs by format, `FORMATS` says.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from types import TracebackType
from typing import Any

from PIL import ExifTags, Image

from skl2rclip._images.color import conversion_of
from skl2rclip._images.formats import format_of

# what the pictures under way may take together where no bound is given
_DEFAULT_BOUND = 10**9
# a picture of so few bytes is always let through
_ALWAYS = 10**6
# Pillow keeps every other mode in four bytes a pixel
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# what is converted by way of several copies is converted so many pixels at a time, with so many bytes for each
BAND_PIXELS = 2**16
_BYTES_OF_BAND, _BYTES_OF_GREY_BAND = 24, 80
MOST_REDUCED = 8
_MAX_ASPECT_RATIO = 16  # wider pictures may be cropped before they are resized


class TooLargeError(ValueError):
    """A picture takes more memory decoded than it may."""


def decoding_bound(max_memory: int | None) -> int:
    """Bytes that the pictures under way may take together, where `max_memory` is the parameter, in bytes."""
    return _DEFAULT_BOUND if max_memory is None else max(max_memory, _ALWAYS)


def is_waiting(image: Image.Image) -> bool:
    """Whether an image has been opened and its pixels are still to be decoded."""
    core = image.__dict__.get("_im", image.__dict__.get("im"))
    return core is None or bool(getattr(image, "tile", None))


def orientation_of(image: Image.Image) -> int:
    """Tell how EXIF says that an image lies, from 1 to 8; 1 where it is upright."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF makes Pillow raise anything, and costs nothing but itself
        return 1
    return orientation if orientation in tuple(range(1, 9)) else 1  # whatever a damaged header holds


def decoding_bytes(image: Image.Image, reduction: int = 1, is_turned: bool | None = None) -> int:
    """Tell what decoding a picture takes at its peak, with its conversion to upright RGB, from its header.

    What the file itself takes is not counted, except where the decoder holds a copy of it; nor are the resized copies.

    Parameters
    ----------
    image : PIL image
        Opened. Where it has been decoded already, only the conversion counts.
    reduction : {1, 2, 4, 8}
        Of a JPEG that is decoded at a fraction of its sides.
    is_turned : bool or None
        Whether it lies otherwise than EXIF says; None looks.

    Returns
    -------
    int
        Bytes.
    """
    width, height = (math.ceil(side / reduction) for side in _size_within(image))
    n_pixels = width * height
    bytes_of_pixel = _BYTES_OF_MODE.get(image.mode, 4)
    # Pillow keeps a pointer to each row beside the pixels: most of what a thin strip takes
    source, result, turned = (
        n_pixels * bytes_of_pixel + 8 * height,
        4 * n_pixels + 8 * height,
        4 * n_pixels + 8 * width,
    )
    if not (_may_be_turned(image) if is_turned is None else is_turned):
        turned = 0
    converted = 0
    if image.mode != "RGB" or "transparency" in image.info or conversion_of(image).transform is not None:
        bytes_of_band = _BYTES_OF_GREY_BAND if image.mode[0] in "IF" else _BYTES_OF_BAND
        converted = result + bytes_of_band * min(n_pixels, BAND_PIXELS)
    if not is_waiting(image):
        return max(1, converted + turned)
    beside, buffered = math.ceil(n_pixels * _beside(image)), format_of(image).buffered(image)
    shorter, longer = sorted((width, height))
    cropped = 4 * _MAX_ASPECT_RATIO * shorter**2 if longer > _MAX_ASPECT_RATIO * shorter else 0
    return max(
        source + beside + buffered,
        source + converted + buffered // 2,  # not all that is free goes back to the system at once
        result + (turned and turned + n_pixels * (bytes_of_pixel % 4)),
        result + cropped,
    )


def _may_be_turned(image: Image.Image) -> bool:
    ends_with_exif = format_of(image).ends_with_exif
    if ends_with_exif is not None and is_waiting(image) and "exif" not in image.info:
        return ends_with_exif(image)
    return orientation_of(image) != 1


def _beside(image: Any) -> float:
    """Bytes a pixel that a decoder takes beside the pixels that Pillow keeps."""
    known = format_of(image)
    beside = known.beside(image) if callable(known.beside) else known.beside
    if known.is_turned_by_decoder and orientation_of(image) != 1:
        beside += _BYTES_OF_MODE.get(image.mode, 4)
    return beside


def _size_within(image: Any) -> tuple[int, int]:
    """Width and height of the pixels, which the header need not tell."""
    sizes = format_of(image).sizes_within(image) if is_waiting(image) else []
    return max(size[0] for size in [image.size, *sizes]), max(size[1] for size in [image.size, *sizes])


class _UnderWay:
    """The pictures that are being decoded in this process, all threads together.

    Who came first goes first, so that a large picture is not kept waiting by small ones for ever.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything; for a forked child, which has none of its parent's threads."""
        self.n_bytes = 0
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    def take(self, n_bytes: int, bound: int) -> None:
        """Wait until this fits beside what is under way, or nothing is under way."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or (self.n_bytes and self.n_bytes + n_bytes > bound):
                    self._changed.wait()
                self.n_bytes += n_bytes
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def give_back(self, n_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self.n_bytes = max(0, self.n_bytes - n_bytes)
            self._changed.notify_all()


under_way = _UnderWay()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=under_way.begin_anew)


class Turn:
    """One picture's turn to be decoded; in a ``with`` block, at whose end its bytes are given back.

    Parameters
    ----------
    max_memory : int or None
        Bytes that the pictures under way may take together. None stands for 1 GB, and less than 1 MB for 1 MB.

    Attributes
    ----------
    bound : int
        What `max_memory` stands for.
    has_reduced : bool
        Whether the picture was decoded at smaller sides because it would not fit.
    doubt : str or None
        Why it may hold fewer bits than its type, so that it is decoded too dark.
    """

    def __init__(self, max_memory: int | None = None):
        self.bound = decoding_bound(max_memory)
        self.has_reduced = False
        self.doubt: str | None = None
        self._n_bytes = 0

    def wait(self, n_bytes: int) -> None:
        """Take bytes, once, and wait for the others' where they are needed; what never fits waits to be alone."""
        under_way.take(n_bytes, self.bound)
        self._n_bytes = n_bytes

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._n_bytes:
            under_way.give_back(self._n_bytes)
        self._n_bytes = 0


def reduction_that_fits(image: Image.Image, bound: int, most: float = MOST_REDUCED) -> int:
    """Decide at which fraction of its sides a picture is decoded, from its header and the bound alone.

    Parameters
    ----------
    image : PIL image
        Opened and not yet decoded.
    bound : int
        Bytes.
    most : float, default=8
        How many times smaller its sides may become.

    Returns
    -------
    {1, 2, 4, 8}
        More than 1 only for a JPEG that does not fit otherwise.

    Raises
    ------
    TooLargeError
    """
    if decoding_bytes(image, is_turned=True) <= bound:
        return 1  # however it lies, for which a PNG would have to be gone through
    for reduction in (1, 2, 4, MOST_REDUCED) if format_of(image).is_reducible else (1,):
        if reduction <= max(1, most) and decoding_bytes(image, reduction) <= bound:
            return reduction
    n_bytes = decoding_bytes(image)
    width, height = _size_within(image)
    raise TooLargeError(
        f"decoding its {width} x {height} pixels takes {in_words(n_bytes)}, more than the {in_words(bound)} that "
        f"pictures may take at a time; max_memory='{in_words(n_bytes, gap='')}' allows it"
    )


def in_words(n_bytes: int, gap: str = " ") -> str:
    """Bytes as a number of at most three digits, rounded up, with its unit."""
    unit = next((unit for unit in ("GB", "MB", "KB") if n_bytes >= 10 ** {"GB": 9, "MB": 6, "KB": 3}[unit]), "B")
    factor = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}[unit]
    number = math.ceil(n_bytes * 10 / factor) / 10
    return f"{number:.3g}{gap}{unit}" if number < 100 else f"{math.ceil(n_bytes / factor)}{gap}{unit}"
