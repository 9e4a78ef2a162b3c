"""CLIP models of a few thousand weights, written as folders that ``local-dir:`` reads."""

from __future__ import annotations

import json

import open_clip
import torch
from safetensors.torch import save_file

VIT = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
CONFIGS = {
    "clip": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "custom_text": {"embed_dim": 24, "custom_text": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "quick_gelu_resnet": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
        "text_cfg": {**TEXT, "context_length": 40},
    },
    "eos_linear_head": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VIT, "ls_init_value": 0.5},
        "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407, "proj_bias": True, "ls_init_value": 0.5},
    },
}


def write_model(folder, config, *, seed=0, weights=True, preprocess=None):
    """Write a small open_clip model as a folder that ``local-dir:`` reads, and return its `model_name`."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "model_cfg": config,
        "preprocess_cfg": preprocess or {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    name = f"local-dir:{folder}"
    (folder / "model.safetensors").unlink(missing_ok=True)
    if weights:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = open_clip.create_model(name, require_pretrained=False)
            for parameter in model.parameters():  # biases and gains that start at zero or one must count too
                parameter.data += 0.02 * torch.randn_like(parameter)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    return name
