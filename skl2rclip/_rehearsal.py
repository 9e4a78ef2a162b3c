"""How far the image tower may be trained: foretold on images that are left out, before it is trained on all.

The optimisation itself is the business of ``_stages``.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skl2rclip._devices import to_device
from skl2rclip._learner import Learner, TrainingData
from skl2rclip._preprocessing import shrink
from skl2rclip._ranks import ranked_scores
from skl2rclip._selection import Contest
from skl2rclip._settings import Settings
from skl2rclip._stages import TowerStage, run_stage
from skl2rclip._start import Measurement

_log = logging.getLogger(__name__)
# in a rehearsal, over all its epochs
_LOOKS = 10
_EMBEDDED_AT_ONCE = 256
# images that are to be judged; with more, not every fold is rehearsed
_ENOUGH = 500
# of the gain, in its standard errors: with less the tower stays as it is
_SURE = 2.0


class _RehearsalStage(TowerStage):
    name: ClassVar[str] = "rehearsal"


@dataclass(frozen=True)
class Rehearsal:
    """What was foretold of images that were left out.

    Attributes
    ----------
    epochs : ndarray of shape (L,), int
        After which it was looked, the start included.
    scores : ndarray of shape (L,)
        Mean ranked probability score.
    gains : ndarray of shape (L,)
        By how much it is below that of the start.
    standard_errors : ndarray of shape (L,)
        Of the gains.
    errors : ndarray of shape (L,)
        Root mean square error of the expected value.
    """

    epochs: np.ndarray
    scores: np.ndarray
    gains: np.ndarray
    standard_errors: np.ndarray
    errors: np.ndarray

    @property
    def best(self) -> int:
        """Which look to believe: that with the least score, if that is surely below the start's, else the start."""
        best = int(self.scores.argmin())
        return best if self.gains[best] > _SURE * self.standard_errors[best] else 0

    @property
    def last_epoch(self) -> int:
        """How many epochs to train the tower for."""
        return int(self.epochs[self.best])

    @property
    def narrowing(self) -> float:
        """Width of the targets that the trained tower's error asks for, as a share of what it was."""
        return float(self.errors[self.best] / self.errors[0]) if self.errors[0] else 1.0


