"""Boxes that a table has beside its images: one column of four numbers, or four columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skl2rclip._images.crops import ImageCrop
from skl2rclip._utils.arguments import is_missing
from skl2rclip.datasets._reading import Account
from skl2rclip.datasets._table_files import BLANKS
from skl2rclip.datasets._tables import Table
from skl2rclip.errors import visible


def box_columns(box: Any) -> dict[str, str | int]:
    """Columns that the parameter `box` names, by what messages call each."""
    if box is None:
        return {}
    if isinstance(box, str | int):
        return {"box": box}
    names = list(box) if isinstance(box, list | tuple) else []
    if len(names) != 4 or not all(isinstance(name, str | int) for name in names):
        raise ValueError(
            "box must be the names of four columns, such as box=('x', 'y', 'width', 'height'), or of one that holds "
            f"all four numbers, got {box!r}."
        )
    return {f"box[{place}]": name for place, name in enumerate(names)}


def box_cells(read: Table) -> list[tuple[Any, ...] | None]:
    """Return what each row has as a box, None where it has none; empty for a table without boxes."""
    columns = [column.cells for name, column in read.columns.items() if name.startswith("box")]
    n_rows = len(read.columns["image"].cells)
    if any(len(cells) != n_rows for cells in columns):
        raise ValueError(f"Columns of {read.source} differ in length: not all of the box have {n_rows} rows.")
    return [_parts(row[0] if len(row) == 1 else row) for row in zip(*columns, strict=True)]


def _parts(cell: Any) -> tuple[Any, ...] | None:
    """Numbers of a box from one cell, which may be text such as "[10, 20, 30, 40]"; None where one is missing."""
    if isinstance(cell, str):
        cell = cell.strip(BLANKS).strip("[]()").replace(",", " ").split()
    if np.ndim(cell) == 0:
        return None if is_missing(cell) else (cell,)
    parts = [part.strip(BLANKS) if isinstance(part, str) else part for part in cell]
    return None if not parts or any(part == "" or is_missing(part) for part in parts) else tuple(parts)


def cropped(paths: Mapping[int, str], boxes: Sequence[Any], account: Account) -> dict[int, ImageCrop]:
    """Entries of X by row; rows whose box is none are left out and counted."""
    crops, refused = {}, []
    for number, path in paths.items():
        try:
            crops[number] = ImageCrop(path, boxes[number])
        except ValueError as error:
            refused.append(f"row {number}, {visible(path)} ({f'{error}'.rstrip('.')})")
    account.add(len(refused), "boxes that are none", refused)
    return crops
