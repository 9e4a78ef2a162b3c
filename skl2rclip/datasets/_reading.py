"""What readers of labelled images share: which files are images, the order of the labels, what was left out.

Nothing is known here of folders, tables or benchmarks, and images are opened for their headers only.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._images.crops import ImageCrop
from skl2rclip._images.decoding import find_unreadable
from skl2rclip._images.files import address_hint, stamped
from skl2rclip._ordinal.labels import array_of, check_labels, holds_numbers, listing
from skl2rclip._ordinal.order_inference import plain_order, written_numbers
from skl2rclip._ordinal.ranks import default_name, given_ranks
from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.names import near_word
from skl2rclip.errors import shown_box, visible

_MAX_NAMED = 3
_NO_IMAGES = "files that cannot be opened as images"
_WORDS_OF_PREDICTIONS = """\
target and predictions are the numbers. Of a classifier that was given rank_names, the words of its predictions are

    [clf.rank_names_[label] for label in clf.predict(X)]"""
_MAX_LISTED = 100
# what systems put beside images by themselves, and nobody wants to hear of: thumbnails, copies, what was thrown away
_OF_SYSTEMS = frozenset(
    "__macosx __pycache__ thumbs.db ehthumbs.db desktop.ini icon\r @eadir @recycle @recently-snapshot @tmp #recycle "
    "#snapshot ~snapshot $recycle.bin recycler trashbox lost+found found.000".split(" ")
) | {"system volume information", "network trash folder", "temporary items"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over: it is hidden, or of a system and not of its user."""
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


class Account:
    """What a reader has left out of `source`, as messages name it, said in one warning.

    Rows are `counted` from 0, which messages say where.
    """

    def __init__(self, source: str, counted: str = "below the header"):
        self.source, self.counted = source, f"counted from 0 {counted}"
        self.lines: list[str] = []

    def add(self, count: int, what: str, examples: Iterable[str] = ()) -> None:
        """Note how many were left out, with the first few of them; nothing where there are none."""
        if count:
            named = list(examples)[:_MAX_NAMED]
            such = ", such as " if count > len(named) else ", namely "
            self.lines.append(f"{what}: {count}{such if named else ''}{'; '.join(named)}")

    def remark(self, what: str, hint: str) -> None:
        """Add a hint to what was noted as `what`, if anything was."""
        self.lines = [f"{line} ({hint})" if hint and line.startswith(f"{what}: ") else line for line in self.lines]

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
    address = address_hint(os.fspath(folder), "copy the folder, and give its path")
    if address is not None:
        raise FileNotFoundError(f"{name} must be a folder, got {address}.")
    if path.exists():
        raise NotADirectoryError(f"{name} must be a folder, got a file: {visible(str(path))}.")
    raise FileNotFoundError(f"{name} must be a folder, and there is none at {visible(str(path))}.")


def keep_images(images: Sequence[str | ImageCrop], account: Account) -> np.ndarray:
    """Tell which files are images by their headers, whatever their names end in: ndarray of shape (n,), bool.

    Of a crop its box has to lie within the image, too.
    """
    problems = find_unreadable(stamped(images))
    kept = np.ones(len(images), bool)
    kept[list(problems)] = False
    examples = (f"{_shown(images[row])} ({problem})" for row, problem in problems.items())
    has_boxes = any(isinstance(image, ImageCrop) for image in images)
    what = "files that cannot be opened as images, or boxes beyond them" if has_boxes else _NO_IMAGES
    account.add(len(problems), what, examples)
    return kept


def _shown(image: str | ImageCrop) -> str:
    if isinstance(image, ImageCrop):
        return f"{visible(Path(image.path).name)}, box {shown_box(image.box)}"
    return visible(Path(image).name)


# -------------------------------------------------------------------- order


def numbers_in(labels: Sequence[Any], source: str, ranks: Sequence[Any] | None = None) -> np.ndarray | None:
    """Make an array of int64 or float64 of labels, which may be written numbers, or return None where one is no number.

    What may be a thousand or a fraction, as 2,500 beside 10, is what is among the `ranks`, and refused without them.
    """
    words = list(dict.fromkeys(label for label in labels if isinstance(label, str)))
    numbers = [label for label in labels if not isinstance(label, str)]
    # beside a number 1.000 may be a thousand, as beside 500
    readings = written_numbers([*words, "1"] if numbers else words)
    found = [dict(zip(words, values[: len(words)], strict=True)) for values in readings]
    if len(found) > 1 and ranks is not None:
        found = [values for values in found if {*values.values(), *numbers} <= set(ranks)] or found[:1]
    if len(found) > 1:
        one, other = (listing(sorted({*values.values(), *numbers}), _MAX_LISTED) for values in found)
        signed = [word for word in words if not word.isdecimal()]
        raise ValueError(
            f"{source} has ranks that may be thousands or fractions, {listing(signed, _MAX_NAMED)}: say which with "
            f"ranks={one} or ranks={other}."
        )
    if not found:
        return None
    values = array_of([found[0].get(label, label) for label in labels], source)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{source} has infinite ranks: give them a number, or take them out of {source}.")
    values = check_labels(values, source)
    is_whole = values.dtype.kind == "f" and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if is_whole else values


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
        given = given if holds_numbers(given) else given_ranks([plain_word(rank) for rank in given.tolist()])
        return _in_numbers(labels, given, source) if holds_numbers(given) else _in_words(labels, given.tolist(), source)
    numbers = numbers_in(labels, source)
    if numbers is not None:
        return _in_numbers(labels, np.unique(numbers), source)
    distinct = sorted({_word(label) for label in labels})
    order = plain_order(distinct)
    if order is None and len(distinct) > 1:
        raise ValueError(
            f"The ranks of {source} are words and their order is not known.{near_word(distinct, distinct)} Give it, "
            f"lowest first, for example ranks={listing(distinct, _MAX_LISTED)} put into the right order."
        )
    return _in_words(labels, order or distinct, source)


def plain_word(label: Any) -> Any:
    """Put accents and their letters together, as they may stand apart in names of files; what is no word stays."""
    return unicodedata.normalize("NFC", label) if isinstance(label, str) else label


def _word(label: Any) -> str:
    return label if isinstance(label, str) else default_name(label)


def _in_numbers(labels: Sequence[Any], ranks: np.ndarray, source: str) -> tuple[np.ndarray, list[Any], list[str]]:
    numbers = numbers_in(labels, source, ranks.tolist())
    if numbers is None:
        words = sorted({label for label in labels if isinstance(label, str) and not written_numbers([label])})
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
            f"{source} has ranks that are not in ranks=[...]: {listing(missing)}.{near_word(missing, ranks)} Add them "
            f"there at their places, or take them out of {source}."
        )


def interleaved(labels: Sequence[Any], ranks: Sequence[Any]) -> list[int]:
    """Order of labels in which each part has all ranks in their shares, and those of one rank keep their order.

    scikit-learn cuts labels that are fractions into folds as they stand.
    """
    place = {rank: index for index, rank in enumerate(ranks)}
    counts, seen = Counter(labels), Counter[Any]()
    keys = []
    for label in labels:
        keys.append(((seen[label] + 0.5) / counts[label], place[label]))
        seen[label] += 1
    return sorted(range(len(keys)), key=keys.__getitem__)


# -------------------------------------------------------------------- bunch


def image_bunch(
    data: Sequence[str | ImageCrop],
    target: np.ndarray,
    ranks: list[Any],
    rank_names: list[str],
    descr: str,
    **more: Any,
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
