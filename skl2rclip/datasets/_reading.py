"""What readers of labelled images share: which files are images, the order of the labels, what was left out.

Nothing is known here of folders, tables or benchmarks, and images are opened for their headers only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._images.decoding import find_unreadable
from skl2rclip._images.files import stamped
from skl2rclip._ordinal.labels import holds_numbers, listing
from skl2rclip._ordinal.order_inference import plain_order
from skl2rclip._ordinal.ranks import default_name, given_ranks
from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import visible

_MAX_NAMED = 3
_WORDS_OF_PREDICTIONS = """\
target and predictions are the numbers. Of a classifier that was given rank_names, the words of its predictions are

    [clf.rank_names_[label] for label in clf.predict(X)]"""
_MAX_LISTED = 100
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
_WITH_COMMA = re.compile(r"[+-]?\d*(?:\d|,\d+)")  # or whole, where others have a comma
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


class Account:
    """What a reader has left out of `source`, as messages name it, said in one warning."""

    def __init__(self, source: str):
        self.source = source
        self.lines: list[str] = []

    def add(self, count: int, what: str, examples: Iterable[str] = ()) -> None:
        """Note how many were left out, with the first few of them; nothing where there are none."""
        if count:
            named = list(examples)[:_MAX_NAMED]
            such = ", such as " if count > len(named) else ", namely "
            self.lines.append(f"{what}: {count}{such if named else ''}{'; '.join(named)}")

    def tell(self) -> None:
        """Warn once of everything, unless there is nothing."""
        if self.lines:
            warn_user(f"Of {self.source} not everything was taken:\n" + "\n".join(f"  {line}" for line in self.lines))


def existing_folder(name: str, folder: Any) -> Path:
    """Make a path of a folder that a user has named in the parameter `name`, or raise an error."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a folder, got {folder!r}.")
    path = Path(folder).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise NotADirectoryError(f"{name} must be a folder, got a file: {visible(str(path))}.")
    raise FileNotFoundError(f"{name} must be a folder, and there is none at {visible(str(path))}.")


def keep_images(paths: Sequence[str], account: Account) -> np.ndarray:
    """Tell which files are images by their headers, whatever their names end in: ndarray of shape (n,), bool."""
    problems = find_unreadable(stamped(paths))
    kept = np.ones(len(paths), bool)
    kept[list(problems)] = False
    examples = (f"{visible(Path(paths[row]).name)} ({problem})" for row, problem in problems.items())
    account.add(len(problems), "files that cannot be opened as images", examples)
    return kept


# -------------------------------------------------------------------- order


def numbers_in(labels: Sequence[Any]) -> np.ndarray | None:
    """Make an array of int64 or float64 of labels, which may be written numbers, or return None where one is no number.

    A comma is a decimal one where at least one of them cannot be that of thousands: 2,5 and 10 are numbers, 2,500 and
    10 are not, for it may be either.
    """
    if _has_decimal_commas(labels):
        labels = [label.replace(",", ".") if isinstance(label, str) else label for label in labels]
    if not all(isinstance(label, int | float) or _NUMBER.fullmatch(label) for label in labels):
        return None
    values = np.array([float(label) for label in labels])
    is_whole = np.isfinite(values).all() and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if is_whole else values


def _has_decimal_commas(labels: Sequence[Any]) -> bool:
    written = [label for label in labels if isinstance(label, str)]
    if not all(map(_WITH_COMMA.fullmatch, written)):
        return False
    return any("," in label and not _THOUSANDS.fullmatch(label) for label in written)


