"""What images a command line names: files, folders, tables, lists on the standard input; and what their ranks are."""

from __future__ import annotations

import argparse
import glob
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.parsing import listed, user_path
from skl2rclip._utils.names import near_name
from skl2rclip.errors import visible

_TABLES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".parquet", ".pq")
# what a reader leaves out and nobody misses
_HARMLESS = ("lines above the header", "empty rows", "rows that repeat another", "files beside the folders")


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image by its path, and by the name that rows and messages have for it."""

    name: str
    path: str
    is_found: bool = False  # in a folder, where there may be other files too
    cells: tuple[Any, ...] = ()  # of its row in a table


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
        return _from_stdin()
    if os.path.isdir(source):
        return _from_folder(source)
    if glob.has_magic(source) and not os.path.lexists(source):  # which shells of Windows leave to the program
        found = sorted(glob.glob(source))
        if found:
            return chain.from_iterable([_from_source(each, options) for each in found])
    if source.lower().endswith(_TABLES):
        from skl2rclip.datasets._image_tables import listed_paths

        check_there(source)
        more = {name: getattr(options, name, None) for name in ("rank", "group")}
        rows = enumerate(listed_paths(source, image=options.image or "path", root=options.root, **more))
        return [
            NamedImage(row.written or f"row {number} of {source}", row.path, cells=row.cells) for number, row in rows
        ]
    return [NamedImage(source, source)]


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
    return suffix in Image.registered_extensions() or suffix in (".dcm", ".heic", ".jxl")


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
    parser.add_argument("--rank", metavar="COL", help="Column of the table that holds ranks; by default rank.")
    parser.add_argument("--group", metavar="COL", help="Column of the table that says whose image each is.")
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
            columns = {"image": options.image or "path", "rank": options.rank or "rank", "group": options.group}
            bunch = datasets.read_image_table(options.source, **columns, root=options.root, ranks=ranks)
    left_out: list[str] = []
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            said = str(warning.message)
            lines = [line.strip() for line in said.split("\n  ")[1:]]
            left_out += lines
            for line in [f"of {visible(options.source)} not taken: {line}" for line in lines] or [said]:
                console.note(f"warning: {console.in_options(line)}")
    return LabelledImages(bunch, tuple(left_out))


def check_there(source: str) -> None:
    """Raise where there is no file or folder of this name, and say which may have been meant."""
    if not os.path.exists(source):
        near = near_name(os.path.abspath(source))
        raise DataError(f"there is no file or folder {visible(source)}{f'; {near}' if near else ''}")


def _check_no_columns(options: argparse.Namespace) -> None:
    for name in ("image", "rank", "group", "root"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} is for tables, and {visible(options.source)} is a folder, which holds one for each rank"
            )


def written_in(options: argparse.Namespace) -> set[Any]:
    """Ranks as a table or the names of folders write them."""
    check_there(options.source)
    if not os.path.isdir(options.source):
        from skl2rclip.datasets._image_tables import written_ranks

        return written_ranks(options.source, rank=options.rank or "rank")
    from skl2rclip.datasets._reading import plain_word

    with os.scandir(options.source) as entries:
        return {plain_word(entry.name) for entry in entries if entry.is_dir()}
