"""Say what a saved model is: its ranks, backbone and prompt, what was learned, and the parameters of the fit.

In CSV a line for each field, lists as in JSON; in JSON one object. Nothing is computed, and the backbone is not loaded.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from skl2rclip._cli.console import Console
from skl2rclip._cli.output import add_output, check_file, write_object
from skl2rclip._cli.parsing import user_path
from skl2rclip._model.schema import check_description, parse_json

_FILE = "model.json"
# names that say by themselves where the weights are; `_clip.source`, which knows them too, takes torch along
_WITH_WEIGHTS = ("skl2rclip-", "local-dir:", "hf-hub:")
_MAX_BYTES = 200 * 10**6


def add_options(parser: Any) -> None:
    """Add the model."""
    parser.add_argument("model", metavar="MODEL", type=user_path, help="Folder of a saved model.")
    add_output(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Read its description."""
    output = check_file("--output", options.output, options.overwrite)
    write_object(output, _fields(_described(options.model), options.model), options.format)
    return 0


def _described(folder: str) -> dict[str, Any]:
    """Read the description alone; where it is not as it should be, load the model, which says why it cannot be."""
    file = Path(folder, _FILE)
    try:
        if file.is_file() and file.stat().st_size <= _MAX_BYTES:
            description = parse_json(file.read_text(encoding="utf-8"))
            check_description(description)
            return description
    except (OSError, ValueError):
        pass
    from skl2rclip._classifier import L2RCLIPClassifier

    L2RCLIPClassifier.load(folder)
    raise ValueError(f"{folder} has just been changed: try again.")


def _fields(description: dict[str, Any], folder: str) -> dict[str, Any]:
    state, parameters = description["state"], description["params"]
    record, history = state["record"], state["history"]
    source = record["source"]
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return {
        "model": folder,
        "written_by": f"skl2rclip {description['library_version']}",
        "format_version": description["format_version"],
        "bytes": sum(file.stat().st_size for file in files),
        "ranks": state["ranks"]["labels"],
        "rank_names": state["names"],
        "prompt": state["tokens"]["text"],
        "backbone": source["model_name"],
        "pretrained": None if source["model_name"].startswith(_WITH_WEIGHTS) else source["pretrained"],
        "fingerprint": record["fingerprint"],
        "includes_backbone": bool(description["includes_backbone"]),
        "image_size": record["preprocessing"]["size"],
        "image_tower": state["structure"]["image_tower"],
        "image_features": state["features"],
        "image_adapter": state["adapter"] if state["structure"]["image_adapter"] is not None else None,
        "n_views": state["n_views"],
        "white_level": state["structure"]["white_level"],
        "epochs": len(history),
        "label_noise": state["noise"],
        "label_trust": state["trust"],
        "parameters": parameters,
    }