def put_in_order(labels: Sequence[Any], ranks: Any, source: str) -> tuple[np.ndarray, list[Any], list[str]]:
    """Find the order of labels that came from names of folders or cells of a table.

    Numbers are their own order and stay. Words become 0, 1, ... in rank order, which every metric and meta-estimator
    takes for what they are.

    Parameters
    ----------
    labels : sequence of n str or numbers
    ranks : array-like of shape (K,) or None
        All labels, lowest first, as the user gives them.
    source : str
        What holds the labels, as messages name it.

    Returns
    -------
    target : ndarray of shape (n,)
    ranks : list of K numbers
        All labels that `target` may hold, lowest first.
    rank_names : list of K str
    """
    if ranks is not None:
        given = given_ranks(ranks)
        return _in_numbers(labels, given, source) if holds_numbers(given) else _in_words(labels, given.tolist(), source)
    numbers = numbers_in(labels)
    if numbers is not None:
        if not np.isfinite(numbers).all():
            raise ValueError(f"{source} has infinite ranks: give them a number, or take them out of {source}.")
        return _in_numbers(labels, np.unique(numbers), source)
    distinct = sorted({_word(label) for label in labels})
    order = plain_order(distinct)
    if order is None and len(distinct) > 1:
        raise ValueError(
            f"The ranks of {source} are words and their order is not known. Give it, lowest first, for example "
            f"ranks={listing(distinct, _MAX_LISTED)} put into the right order."
        )
    return _in_words(labels, order or distinct, source)


def _word(label: Any) -> str:
    return label if isinstance(label, str) else default_name(label)


def _in_numbers(labels: Sequence[Any], ranks: np.ndarray, source: str) -> tuple[np.ndarray, list[Any], list[str]]:
    numbers = numbers_in(labels)
    if numbers is None:
        words = sorted({label for label in labels if isinstance(label, str) and not _NUMBER.fullmatch(label)})
        raise ValueError(
            f"ranks holds numbers, and {source} has ranks that are none: {listing(words)}. Give ranks as strings, as "
            "they are written there, lowest first."
        )
    if ranks.dtype.kind == "b":
        ranks = ranks.astype(np.int64)
    _check_listed(np.unique(numbers).tolist(), ranks.tolist(), source)
    return numbers.astype(ranks.dtype), ranks.tolist(), [default_name(rank) for rank in ranks.tolist()]


def _in_words(labels: Sequence[Any], order: list[str], source: str) -> tuple[np.ndarray, list[Any], list[str]]:
    words = [_word(label) for label in labels]
    _check_listed(sorted(set(words)), order, source)
    place = {word: index for index, word in enumerate(order)}
    target = np.array([place[word] for word in words], dtype=np.int64)
    return target, list(range(len(order))), list(order)


def _check_listed(labels: list[Any], ranks: list[Any], source: str) -> None:
    missing = sorted(set(labels) - set(ranks))
    if missing:
        raise ValueError(
            f"{source} has ranks that are not in ranks=[...]: {listing(missing)}. Add them there at their places, or "
            f"take them out of {source}."
        )


# -------------------------------------------------------------------- bunch


def image_bunch(
    data: Sequence[str], target: np.ndarray, ranks: list[Any], rank_names: list[str], descr: str, **more: Any
) -> Bunch:
    """Put together what every reader returns; see `skl2rclip.datasets`."""
    held = {name: value for name, value in more.items() if value is not None}
    return Bunch(data=np.array(data), target=target, ranks=ranks, rank_names=rank_names, DESCR=descr, **held)


def counts_by_rank(target: np.ndarray, ranks: list[Any], rank_names: list[str]) -> str:
    """One line a rank: its number where it goes by another word, its name, and how many images it has."""
    labels = [default_name(rank) for rank in ranks]
    names = list(rank_names)
    if names != labels:
        longest = max(map(len, labels))
        names = [f"{label:>{longest}}  {name}" for label, name in zip(labels, names, strict=True)]
    width = max(map(len, names))
    return "\n".join(
        f"    {name:<{width}} {np.count_nonzero(target == rank):7d}" for rank, name in zip(ranks, names, strict=True)
    )


def described(title: str, bunch_parts: tuple[np.ndarray, list[Any], list[str]], account: Account) -> str:
    """Describe one's own data: how much of it there is by rank, and what was left out."""
    target, ranks, rank_names = bunch_parts
    counts = (f"{n} {word}{'s' if n != 1 else ''}" for n, word in ((len(target), "image"), (len(ranks), "rank")))
    said = f"{title}\n\n{' of '.join(counts)}, lowest first:\n\n"
    said += counts_by_rank(target, ranks, rank_names)
    if rank_names != [default_name(rank) for rank in ranks]:
        said += f"\n\n{_WORDS_OF_PREDICTIONS}"
    if account.lines:
        said += "\n\nNot taken:\n\n" + "\n".join(f"    {line}" for line in account.lines)
    return said + "\n"
