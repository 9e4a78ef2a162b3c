"""For how many epochs the image tower is trained: selected on images that are left out, before it is trained on all.

The optimisation itself is done by ``_training.stages``.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from skl2rclip._images.preprocessing import shrink
from skl2rclip._ordinal.comparison import mean_and_error
from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.soft_targets import Measurement
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.plan import EPOCH_SELECTION
from skl2rclip._training.stages import StageProgress, TowerStage, run_stage
from skl2rclip._utils.devices import to_device

_log = logging.getLogger(__name__)
# over all epochs
_N_EVALUATIONS = 10
_EMBEDDING_BATCH_SIZE = 256
# images, or groups of them, that are to be scored; with more, not every fold is left out
_MIN_SCORED = 500
# that a gain is chance, one-sided, at any one of twenty evaluations; where it may be, the tower stays as it is
_SIGNIFICANCE_LEVEL = 0.01
# how far to go from the weights before to those after
_SHARES = (0.5, 1.0)


@dataclass(frozen=True)
class EpochSelection:
    """What the scores of images that were left out ask for."""

    last_epoch: int  # how many epochs to train the tower for; 0 leaves it as it is
    share: float  # how far to go then from the weights before to those after
    narrowing: float  # width of the targets that the trained tower's error asks for, as a share of what it was


NOTHING_GAINED = EpochSelection(0, 1.0, 1.0)


class WeightInterpolation:
    """Keeps of a stage the weights between those before it and those after it, interpolated by a share."""

    def __init__(self, learner: Learner, share: float):
        self._share, self._before = share, copy.deepcopy(learner.modules().state_dict())

    def state(self) -> dict[str, Tensor]:
        """Return the weights before the stage."""
        return self._before

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with these weights before the stage."""
        self._before = {name: state[name].to(now.device) for name, now in self._before.items()}

    def restore(self, learner: Learner) -> None:
        """Interpolate the weights."""
        _interpolate_weights(learner, self._before, self._share)

    def kept_epoch(self, learner: Learner) -> int:
        """Return the last epoch: nothing is chosen among them."""
        return len(learner.history)

    def log_kept(self, learner: Learner) -> None:
        """Nothing is chosen among epochs."""


