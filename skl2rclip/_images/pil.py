"""PIL images that a user hands over: they are decoded where they are, by one thread at a time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from skl2rclip._images.header import Header
from skl2rclip._images.memory import is_waiting
from skl2rclip._utils.forks import in_forked_child

# by image, and by file, which several images may share; which file an image has can change while it is decoded
_N_LOCKS = 64
_image_locks: list[threading.Lock] = []
_file_locks: list[threading.Lock] = []
# by the address of an image that lives, as images have no hash: the image, its frame, and what its header said before
# it was decoded
_headers: dict[int, tuple[weakref.ref[Image.Image], int, float | None, bool]] = {}


def _make_locks() -> None:
    for locks in (_image_locks, _file_locks):
        locks[:] = [threading.Lock() for _ in range(_N_LOCKS)]


_make_locks()
in_forked_child(_make_locks)


@contextmanager
def alone_with(image: Image.Image) -> Iterator[None]:
    """Let no other thread of those who ask here decode an image, or read its file, meanwhile.

    Nobody may enter who holds memory that others wait for.
    """
    with _image_locks[id(image) // 16 % _N_LOCKS]:
        file: Any = getattr(image, "fp", None)
        with _file_locks[id(image if file is None else file) // 16 % _N_LOCKS]:
            try:
                yield
            except (AssertionError, AttributeError, ValueError) as error:
                # what Pillow raises where it has let go of the file, or of the pixels
                if file is not None or (isinstance(error, ValueError) and "closed image" not in f"{error}"):
                    raise
                message = "it has been closed or verified: open it again, or give its path"
                raise ValueError(message) from error


def header_of(image: Image.Image) -> Header:
    """Return what the header of a user's image says, or said before it was decoded here, within `alone_with`."""
    key = id(image)
    if not is_waiting(image):
        known = _headers.get(key)
        if known is not None and known[0]() is image and known[1] == image.tell():
            return Header(image, *known[2:])
        return Header.of(image)
    header = Header.of(image)
    forget = weakref.ref(image, lambda _: _headers.pop(key, None))
    _headers[key] = forget, image.tell(), header.white, header.is_cut
    return header
