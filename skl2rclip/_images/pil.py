"""PIL images that a user hands over: they are decoded where they are, by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from skl2rclip._utils.forks import in_forked_child

# by image, and by file, which several images may share; which file an image has can change while it is decoded
_N_LOCKS = 64
_image_locks: list[threading.Lock] = []
_file_locks: list[threading.Lock] = []


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
            except (AssertionError, AttributeError) as error:  # what Pillow raises where it has let go of the file
                if file is not None:
                    raise
                message = "it was closed or verified before it was decoded: open it again, or give its path"
                raise ValueError(message) from error
