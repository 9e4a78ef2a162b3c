"""Every exception that this library raises itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter is out of range or of the wrong type."""


class NonFiniteLossError(FloatingPointError, ValueError):
    """Training stopped because a term of the objective became infinite or NaN."""


_MAX_REPORTED = 5


class UnreadableImagesError(ValueError):
    """Some images cannot be decoded.

    Attributes
    ----------
    failures : dict of int to str
        Reason by index in X.
    """

    def __init__(self, failures: dict[int, str], images: Mapping[int, Any] | Sequence[Any], n_images: int):
        self.failures = failures
        lines = [
            f"  X[{index}]{_path_suffix(images[index])}: {failures[index]}"
            for index in sorted(failures)[:_MAX_REPORTED]
        ]
        if len(failures) > _MAX_REPORTED:
            lines.append(f"  ... and {len(failures) - _MAX_REPORTED} more")
        count = "1 image" if len(failures) == 1 else f"{len(failures)} images"
        super().__init__(
            f"{count} of {n_images} cannot be read:\n" + "\n".join(lines) + "\nMend or leave out what is listed; "
            "on_bad_image='skip' makes fit leave such images out."
        )


def _path_suffix(image: Any) -> str:
    return f" ({os.fspath(image)})" if isinstance(image, str | os.PathLike) else ""


class MissingBackboneError(RuntimeError):
    """A fitted model's backbone cannot be loaded, or has changed."""
