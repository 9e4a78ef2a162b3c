"""What is kept of the training by images that it does not see, and when they end it."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skl2rclip._ordinal.decisions import ranked_scores, read_out
from skl2rclip._settings import Settings
from skl2rclip._training.learner import EncodedImages, Learner, TrainingData

_log = logging.getLogger(__name__)
# probability whose logarithm is still a number
_MIN_PROBABILITY = 1e-300


class EarlyStopping:
    """Watches images that training does not see, and keeps the best weights, in memory.

    With soft targets a result is better if its ranked probability score is smaller; else if its mean absolute error in
    rank values is, or that is equal and the cross-entropy smaller. Pixels are held at the tower's own resolution.
    """

    def __init__(self, data: TrainingData, settings: Settings, rank_values: np.ndarray):
        self.data = data
        self._values = rank_values
        self._decision = settings.decision
        self._patience = settings.n_iter_no_change
        self._monitored = ("validation_rps",) if settings.is_soft else ("validation_mae", "validation_loss")
        self._best: tuple[float, ...] = (math.inf,)
        self._best_state: dict[str, Tensor] | None = None
        self._without_improvement = 0

    def begin(self) -> None:
        """Begin to count for another stage; the best weights so far stay."""
        self._without_improvement = 0

    def state(self) -> dict[str, Any]:
        """Return what has been kept and counted so far."""
        return {"best": self._best, "weights": self._best_state, "without_improvement": self._without_improvement}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._best, self._best_state = tuple(state["best"]), state["weights"]
        self._without_improvement = state["without_improvement"]

    @property
    def is_over(self) -> bool:
        """Whether the stage has gone on without improvement for as long as is allowed."""
        return self._without_improvement >= self._patience

    @torch.no_grad()
    def update(self, learner: Learner, images: EncodedImages) -> dict[str, float]:
        """Score the present weights by what the tower makes of the held-out images; keep the best weights."""
        scores = learner.group.broadcast(self._score(learner, images))  # all processes stop together
        result = tuple(scores[name] for name in self._monitored)
        if result < self._best:
            self._best = result
            self._best_state = copy.deepcopy(learner.modules().state_dict())
            self._without_improvement = 0
        else:
            self._without_improvement += 1
        return scores

    def _score(self, learner: Learner, images: EncodedImages) -> dict[str, float]:
        data = self.data
        weight = np.ones(len(data.target)) if data.weight is None else data.weight.cpu().double().numpy()
        values, target = self._values, data.target.cpu().numpy()
        probabilities = learner.probabilities(images)
        error = np.abs(values[read_out(probabilities, values, self._decision)] - values[target])
        of_target = np.maximum(probabilities[np.arange(len(target)), target], _MIN_PROBABILITY)
        return {
            "validation_mae": float(np.average(error, weights=weight)),
            "validation_loss": float(np.average(-np.log(of_target), weights=weight)),
            "validation_rps": float(np.average(ranked_scores(probabilities, target), weights=weight)),
        }

    def restore(self, learner: Learner) -> None:
        """Put the best weights back."""
        if self._best_state is not None:
            learner.modules().load_state_dict(self._best_state)

    def kept_epoch(self, learner: Learner) -> int:
        """Return the epoch of the best weights, 0 where that is the start."""
        return len(learner.history) if self._best_state is None else learner.epoch_of(self._best_scores())

    def log_kept(self, learner: Learner) -> None:
        """Say of which epoch the best weights are."""
        if self._best_state is not None:
            _log.info("Kept what was learned by epoch %d: %s.", self.kept_epoch(learner), self._best_scores())

    def _best_scores(self) -> dict[str, float]:
        return dict(zip(self._monitored, self._best, strict=True))
