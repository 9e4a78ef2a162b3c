"""ProLIP: the image tower's last projection is fine-tuned and held near the one it was trained with.

M. Fahes et al., "CLIP's visual embedding projector is a few-shot cornucopia", 2024, https://arxiv.org/abs/2410.05270;
the authors' code: https://github.com/astra-vision/ProLIP. With pooled states x before the projection W, whose
pretrained value is W0, zero-shot weights t_k and logit scale s, the logits are s cos(x W, t_k), and what is minimised
over W is

    cross-entropy + lambda ||W - W0||_F^2,

by Adam with eps 1e-4, in 300 steps with all images and a step size that falls along a cosine. lambda is one over the
number of images a rank, as the authors have it without a validation set. They show that step sizes from 1e-5 to 1e-2
are then alike, and mostly take 1e-5. On small CLIPs they are not: two folds of the drawn images choose one of the ends
by the ranked probability score, and with one image a rank, where there are no folds, it is 1e-5. The authors show
another augmented view of each image in every step. A bias of the projection stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from folds import folds_of
from tasks import Task
from torch import Tensor, nn
from torch.nn import functional as F

from peers.words import words_of
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._ordinal.decisions import ranked_scores

N_STEPS, RATES, N_HELD_OUT = 300, (1e-5, 1e-2), 2
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


def prolip(task: Task, drawn: np.ndarray, seed: int) -> OfPooled:
    """ProLIP on the pooled states of the parts, without which it is left out of a run."""
    assert task.train.pooled is not None
    tower = Tower.of(task)
    before = before_projection(task.backbone)
    x, target = before(task.train.pooled[drawn]), torch.from_numpy(task.train.target[drawn])
    check_projection(task, drawn, x @ tower.projection + tower.bias)
    tuned = tower.tuned(x, target, rate_by_folds(tower, x, target, seed))
    return OfPooled(lambda states: tuned.probabilities(before(states)))


@dataclass(frozen=True)
class Tower:
    """The end of an image tower: what is tuned, and the words that its embeddings are compared with."""

    projection: Tensor  # (P, D)
    bias: Tensor  # (D,)
    words: Tensor  # (K, D), times the logit scale

    @staticmethod
    def of(task: Task) -> Tower:
        words, scale = words_of(task)
        return Tower(*projection_of(task.backbone), scale * words)

    def logits(self, x: Tensor) -> Tensor:
        return F.normalize(x @ self.projection + self.bias) @ self.words.T

    def probabilities(self, x: Tensor) -> np.ndarray:
        return self.logits(x).softmax(dim=1).numpy()

    def tuned(self, x: Tensor, target: Tensor, rate: float) -> Tower:
        penalty = len(torch.unique(target)) / len(target)
        learned = replace(self, projection=self.projection.clone().requires_grad_())
        optimizer = torch.optim.Adam([learned.projection], lr=rate, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
        for _ in range(N_STEPS):
            moved = (learned.projection - self.projection).square().sum()
            loss = F.cross_entropy(learned.logits(x), target) + penalty * moved
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return replace(learned, projection=learned.projection.detach())


def rate_by_folds(tower: Tower, x: Tensor, target: Tensor, seed: int) -> float:
    """The step size that is best on folds; the smallest where there are none."""
    scores = np.zeros(len(RATES))
    for train, held_out in folds_of(target.numpy(), seed)[:N_HELD_OUT]:
        for i, rate in enumerate(RATES):
            probabilities = tower.tuned(x[train], target[train], rate).probabilities(x[held_out])
            scores[i] += ranked_scores(probabilities, target[held_out].numpy()).sum()
    return RATES[scores.argmin()]


def before_projection(backbone: str) -> Callable[[np.ndarray], Tensor]:
    """Map pooled states to what the last linear map reads: the hidden layer, of a tower that ends with two maps."""
    mlp = getattr(getattr(load_backbone(BackboneSource(backbone)).model.visual, "head", None), "mlp", None)

    @torch.inference_mode()
    def hidden(states: np.ndarray) -> Tensor:
        x = torch.from_numpy(states).float()
        return x if mlp is None else mlp.norm(mlp.act(mlp.fc1(x)))

    return lambda states: hidden(states).clone()


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
