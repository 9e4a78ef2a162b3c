"""What decides the result of a fit: parameters, labels, images and weights, as words and digests to be compared.

Where and how it is computed, and what things are called, does not count.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import fields
from typing import Any

import numpy as np

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._embedding.content import content_digests
from skl2rclip._images.files import identity_of
from skl2rclip._model.state import FittedState
from skl2rclip._training.request import FitRequest

# parameters that only say where and how to compute
_WITHOUT_EFFECT = {"model_name", "pretrained", "device", "max_memory", "embedding_cache", "checkpoint_dir", "n_jobs"}
_WITHOUT_EFFECT |= {"verbose", "on_bad_image"}


def what_decides(request: FitRequest, *, is_seeded: bool) -> dict[str, str]:
    """Return what decides the result, by name; a seed that is not the user's is left open."""
    settings, scale = request.settings, request.scale
    return {
        "library version": importlib.metadata.version("skl2rclip"),
        **{
            field.name: repr(getattr(settings, field.name))
            for field in fields(settings)
            if field.name not in _WITHOUT_EFFECT
        },
        "random_state": repr(request.seed if is_seeded else None),
        "devices": " ".join(device.type for device in request.devices),
        "weights of the backbone": _of_weights(request, is_seeded=is_seeded),
        "ranks and their names": _digest(repr(scale.ranks.tolist()).encode(), scale.values, repr(scale.names).encode()),
        "images": _of_images(request),
        "labels": _digest(request.target),
        "weights of the images": _digest(request.weight),
        "groups": _digest(None if request.groups is None else np.unique(request.groups, return_inverse=True)[1]),
        "label_std": _digest(request.label_std),
        "images of X_val": _digest(request.held_out),
        "the fit before": _of_state(request.previous),
    }


def _digest(*parts: np.ndarray | bytes | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = f"{part.dtype.str} {part.shape}".encode() + np.ascontiguousarray(part).tobytes()
        digest.update(b"none" if part is None else f"{len(part)} ".encode() + part)
    return digest.hexdigest()


def _of_weights(request: FitRequest, *, is_seeded: bool) -> str:
    if request.source.is_random and not is_seeded and request.previous is None:
        return f"random, of {request.source.model_name}"
    return BackboneRecord.of(load_backbone(request.source)).function


def _of_images(request: FitRequest) -> str:
    if isinstance(request.data, np.ndarray):
        return _digest(request.data, repr(request.column_names).encode())
    settings = request.settings
    contents = content_digests(request.data, settings.embedding_cache, settings.n_jobs)
    # which of them are the same file counts too: these are held out together
    numbers: dict[Any, int] = {}
    same = [numbers.setdefault(identity_of(image), len(numbers)) for image in request.data]
    return _digest(b"".join(contents), np.array(same))


def _of_state(state: FittedState | None) -> str:
    if state is None:
        return "none"
    history = json.dumps(state.history, sort_keys=True, default=repr).encode()
    arrays = state.to_arrays()
    return _digest(history, *(part for name in sorted(arrays) for part in (name.encode(), arrays[name])))
