"""CLAP: a linear probe that starts at the words, and stays near them where they are right.

J. Silva-Rodriguez et al., "A closer look at the few-shot adaptation of large vision-language models", CVPR 2024,
https://arxiv.org/abs/2312.12730; the authors' code: https://github.com/jusiro/CLAP. The logits of an embedding f are s
cos(f, w_k), the prototypes w_k start as the zero-shot weights t_k, and what is minimised is

    cross-entropy + mean over k of lambda_k ||w_k - t_k||^2.

The multipliers lambda_k of the augmented Lagrangian are set once from the zero-shot performance on the training images,
the mean probability that the words give to rank k on its own images, and stay, so that no validation images are needed.
Here t_k are unit rows; the mean over the ranks is as in the authors' code. SGD with momentum 0.9, step size 0.1 that
falls along a cosine after one epoch at 1e-5, batches of 256, 300 epochs. A rank without an image has the mean of the
other multipliers, of which the authors say nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from tasks import Task
from torch import Tensor
from torch.nn import functional as F

from peers.words import words_of

if TYPE_CHECKING:
    from methods import Predictor

EPOCHS, BATCH_SIZE, RATE, WARM_UP_RATE = 300, 256, 0.1, 1e-5


def clap(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """CLAP, of which nothing is chosen."""
    Z, target = torch.from_numpy(task.train.Z[drawn]), torch.from_numpy(task.train.target[drawn])
    words, scale = words_of(task)
    multipliers = multipliers_of(Z, target, words, scale)
    prototypes = words.clone().requires_grad_()
    optimizer = torch.optim.SGD([prototypes], lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(Z), generator=generator).split(BATCH_SIZE):
            logits = scale * Z[batch] @ F.normalize(prototypes).T
            moved = (prototypes - words).square().sum(dim=1)  # (K,)
            loss = F.cross_entropy(logits, target[batch]) + (multipliers * moved).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    weights = scale * F.normalize(prototypes.detach())
    return lambda embeddings: (torch.from_numpy(embeddings) @ weights.T).softmax(dim=1).numpy()


def share_of_rate(epoch: int) -> float:
    """Of the step size: one epoch of warm-up, then the cosine over all epochs."""
    return WARM_UP_RATE / RATE if epoch == 0 else 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))


def multipliers_of(Z: Tensor, target: Tensor, words: Tensor, scale: float) -> Tensor:
    """Mean zero-shot probability of each rank on its own images (K,)."""
    own = (scale * Z @ words.T).softmax(dim=1).gather(1, target[:, None]).squeeze(1)  # (n,)
    n_images = torch.bincount(target, minlength=len(words))
    sums = torch.zeros(len(words)).index_add_(0, target, own)
    seen = n_images > 0
    multipliers = sums / n_images.clamp(min=1)
    return torch.where(seen, multipliers, multipliers[seen].mean())
