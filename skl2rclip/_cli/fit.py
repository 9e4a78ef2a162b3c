"""Learn the ranks of the images of a table or folder, and save the model as a folder.

Ranks that are words become 0, 1, ... from the lowest to the highest, and the model keeps the words for its
predictions. Where several columns or rows of a table rank an image, a fit with soft targets, which are the default,
knows how far each label may be off. Each parameter of L2RCLIPClassifier is an option. A value is read as Python writes
it where it is None, True, False or a number, and the parameter may be that; else it is a word. Lists are written A,B,C,
dictionaries as Python writes them, by the words of the ranks or by the numbers that stand for them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skl2rclip._classifier import L2RCLIPClassifier
from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.inputs import LabelledImages, add_labelled, labelled_images
from skl2rclip._cli.output import add_overwrite, check_folder
from skl2rclip._cli.parsing import add_parameters, parameters_of, user_path
from skl2rclip._settings import Settings
from skl2rclip.errors import UnreadableImagesError, visible


def add_options(parser: Any) -> None:
    """Add what is learned from, where the model goes, and the parameters of the estimator."""
    parser.usage = "%(prog)s TABLE|FOLDER --out DIR [options]"
    add_labelled(parser, "What to learn from")
    parser.add_argument("--out", metavar="DIR", type=user_path, required=True, help="Folder of the model.")
    parser.add_argument(
        "--include-backbone", action="store_true", help="Save the backbone too, so that the folder needs nothing else."
    )
    add_overwrite(parser)
    add_parameters(parser.add_argument_group("parameters of the estimator"), L2RCLIPClassifier)


def run(options: argparse.Namespace, console: Console) -> int:
    """Check, read, fit and save."""
    given = {"verbose": int(console.shows_bars), **parameters_of(options)}
    ranks = given.get("ranks")
    Settings.of(L2RCLIPClassifier(**given).get_params())
    if given.get("image_tower") == "precomputed":
        raise UsageError("--image-tower precomputed learns from a table of features, and the command line reads images")
    _check_out(options.out, options.overwrite)
    _check_outside(options.out, given)
    began = time.perf_counter()
    read = labelled_images(options, console, ranks)
    model = L2RCLIPClassifier(**{**given, **_in_labels(given, read)})
    _fit(model, read, None if model.rank_targets == "hard" else read.bunch.get("label_std"), console)
    model.save(options.out, include_backbone=options.include_backbone)
    console.note(
        f"{len(read.bunch.ranks)} ranks learned from {len(read.bunch.data)} images in "
        f"{time.perf_counter() - began:.0f} s, saved in {visible(options.out)}"
    )
    return 0


def _check_out(path: str, overwrite: bool) -> None:
    """Raise unless the model can be saved there, before it is learned."""
    from skl2rclip._model.save import check_replaceable

    check_folder("--out", path)
    try:
        check_replaceable(path)
    except FileExistsError as error:
        raise UsageError(str(error)) from error
    if not overwrite and os.path.isdir(path) and os.listdir(path):
        raise UsageError(f"{visible(path)} is a saved model; --overwrite replaces it")


def _check_outside(out: str, given: Mapping[str, Any]) -> None:
    """Raise where the fit itself would write into the folder of the model, which then is there and no model."""
    target = os.path.realpath(out)
    for name in ("checkpoint_dir", "embedding_cache"):
        folder = given.get(name)
        if folder is not None and Path(target) in (place := Path(os.path.realpath(folder)), *place.parents):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} must be outside of --out, where the model goes, got {visible(str(folder))}")


def _in_labels(given: Mapping[str, Any], read: LabelledImages) -> dict[str, Any]:
    """Write what was given by the words of the ranks by the labels that stand for them."""
    bunch = read.bunch
    label_of = dict(zip(bunch.rank_names, bunch.ranks, strict=True))

    def by_label(value: Any) -> Any:
        return {label_of.get(key, key): each for key, each in value.items()} if isinstance(value, dict) else value

    names = by_label(given.get("rank_names")) or bunch.rank_names
    return {"ranks": bunch.ranks, "rank_names": names, "class_weight": by_label(given.get("class_weight"))}


def _fit(model: L2RCLIPClassifier, read: LabelledImages, label_std: Any, console: Console) -> None:
    try:
        model.fit(read.bunch.data, read.bunch.target, groups=read.groups, label_std=label_std)
    except UnreadableImagesError as error:
        for row, reason in error.failures.items():
            console.bad_image(str(read.bunch.data[row]), reason)
        count = f"{len(error.failures)} of {len(read.bunch.data)} images cannot be read"
        raise DataError(f"{count}; mend them, leave them out, or say --on-bad-image skip") from error
