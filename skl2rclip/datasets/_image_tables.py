"""`read_image_table`: images and ranks that a table lists."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._images.crops import ImageCrop, edges_of
from skl2rclip._images.files import address_hint, is_base64
from skl2rclip._ordinal.labels import array_of, listing
from skl2rclip._ordinal.order_inference import written_numbers
from skl2rclip._ordinal.ranks import given_ranks
from skl2rclip._utils.arguments import check_choice, is_missing, plain_label
from skl2rclip._utils.names import near_name
from skl2rclip.datasets._boxes import box_cells, box_columns, cropped
from skl2rclip.datasets._reading import (
    Account,
    described,
    existing_folder,
    image_bunch,
    keep_images,
    plain_word,
    put_in_order,
)
from skl2rclip.datasets._table_files import BLANKS
from skl2rclip.datasets._tables import Table, TableColumn, read_table
from skl2rclip.errors import visible

_KEEP_WORDS = "where a word such as None is a rank, read the table with pandas.read_csv(..., keep_default_na=False)"
# what R, pandas, spreadsheets and databases write for a missing value
_NOTHING = ("na", "n/a", "#n/a", "nan", "null", "none", "<na>")

Row = tuple[Any, Any, Any]  # image (a path, or a crop where there are boxes), rank, group


def read_image_table(
    table: Any,
    *,
    image: str | int = "path",
    rank: str | int = "rank",
    group: str | int | None = None,
    box: Any = None,
    root: Any = None,
    ranks: Any = None,
    missing: Any = None,
    repeated: str = "error",
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Read images and their ranks from a table with a header row.

    Blanks around cells and names of columns, byte order marks, lines above the header and backslashes in paths do no
    harm. Rows that are empty, repeated or without an image or rank, and files that are absent or no images, are left
    out and counted in one warning.

    Parameters
    ----------
    table : str, path-like or data frame
        A file that ends in .csv, .tsv, .txt (UTF-8, or UTF-16 with its mark; commas, semicolons, tabs or bars), .xlsx
        (the visible sheet that has the columns) or .parquet, which pandas reads; a frame of pandas, or of polars, Arrow
        or another library that converts it to one of pandas; a table of Hugging Face ``datasets``, or a mapping from
        names to columns.
    image : str or int, default="path"
        Column of the paths of the images; an int where a frame numbers its columns.
    rank : str or int, default="rank"
        Column of their ranks. Codes of a ``ClassLabel`` of Hugging Face are the names that they stand for.
    group : str or int, optional
        Column that says whose image each is: subject, plant or burst. They are `groups` of the result, for
        ``StratifiedGroupKFold`` and for `L2RCLIPClassifier.fit`.
    box : tuple of 4 str or int, or str or int, optional
        Columns of the box within each image that is graded, ``("x", "y", "width", "height")``: upper left corner and
        sides in pixels of the upright image; or the one column that holds these four numbers. Each row is an
        `skl2rclip.ImageCrop` then, and several rows may have the same image.
    root : str or path-like, optional
        Folder that relative paths start from; by default that of the table's file, and for frames the current one.
    ranks : array-like of shape (K,), optional
        All ranks as the table writes them, lowest first. By default numbers are their own order, an ordered Categorical
        of pandas, an ordered dictionary of Arrow or an Enum of polars has one, and words get the order that they show
        by themselves, such as bad < poor < fair; where they show none, it is asked for.
    missing : list, optional
        What stands for a missing image, rank or group, as the table writes it, such as ``["unknown", "-", 999]``; empty
        cells do anyway. By default NA, NaN, N/A, null and None do where all other cells of a column of ranks or groups
        are numbers, and no type of the column names them.
    repeated : {"error", "median"}, default="error"
        What to do with an image of several ranks, as several raters give it: "median" takes the middle one, of an even
        number the lower one of the two in the middle, and counts each row as a rating. Groups of an image must agree
        anyway.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray of shape (n,), str
            Paths, in the order of the table; with `box` an array of dtype object of `skl2rclip.ImageCrop`.
        target : ndarray of shape (n,)
            The ranks where they are numbers, or where they are words 0, 1, ... in rank order.
        ranks : list of length K
            All that `target` may hold, lowest first: `ranks` of `L2RCLIPClassifier`.
        rank_names : list of K str
            The words of the ranks, in the same order: `rank_names` of `L2RCLIPClassifier`.
        groups : ndarray of shape (n,)
            Where `group` names a column; with `box` and without it the file of each crop, so that crops of one image
            are not on both sides of a split.
        label_std : ndarray of shape (n,), float64
            With ``repeated="median"``, the standard deviation of each image's ratings in the unit of `target`, for
            `L2RCLIPClassifier.fit`; where it has one rating, that of all others together.
        rows : ndarray of shape (n,), int64
            Which row of the table each image is from, for its other columns, of several the first. Rows count from 0
            below the header and blank lines do not count, as with ``pandas.read_csv(table).iloc``, in messages too.
        DESCR : str
            How many images each rank has, and what was left out.

    Raises
    ------
    ValueError
        If a column is not there, the order of words is not plain, a rank is not among `ranks`, or one image has two
        ranks or groups: which of them holds is for those to say who know the images. If rows of a file would be lost.
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
    read_coco_annotations : Boxes and ranks of annotations in COCO's format.

    Examples
    --------
    >>> from sklearn.model_selection import StratifiedGroupKFold
    >>> from skl2rclip.datasets import read_image_table
    >>> leaves = read_image_table("leaves.csv", image="file", rank="severity", group="plant")
    >>> folds = StratifiedGroupKFold(2).split(leaves.data, leaves.target, leaves.groups)
    >>> [sorted(set(leaves.groups[test].tolist())) for _, test in folds]
    [['1'], ['2']]
    """
    check_choice("repeated", repeated, ("error", "median"))
    named: dict[str, Any] = {"image": image, "rank": rank, "group": group, **box_columns(box)}
    chosen = {parameter: name for parameter, name in named.items() if name is not None}
    read = read_table(table, chosen)
    account = Account(read.source)
    hint = _KEEP_WORDS if type(table).__module__.startswith("pandas") else ""
    listed = listed_images(read, chosen, account, root=root, ranks=ranks, missing=missing, hint=hint)
    return listed.bunch(repeated, return_X_y)


