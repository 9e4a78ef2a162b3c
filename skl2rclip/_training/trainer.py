"""From a checked request to a fitted state: build modules, decode and embed images, run the stages, collect.

The optimisation itself is in ``_training.stages``; scikit-learn and the estimator are not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.backbone import Backbone, load_backbone, seeded
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._embedding.embedder import (
    LARGEST_AUTO_BATCH,
    check_headers,
)
from skl2rclip._model.modules import RankFormer, RidgeAdapter, image_adapter
from skl2rclip._model.prompts import RankPrompts
from skl2rclip._model.state import STRUCTURE, FittedState, load_module, module_arrays
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import Contest
from skl2rclip._training.distributed import DeviceGroup, run_on_devices
from skl2rclip._training.epoch_selection import NOTHING_GAINED, RehearsedStage, rehearse
from skl2rclip._training.initialization import has_enough_to_compare, start
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.objective import Objective
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
from skl2rclip._utils.arguments import check_maker
from skl2rclip._utils.devices import autocast_for, explain_out_of_memory
from skl2rclip._utils.progress import FitListener
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

_log = logging.getLogger(__name__)
# at candidates for the targets, over the first stage
_LOOKS = 10

EpochEnd = Callable[[FittedState], None]


def fit(request: FitRequest, on_epoch_end: EpochEnd | None = None, listener: FitListener | None = None) -> FittedState:
    """Train as `request` says, on one device or, a process for each, on several.

    Parameters
    ----------
    request : FitRequest
    on_epoch_end : callable, optional
        Called with the state so far.
    listener : FitListener, optional
        Is told of stages and epochs, unless there are several devices: then they pass in other processes.

    Raises
    ------
    UnreadableImagesError
        If images cannot be read and ``on_bad_image="raise"``, or none is left.
    InvalidParameterError
        If there are fewer images than devices.
    """
    while True:
        try:
            _check_headers(request)
            return _fit_on_devices(request, on_epoch_end, listener)
        except UnreadableImagesError as error:  # what was embedded before is in the cache
            request = request.without(error)


def _fit_on_devices(request: FitRequest, on_epoch_end: EpochEnd | None, listener: FitListener | None) -> FittedState:
    if len(request.devices) == 1 or request.one_pass:
        return train(request, on_epoch_end, listener=listener)
    n_images, n_devices = request.n_learned_from, len(request.devices)
    if n_images < n_devices:
        raise InvalidParameterError(f"device names {n_devices} devices, more than the {n_images} images of the fit.")
    return run_on_devices(_train_in_group, request.devices, request, on_epoch_end)


def _train_in_group(group: DeviceGroup, request: FitRequest, on_epoch_end: EpochEnd | None) -> FittedState:
    return train(replace(request, devices=(group.device,)), on_epoch_end if group.rank == 0 else None, group)


def train(
    request: FitRequest,
    on_epoch_end: EpochEnd | None = None,
    group: DeviceGroup | None = None,
    listener: FitListener | None = None,
) -> FittedState:
    """Train in this process, which may be one of a group."""
    previous, settings = request.previous, request.settings
    listener = listener or FitListener()
    _log.info("Fit of %d images of %d ranks on %s.", request.n_learned_from, len(request.scale.ranks), request.device)
    backbone = load_backbone(request.source) if previous is None else previous.record.load(request.source)
    check_maker(request.maker, backbone.fingerprint, settings.model_name)
    with explain_out_of_memory(settings.batch_size):
        learner = _build_learner(request, backbone)
        learner.group = group
        prepared = prepare(request, backbone, learner)
        data, stopping = prepared.training, prepared.stopping

        def collect() -> FittedState:
            return _collect(request, backbone, learner, prepared)

        def report() -> bool:
            def so_far() -> FittedState:
                with as_if_ended(stage, stopping):
                    return collect()

            if on_epoch_end is not None:
                on_epoch_end(so_far())
            return listener.epoch_ends(so_far)

        optimizer = None
        batch_size = _batch_size(settings, learner, data)
        contest = _started(request, learner, prepared) if _is_new(request) else None
        if stopping is not None and request.plan() and (prepared.measured is not None or not _is_new(request)):
            # the start is a result too
            has_embeddings = stopping.data.embeddings is not None
            begun = PromptStage(learner, settings) if has_embeddings else TowerStage(learner, settings)
            stopping.update(learner, begun.held_out(stopping.data, batch_size))
        for make_stage, n_epochs in request.plan():
            if group is not None and make_stage.needs == "pixels":  # each process draws from its own images
                learner.generator = torch.Generator().manual_seed(request.seed + group.rank)
            stage: Stage = PromptStage(learner, settings, contest)
            last_epoch = n_epochs
            if make_stage is TowerStage:
                stage, data, last_epoch = _tower_stage(request, learner, prepared, contest, n_epochs, batch_size)
            if not last_epoch:
                break
            if request.one_pass:
                optimizer = _resumed_optimizer(stage, previous)
            listener.stage_begins(stage.name, last_epoch)
            optimizer = run_stage(
                stage,
                data,
                n_epochs=n_epochs,
                batch_size=batch_size,
                last_epoch=last_epoch,
                decay=not request.one_pass,
                stopping=stopping,
                optimizer=optimizer if request.one_pass else None,
                on_epoch_begin=listener.epoch_begins,
                on_epoch_end=report,
                verbose=settings.verbose,
            )
            if listener.stage_ends(collect):
                break
        state = collect()
        if on_epoch_end is not None and prepared.measured is not None and request.plan():
            on_epoch_end(state)  # what was judged best need not be the last
    return replace(state, optimizer_state=_moments(optimizer)) if request.one_pass else state


def _is_new(request: FitRequest) -> bool:
    """Whether nothing was learned before, so that a start can be chosen."""
    return not request.one_pass and (request.previous is None or not request.previous.history)


def _started(request: FitRequest, learner: Learner, prepared: Prepared) -> Contest | None:
    """Choose the start of training with soft targets, where there is an adapter that can be chosen along."""
    measured = prepared.measured
    if measured is None or not isinstance(learner.adapter, RidgeAdapter):
        return None
    n_epochs = sum(n_epochs for stage, n_epochs in request.plan() if stage is PromptStage)
    # what held-out images watch must be as far as the epoch that they are told of
    every = max(1, n_epochs // _LOOKS) if prepared.stopping is None else 1
    contest = start(learner, prepared.training, measured, every, request.seed)
    if contest is not None and not n_epochs:
        contest.restore(learner)
        contest.log_kept(learner)
    return contest


def _tower_stage(
    request: FitRequest,
    learner: Learner,
    prepared: Prepared,
    contest: Contest | None,
    n_epochs: int,
    batch_size: int,
) -> tuple[TowerStage, TrainingData, int]:
    """Return the second stage, what it learns from, and after how many epochs it ends, as its rehearsals have it."""
    settings, data, measured = request.settings, prepared.training, prepared.measured
    is_watched = prepared.stopping is not None
    if measured is None or is_watched or not _is_new(request) or not isinstance(learner.adapter, RidgeAdapter):
        return TowerStage(learner, settings), data, n_epochs
    if contest is None and has_enough_to_compare(measured):  # so many images that nothing needs to be rehearsed
        return TowerStage(learner, settings), data, n_epochs
    rehearsal = NOTHING_GAINED
    if contest is not None:
        rehearsal = rehearse(
            learner,
            data,
            measured,
            settings,
            contest,
            n_epochs=n_epochs,
            batch_size=batch_size,
            seed=request.seed,
        )
    if learner.group is not None:
        rehearsal = learner.group.as_the_first(rehearsal)
    distributions = torch.from_numpy(measured.targets.around_labels(rehearsal.narrowing)).to(request.device)
    stage = RehearsedStage(learner, settings, rehearsal)
    return stage, replace(data, distributions=distributions), rehearsal.last_epoch


def _check_headers(request: FitRequest) -> None:
    """Look at the headers of images before any work."""
    settings = request.settings
    if not isinstance(request.data, np.ndarray):
        check_headers(request.data, settings.embedding_cache, settings.n_jobs, settings.max_memory, request.white)


def _batch_size(settings: Settings, learner: Learner, data: TrainingData) -> int:
    if settings.batch_size != "auto":
        return int(settings.batch_size)
    if data.pixels is None:
        return LARGEST_AUTO_BATCH
    size = largest_batch_size(TowerStage(learner, settings), data, LARGEST_AUTO_BATCH)
    return size if learner.group is None else learner.group.size * learner.group.as_the_first(size)


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


def _build_learner(request: FitRequest, backbone: Backbone) -> Learner:
    """Build the modules, with the weights of the previous training where there is one."""
    device, settings = request.device, request.settings
    text_tower = backbone.text_tower(device)
    generator = torch.Generator().manual_seed(request.seed)
    rankformer = adapter = None
    with seeded(request.seed):
        if settings.rankformer_layers:
            rankformer = RankFormer(text_tower.width, settings.rankformer_layers, settings.blend_ratio)
        if settings.image_adapter is not None:
            adapter = image_adapter(backbone.embedding_width, settings.image_adapter, settings.rank_targets)
    learner = Learner(
        prompts=RankPrompts(
            request.tokens, text_tower, rankformer, tune_ranks=settings.tune_ranks, generator=generator
        ),
        adapter=adapter,
        tower=backbone.image_tower_copy(device) if settings.finetunes else None,
        preprocessing=backbone.preprocessing,
        objective=Objective(
            weights=(
                settings.contrastive_weight,
                settings.pairwise_weight,
                settings.tightness_weight,
                settings.text_ordering_weight,
            ),
            logit_scale=backbone.logit_scale,
            rank_values=torch.from_numpy(_distances(request.scale.values)).float().to(device),
        ),
        autocast=autocast_for(settings.precision, device),
        generator=generator,
        history=[] if request.previous is None else [dict(entry) for entry in request.previous.history],
    )
    modules = learner.modules().to(device)
    if request.previous is not None:
        for name, module in modules.items():
            if name in request.previous.arrays:
                load_module(module, request.previous.arrays[name])
    if learner.tower is not None:
        _make_fast(learner.tower, settings, device)
    return learner


def _make_fast(tower: Any, settings: Settings, device: torch.device) -> None:
    """Prepare a tower that is to be trained."""
    if device.type == "cuda":
        tower.to(memory_format=torch.channels_last)  # what its convolutions prefer, and how the pixels come
    if settings.compile:
        tower.compile()


def _distances(values: np.ndarray) -> np.ndarray:
    """Rank values from the lowest on, of a size whose differences single precision holds, float64."""
    shifted = values - values.min()
    largest = shifted.max()
    return shifted if 1e-6 < largest < 1e6 else shifted / largest


@torch.no_grad()
def _collect(request: FitRequest, backbone: Backbone, learner: Learner, prepared: Prepared) -> FittedState:
    """Copy everything learned to arrays on the CPU."""
    settings, targets = request.settings, prepared.targets
    return FittedState(
        record=BackboneRecord.of(backbone),
        tokens=request.tokens,
        scale=request.scale,
        logit_scale=backbone.logit_scale,
        prototypes=learner.prototypes().cpu().numpy(),
        arrays={name: module_arrays(module) for name, module in learner.modules().items()},
        structure={name: getattr(settings, name) for name in STRUCTURE},
        asked_for=(settings.model_name, settings.pretrained),
        history=tuple(dict(entry) for entry in learner.history),
        device=str(request.device),
        noise=None if targets is None else targets.noise,
        trust=None if targets is None else targets.trust,
        errors=prepared.errors,
        n_columns=request.n_columns,
        column_names=request.column_names,
    )
