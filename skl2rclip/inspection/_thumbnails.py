"""Small images to look at: some of those in X, decoded as the library decodes them, or why they cannot be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from skl2rclip._images.collection import as_image_list, holds_images
from skl2rclip._images.decoding import find_unreadable, image_threads, read_image, reason_of
from skl2rclip._images.files import ImageFile, ImageLike, stamped
from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._images.remarks import warn_of
from skl2rclip._utils.arguments import column_count
from skl2rclip._utils.names import EntryNames
from skl2rclip.errors import visible
from skl2rclip.inspection._responses import rows_of
from skl2rclip.metrics._scorers import parts_with


@dataclass(frozen=True)
class Thumbnail:
    """One image, small."""

    pixels: np.ndarray | None  # (H, W, 3), uint8; None where it cannot be read
    name: str = ""  # of its file
    problem: str | None = None  # why it cannot be read


def check_images(who: str, X: Any, images: Any, remedy: str = "give them beside X, with images=[...]") -> Any:
    """Return what the images are taken from, `images` or else X, or say before any work that there are none.

    Only the first entry is looked at.
    """
    if images is not None:
        if len(images) != len(X):
            raise ValueError(f"images must hold one for each of the {len(X)} rows of X, got {len(images)}.")
        return images
    advice = f"{who} shows images: {remedy}."
    if (column_count(X) or 0) > 1 and not holds_images(X):
        raise ValueError(f"X holds stored embeddings or other numbers, of shape {tuple(X.shape)}. {advice}")
    try:
        as_image_list(rows_of(X, [0]) if len(X) else X)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} {advice}") from error
    return X


def white_of(estimator: Any) -> WhiteLevel:
    """Tell which value a fitted classifier, or what comes before it in a pipeline, takes as white."""
    found = parts_with(estimator, "white_level")
    for pipeline in parts_with(estimator, "steps"):
        found += [part for _, step in pipeline.steps for part in parts_with(step, "white_level")]
    return WhiteLevel(found[0].white_level) if found else FULL_RANGE


def _name_of(image: ImageLike) -> str:
    """Name of a file without its folders, with the place of the box where it is a part."""
    if not isinstance(image, ImageFile):
        return ""
    corner = "" if image.box is None else f" at {image.box[0]:g}, {image.box[1]:g}"
    return visible(os.path.basename(os.fspath(image))) + corner


def thumbnails_of(shown: Any, rows: Any, side: int, white: WhiteLevel = FULL_RANGE) -> list[Thumbnail]:
    """Decode some images, and no others, in threads; no side has more than `side` pixels."""
    if not len(rows):
        return []
    images = stamped(as_image_list(rows_of(shown, rows)))
    problems = find_unreadable(images)
    remarks: dict[int, tuple[str, ...]] = {}

    def thumbnail(place: int) -> Thumbnail:
        image, problem = images[place], problems.get(place)
        name = _name_of(image)
        if problem is not None:
            return Thumbnail(None, name, problem)
        try:
            rgb = read_image(image, shrinkage=lambda size: max(1.0, max(size) / side), white=white)
        except Exception as error:  # PIL's plugins raise anything on broken files
            return Thumbnail(None, name, reason_of(error))
        remarks[place] = rgb.remarks
        small = rgb.image.copy()  # which may be the user's
        small.thumbnail((side, side))
        return Thumbnail(np.asarray(small), name)

    with image_threads(None) as pool:
        thumbnails = list(pool.map(thumbnail, range(len(images))))
    warn_of(remarks, images, {place: [place] for place in remarks}, EntryNames([int(row) for row in rows]))
    return thumbnails
