"""Tip-Adapter-F: zero-shot CLIP beside a cache of the training images, whose keys are fine-tuned.

R. Zhang et al., "Tip-Adapter: Training-free adaption of CLIP for few-shot classification", ECCV 2022,
https://arxiv.org/abs/2111.03930; the authors' code: https://github.com/gaopengcuhk/Tip-Adapter. With the training
embeddings as keys F, their one-hot ranks as values L, zero-shot weights W and logit scale s, the logits of an embedding
f are

    alpha exp(-beta (1 - f F^T)) L + s f W^T,

and F learns by cross-entropy: AdamW with step size 1e-3 and eps 1e-4, falling along a cosine, batches of 256, 20
epochs.

The authors search alpha and beta on a validation set, after the keys have learned. Here folds of the drawn images
choose them, by the ranked probability score and before the keys learn: what suits the keys of a fold does not suit
those of all images, which have learned for longer. With one image a rank there are no folds, and both are 1, a value
from which the authors start. They take keys as means over ten augmented views, and report the epoch that is best on the
test images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from folds import folds_of
from tasks import Task
from torch import Tensor
from torch.nn import functional as F

from peers.words import words_of
from skl2rclip._ordinal.decisions import ranked_scores

if TYPE_CHECKING:
    from methods import Predictor

EPOCHS, BATCH_SIZE, RATE = 20, 256, 1e-3
INITIAL = (1.0, 1.0)
ALPHAS, BETAS = np.geomspace(0.1, 100, 19), np.geomspace(0.1, 30, 16)


def tip_adapter_f(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """Tip-Adapter-F, with alpha and beta that folds choose."""
    Z, target = torch.from_numpy(task.train.Z[drawn]), torch.from_numpy(task.train.target[drawn])
    words, scale = words_of(task)
    alpha, beta = alpha_and_beta(Z, target, scale * words, seed)
    values = alpha * F.one_hot(target, len(words)).float()  # (n, K)
    keys = tuned_keys(Z, target, scale * words, values, beta, seed)

    def predict(embeddings: np.ndarray) -> np.ndarray:
        X = torch.from_numpy(embeddings)
        return (X @ (scale * words).T + from_cache(X, keys, values, beta)).softmax(dim=1).numpy()

    return predict


def from_cache(X: Tensor, keys: Tensor, values: Tensor, beta: float) -> Tensor:
    return torch.exp(-beta * (1 - X @ keys.T)) @ values  # (n, K)


def tuned_keys(Z: Tensor, target: Tensor, words: Tensor, values: Tensor, beta: float, seed: int) -> Tensor:
    """Keys that start as the embeddings and learn; `words` and `values` are with their factors."""
    keys = Z.clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=RATE, eps=1e-4)
    n_steps = EPOCHS * math.ceil(len(Z) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(Z), generator=generator).split(BATCH_SIZE):
            logits = Z[batch] @ words.T + from_cache(Z[batch], keys, values, beta)
            loss = F.cross_entropy(logits, target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return keys.detach()


def alpha_and_beta(Z: Tensor, target: Tensor, words: Tensor, seed: int) -> tuple[float, float]:
    """Those that folds choose with the embeddings as keys; the initial ones where there are no folds."""
    folds, scores = folds_of(target.numpy(), seed), np.zeros((len(ALPHAS), len(BETAS)))
    for train, held_out in folds:
        X, y, values = Z[held_out], target[held_out].numpy(), F.one_hot(target[train], len(words)).float()
        for j, beta in enumerate(BETAS):
            cached = from_cache(X, Z[train], values, beta)
            for i, alpha in enumerate(ALPHAS):
                scores[i, j] += ranked_scores((X @ words.T + alpha * cached).softmax(dim=1).numpy(), y).sum()
    if not folds:
        return INITIAL
    i, j = np.unravel_index(scores.argmin(), scores.shape)
    return float(ALPHAS[i]), float(BETAS[j])
