"""What the user calls the entries of X, and what a name of a file that leads nowhere may have meant.

How a name is written in a message is in ``errors``, which writes some itself. No file is opened here; folders are
listed only for names that are not in them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from skl2rclip.errors import visible

_BLANKS = "\ufeff\u200b \t\r\n\x0b\x0c\x85\xa0\u2007\u202f\u3000"


@dataclass(frozen=True)
class EntryNames:
    """What the user calls each of some pictures, such as `X[3]` or `X_val[0]`.

    Attributes
    ----------
    numbers : sequence of int, optional
        Number of each picture; by default they are counted from 0.
    n_before_apart : int, optional
        From this number on pictures are those of `X_val`, counted behind those of X; by default all are of X.
    """

    numbers: Sequence[int] | None = None
    n_before_apart: int | None = None

    def __getitem__(self, row: int) -> str:
        number = row if self.numbers is None else int(self.numbers[row])
        if self.n_before_apart is None or number < self.n_before_apart:
            return f"X[{number}]"
        return f"X_val[{number - self.n_before_apart}]"

    def at(self, rows: Sequence[int]) -> EntryNames:
        """Names of some of these pictures."""
        numbers = rows if self.numbers is None else [self.numbers[row] for row in rows]
        return EntryNames(numbers, self.n_before_apart)


IN_ORDER = EntryNames()


def near_name(path: str) -> str | None:
    """Say what the folder has instead of a file that it has not, where that differs in what one does not see.

    Parameters
    ----------
    path : str
        From the root.

    Returns
    -------
    str or None
        The other name and the difference.
    """
    folder, name = os.path.split(path)
    try:
        changed = os.lstat(os.path.join(folder, "")).st_mtime_ns  # through a link, because of the last slash
        others = _names_in(folder, changed).get(_essence(name), ())
    except (OSError, ValueError):
        return None
    for other in others:
        if other != name:
            return f"the folder has {visible(other)}, {_difference(name, other)}"
    return None


@lru_cache(maxsize=4)
def _names_in(folder: str, changed: int) -> dict[str, list[str]]:
    """Names in a folder as it was at this time, by what one sees of them."""
    names: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        names.setdefault(_essence(name), []).append(name)
    return names


def _essence(name: str) -> str:
    seen = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", seen.replace("\xa0", " ").strip(_BLANKS)).casefold()


def _difference(name: str, other: str) -> str:
    name, other = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", other)
    if name == other:
        return "whose accents are in another Unicode normal form"
    if name.casefold() == other.casefold():
        return "in other letter case"
    return "which differs in blanks or in characters that do not show"
