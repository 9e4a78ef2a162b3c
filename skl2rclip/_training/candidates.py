"""What is kept of the training by comparing candidates on images that they miss.

Nothing is optimised here but what a candidate selection adds to a step.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.mixing import mixed_share
from skl2rclip._training.learner import Batch, Learner, TrainingData

_log = logging.getLogger(__name__)


class CandidateSelection:
    """Candidates for the targets, each with adapters of its own, trained side by side on the same prompts.

    Beside the adapter that sees everything, each candidate has one for each fold of the images, which misses that fold.
    What these say of the images that they miss, by the ranked probability score, tells which candidate to take, and how
    far training may go. The text tower, which a step costs, runs once for all.
    """

    def __init__(
        self,
        data: TrainingData,
        adapters: RidgeAdapter,  # C (1 + F) maps: of each candidate the one that sees everything, then one a fold
        around_fit: Tensor,  # (1 + F, n, K), targets of the first candidate for each of its maps
        around_labels: Tensor,  # (C - 1, K, K), targets of each other candidate, by an image's rank
        fold: Tensor,  # (n,), int64, which fold an image is in
        blocks: np.ndarray,  # (n,), what is left out together
        every: int = 1,  # Epochs between two evaluations
    ):
        self.adapters, self.fold = adapters, fold
        self._data, self._around_fit, self._around_labels = data, around_fit, around_labels
        assert data.images is not None
        self._predicted = data.images.predicted
        self._every, self._blocks = every, blocks
        self._n_maps = len(around_fit)  # of a candidate
        self._rows_of_folds = [torch.nonzero(fold == number)[:, 0] for number in range(self._n_maps - 1)]
        self._n_epochs = 0
        self._best: tuple[float, dict[str, dict[str, Tensor]], list[RidgeAdapter]] | None = None

    @property
    def adapters_of_folds(self) -> list[RidgeAdapter]:
        """Of the candidate with the best out-of-fold score, the adapters that each miss a fold."""
        assert self._best is not None
        return self._best[2][1:]

    def distributions(self, batch: Batch) -> Tensor:
        """Return the targets of the images of a batch for each map, tensor of shape (C, 1 + F, n, K)."""
        around_labels = self._around_labels[:, batch.target]  # (C - 1, n, K)
        others = around_labels[:, None].expand(-1, self._n_maps, -1, -1)
        return torch.cat([self._around_fit[None, :, batch.rows], others])

    def step(self, learner: Learner, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
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
        return loss, {name: term.mean() for name, term in terms.items()}

    @torch.no_grad()
    def evaluate(self, learner: Learner, *, now: bool = False) -> dict[str, float]:
        """Give the learner the adapter with the best out-of-fold score at present, and return that score.

        The share of zero-shot beside it is measured on what the folds' adapters say of the images that they miss.
        """
        self._n_epochs += not now
        if self._n_epochs % self._every and not now:
            return {}
        target = self._data.target.cpu().numpy()
        weight = None if self._data.weight is None else self._data.weight.cpu().numpy()
        logits = self._logits_of_missed(learner)
        each = [ranked_scores(softmax(of_candidate, axis=-1).mean(axis=1), target) for of_candidate in logits]
        scores = learner.group.broadcast([float(np.average(row, weights=weight)) for row in each])
        best = int(np.argmin(scores))
        zero_shot = learner.measured_share
        if zero_shot is not None:
            assert self._predicted.embeddings is not None
            names = learner.objective.logits(self._predicted.embeddings, zero_shot.prototypes)
            of_names = names.cpu().double().numpy().reshape(logits[best].shape)
            share = mixed_share(logits[best], of_names, target, weight, self._blocks)
            zero_shot.share.fill_(learner.group.broadcast(share))
        places = range(best * self._n_maps, (best + 1) * self._n_maps)
        learner.adapter = self.adapters.copy_of(places[0])
        if self._best is None or scores[best] < self._best[0]:
            of_folds = [self.adapters.copy_of(place) for place in places[1:]]
            kept = {"prompts": learner.prompts, "zero_shot": learner.zero_shot}
            weights = {name: copy.deepcopy(module.state_dict()) for name, module in kept.items() if module is not None}
            self._best = (scores[best], weights, [learner.adapter, *of_folds])
        return {"cross_fitted_rps": scores[best]}

    def state(self) -> dict[str, Any]:
        """Return the weights of all candidates, and what has scored best so far."""
        assert self._best is not None
        score, weights, adapters = self._best
        best = {"score": score, "weights": weights, "adapters": [adapter.state_dict() for adapter in adapters]}
        return {"adapters": self.adapters.state_dict(), "n_epochs": self._n_epochs, "best": best}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.adapters.load_state_dict(state["adapters"])
        self._n_epochs, best = state["n_epochs"], state["best"]
        adapters = [self.adapters.copy_of(0) for _ in best["adapters"]]
        for adapter, weights in zip(adapters, best["adapters"], strict=True):
            adapter.load_state_dict(weights)
        self._best = (best["score"], best["weights"], adapters)

    def _logits_of_missed(self, learner: Learner) -> np.ndarray:
        """Out-of-fold logits of the adapters of each candidate, ndarray of shape (C, n, views, K), float64."""
        n_views, prototypes = self._predicted.views.n, learner.prototypes()
        features = self._predicted.features.unflatten(0, (-1, n_views))
        logits = np.empty((len(self._around_labels) + 1, len(self.fold), n_views, len(prototypes)))
        for number, rows in enumerate(self._rows_of_folds):
            maps = slice(number + 1, None, self._n_maps)
            adapted = self.adapters.all(features[rows].flatten(0, 1), maps)  # (C, rows views, D)
            of_fold = learner.objective.logits(adapted, prototypes).unflatten(1, (-1, n_views))
            logits[:, rows.cpu().numpy()] = of_fold.cpu().double().numpy()
        return logits

    def restore(self, learner: Learner) -> None:
        """Give the learner the prompts and the adapter with the best out-of-fold score, and its share of zero-shot."""
        assert self._best is not None
        _, weights, [learner.adapter, *_] = self._best
        for name, of_module in weights.items():
            learner.modules()[name].load_state_dict(of_module)

    def kept_epoch(self, learner: Learner) -> int:
        """Return the epoch that they are of, 0 where that is the start."""
        return learner.epoch_of(self._best_scores())

    def log_kept(self, learner: Learner) -> None:
        """Say of which epoch they are."""
        _log.info("Kept what was learned by epoch %d: %s.", self.kept_epoch(learner), self._best_scores())

    def _best_scores(self) -> dict[str, float]:
        assert self._best is not None
        return {"cross_fitted_rps": self._best[0]}
