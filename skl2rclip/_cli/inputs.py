"""What images a command line names: files, folders, tables, lists on the standard input; and what their ranks are."""

from __future__ import annotations

import argparse
import glob
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.parsing import box_columns, columns, listed, user_path, words_listed
from skl2rclip._utils.names import near_name
from skl2rclip.errors import visible

_TABLES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".parquet", ".pq")
# what a reader leaves out and nobody misses
_HARMLESS = (
    "lines above the header",
    "empty rows",
    "rows that repeat another",
    "files beside the folders",
    "folders without an image",
)


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image by its path, and by the name that rows and messages have for it."""

    name: str
    path: Any  # a string, or an `ImageCrop`
    is_found: bool = False  # in a folder, where there may be other files too
    cells: tuple[Any, ...] = ()  # of its row in a table
    case: Any = None  # likewise
    problem: str | None = None  # why it cannot be taken, where its row says so


# ------------------------------------------------------------ without ranks


def add_images(parser: Any) -> None:
    """Add what images are predicted, and how tables name them."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="FILE|FOLDER|TABLE",
        type=user_path,
        help="Images; folders, with all images at any depth; tables (.csv, .tsv, .txt, .xlsx, .parquet), whose rows "
        "keep their order; or - for paths on the standard input, one a line. After -- names may begin with -.",
    )
    parser.add_argument("--image", metavar="COL", help="Column of tables that holds paths; by default path.")
    add_root(parser)


def add_box(parser: Any) -> None:
    """Add the columns of boxes."""
    parser.add_argument(
        "--box",
        metavar="COL",
        type=box_columns,
        help="Columns of a table that hold the box within each image that is graded, X,Y,WIDTH,HEIGHT in pixels; or "
        "the one that holds all four.",
    )


def add_root(parser: Any) -> None:
    """Add the folder that paths of a table start from."""
    parser.add_argument(
        "--root", metavar="DIR", type=user_path, help="Folder that paths of a table start from; by default its own."
    )


def named_images(options: argparse.Namespace) -> Iterable[NamedImage]:
    """Name the images that are asked for, in the order in which they were; none is opened.

    It is a list, but where the standard input is among them.
    """
    images = chain.from_iterable([_from_source(source, options) for source in options.images])
    return images if "-" in options.images else list(images)


def _from_source(source: str, options: argparse.Namespace) -> Iterable[NamedImage]:
    if source == "-":
        _check_no_case(options, "the standard input has paths")
        return _from_stdin()
    if os.path.isdir(source):
        _check_no_case(options, f"{visible(source)} is a folder")
        return _from_folder(source)
    if glob.has_magic(source) and not os.path.lexists(source):  # which shells of Windows leave to the program
        found = sorted(glob.glob(source))
        if found:
            return chain.from_iterable([_from_source(each, options) for each in found])
    if source.lower().endswith(_TABLES):
        return _from_table(source, options)
    _check_no_case(options, f"{visible(source)} is an image")
    return [NamedImage(source, source)]


def _check_no_case(options: argparse.Namespace, found: str) -> None:
    if getattr(options, "case", None) is not None:
        raise UsageError(f"--case is for tables, which say what images are of one case, and {found}")


def _from_table(source: str, options: argparse.Namespace) -> list[NamedImage]:
    from skl2rclip.datasets._image_tables import listed_paths

    check_there(source)
    named = {name: getattr(options, name, None) for name in ("box", "rank", "group", "case")}
    images = []
    for number, row in enumerate(listed_paths(source, image=options.image or "path", root=options.root, **named)):
        image = NamedImage(row.written or f"row {number} of {source}", row.path, cells=row.cells, problem=row.problem)
        if named["case"] is not None:
            *cells, case = row.cells
            lack = f"row {number} has no case in column {named['case']!r}" if case is None else None
            image = replace(image, cells=tuple(cells), case=case, problem=lack or row.problem)
        images.append(image)
    return images


def _from_folder(folder: str) -> list[NamedImage]:
    from pathlib import Path

    from skl2rclip.datasets._folders import files_below

    unopened: list[OSError] = []
    paths = files_below(Path(folder), unopened)
    if unopened:
        raise unopened[0]
    if not paths:
        raise DataError(f"there are no files in {visible(folder)}")
    return [NamedImage(path, path, is_found=True) for path in paths]


def _from_stdin() -> Iterator[NamedImage]:
    if sys.stdin is None:
        raise UsageError("there is no standard input to read paths from")
    for line in sys.stdin.buffer:
        for name in map(os.fsdecode, line.rstrip(b"\r\n").split(b"\0")):
            if name:
                yield NamedImage(name, name)


