"""Write a model as a file of ONNX, for ONNX Runtime in any language; needs the extra onnx.

The file is verified against the model before it has its name. The row that is written says by how much probabilities
differ at most.
"""

from __future__ import annotations

import argparse
from typing import Any

from skl2rclip._cli.console import Console, UsageError
from skl2rclip._cli.models import add_model, loaded_model
from skl2rclip._cli.output import add_overwrite, check_file, rounded, rows_out
from skl2rclip._cli.parsing import user_path


def add_options(parser: Any) -> None:
    """Add the file, and what its format is."""
    parser.usage = "%(prog)s MODEL --onnx FILE [options]"
    add_model(parser, "mirror")
    parser.add_argument("--onnx", metavar="FILE", type=user_path, required=True, help="The file.")
    parser.add_argument("--opset", metavar="N", type=int, help="Version of ONNX's operators, from 18 on.")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="Precision of the weights of the image tower in the file: float16 makes it about half as large.",
    )
    add_overwrite(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Export, and say how far it is off."""
    file = check_file("--onnx", options.onnx, options.overwrite)
    if file is None:
        raise UsageError("--onnx must be a file")
    model = loaded_model(options, reads_images=False)
    difference = model.export_onnx(file, opset=options.opset, precision=options.precision)
    with rows_out(None, ["file", "largest_difference"], "csv") as rows:
        rows.write([[file, *rounded([difference])]])
    return 0
