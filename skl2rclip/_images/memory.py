"""What an image may take in memory while it is decoded, told from its header, and the tickets of decoding threads.

Nothing is decoded here, and no path is known. What a pixel takes, `FORMATS` says.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from skl2rclip._images.formats import format_of
from skl2rclip._utils.forks import in_forked_child

# what the images under way may take together where no bound is given, and what any bound lets through
_DEFAULT_BOUND, _MIN_BOUND = 10**9, 10**6
# what is converted by way of several copies is converted so many pixels at a time, with so many bytes for each
BAND_PIXELS = 2**16
_BYTES_OF_BAND, _BYTES_OF_DEEP_BAND = 24, 80
# of a pixel that others have decoded: its RGB, and that turned
_CONVERTED = 8
# Pillow keeps a pointer to each row beside the pixels: most of what a thin strip takes
_POINTERS = 24
MAX_REDUCTION = 8


class TooLargeError(ValueError):
    """An image takes more memory decoded than it may."""


def decoding_bound(max_memory: int | None) -> int:
    """Bytes that the images under way may take together, where `max_memory` is the parameter, in bytes."""
    return _DEFAULT_BOUND if max_memory is None else max(max_memory, _MIN_BOUND)


def is_waiting(image: Any) -> bool:
    """Whether an image has been opened and its pixels are still to be decoded."""
    if getattr(image, "tile", None):
        return True
    try:
        return image.im is None
    except (AssertionError, ValueError):  # as Pillow says that there is nothing yet, or not any more
        return True


def decoding_bytes(image: Image.Image, reduction: int = 1) -> int:
    """Bound what decoding an image and converting it to upright RGB takes at its peak, from its header.

    What the file itself takes is not counted, except where the decoder holds a copy of it; nor are the resized copies.
    Of an image that has been decoded already only the conversion counts.
    """
    width, height = (math.ceil(side / reduction) for side in image.size)
    n_pixels = width * height
    n_bytes = _POINTERS * max(width, height)
    if image.mode != "RGB" or image.info.keys() & {"icc_profile", "transparency"}:
        bytes_of_band = _BYTES_OF_DEEP_BAND if image.mode[0] in "IF" else _BYTES_OF_BAND
        n_bytes += bytes_of_band * min(n_pixels, BAND_PIXELS)
    if not is_waiting(image):
        return n_bytes + _CONVERTED * n_pixels
    known = format_of(image)
    return n_bytes + math.ceil(known.bytes_per_pixel * n_pixels) + known.buffered(image)


def bytes_of_array(array: np.ndarray) -> int:
    """Bound what making upright RGB of an array takes."""
    return _CONVERTED * array.shape[0] * array.shape[1] + array.size


class _UnderWay:
    """The images that are being decoded in this process, all threads together.

    Who came first goes first, so that a large image is not kept waiting by small ones for ever.
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
        place = object()
        with self._changed:
            self._queue.append(place)
            try:
                while self._queue[0] is not place or (self.n_bytes and self.n_bytes + n_bytes > bound):
                    self._changed.wait()
                self.n_bytes += n_bytes
            finally:
                self._queue.remove(place)
                self._changed.notify_all()

    def give_back(self, n_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self.n_bytes = max(0, self.n_bytes - n_bytes)
            self._changed.notify_all()


under_way = _UnderWay()
in_forked_child(under_way.begin_anew)


class MemoryTicket:
    """The bytes that one image may take while it is decoded; they are given back at the end of the ``with`` block.

    All images under way may take `max_memory` bytes together: None stands for 1 GB, and less than 1 MB for 1 MB.
    """

    def __init__(self, max_memory: int | None = None):
        self.bound = decoding_bound(max_memory)
        self._n_bytes = 0

    def wait(self, n_bytes: int) -> None:
        """Take bytes, once, and wait for the others' where they are needed; what never fits waits to be alone."""
        under_way.take(n_bytes, self.bound)
        self._n_bytes = n_bytes

    def __enter__(self) -> MemoryTicket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._n_bytes:
            under_way.give_back(self._n_bytes)
        self._n_bytes = 0


def reduction_that_fits(image: Image.Image, bound: int, most: float = MAX_REDUCTION) -> int:
    """Decide at which fraction of its sides an image is decoded, from its header and the bound alone.

    It is more than 1, and at most 8 or `most`, for a JPEG that does not fit otherwise; what does not fit is refused.
    """
    for reduction in (1, 2, 4, MAX_REDUCTION) if format_of(image).is_reducible else (1,):
        if reduction <= max(1, most) and decoding_bytes(image, reduction) <= bound:
            return reduction
    n_bytes = decoding_bytes(image)
    raise TooLargeError(
        f"decoding its {image.width} x {image.height} pixels takes up to {in_words(n_bytes)}, more than the "
        f"{in_words(bound)} that images may take at a time; max_memory='{in_words(n_bytes, gap='')}' allows it"
    )


def in_words(n_bytes: int, gap: str = " ") -> str:
    """Bytes as a number of at most three digits, rounded up, with its unit."""
    unit = next((unit for unit in ("GB", "MB", "KB") if n_bytes >= 10 ** {"GB": 9, "MB": 6, "KB": 3}[unit]), "B")
    factor = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}[unit]
    number = math.ceil(n_bytes * 10 / factor) / 10
    return f"{number:.3g}{gap}{unit}" if number < 100 else f"{math.ceil(n_bytes / factor)}{gap}{unit}"