@dataclass(frozen=True, slots=True)
class ListedPath:
    """A row of a table that need not say ranks."""

    written: str  # as the table has it, without blanks around
    path: str  # empty where nothing is written
    cells: tuple[Any, ...]  # of the other columns that were asked for, None where nothing stands


def listed_paths(
    table: Any, *, image: str | int = "path", root: Any = None, **more: str | int | None
) -> list[ListedPath]:
    """Read each row of a table, with the columns that `more` names, and leave nothing out.

    A file that is absent has the path where it should be.
    """
    read = read_table(table, {"image": image, **{name: column for name, column in more.items() if column is not None}})
    folder = existing_folder("root", root) if root is not None else read.folder or Path()
    others = [[_label_cell(cell) for cell in column.cells] for name, column in read.columns.items() if name != "image"]
    rows = []
    for cell, *cells in zip(read.columns["image"].cells, *others, strict=True):
        path = _path_cell(cell, image, ())
        written = path.strip(BLANKS)
        found = (_existing(path, folder) or os.path.join(folder, written)) if written else ""
        rows.append(ListedPath(written, found, tuple(cells)))
    return rows


def written_ranks(table: Any, *, rank: str | int = "rank") -> set[Any]:
    """Read the different ranks of a table as it writes them, without looking for images."""
    return set(_label_cells(read_table(table, {"rank": rank}).columns["rank"], None)) - {None}


