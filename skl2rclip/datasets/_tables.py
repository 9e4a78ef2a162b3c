"""Tables with a header row, read by pandas: CSV and TSV, Excel, Parquet, and frames by their own conversions to pandas.

What the columns mean is not known here. Libraries are imported for the tables that need them.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import listing
from skl2rclip._utils.arguments import is_missing
from skl2rclip._utils.names import near_name
from skl2rclip.errors import visible

_DELIMITERS = {".csv": ",;\t|", ".txt": "\t,;|", ".tsv": "\t", ".tab": "\t"}
_EXCEL = (".xlsx", ".xlsm")
_PARQUET = (".parquet", ".pq")
_KINDS = "a path of a .csv, .tsv, .txt, .xlsx or .parquet file, or a data frame"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


@dataclass(frozen=True)
class Table:
    """The columns of a table that parameters have named."""

    source: str  # as messages name the table
    columns: dict[str, Any]  # by parameter, each a Series or whatever a mapping held
    folder: Path | None = None  # of its file


def read_table(table: Any, chosen: dict[str, str | int]) -> Table:
    """Read columns of a table of any kind that `skl2rclip.datasets.read_image_table` takes.

    `chosen` is the name of a column for each parameter that names one.
    """
    if not isinstance(table, str | os.PathLike):
        return Table("the table", _columns(table, chosen, "the table"))
    path = Path(table).expanduser()
    source = visible(str(path))
    if not path.is_file():
        what = f"{source} is a folder" if path.is_dir() else f"there is no file {source}"
        near = near_name(str(path.absolute()))
        raise FileNotFoundError(f"table must be {_KINDS}; {what}{f'; {near}' if near else ''}.")
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        frame = _read_text(path, _DELIMITERS[suffix], source)
    elif suffix in _EXCEL:
        frame = _read_excel(path, source)
    elif suffix in _PARQUET:
        frame = _read_parquet(path, source)
    else:
        raise ValueError(
            f"table must be {_KINDS}, got {source}. Save it as one of them, or read it with pandas and give the frame."
        )
    return Table(source, _columns(frame, chosen, source), path.parent)


def _import(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise _uninstalled(what, package) from error


def _uninstalled(what: str, package: str) -> ImportError:
    return ImportError(f'{what} are read with {package}, which is not installed: pip install "skl2rclip[tables]"')


# -------------------------------------------------------------------- files


def _read_text(path: Path, delimiters: str, source: str) -> Any:
    """Read a text, whose cells are divided by whatever of the delimiters its first line holds most of."""
    pandas = _import("pandas", "Tables")
    content = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source} is not UTF-8 text (line {line}): save it as UTF-8, or read it with "
            "pandas.read_csv(..., encoding=...) and give the frame."
        ) from error
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    named = re.fullmatch(r"sep=([,;|\t])", first)  # a line by which Excel tells the delimiter
    if named:
        delimiter = named[1]
        text = text.replace(first, "", 1)  # which leaves a blank line, so that the others keep their numbers
    else:
        outside_quotes = re.sub(r'"[^"]*"', "", first)
        delimiter = max(delimiters, key=outside_quotes.count)  # the earlier one where none is there
    width = _count_columns(text, delimiter, source)
    if not width:
        raise _empty(source)
    # cells stay as they are written: 007 may be a name, and NA a rank
    frame = pandas.read_csv(
        io.StringIO(text, newline=""),
        sep=delimiter,
        header=None,
        names=range(width),
        usecols=range(width),
        dtype=str,
        na_filter=False,
    )
    return _with_header(frame, source)


def _count_columns(text: str, delimiter: str, source: str) -> int:
    """Count the columns of the header, and refuse a text of which pandas would lose cells or rows in silence.

    pandas makes one cell of all rows between a quote that is not closed and the next one, or the end.
    """
    lines = list(io.StringIO(text, newline=""))
    width = 0
    for start, end, cells in _strict_rows(lines, delimiter, source):
        if all(map(_is_blank, cells)):
            continue
        width = width or len(cells)
        if not all(map(_is_blank, cells[width:])):
            raise ValueError(
                f"Line {start + 1} of {source} has {len(cells)} cells where the header has {width}: put cells that "
                "hold the delimiter in quotes."
            )
        if width > 1 and any(line.count(delimiter) >= width - 1 for line in lines[start + 1 : end]):
            raise ValueError(
                f"A quote in line {start + 1} of {source} makes one row of lines {start + 1} to {end}, which look like "
                "rows of their own: take it out, or double it where it belongs to the cell. If they are one row, read "
                "the table with pandas and give the frame."
            )
    return width


def _strict_rows(lines: list[str], delimiter: str, source: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the cells of each row with the first of its lines, counted from 0, and the first after it."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 0
    try:
        for cells in reader:
            yield start, reader.line_num, cells
            start = reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"A quote in line {start + 1} of {source} is not closed at the end of its cell ({error}): close it, take "
            "it out, or double it where it belongs to the cell."
        ) from error


def _read_excel(path: Path, source: str) -> Any:
    """Read the first sheet, formulas as the values that were last computed."""
    pandas = _import("pandas", "Tables")
    _import("openpyxl", "Excel files")
    try:
        frame = pandas.read_excel(path, header=None, dtype=object, keep_default_na=False, engine="openpyxl")
    except (zipfile.BadZipFile, KeyError) as error:
        raise _damaged(source, "an Excel file (.xlsx) without a password", error) from error
    return _with_header(frame, source)


def _read_parquet(path: Path, source: str) -> Any:
    pandas = _import("pandas", "Tables")
    _import("pyarrow", "Parquet files")
    try:
        # integers beside an empty cell stay integers
        frame = pandas.read_parquet(path, engine="pyarrow", dtype_backend="numpy_nullable")
    except ValueError as error:  # that of Arrow is one
        raise _damaged(source, "a Parquet file", error) from error
    return frame if frame.index.names == [None] else frame.reset_index()  # columns that pandas wrote as its index


def _damaged(source: str, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{source} cannot be read as {kind}, whatever its name says: {error}")


def _with_header(frame: Any, source: str) -> Any:
    """Name the columns by the first row that holds anything, and take the rows below it."""
    rows = enumerate(frame.itertuples(index=False, name=None))
    header = next(((i, row) for i, row in rows if not all(map(_is_blank, row))), None)
    if header is None:
        raise _empty(source)
    start, cells = header
    return frame.iloc[start + 1 :].set_axis(["" if is_missing(cell) else str(cell) for cell in cells], axis=1)


def _empty(source: str) -> ValueError:
    return ValueError(f"{source} is empty; a header row with the names of the columns is expected.")


def _is_blank(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip("\ufeff \t\r\n\xa0"))


# ------------------------------------------------------------------- frames


def _columns(frame: Any, chosen: dict[str, str | int], source: str) -> dict[str, Any]:
    """Take the columns that parameters name from a frame of any library, or from a mapping."""
    for method in ("collect", "compute"):  # a LazyFrame of polars, a frame of Dask
        frame = getattr(frame, method)() if _can(frame, method) else frame
    # a data set of Hugging Face gives a column alone, where the others may hold all images
    by_name = isinstance(frame, Mapping) or _can(frame, "select_columns")
    if not by_name:
        frame = _to_pandas(frame)
    names = (
        frame.keys() if isinstance(frame, Mapping) else getattr(frame, "column_names" if by_name else "columns", None)
    )
    if names is None or isinstance(names, Mapping) or not all(isinstance(name, str | int) for name in names):
        raise TypeError(f"table must be {_KINDS}, got {type(frame).__name__}.")
    names = list(names)
    stripped = [str(name).strip() for name in names]
    places = {parameter: _place(parameter, str(name), stripped, source) for parameter, name in chosen.items()}
    return {
        parameter: _to_pandas(frame[names[place]]) if by_name else frame.iloc[:, place]  # names may repeat in a frame
        for parameter, place in places.items()
    }


def _place(parameter: str, name: str, names: list[str], source: str) -> int:
    if names.count(name) > 1:
        raise ValueError(f"{source} has {names.count(name)} columns {name!r}: rename one of them.")
    if name not in names:
        shown = listing([each for each in names if each], 30)
        raise ValueError(f"{source} has no column {name!r}; it has {shown}. Name the right one with {parameter}=...")
    return names.index(name)


def _can(frame: Any, method: str) -> bool:
    return hasattr(type(frame), method)  # of pandas' frames a column may have this name


def _to_pandas(data: Any) -> Any:
    """Convert a frame or a column of another library by its own means; what has none comes back as it is."""
    try:
        if _can(data, "to_pandas"):
            # integers beside an empty cell stay integers
            whole = {"integer_object_nulls": True} if type(data).__module__.startswith(("polars", "pyarrow")) else {}
            return data.to_pandas(**whole)
        if type(data).__module__.startswith("pandas"):
            return data
        if _can(data, "__arrow_c_stream__"):
            return importlib.import_module("pyarrow").table(data).to_pandas(integer_object_nulls=True)
        if _can(data, "__dataframe__"):  # pandas' own reader of this protocol is on its way out
            module = importlib.import_module("pyarrow.interchange")
            return module.from_dataframe(data).to_pandas(integer_object_nulls=True)
    except ImportError as error:
        raise _uninstalled(f"Frames of {type(data).__module__.partition('.')[0]}", error.name or "pandas") from error
    return data


def cells_of(column: Any) -> list[Any]:
    """Cells of a column as Python's own objects; fractions as they print where they are short."""
    cells = list(column.tolist() if hasattr(column, "tolist") else column)
    kind: Any = getattr(column, "dtype", None)
    if getattr(kind, "kind", None) == "f" and kind.itemsize < 8:  # 0.1 has become 0.10000000149
        return [cell if is_missing(cell) else float(str(np.float32(cell))) for cell in cells]
    return cells


def order_of(column: Any) -> list[Any] | None:
    """Order that the type of a column brings: that of an ordered Categorical."""
    kind: Any = getattr(column, "dtype", None)
    return list(kind.categories) if getattr(kind, "ordered", False) else None
