"""Tables with a header row: files by `_table_files`, and frames by their own conversions to pandas.

Of a table the cells of the columns that parameters name are taken; what they mean is not known here.
"""

from __future__ import annotations

import importlib
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skl2rclip._images.files import address_hint
from skl2rclip._ordinal.columns import categories_in_order, code_names, lacks_its_order, named_codes, names_of_codes
from skl2rclip._ordinal.labels import listing
from skl2rclip._ordinal.order_inference import plain_order
from skl2rclip._utils.arguments import is_missing, plain_label
from skl2rclip._utils.names import near_name, near_word
from skl2rclip.datasets._table_files import BLANKS, KINDS, read_file, uninstalled
from skl2rclip.errors import visible


@dataclass(frozen=True)
class TableColumn:
    """A column as Python's own objects, fractions as they print where they are short."""

    cells: list[Any]
    order: list[Any] | None = None  # all that may stand in it, lowest first, where its type says it
    declared: frozenset[Any] = frozenset()  # words that its type names, in whatever order
    lacks_order: bool = False  # which it had, and which its file has not kept


@dataclass(frozen=True)
class Table:
    """The columns of a table that parameters have named."""

    source: str  # as messages name the table
    columns: dict[str, TableColumn]  # by parameter
    folder: Path | None = None  # of its file
    above: tuple[str, ...] = ()  # what stands above the header


def read_table(table: Any, chosen: dict[str, str | int]) -> Table:
    """Read columns of a table of any kind that `skl2rclip.datasets.read_image_table` takes.

    `chosen` is the name of a column for each parameter that names one.
    """
    if not isinstance(table, str | os.PathLike):
        return Table("the table", _columns(table, chosen, "the table"))
    address = address_hint(os.fspath(table), "read it with pandas, as in table=pandas.read_csv(address)")
    if address is not None:
        raise ValueError(f"table must be {KINDS}, got {address}.")
    path = Path(table).expanduser()
    source = visible(str(path))
    if not path.is_file():
        what = f"{source} is a folder" if path.is_dir() else f"there is no file {source}"
        near = near_name(str(path.absolute()))
        raise FileNotFoundError(f"table must be {KINDS}; {what}{f'; {near}' if near else ''}.")
    read = read_file(path, [_plain_name(name) for name in chosen.values()], source)
    return Table(source, _columns(read.frame, chosen, source), path.parent, read.above)


def _columns(frame: Any, chosen: dict[str, str | int], source: str) -> dict[str, TableColumn]:
    """Take the columns that parameters name from a frame of any library, or from a mapping."""
    for method in ("collect", "compute"):  # a LazyFrame of polars, a frame of Dask
        frame = getattr(frame, method)() if _can(frame, method) else frame
    # a column alone, where the others may hold all images: of data sets of Hugging Face, and of Arrow
    by_name = isinstance(frame, Mapping) or _can(frame, "column_names")
    if not by_name:
        frame = _to_pandas(frame)
    names = (
        frame.keys() if isinstance(frame, Mapping) else getattr(frame, "column_names" if by_name else "columns", None)
    )
    if names is None or isinstance(names, Mapping) or not all(isinstance(name, str | int) for name in names):
        opened = "table.open('rb')" if _can(frame, "read_bytes") else "table" if _can(frame, "read") else ""
        advice = f" Read it with pandas, as in table=pandas.read_csv({opened})." if opened else ""
        raise TypeError(f"table must be {KINDS}, got {type(frame).__name__}.{advice}")
    names = list(names)
    part = frame[names[0]] if isinstance(frame, Mapping) and names else None
    if _can(part, "column_names") or _can(part, "columns"):
        raise ValueError(f"table holds tables, {listing(names)}: choose one, as in table=table[{names[0]!r}].")
    plain = [_plain_name(name) for name in names]
    places = {parameter: _place(parameter, _plain_name(name), plain, source) for parameter, name in chosen.items()}
    if by_name:
        return {parameter: _column_of(frame, names[place]) for parameter, place in places.items()}
    return {parameter: _column(frame.iloc[:, place]) for parameter, place in places.items()}  # names may repeat


def _plain_name(name: Any) -> str:
    return unicodedata.normalize("NFC", str(name).strip(BLANKS))


def _place(parameter: str, name: str, names: list[str], source: str) -> int:
    if names.count(name) > 1:
        raise ValueError(f"{source} has {names.count(name)} columns {name!r}: rename one of them.")
    if name not in names:
        shown = listing([each for each in names if each], 30)
        raise ValueError(
            f"{source} has no column {name!r}; it has {shown}.{near_word(names, [name])} Name the right one with "
            f"{parameter}=..."
        )
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
            return _by_interchange(data, importlib.import_module("pyarrow.interchange"))
    except ImportError as error:
        raise uninstalled(f"Frames of {type(data).__module__.partition('.')[0]}", error.name or "pandas") from error
    return data


def _by_interchange(data: Any, module: Any) -> Any:
    frame, protocol = module.from_dataframe(data).to_pandas(integer_object_nulls=True), data.__dataframe__()
    for name in frame.columns[frame.dtypes == "category"]:  # of which Arrow drops the order
        if protocol.get_column_by_name(name).describe_categorical["is_ordered"]:
            frame[name] = frame[name].cat.as_ordered()
    return frame


# ------------------------------------------------------------------- columns


def _column_of(frame: Any, name: str | int) -> TableColumn:
    """Take a column of a frame that may know more of it than the column does."""
    column = _column(frame[name], code_names(frame, name))
    return replace(column, lacks_order=lacks_its_order(frame, name))


def _column(column: Any, names: list[str] | None = None) -> TableColumn:
    """Take the cells of a column, names in place of codes, and the order that it has."""
    names = names or names_of_codes(column)
    if names is not None:
        return TableColumn(named_codes(_cells_of(column), names), plain_order(names), frozenset(names))
    order = categories_in_order(column)  # of Arrow, before it becomes a column of pandas
    column = _to_pandas(column)
    declared = getattr(getattr(column, "dtype", None), "categories", None)
    return TableColumn(_cells_of(column), order, frozenset(order or (() if declared is None else declared)))


def _cells_of(column: Any) -> list[Any]:
    cells = list(column.tolist() if hasattr(column, "tolist") else column)
    kind: Any = getattr(column, "dtype", None)
    if getattr(kind, "kind", None) == "f" and kind.itemsize < 8:  # 0.1 has become 0.10000000149
        return [cell if is_missing(cell) else plain_label(kind.type(cell)) for cell in cells]
    return cells
