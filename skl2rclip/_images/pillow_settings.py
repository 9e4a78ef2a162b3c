"""Pillow's global settings on their way from a process to those that work for it.

They say which pictures can be read, so that an estimator whose pickle goes to a worker has to find them there. A pickle
that is kept, and loaded by anybody else, changes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageFile

_KEY = "_pillow_settings"


@dataclass(frozen=True)
class PillowSettings:
    """What the user has set in Pillow.

    Attributes
    ----------
    load_truncated_images : bool
        `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`.
    max_image_pixels : int or None
        `PIL.Image.MAX_IMAGE_PIXELS`.
    """

    load_truncated_images: bool = False
    max_image_pixels: int | None = 2**30 // 4 // 3

    @classmethod
    def of_this_process(cls) -> PillowSettings:
        """Return what is set here and now."""
        return cls(ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)

    def apply(self) -> None:
        """Set it in this process."""
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self.load_truncated_images, self.max_image_pixels


# what this process had before it took over those of its parent; a worker may serve several searches
_own: PillowSettings | None = None


def with_settings(state: dict[str, Any]) -> dict[str, Any]:
    """Add to the state of an estimator what the user has set, unless that is as Pillow has it by itself."""
    settings = PillowSettings.of_this_process()
    return state if settings == PillowSettings() else {**state, _KEY: (os.getpid(), settings)}


def taken_over(state: dict[str, Any]) -> dict[str, Any]:
    """Take over the settings in a state if it comes from this process's parent, and return the state without them."""
    global _own
    state = dict(state)
    maker, settings = state.pop(_KEY, (None, None))
    if maker is not None and maker in _parents():
        if _own is None:
            _own = PillowSettings.of_this_process()
        settings.apply()
    elif maker is None and _own is not None:  # the parent has gone back to those of Pillow
        _own.apply()
        _own = None
    return state


def _parents() -> set[int]:
    parent = multiprocessing.parent_process()
    return {os.getppid()} | (set() if parent is None or parent.pid is None else {parent.pid})
