"""What is kept of the training: by held-out images, or by comparing candidates on images that they miss.

Nothing is optimised here but what a contest adds to a step.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._ordinal.decisions import ranked_scores, read_out
from skl2rclip._settings import Settings
from skl2rclip._training.learner import Batch, Learner, TrainingData

_log = logging.getLogger(__name__)


class EarlyStopping:
    """Watches images that training does not see, and keeps the best weights, in memory.

    With soft targets a result is better if its ranked probability score is smaller; else if its mean absolute error in
    rank values is, or that is equal and the cross-entropy smaller.

    Parameters
    ----------
    data : TrainingData
        Of the held-out images; ``pixels`` at the tower's own resolution.
    settings : Settings
        For the read-out of the predictions that are scored, and the epochs without a better result after which a stage
        ends.
    rank_values : ndarray of shape (K,), float64
    """

    def __init__(self, data: TrainingData, settings: Settings, rank_values: np.ndarray):
        self.data = data
        self._values = rank_values
        self._decision = settings.decision
        self._patience = settings.n_iter_no_change
        self._judged_by = ("validation_rps",) if settings.is_soft else ("validation_mae", "validation_loss")
        self._best: tuple[float, ...] = (math.inf,)
        self._best_state: dict[str, Tensor] | None = None
        self._without_improvement = 0

    def begin(self) -> None:
        """Begin to count for another stage; the best weights so far stay."""
        self._without_improvement = 0

    @property
    def is_over(self) -> bool:
        """Whether the stage has gone on without improvement for as long as is allowed."""
        return self._without_improvement >= self._patience

    @torch.no_grad()
    def update(self, learner: Learner, embeddings: Tensor) -> dict[str, float]:
        """Score the present weights, keep them if they are the best so far, and return the scores.

        Parameters
        ----------
        learner : Learner
        embeddings : tensor of shape (n, D)
            Of the held-out images, as they are now.
        """
        scores = self._score(learner, embeddings)
        if learner.group is not None:  # all processes stop together
            scores = learner.group.as_the_first(scores)
        result = tuple(scores[name] for name in self._judged_by)
        if result < self._best:
            self._best = result
            self._best_state = copy.deepcopy(learner.modules().state_dict())
            self._without_improvement = 0
        else:
            self._without_improvement += 1
        return scores

    def _score(self, learner: Learner, embeddings: Tensor) -> dict[str, float]:
        data = self.data
        logits = learner.objective.logit_scale * embeddings @ learner.prototypes().T  # (n, K)
        weight = torch.ones(len(logits), device=logits.device) if data.weight is None else data.weight
        loss = (weight * F.cross_entropy(logits, data.target, reduction="none")).sum() / weight.sum()
        values = self._values
        probabilities, target = logits.cpu().double().softmax(dim=1).numpy(), data.target.cpu().numpy()
        error = np.abs(values[read_out(probabilities, values, self._decision)] - values[target])
        return {
            "validation_mae": float(np.average(error, weights=weight.cpu().numpy())),
            "validation_loss": loss.item(),
            "validation_rps": float(np.average(ranked_scores(probabilities, target), weights=weight.cpu().numpy())),
        }

    def restore(self, learner: Learner) -> None:
        """Put the best weights back."""
        if self._best_state is not None:
            learner.modules().load_state_dict(self._best_state)

    def log_kept(self, learner: Learner) -> None:
        """Say of which epoch the best weights are."""
        if self._best_state is not None:
            _log_kept(learner, dict(zip(self._judged_by, self._best, strict=True)))


class Contest:
    """Candidates for the targets, each with adapters of its own, trained side by side on the same prompts.

    Beside the adapter that sees everything, each candidate has one for each fold of the images, which misses that fold.
    What these say of the images that they miss, by the ranked probability score, tells which candidate to take, and
    how far training may go. The text tower, which a step costs, runs once for all.

    Parameters
    ----------
    data : TrainingData
    adapters : RidgeAdapter
        C (1 + F) maps: of each candidate the one that sees everything first, then one for each fold.
    around_fit : tensor of shape (1 + F, n, K)
        Targets of the first candidate, for each of its maps.
    around_labels : tensor of shape (C - 1, K, K)
        Targets of each other candidate, which are the same for all its maps and all images of a rank.
    fold : tensor of shape (n,), int64
        Which fold an image is in.
    every : int, default=1
        Epochs between two looks.
    """

    def __init__(
        self,
        data: TrainingData,
        adapters: RidgeAdapter,
        around_fit: Tensor,
        around_labels: Tensor,
        fold: Tensor,
        every: int = 1,
    ):
        self.adapters, self.fold = adapters, fold
        self._data, self._around_fit, self._around_labels = data, around_fit, around_labels
        self._every = every
        self._n_maps = len(around_fit)  # of a candidate
        self._rows_of_folds = [torch.nonzero(fold == number)[:, 0] for number in range(self._n_maps - 1)]
        self._n_epochs = 0
        self._best: tuple[float, dict[str, Tensor], list[RidgeAdapter]] | None = None

    @property
    def adapters_of_folds(self) -> list[RidgeAdapter]:
        """Of the candidate that foretold best, the adapters that each miss a fold."""
        assert self._best is not None
        return self._best[2][1:]

    def distributions(self, batch: Batch) -> Tensor:
        """Return the targets of the images of a batch for each map, tensor of shape (C, 1 + F, n, K)."""
        around_labels = self._around_labels[:, batch.target]  # (C - 1, n, K)
        others = around_labels[:, None].expand(-1, self._n_maps, -1, -1)
        return torch.cat([self._around_fit[None, :, batch.rows], others])

    def step(self, learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the gradients of a batch; return loss and terms, the mean over the candidates.

        The folds' adapters leave the prompts alone.
        """
        prototypes, distributions = learner.prototypes(), self.distributions(batch)
        adapted = self.adapters.all(batch.inputs).unflatten(0, distributions.shape[:2])  # (C, 1 + F, n, D)
        # without the images of each fold
        seen = (self.fold[batch.rows] != torch.arange(self._n_maps - 1, device=self.fold.device)[:, None]).float()
        if batch.weight is not None:
            seen = seen * batch.weight
        seen = seen.expand(len(adapted), *seen.shape)  # (C, F, n)
        losses, terms = learner.loss(adapted[:, 0], prototypes, replace(batch, distributions=distributions[:, 0]))
        of_folds = replace(batch, weight=seen, distributions=distributions[:, 1:])
        losses_of_folds, _ = learner.loss(adapted[:, 1:], prototypes.detach(), of_folds)
        loss = losses.mean()
        total = loss + losses_of_folds.sum()
        if total.requires_grad:
            total.backward()
        return loss, terms.mean(dim=1)

    @torch.no_grad()
    def look(self, learner: Learner, *, now: bool = False) -> dict[str, float]:
        """Give the learner the adapter of the candidate that foretells best at present, and return its score."""
        self._n_epochs += not now
        if self._n_epochs % self._every and not now:
            return {}
        weight = self._data.weight
        each = self._scores_of_missed(learner)
        scores = np.average(each, axis=1, weights=None if weight is None else weight.cpu().numpy()).tolist()
        if learner.group is not None:
            scores = learner.group.as_the_first(scores)
        best = int(np.argmin(scores))
        places = range(best * self._n_maps, (best + 1) * self._n_maps)
        learner.adapter = self.adapters.copy_of(places[0])
        if self._best is None or scores[best] < self._best[0]:
            of_folds = [self.adapters.copy_of(place) for place in places[1:]]
            self._best = (scores[best], copy.deepcopy(learner.prompts.state_dict()), [learner.adapter, *of_folds])
        return {"cross_fitted_rps": scores[best]}

    def _scores_of_missed(self, learner: Learner) -> np.ndarray:
        """Score what the adapters of each candidate say, each of the images that it misses, ndarray of shape (C, n)."""
        data, prototypes = self._data, learner.prototypes()
        assert data.embeddings is not None
        scores = np.empty((len(self._around_labels) + 1, len(self.fold)))
        for number, rows in enumerate(self._rows_of_folds):
            adapted = self.adapters.all(data.embeddings[rows], slice(number + 1, None, self._n_maps))  # (C, rows, D)
            logits = learner.objective.logit_scale * adapted @ prototypes.T
            probabilities, target = logits.cpu().double().softmax(dim=-1).numpy(), data.target[rows].cpu().numpy()
            scores[:, rows.cpu().numpy()] = [ranked_scores(each, target) for each in probabilities]
        return scores

    def restore(self, learner: Learner) -> None:
        """Give the learner the prompts and the adapter that foretold best."""
        assert self._best is not None
        _, prompts, [learner.adapter, *_] = self._best
        learner.prompts.load_state_dict(prompts)

    def log_kept(self, learner: Learner) -> None:
        """Say of which epoch they are."""
        assert self._best is not None
        _log_kept(learner, {"cross_fitted_rps": self._best[0]})


