"""Write the embeddings of images: a row for each, in the order in which they are named.

MODEL is a saved model, whose embeddings are those that its ranks are compared with, or the name of a backbone, such as
skl2rclip-tiny or ViT-B-16, whose own they are. CSV and Parquet have the column path and one for each number; .npy has
the numbers alone, float32.

An image that cannot be read has a line on the standard error, and the command ends with status 1. It has no row in CSV
and Parquet; in .npy its row is NaN, so that rows stay in their places.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from skl2rclip._cli.console import Console, UsageError
from skl2rclip._cli.inputs import NamedImage, add_images, named_images
from skl2rclip._cli.models import BACKBONE, RUNNING, Pass, loaded_model
from skl2rclip._cli.output import add_overwrite, check_file, rows_out, whole_file
from skl2rclip._cli.parsing import add_parameters, parameters_of, user_path
from skl2rclip._encoder import CLIPImageEncoder
from skl2rclip._settings import checked
from skl2rclip.datasets._table_files import uninstalled
from skl2rclip.errors import visible

_KINDS = (".npy", ".csv", ".parquet")
_OF_A_BACKBONE = ("image_features", "white_level")
_TEXTS = {
    "model_name": "Of a saved model, " + BACKBONE["model_name"][0].lower() + BACKBONE["model_name"][1:],
    "pretrained": "Weights of the backbone: open_clip's tag, by default openai, or a checkpoint file.",
}
_NPY_HEADER = 128

Write = Callable[[list[NamedImage], np.ndarray, Any], None]


def add_options(parser: Any) -> None:
    """Add what embeds, what is embedded, and where it goes."""
    parser.usage = "%(prog)s MODEL FILE|FOLDER|TABLE... [options]"
    parser.add_argument(
        "model", metavar="MODEL", type=user_path, help="Folder of a saved model, or the name of a backbone."
    )
    add_images(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=user_path,
        help="A .npy, .csv or .parquet file, all of it or nothing; by default CSV on the standard output. Parquet "
        "needs the extra tables.",
    )
    add_overwrite(parser)
    add_parameters(parser, CLIPImageEncoder, (*BACKBONE, *RUNNING, *_OF_A_BACKBONE), _TEXTS)


def run(options: argparse.Namespace, console: Console) -> int:
    """Embed, chunk by chunk."""
    output = check_file("--output", options.output, options.overwrite)
    kind = ".csv" if output is None else os.path.splitext(output)[1].lower()
    if kind not in _KINDS:
        raise UsageError(f"--output must end in {', '.join(_KINDS)}, got {visible(str(output))}")
    if kind == ".parquet":
        _arrow()
    checked(parameters_of(options))
    images = named_images(options)
    model = _embedder(options)
    writer = {".npy": _npy, ".csv": _csv, ".parquet": _parquet}[kind]
    passed = Pass(console, model.transform)
    with writer(output, list(model.get_feature_names_out())) as write:
        for chunk, is_good, embeddings in passed.over(images, console.bars_beside(output), "embedding"):
            if chunk:
                write(chunk, is_good, embeddings)
        status = passed.end()
    return status


def _embedder(options: argparse.Namespace) -> Any:
    """Load the saved model, or the backbone where the name is not that of a folder."""
    given = parameters_of(options)
    name = options.model
    if not os.path.exists(name) and (name.startswith(("local-dir:", "hf-hub:")) or not set(name) & {"/", os.sep}):
        if "model_name" in given:
            raise UsageError(f"--model-name is for saved models, and {name} is a backbone by its name")
        return CLIPImageEncoder(name, **given).fit()
    wrong = [each for each in _OF_A_BACKBONE if each in given]
    if wrong:
        raise UsageError(f"--{wrong[0].replace('_', '-')} is for backbones; a saved model has its own")
    return loaded_model(options)


# ------------------------------------------------------------------- writers


@contextmanager
def _csv(output: str | None, columns: list[str]) -> Iterator[Write]:
    with rows_out(output, ["path", *columns], "csv") as rows:

        def write(chunk: list[NamedImage], is_good: np.ndarray, embeddings: Any) -> None:
            if is_good.any():
                pairs = zip(compress(chunk, is_good), embeddings, strict=True)
                # as many digits as tell a float32
                rows.write([image.name, *map(str, row)] for image, row in pairs)

        yield write


@contextmanager
def _npy(output: str | None, columns: list[str]) -> Iterator[Write]:
    """Write rows behind a header that is filled in at the end, when their number is known."""
    n_rows = 0
    with whole_file(str(output)) as path, open(path, "wb") as file:
        file.write(bytes(_NPY_HEADER))

        def write(chunk: list[NamedImage], is_good: np.ndarray, embeddings: Any) -> None:
            nonlocal n_rows
            rows = np.full((len(chunk), len(columns)), np.nan, "<f4")
            if is_good.any():
                rows[is_good] = embeddings
            file.write(rows.tobytes())
            n_rows += len(rows)

        yield write
        described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {len(columns)}), }}"
        length = _NPY_HEADER - 10
        header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + described.ljust(length - 1).encode() + b"\n"
        file.seek(0)
        file.write(header)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise uninstalled("Parquet files", "pyarrow") from error
    return pyarrow, pyarrow.parquet


@contextmanager
def _parquet(output: str | None, columns: list[str]) -> Iterator[Write]:
    arrow, parquet = _arrow()
    fields = [("path", arrow.string()), *((name, arrow.float32()) for name in columns)]
    schema = arrow.schema(fields)
    with whole_file(str(output)) as path, parquet.ParquetWriter(Path(path), schema) as file:

        def write(chunk: list[NamedImage], is_good: np.ndarray, embeddings: Any) -> None:
            if is_good.any():
                names = [image.name.encode("utf-8", "backslashreplace").decode() for image in compress(chunk, is_good)]
                arrays = [arrow.array(names, arrow.string()), *(arrow.array(column) for column in embeddings.T)]
                file.write_table(arrow.Table.from_arrays(arrays, schema=schema))

        yield write
