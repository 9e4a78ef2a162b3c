"""Fitted state as plain arrays and JSON: what a pickle holds, and what `save` writes and `load` reads.

No torch object is part of it, so that a model fitted on CUDA loads where there is none.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from skl2rclip._backbone import LOCAL_DIR_PREFIX, Backbone, BackboneRecord, BackboneSource
from skl2rclip._preprocessing import Preprocessing
from skl2rclip._prompts import PromptTokens
from skl2rclip._ranks import RankScale

FORMAT_VERSION = 1
_DESCRIPTION_FILE = "model.json"
_ARRAYS_FILE = "model.safetensors"
_BACKBONE_FOLDER = "backbone"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class FittedState:
    """Everything that predicting, or training on, needs beside the constructor's parameters.

    Attributes
    ----------
    record : BackboneRecord
        The backbone, by name and fingerprint.
    tokens : PromptTokens
        What the prompts started from.
    scale : RankScale
    logit_scale : float
    arrays : dict of str to dict of str to ndarray
        What was learned: ``"prompts"``, and where there is one ``"adapter"`` and ``"tower"``.
    structure : dict
        The parameters that decide shapes and meaning of `arrays`; further training needs the same.
    asked_for : list
        The parameters ``model_name`` and ``pretrained`` of the fit.
    """

    record: BackboneRecord
    tokens: PromptTokens
    scale: RankScale
    logit_scale: float
    arrays: dict[str, Arrays]
    structure: dict[str, Any]
    asked_for: list[str | None]


def module_arrays(module: nn.Module) -> Arrays:
    """Copy a module's weights into arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Arrays) -> None:
    """Copy arrays into a module's weights, wherever those are; read-only arrays are fine."""
    module.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})


def save_model(
    path: str | os.PathLike,
    params: Mapping[str, Any],
    fitted: Mapping[str, Any],
    state: FittedState,
    backbone: Backbone | None = None,
) -> None:
    """Write a fitted model as a folder, all of it or nothing.

    Parameters
    ----------
    path : path
        A new folder, or an earlier save, which is replaced.
    params : mapping
        Constructor parameters.
    fitted : mapping
        ``prototypes``, an array, and fitted attributes of JSON's own types.
    state : FittedState
    backbone : Backbone, optional
        To be included, so that the folder needs nothing else.

    Raises
    ------
    FileExistsError
        If `path` is something else than an earlier save.
    """
    target = Path(path)
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / _DESCRIPTION_FILE).is_file()):
        raise FileExistsError(f"{target} exists and is not a saved model; choose another path, or remove it first.")
    arrays = {f"{part}.{name}": array for part, group in state.arrays.items() for name, array in group.items()}
    arrays["prototypes"] = fitted["prototypes"]
    description = {
        "format_version": FORMAT_VERSION,
        "library_version": importlib.metadata.version("skl2rclip"),
        "params": _params_to_json(params, state),
        "fitted": {name: value for name, value in fitted.items() if name != "prototypes"},
        "state": _state_to_json(state),
        "includes_backbone": backbone is not None,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        (new / _DESCRIPTION_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, new / _ARRAYS_FILE)
        if backbone is not None:
            backbone.save(new / _BACKBONE_FOLDER)
        old = Path(scratch) / "old"
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise


def load_model(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any], FittedState]:
    """Read what `save_model` wrote.

    Returns
    -------
    params : dict
    fitted : dict
    state : FittedState

    Raises
    ------
    FileNotFoundError
        If there is no saved model.
    ValueError
        If it is damaged, or of a format that this version does not know.
    """
    folder = Path(path)
    file = folder / _DESCRIPTION_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a saved model: there is no file {_DESCRIPTION_FILE} in it.")
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        version = description["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged or is not a saved model: {error}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {version}, and this version of skl2rclip reads {FORMAT_VERSION}; it was "
            f"written by skl2rclip {description.get('library_version')}, which reads it."
        )
    try:
        flat = load_file(folder / _ARRAYS_FILE)
    except Exception as error:  # safetensors raises a class of its own
        raise ValueError(f"{folder / _ARRAYS_FILE} is missing or damaged: {error}") from error
    fitted = {**description["fitted"], "prototypes": flat.pop("prototypes")}
    arrays: dict[str, Arrays] = {}
    for key, array in flat.items():
        part, name = key.split(".", 1)
        arrays.setdefault(part, {})[name] = array
    state = _state_from_json(description["state"], arrays)
    if description["includes_backbone"]:
        source = BackboneSource(LOCAL_DIR_PREFIX + os.path.abspath(folder / _BACKBONE_FOLDER), None, 0)
        state = replace(state, record=replace(state.record, source=source))
    return _params_from_json(description["params"]), fitted, state


def _params_to_json(params: Mapping[str, Any], state: FittedState) -> dict[str, Any]:
    """Parameters as JSON types; a function that names ranks becomes its names, a generator is left out."""
    result = dict(params)
    if result.get("rank_names") is not None:
        result["rank_names"] = list(state.scale.names)
    if result.get("ranks") is not None:
        result["ranks"] = state.scale.ranks.tolist()
    if isinstance(result.get("class_weight"), dict):
        result["class_weight"] = [[_plain(label), _plain(weight)] for label, weight in result["class_weight"].items()]
    if isinstance(result.get("random_state"), np.random.RandomState):
        result["random_state"] = None
    return {
        name: os.fspath(value) if isinstance(value, os.PathLike) else _plain(value) for name, value in result.items()
    }


def _params_from_json(params: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(params)
    if isinstance(result.get("class_weight"), list):
        result["class_weight"] = dict(result["class_weight"])
    return result


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _state_to_json(state: FittedState) -> dict[str, Any]:
    record, ranks = state.record, state.scale.ranks
    return {
        "record": {**asdict(record), "preprocessing": record.preprocessing.to_config()},
        "tokens": asdict(state.tokens),
        "ranks": {"dtype": ranks.dtype.str, "labels": ranks.tolist()},
        "values": state.scale.values.tolist(),
        "names": list(state.scale.names),
        "logit_scale": state.logit_scale,
        "structure": {name: _plain(value) for name, value in state.structure.items()},
        "asked_for": state.asked_for,
    }


def _state_from_json(description: Mapping[str, Any], arrays: dict[str, Arrays]) -> FittedState:
    record, tokens, ranks = description["record"], description["tokens"], description["ranks"]
    return FittedState(
        record=BackboneRecord(
            source=BackboneSource(**record["source"]),
            fingerprint=record["fingerprint"],
            preprocessing=Preprocessing.from_config(record["preprocessing"]),
            embedding_width=record["embedding_width"],
            image_config=record["image_config"],
        ),
        tokens=PromptTokens(
            start=tuple(tokens["start"]),
            end=tuple(tokens["end"]),
            context=tuple(tokens["context"]),
            n_context=tokens["n_context"],
            ranks=tuple(tuple(rank) for rank in tokens["ranks"]),
            position=tokens["position"],
        ),
        scale=RankScale(
            ranks=np.array(ranks["labels"], dtype=np.dtype(ranks["dtype"])),
            values=np.array(description["values"]),
            names=tuple(description["names"]),
        ),
        logit_scale=description["logit_scale"],
        arrays=arrays,
        structure=dict(description["structure"]),
        asked_for=list(description["asked_for"]),
    )
