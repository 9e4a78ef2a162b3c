"""Predict the ranks of images, and write a row for each, in the order in which they are named.

The columns are path (as it was typed, found or written in the table), with --box the box of each row, with --rank and
--group what the table has there, prediction (the word of the rank), label (what predict returns: a number where the
ranks were numbered), expectation (the mean of the predicted distribution, in the unit of the labels, or for words
the position along the ranks from 1 on) and usualness (below 0 where an image is less usual than 99 in 100 of the
training images; empty where the model does not know it); with --coverage lower and upper, the words of the ends of an
interval; with --proba a column p_WORD for each rank, from the lowest to the highest.

With --case there is a row for each case, in the order in which tables first name them, with the columns case and
images (how many were predicted) in the place of path, and usualness is that of the least usual image. An image that is
listed twice in a case counts once.

An image that cannot be read, or has no case, has a line on the standard error and no row, and the command ends with
status 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from skl2rclip._cli.cases import Cases, add_case, check_case
from skl2rclip._cli.console import Console
from skl2rclip._cli.inputs import NamedImage, add_box, add_images, named_images
from skl2rclip._cli.models import (
    RUNNING,
    Pass,
    Predicted,
    ReadOut,
    add_coverage,
    add_model,
    checked_coverage,
    loaded_model,
)
from skl2rclip._cli.output import add_output, check_file, rounded, rows_out
from skl2rclip.datasets._image_tables import identity_of

# columns of a table, by the options that name them
_COPIED = ("rank", "group")


def add_options(parser: Any) -> None:
    """Add what is predicted, and what is written of it."""
    parser.usage = "%(prog)s MODEL FILE|FOLDER|TABLE... [options]"
    add_model(parser, *RUNNING, "decision", "mirror")
    add_images(parser)
    add_box(parser)
    for name in _COPIED:
        parser.add_argument(f"--{name}", metavar="COL", help=f"Column of tables to write too, as the column {name}.")
    add_case(parser, "A row for each case is written then.")
    add_coverage(parser, None)
    parser.add_argument("--proba", action="store_true", help="Write the probability of each rank too.")
    add_output(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Predict, chunk by chunk, or all cases at the end."""
    check_case(options)
    coverage = checked_coverage(options)
    output = check_file("--output", options.output, options.overwrite)
    images = named_images(options)
    copied = [name for name in _COPIED if getattr(options, name) is not None]
    listed = None if options.case is None else _ListedCases(images, copied, options.case)
    model = loaded_model(options)
    with_boxes = options.box is not None
    first = ["case", "images"] if listed is not None else ["path", "box"] if with_boxes else ["path"]
    columns = [*first, *copied, "prediction", "label", "expectation", "usualness"]
    columns += [] if coverage is None else ["lower", "upper"]
    columns += _of_ranks(model.rank_names_) if options.proba else []
    read_out = ReadOut(model, coverage)
    passed = Pass(console, read_out.of_images)
    chunks = passed.over(images if listed is None else listed.images, console.bars_beside(output), "predicting")
    with rows_out(output, columns, options.format) as rows:
        if listed is not None:
            good, probabilities, usualness = passed.gathered(chunks)
            of_good = (probabilities, good[listed.has_case], options.pool, read_out, usualness)
            places, said = listed.cases.pooled(*of_good)
            listed.cases.note_missing(places, console)
            rows.write(_rows(listed.heads(places, good), said, options.proba))
            return passed.end()
        for chunk, is_good, said in chunks:
            if is_good.any():
                heads = [_head(image, with_boxes, len(copied)) for image in compress(chunk, is_good)]
                rows.write(_rows(heads, said, options.proba))
        return passed.end()


class _ListedCases:
    """Images of tables, each once in its case, and what the tables say of the cases.

    Parameters
    ----------
    listed : iterable of NamedImage
    copied : sequence of str
        What columns the cells of the images are from.
    column : str
        That of the cases, for messages.
    """

    def __init__(self, listed: Iterable[NamedImage], copied: Sequence[str], column: str):
        once: dict[Any, NamedImage] = {}
        for row, image in enumerate(listed):
            key = (str(image.case), identity_of(image.path)) if image.path and image.case is not None else row
            once.setdefault(key, image)
        self.images = list(once.values())
        self.has_case = np.array([image.case is not None for image in self.images], bool)
        named = list(compress(self.images, self.has_case))
        self.cases = Cases(image.case for image in named)
        cells = zip(*(image.cells for image in named), strict=True) if named else ()
        self._cells = [self.cases.values(each, name, column) for name, each in zip(copied, cells, strict=False)]

    def heads(self, places: np.ndarray, good: np.ndarray) -> list[list[Any]]:
        """Name the cases at `places`, with how many of the images are `good`, and the cells that were copied."""
        counts = np.bincount(self.cases.of_image[good[self.has_case]], minlength=len(self.cases.names)).tolist()
        return [[self.cases.names[at], counts[at], *(cells[at] for cells in self._cells)] for at in places.tolist()]


def _of_ranks(names: Mapping[Any, str]) -> list[str]:
    """Name the columns of probabilities, by labels where two ranks have one word."""
    words = list(names.values())
    return [f"p_{each}" for each in (words if len(set(words)) == len(words) else names)]


def _head(image: NamedImage, with_boxes: bool, n_copied: int) -> list[Any]:
    """Name an image, with its box, and the cells that were copied."""
    sides = [int(each) if each.is_integer() else each for each in getattr(image.path, "box", ())]
    return [image.name, *([sides or None] if with_boxes else []), *(image.cells or [None] * n_copied)]


def _rows(heads: Iterable[list[Any]], said: Predicted, with_probabilities: bool) -> Iterator[list[Any]]:
    """Put together what is known of each image or case, and what is predicted."""
    labels, expectation = said.labels.tolist(), rounded(said.expectation)
    usualness = [None] * len(labels) if said.usualness is None else rounded(said.usualness)
    for row, head in enumerate(heads):
        cells = [*head, said.words[said.predicted[row]], labels[row], expectation[row], usualness[row]]
        if said.interval is not None:
            cells += [said.words[end] for end in said.interval[row]]
        yield [*cells, *(rounded(said.probabilities[row]) if with_probabilities else ())]
