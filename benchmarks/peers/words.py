"""What the peers start from: text embeddings of the ranks, and the backbone's logit scale."""

from __future__ import annotations

import functools

import torch
from tasks import Task
from torch import Tensor

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource


def words_of(task: Task) -> tuple[Tensor, float]:
    """Zero-shot weights of all ranks as unit rows (K, D), and the factor of their similarities."""
    return torch.from_numpy(_zero_shot_weights(task.backbone, task.prompt, task.names)), logit_scale_of(task)


def logit_scale_of(task: Task) -> float:
    return load_backbone(BackboneSource(task.backbone)).logit_scale


@functools.lru_cache(maxsize=64)
def _zero_shot_weights(backbone: str, prompt: str, names: tuple[str, ...]):
    model = L2RCLIPClassifier(
        backbone, prompt=prompt, ranks=list(range(len(names))), rank_names=list(names), image_tower="precomputed"
    )
    return model.fit_zero_shot().prototypes_
