"""The small CLIPs that come with the package: skl2rclip-tiny, which needs nothing else, and skl2rclip-photo.

Their files are read here and become ordinary open_clip models; ``_clip.backbone`` gives them their place among the
others. What they have learned, and how to make them again, is told in ``docs/skl2rclip-tiny.md`` and
``docs/skl2rclip-photo.md``.
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

from skl2rclip._clip.photo import PHOTO_NAME, image_network_weights, network_file

EMBEDDED_NAMES = ("skl2rclip-tiny", PHOTO_NAME)


def _folder(name: str) -> Path:
    return Path(__file__).with_name(str(name))  # of a saved model it is no plain string


def _description(name: str) -> dict[str, Any]:
    return json.loads((_folder(name) / "open_clip_config.json").read_text(encoding="utf-8"))


def embedded_config(name: str) -> dict[str, Any]:
    """Architecture as open_clip describes it.

    Raises
    ------
    InvalidParameterError
        If the model needs a package that is not installed.
    """
    if name == PHOTO_NAME:
        network_file()  # before anything is built
    return _description(name)["model_cfg"]


def embedded_tokenizer(name: str) -> SimpleTokenizer:
    """CLIP's own tokenizer, with the model's context."""
    return SimpleTokenizer(context_length=_description(name)["model_cfg"]["text_cfg"]["context_length"])


def load_embedded(name: str) -> open_clip.CLIP:
    """Build the model, in float32 on the CPU.

    The file holds weights in half precision, or as whole numbers with a factor for each row, and of the token
    embeddings the rows that training has seen; the others are drawn with the same mean and deviation, always the same
    ones, so that unknown words are at least distinct.
    """
    description = _description(name)
    stored = load_file(_folder(name) / "weights.safetensors")
    weights = {key: it.float() * stored.get(f"{key}.factor", 1) for key, it in stored.items() if "factor" not in key}
    seen = weights.pop("seen_tokens").long()
    weights["token_embedding.weight"] = _full_table(
        weights["token_embedding.weight"], seen, description["model_cfg"]["text_cfg"]["vocab_size"]
    )
    if name == PHOTO_NAME:
        weights |= image_network_weights()
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
