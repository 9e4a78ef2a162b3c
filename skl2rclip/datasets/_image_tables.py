"""`read_image_table`: images and ranks that a table lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._ordinal.ranks import given_ranks
from skl2rclip._utils.arguments import is_missing, plain_label
from skl2rclip._utils.names import near_name
from skl2rclip.datasets._reading import (
    Account,
    described,
    existing_folder,
    image_bunch,
    keep_images,
    numbers_in,
    put_in_order,
)
from skl2rclip.datasets._tables import cells_of, order_of, read_table
from skl2rclip.errors import visible

_BLANKS = "\ufeff\u200b \t\r\n\xa0"
# what R, pandas, spreadsheets and databases write for a missing value
_NOTHING = ("na", "n/a", "#n/a", "nan", "null", "none", "<na>")

Row = tuple[Any, Any, Any]  # image, rank, group


def read_image_table(
    table: Any,
    *,
    image: str | int = "path",
    rank: str | int = "rank",
    group: str | int | None = None,
    root: Any = None,
    ranks: Any = None,
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Read images and their ranks from a table with a header row.

    Blanks around cells and names of columns, byte order marks and backslashes in paths do no harm. Rows that are empty,
    repeated or without an image or rank, and files that are absent or no images, are left out and counted in one
    warning.

    Parameters
    ----------
    table : str, path-like or data frame
        A file that ends in .csv, .tsv, .txt (UTF-8, or UTF-16 with its mark; commas, semicolons, tabs or bars), .xlsx
        (its first sheet) or .parquet, which pandas reads; a frame of pandas, or of polars, Arrow or another library
        that converts it to one of pandas; a table of Hugging Face ``datasets``, or a mapping from names to columns.
    image : str or int, default="path"
        Column of the paths of the images; an int where a frame numbers its columns.
    rank : str or int, default="rank"
        Column of their ranks. Where all other ranks are numbers, NA, NaN, N/A, null and None stand for a missing one.
    group : str or int, optional
        Column that says whose image each is: subject, plant or burst. They are `groups` of the result, for
        ``GroupKFold`` and for `L2RCLIPClassifier.fit`.
    root : str or path-like, optional
        Folder that relative paths start from; by default that of the table's file, and for frames the current one.
    ranks : array-like of shape (K,), optional
        All ranks as the table writes them, lowest first. By default numbers are their own order, an ordered Categorical
        of pandas or an Enum of polars has one, and words get the order that they show by themselves, such as bad < poor
        < fair; where they show none, it is asked for.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray of shape (n,), str
            Paths, in the order of the table.
        target : ndarray of shape (n,)
            The ranks where they are numbers, or where they are words 0, 1, ... in rank order.
        ranks : list of length K
            All that `target` may hold, lowest first: `ranks` of `L2RCLIPClassifier`.
        rank_names : list of K str
            The words of the ranks, in the same order: `rank_names` of `L2RCLIPClassifier`.
        groups : ndarray of shape (n,)
            Where `group` names a column.
        rows : ndarray of shape (n,), int64
            Which row of the table each image is from, for its other columns. Rows count from 0 below the header and
            blank lines do not count, as with ``pandas.read_csv(table).iloc``.
        DESCR : str
            How many images each rank has, and what was left out.

    Raises
    ------
    ValueError
        If a column is not there, the order of words is not plain, a rank is not among `ranks`, or one image has two
        ranks or groups: which of them holds is for those to say who know the images.
    FileNotFoundError
        If there is no such table, or none of the images is there.
    ImportError
        If pandas, or what it reads this kind of table with, is missing: ``pip install "skl2rclip[tables]"``.

    Warns
    -----
    UserWarning
        Once, counting all that was left out.

    See Also
    --------
    load_image_folder : Images in a folder for each rank.

    Examples
    --------
    >>> from skl2rclip.datasets import read_image_table
    >>> leaves = read_image_table("leaves.csv", image="file", rank="severity", group="plant")  # doctest: +SKIP
    >>> cross_validate(clf, leaves.data, leaves.target, groups=leaves.groups, cv=GroupKFold(5))  # doctest: +SKIP
    """
    chosen = {"image": image, "rank": rank, "group": group}
    read = read_table(table, {parameter: name for parameter, name in chosen.items() if name is not None})
    account = Account(read.source)
    rank_column, group_column = read.columns["rank"], read.columns.get("group")
    images = [_path_cell(cell, image) for cell in cells_of(read.columns["image"])]
    labels = _without_words_for_nothing([_label_cell(cell) for cell in cells_of(rank_column)], ranks)
    if len(images) != len(labels):
        raise ValueError(
            f"Columns of {read.source} differ in length: {image!r} has {len(images)} rows, {rank!r} has {len(labels)}."
        )
    groups = [None] * len(labels) if group_column is None else [_label_cell(cell) for cell in cells_of(group_column)]
    rows = _complete(dict(enumerate(zip(images, labels, groups, strict=True))), group, account)
    folder = existing_folder("root", root) if root is not None else read.folder or Path()
    rows = _distinct(_found(rows, folder, account), images, account)
    kept = keep_images([path for path, _, _ in rows.values()], account)
    rows = {number: row for (number, row), keep in zip(rows.items(), kept, strict=True) if keep}
    if not rows:
        raise ValueError("\n  ".join([f"{read.source} lists no image with a rank.", *account.lines]))
    data, labels, groups = (list(column) for column in zip(*rows.values(), strict=True))
    parts = put_in_order(labels, order_of(rank_column) if ranks is None else ranks, read.source)
    account.tell()
    if return_X_y:
        return np.array(data), parts[0]
    descr = described(f"Images of a table: {read.source}", parts, account)
    subjects = None if group is None else np.array(groups)
    return image_bunch(data, *parts, descr, groups=subjects, rows=np.array(list(rows)))


