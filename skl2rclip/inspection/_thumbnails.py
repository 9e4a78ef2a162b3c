"""Small pictures to look at: some of those in X, decoded as the library decodes them, or why they cannot be."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skl2rclip._images.bit_depths import settle
from skl2rclip._images.collection import as_image_list, holds_images
from skl2rclip._images.decoding import (
    ImageFile,
    as_given,
    find_damaged,
    find_unreadable,
    image_threads,
    open_image,
    stamped,
)
from skl2rclip._images.image_warnings import PictureWarnings
from skl2rclip._images.white_levels import NOTHING_DECIDED, Whites
from skl2rclip._utils.arguments import column_count, warn_user
from skl2rclip._utils.names import EntryNames, visible
from skl2rclip.inspection._responses import rows_of
from skl2rclip.metrics._scorers import parts_with


@dataclass(frozen=True)
class Thumbnail:
    """One picture, small.

    Attributes
    ----------
    pixels : ndarray of shape (H, W, 3), uint8, or None
        None where it cannot be read.
    name : str
        Name of its file, or an empty string.
    problem : str or None
        Why it cannot be read.
    """

    pixels: np.ndarray | None
    name: str = ""
    problem: str | None = None


def check_pictures(who: str, X: Any, images: Any) -> Any:
    """Return what the pictures are taken from, `images` or else X, or say before any work that there are none.

    Only the first entry is looked at.
    """
    if images is not None:
        if len(images) != len(X):
            raise ValueError(f"images must hold one for each of the {len(X)} rows of X, got {len(images)}.")
        return images
    advice = f"{who} shows pictures: give them beside X, with images=[...]."
    if (column_count(X) or 0) > 1 and not holds_images(X):
        raise ValueError(f"X holds stored embeddings or other numbers, of shape {tuple(X.shape)}. {advice}")
    try:
        as_image_list(rows_of(X, [0]) if len(X) else X)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} {advice}") from error
    return X


def whites_of(estimator: Any, images: Any = None) -> Whites:
    """Tell what was decided when a classifier was fitted, or what comes before it in a pipeline.

    Nothing is, where it is made of several that decided differently, and of other `images` than the classifier takes.
    """
    if images is not None:
        return NOTHING_DECIDED
    found = parts_with(estimator, "white_values_")
    for pipeline in parts_with(estimator, "steps"):
        found += [part for _, step in pipeline.steps for part in parts_with(step, "white_values_")]
    values = [part.white_values_ for part in found]
    return Whites(**values[0]) if values and all(each == values[0] for each in values) else NOTHING_DECIDED


def thumbnails_of(pictures: Any, rows: Any, side: int, whites: Whites = NOTHING_DECIDED) -> list[Thumbnail]:
    """Decode some pictures, and no others, in threads.

    Parameters
    ----------
    pictures : sequence of images
        As `L2RCLIPClassifier.fit` takes them.
    rows : sequence of int
        Which are wanted.
    side : int
        Longest side in pixels; smaller pictures stay as they are.
    whites : Whites, optional
        What was decided before; the rest these pictures decide together.

    Returns
    -------
    list of Thumbnail
    """
    if not len(rows):
        return []
    images, kinds = stamped(as_image_list(rows_of(pictures, rows))), dict[Hashable, str]()
    problems = find_unreadable(images, kinds=kinds)
    settled = settle(images, kinds, whites, names=EntryNames([int(row) for row in rows]))
    problems |= settled.failures
    for guess in settled.guesses:
        warn_user(guess)
    noted = PictureWarnings()

    def thumbnail(place: int) -> Thumbnail:
        with noted.of(place):
            return _thumbnail(settled.images[place], side, problems.get(place))

    with image_threads(None) as pool:
        thumbnails = list(pool.map(thumbnail, range(len(images))))
    noted.warn(images, names=EntryNames([int(row) for row in rows]))
    return thumbnails


def _thumbnail(image: Any, side: int, problem: str | None) -> Thumbnail:
    given = as_given(image)
    name = visible(os.path.basename(os.fspath(given))) if isinstance(given, ImageFile) else ""
    if problem is None:
        try:
            picture = open_image(image, shrinkage=lambda size: max(1.0, max(size) / side))
        except Exception as error:  # PIL's plugins raise anything on broken files
            # said once more by those who know the words for it
            problem = find_damaged([image], [0], n_jobs=1).get(0, f"{error}" or type(error).__name__)
    if problem is not None:
        return Thumbnail(None, name, problem)
    picture.thumbnail((side, side))
    return Thumbnail(np.asarray(picture), name)
