"""Tables with a header row, to columns: CSV and TSV by Python's own reader, Excel, Parquet, and frames of any library.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import listing
from skl2rclip._utils.arguments import is_missing
from skl2rclip._utils.names import near_name, visible

_DELIMITERS = {".csv": ",;\t|", ".txt": "\t,;|", ".tsv": "\t", ".tab": "\t"}
_EXCEL = (".xlsx", ".xlsm")
_PARQUET = (".parquet", ".pq")
_KINDS = "a path of a .csv, .tsv, .txt, .xlsx or .parquet file, or a data frame"
_SHORT_FLOAT = re.compile(r"(?:half_?)?float(?:16|32)?(?:\[pyarrow\])?", re.IGNORECASE)  # float64 and double are not
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


@dataclass(frozen=True)
class Table:
    """A table whose columns are chosen by name.

    Attributes
    ----------
    source : str
        As messages name it.
    names : list of str
        Of the columns, without blanks around.
    columns : list
        In the same order; lists, or whatever a frame returns for a column.
    folder : Path or None
        Of its file.
    """

    source: str
    names: list[str]
    columns: list[Any]
    folder: Path | None

    def column(self, parameter: str, name: str | int) -> Any:
        """Choose the column that a parameter names.

        Raises
        ------
        ValueError
            If there is none of this name, or there are two.
        """
        if isinstance(name, int):  # pandas numbers columns that have no names
            name = str(name)
        if self.names.count(name) > 1:
            raise ValueError(f"{self.source} has {self.names.count(name)} columns {name!r}: rename one of them.")
        if name not in self.names:
            shown = listing([each for each in self.names if each], 30)
            raise ValueError(
                f"{self.source} has no column {name!r}; it has {shown}. Name the right one with {parameter}=..."
            )
        return self.columns[self.names.index(name)]


def read_table(table: Any) -> Table:
    """Read a table of any kind that `skl2rclip.datasets.read_image_table` takes.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If it is no table, or of a kind that is not read.
    ImportError
        If a library is missing; the message says which to install.
    """
    if not isinstance(table, str | os.PathLike):
        return _of_frame(table)
    path = Path(table).expanduser()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        near = near_name(str(path.absolute()))
        raise FileNotFoundError(f"table must be {_KINDS}; {visible(str(path))} is {what}{f'; {near}' if near else ''}.")
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        rows: Sequence[Sequence[Any]] = _text_rows(path, _DELIMITERS[suffix])
    elif suffix in _EXCEL:
        rows = _excel_rows(path)
    elif suffix in _PARQUET:
        return _of_frame(_parquet_table(path), visible(str(path)), path.parent)
    else:
        raise ValueError(
            f"table must be {_KINDS}, got {visible(str(path))}. Save it as one of them, or read it with pandas and "
            "give the frame."
        )
    return _of_rows(rows, path)


def _imported(module: str, package: str, kind: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{kind} files are read with {package}, which is not installed: pip install {package}") from (
            error
        )


# -------------------------------------------------------------------- files


def _text_rows(path: Path, delimiters: str) -> list[list[str]]:
    """Cells of a text, as whatever of the delimiters its first line holds most of divides them."""
    content = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{visible(str(path))} is not UTF-8 text (line {line}): save it as UTF-8, or read it with "
            "pandas.read_csv(..., encoding=...) and give the frame."
        ) from error
    first, _, rest = text.lstrip().partition("\n")
    named = re.fullmatch(r"sep=([,;|\t])", first.rstrip("\r"))  # a line by which Excel tells the delimiter
    if named:
        return [[], *_cells(rest, named[1], path)]
    outside_quotes = re.sub(r'"[^"]*"', "", first)
    delimiter = max(delimiters, key=outside_quotes.count)  # the earlier one where none is there
    return _cells(text, delimiter, path)


def _cells(text: str, delimiter: str, path: Path) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return list(reader)
    except csv.Error as error:
        raise ValueError(
            f"{visible(str(path))} cannot be divided into cells near line {reader.line_num}: {error}. Look for a quote "
            "that is not closed."
        ) from error


def _excel_rows(path: Path) -> list[tuple[Any, ...]]:
    """Cells of the first sheet, formulas as the values that were last computed."""
    openpyxl = _imported("openpyxl", "openpyxl", "Excel")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _damaged(path, "an Excel file (.xlsx) without a password", error) from error
    try:
        return list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()


def _parquet_table(path: Path) -> Any:
    parquet = _imported("pyarrow.parquet", "pyarrow", "Parquet")
    try:
        return parquet.read_table(path)
    except ValueError as error:  # that of Arrow is one
        raise _damaged(path, "a Parquet file", error) from error


def _damaged(path: Path, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{visible(str(path))} cannot be read as {kind}, whatever its name says: {error}")


def _of_rows(rows: Sequence[Sequence[Any]], path: Path) -> Table:
    """Turn rows to columns; the first row that holds anything names them."""
    source = visible(str(path))
    start = next((i for i, row in enumerate(rows) if any(not _is_blank(cell) for cell in row)), None)
    if start is None:
        raise ValueError(f"{source} is empty; a header row with the names of the columns is expected.")
    names = ["" if is_missing(cell) else str(cell).strip() for cell in rows[start]]
    width = len(names)
    for number, row in enumerate(rows[start + 1 :], start=start + 2):
        if any(not _is_blank(cell) for cell in row[width:]):
            raise ValueError(
                f"Row {number} of {source} has {len(row)} cells where the header has {width}: put cells that hold the "
                "delimiter in quotes."
            )
    columns = [[row[i] if i < len(row) else None for row in rows[start + 1 :]] for i in range(width)]
    return Table(source, names, columns, path.parent)


def _is_blank(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip("\ufeff \t\r\n\xa0"))


# ------------------------------------------------------------------- frames


def _of_frame(frame: Any, source: str = "the table", folder: Path | None = None) -> Table:
    if hasattr(frame, "collect_schema") and hasattr(frame, "collect"):  # a LazyFrame of polars
        frame = frame.collect()
    names = frame.keys() if isinstance(frame, Mapping) else getattr(frame, "column_names", None)
    if names is None and hasattr(frame, "columns") and hasattr(frame, "__getitem__"):
        names = frame.columns
    if names is None or isinstance(names, Mapping) or not all(isinstance(name, str | int) for name in names):
        raise TypeError(f"table must be {_KINDS}, got {type(frame).__name__}.")
    names = list(names)
    # by position where names may repeat
    columns = [frame.iloc[:, i] if hasattr(frame, "iloc") else frame[name] for i, name in enumerate(names)]
    return Table(source, [str(name).strip() for name in names], columns, folder)


def cells_of(column: Any) -> list[Any]:
    """Cells of a column of any library, as Python's own objects; fractions as they print where they are short."""
    method = next((method for method in ("to_pylist", "to_list", "tolist") if hasattr(column, method)), None)
    cells = list(column) if method is None else list(getattr(column, method)())
    kind = getattr(column, "dtype", getattr(column, "type", None))
    if _SHORT_FLOAT.fullmatch(str(kind)):  # 0.1 has become 0.10000000149
        return [cell if is_missing(cell) else float(str(np.float32(cell))) for cell in cells]
    return cells


def order_of(column: Any) -> list[Any] | None:
    """Order that the type of a column brings: an ordered Categorical of pandas, an Enum of polars."""
    kind: Any = getattr(column, "dtype", None)
    is_ordered = getattr(kind, "ordered", False) or type(kind).__name__ == "Enum"
    return list(kind.categories) if is_ordered and hasattr(kind, "categories") else None
