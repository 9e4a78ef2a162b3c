"""skl2rclip-tiny: the small CLIP inside the package, which needs no download.

Its files are read here and become an ordinary open_clip model; ``_clip.backbone`` gives it its place among the others.
What it has learned, and how to make it again, is told in ``docs/skl2rclip-tiny.md``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor

EMBEDDED_NAME = "skl2rclip-tiny"
_FOLDER = Path(__file__).with_name(EMBEDDED_NAME)


def _description() -> dict[str, Any]:
    return json.loads((_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))


def embedded_config() -> dict[str, Any]:
    """Architecture as open_clip describes it."""
    return _description()["model_cfg"]


def embedded_tokenizer() -> SimpleTokenizer:
    """CLIP's own tokenizer, with the model's context."""
    return SimpleTokenizer(context_length=embedded_config()["text_cfg"]["context_length"])


def load_embedded() -> open_clip.CLIP:
    """Build the model, in float32 on the CPU.

    The file holds half-precision weights, and of the token embeddings the rows that training has seen; the others are
    drawn with the same mean and deviation, always the same ones, so that unknown words are at least distinct.
    """
    description = _description()
    weights = {name: tensor.float() for name, tensor in load_file(_FOLDER / "weights.safetensors").items()}
    seen = weights.pop("seen_tokens").long()
    weights["token_embedding.weight"] = _full_table(
        weights["token_embedding.weight"], seen, description["model_cfg"]["text_cfg"]["vocab_size"]
    )
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are overwritten
        model = open_clip.CLIP(**description["model_cfg"])
    model.load_state_dict(weights)
    model.visual.preprocess_cfg = description["preprocess_cfg"]
    return model


def _full_table(rows: Tensor, seen: Tensor, n_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    table = rows.mean() + rows.std() * torch.randn(n_tokens, rows.shape[1], generator=generator)
    table[seen] = rows
    return table
