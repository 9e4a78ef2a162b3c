"""L2RCLIP for scikit-learn: ordinal image classification with CLIP."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import TYPE_CHECKING

from skl2rclip._utils import forks as _forks  # noqa: F401  from here on it notices when this process is forked
from skl2rclip._utils.lazy import lazily

if TYPE_CHECKING:
    from skl2rclip._classifier import L2RCLIPClassifier as L2RCLIPClassifier
    from skl2rclip._deploy.pixels import input_pixels as input_pixels
    from skl2rclip._duplicates import find_duplicates as find_duplicates
    from skl2rclip._duplicates import group_duplicates as group_duplicates
    from skl2rclip._encoder import CLIPImageEncoder as CLIPImageEncoder
    from skl2rclip._images.crops import ImageCrop as ImageCrop
    from skl2rclip._images.unreadable import find_unreadable as find_unreadable

# a library says nothing by itself: who wants to hear adds a handler
logging.getLogger("skl2rclip").addHandler(logging.NullHandler())

__version__ = importlib.metadata.version("skl2rclip")
__all__ = [
    "CLIPImageEncoder",
    "ImageCrop",
    "L2RCLIPClassifier",
    "find_duplicates",
    "find_unreadable",
    "group_duplicates",
    "input_pixels",
]

# scikit-learn takes a second to import: it waits until an estimator is asked for, and torch until it is fitted
_HOME = {
    "L2RCLIPClassifier": "skl2rclip._classifier",
    "CLIPImageEncoder": "skl2rclip._encoder",
    "ImageCrop": "skl2rclip._images.crops",
    "find_duplicates": "skl2rclip._duplicates",
    "find_unreadable": "skl2rclip._images.unreadable",
    "group_duplicates": "skl2rclip._duplicates",
    "input_pixels": "skl2rclip._deploy.pixels",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
