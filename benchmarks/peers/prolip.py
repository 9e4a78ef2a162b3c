"""ProLIP: the image tower's last projection is fine-tuned and held near the one it was trained with.

M. Fahes et al., "CLIP's visual embedding projector is a few-shot cornucopia", 2024, https://arxiv.org/abs/2410.05270;
the authors' code: https://github.com/astra-vision/ProLIP. With pooled states x before the projection W, whose
pretrained value is W0, zero-shot weights t_k and logit scale s, the logits are s cos(x W, t_k), and what is minimised
over W is

    cross-entropy + lambda ||W - W0||_F^2,

by Adam with eps 1e-4, in 300 steps with all images and a step size that falls along a cosine. lambda is one over the
number of images a rank, as the authors have it without a validation set. They show that step sizes from 1e-5 to 1e-2
are then alike, and mostly take 1e-5, with which our small CLIPs stay nearly as they are: here it is 1e-2. They show
another augmented view of each image in every step. A bias of the projection stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tasks import Task
from torch import Tensor, nn
from torch.nn import functional as F

from peers.words import words_of
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource

N_STEPS, RATE = 300, 1e-2
# of an embedding and the projected state, by which another state or projection would be noticed
TOLERANCE = 1e-3


@dataclass(frozen=True)
class OfPooled:
    """A predictor that is to be given pooled states where the others are given embeddings."""

    predict: Callable[[np.ndarray], np.ndarray]

    def __call__(self, pooled: np.ndarray) -> np.ndarray:
        return self.predict(pooled)


def has_pooled(task: Task) -> bool:
    return all(part.pooled is not None for part in (task.train, task.validation, task.test))


def prolip(task: Task, drawn: np.ndarray, seed: int, *, rate: float = RATE) -> OfPooled:
    """ProLIP on the pooled states of the parts, without which it is left out of a run."""
    pooled, target = torch.from_numpy(task.train.pooled[drawn]).float(), torch.from_numpy(task.train.target[drawn])
    words, scale = words_of(task)
    pretrained, bias = projection_of(task.backbone)
    check_projection(task, drawn, pooled @ pretrained + bias)
    penalty = len(torch.unique(target)) / len(target)
    projection = pretrained.clone().requires_grad_()
    optimizer = torch.optim.Adam([projection], lr=rate, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
    for _ in range(N_STEPS):
        logits = scale * F.normalize(pooled @ projection + bias) @ words.T
        loss = F.cross_entropy(logits, target) + penalty * (projection - pretrained).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    learned = projection.detach()

    def predict(states: np.ndarray) -> np.ndarray:
        projected = F.normalize(torch.from_numpy(states).float() @ learned + bias)
        return (scale * projected @ words.T).softmax(dim=1).numpy()

    return OfPooled(predict)


def projection_of(backbone: str) -> tuple[Tensor, Tensor]:
    """Weight (P, D) and bias (D,) of the linear map that the image tower ends with; zeros where it has no bias."""
    tower = load_backbone(BackboneSource(backbone)).model.visual
    if isinstance(proj := getattr(tower, "proj", None), Tensor):  # open_clip's own vision transformers
        return proj.detach(), torch.zeros(proj.shape[1])
    *_, last = [module for module in tower.modules() if isinstance(module, nn.Linear)]
    bias = torch.zeros(last.out_features) if last.bias is None else last.bias.detach()
    return last.weight.detach().T, bias


def check_projection(task: Task, drawn: np.ndarray, projected: Tensor) -> None:
    """Refuse pooled states that the projection does not make the embeddings of."""
    gap = float((F.normalize(projected) - torch.from_numpy(task.train.Z[drawn])).abs().max())
    if gap > TOLERANCE:
        raise ValueError(
            f"ProLIP: the pooled states of {task.name}, projected by the last layer of {task.backbone}, differ from "
            f"the embeddings by up to {gap:.2g}. Part.pooled must hold what that layer reads."
        )
