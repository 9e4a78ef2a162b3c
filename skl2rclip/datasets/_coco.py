"""`read_coco_annotations`: boxes and ranks of annotations in COCO's format."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sklearn.utils import Bunch

from skl2rclip._images.crops import ImageCrop
from skl2rclip._images.header import open_header, upright_size
from skl2rclip._ordinal.labels import listing
from skl2rclip._utils.arguments import check_choice
from skl2rclip._utils.names import near_name
from skl2rclip.datasets._image_tables import Row, listed_images
from skl2rclip.datasets._reading import Account
from skl2rclip.datasets._tables import Table, TableColumn
from skl2rclip.errors import visible

_CATEGORY = "category"
Size = tuple[int, int] | None  # width and height


def read_coco_annotations(
    annotations: Any,
    *,
    rank: str = _CATEGORY,
    root: Any = None,
    ranks: Any = None,
    missing: Any = None,
    repeated: str = "error",
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Read the boxes of annotations in COCO's format, and the rank of each.

    Each annotation with a box is one entry; several may be of the same image. Annotations of crowds, and those without
    a box or a rank, are left out and counted in one warning, and so are files that are absent, are no images, or have
    another size than the annotations say: their boxes would lie elsewhere.

    Parameters
    ----------
    annotations : str, path-like or dict
        The JSON file, as of object detection, with ``images``, ``annotations`` and ``categories``; or what
        ``json.load`` makes of it.
    rank : str, default="category"
        What is the rank: the name of the category, or another field of the annotations or of their ``attributes``, such
        as "severity".
    root : str or path-like, optional
        Folder that the names of files start from; by default that of the JSON file, and for a dict the current one.
    ranks : array-like of shape (K,), optional
        All ranks, lowest first; a category that is not among them is an error. By default as for `read_image_table`:
        the numbers of categories are not taken for an order.
    missing : list, optional
        What stands for a missing rank, as for `read_image_table`.
    repeated : {"error", "median"}, default="error"
        What to do with a box that has several ranks, as for `read_image_table`.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        As `read_image_table` returns it with `box`. `data` holds `skl2rclip.ImageCrop`, `groups` the file of each, and
        `rows` its place among the annotations, counted from 0.

    Raises
    ------
    ValueError
        If the file is not of this format, no annotation has such a field, the order of words is not plain, a rank is
        not among `ranks`, or one box has several ranks.
    FileNotFoundError
        If there is no such file, or none of the images is there.

    Warns
    -----
    UserWarning
        Once, counting all that was left out.

    See Also
    --------
    read_image_table : Images, ranks and boxes that a table lists.

    Examples
    --------
    >>> from skl2rclip.datasets import read_coco_annotations
    >>> fruit = read_coco_annotations("orchard.json", root="photos", ranks=["green", "ripe"])
    >>> fruit.data[0]
    ImageCrop('photos/0.jpg', (0, 0, 4, 8))
    >>> fruit.groups.tolist()  # the photograph of each, which a split must not divide
    ['photos/0.jpg', 'photos/0.jpg', 'photos/1.jpg', 'photos/1.jpg']
    """
    check_choice("repeated", repeated, ("error", "median"))
    content, source, folder = _content_of(annotations)
    images, listed = _by_id(content, "images", source), _records(content, "annotations", source)
    of_image = [images.get(each.get("image_id"), {}) for each in listed]
    cells = {
        "image": [image.get("file_name") for image in of_image],
        "rank": _ranks_of(listed, rank, content, source),
        "box": [None if each.get("iscrowd") else each.get("bbox") for each in listed],
    }
    read = Table(source, {name: TableColumn(column) for name, column in cells.items()}, folder)
    account = Account(source, "among the annotations")
    chosen = {"image": "file_name", "rank": rank, "box": "bbox"}
    found = listed_images(read, chosen, account, root=root, ranks=ranks, missing=missing)
    n_crowds = sum(bool(each.get("iscrowd")) for each in listed)
    account.remark("rows without a box", f"{n_crowds} of them of crowds" if n_crowds else "")
    rows = _of_stated_size(found.rows, [_stated_size(image) for image in of_image], account)
    return replace(found, rows=rows).bunch(repeated, return_X_y)


