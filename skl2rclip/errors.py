"""Every exception that this library raises itself, each also one of Python's own, so that either can be caught.

A warning that one may want to silence by itself has a class here, too.
"""

# How a file's name is written in a message is here as well, so that nothing of this library is imported.

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "InvalidParameterError",
    "LongWorkWarning",
    "MissingBackboneError",
    "NonFiniteLossError",
    "NothingLearnedWarning",
    "UnreadableImagesError",
]
_MAX_REPORTED = 5
_MAX_SHOWN_LENGTH = 300
_ADVICE = "Mend them or leave them out: skl2rclip.find_unreadable({name}) tells which and why, also behind headers."


class InvalidParameterError(ValueError, TypeError):
    """A constructor parameter is out of range or of the wrong type.

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.errors import InvalidParameterError
    >>> try:
    ...     L2RCLIPClassifier(blend_ratio=1.5).fit(["a.jpg", "b.jpg"], [0, 1])
    ... except InvalidParameterError as error:
    ...     print(error)
    blend_ratio must be in [0, 1], got 1.5...
    """


class NonFiniteLossError(FloatingPointError, ValueError):
    """Training stopped because a term of the objective became infinite or NaN.

    Examples
    --------
    Python's own class catches it, and so does ``except ValueError`` where other errors of a fit are caught:

    >>> from skl2rclip.errors import NonFiniteLossError
    >>> issubclass(NonFiniteLossError, FloatingPointError), issubclass(NonFiniteLossError, ValueError)
    (True, True)
    """


class UnreadableImagesError(ValueError):
    """Some images cannot be decoded; the message names the first few of them and counts the rest.

    Parameters
    ----------
    failures : dict of int to str
        Why an image cannot be decoded, by its index in X.
    images : mapping or sequence
        What is in X at these indices; paths are named in the message.
    n_images : int
        Length of X.
    advice : str, default=""
        What else can be done; how they are found beforehand is always said.
    name : str, default="X"
        What the images are in.

    Attributes
    ----------
    failures : dict of int to str
        As given.

    Examples
    --------
    >>> from skl2rclip import CLIPImageEncoder
    >>> from skl2rclip.errors import UnreadableImagesError
    >>> try:
    ...     CLIPImageEncoder("skl2rclip-tiny").fit().transform([b"no image"])
    ... except UnreadableImagesError as error:
    ...     sorted(error.failures)  # places in X
    [0]
    """

    def __init__(
        self,
        failures: dict[int, str],
        images: Mapping[int, Any] | Sequence[Any],
        n_images: int,
        advice: str = "",
        name: str = "X",
    ):
        self.failures = dict(sorted(failures.items()))
        lines = [
            f"  {shown_entry(f'{name}[{index}]', images[index])}: {failures[index]}"
            for index in sorted(failures)[:_MAX_REPORTED]
        ]
        if len(failures) > _MAX_REPORTED:
            lines.append(f"  ... and {len(failures) - _MAX_REPORTED} more")
        count = "1 image" if len(failures) == 1 else f"{len(failures)} images"
        advice += _ADVICE.format(name=name)
        super().__init__(f"{count} of {n_images} cannot be read:\n" + "\n".join(lines) + f"\n{advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        # between processes the message goes, not the images
        return _restored, (type(self), self.failures, str(self))


def _restored(kind: type[UnreadableImagesError], failures: dict[int, str], message: str) -> UnreadableImagesError:
    error = kind.__new__(kind, message)
    error.failures = failures
    return error


class LongWorkWarning(UserWarning):
    """A fit or a prediction will take longer than a minute; the message says how long, and what would be quicker.

    Examples
    --------
    Whoever knows it silences it by its class:

    >>> import warnings
    >>> from skl2rclip.errors import LongWorkWarning
    >>> warnings.simplefilter("ignore", LongWorkWarning)
    """


class NothingLearnedWarning(UserWarning):
    """Neither images that were left out of a fit nor the words of the ranks say anything of the ranks.

    Examples
    --------
    In a pipeline that is not watched, a fit that learned nothing had better be an error:

    >>> import warnings
    >>> from skl2rclip.errors import NothingLearnedWarning
    >>> warnings.simplefilter("error", NothingLearnedWarning)
    """


class MissingBackboneError(RuntimeError):
    """A fitted model's backbone cannot be loaded, or has changed.

    Examples
    --------
    A service that starts tells it from other errors, because it is for those to mend who install the machine:

    >>> from skl2rclip.errors import MissingBackboneError
    >>> issubclass(MissingBackboneError, RuntimeError)
    True
    """


def visible(name: str) -> str:
    """Write a name so that a reader sees every character of it, in quotes where it is not as it seems.

    Blanks around the name, characters without a glyph, bytes that are not UTF-8, and accents that stand apart from
    their letters are written as Python does in a string.
    """
    decomposed = unicodedata.normalize("NFC", name) != name
    shown = "".join(_escaped(character, decomposed) for character in name)
    if shown != name or name != name.strip():
        shown = f"'{shown}'"
    if len(shown) > _MAX_SHOWN_LENGTH:
        shown = f"{shown[:100]}...{shown[-100:]}, {len(name)} characters"
    return shown


def shown_entry(entry: str, image: object) -> str:
    """Write which entry of X this is, such as `X[3]`, with the name of its file where it has one."""
    path, box = getattr(image, "path", image), getattr(image, "box", None)
    if not isinstance(path, str | os.PathLike):
        return entry
    within = "" if box is None else f", box {shown_box(box)}"
    return f"{entry} ({visible(os.fsdecode(path))}{within})"


def shown_box(box: Sequence[float]) -> str:
    """Write a box as one writes it, whole numbers without a point."""
    return f"({', '.join(f'{each:.10g}' for each in box)})"


def _escaped(character: str, decomposed: bool) -> str:
    if character == " " or (character.isprintable() and not (decomposed and unicodedata.combining(character))):
        return character
    return character.encode("ascii", "backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]