def _path_cell(cell: Any, column: str | int) -> str:
    if isinstance(cell, str | os.PathLike):
        return os.fspath(cell)
    if np.ndim(cell) == 0 and is_missing(cell):
        return ""
    if isinstance(cell, int):  # of a table that took a name for a number
        return str(cell)
    raise TypeError(
        f"Column {column!r} must hold paths, got {type(cell).__name__}. Images themselves need no reader: give the "
        "column to fit as X."
    )


def _label_cell(cell: Any) -> Any:
    """Make a rank or a group one of Python's own numbers or strings; None where nothing stands."""
    if is_missing(cell):
        return None
    label = plain_label(cell)
    if isinstance(label, bool):
        return int(label)
    if isinstance(label, float) and label.is_integer():  # integers beside an empty cell
        return int(label)
    return label if isinstance(label, int | float) else str(label).strip(_BLANKS) or None


def _without_words_for_nothing(labels: list[Any], ranks: Any) -> list[Any]:
    """Make None of NA and the like where all others are numbers; among words they may be a rank, such as none."""
    words = {label for label in labels if isinstance(label, str) and label.casefold() in _NOTHING}
    if not words or (ranks is not None and words & set(map(str, given_ranks(ranks).tolist()))):
        return labels
    if numbers_in([label for label in labels if label is not None and label not in words]) is None:
        return labels
    return [None if label in words else label for label in labels]


def _complete(rows: dict[int, Row], group: str | int | None, account: Account) -> dict[int, Row]:
    """Leave out rows without an image, a rank or a group."""

    def lacking(number: int) -> str:
        image, label, subject = rows[number]
        if not image.strip(_BLANKS):
            return "an image" if label is not None or subject is not None else "everything"
        if label is None:
            return "a rank"
        return "a group" if group is not None and subject is None else ""

    lack = {number: lacking(number) for number in rows}
    empty = [number for number, what in lack.items() if what == "everything"]
    account.add(len(empty), "empty rows")
    for what in ("an image", "a rank", "a group"):
        numbers = [number for number in rows if lack[number] == what]
        account.add(len(numbers), f"rows without {what}", (_place(rows, number) for number in numbers))
    return {number: row for number, row in rows.items() if not lack[number]}


def _place(rows: dict[int, Row], number: int) -> str:
    """Name a row as one finds it: by its image, or by its place below the header."""
    image = rows[number][0].strip(_BLANKS)
    return visible(image) if image else f"row {number}, counted from 0 below the header"


# ---------------------------------------------------------------- images


def _found(rows: dict[int, Row], folder: Path, account: Account) -> dict[int, Row]:
    """Put the path that exists in place of each cell, and leave out rows whose file is absent.

    If no file is there at all, the folder is wrong, which is an error.
    """
    found, absent = {}, []
    for number, (cell, label, group) in rows.items():
        path = _existing(cell, folder)
        if path is None:
            absent.append(cell.strip(_BLANKS))
        else:
            found[number] = (path, label, group)
    if absent and not found:
        tried = os.path.join(folder, absent[0])
        raise FileNotFoundError(
            f"None of the {len(absent)} files that {account.source} lists is there; the first was looked for at "
            f"{visible(os.path.abspath(tried))}. {_advice(tried)}"
        )
    account.add(len(absent), "files that are not there", (_absent(folder, name) for name in absent))
    return found


def _advice(tried: str) -> str:
    folder, name = os.path.split(tried)
    try:
        ended = sorted(file for file in os.listdir(folder or ".") if os.path.splitext(file)[0] == name)
    except (OSError, ValueError):
        ended = []
    if not ended:
        return "Give the folder that paths start from with root=..."
    return f"The folder has {visible(ended[0])}: read the table into a frame, and add the ending to its names."


def _existing(cell: str, folder: Path) -> str | None:
    """Find the file that a cell names: as it is, without blanks around, with slashes for backslashes."""
    stripped = cell.strip(_BLANKS)
    for name in dict.fromkeys((cell, stripped, stripped.replace("\\", "/"))):
        path = os.path.normpath(os.path.join(folder, name))
        if "\0" not in path and os.path.isfile(path):
            return path
    return None


def _absent(folder: Path, name: str) -> str:
    near = near_name(os.path.abspath(os.path.join(folder, name.replace("\\", "/"))))
    return visible(name) + (f" ({near})" if near else "")


def _distinct(rows: dict[int, Row], written: list[str], account: Account) -> dict[int, Row]:
    """Keep the first of the rows of each image, which must agree on its rank and group; `written` is every path."""
    first: dict[str, int] = {}
    for number, row in rows.items():
        first.setdefault(row[0], number)
    for place, what in ((1, "rank"), (2, "group")):
        others = {
            path: (rows[first[path]][place], row[place])
            for row in rows.values()
            if row[place] != rows[first[path := row[0]]][place]
        }
        if others:
            path, (one, other) = next(iter(others.items()))
            raise ValueError(
                f"{account.source} gives more than one {what} to {len(others)} of its images, the first of them: "
                f"{visible(written[first[path]])} {one!r} and {other!r}. Decide which holds, or take these rows out."
            )
    repeated = [number for number, row in rows.items() if first[row[0]] != number]
    account.add(len(repeated), "rows that repeat another", (visible(written[number]) for number in repeated))
    return {number: rows[number] for number in first.values()}
