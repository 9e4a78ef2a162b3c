"""Several images of one case, a patient or a fruit: what a table says of them, and one prediction for all of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.models import Predicted, ReadOut
from skl2rclip.errors import visible
from skl2rclip.metrics import pool_probabilities

WAYS = ("mean", "geometric", "max")


def add_case(parser: Any, what: str) -> None:
    """Add the column of cases, and how their images become one prediction."""
    parser.add_argument(
        "--case", metavar="COL", help=f"Column of tables that says which images are of one case. {what}"
    )
    parser.add_argument(
        "--pool",
        choices=WAYS,
        help="How the images of a case become one prediction: mean, by default, what an image of the case shows; "
        "geometric, where all of them show one and the same rank; max, where a case is as bad as the worst of them.",
    )


def check_case(options: argparse.Namespace) -> None:
    """Raise where it is said how to pool, and not what."""
    if options.pool is not None and options.case is None:
        raise UsageError("--pool says how the images of a case are taken together; say which these are, by --case COL")


class Cases:
    """The cases of n images, in the order in which they are first named.

    Parameters
    ----------
    named : sequence of n words or numbers
        Which case each image is of; 7 and "7" are the same, of tables of two kinds.

    Attributes
    ----------
    names : list
        Each case once.
    of_image : ndarray of shape (n,), int64
        Positions in `names`.
    """

    def __init__(self, named: Iterable[Any]):
        places: dict[str, int] = {}
        self.names: list[Any] = []
        of_image = []
        for name in named:
            place = places.setdefault(str(name), len(places))
            self.names += [name] if place == len(self.names) else []
            of_image.append(place)
        self.of_image = np.array(of_image, dtype=np.int64)

    def values(self, values: Sequence[Any], what: str, column: str) -> list[Any]:
        """Value that all images of each case have, None where none of them has one.

        `what` is what messages call values, `column` that of the cases.
        """
        found: list[Any] = [None] * len(self.names)
        others: dict[int, Any] = {}
        for place, value in zip(self.of_image.tolist(), values, strict=True):
            if value is not None and found[place] is None:
                found[place] = value
            elif value is not None and value != found[place]:
                others.setdefault(place, value)
        if others:
            place, other = next(iter(others.items()))
            raise DataError(
                f"{len(others)} of the cases of column {column!r} have images of several {what}s, the first of them: "
                f"{visible(str(self.names[place]))}, {found[place]!r} and {other!r}; give all images of a case the same"
            )
        return found

    def pooled(
        self,
        probabilities: np.ndarray,
        good: np.ndarray,
        how: str | None,
        read_out: ReadOut,
        usualness: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Predicted]:
        """Predict the cases of the images that are `good`: their positions in `names`, and what is said of them.

        A case is as usual as the least usual of its images.
        """
        of_image = self.of_image[good]
        places, of_cases = pool_probabilities(probabilities, of_image, how or "mean")
        if usualness is None:
            return places, read_out(of_cases)
        least = np.full(len(self.names), np.inf)
        np.minimum.at(least, of_image, usualness)
        return places, read_out(of_cases, least[places])

    def note_missing(self, places: np.ndarray, console: Console) -> None:
        """Say which cases have nothing that can be read."""
        there = set(places.tolist())
        for place, name in enumerate(self.names):
            if place not in there:
                console.note(f"case {visible(str(name))}: none of its images can be read")
