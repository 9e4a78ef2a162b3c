"""From a checked request to a fitted state: prepare, initialise, prompt stage, choose epochs, tower stage, collect.

The optimisation itself is in ``_training.stages``; scikit-learn and the estimator are not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.backbone import Backbone, load_backbone
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._embedding.embedder import check_headers
from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._model.state import STRUCTURE, FittedState, module_arrays
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.diagnosis import warn_of_nothing_learned
from skl2rclip._training.distributed import ProcessGroup, run_on_devices
from skl2rclip._training.epoch_selection import NOTHING_GAINED, EpochSelection, WeightInterpolation, select_epochs
from skl2rclip._training.initialization import has_enough_to_compare, start
from skl2rclip._training.learner import Learner, TrainingData, build_learner
from skl2rclip._training.plan import IMAGE_TOWER, PROMPTS
from skl2rclip._training.prepare import Prepared, prepare
from skl2rclip._training.request import FitRequest
from skl2rclip._training.stages import (
    PromptStage,
    Stage,
    TowerStage,
    as_if_ended,
    largest_batch_size,
    optimizer_for,
    run_stage,
)
from skl2rclip._utils.arguments import check_fingerprint
from skl2rclip._utils.devices import MAX_AUTO_BATCH, explain_out_of_memory
from skl2rclip._utils.progress import FitListener
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

_log = logging.getLogger(__name__)
# at candidates for the targets, over the first stage
_N_EVALUATIONS = 10

EpochEnd = Callable[[FittedState], None]


def fit(request: FitRequest, on_epoch_end: EpochEnd | None = None, listener: FitListener | None = None) -> FittedState:
    """Train as `request` says, on one device or, a process for each, on several.

    `on_epoch_end` is called with the state so far; the listener hears of stages and epochs, unless they pass in other
    processes.
    """
    while True:
        try:
            request = _with_checked_headers(request)
            n_images, n_devices = request.n_learned_from, len(request.devices)
            if n_devices == 1 or request.one_pass:
                return train(request, on_epoch_end, listener)
            if n_images < n_devices:
                raise InvalidParameterError(
                    f"device names {n_devices} devices, more than the {n_images} images of the fit."
                )
            return run_on_devices(_train_in_group, request.devices, request, on_epoch_end)
        except UnreadableImagesError as error:  # what was embedded before is in the cache
            request = request.without(error)


def _train_in_group(group: ProcessGroup, request: FitRequest, on_epoch_end: EpochEnd | None) -> FittedState:
    own = replace(request, devices=(group.device,))
    return train(own, None if group.rank else on_epoch_end, None, group)


def train(
    request: FitRequest,
    on_epoch_end: EpochEnd | None = None,
    listener: FitListener | None = None,
    group: ProcessGroup | None = None,
) -> FittedState:
    """Train in this process, which may be one of a group."""
    previous, settings = request.previous, request.settings
    _log.info("Fit of %d images of %d ranks on %s.", request.n_learned_from, len(request.scale.ranks), request.device)
    backbone = load_backbone(request.source) if previous is None else previous.record.load(request.source)
    check_fingerprint(request.fingerprint, backbone.fingerprint, settings.model_name)
    with explain_out_of_memory(settings.batch_size):
        learner = build_learner(request, backbone, group or ProcessGroup())
        prepared = prepare(request, backbone, learner)
        steps = _Steps(request, backbone, learner, prepared, on_epoch_end, listener or FitListener())
        steps.initialize()
        steps.prompt_stage()
        choice = steps.choose_tower_epochs()
        steps.tower_stage(choice)
        steps.diagnose(choice)
        return steps.collect()


def fit_zero_shot(request: FitRequest) -> FittedState:
    """Make a model of the names of the ranks alone, with `request` for no images and no epochs."""
    backbone = load_backbone(request.source)
    learner = build_learner(request, backbone, ProcessGroup())
    assert learner.zero_shot is not None
    learner.zero_shot.share.fill_(1)
    no_images = Prepared(TrainingData(torch.empty(0), None), None, None, None, None)
    state = _collect(request, backbone, learner, no_images)
    return replace(state, prototypes=state.arrays["zero_shot"]["prototypes"])


class _Steps:
    """The steps of a fit once its data are prepared, written down in their order, and what they share."""

    def __init__(
        self,
        request: FitRequest,
        backbone: Backbone,
        learner: Learner,
        prepared: Prepared,
        on_epoch_end: EpochEnd | None,
        listener: FitListener,
    ):
        self.request, self.settings = request, request.settings
        self.backbone, self.learner, self.prepared = backbone, learner, prepared
        self.on_epoch_end, self.listener = on_epoch_end, listener
        self.batch_size = _batch_size(request.settings, learner, prepared.training)
        self.candidates: CandidateSelection | None = None
        self.optimizer: torch.optim.AdamW | None = None
        self.is_ended = False  # by a callback

    def initialize(self) -> None:
        """Choose the start of training with soft targets, where there is an adapter that can be chosen along."""
        request, learner = self.request, self.learner
        measured, stopping = self.prepared.measured, self.prepared.stopping
        if request.is_new and measured is not None and isinstance(learner.adapter, RidgeAdapter):
            n_epochs = request.epochs_of(PROMPTS)
            # what held-out images watch must be as far as the epoch that they are told of
            every = max(1, n_epochs // _N_EVALUATIONS) if stopping is None else 1
            self.candidates = start(learner, self.prepared.training, measured, every, request.seed)
            if self.candidates is not None and not n_epochs:
                self.candidates.restore(learner)
                self.candidates.log_kept(learner)
        if stopping is not None and request.plan and (measured is not None or not request.is_new):
            # the start is a result too
            is_encoded = stopping.data.images is not None
            begun = PromptStage(learner, self.settings) if is_encoded else TowerStage(learner, self.settings)
            stopping.update(learner, begun.held_out(stopping.data, self.batch_size))

    def prompt_stage(self) -> None:
        """Train the prompts, and what maps embeddings to them, on embeddings of the frozen tower."""
        stage = PromptStage(self.learner, self.settings, self.candidates)
        self._run(stage, self.prepared.training, self._epochs_of(PROMPTS))

    def choose_tower_epochs(self) -> EpochSelection | None:
        """Choose on images left out for how many epochs to train the image tower; None for all that are planned."""
        request, learner, measured = self.request, self.learner, self.prepared.measured
        n_epochs, is_watched = self._epochs_of(IMAGE_TOWER), self.prepared.stopping is not None
        if not n_epochs or measured is None or is_watched or not request.is_new:
            return None
        if not isinstance(learner.adapter, RidgeAdapter):
            return None
        if not has_enough_to_compare(measured):
            return NOTHING_GAINED
        if self.candidates is None:  # so many images that no epochs need to be selected
            return None
        selection = select_epochs(
            learner,
            self.prepared.training,
            measured,
            self.settings,
            self.candidates,
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            seed=request.seed,
        )
        return learner.group.broadcast(selection)

    def tower_stage(self, choice: EpochSelection | None) -> None:
        """Train the image tower too, on pixels, as far as was chosen."""
        learner, data, n_epochs = self.learner, self.prepared.training, self._epochs_of(IMAGE_TOWER)
        if not n_epochs:
            return
        if learner.group.size > 1:  # each process draws from its own images
            learner.generator = torch.Generator().manual_seed(self.request.seed + learner.group.rank)
        if choice is None:
            self._run(TowerStage(learner, self.settings), data, n_epochs)
        elif choice.last_epoch:
            assert self.prepared.targets is not None
            distributions = torch.from_numpy(self.prepared.targets.around_labels(choice.narrowing))
            data = replace(data, distributions=distributions.to(self.request.device))
            stage = TowerStage(learner, self.settings, WeightInterpolation(learner, choice.share))
            self._run(stage, data, n_epochs, choice.last_epoch)

    def diagnose(self, choice: EpochSelection | None) -> None:
        """Warn where nothing was learned."""
        n_epochs = self._epochs_of(IMAGE_TOWER) if choice is None else choice.last_epoch
        data, measured = self.prepared.training, self.prepared.measured
        warn_of_nothing_learned(self.request, self.learner, data, measured, has_tower_learned=bool(n_epochs))

    def collect(self) -> FittedState:
        """Put together what was learned."""
        state = self._so_far()
        if self.on_epoch_end is not None and self.prepared.measured is not None and self.request.plan:
            self.on_epoch_end(state)  # what scored best need not be the last
        return replace(state, optimizer_state=_moments(self.optimizer)) if self.request.one_pass else state

    def _epochs_of(self, name: str) -> int:
        """Epochs that a stage may take now, none where a callback has ended the fit."""
        return 0 if self.is_ended else self.request.epochs_of(name)

    def _run(self, stage: Stage, data: TrainingData, n_epochs: int, last_epoch: int | None = None) -> None:
        if not n_epochs:
            return
        one_pass, listener = self.request.one_pass, self.listener
        listener.stage_begins(stage.name, last_epoch or n_epochs)
        self.optimizer = run_stage(
            stage,
            data,
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            last_epoch=last_epoch,
            decay=not one_pass,
            stopping=self.prepared.stopping,
            optimizer=_resumed_optimizer(stage, self.request.previous) if one_pass else None,
            on_epoch_begin=listener.epoch_begins,
            on_epoch_end=partial(self._epoch_ends, stage),
        )
        self.is_ended = listener.stage_ends(self._so_far)

    def _epoch_ends(self, stage: Stage) -> bool:
        """Tell whoever wants to know; return whether the stage is to end."""
        collect = partial(self._as_if_ended, stage)
        if self.on_epoch_end is not None:
            self.on_epoch_end(collect())
        return self.listener.epoch_ends(collect)

    def _as_if_ended(self, stage: Stage) -> FittedState:
        with as_if_ended(stage, self.prepared.stopping):
            return self._so_far()

    def _so_far(self) -> FittedState:
        return _collect(self.request, self.backbone, self.learner, self.prepared)


def _with_checked_headers(request: FitRequest) -> FitRequest:
    """Look at the headers of images before any work, and keep which files are known."""
    settings = request.settings
    if isinstance(request.data, np.ndarray):
        return request
    known = check_headers(request.data, settings.embedding_cache, settings.n_jobs, settings.max_memory, request.white)
    return replace(request, known=known)


def _batch_size(settings: Settings, learner: Learner, data: TrainingData) -> int:
    if settings.batch_size != "auto":
        return int(settings.batch_size)
    if data.pixels is None:
        return MAX_AUTO_BATCH
    size = largest_batch_size(TowerStage(learner, settings), data, MAX_AUTO_BATCH)
    return learner.group.size * learner.group.broadcast(size)


def _resumed_optimizer(stage: Stage, previous: FittedState | None) -> torch.optim.AdamW | None:
    """Optimiser with the moments of the last pass, at the rates that are set now."""
    optimizer = optimizer_for(stage)
    if optimizer is not None and previous is not None and previous.optimizer_state is not None:
        groups = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        optimizer.load_state_dict(previous.optimizer_state)
        for group, (rate, weight_decay) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"], group["weight_decay"] = rate, weight_decay
    return optimizer


def _moments(optimizer: torch.optim.AdamW | None) -> dict[str, Any] | None:
    """State of an optimiser, on the CPU."""
    if optimizer is None:
        return None
    state = optimizer.state_dict()
    moments = {key: {name: value.cpu() for name, value in entry.items()} for key, entry in state["state"].items()}
    return {**state, "state": moments}


@torch.no_grad()
def _collect(request: FitRequest, backbone: Backbone, learner: Learner, prepared: Prepared) -> FittedState:
    """Copy everything learned to arrays on the CPU."""
    settings, previous, targets = request.settings, request.previous, prepared.targets
    return FittedState(
        record=BackboneRecord.of(backbone),
        tokens=request.tokens,
        scale=request.scale,
        logit_scale=backbone.logit_scale,
        prototypes=learner.prototypes().cpu().numpy(),
        arrays={name: module_arrays(module) for name, module in learner.modules().items()},
        # a fit that goes on may name the very value that "auto" has chosen
        structure=previous.structure if previous else {name: getattr(settings, name) for name in STRUCTURE},
        asked_for=(settings.model_name, settings.pretrained),
        history=tuple(dict(entry) for entry in learner.history),
        device=str(request.device),
        noise=None if targets is None else targets.noise,
        trust=None if targets is None else targets.trust,
        errors=prepared.errors,
        blocks=learner.blocks,
        features=learner.features,
        n_views=learner.views.n_learned,
        n_columns=request.n_columns,
        column_names=request.column_names,
    )
