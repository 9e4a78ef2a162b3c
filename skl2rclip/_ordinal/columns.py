"""What a column of another library knows of its labels beside their values: an order, or the names behind codes.

Columns of pandas, polars, Arrow and Hugging Face are told by what they offer; none of these libraries is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, KeysView, Mapping, Set, ValuesView
from typing import Any

import numpy as np

from skl2rclip._ordinal.order_inference import plain_order
from skl2rclip._utils.arguments import is_missing


def label_column(y: Any, name: str = "y") -> Any:
    """Find the labels in what was given as `y`: the column of a table that has one, the entries of a dictionary's view.

    Raises
    ------
    ValueError
        For what has no length, no order of its entries, or several columns.
    """
    if isinstance(y, KeysView | ValuesView):
        return list(y)
    kind, labels = type(y).__name__, variable(name)
    if isinstance(y, Mapping):
        raise ValueError(
            f"{name} must be a sequence of labels, got {kind}: give its values, {labels}={labels}.values()."
        )
    if isinstance(y, Set):
        raise ValueError(f"{name} must be a sequence with a label for each image, got {kind}, which has no order.")
    if hasattr(y, "__iter__") and not hasattr(y, "__len__") and not hasattr(y, "shape") and names_of_codes(y) is None:
        raise ValueError(
            f"{name} must be a sequence of labels, got {kind}, which has no length: make it a list first, "
            f"{labels}=list({labels})."
        )
    rows_of_lists = isinstance(y, list | tuple) and len(y) > 0 and np.ndim(y[0]) == 1
    shape = np.shape(y) if rows_of_lists else getattr(y, "shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2:
        return y
    names: Any = getattr(y, "column_names", None) or getattr(y, "columns", None)  # of Arrow the latter are data
    if shape[1] != 1:
        raise ValueError(
            f"{name} should be a 1d array, got an array of shape {tuple(shape)} instead.{_of_one_hot(y, names, labels)}"
        )
    if names is None:
        return y
    return y.iloc[:, 0] if hasattr(y, "iloc") else y[names[0]]


def variable(name: str) -> str:
    """Name what messages call `name` in the code that they print."""
    return name if name.isidentifier() else "labels"


def _of_one_hot(y: Any, names: Any, name: str) -> str:
    """Say how labels come from a column for each rank; those of a table may stand in alphabetical order."""
    said = " If it has a column for each rank,"
    if hasattr(y, "idxmax"):
        return f"{said} give the names of the columns: {name}={name}.idxmax(axis=1)."
    place = f"np.asarray({name}).argmax(axis=1)"
    if names is not None:
        of_table = f"{name}.column_names" if hasattr(y, "column_names") else f"{name}.columns"
        return f"{said} give the names of the columns: {name}=[{of_table}[k] for k in {place}]."
    return (
        f"{said} give the numbers of the columns: {name}={place}; they are ranks only where the columns are in rank "
        "order, and not in the alphabetical one of LabelBinarizer and get_dummies."
    )


def categories_in_order(column: Any) -> list[Any] | None:
    """All labels that a column's type puts in order, lowest first; None where it has no order.

    An ordered Categorical of pandas has one, an Enum of polars, an ordered dictionary of Arrow, and names that codes
    stand for where it is plain that they are in order.
    """
    kind: Any = getattr(column, "dtype", None)
    if getattr(kind, "ordered", False) or type(kind).__name__ == "Enum":
        return list(kind.categories)
    if getattr(getattr(kind, "pyarrow_dtype", None), "ordered", False):
        column = column.array.__arrow_array__()
    if getattr(getattr(column, "type", None), "ordered", False):
        return _dictionary_of(column)
    names = names_of_codes(column)
    return names if names is not None and plain_order(names) == names else None


def _dictionary_of(column: Any) -> list[Any] | None:
    """Values of an ordered dictionary of Arrow; None where its chunks have them in different orders."""
    dictionaries = [part.dictionary.to_pylist() for part in getattr(column, "chunks", [column])]
    longest: list[Any] = max(dictionaries, key=len, default=[])
    in_order = all(each == [value for value in longest if value in set(each)] for each in dictionaries)
    return longest if in_order and longest else None


def names_of_codes(column: Any) -> list[str] | None:
    """Names that the numbers of a column stand for, by number, where its data set knows them: a ``ClassLabel``.

    Whoever made the data set may have numbered them in alphabetical order, so that the numbers are no ranks.
    """
    return code_names(getattr(column, "source", None), getattr(column, "column_name", None))


def code_names(table: Any, name: Any) -> list[str] | None:
    """Names that the numbers in a column of a table stand for, as Hugging Face writes them beside the data."""
    features = getattr(table, "features", None)
    written = getattr(getattr(table, "schema", None), "metadata", None) or {}  # of Arrow, and so of Parquet
    if b"huggingface" in written:
        features = json.loads(written[b"huggingface"]).get("info", {}).get("features")
    feature = features.get(name) if isinstance(features, Mapping) else None
    names = feature.get("names") if isinstance(feature, Mapping) else getattr(feature, "names", None)
    return names if isinstance(names, list) else None


def lacks_its_order(table: Any, name: Any) -> bool:
    """Whether pandas says of a column of Arrow that it was ordered, and its type does not, as of numbers in Parquet."""
    schema: Any = getattr(table, "schema", None)
    written = json.loads((getattr(schema, "metadata", None) or {}).get(b"pandas", b"{}"))
    was_ordered = any(
        each.get("field_name") == name and (each.get("metadata") or {}).get("ordered")
        for each in written.get("columns", ())
    )
    return was_ordered and not hasattr(schema.field(name).type, "ordered")


def with_names(column: Any) -> Any:
    """Put names in place of the codes of a column that has such; any other comes back as it is."""
    names = names_of_codes(column)
    return column if names is None else named_codes(column, names)


def named_codes(codes: Iterable[Any], names: list[str]) -> list[str | None]:
    """Put names in place of codes, None where a code has none, such as -1."""
    numbers = [-1 if is_missing(code) else int(code) for code in codes]
    return [names[number] if 0 <= number < len(names) else None for number in numbers]
