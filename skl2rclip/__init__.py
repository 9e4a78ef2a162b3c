"""L2RCLIP for scikit-learn: ordinal image classification with CLIP."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from typing import TYPE_CHECKING, Any

from skl2rclip import _forks as _forks  # from here on it notices when this process is forked

if TYPE_CHECKING:
    from skl2rclip._classifier import L2RCLIPClassifier as L2RCLIPClassifier
    from skl2rclip._encoder import CLIPImageEncoder as CLIPImageEncoder
    from skl2rclip._unreadable import find_unreadable as find_unreadable

# a library says nothing by itself: who wants to hear adds a handler
logging.getLogger("skl2rclip").addHandler(logging.NullHandler())

__version__ = importlib.metadata.version("skl2rclip")
__all__ = ["CLIPImageEncoder", "L2RCLIPClassifier", "find_unreadable"]

# scikit-learn takes a second to import: it waits until an estimator is asked for, and torch until it is fitted
_HOME = {
    "L2RCLIPClassifier": "skl2rclip._classifier",
    "CLIPImageEncoder": "skl2rclip._encoder",
    "find_unreadable": "skl2rclip._unreadable",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'skl2rclip' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