def in_chunks(images: Iterable[NamedImage], first: int = 16, most: int = 256) -> Iterator[list[NamedImage]]:
    """Hand images on in lists, small ones first, so that the first rows come soon."""
    images, size = iter(images), first
    while chunk := list(islice(images, size)):
        yield chunk
        size = min(2 * size, most)


def may_be_image(path: str) -> bool:
    """Whether a file that cannot be opened as an image is called one."""
    from PIL import Image

    suffix = os.path.splitext(path)[1].lower()
    # some plug-ins of Pillow register names without an ending, too
    return bool(suffix) and (suffix in Image.registered_extensions() or suffix in (".dcm", ".heic", ".jxl"))


# --------------------------------------------------------------- with ranks


def add_labelled(parser: Any, what: str) -> None:
    """Add a table or a folder of images with ranks."""
    parser.add_argument(
        "source",
        metavar="TABLE|FOLDER",
        type=user_path,
        help=f"{what}: a table (.csv, .tsv, .txt, .xlsx, .parquet) with a header, or a folder that holds a folder for "
        "each rank.",
    )
    parser.add_argument("--image", metavar="COL", help="Column of the table that holds paths; by default path.")
    parser.add_argument(
        "--rank",
        metavar="COL",
        type=columns,
        help="Column of the table that holds ranks; by default rank. Several, A,B,C with quotes around what holds a "
        "comma, are those of several raters, of which one label is made.",
    )
    parser.add_argument("--group", metavar="COL", help="Column of the table that says whose image each is.")
    add_box(parser)
    parser.add_argument(
        "--missing",
        metavar="A,B,C",
        type=words_listed,
        help="What stands for a missing path, rank, group or case in the table, such as unknown,999.",
    )
    parser.add_argument(
        "--repeated",
        choices=("error", "median"),
        help="What to do with images to which rows of the table give several ranks: end with an error, the default, or "
        "take the one in the middle.",
    )
    add_root(parser)


def add_ranks(parser: Any, text: str) -> None:
    """Add the list of ranks."""
    parser.add_argument("--ranks", metavar="A,B,C", type=listed, help=text)


@dataclass(frozen=True)
class LabelledImages:
    """What a reader of `skl2rclip.datasets` returns, and what it has left out."""

    bunch: Any
    left_out: tuple[str, ...]  # as the reader says it

    @property
    def groups(self) -> Any:
        """Whose image each is, where that is known."""
        return self.bunch.get("groups")

    @property
    def missed(self) -> list[str]:
        """What was left out and may be missed."""
        return [line for line in self.left_out if not line.startswith(_HARMLESS)]


def labelled_images(options: argparse.Namespace, console: Console, ranks: Sequence[Any] | None) -> LabelledImages:
    """Read a table or folder; what is left out is said, a line each."""
    from skl2rclip import datasets

    check_there(options.source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if os.path.isdir(options.source):
            _check_no_columns(options)
            bunch = datasets.load_image_folder(options.source, ranks=ranks)
        else:
            bunch = datasets.read_image_table(options.source, **_table_options(options), ranks=ranks)
    left_out: list[str] = []
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            said = str(warning.message)
            lines = [line.strip() for line in said.split("\n  ")[1:]]
            left_out += lines
            for line in [f"of {visible(options.source)} not taken: {line}" for line in lines] or [said]:
                console.note(f"warning: {console.in_options(line)}")
    return LabelledImages(bunch, tuple(left_out))


# of a table alone, by the parameters of its reader
_OF_TABLES = ("image", "rank", "group", "case", "box", "missing", "repeated", "root")


def _table_options(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name, None) for name in _OF_TABLES}
    return {name: value for name, value in given.items() if value is not None}


def check_there(source: str) -> None:
    """Raise where there is no file or folder of this name, and say which may have been meant."""
    if not os.path.exists(source):
        near = near_name(os.path.abspath(source))
        raise DataError(f"there is no file or folder {visible(source)}{f'; {near}' if near else ''}")


def _check_no_columns(options: argparse.Namespace) -> None:
    for name in _table_options(options):
        raise UsageError(
            f"--{name} is for tables, and {visible(options.source)} is a folder, which holds one for each rank"
        )


def written_in(options: argparse.Namespace) -> set[Any]:
    """Ranks as a table or the names of folders write them."""
    check_there(options.source)
    if not os.path.isdir(options.source):
        from skl2rclip.datasets._image_tables import written_ranks

        return written_ranks(options.source, rank=options.rank or "rank", missing=options.missing)
    from skl2rclip.datasets._folders import folders_with_images

    return set(folders_with_images(options.source))
