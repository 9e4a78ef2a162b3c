"""Files that hold a table: CSV and TSV, Excel, Parquet; where its header is, and that none of its rows is lost.

pandas reads them, and libraries are imported for the files that need them. What the columns mean is not known here.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skl2rclip._ordinal.labels import listing
from skl2rclip._utils.arguments import is_missing

BLANKS = "\ufeff\u200b \t\r\n\xa0"
KINDS = "a path of a .csv, .tsv, .txt, .xlsx or .parquet file, or a data frame"

_DELIMITERS = {".csv": ",;\t|", ".txt": "\t,;|", ".tsv": "\t", ".tab": "\t"}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
_DELIMITER_LINE = re.compile(r'\s*"?sep=([,;|\t])"?\s*')  # by which Excel tells the delimiter
_MAX_ABOVE = 100  # lines among which the header is looked for


@dataclass(frozen=True)
class FileTable:
    """A frame whose columns are named by the header, and what stands above that."""

    frame: Any
    above: tuple[str, ...] = ()


def read_file(path: Path, names: Sequence[str], source: str) -> FileTable:
    """Read a file, called `source` in messages, whose header is the first row that holds all `names`."""
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        return _read_text(path, _DELIMITERS[suffix], names, source)
    if suffix in (".xlsx", ".xlsm"):
        return _read_excel(path, names, source)
    if suffix in (".parquet", ".pq"):
        return _read_parquet(path, source)
    raise ValueError(
        f"table must be {KINDS}, got {source}. Save it as one of them, or read it with pandas and give the frame."
    )


def uninstalled(what: str, package: str) -> ImportError:
    """Say which package is not there to read something with."""
    return ImportError(f'{what} are read with {package}, which is not installed: pip install "skl2rclip[tables]"')


def _import(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise uninstalled(what, package.partition(".")[0]) from error


def _damaged(source: str, kind: str, error: Exception) -> ValueError:
    return ValueError(f"{source} cannot be read as {kind}, whatever its name says: {error}")


# ------------------------------------------------------------------- header


def _holds(row: Iterable[Any], names: Sequence[str]) -> bool:
    return set(names) <= {str(cell).strip(BLANKS) for cell in row}


def _is_blank(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip(BLANKS))


def _below_header(frame: Any, start: int) -> Any:
    """Name the columns by a row, and take the rows below it."""
    names = ["" if is_missing(cell) else str(cell) for cell in frame.iloc[start]]
    return frame.iloc[start + 1 :].set_axis(names, axis=1)


def _empty(source: str) -> ValueError:
    return ValueError(f"{source} is empty; a header row with the names of the columns is expected.")


# --------------------------------------------------------------------- text


def _read_text(path: Path, delimiters: str, names: Sequence[str], source: str) -> FileTable:
    pandas = _import("pandas", "Tables")
    lines = list(io.StringIO(_decoded(path.read_bytes(), source), newline=""))
    start, delimiter = _find_header(lines, delimiters, names, source)
    # a quote after blanks is one, where pandas and Python would take it for a part of the cell
    has_blanks = any(re.search(rf'{re.escape(delimiter)} +"', line) for line in lines)
    width, n_rows = _check_rows(lines, start, delimiter, has_blanks, source)
    # cells stay as they are written: 007 may be a name, and NA a rank
    frame = pandas.read_csv(
        io.StringIO("".join(lines[start:]), newline=""),
        sep=delimiter,
        header=None,
        names=range(width),
        usecols=range(width),
        dtype=str,
        na_filter=False,
        skipinitialspace=has_blanks,
    )
    if len(frame) != n_rows:
        raise ValueError(
            f"{source} has {n_rows} rows as Python counts them and {len(frame)} as pandas does: save it anew, or read "
            "it with pandas and give the frame."
        )
    above = (line.strip(BLANKS) for line in lines[:start] if not _DELIMITER_LINE.fullmatch(line))
    return FileTable(_below_header(frame, 0), tuple(line for line in above if line))


def _decoded(content: bytes, source: str) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    zero = content.find(b"\0") if encoding != "utf-16" else -1
    if zero >= 0:
        raise ValueError(
            f"{source} holds null characters (line {_line_of(content, zero)}), as UTF-16 does without its mark: save "
            f"it as UTF-8, or read it with pandas.read_csv(..., encoding='utf-16-{'le' if zero % 2 else 'be'}') and "
            "give the frame."
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source} is not UTF-8 text (line {_line_of(content, error.start)}): save it as UTF-8, or read it with "
            "pandas.read_csv(..., encoding='cp1252'), or whatever its encoding is, and give the frame."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{source} holds null characters (line {line}), which cut cells: take them out.")
    return text


def _line_of(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1


def _find_header(lines: list[str], delimiters: str, names: Sequence[str], source: str) -> tuple[int, str]:
    """Find the line of the header, counted from 0, and the delimiter.

    Where no line holds all the names, it is the first that holds anything, and the delimiter that it has most of.
    """
    said = next((match[1] for line in lines[:1] if (match := _DELIMITER_LINE.fullmatch(line))), "")
    for number, line in enumerate(lines[:_MAX_ABOVE]):
        for delimiter in (said or delimiters) if len(line) < csv.field_size_limit() else "":
            if _holds(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), ()), names):
                return number, delimiter
    first = 1 if said else 0
    number = next((i for i, line in enumerate(lines[first:], first) if line.strip(BLANKS + delimiters)), -1)
    if number < 0:
        raise _empty(source)
    outside_quotes = re.sub(r'"[^"]*"', "", lines[number])
    return number, said or max(delimiters, key=outside_quotes.count)  # the earlier one where none is there


def _check_rows(lines: list[str], start: int, delimiter: str, has_blanks: bool, source: str) -> tuple[int, int]:
    """Count columns and rows, the header's too, and refuse a text of which pandas would lose cells or rows in silence.

    pandas makes one cell of all rows between a quote that is not closed and the next one, or the end.
    """
    width = n_rows = 0
    for first, end, cells in _strict_rows(lines, start, delimiter, has_blanks, source):
        # blank lines are none, but what stands in quotes is a row
        n_rows += not (len(cells) < 2 and not "".join(lines[first:end]).strip(" \t\r\n"))
        width = width or len(cells)
        if not all(map(_is_blank, cells[width:])):
            raise ValueError(
                f"Line {first + 1} of {source} has {len(cells)} cells where the header has {width}: put cells that "
                "hold the delimiter in quotes."
            )
        if width > 1 and any(line.count(delimiter) >= width - 1 for line in lines[first + 1 : end]):
            raise ValueError(
                f"A quote in line {first + 1} of {source} makes one row of lines {first + 1} to {end}, which look like "
                "rows of their own: take it out, or double it where it belongs to the cell. If they are one row, read "
                "the table with pandas and give the frame."
            )
    return width, n_rows


def _strict_rows(
    lines: list[str], start: int, delimiter: str, has_blanks: bool, source: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the cells of each row with the first of its lines, counted from 0, and the first after it."""
    reader = csv.reader(lines[start:], delimiter=delimiter, strict=True, skipinitialspace=has_blanks)
    first = start
    try:
        for cells in reader:
            yield first, start + reader.line_num, cells
            first = start + reader.line_num
    except csv.Error as error:
        if "field larger" in str(error) and reader.line_num == first - start + 1:
            raise ValueError(
                f"Line {first + 1} of {source} has a cell of more than {csv.field_size_limit()} characters: take such "
                "columns out, or read the table with pandas and give the frame."
            ) from error
        raise ValueError(
            f"A quote in line {first + 1} of {source} is not closed at the end of its cell ({error}): close it, take "
            "it out, or double it where it belongs to the cell."
        ) from error


