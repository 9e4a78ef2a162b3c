"""Digests that tell one model from another: of its weights, and of what else decides the embedding of an image."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import joblib
import open_clip
import torch
from torch import Tensor, nn

from skl2rclip._images.preprocessing import Preprocessing

_NO_DEFAULT = object()


def fingerprint(model: nn.Module) -> str:
    """Digest of a model's weights, and of its activations and numbers of heads: 64 hexadecimal digits."""
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # hashlib works without the interpreter's lock
        weights = list(pool.map(_digest, sorted(model.state_dict().items())))
    structure = sorted(
        (name, type(module).__name__, getattr(module, "num_heads", None))
        for name, module in model.named_modules()
        if hasattr(module, "num_heads") or "gelu" in type(module).__name__.lower()
    )
    return hashlib.sha256(json.dumps([weights, structure]).encode()).hexdigest()


def _digest(item: tuple[str, Tensor]) -> str:
    name, tensor = item
    description = f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(description + hashlib.sha256(data).digest()).hexdigest()


def function_of(weights: str, config: dict[str, Any], preprocessing: Preprocessing) -> str:
    """Digest of what decides the embeddings of an image, from the weights' fingerprint on: 64 hexadecimal digits.

    Settings of the architecture that are the defaults count as if they were not there.
    """
    defaults = {field.name: field.default for field in fields(open_clip.CLIPVisionCfg)}
    vision = {name: it for name, it in config["vision_cfg"].items() if it != defaults.get(name, _NO_DEFAULT)}
    vision.pop("timm_model_pretrained", None)  # open_clip writes it where it makes the model
    described = [weights, config["embed_dim"], vision, bool(config.get("quick_gelu")), preprocessing.to_config()]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
