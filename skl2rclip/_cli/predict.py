"""Predict the ranks of images, and write a row for each, in the order in which they are named.

The columns are path (as it was typed, found or written in the table), with --rank and --group what the table has
there, prediction (the word of the rank), label (what
predict returns: a number where the ranks were numbered), expectation (the mean of the predicted distribution, in
the unit of the labels, or for words the position along the ranks from 1 on) and usualness (below 0 where an image is
less usual than 99 in 100 of the training images; empty where the model does not know it); with --coverage lower and
upper, the words of the ends of an interval; with --proba a column p_WORD for each rank, from the lowest to the highest.

An image that cannot be read has a line on the standard error and no row, and the command ends with status 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import compress
from typing import Any

from skl2rclip._cli.console import Console
from skl2rclip._cli.inputs import NamedImage, add_images, named_images
from skl2rclip._cli.models import (
    RUNNING,
    Pass,
    Predicted,
    add_coverage,
    add_model,
    checked_coverage,
    loaded_model,
    predicting,
)
from skl2rclip._cli.output import add_output, check_file, rounded, rows_out

# columns of a table, by the options that name them
_COPIED = ("rank", "group")


def add_options(parser: Any) -> None:
    """Add what is predicted, and what is written of it."""
    parser.usage = "%(prog)s MODEL FILE|FOLDER|TABLE... [options]"
    add_model(parser, *RUNNING, "decision", "mirror")
    add_images(parser)
    for name in _COPIED:
        parser.add_argument(f"--{name}", metavar="COL", help=f"Column of tables to write too, as the column {name}.")
    add_coverage(parser, None)
    parser.add_argument("--proba", action="store_true", help="Write the probability of each rank too.")
    add_output(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Predict, chunk by chunk."""
    coverage = checked_coverage(options)
    output = check_file("--output", options.output, options.overwrite)
    images = named_images(options)
    model = loaded_model(options)
    copied = [name for name in _COPIED if getattr(options, name) is not None]
    columns = ["path", *copied, "prediction", "label", "expectation", "usualness"]
    columns += [] if coverage is None else ["lower", "upper"]
    columns += _of_ranks(model.rank_names_) if options.proba else []
    passed = Pass(console, predicting(model, coverage))
    with rows_out(output, columns, options.format) as rows:
        for chunk, is_good, said in passed.over(images, console.bars_beside(output), "predicting"):
            if is_good.any():
                rows.write(_rows(list(compress(chunk, is_good)), said, len(copied), options.proba))
        return passed.end()


def _of_ranks(names: Mapping[Any, str]) -> list[str]:
    """Name the columns of probabilities, by labels where two ranks have one word."""
    words = list(names.values())
    return [f"p_{each}" for each in (words if len(set(words)) == len(words) else names)]


def _rows(images: list[NamedImage], said: Predicted, n_copied: int, with_probabilities: bool) -> Iterator[list[Any]]:
    labels, expectation = said.labels.tolist(), rounded(said.expectation)
    for row, image in enumerate(images):
        cells = [
            image.name,
            *(image.cells or [None] * n_copied),
            said.words[said.predicted[row]],
            labels[row],
            expectation[row],
            None if said.usualness is None else rounded(said.usualness)[row],
        ]
        if said.interval is not None:
            cells += [said.words[end] for end in said.interval[row]]
        yield [*cells, *(rounded(said.probabilities[row]) if with_probabilities else ())]