@dataclass(frozen=True)
class ListedImages:
    """The rows of a table whose images are there, and what its cells say of them."""

    read: Table
    chosen: dict[str, Any]  # what the table calls each of its columns
    written: list[str]  # what stands for the image in each row, those included that were left out
    rows: dict[int, Row]  # by place below the header
    ranks: Any
    account: Account

    def bunch(self, repeated: str, return_X_y: bool) -> Bunch | tuple[Any, Any]:
        """Make what readers return of those files that are images."""
        rows, account, source = self.rows, self.account, self.read.source
        rows_of = _rows_of_each(rows, self.written, account, repeated)
        kept = keep_images([rows[first][0] for first in rows_of], account)
        rows_of = {first: each for (first, each), keep in zip(rows_of.items(), kept, strict=True) if keep}
        if not rows_of:
            raise ValueError("\n  ".join([f"{source} lists no image with a rank.", *account.lines]))
        ratings = [rows[number][1] for each in rows_of.values() for number in each]
        order = self.read.columns["rank"].order if self.ranks is None else self.ranks
        target, all_ranks, rank_names = put_in_order(ratings, order, source)
        label_std = None
        if repeated == "median":
            ends = np.cumsum([len(each) for each in rows_of.values()])[:-1]
            target, label_std = _medians(np.split(target, ends), all_ranks)
        account.tell()
        data, parts = [rows[first][0] for first in rows_of], (target, all_ranks, rank_names)
        if return_X_y:
            return np.array(data), target
        descr = described(f"Images of a table: {source}", parts, account)
        groups = self._groups([rows[first] for first in rows_of])
        return image_bunch(data, *parts, descr, groups=groups, label_std=label_std, rows=np.array(list(rows_of)))

    def _groups(self, rows: list[Row]) -> np.ndarray | None:
        """Whose image each is, where the table says it; of crops which file they are from."""
        if "group" in self.chosen:
            return array_of([subject for _, _, subject in rows], f"Column {self.chosen['group']!r}")
        return np.array([os.fspath(image.path) for image, _, _ in rows]) if isinstance(rows[0][0], ImageCrop) else None


def listed_images(
    read: Table, chosen: dict[str, Any], account: Account, *, root: Any, ranks: Any, missing: Any = None, hint: str = ""
) -> ListedImages:
    """Find the images of a table that was read, and leave out rows that lack one, a rank, a group or a box.

    `hint` is what to say of words that are no ranks.
    """
    account.add(len(read.above), "lines above the header", map(visible, read.above))
    rows = _all_rows(read, chosen, missing, ranks)
    written, boxes = [row[0] for row in rows.values()], box_cells(read)
    rows = _complete(rows, "group" in chosen, boxes, account)
    if any(isinstance(label, str) for _, label, _ in rows.values()):
        account.remark("rows without a rank", hint)
    folder = existing_folder("root", root) if root is not None else read.folder or Path()
    rows = _found(rows, folder, account, chosen["image"], _hint_at_numbers(read.columns["image"], chosen["image"]))
    if boxes:
        crops = cropped({number: row[0] for number, row in rows.items()}, boxes, account)
        rows = {number: (crop, *rows[number][1:]) for number, crop in crops.items()}
    return ListedImages(read, chosen, written, rows, ranks, account)


