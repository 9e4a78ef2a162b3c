"""Where training with soft targets starts: prompts in order, and adapters that are ridge regressions onto them.

Nothing here is trained on images; ``_training.stages`` does that afterwards.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._ordinal.mixing import unmeasured_share
from skl2rclip._ordinal.ridge import Scatter, ridge_map
from skl2rclip._ordinal.soft_targets import Measurement
from skl2rclip._ordinal.splits import folds
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.objective import distribution_loss
from skl2rclip._utils.eta import ProgressMonitor, quicker_device
from skl2rclip._utils.threads import one_thread, threads_for

# steps and rate of the text tower alone, before any image is looked at
_ORDERING_STEPS = 40
_ORDERING_RATE = 1e-3
_WARM_UP_STEPS = 5
_N_FOLDS = 4
# what has seen one of two images says nothing of the other
_MIN_FOLDS = 3
# with more images there is nothing that candidates have to be compared for, and much to keep of each
_MAX_COMPARED = 20_000
# widths of the candidates around the labels, as shares of sigma
_SHARES = (1.0, 0.5)


def order_prompts(learner: Learner, of_ranks: np.ndarray) -> None:
    """Train the prompts so that each rank's text is as like the other ranks' texts as its soft target has it.

    Minimises ``mean_j KL(q_j || softmax_k s t_j . t_k)``, where q_j, a row of `of_ranks` (K, K), is the target of an
    image that shows rank j and nothing else, so that the prototypes lie along a line before images are mapped to them.
    """
    parameters = [parameter for parameter in learner.prompts.parameters() if parameter.requires_grad]
    if not parameters:
        return
    targets = torch.from_numpy(of_ranks).float().to(learner.device)
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-4)
    quicker = [*quicker_device(learner.device), "a model_name with a smaller text tower"]
    monitor = ProgressMonitor(f"Putting the prompts in order on {learner.device}", _ORDERING_STEPS, "step", quicker)
    with threads_for(learner.prompts.n_products) as watch:
        for step in range(_ORDERING_STEPS):
            falling = 0.5 * (1 + math.cos(math.pi * step / _ORDERING_STEPS))
            for group in optimizer.param_groups:
                group["lr"] = _ORDERING_RATE * min(1, (step + 1) / _WARM_UP_STEPS) * falling
            prototypes = learner.prototypes()
            loss = distribution_loss(learner.objective.logit_scale * prototypes @ prototypes.T, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            monitor.step()
            watch.step()


def start(
    learner: Learner, data: TrainingData, measured: Measurement, every: int, seed: int
) -> CandidateSelection | None:
    """Put the prompts in order, and adapters where ridge regression has them.

    Candidates are targets around what the regression says, and around the labels, sigma and half of sigma wide. None
    where there are too few images to compare candidates, or so many that it is not needed.
    """
    order_prompts(learner, measured.targets.of_ranks())
    with one_thread():
        return _start_adapters(learner, data, measured, every, seed)


def _start_adapters(
    learner: Learner, data: TrainingData, measured: Measurement, every: int, seed: int
) -> CandidateSelection | None:
    """Put adapters where ridge regression has them, as `start` describes."""
    targets = measured.targets
    assert isinstance(learner.adapter, RidgeAdapter)
    fold = folds(targets.target, measured.blocks, _N_FOLDS, np.random.default_rng([seed, 2]))
    n_folds, zero_shot = int(fold.max()) + 1, learner.measured_share
    if zero_shot is not None and n_folds < _MIN_FOLDS and len(np.unique(targets.target)) > 1:
        zero_shot.share.fill_(unmeasured_share())
    if n_folds < _MIN_FOLDS or len(fold) > _MAX_COMPARED:
        assert data.distributions is not None
        adapters = _adapters(learner.adapter, measured, 1)
        scatter = Scatter(measured.features, targets.views.weights(measured.weight))
        _start_maps(adapters, [0], learner, measured, scatter, [data.distributions.cpu().numpy()])
        learner.adapter = adapters
        return None
    n_candidates, n_maps = 1 + len(_SHARES), 1 + n_folds
    adapters = _adapters(learner.adapter, measured, n_candidates * n_maps)
    around_fit = torch.empty(n_maps, len(fold), len(targets.scale))
    around_labels = torch.from_numpy(np.stack([targets.of_ranks(share) for share in _SHARES]))
    whole = Scatter(measured.features, targets.views.weights(measured.weight))
    for number in range(n_maps):
        missed = targets.views.rows(np.flatnonzero(fold == number - 1))
        scatter = whole.without(measured.features, missed) if number else whole
        # what a fold's regression says must not come from images that the fold misses
        fitted = targets.refitted(measured.features, scatter) if number else None
        candidates = [targets.around_fit(fitted), *(targets.around_labels(share) for share in _SHARES)]
        places = list(range(number, n_candidates * n_maps, n_maps))
        around_fit[number] = torch.from_numpy(candidates[0])
        _start_maps(adapters, places, learner, measured, scatter, candidates)
    device = learner.device
    on_folds = torch.from_numpy(fold).to(device)
    selection = CandidateSelection(
        data, adapters, around_fit.to(device), around_labels.to(device), on_folds, measured.blocks, every
    )
    selection.evaluate(learner, now=True)
    return selection


def has_enough_to_compare(measured: Measurement) -> bool:
    """Whether there are as many sets of images to leave out as it takes to compare candidates."""
    return len(np.unique(measured.blocks)) >= _N_FOLDS


def _adapters(adapter: RidgeAdapter, measured: Measurement, n_copies: int) -> RidgeAdapter:
    """Adapters of the kind of one whose hidden layers are those of the features."""
    features, (n_features, width) = measured.features, adapter.linear.shape[1:]
    adapters = RidgeAdapter(width, adapter.kind, n_copies, n_features).to(adapter.mean.device)
    with torch.no_grad():
        adapters.mean.copy_(torch.from_numpy(features.mean).float())
        adapters.spread.fill_(features.spread)
        adapters.hidden_weight.copy_(torch.from_numpy(features.hidden_weight).float())
        adapters.hidden_bias.copy_(torch.from_numpy(features.hidden_bias).float())
    return adapters


@torch.no_grad()
def _start_maps(
    adapters: RidgeAdapter,
    places: list[int],
    learner: Learner,
    measured: Measurement,
    scatter: Scatter,
    candidates: list[np.ndarray],
) -> None:
    """Let maps begin as ridge regressions onto the mean of the prototypes by each image's distribution."""
    prototypes, n_features = learner.prototypes().cpu().double(), adapters.linear.shape[1]
    aims = [F.normalize(torch.from_numpy(q).double() @ prototypes, dim=1).numpy() for q in candidates]
    targets = measured.targets
    penalty = targets.penalty * scatter.weight.sum() / len(targets.target)
    outputs = targets.views.repeated(np.hstack(aims))
    coefficients, intercept = ridge_map(measured.features, outputs, scatter, penalty)
    for place, own, offset in zip(
        places, np.split(coefficients, len(places), axis=1), np.split(intercept, len(places)), strict=True
    ):
        adapters.linear[place] = torch.from_numpy(own[:n_features]).float()
        adapters.output[place] = torch.from_numpy(own[n_features:]).float()
        adapters.bias[place, 0] = torch.from_numpy(offset).float()
