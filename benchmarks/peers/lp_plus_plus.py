"""LP++: a linear probe whose weights blend what images and what words say of a rank.

Y. Huang et al., "LP++: A surprisingly strong linear probe for few-shot CLIP", CVPR 2024,
https://arxiv.org/abs/2404.02285; the authors' code: https://github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline.
The logits of an embedding f are f^T (w_k + alpha_k t_k) with the zero-shot weights t_k. The mean cross-entropy of the n
training images is convex in w and alpha, which take turns at gradient steps of one over the Lipschitz constants of
their blocks,

    lambda_max(F^T F) / (4 n)  for w,  max over k of sum_i (f_i^T t_k)^2 / (4 n)  for alpha:

300 steps for w, after every tenth of which alpha makes one. All images are in every step. Each w_k starts as the sum of
its rank's embeddings, and all alpha as 250 times the mean, over the ranks, of the mean similarity of their images to
their words. Factor 250 is meant for CLIP, whose logit scale is 100: on another backbone it is in proportion. The
authors keep the step that is best on a validation set as large as the training set, and their code has momentum 0.9
where the paper has none. Here folds of the drawn images choose both by the ranked probability score; with one image a
rank there are no folds, and it is the last step without momentum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from folds import folds_of
from scipy.special import softmax
from tasks import Task

from peers.words import words_of
from skl2rclip._ordinal.decisions import ranked_scores

if TYPE_CHECKING:
    from methods import Predictor

N_CYCLES, CYCLE, MOMENTA = 30, 10, (0.0, 0.9)
INITIAL_FACTOR, ITS_LOGIT_SCALE = 250.0, 100.0


def lp_plus_plus(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """LP++, with the momentum and as many steps as folds choose."""
    Z, target = task.train.Z[drawn], task.train.target[drawn]
    words, scale = words_of(task)
    t, factor = words.numpy(), INITIAL_FACTOR * scale / ITS_LOGIT_SCALE
    momentum, n_cycles = by_folds(Z, target, t, factor, seed)
    *_, weights = descent(Z, target, t, factor, momentum, n_cycles)
    return lambda embeddings: softmax(embeddings @ weights.T, axis=1)


def descent(
    Z: np.ndarray, target: np.ndarray, t: np.ndarray, factor: float, momentum: float, n_cycles: int
) -> Iterator[np.ndarray]:
    """Weights w_k + alpha_k t_k of all ranks (K, D) after each cycle of block-coordinate descent."""
    n, one_hot, similarity = len(Z), np.eye(len(t), dtype=Z.dtype)[target], Z @ t.T  # (n, K)
    step_w = 4 * n / np.linalg.eigvalsh(Z.T @ Z)[-1]
    step_alpha = 4 * n / np.square(similarity).sum(axis=0).max()
    w, alpha = one_hot.T @ Z, np.full(len(t), factor * mean_similarity(similarity, target), dtype=Z.dtype)
    velocity = np.zeros_like(w)

    def residuals() -> np.ndarray:
        return (softmax(Z @ w.T + alpha * similarity, axis=1) - one_hot) / n

    for _ in range(n_cycles):
        for _ in range(CYCLE):
            velocity = momentum * velocity + residuals().T @ Z
            w -= step_w * velocity
        alpha -= step_alpha * (residuals() * similarity).sum(axis=0)
        yield w + alpha[:, None] * t


def mean_similarity(similarity: np.ndarray, target: np.ndarray) -> float:
    """Of the images of a rank to its own words, mean over the ranks that have images."""
    return float(np.mean([similarity[target == k, k].mean() for k in np.unique(target)]))


def by_folds(Z: np.ndarray, target: np.ndarray, t: np.ndarray, factor: float, seed: int) -> tuple[float, int]:
    """Momentum and number of cycles that are best on folds; none and all where there are no folds."""
    folds, scores = folds_of(target, seed), np.zeros((len(MOMENTA), N_CYCLES))
    for train, held_out in folds:
        for i, momentum in enumerate(MOMENTA):
            for j, weights in enumerate(descent(Z[train], target[train], t, factor, momentum, N_CYCLES)):
                scores[i, j] += ranked_scores(softmax(Z[held_out] @ weights.T, axis=1), target[held_out]).sum()
    if not folds:
        return MOMENTA[0], N_CYCLES
    i, j = np.unravel_index(scores.argmin(), scores.shape)
    return MOMENTA[i], int(j) + 1
