"""`input_pixels`: images as a deployed model takes them, at the size of its tower, as predictions see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from skl2rclip._embedding.embedder import decoded_pixels
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._utils.arguments import check_thread_count, check_white_level, parse_max_memory
from skl2rclip.errors import InvalidParameterError


def input_pixels(X: Any, model: Any, *, n_jobs: int | None = None, max_memory: int | str | None = None) -> np.ndarray:
    """Bring images to the pixels that a deployed model takes, exactly as `L2RCLIPClassifier` does.

    An image is decoded (first frame, upright as EXIF says, transparency over white, colours of a profile to sRGB, more
    than eight bits as `white_level` says), resized by Pillow and cut or filled up as the tower was trained.

    Parameters
    ----------
    X : sequence of n images
        As `L2RCLIPClassifier.predict` takes them.
    model : module, dict or fitted L2RCLIPClassifier
        What ``to_torch`` returned; its `description`; or the metadata of a file that ``export_onnx`` wrote, as
        ``session.get_modelmeta().custom_metadata_map`` gives it.
    n_jobs : int or None, default=None
        Threads that decode; None and -1 take all cores.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that images being decoded may take together; None stands for 1 GB.

    Returns
    -------
    ndarray of shape (n, H, W, 3), uint8
        Channels last.

    Raises
    ------
    UnreadableImagesError
        If images cannot be read; names index, path and reason.
    InvalidParameterError
        If `model` takes no images, or does not say which.

    Examples
    --------
    >>> import numpy as np
    >>> from skl2rclip import L2RCLIPClassifier, input_pixels
    >>> blur = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(5), prompt="a photo with blur level").fit_zero_shot()
    >>> input_pixels([np.zeros((300, 200, 3), np.uint8)], blur).shape
    (1, 64, 64, 3)
    """
    check_thread_count("n_jobs", n_jobs)
    n_bytes = parse_max_memory(max_memory)
    preprocessing, white = _wanted_by(model)
    return decoded_pixels(X, preprocessing, white, n_jobs, n_bytes)


def _wanted_by(model: Any) -> tuple[Preprocessing, WhiteLevel]:
    """Geometry of a model's images, and which value is white in them."""
    state = getattr(model, "_state", None)
    if state is not None and hasattr(model, "white_level"):
        return state.record.preprocessing, WhiteLevel(check_white_level(model.white_level))
    description = getattr(model, "description", model)
    if not isinstance(description, Mapping) or "preprocessing" not in description:
        raise InvalidParameterError(
            "model must be what to_torch returned for a model of images, its description, the metadata of an exported "
            f"file, or a fitted L2RCLIPClassifier, got {_shown(model)}."
        )
    preprocessing, white = description["preprocessing"], description.get("white_level")
    if isinstance(preprocessing, str):  # of a file, whose metadata are strings
        preprocessing, white = json.loads(preprocessing), json.loads(white or "null")
    return Preprocessing.from_config(preprocessing), WhiteLevel(check_white_level(white))


def _shown(model: Any) -> str:
    if hasattr(model, "get_params") and not hasattr(model, "_state"):
        return f"a {type(model).__name__} that is not fitted"
    if hasattr(model, "description"):
        return f"a {type(model).__name__}, which takes rows of a table"
    return f"a {type(model).__name__}"