# -------------------------------------------------------- Excel and Parquet


def _read_excel(path: Path, names: Sequence[str], source: str) -> FileTable:
    """Read the sheet that has the columns, formulas as the values that were last computed, merged cells each as one."""
    pandas = _import("pandas", "Tables")
    openpyxl = _import("openpyxl", "Excel files")
    try:
        with pandas.ExcelFile(path, engine="openpyxl") as file:
            title, start = _sheet_of(file.book, names, path, source)
            frame = pandas.read_excel(file, sheet_name=title, header=None, dtype=object, keep_default_na=False)
        if _has_merged_cells(path):
            for merged in openpyxl.load_workbook(path)[title].merged_cells.ranges:
                row, column = merged.min_row - 1, merged.min_col - 1
                if start < row < len(frame) and column < frame.shape[1]:
                    frame.iloc[row : merged.max_row, column] = frame.iat[row, column]
    except (zipfile.BadZipFile, zlib.error, KeyError, SyntaxError) as error:
        raise _damaged(source, "an Excel file (.xlsx) without a password", error) from error
    rows = frame.iloc[:start].itertuples(index=False, name=None)
    above = (" ".join(str(cell) for cell in row if not _is_blank(cell)) for row in rows)
    return FileTable(_below_header(frame, start), tuple(line for line in above if line))


def _sheet_of(book: Any, names: Sequence[str], path: Path, source: str) -> tuple[str, int]:
    """Title of the visible sheet that has the columns, else of the first that holds anything, and its header's row."""
    sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    starts = _starts(sheets, lambda row: _holds(row, names))
    if len(starts) > 1:
        raise ValueError(
            f"{source} has several sheets with these columns, {listing(list(starts))}: choose one, as in "
            f"table=pandas.read_excel({str(path)!r}, sheet_name={next(iter(starts))!r})."
        )
    starts = starts or _starts(sheets, lambda row: not all(map(_is_blank, row)))
    if not starts:
        raise _empty(source)
    return next(iter(starts.items()))


def _starts(sheets: Sequence[Any], is_header: Callable[[Sequence[Any]], bool]) -> dict[str, int]:
    """First row, counted from 0, that may be the header, by the title of each sheet that has one."""
    found = {}
    for sheet in sheets:
        sheet.reset_dimensions()  # which the file may have wrong
        rows = sheet.iter_rows(max_row=_MAX_ABOVE, values_only=True)
        found[sheet.title] = next((number for number, row in enumerate(rows) if is_header(row)), -1)
    return {title: start for title, start in found.items() if start >= 0}


def _has_merged_cells(path: Path) -> bool:
    """Whether any sheet has them, which a book that is read row by row does not tell."""
    with zipfile.ZipFile(path) as file:
        sheets = [name for name in file.namelist() if name.startswith("xl/worksheets/")]
        return any(b"<mergeCell " in file.read(name) for name in sheets)


def _read_parquet(path: Path, source: str) -> FileTable:
    """Read a table of Arrow, which keeps integers beside empty cells and the order of categories."""
    _import("pandas", "Tables")
    parquet = _import("pyarrow.parquet", "Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            return FileTable(file.read())
    except ValueError as error:  # that of Arrow is one
        raise _damaged(source, "a Parquet file", error) from error
