"""`read_image_table`: images and ranks that a table lists."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
from skl2rclip.datasets._rating_columns import Parts, columns_of_ranks, of_columns, of_rows, own_order, rank_columns
from skl2rclip.datasets._reading import Account, described, existing_folder, image_bunch, keep_images, plain_word
from skl2rclip.datasets._table_files import BLANKS
from skl2rclip.datasets._tables import Table, TableColumn, read_table
from skl2rclip.errors import visible

_KEEP_WORDS = "where a word such as None is a rank, read the table with pandas.read_csv(..., keep_default_na=False)"
# what R, pandas, spreadsheets and databases write for a missing value
_NOTHING = ("na", "n/a", "#n/a", "nan", "null", "none", "<na>")

# columns that say what else an image belongs to
_NAMED = ("group", "case")


class Row(NamedTuple):
    """What a row says of its image; None where it says nothing."""

    image: Any  # a path, or a crop where there are boxes
    rank: Any  # of several columns a tuple of their ratings
    group: Any = None
    case: Any = None


def read_image_table(
    table: Any,
    *,
    image: str | int = "path",
    rank: str | int | Sequence[str | int] = "rank",
    group: str | int | None = None,
    case: str | int | None = None,
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
    rank : str or int, or list of them, default="rank"
        Column of their ranks. Codes of a ``ClassLabel`` of Hugging Face are the names that they stand for. A list of
        several columns holds what several raters say, with gaps where one has not seen an image: `combine_ratings`
        makes one label of them, without what each rater is stricter or milder by.
    group : str or int, optional
        Column that says whose image each is: subject, plant or burst. They are `groups` of the result, for
        ``StratifiedGroupKFold`` and for `L2RCLIPClassifier.fit`.
    case : str or int, optional
        Column that says which images are predicted together: those of an eye, a fruit, a joint. They are `cases` of the
        result, for `skl2rclip.metrics.pool_probabilities`.
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
        What stands for a missing image, rank, group or case, as the table writes it, such as ``["unknown", "-", 999]``;
        empty cells do anyway. By default NA, NaN, N/A, null and None do where all other cells of a column of ranks,
        groups or cases are numbers, and no type of the column names them.
    repeated : {"error", "median"}, default="error"
        What to do with an image of several ranks, as several raters give it: "median" takes the middle one, of an even
        number the lower one of the two in the middle, and counts each row as a rating. Groups and cases of an image
        must agree anyway. Ratings in several columns are not repeated in this sense.
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
        cases : ndarray of shape (n,)
            Where `case` names a column.
        label_std : ndarray of shape (n,), float64
            How far `target` may be off, in its unit, for `L2RCLIPClassifier.fit`: of several columns of `rank` that of
            `combine_ratings`; with ``repeated="median"`` the standard deviation of each image's ratings, and where it
            has one rating, that of all others together.
        bias : ndarray of shape (raters,), float64
            Of several columns of `rank`, what each rater adds, as `combine_ratings` finds it.
        rows : ndarray of shape (n,), int64
            Which row of the table each image is from, for its other columns, of several the first. Rows count from 0
            below the header and blank lines do not count, as with ``pandas.read_csv(table).iloc``, in messages too.
        DESCR : str
            How many images each rank has, and what was left out.

    Raises
    ------
    ValueError
        If a column is not there, the order of words is not plain, a rank is not among `ranks`, or one image has two
        ranks, groups or cases: which of them holds is for those to say who know the images. If rows of a file would be
        lost, or several columns of `rank` have too few ratings to be combined.
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
    combine_ratings : One label of several raters'.

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
    ratings = rank_columns(rank)
    if repeated == "median" and len(ratings) > 1:
        raise ValueError(
            "repeated='median' takes the middle of ratings in several rows, and rank=[...] names columns of ratings, "
            "which are combined: leave one of the two out."
        )
    named: dict[str, Any] = {"image": image, **ratings, "group": group, "case": case, **box_columns(box)}
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
    path: str | ImageCrop  # empty where nothing is written
    cells: tuple[Any, ...]  # of the other columns that were asked for, None where nothing stands
    problem: str | None = None  # of its box


def listed_paths(
    table: Any, *, image: str | int = "path", box: Any = None, root: Any = None, **more: str | int | None
) -> list[ListedPath]:
    """Read each row of a table, with the columns that `more` names, and leave nothing out.

    A file that is absent has the path where it should be.
    """
    others = {name: column for name, column in more.items() if column is not None}
    read = read_table(table, {"image": image, **others, **box_columns(box)})
    folder = existing_folder("root", root) if root is not None else read.folder or Path()
    cells = [_label_cells(read.columns[name], set() if name != "case" else None) for name in others]
    rows = []
    for cell, *labels in zip(read.columns["image"].cells, *cells, strict=True):
        path = _path_cell(cell, image, ())
        written = path.strip(BLANKS)
        found = (_existing(path, folder) or os.path.join(folder, written)) if written else ""
        rows.append(ListedPath(written, found, tuple(labels)))
    boxes = box_cells(read)
    return [_with_box(row, each) for row, each in zip(rows, boxes, strict=True)] if boxes else rows


def _with_box(row: ListedPath, box: Any) -> ListedPath:
    """Name the part of an image that a row has as its box."""
    if not row.written:
        return row
    if box is None:
        return replace(row, problem="its row has no box")
    try:
        return replace(row, path=ImageCrop(str(row.path), box))
    except ValueError as error:
        return replace(row, problem=str(error).rstrip("."))


def written_ranks(table: Any, *, rank: Any = "rank", missing: Any = None) -> set[Any]:
    """Read the different ranks of a table as it writes them, without looking for images."""
    nothing = None if missing is None else _words_of(missing)
    columns = read_table(table, rank_columns(rank)).columns.values()
    return {label for column in columns for label in _label_cells(column, nothing)} - {None}


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
        kept = keep_images([rows[first].image for first in rows_of], account)
        rows_of = {first: each for (first, each), keep in zip(rows_of.items(), kept, strict=True) if keep}
        if not rows_of:
            raise ValueError("\n  ".join([f"{source} lists no image with a rank.", *account.lines]))
        firsts = [rows[first] for first in rows_of]
        parts, more = self._labels(firsts, rows_of.values(), repeated == "median")
        account.tell()
        data = [row.image for row in firsts]
        if return_X_y:
            return np.array(data), parts[0]
        descr = described(f"Images of a table: {source}", parts, account)
        more |= {"groups": self._groups(firsts), "cases": self._named("case", firsts)}
        return image_bunch(data, *parts, descr, **more, rows=np.array(list(rows_of)))

    def _labels(
        self, firsts: list[Row], rows_of: Iterable[list[int]], with_spread: bool
    ) -> tuple[Parts, dict[str, Any]]:
        """Label each image by its ratings, with what is known of these."""
        columns, source = columns_of_ranks(self.read), self.read.source
        order = own_order(columns, self.chosen, source) if self.ranks is None else self.ranks
        if len(columns) > 1:
            return of_columns([row.rank for row in firsts], order, source)
        ratings = [[self.rows[number].rank for number in each] for each in rows_of]
        return of_rows(ratings, order, source, with_spread=with_spread)

    def _groups(self, rows: list[Row]) -> np.ndarray | None:
        """Whose image each is, where the table says it; of crops which file they are from."""
        if "group" not in self.chosen and isinstance(rows[0].image, ImageCrop):
            return np.array([os.fspath(row.image.path) for row in rows])
        return self._named("group", rows)

    def _named(self, name: str, rows: list[Row]) -> np.ndarray | None:
        """Return what a column of names says of each row; None where no column is named."""
        if name not in self.chosen:
            return None
        return array_of([getattr(row, name) for row in rows], f"Column {self.chosen[name]!r}")


def listed_images(
    read: Table, chosen: dict[str, Any], account: Account, *, root: Any, ranks: Any, missing: Any = None, hint: str = ""
) -> ListedImages:
    """Find the images of a table that was read, and leave out rows that lack one, a rank, a group or a box.

    `hint` is what to say of words that are no ranks.
    """
    account.add(len(read.above), "lines above the header", map(visible, read.above))
    rows = _all_rows(read, chosen, missing, ranks)
    written, boxes = [row.image for row in rows.values()], box_cells(read)
    rows = _complete(rows, [name for name in _NAMED if name in chosen], boxes, account)
    if any(isinstance(label, str) for row in rows.values() for label in _ratings_of(row)):
        account.remark("rows without a rank", hint)
    folder = existing_folder("root", root) if root is not None else read.folder or Path()
    rows = _found(rows, folder, account, chosen["image"], _hint_at_numbers(read.columns["image"], chosen["image"]))
    if boxes:
        crops = cropped({number: row.image for number, row in rows.items()}, boxes, account)
        rows = {number: rows[number]._replace(image=crop) for number, crop in crops.items()}
    return ListedImages(read, chosen, written, rows, ranks, account)


# ------------------------------------------------------------------- cells


def _all_rows(read: Table, names: dict[str, Any], missing: Any, ranks: Any) -> dict[int, Row]:
    """Take what each row says, by its place below the header; `names` are those of the columns."""
    nothing = None if missing is None else _words_of(missing)
    images = [_path_cell(cell, names["image"], nothing or ()) for cell in read.columns["image"].cells]
    of_raters = {
        name: _rank_cells(column, names[name], nothing, ranks, read.source)
        for name, column in columns_of_ranks(read).items()
    }
    others = {name: _label_cells(read.columns[name], nothing) for name in _NAMED if name in read.columns}
    for name, cells in {**of_raters, **others}.items():
        if len(cells) != len(images):
            raise ValueError(
                f"Columns of {read.source} differ in length: {names['image']!r} has {len(images)} rows, "
                f"{names[name]!r} has {len(cells)}."
            )
    rated = [_joined(each) for each in zip(*of_raters.values(), strict=True)]
    bare = [None] * len(images)
    columns = [images, rated, *(others.get(name, bare) for name in _NAMED)]
    return {number: Row(*cells) for number, cells in enumerate(zip(*columns, strict=True))}


def _rank_cells(column: TableColumn, name: Any, nothing: set[str] | None, ranks: Any, source: str) -> list[Any]:
    labels = _label_cells(column, nothing, ranks)
    if column.lacks_order and ranks is None:
        distinct = sorted({label for label in labels if label is not None})
        raise ValueError(
            f"{source} has {name!r} as an ordered Categorical whose order was not kept, as Parquet keeps none of "
            f"numbers: list all ranks, lowest first, such as ranks={listing(distinct, 100)} put into the right order."
        )
    return labels


def _joined(ratings: tuple[Any, ...]) -> Any:
    """Rank of a row: of several raters all that they say, None where they say nothing."""
    if len(ratings) == 1:
        return ratings[0]
    return None if all(each is None for each in ratings) else ratings


def _ratings_of(row: Row) -> tuple[Any, ...]:
    return row.rank if isinstance(row.rank, tuple) else (row.rank,)


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


def _complete(rows: dict[int, Row], named: list[str], boxes: list[Any], account: Account) -> dict[int, Row]:
    """Leave out rows without an image, a rank, a box, or what a `named` column says of others."""

    def lacking(number: int) -> str:
        row = rows[number]
        if not row.image.strip(BLANKS):
            return "everything" if row[1:] == (None,) * len(row[1:]) else "an image"
        if row.rank is None:
            return "a rank"
        if boxes and boxes[number] is None:
            return "a box"
        return next((f"a {name}" for name in named if getattr(row, name) is None), "")

    lack = {number: lacking(number) for number in rows}
    empty = [number for number, what in lack.items() if what == "everything"]
    account.add(len(empty), "empty rows")
    for what in ("an image", "a rank", "a box", *(f"a {name}" for name in _NAMED)):
        numbers = [number for number in rows if lack[number] == what]
        account.add(len(numbers), f"rows without {what}", (_place(rows, number, account) for number in numbers))
    return {number: row for number, row in rows.items() if not lack[number]}


def _place(rows: dict[int, Row], number: int, account: Account) -> str:
    """Name a row as one finds it: by its image, or by its place."""
    image = rows[number].image.strip(BLANKS)
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
    for number, row in rows.items():
        path = _existing(row.image, folder)
        if path is None:
            absent.append(row.image.strip(BLANKS))
        else:
            found[number] = row._replace(image=path)
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


def identity_of(image: str | ImageCrop) -> Hashable:
    """Tell what rows of the same image have in common; of crops those of the same box."""
    if isinstance(image, ImageCrop):
        return os.path.realpath(image.path), edges_of(image.box)
    return os.path.realpath(image)


def _rows_of_each(rows: dict[int, Row], written: list[str], account: Account, repeated: str) -> dict[int, list[int]]:
    """Rows of each image, by the first of them; one file may be named by several paths.

    They must agree on its group and case, and with ``repeated="error"`` on its rank, so that the first says everything.
    """
    rows_of: dict[Hashable, list[int]] = {}
    for number, row in rows.items():
        rows_of.setdefault(identity_of(row.image), []).append(number)
    checked = dict.fromkeys(_NAMED, "")
    if repeated == "error":
        several = any(isinstance(row.rank, tuple) for row in rows.values())
        checked = {"rank": "" if several else '; repeated="median" takes the one in the middle', **checked}
    for what, way_out in checked.items():
        others = [each for each in rows_of.values() if len({getattr(rows[number], what) for number in each}) > 1]
        if others:
            first = others[0][0]
            said = getattr(rows[first], what)
            other = next(number for number in others[0] if getattr(rows[number], what) != said)
            raise ValueError(
                f"{account.source} gives more than one {what} to {len(others)} of its images, the first of them: "
                f"{visible(written[first])} {said!r} and {getattr(rows[other], what)!r}. Decide which holds, or "
                f"take these rows out (rows {first} and {other}, {account.counted}){way_out}."
            )
    if repeated == "median":
        return {each[0]: each for each in rows_of.values()}
    repeats = sorted(number for each in rows_of.values() for number in each[1:])
    account.add(len(repeats), "rows that repeat another", (visible(written[number]) for number in repeats))
    return {each[0]: each[:1] for each in rows_of.values()}