def rehearse(
    learner: Learner,
    data: TrainingData,
    measured: Measurement,
    settings: Settings,
    contest: Contest,
    *,
    n_epochs: int,
    batch_size: int,
    seed: int,
) -> Rehearsal:
    """Train the tower without some images, and judge by these how it goes.

    Each rehearsal is the whole second stage without one of the contest's folds, with the adapter that missed the fold
    too. As many folds are rehearsed as it takes to judge some hundreds of images.

    Parameters
    ----------
    learner : Learner
        As the first stage left it; it is put back.
    data : TrainingData
    measured : Measurement
    settings : Settings
    contest : Contest
        Of the first stage.
    n_epochs, batch_size : int
        Of the second stage.
    seed : int
    """
    fold = contest.fold.cpu().numpy()
    n_folds = int(np.clip(math.ceil(_ENOUGH / np.mean(np.bincount(fold))), 1, len(contest.adapters_of_folds)))
    epochs = np.arange(0, n_epochs + 1, max(1, n_epochs // _LOOKS))
    before = copy.deepcopy(learner.modules().state_dict())
    generator = torch.Generator().manual_seed(seed)
    probabilities, rows = [], []
    for number, adapter in enumerate(contest.adapters_of_folds[:n_folds]):
        left_out = np.flatnonzero(fold == number)
        trial = replace(learner, adapter=copy.deepcopy(adapter), history=[], generator=generator)
        stage = _RehearsalStage(trial, settings)
        probabilities.append(_probabilities_on_the_way(stage, data, left_out, epochs, n_epochs, batch_size))
        rows.append(left_out)
        learner.modules().load_state_dict(before)
    return _judged(np.concatenate(probabilities, axis=1), np.concatenate(rows), epochs, data, measured)


def _probabilities_on_the_way(
    stage: TowerStage, data: TrainingData, left_out: np.ndarray, epochs: np.ndarray, n_epochs: int, batch_size: int
) -> np.ndarray:
    """Probabilities of the images that are left out, at the start and on the way, array of shape (L, rows, K)."""
    learner = stage.learner
    seen = torch.ones(len(data.target))
    seen[torch.from_numpy(left_out)] = 0
    weight = seen.to(learner.device) if data.weight is None else seen.to(learner.device) * data.weight
    looks = [_probabilities(learner, data, left_out)]

    def look() -> None:
        if len(learner.history) in epochs:
            looks.append(_probabilities(learner, data, left_out))

    run_stage(
        stage,
        replace(data, weight=weight),
        n_epochs=n_epochs,
        batch_size=batch_size,
        on_epoch_end=look,
        verbose=stage.settings.verbose,
    )
    return np.stack(looks)


@torch.no_grad()
def _probabilities(learner: Learner, data: TrainingData, rows: np.ndarray) -> np.ndarray:
    embeddings = _embeddings(learner, data, rows)
    logits = learner.objective.logit_scale * learner.adapt(embeddings) @ learner.prototypes().T
    return logits.cpu().double().softmax(dim=1).numpy()


def _embeddings(learner: Learner, data: TrainingData, rows: np.ndarray) -> Tensor:
    """Embed training images without chance, tensor of shape (rows, D); of a group each process embeds its own."""
    assert data.pixels is not None
    size, group = learner.preprocessing.size, learner.group
    places, is_mine = rows, np.ones(len(rows), bool)
    if group is not None:
        assert data.share is not None
        is_mine = group.is_mine(len(data.target))[rows]
        places = np.searchsorted(data.share.numpy(), rows[is_mine])
    batches = torch.from_numpy(places).split(_EMBEDDED_AT_ONCE)
    own = [learner.embed_pixels(shrink(pixels, size), augmented=False) for pixels in data.pixels.batches(batches)]
    if group is None:
        return torch.cat(own)
    width = learner.prototypes().shape[1]
    everyone = np.zeros((len(rows), width), np.float32)
    if own:
        everyone[is_mine] = torch.cat(own).cpu().numpy()
    return to_device(torch.from_numpy(group.summed(everyone)), learner.device)


def _judged(
    probabilities: np.ndarray, rows: np.ndarray, epochs: np.ndarray, data: TrainingData, measured: Measurement
) -> Rehearsal:
    """Compare the looks with the start, image by image; what is left out together counts as one."""
    target, scale = data.target.cpu().numpy()[rows], measured.targets.scale
    weight = np.ones(len(rows)) if data.weight is None else data.weight.cpu().double().numpy()[rows]
    weight = weight / weight.sum()
    each = np.stack([ranked_scores(look, target) for look in probabilities])  # (L, rows)
    below = each[0] - each
    gains = below @ weight
    block = np.unique(measured.blocks[rows], return_inverse=True)[1]
    apart = np.stack([np.bincount(block, weight * row) for row in below - gains[:, None]])  # (L, blocks)
    n_blocks = apart.shape[1]
    standard_errors = np.sqrt((apart**2).sum(axis=1) * n_blocks / max(n_blocks - 1, 1))
    errors = np.sqrt(((probabilities @ scale - scale[target]) ** 2) @ weight)
    rehearsal = Rehearsal(epochs, each @ weight, gains, standard_errors, errors)
    _log.info(
        "On %d images that were left out, training of the image tower took the ranked probability score from %.4g to "
        "%.4g (standard error of the gain %.2g) by epoch %d of %d: it is trained for %d.",
        len(rows),
        rehearsal.scores[0],
        rehearsal.scores.min(),
        standard_errors[rehearsal.scores.argmin()],
        epochs[rehearsal.scores.argmin()],
        epochs[-1],
        rehearsal.last_epoch,
    )
    return rehearsal