def _medians(ratings: list[np.ndarray], ranks: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Lower median of each image's ratings along the ranks, and their standard deviation."""
    place = {rank: index for index, rank in enumerate(ranks)}
    in_order = [sorted(each.tolist(), key=place.__getitem__) for each in ratings]
    target = np.array([each[(len(each) - 1) // 2] for each in in_order], ratings[0].dtype)
    several = np.array([len(each) > 1 for each in ratings])
    std = np.array([float(np.std(each)) for each in ratings])
    if several.any():
        std[~several] = np.sqrt(np.mean(std[several] ** 2))
    return target, std


# ------------------------------------------------------------------- cells


def _all_rows(read: Table, names: dict[str, Any], missing: Any, ranks: Any) -> dict[int, Row]:
    """Image, rank and group of each row, by its place below the header; `names` are those of the columns."""
    column, nothing = read.columns["rank"], None if missing is None else _words_of(missing)
    images = [_path_cell(cell, names["image"], nothing or ()) for cell in read.columns["image"].cells]
    labels = _label_cells(column, nothing, ranks)
    if column.lacks_order and ranks is None:
        distinct = sorted({label for label in labels if label is not None})
        raise ValueError(
            f"{read.source} has {names['rank']!r} as an ordered Categorical whose order was not kept, as Parquet keeps "
            f"none of numbers: list all ranks, lowest first, such as ranks={listing(distinct, 100)} put into the right "
            "order."
        )
    if len(images) != len(labels):
        raise ValueError(
            f"Columns of {read.source} differ in length: {names['image']!r} has {len(images)} rows, {names['rank']!r} "
            f"has {len(labels)}."
        )
    groups = _label_cells(read.columns["group"], nothing) if "group" in read.columns else [None] * len(labels)
    return dict(enumerate(zip(images, labels, groups, strict=True)))


def _path_cell(cell: Any, column: str | int, nothing: Collection[str]) -> str:
    if isinstance(cell, str | os.PathLike):
        path = os.fspath(cell)
        return "" if path.strip(BLANKS) in nothing else path
    if np.ndim(cell) == 0 and is_missing(cell):
        return ""
    if isinstance(cell, int | float):  # of a table that took a name for a number
        name = str(_label_cell(cell))
        return "" if name in nothing else name
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
    return label if isinstance(label, int | float) else plain_word(str(label).strip(BLANKS)) or None


def _words_of(missing: Any) -> set[str]:
    if isinstance(missing, str) or not hasattr(missing, "__iter__"):
        raise TypeError(f"missing must be a list of what stands for nothing, such as ['unknown'], got {missing!r}.")
    return {str(_label_cell(each)) for each in missing if not is_missing(each)}


def _label_cells(column: TableColumn, nothing: set[str] | None, ranks: Any = None) -> list[Any]:
    """Ranks or groups, None where nothing stands: `nothing`, or else NA and the like where all others are numbers.

    Among words that may be a rank, such as none, and it is one where `ranks` or the type of the column names it.
    """
    labels = [_label_cell(cell) for cell in column.cells]
    if nothing is None:
        declared = column.declared if ranks is None else given_ranks(ranks).tolist()
        words = {label for label in labels if isinstance(label, str)}
        nothing = {word for word in words if word.casefold() in _NOTHING} - set(map(str, declared))
        if not written_numbers(sorted(words - nothing)):
            return labels
    return [None if label is None or str(label) in nothing else label for label in labels]


def _complete(rows: dict[int, Row], has_groups: bool, boxes: list[Any], account: Account) -> dict[int, Row]:
    """Leave out rows without an image, a rank, a group or a box."""

    def lacking(number: int) -> str:
        image, label, subject = rows[number]
        if not image.strip(BLANKS):
            return "an image" if label is not None or subject is not None else "everything"
        if label is None:
            return "a rank"
        if boxes and boxes[number] is None:
            return "a box"
        return "a group" if has_groups and subject is None else ""

    lack = {number: lacking(number) for number in rows}
    empty = [number for number, what in lack.items() if what == "everything"]
    account.add(len(empty), "empty rows")
    for what in ("an image", "a rank", "a box", "a group"):
        numbers = [number for number in rows if lack[number] == what]
        account.add(len(numbers), f"rows without {what}", (_place(rows, number, account) for number in numbers))
    return {number: row for number, row in rows.items() if not lack[number]}


def _place(rows: dict[int, Row], number: int, account: Account) -> str:
    """Name a row as one finds it: by its image, or by its place."""
    image = rows[number][0].strip(BLANKS)
    return visible(image) if image else f"row {number}, {account.counted}"


# ---------------------------------------------------------------- images


def _hint_at_numbers(column: TableColumn, name: str | int) -> str:
    """Say how names that a frame took for numbers come back with their zeros: 007."""
    if not any(isinstance(cell, int | float) and not is_missing(cell) for cell in column.cells):
        return ""
    return (
        f"Names in column {name!r} became numbers, without the zeros at their beginning: read the table with "
        f"pandas.read_csv(..., dtype={{{name!r}: str}})."
    )


def _found(rows: dict[int, Row], folder: Path, account: Account, written_as: str | int, hint: str) -> dict[int, Row]:
    """Put the path that exists in place of each cell, and leave out rows whose file is absent.

    If no file is there at all, the folder is wrong, which is an error.
    """
    found, absent = {}, []
    for number, (cell, label, group) in rows.items():
        path = _existing(cell, folder)
        if path is None:
            absent.append(cell.strip(BLANKS))
        else:
            found[number] = (path, label, group)
    if absent and not found:
        raise FileNotFoundError(
            f"None of the {len(absent)} files that {account.source} lists is there; the first "
            f"{_why_absent(absent[0], folder, written_as, hint)}"
        )
    account.add(len(absent), "files that are not there", (_absent(folder, name) for name in absent))
    if hint:
        account.remark("files that are not there", hint.rstrip("."))
    return found


def _why_absent(name: str, folder: Path, column: str | int, hint: str) -> str:
    """Say where a file was looked for, or what its name is instead, and what to do; `hint` says it of numbers."""
    address = address_hint(name, "store the files, and list their paths")
    if address is not None:
        return f"is {address}."
    if is_base64(name[:64].encode(errors="replace")):
        return (
            "is the text of an image in base64: fit takes such images as X=[base64.b64decode(text) for text in column]."
        )
    tried = os.path.join(folder, name)
    advice = _ending(tried, column) or hint or "Give the folder that paths start from with root=..."
    return f"was looked for at {visible(os.path.abspath(tried))}. {advice}"


def _ending(tried: str, column: str | int) -> str:
    """Say how names get their ending where a file has it and the table has not; empty where there is no such file."""
    folder, name = os.path.split(tried)
    try:
        ended = sorted(file for file in os.listdir(folder or ".") if os.path.splitext(file)[0] == name)
    except (OSError, ValueError):
        ended = []
    if not ended:
        return ""
    return (
        f"The folder has {visible(ended[0])}: read the table into a frame, and add the ending to its names, "
        f"table[{column!r}] = table[{column!r}].astype(str) + {os.path.splitext(ended[0])[1]!r}."
    )


def _existing(cell: str, folder: Path) -> str | None:
    """Find the file that a cell names: as it is, without blanks around, with slashes for backslashes.

    Accents may stand apart from their letters in the table or in the folder, and ~ is the user's own one.
    """
    stripped = cell.strip(BLANKS)
    plain = os.path.expanduser(stripped.replace("\\", "/"))
    for name in dict.fromkeys(
        (cell, stripped, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD")))
    ):
        path = os.path.normpath(os.path.join(folder, name))
        if "\0" not in path and os.path.isfile(path):
            return path
    return None


def _absent(folder: Path, name: str) -> str:
    near = near_name(os.path.abspath(os.path.join(folder, name.replace("\\", "/"))))
    return visible(name) + (f" ({near})" if near else "")


def _identity(image: str | ImageCrop) -> Hashable:
    """Tell what rows of the same image have in common; of crops those of the same box."""
    if isinstance(image, ImageCrop):
        return os.path.realpath(image.path), edges_of(image.box)
    return os.path.realpath(image)


def _rows_of_each(rows: dict[int, Row], written: list[str], account: Account, repeated: str) -> dict[int, list[int]]:
    """Rows of each image, by the first of them; one file may be named by several paths.

    They must agree on its group, and with ``repeated="error"`` on its rank, so that the first says everything.
    """
    rows_of: dict[Hashable, list[int]] = {}
    for number, (path, _, _) in rows.items():
        rows_of.setdefault(_identity(path), []).append(number)
    checked = (
        [(2, "group", "")]
        if repeated == "median"
        else [(1, "rank", '; repeated="median" takes the one in the middle'), (2, "group", "")]
    )
    for place, what, way_out in checked:
        others = [each for each in rows_of.values() if len({rows[number][place] for number in each}) > 1]
        if others:
            first = others[0][0]
            other = next(number for number in others[0] if rows[number][place] != rows[first][place])
            raise ValueError(
                f"{account.source} gives more than one {what} to {len(others)} of its images, the first of them: "
                f"{visible(written[first])} {rows[first][place]!r} and {rows[other][place]!r}. Decide which holds, or "
                f"take these rows out (rows {first} and {other}, {account.counted}){way_out}."
            )
    if repeated == "median":
        return {each[0]: each for each in rows_of.values()}
    repeats = sorted(number for each in rows_of.values() for number in each[1:])
    account.add(len(repeats), "rows that repeat another", (visible(written[number]) for number in repeats))
    return {each[0]: each[:1] for each in rows_of.values()}