def _content_of(annotations: Any) -> tuple[Mapping[str, Any], str, Path | None]:
    """Return what the JSON file holds, its name for messages, and its folder."""
    if isinstance(annotations, Mapping):
        return annotations, "the annotations", None
    if not isinstance(annotations, str | os.PathLike):
        raise TypeError(f"annotations must be a JSON file or what it holds, got {type(annotations).__name__}.")
    path = Path(annotations).expanduser()
    source = visible(str(path))
    if not path.is_file():
        near = near_name(str(path.absolute()))
        raise FileNotFoundError(f"annotations: there is no file {source}{f'; {near}' if near else ''}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{source} is no JSON file: {error}.") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} must hold an object with images and annotations, got a {type(content).__name__}.")
    return content, source, path.parent


def _records(content: Mapping[str, Any], name: str, source: str) -> list[Mapping[str, Any]]:
    records = content.get(name)
    if not isinstance(records, list) or not all(isinstance(each, Mapping) for each in records):
        raise ValueError(
            f"{source} must hold a list of objects {name!r}, as COCO has it; it has {listing(list(content), 30)}."
        )
    if not records:
        raise ValueError(f"{source} has no {name}.")
    return records


def _by_id(content: Mapping[str, Any], name: str, source: str) -> dict[Any, Mapping[str, Any]]:
    records = _records(content, name, source)
    by_id = {each.get("id"): each for each in records}
    if len(by_id) < len(records):
        raise ValueError(f"{source} has {name} of the same id: {len(records)} of them with {len(by_id)} ids.")
    return by_id


def _ranks_of(listed: list[Mapping[str, Any]], rank: str, content: Mapping[str, Any], source: str) -> list[Any]:
    """Name of the category of each annotation, or what its field or attribute says; None where it has none."""
    if rank == _CATEGORY:
        categories = _by_id(content, "categories", source)
        return [categories.get(each.get("category_id"), {}).get("name") for each in listed]
    fields = [{**_attributes(each), **each} for each in listed]
    if not any(rank in each for each in fields):
        names = sorted({name for each in fields for name in each} - {"attributes", "bbox", "segmentation"})
        raise ValueError(
            f"No annotation of {source} has the field {rank!r}; they have {listing(names, 30)}. Name the right one "
            f"with rank=..., or rank={_CATEGORY!r} for the names of the categories."
        )
    return [each.get(rank) for each in fields]


def _attributes(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = annotation.get("attributes")
    return attributes if isinstance(attributes, Mapping) else {}


def _stated_size(image: Mapping[str, Any]) -> Size:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) and width and height else None


def _of_stated_size(rows: dict[int, Row], sizes: list[Size], account: Account) -> dict[int, Row]:
    """Leave out crops of files whose size is not the one that their boxes were drawn in."""
    actual = {path: _size_of(path) for path in {row.image.path for row in rows.values()}}

    def differs(number: int, crop: ImageCrop) -> bool:
        return None not in (sizes[number], actual[crop.path]) and sizes[number] != actual[crop.path]

    others = {number: row.image for number, row in rows.items() if differs(number, row.image)}
    said = (
        f"{visible(os.fspath(crop.path))} (upright it has {_by(actual[crop.path])}, and its annotations are of "
        f"{_by(sizes[number])})"
        for number, crop in others.items()
    )
    account.add(len(others), "annotations of images of another size", said)
    return {number: row for number, row in rows.items() if number not in others}


def _by(size: Size) -> str:
    return "" if size is None else f"{size[0]} x {size[1]} pixels"


def _size_of(path: str | os.PathLike) -> Size:
    """Width and height of an upright image, or None of what is none, which is named later."""
    try:
        with open(path, "rb") as file:
            return upright_size(open_header(file).image)
    except Exception:  # PIL's plugins raise anything on broken files
        return None
