"""What the user calls the entries of X, and what a name of a file that leads nowhere may have meant.

How a name is written in a message is in ``errors``, which writes some itself. No file is opened here; folders are
listed only for names that are not in them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from skl2rclip.errors import visible

_BLANKS = "\ufeff\u200b \t\r\n\x0b\x0c\x85\xa0\u2007\u202f\u3000"


@dataclass(frozen=True)
class EntryNames:
    """What the user calls each of some images, such as `X[3]` or `X_val[0]`."""

    numbers: Sequence[int] | None = None  # of each image; by default they are counted from 0
    n_before_validation: int | None = None  # from this number on images are those of X_val; by default all are of X

    def __getitem__(self, row: int) -> str:
        number = row if self.numbers is None else int(self.numbers[row])
        if self.n_before_validation is None or number < self.n_before_validation:
            return f"X[{number}]"
        return f"X_val[{number - self.n_before_validation}]"

    def at(self, rows: Sequence[int]) -> EntryNames:
        """Names of some of these images."""
        numbers = rows if self.numbers is None else [self.numbers[row] for row in rows]
        return EntryNames(numbers, self.n_before_validation)


IN_ORDER = EntryNames()


def near_name(path: str) -> str | None:
    """Say what the folder has instead of a file that it has not, where that differs in what one hardly sees.

    That is in letter case, blanks, the form of accents and characters that do not show. A path that was written on
    Windows may have backslashes between its folders. The path starts from the root.
    """
    if os.sep == "/" and "\\" in path and os.path.isfile(path.replace("\\", "/")):
        return "with / between its folders, as everywhere but on Windows, it is there: path.replace('\\\\', '/')"
    folder, name = os.path.split(path)
    try:
        changed = os.lstat(os.path.join(folder, "")).st_mtime_ns  # through a link, because of the last slash
        others = _names_in(folder, changed).get(_essence(name), ())
    except (OSError, ValueError):
        return None
    near = next((other for other in others if other != name), None)
    return (
        None
        if near is None
        else f"the folder has {visible(near)}, which differs only in {unseen_difference(name, near)}"
    )


def unseen_difference(one: str, other: str) -> str | None:
    """Say in what two words differ where one hardly sees it; None where they are the same, or differ in more."""
    if one == other or _essence(one) != _essence(other):
        return None
    ways = {
        "letter case": str.casefold,
        "blanks": lambda word: " ".join(word.split()),
        "how accents are written": lambda word: unicodedata.normalize("NFC", word),
    }
    found = (what for what, same in ways.items() if same(one) == same(other))
    return next(found, "characters that one hardly sees")


def near_word(words: Iterable[Any], others: Iterable[Any]) -> str:
    """Say which of some words differs from one of the others in what one hardly sees; empty where none does."""
    by_essence = {_essence(other): other for other in others if isinstance(other, str)}
    for word in (word for word in words if isinstance(word, str)):
        other = by_essence.get(_essence(word), word)
        if other != word:
            return f" {visible(word)} differs from {visible(other)} only in {unseen_difference(word, other)}."
    return ""


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