def _log_kept(learner: Learner, scores: dict[str, float]) -> None:
    """Say of which epoch the weights are: the first that has these scores, or none where the start was best."""
    epochs = [record["epoch"] for record in learner.history if scores.items() <= record.items()]
    _log.info("Kept what was learned by epoch %d: %s.", epochs[0] if epochs else 0, scores)


def split_off_validation(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """Choose validation images evenly along the ranks, and never the only image of a rank.

    scikit-learn's stratified splits refuse ranks with a single image and sets smaller than the number of ranks, both
    common among ages; ordered labels allow to take every so-many-th image of the sorted set instead.

    Parameters
    ----------
    target : ndarray of shape (n,), int
        Index of each image's rank.
    fraction : float
        Share to hold out, in (0, 1).
    generator : numpy Generator
    groups : ndarray of shape (n,), optional
        Images of one group are held out together, or not at all.

    Returns
    -------
    ndarray of shape (n,), bool
        True for the images to hold out.
    """
    if groups is not None:
        return _split_off_groups(target, fraction, generator, groups)
    shuffled = generator.permutation(len(target))
    by_rank = shuffled[np.argsort(target[shuffled], kind="stable")]
    counts = np.bincount(target)
    place = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the rank
    candidates = by_rank[place > 0]
    n_held_out = min(max(1, round(fraction * len(target))), len(candidates))
    held_out = np.zeros(len(target), dtype=bool)
    if n_held_out:
        offset = generator.random()
        every = len(candidates) / n_held_out
        held_out[candidates[((np.arange(n_held_out) + offset) * every).astype(int)]] = True
    return held_out


def _split_off_groups(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray
) -> np.ndarray:
    """Choose whole groups along the ranks, none that a rank would lose its last image with."""
    group = np.unique(groups, return_inverse=True)[1]
    mean_rank = np.bincount(group, target) / np.bincount(group)
    shuffled = generator.permutation(len(mean_rank))
    by_rank = shuffled[np.argsort(mean_rank[shuffled], kind="stable")]
    # from one end of the scale to the other in strides, so that few groups already stand for all ranks
    stride = max(1, round(1 / fraction))
    offset = int(generator.integers(stride))
    order = np.concatenate([by_rank[(offset + first) % stride :: stride] for first in range(stride)])
    left, held_out = np.bincount(target), np.zeros(len(target), dtype=bool)
    wanted = max(1, round(fraction * len(target)))
    # groups that are too large by themselves come last, the smaller ones first, and never half of the images
    sizes = np.bincount(group)
    is_large = sizes[order] > wanted
    large = order[is_large]
    for number in [*order[~is_large], *large[np.argsort(sizes[large], kind="stable")]]:
        members = group == number
        counts = np.bincount(target[members], minlength=len(left))
        if held_out.sum() >= wanted:
            break
        overshoots = held_out.any() and held_out.sum() + sizes[number] > 2 * wanted
        if (counts < left)[counts > 0].all() and sizes[number] <= len(target) / 2 and not overshoots:
            held_out |= members
            left = left - counts
    return held_out
