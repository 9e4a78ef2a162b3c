"""Which value is white in all pictures of a call that do not say it: found, decided, and put on each of them.

How a picture is decoded is the business of ``_images.decoding``, and what follows from its values that of
``_images.white_levels``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from skl2rclip._images.decoding import ImageFile, ImageLike, Scaled, find_damaged, header_kind, identity_of
from skl2rclip._images.white_levels import KINDS, ValueRange, Whites, decide, misfit
from skl2rclip._utils.names import IN_ORDER, EntryNames

_NAMES = {"uint16": "16 bits", "integer": "integers", "floating": "floats"}
_MOST_KNOWN = 500_000
# where the values of files begin and end, by location and stamp
_known_ranges: dict[tuple[str, str], ValueRange] = {}


@dataclass(frozen=True)
class Settled:
    """What was decided about the pictures of a call.

    Attributes
    ----------
    images : list of length n
        Those that do not say which value is white are `Scaled`.
    whites : Whites
        Decided before, and now.
    failures : dict of int to str
        Why pictures cannot be read, by index; what is damaged is among them only where it had to be decoded.
    guesses : list of str
        What the user is to be told.
    """

    images: list[ImageLike]
    whites: Whites
    failures: dict[int, str]
    guesses: list[str]


def settle(
    images: Sequence[ImageLike],
    kinds_of_files: Mapping[Hashable, str],
    whites: Whites,
    *,
    n_jobs: int | None = None,
    max_memory: int | None = None,
    names: EntryNames = IN_ORDER,
) -> Settled:
    """Decide which value is white, from all pictures of a kind together.

    Pictures are decoded for it, those of files once in this process; of a kind that was decided before none are.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    kinds_of_files : mapping
        Kinds of files and contents by `identity_of`, as `skl2rclip._images.decoding.find_unreadable` tells them.
    whites : Whites
        What was decided before, and stays.
    n_jobs : int or None
        Threads.
    max_memory : int or None
        Bytes that the pictures under way may take together.
    names : EntryNames, optional
        What the user calls each picture, where that is not its index in X.

    Returns
    -------
    Settled
    """
    kinds = _kinds_by_row(images, kinds_of_files)
    undecided = [row for row, kind in kinds.items() if whites.of(kind) is None]
    ranges = {row: _known_ranges[key] for row in undecided if (key := _memo_key(images[row])) in _known_ranges}
    found: dict[Hashable, ValueRange] = {}
    rest = [row for row in undecided if row not in ranges]
    damaged = find_damaged(images, rest, n_jobs=n_jobs, max_memory=max_memory, ranges=found) if rest else {}
    ranges |= {row: found[identity_of(images[row])] for row in rest if identity_of(images[row]) in found}
    _remember({key: ranges[row] for row in rest if row in ranges and (key := _memo_key(images[row]))})
    settled = decided(images, ranges, whites, names)
    result = list(settled.images)
    for row, kind in kinds.items():
        result[row] = Scaled(images[row], settled.whites.of(kind) or KINDS[kind])  # type: ignore[arg-type]
    return Settled(result, settled.whites, dict(sorted((damaged | settled.failures).items())), settled.guesses)


def decided(
    images: Sequence[ImageLike],
    ranges: Mapping[int, ValueRange],
    whites: Whites,
    names: EntryNames = IN_ORDER,
) -> Settled:
    """Decide from ranges, by row, that have been found; the images stay as they are."""
    failures: dict[int, str] = {}
    guesses = []
    for kind in KINDS:
        same = {row: each for row, each in sorted(ranges.items()) if each.kind == kind}
        white = whites.of(kind)
        if white is not None:
            failures |= {row: reason for row, each in same.items() if (reason := misfit(each, white)) is not None}
        elif same:
            decision = decide(same, len({identity_of(images[row]) for row in same}), names)
            failures |= decision.reasons
            whites = whites.plus(kind, decision.white)
            if decision.has_doubt and decision.white is not None:
                guesses.append(_guess(same, decision.white, names))
    return Settled(list(images), whites, dict(sorted(failures.items())), guesses)


def _kinds_by_row(images: Sequence[ImageLike], kinds_of_files: Mapping[Hashable, str]) -> dict[int, str]:
    kinds = {}
    for row, image in enumerate(images):
        if isinstance(image, Image.Image | np.ndarray):
            kind = header_kind(image)
        elif kinds_of_files:
            kind = kinds_of_files.get(identity_of(image))
        else:
            continue
        if kind is not None:
            kinds[row] = kind
    return kinds


def _guess(ranges: Mapping[int, ValueRange], white: int, names: EntryNames) -> str:
    first, values = next(iter(ranges.items()))
    others = f" and {len(ranges) - 1} more hold" if len(ranges) > 1 else " holds"
    high = max(each.high for each in ranges.values())
    where = "whose highest value in all of them is" if len(ranges) > 1 else "whose highest value is"
    return (
        f"{names[first]}{others} {_NAMES[values.kind]}, {where} {high:.6g}: {white} is taken as white. Where that is "
        f"wrong, {values.remedy}."
    )


def _memo_key(image: ImageLike) -> tuple[str, str] | None:
    return (image.location, image.stamp) if isinstance(image, ImageFile) and image.is_settled() else None


def _remember(ranges: Mapping[tuple[str, str], ValueRange]) -> None:
    if len(_known_ranges) > _MOST_KNOWN:
        _known_ranges.clear()
    _known_ranges.update(ranges)
