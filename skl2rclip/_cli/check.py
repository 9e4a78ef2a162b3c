"""Look at the images and ranks of a table or folder before a fit.

Each image is decoded, and what cannot be read is said on the standard error with the reason. The rows are the ranks,
from the lowest to the highest in the order that a fit would take, with the label that stands for each, and how many
images and with --group how many groups it has. The command ends with status 1 where images cannot be read, rows or
files were left out, or too little is left to fit.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from skl2rclip import find_duplicates, find_unreadable
from skl2rclip._classifier import L2RCLIPClassifier
from skl2rclip._cli.console import Console
from skl2rclip._cli.inputs import LabelledImages, add_labelled, add_ranks, labelled_images
from skl2rclip._cli.output import add_output, check_file, rows_out
from skl2rclip._cli.parsing import add_parameters, parameters_of
from skl2rclip._duplicates import check_installed
from skl2rclip._settings import checked
from skl2rclip._utils.progress import progress_bar

_CHUNK = 256


def add_options(parser: Any) -> None:
    """Add what is looked at."""
    parser.usage = "%(prog)s TABLE|FOLDER [options]"
    add_labelled(parser, "What to look at")
    add_ranks(parser, "All ranks as they are written, from the lowest to the highest, where this is not plain to see.")
    parser.add_argument(
        "--duplicates",
        action="store_true",
        help="List images that are copies of one another, recompressed, resized, mirrored, cropped a little, brighter "
        "or darker; whether their ranks contradict, and with --group whether they cross groups. Needs the extra "
        "duplicates.",
    )
    add_parameters(parser, L2RCLIPClassifier, ("white_level", "max_memory", "n_jobs"))
    add_output(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Read, decode, count."""
    given = parameters_of(options)
    checked(given)
    output = check_file("--output", options.output, options.overwrite)
    if options.duplicates:
        check_installed()
    read = labelled_images(options, console, options.ranks)
    is_good = _decoded(read, console, console.bars_beside(output), given)
    copies = _copies(read, is_good, given) if options.duplicates and is_good.any() else None
    columns = ["rank", "label", "images", *(["groups"] if read.groups is not None else [])]
    with rows_out(output, columns if copies is None else list(copies), options.format) as rows:
        rows.write(_counts(read, is_good) if copies is None else copies.to_numpy(object).tolist())
    problems = _problems(read, is_good) + _problems_of_copies(copies)
    for problem in problems:
        console.note(problem)
    return 1 if problems or read.missed or not is_good.all() else 0


def _decoded(read: LabelledImages, console: Console, bar: bool, given: dict[str, Any]) -> np.ndarray:
    """Tell which images can be decoded: ndarray of shape (n,), bool."""
    images = read.bunch.data
    is_good = np.ones(len(images), bool)
    with progress_bar(int(bar), "decoding", len(images), "image") as shown:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            for row, reason in find_unreadable(chunk, **given).items():
                is_good[start + row] = False
                console.bad_image(str(chunk[row]), reason)
            shown.update(len(chunk))
    return is_good


def _counts(read: LabelledImages, is_good: np.ndarray) -> list[list[Any]]:
    rows = []
    for label, word in zip(read.bunch.ranks, read.bunch.rank_names, strict=True):
        of_rank = (read.bunch.target == label) & is_good
        groups = [] if read.groups is None else [len(np.unique(read.groups[of_rank]))]
        rows.append([word, label, int(of_rank.sum()), *groups])
    return rows


def _copies(read: LabelledImages, is_good: np.ndarray, given: dict[str, Any]) -> Any:
    """Find copies among the images that can be read: a frame, with their paths and ranks instead of their indices."""
    good = np.flatnonzero(is_good)
    images, groups = read.bunch.data, None if read.groups is None else np.asarray(read.groups)[good]
    labels = np.asarray(read.bunch.target)[good]
    copies = find_duplicates([images[row] for row in good], labels, groups, **given)
    word_of = dict(zip(read.bunch.ranks, read.bunch.rank_names, strict=True))
    rows = copies.pop("index").to_numpy()
    copies.insert(1, "path", [str(images[good[row]]) for row in rows])
    copies.insert(2, "rank", [word_of[labels[row]] for row in rows])
    return copies


def _problems_of_copies(copies: Any) -> list[str]:
    """Say how many copies there are, and in how many sets of them something contradicts."""
    if copies is None or not len(copies):
        return []
    sets = copies.drop_duplicates("set")
    said = f"{len(copies)} images are copies of one another, in {len(sets)} set{'' if len(sets) == 1 else 's'}"
    n_different = int(sets["contradicts"].sum())
    problems = [said + (f", of which {n_different} with different ranks" if n_different else "")]
    if "crosses_groups" in sets and sets["crosses_groups"].any():
        problems.append(f"{int(sets['crosses_groups'].sum())} of the sets lie in several groups")
    return problems


def _problems(read: LabelledImages, is_good: np.ndarray) -> list[str]:
    """Say what a fit would refuse, or could not learn from."""
    problems = []
    n_ranks = len(np.unique(read.bunch.target[is_good]))
    if n_ranks < 2:
        problems.append(f"images of {n_ranks} rank{'' if n_ranks == 1 else 's'} can be read, and a fit needs two")
    if read.groups is not None and len(np.unique(read.groups[is_good])) == 1:
        problems.append("all images are of one group, so that none can be left out to measure with")
    return problems
