"""Where results go: rows to the standard output or to a file, files and folders that are there whole or not at all.

What is in the way is refused before there is any work.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from skl2rclip._cli.console import UsageError
from skl2rclip._cli.parsing import user_path
from skl2rclip._utils.scratch import put_in_place, scratch_folder
from skl2rclip.errors import visible

FORMATS = ("csv", "json")


def add_output(parser: Any) -> None:
    """Add the options of where rows go, and in which form."""
    parser.add_argument("--format", choices=FORMATS, help="csv, or json: one array. By default as FILE ends, else csv.")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=user_path,
        help="Where to write, all of it or nothing; by default the standard output.",
    )
    add_overwrite(parser)


def add_overwrite(parser: Any) -> None:
    """Add the option that lets what exists be replaced."""
    parser.add_argument("--overwrite", action="store_true", help="Replace what is there already.")


# ------------------------------------------------------------ what is refused


def check_file(option: str, path: str | None, overwrite: bool) -> str | None:
    """Raise unless a file can be written there; return None for the standard output, which is ``-`` too."""
    if path is None or path == "-":
        return None
    if os.path.isdir(path):
        raise UsageError(f"{option} must be a file, and {visible(path)} is a folder")
    if _is_special(path):
        return path
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{visible(path)} exists; --overwrite replaces it")
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise UsageError(f"{option} {visible(path)} is in no folder that exists")
    _check_writable(parent)
    return path


def check_folder(option: str, path: str) -> None:
    """Raise unless a folder can be made there, or written into."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(f"{option} must be a folder, and {visible(path)} is a file")
    parent = Path(os.path.realpath(path))
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError(f"{option} {visible(path)} cannot be made: {visible(str(parent))} is a file")
    _check_writable(parent)


def _check_writable(folder: Path) -> None:
    try:
        with scratch_folder(folder, "skl2rclip-check"):
            pass
    except OSError as error:
        raise UsageError(f"nothing can be written into {visible(str(folder))}: {error.strerror or error}") from error


def _is_special(path: str) -> bool:
    """Whether this is a device or a pipe, which is written to and not replaced."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


# ------------------------------------------------------------------- writing


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[Path]:
    """Give a path to write to, whose file takes its place at the end of the block, and is gone after an error."""
    if _is_special(path):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    with scratch_folder(target.parent, target.name) as scratch:
        yield scratch / target.name
        put_in_place(scratch / target.name, target)


class _CsvLines:
    """Lines of CSV that end with a line feed alone, and have quotes around a carriage return too.

    Readers end a line at either, and Python's writer puts quotes around those that its own lines end with.
    """

    def __init__(self, stream: TextIO):
        self._stream, self._writer = stream, csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """Take a line of the writer."""
        self._stream.write(line.removesuffix("\r\n") + "\n")

    def add(self, values: Iterable[Any]) -> None:
        """Write a line; None is nothing."""
        self._writer.writerow(["" if value is None else value for value in values])


class Rows:
    """Rows on their way out, each written as it comes.

    Parameters
    ----------
    stream : text stream
    columns : sequence of str
    form : {"csv", "json"}
        JSON is one array of objects.
    """

    def __init__(self, stream: TextIO, columns: Sequence[str], form: str):
        self._stream, self._columns, self._is_json = stream, list(columns), form == "json"
        self._csv = _CsvLines(stream)
        self._before = "[\n"
        if not self._is_json:
            self._csv.add(self._columns)

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows, and hand them to whoever reads."""
        for row in rows:
            plain = [_plain(value) for value in row]
            if self._is_json:
                self._stream.write(self._before + _json(dict(zip(self._columns, plain, strict=True))))
                self._before = ",\n"
            else:
                self._csv.add(plain)
        self._stream.flush()

    def end(self) -> None:
        """Close the array."""
        if self._is_json:
            self._stream.write("\n]\n" if self._before == ",\n" else "[]\n")
        self._stream.flush()


@contextlib.contextmanager
def rows_out(path: str | None, columns: Sequence[str], form: str | None) -> Iterator[Rows]:
    """Give what writes rows to a file, or to the standard output where `path` is None."""
    form = form or ("json" if str(path).lower().endswith(".json") else "csv")
    with text_out(path, form) as stream:
        rows = Rows(stream, columns, form)
        yield rows
        rows.end()


@contextlib.contextmanager
def text_out(path: str | None, form: str) -> Iterator[TextIO]:
    """Open a file, or the standard output where `path` is None, for UTF-8 with plain ends of lines."""
    # names whose bytes are no text: CSV has these bytes, JSON their escape
    errors = "backslashreplace" if form == "json" else "surrogateescape"
    if path is not None:
        with whole_file(path) as file, open(file, "w", encoding="utf-8", newline="", errors=errors) as stream:
            yield stream
        return
    if sys.stdout is None:
        raise UsageError("there is no standard output; say --output FILE")
    stdout: Any = sys.stdout
    stdout.reconfigure(encoding="utf-8", newline="", errors=errors)
    yield stdout


def write_object(path: str | None, fields: Mapping[str, Any], form: str | None) -> None:
    """Write what has a single row: in CSV a line for each field, in JSON one object."""
    form = form or ("json" if str(path).lower().endswith(".json") else "csv")
    with text_out(path, form) as stream:
        if form == "json":
            stream.write(_json({name: _plain(value) for name, value in fields.items()}, indent=2) + "\n")
            return
        lines = _CsvLines(stream)
        lines.add(["field", "value"])
        for name, value in _flat(fields):
            plain = _plain(value)
            is_nested = isinstance(plain, list | bool)
            lines.add([name, _json(plain) if is_nested else plain])


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def rounded(values: Any) -> list[float]:
    """Round numbers to the six digits that are written."""
    return [float(f"{value:.6g}") for value in values]


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    """Make a value one of JSON's own: numbers of NumPy are Python's, NaN is nothing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value