def select_epochs(
    learner: Learner,
    data: TrainingData,
    measured: Measurement,
    settings: Settings,
    candidates: CandidateSelection,
    *,
    n_epochs: int,
    batch_size: int,
    seed: int,
    begun: dict[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> EpochSelection:
    """Train the tower without some images, and choose the epochs by the scores on these; the learner is put back.

    A selection that has `begun` goes on; `keep` is given what that takes after each epoch.

    Each fold of the candidates is left out of a whole second stage, with the adapter that missed the fold too. As
    many folds are left out, one after the other, as it takes to score some hundreds of images, or of groups of them.

    References
    ----------
    Weights half-way between those before and after: WiSE-FT (Wortsman et al., CVPR 2022), which does as well on
    images of the same kind and better on others.
    """
    fold = candidates.fold.cpu().numpy()
    n_scored = len(np.unique(measured.blocks)) / len(candidates.adapters_of_folds)  # of a fold
    n_folds = min(math.ceil(_MIN_SCORED / n_scored), len(candidates.adapters_of_folds))
    every = max(1, n_epochs // _N_EVALUATIONS)
    epochs = np.arange(every, n_epochs + 1, every)
    before = copy.deepcopy(learner.modules().state_dict())
    generator = torch.Generator().manual_seed(seed)
    probabilities = [] if begun is None else [each.numpy() for each in begun["folds"]]
    rows = [np.flatnonzero(fold == number) for number in range(n_folds)]
    for number in range(len(probabilities), n_folds):
        adapter = copy.deepcopy(candidates.adapters_of_folds[number])
        trial = replace(learner, adapter=adapter, history=[], generator=generator)
        stage = TowerStage(trial, settings, name=EPOCH_SELECTION)
        of_fold = _Fold(stage, data, rows[number], epochs, None if begun is None else begun["fold"])

        def keep_all(of_fold: dict[str, Any]) -> None:
            assert keep is not None
            keep({"folds": [torch.from_numpy(each) for each in probabilities], "fold": of_fold})

        probabilities.append(of_fold.run(n_epochs, batch_size, None if keep is None else keep_all))
        begun = None
        learner.modules().load_state_dict(before)
    return _selected(np.concatenate(probabilities, axis=1), np.concatenate(rows), epochs, data, measured)


class _Fold:
    """A second stage without the images of a fold, and what it says of these, from the start to its end."""

    def __init__(
        self,
        stage: TowerStage,
        data: TrainingData,
        left_out: np.ndarray,
        epochs: np.ndarray,
        begun: dict[str, Any] | None,
    ):
        self._stage, self._data, self._left_out, self._epochs = stage, data, left_out, epochs
        self._before, self._progress = copy.deepcopy(stage.learner.modules().state_dict()), None
        if begun is None:
            self._evaluations = [self._probabilities()]
        else:
            self._evaluations = [each.numpy() for each in begun["evaluations"]]
            self._progress = StageProgress(**begun["progress"])
            stage.learner.load_state(begun["learner"])

    def run(self, n_epochs: int, batch_size: int, keep: Callable[[dict[str, Any]], None] | None) -> np.ndarray:
        """Probabilities of images left out, (1 + L S, rows, K), at the start and then at each evaluation, by shares."""
        device, data = self._stage.learner.device, self._data
        seen = torch.ones(len(data.target))
        seen[torch.from_numpy(self._left_out)] = 0
        weight = seen.to(device) if data.weight is None else seen.to(device) * data.weight

        def keep_fold(progress: StageProgress) -> None:
            assert keep is not None
            evaluations = [torch.from_numpy(each) for each in self._evaluations]
            keep({"evaluations": evaluations, "progress": vars(progress), "learner": self._stage.learner.state()})

        run_stage(
            self._stage,
            replace(data, weight=weight),
            n_epochs=n_epochs,
            batch_size=batch_size,
            on_epoch_end=self._evaluate,
            begun=self._progress,
            keep=None if keep is None else keep_fold,
        )
        return np.stack(self._evaluations)

    def _evaluate(self) -> None:
        learner = self._stage.learner
        if len(learner.history) not in self._epochs:
            return
        now = copy.deepcopy(learner.modules().state_dict())
        for share in _SHARES:
            _interpolate_weights(learner, self._before, share)
            self._evaluations.append(self._probabilities())
            learner.modules().load_state_dict(now)

    def _probabilities(self) -> np.ndarray:
        learner = self._stage.learner
        return learner.probabilities(learner.read(_embeddings(learner, self._data, self._left_out)))


@torch.no_grad()
def _embeddings(learner: Learner, data: TrainingData, rows: np.ndarray) -> Tensor:
    """Embed training images without chance, tensor of shape (rows, W); of a group each process embeds its own."""
    assert data.pixels is not None
    size, group = learner.preprocessing.size, learner.group
    places, is_mine = rows, np.ones(len(rows), bool)
    if group.size > 1:
        assert data.share is not None
        is_mine = group.is_mine(len(data.target))[rows]
        places = np.searchsorted(data.share.numpy(), rows[is_mine])
    batches = torch.from_numpy(places).split(_EMBEDDING_BATCH_SIZE)
    own = [learner.embed_pixels(shrink(pixels, size), augmented=False) for pixels in data.pixels.batches(batches)]
    if group.size == 1:
        return torch.cat(own)
    everyone = np.zeros((len(rows), learner.blocks.width), np.float32)
    if own:
        everyone[is_mine] = torch.cat(own).cpu().numpy()
    return to_device(torch.from_numpy(group.all_reduce(everyone)), learner.device)


@torch.no_grad()
def _interpolate_weights(learner: Learner, before: dict[str, Tensor], share: float) -> None:
    """Put weights between those that were before and the present ones, ``before + share (now - before)``."""
    if share == 1:
        return
    for name, now in learner.modules().state_dict().items():
        if now.is_floating_point():
            now.copy_(torch.lerp(before[name], now, share))


def _selected(
    probabilities: np.ndarray, rows: np.ndarray, epochs: np.ndarray, data: TrainingData, measured: Measurement
) -> EpochSelection:
    """Compare the evaluations with the start, image by image; what is left out together counts as one.

    Of the evaluations whose score is surely below that of the start, by Student's t, the one with the least is taken.
    """
    target, scale = data.target.cpu().numpy()[rows], measured.targets.scale
    weight = np.ones(len(rows)) if data.weight is None else data.weight.cpu().double().numpy()[rows]
    weight = weight / weight.sum()
    blocks = measured.blocks[rows]
    scores, n_blocks = np.stack([ranked_scores(each, target) for each in probabilities]), len(np.unique(blocks))
    gains, standard_errors = mean_and_error(scores[0] - scores, weight, blocks)  # (1 + L S,)
    scores = scores @ weight
    is_sure = gains > stats.t.isf(_SIGNIFICANCE_LEVEL, max(n_blocks - 1, 1)) * standard_errors
    best = int(np.where(is_sure, scores, np.inf).argmin()) if is_sure.any() else 0
    least = int(scores.argmin())
    outcome = NOTHING_GAINED
    if best:
        errors = np.sqrt(((probabilities[[0, best]] @ scale - scale[target]) ** 2) @ weight)
        evaluation, part = divmod(best - 1, len(_SHARES))
        outcome = EpochSelection(
            int(epochs[evaluation]), _SHARES[part], float(errors[1] / errors[0]) if errors[0] else 1.0
        )
    _log.info(
        "Training the image tower took the ranked probability score of %d images that were left out from %.4g to %.4g "
        "at best, a gain with a standard error of %.2g: %s.",
        len(rows),
        scores[0],
        scores[least],
        standard_errors[least],
        f"it is trained for {outcome.last_epoch} of {epochs[-1]} epochs" if best else "it stays as it is",
    )
    return outcome
