"""From a checked request to a fitted state: prepare, initialise, prompt stage, choose epochs, tower stage, collect.

The optimisation itself is in ``_training.stages``; scikit-learn and the estimator are not known here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.backbone import Backbone, load_backbone
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._embedding.embedder import check_headers
from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._model.state import STRUCTURE, FittedState, module_arrays
from skl2rclip._ordinal.leverage import Leverage
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.checkpoints import Checkpoint, Record, RecordDoesNotFit, opened_checkpoint
from skl2rclip._training.diagnosis import warn_of_nothing_learned
from skl2rclip._training.distributed import ProcessGroup, run_on_devices
from skl2rclip._training.epoch_selection import NOTHING_GAINED, EpochSelection, WeightInterpolation, select_epochs
from skl2rclip._training.initialization import has_enough_to_compare, start
from skl2rclip._training.learner import Learner, TrainingData, build_learner
from skl2rclip._training.plan import EPOCH_SELECTION, IMAGE_TOWER, PROMPTS
from skl2rclip._training.prepare import REMEDIES_OF_FEATURES, Prepared, prepare
from skl2rclip._training.request import FitRequest
from skl2rclip._training.stages import (
    PromptStage,
    Stage,
    StageProgress,
    TowerStage,
    as_if_ended,
    largest_batch_size,
    optimizer_for,
    run_stage,
)
from skl2rclip._training.usualness import of_trained_tower
from skl2rclip._utils.arguments import check_fingerprint
from skl2rclip._utils.devices import MAX_AUTO_BATCH, explain_out_of_memory, own_precision
from skl2rclip._utils.progress import FitListener
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

_log = logging.getLogger(__name__)
# at candidates for the targets, over the first stage
_N_EVALUATIONS = 10

# beside batch_size, of what takes memory in a step
_REMEDIES_OF_IMAGES = (*REMEDIES_OF_FEATURES[:2], "lower max_memory, beyond which pixels go to a file")
_REMEDIES_OF_TOWER = ("set precision='bfloat16'", "set image_tower='frozen'")
_REMEDIES_OF_SELECTION = ("set early_stopping=True, which needs no selection", *_REMEDIES_OF_TOWER)

# what a fit may be at when it is interrupted
_IN_ORDER = (PROMPTS, EPOCH_SELECTION, IMAGE_TOWER)


def fit(request: FitRequest, checkpoint: Checkpoint | None = None, listener: FitListener | None = None) -> FittedState:
    """Train as `request` says, on one device or, a process for each, on several.

    With a checkpoint the fit goes on from there. The listener hears of stages and epochs, unless they pass in other
    processes.
    """
    while True:
        try:
            request = _with_checked_headers(request)
            settings = request.settings
            n_images, n_devices = request.n_learned_from, len(request.devices)
            if n_devices == 1 or request.one_pass:
                with explain_out_of_memory(settings.batch_size), own_precision(request.device):
                    return train(request, checkpoint, listener)
            if n_images < n_devices:
                raise InvalidParameterError(
                    f"device names {n_devices} devices, more than the {n_images} images of the fit."
                )
            return run_on_devices(_train_in_group, request.devices, request, checkpoint)
        except UnreadableImagesError as error:  # what was embedded before is in the cache
            request = request.without(error)
        except RecordDoesNotFit as error:
            assert checkpoint is not None
            _log.warning("The fit begins anew: what %s holds does not fit it: %s", checkpoint.folder, error)
            checkpoint.discard()


def fit_with_checkpoints(
    request: FitRequest,
    listener: FitListener,
    *,
    is_seeded: bool,
    write: Callable[[Path, FittedState], None],
    read: Callable[[Path], FittedState],
) -> FittedState:
    """Train in the folder of this very fit in `checkpoint_dir`, from where it was; what has ended is read.

    `write` and `read` save and load a model as a folder. `is_seeded` says whether the seed is the user's.
    """
    request = _of_readable_images(request)
    with opened_checkpoint(request, is_seeded=is_seeded, write_model=write) as checkpoint:
        if checkpoint.has_ended:
            try:
                state = read(checkpoint.folder)
            except (OSError, ValueError) as error:
                _log.warning("The fit begins anew: the model in %s cannot be read: %s", checkpoint.folder, error)
                checkpoint.begin_anew()
            else:
                _log.info("This fit has ended before, with the model in %s.", checkpoint.folder)
                record = replace(state.record, source=request.source)
                names = (request.settings.model_name, request.settings.pretrained)
                return replace(state, record=record, asked_for=names, resumed_from_epoch=len(state.history))
        state = fit(checkpoint.request, checkpoint, listener)
        checkpoint.end(state)
        return state


def _of_readable_images(request: FitRequest) -> FitRequest:
    """Look at the headers of images, and leave out those that may be."""
    while True:
        try:
            return _with_checked_headers(request)
        except UnreadableImagesError as error:
            request = request.without(error)


def _train_in_group(group: ProcessGroup, request: FitRequest, checkpoint: Checkpoint | None) -> FittedState:
    return train(replace(request, devices=(group.device,)), checkpoint, None, group)


def train(
    request: FitRequest,
    checkpoint: Checkpoint | None = None,
    listener: FitListener | None = None,
    group: ProcessGroup | None = None,
) -> FittedState:
    """Train in this process, which may be one of a group."""
    previous, settings = request.previous, request.settings
    _log.info("Fit of %d images of %d ranks on %s.", request.n_learned_from, len(request.scale.ranks), request.device)
    backbone = load_backbone(request.source) if previous is None else previous.load_backbone(request.source)
    check_fingerprint(request.fingerprint, backbone.fingerprint, settings.model_name)
    with explain_out_of_memory(None, "building what learns"):
        learner = build_learner(request, backbone, group or ProcessGroup())
    with explain_out_of_memory(settings.batch_size, "preparing images", _REMEDIES_OF_IMAGES):
        prepared = prepare(request, backbone, learner)
        steps = _Steps(request, backbone, learner, prepared, checkpoint, listener or FitListener())
    with explain_out_of_memory(None, "choosing the start", REMEDIES_OF_FEATURES):
        steps.initialize()
    with explain_out_of_memory(settings.batch_size, "training prompts", REMEDIES_OF_FEATURES):
        steps.prompt_stage()
    with explain_out_of_memory(settings.batch_size, "choosing epochs", _REMEDIES_OF_SELECTION):
        choice = steps.choose_tower_epochs()
    with explain_out_of_memory(settings.batch_size, "training the image tower", _REMEDIES_OF_TOWER):
        steps.tower_stage(choice)
    with explain_out_of_memory(None, "collecting what was learned"):
        steps.diagnose(choice)
        return steps.collect()


def fit_zero_shot(request: FitRequest) -> FittedState:
    """Make a model of the names of the ranks alone, with `request` for no images and no epochs."""
    backbone = load_backbone(request.source)
    with own_precision(request.device):
        learner = build_learner(request, backbone, ProcessGroup())
        assert learner.zero_shot is not None
        learner.zero_shot.share.fill_(1)
        no_images = Prepared(TrainingData(torch.empty(0), None), None, None, None, None, np.ones(0, bool))
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
        checkpoint: Checkpoint | None,
        listener: FitListener,
    ):
        self.request, self.settings = request, request.settings
        self.backbone, self.learner, self.prepared = backbone, learner, prepared
        self.checkpoint, self.listener = checkpoint, listener
        self.record = None if checkpoint is None else checkpoint.latest()  # to go on from, until that is done
        self.resumed_from_epoch = 0
        self.batch_size = _batch_size(request.settings, learner, prepared.training, self.record)
        self.candidates: CandidateSelection | None = None
        self.choice: EpochSelection | None = None
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
        if self.record is not None and self._is_past(EPOCH_SELECTION):
            choice = self.record["choice"]
            return None if choice is None else EpochSelection(**choice)
        if not n_epochs or measured is None or is_watched or not request.is_new:
            return None
        if not isinstance(learner.adapter, RidgeAdapter):
            return None
        if not has_enough_to_compare(measured):
            return NOTHING_GAINED
        if self.candidates is None:  # so many images that no epochs need to be selected
            return None
        begun = self._take_up(EPOCH_SELECTION)
        keep = None
        if self.checkpoint is not None:
            keep = partial(self._keep_selection, copy.deepcopy(learner.state()))
        selection = select_epochs(
            learner,
            self.prepared.training,
            measured,
            self.settings,
            self.candidates,
            n_epochs=n_epochs,
            batch_size=self.batch_size,
            seed=request.seed,
            begun=None if begun is None else begun["selection"],
            keep=keep,
        )
        return learner.group.broadcast(selection)

    def tower_stage(self, choice: EpochSelection | None) -> None:
        """Train the image tower too, on pixels, as far as was chosen."""
        learner, data, n_epochs = self.learner, self.prepared.training, self._epochs_of(IMAGE_TOWER)
        if not n_epochs:
            return
        self.choice = choice
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
        state = replace(self._so_far(), resumed_from_epoch=self.resumed_from_epoch, leverage=self._leverage())
        return replace(state, optimizer_state=_moments(self.optimizer)) if self.request.one_pass else state

    def _leverage(self) -> Leverage | None:
        """Learn what images are usual to the tower as it is now."""
        request, training = self.request, self.prepared.training
        if self.learner.tower is None or request.one_pass or training.pixels is None:
            return self.prepared.leverage
        seen = self.prepared.seen
        groups = None if request.groups is None else request.groups[seen]
        return of_trained_tower(self.learner, training, request.weight[seen], groups, self.batch_size)

    def _epochs_of(self, name: str) -> int:
        """Epochs that a stage may take now, none where a callback has ended the fit."""
        return 0 if self.is_ended else self.request.epochs_of(name)

    def _run(self, stage: Stage, data: TrainingData, n_epochs: int, last_epoch: int | None = None) -> None:
        if not n_epochs or self._is_past(stage.name):
            return
        one_pass, listener = self.request.one_pass, self.listener
        begun = self._take_up(stage.name, stage)
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
            begun=None if begun is None else StageProgress(**begun["progress"]),
            keep=None if self.checkpoint is None else partial(self._keep_stage, stage),
        )
        self.is_ended = listener.stage_ends(self._so_far)

    def _epoch_ends(self, stage: Stage) -> bool:
        """Tell whoever wants to know; return whether the stage is to end."""
        return self.listener.epoch_ends(partial(self._as_if_ended, stage))

    def _is_past(self, name: str) -> bool:
        """Whether what is to be taken up comes after a stage."""
        return self.record is not None and _IN_ORDER.index(self.record["stage"]) > _IN_ORDER.index(name)

    def _take_up(self, name: str, stage: Stage | None = None) -> Record | None:
        """Bring everything to where the record of a stage has it, where there is one, and return that."""
        record = self.record
        if record is None or record["stage"] != name:
            return None
        self.record = None
        keepers = {"stopping": self.prepared.stopping, "candidates": self.candidates, "keeper": _interpolation(stage)}
        try:
            self.learner.load_state(record["learner"])
            for key, keeper in keepers.items():
                if keeper is not None:
                    keeper.load_state(record[key])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise RecordDoesNotFit(str(error).partition("\n")[0]) from error
        self.resumed_from_epoch = len(self.learner.history)
        _log.info("The fit goes on in stage %s, after %d epochs in all.", name, self.resumed_from_epoch)
        return record

    def _keep_stage(self, stage: Stage, progress: StageProgress) -> None:
        interpolation = _interpolation(stage)
        before = None if interpolation is None else interpolation.state()
        choice = None if self.choice is None else asdict(self.choice)
        own = {"progress": vars(progress), "choice": choice, "keeper": before}
        self._keep(stage.name, self.learner.state(), own, partial(self._as_if_ended, stage))

    def _keep_selection(self, at_start: Record, selection: Record) -> None:
        self._keep(EPOCH_SELECTION, at_start, {"selection": selection, "keeper": None}, None)

    def _keep(self, name: str, learner: Record, own: Record, collect: Callable[[], FittedState] | None) -> None:
        """Keep what it takes to go on, and the model as if the fit ended here; of a group the first process does."""
        if self.checkpoint is None or self.learner.group.rank:
            return
        keepers = {"stopping": self.prepared.stopping, "candidates": self.candidates}
        states = {key: None if keeper is None else keeper.state() for key, keeper in keepers.items()}
        record = {"stage": name, "batch_size": self.batch_size, "learner": learner, **states, **own}
        self.checkpoint.keep(record, None if collect is None else collect())

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


def _interpolation(stage: Stage | None) -> WeightInterpolation | None:
    keeper = None if stage is None else stage.keeper
    return keeper if isinstance(keeper, WeightInterpolation) else None


def _batch_size(settings: Settings, learner: Learner, data: TrainingData, record: Record | None) -> int:
    if record is not None:
        return record["batch_size"]
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
        n_images=request.n_images,
        n_groups=request.n_groups,
        n_columns=request.n_columns,
        column_names=request.column_names,
        leverage=prepared.leverage,
    )
