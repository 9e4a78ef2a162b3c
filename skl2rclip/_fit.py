"""From a checked request to a fitted state: build modules, decode and embed images, run the stages, collect.

The optimisation itself is in ``_stages``; scikit-learn and the estimator are not known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skl2rclip._backbone import Backbone, BackboneRecord, BackboneSource, load_backbone, seeded
from skl2rclip._device_group import DeviceGroup, run_on_devices
from skl2rclip._devices import autocast_for, explain_out_of_memory
from skl2rclip._embedder import (
    LARGEST_AUTO_BATCH,
    cache_of,
    check_headers,
    decode_and_embed,
    embed_images,
    shared_encoding,
)
from skl2rclip._learner import Learner, TrainingData
from skl2rclip._model import STRUCTURE, FittedState, load_module, module_arrays, unit_rows
from skl2rclip._modules import RankFormer, RidgeAdapter, image_adapter
from skl2rclip._objective import Objective
from skl2rclip._pixel_store import PixelStore
from skl2rclip._prompts import PromptTokens, RankPrompts
from skl2rclip._ranks import RankScale
from skl2rclip._selection import EarlyStopping, split_off_validation
from skl2rclip._settings import Settings
from skl2rclip._stages import PromptStage, Stage, TowerStage, largest_batch_size, optimizer_for, run_stage
from skl2rclip._start import Measurement, measure, start
from skl2rclip._targets import RankTargets, RunningErrors, targets_of_predictions
from skl2rclip._validation import warn_user
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

# of the first stage with prompt_epochs="auto"
_STEPS = 80
_HARD_EPOCHS = 200
# at candidates for the targets, over the first stage
_LOOKS = 10

EpochEnd = Callable[[FittedState], None]


@dataclass(frozen=True)
class FitRequest:
    """What is known before any long work.

    Attributes
    ----------
    data : list of n images, or ndarray of shape (n, D)
        The array holds embeddings.
    target : ndarray of shape (n,), int64
        Index of each image's rank.
    weight : ndarray of shape (n,), float64
    groups : ndarray of shape (n,), or None
        Images of one group are left out together.
    scale : RankScale
    tokens : PromptTokens
    source : BackboneSource
    settings : Settings
    seed : int
    devices : tuple of torch.device
        One, or one for each process.
    previous : FittedState or None
        To go on from.
    one_pass : bool
        Make a single pass at constant learning rates instead of the two stages.
    column_names : tuple of str or None
        Of a table of embeddings.
    kept : ndarray of int
        Which of the images that the user gave are left.
    n_given : int
        How many images the user gave.
    """

    data: Any
    target: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None
    scale: RankScale
    tokens: PromptTokens
    source: BackboneSource
    settings: Settings
    seed: int
    devices: tuple[torch.device, ...]
    previous: FittedState | None
    one_pass: bool
    column_names: tuple[str, ...] | None
    kept: np.ndarray
    n_given: int

    def keep(self, rows: np.ndarray) -> FitRequest:
        """Return the same without the images where `rows`, of bool, is False."""
        index = np.flatnonzero(rows)
        data = self.data[index] if isinstance(self.data, np.ndarray) else [self.data[i] for i in index]
        groups = None if self.groups is None else self.groups[index]
        return replace(
            self, data=data, target=self.target[index], weight=self.weight[index], groups=groups, kept=self.kept[index]
        )

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.devices[0]

    def plan(self) -> list[tuple[type[PromptStage] | type[TowerStage], int]]:
        """Stages in order, with their numbers of epochs."""
        settings = self.settings
        if self.one_pass:
            return [(TowerStage if settings.finetunes else PromptStage, 1)]
        prompt_epochs = settings.prompt_epochs
        if isinstance(prompt_epochs, str) and not settings.is_soft:
            prompt_epochs = _HARD_EPOCHS
        elif isinstance(prompt_epochs, str):
            batch_size = LARGEST_AUTO_BATCH if isinstance(settings.batch_size, str) else settings.batch_size
            prompt_epochs = max(1, round(_STEPS / math.ceil(len(self.target) / batch_size)))
        stages: list[tuple[type[PromptStage] | type[TowerStage], int]] = [(PromptStage, prompt_epochs)]
        if settings.finetunes:
            stages.append((TowerStage, settings.image_epochs))
        return [(stage, n_epochs) for stage, n_epochs in stages if n_epochs > 0]

    def without(self, error: UnreadableImagesError) -> FitRequest:
        """Return the same without the images that cannot be read, or raise the error with the user's own indices."""
        named = UnreadableImagesError(
            {int(self.kept[i]): reason for i, reason in error.failures.items()},
            {int(self.kept[i]): self.data[i] for i in error.failures},
            self.n_given,
        )
        if self.settings.on_bad_image == "raise" or len(error.failures) == len(self.target):
            raise named from None
        warn_user(f"on_bad_image='skip' leaves images out: {named}")
        return self.keep(~np.isin(np.arange(len(self.target)), list(error.failures)))


def fit(request: FitRequest, on_epoch_end: EpochEnd | None = None) -> FittedState:
    """Train as `request` says, on one device or, a process for each, on several.

    Parameters
    ----------
    request : FitRequest
    on_epoch_end : callable, optional
        Called with the state so far.

    Raises
    ------
    UnreadableImagesError
        If images cannot be read and ``on_bad_image="raise"``, or none is left.
    InvalidParameterError
        If there are fewer images than devices.
    """
    while True:
        try:
            _judge(request)
            return _fit_on_devices(request, on_epoch_end)
        except UnreadableImagesError as error:  # what was embedded before is in the cache
            request = request.without(error)


def _fit_on_devices(request: FitRequest, on_epoch_end: EpochEnd | None) -> FittedState:
    if len(request.devices) == 1 or request.one_pass:
        return train(request, on_epoch_end)
    n_images, n_devices = len(request.target), len(request.devices)
    if n_images < n_devices:
        raise InvalidParameterError(f"device names {n_devices} devices, more than the {n_images} images of the fit.")
    return run_on_devices(_train_in_group, request.devices, request, on_epoch_end)


def _train_in_group(group: DeviceGroup, request: FitRequest, on_epoch_end: EpochEnd | None) -> FittedState:
    return train(replace(request, devices=(group.device,)), on_epoch_end if group.rank == 0 else None, group)


def train(request: FitRequest, on_epoch_end: EpochEnd | None = None, group: DeviceGroup | None = None) -> FittedState:
    """Train in this process, which may be one of a group."""
    previous, settings = request.previous, request.settings
    backbone = load_backbone(request.source) if previous is None else previous.record.load(request.source)
    with explain_out_of_memory(settings.batch_size):
        learner = _build_learner(request, backbone)
        learner.group = group
        prepared = _prepare_data(request, backbone, learner)
        data, stopping = prepared.training, prepared.stopping

        def report() -> None:
            if on_epoch_end is not None:
                on_epoch_end(_collect(request, backbone, learner, prepared))

        optimizer = None
        batch_size = _batch_size(settings, learner, data)
        for make_stage, n_epochs in request.plan():
            if group is not None and make_stage.needs == "pixels":  # each process draws from its own images
                learner.generator = torch.Generator().manual_seed(request.seed + group.rank)
            stage: Stage = make_stage(learner, settings)
            if isinstance(stage, PromptStage) and _is_new(request):
                stage = _started(request, stage, prepared, n_epochs)
                if stopping is not None and prepared.measured is not None:  # the start is a result too
                    stopping.update(learner, stage.held_out(stopping.data, batch_size))
            if request.one_pass:
                optimizer = _resumed_optimizer(stage, previous)
            optimizer = run_stage(
                stage,
                data,
                n_epochs=n_epochs,
                batch_size=batch_size,
                decay=not request.one_pass,
                stopping=stopping,
                optimizer=optimizer if request.one_pass else None,
                on_epoch_end=report,
                verbose=settings.verbose,
            )
        if prepared.measured is not None and request.plan():
            report()  # what was judged best need not be the last
        state = _collect(request, backbone, learner, prepared)
    return replace(state, optimizer_state=_moments(optimizer)) if request.one_pass else state


def _is_new(request: FitRequest) -> bool:
    """Whether nothing was learned before, so that a start can be chosen."""
    return not request.one_pass and (request.previous is None or not request.previous.history)


def _started(request: FitRequest, stage: PromptStage, prepared: _Prepared, n_epochs: int) -> PromptStage:
    """Choose the start of training with soft targets, where there is an adapter that can be chosen along."""
    learner, measured = stage.learner, prepared.measured
    if measured is None or not isinstance(learner.adapter, RidgeAdapter):
        return stage
    contest = start(learner, prepared.training, measured, max(1, n_epochs // _LOOKS), request.seed)
    return PromptStage(learner, request.settings, contest)


def _judge(request: FitRequest) -> None:
    """Look at the headers of images before anything is loaded, where they stream through a tower or are not read."""
    settings, needs = request.settings, {stage.needs for stage, _ in request.plan()}
    if not isinstance(request.data, np.ndarray) and "pixels" not in needs:
        check_headers(request.data, settings.embedding_cache, settings.n_jobs)


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
        if not settings.finetunes and settings.image_adapter is not None:
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
            rank_values=torch.tensor(request.scale.values, dtype=torch.float32, device=device),
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


@dataclass(frozen=True)
class _Prepared:
    """What the stages need of the images that are learned from, and of those that are not.

    Attributes
    ----------
    training : TrainingData
    stopping : EarlyStopping or None
    targets : RankTargets or None
        Of the training images; None with hard targets, and where nothing was embedded.
    measured : Measurement or None
        What the targets were measured on; None in a single pass too.
    errors : RunningErrors or None
        Of a single pass, with those before it.
    """

    training: TrainingData
    stopping: EarlyStopping | None
    targets: RankTargets | None
    measured: Measurement | None
    errors: RunningErrors | None


def _prepare_data(request: FitRequest, backbone: Backbone, learner: Learner) -> _Prepared:
    """Decode and embed what the stages will need, measure soft targets, set images aside for early stopping."""
    settings, group = request.settings, learner.group
    held_out = np.zeros(len(request.target), dtype=bool)
    if settings.early_stopping and not request.one_pass:
        generator = np.random.default_rng(request.seed)
        held_out = split_off_validation(request.target, settings.validation_fraction, generator, request.groups)
    if isinstance(request.data, np.ndarray):
        decoded = _Decoded(unit_rows(request.data))
    else:
        decoded = _decode(request, backbone, learner, held_out)
    # equal weights are no weights
    is_weighted = bool((request.weight != request.weight[0]).any())
    share = None if group is None else torch.from_numpy(np.flatnonzero(group.is_mine(int((~held_out).sum()))))

    targets, measured, errors = _soft_targets(request, learner, decoded.embeddings, ~held_out)

    def part(rows: np.ndarray, pixels: PixelStore | None, distributions: np.ndarray | None = None) -> TrainingData:
        weight = torch.tensor(request.weight[rows], dtype=torch.float32, device=request.device)
        embeddings = decoded.embeddings
        return TrainingData(
            target=torch.from_numpy(request.target[rows]).to(request.device),
            weight=weight if is_weighted else None,
            distributions=None if distributions is None else torch.from_numpy(distributions).to(request.device),
            embeddings=None if embeddings is None else torch.from_numpy(embeddings[rows]).to(request.device),
            pixels=pixels,
            share=share,
        )

    stopping = None
    if held_out.any():
        aside = part(held_out, decoded.held_out_pixels)
        stopping = EarlyStopping(aside, settings)
    return _Prepared(
        training=part(~held_out, decoded.pixels, None if targets is None else targets.between()),
        stopping=stopping,
        targets=targets,
        measured=measured,
        errors=errors,
    )


def _soft_targets(
    request: FitRequest, learner: Learner, embeddings: np.ndarray | None, rows: np.ndarray
) -> tuple[RankTargets | None, Measurement | None, RunningErrors | None]:
    """Measure soft targets on all images of a fit, or, batch by batch, by what the model says of each beforehand."""
    settings = request.settings
    if not settings.is_soft or embeddings is None:
        return None, None, None
    target, values, weight = request.target[rows], request.scale.values, request.weight[rows]
    if request.one_pass:
        before = None if request.previous is None else request.previous.errors
        probabilities = _probabilities(learner, embeddings[rows])
        targets, errors = targets_of_predictions(probabilities, target, values, weight, before or RunningErrors())
        return targets, None, errors
    measured = measure(
        embeddings[rows],
        target,
        values,
        weight,
        None if request.groups is None else request.groups[rows],
        has_hidden=settings.image_adapter != "linear",
        seed=request.seed,
    )
    return measured.targets, measured, None


@torch.no_grad()
def _probabilities(learner: Learner, embeddings: np.ndarray) -> np.ndarray:
    adapted = learner.adapt(torch.from_numpy(embeddings).to(learner.device))
    logits = learner.objective.logit_scale * adapted @ learner.prototypes().T
    return logits.double().softmax(dim=1).cpu().numpy()


@dataclass(frozen=True)
class _Decoded:
    """Embeddings (n, D) of all images, pixels of the training images, pixels of those held out."""

    embeddings: np.ndarray | None = None
    pixels: PixelStore | None = None
    held_out_pixels: PixelStore | None = None


def _decode(request: FitRequest, backbone: Backbone, learner: Learner, held_out: np.ndarray) -> _Decoded:
    """Decode each image once, for whatever the stages need of it, each process of a group its share."""
    group, failures = learner.group, {}
    is_mine = np.ones(len(held_out), bool)  # those held out every process has
    if group is not None:
        is_mine[~held_out] = group.is_mine(int((~held_out).sum()))
    mine, decoded = np.flatnonzero(is_mine), _Decoded()
    try:
        decoded = _decode_mine(request, backbone, learner, held_out, mine)
    except UnreadableImagesError as error:
        failures = {int(mine[i]): reason for i, reason in error.failures.items()}
    if group is not None:  # one process may not leave while the others wait for it
        failures = group.merged(failures)
    if failures:
        raise UnreadableImagesError(failures, request.data, len(request.data))
    return replace(decoded, embeddings=_of_all_processes(decoded.embeddings, held_out, group))


def _decode_mine(
    request: FitRequest, backbone: Backbone, learner: Learner, held_out: np.ndarray, mine: np.ndarray
) -> _Decoded:
    settings, needs = request.settings, {stage.needs for stage, _ in request.plan()}
    if not needs:
        return _Decoded()
    images = [request.data[i] for i in mine]
    encoding = cache = embeddings = None
    # the width of soft targets is measured on the frozen tower's embeddings, whatever is trained
    if "embeddings" in needs or settings.is_soft:
        embeddings = np.zeros((len(held_out), backbone.embedding_width), np.float32)
        encoding, cache = _frozen_encoding(request, backbone, learner)
        if "pixels" not in needs:
            embeddings[mine] = embed_images(images, encoding, cache, settings.n_jobs)
            return _Decoded(embeddings)
    own = backbone.preprocessing
    enlarged = own.enlarged(8, 7) if settings.augment else own  # as OrdinalCLIP: 256 for a tower that takes 224
    wanted = [own, enlarged] if enlarged != own and (encoding is not None or held_out.any()) else [enlarged]
    learns = np.isin(np.arange(len(held_out)), mine) & ~held_out
    pixels = PixelStore((int(learns.sum()), *enlarged.size, 3), request.device, settings.max_memory)
    held_out_pixels = PixelStore((int(held_out.sum()), *own.size, 3), request.device, settings.max_memory)
    place = np.where(held_out, np.cumsum(held_out), np.cumsum(learns)) - 1
    for chunk, decoded, rows_of_tower in decode_and_embed(images, wanted, encoding, cache, settings.n_jobs):
        rows = mine[chunk]
        if embeddings is not None:
            embeddings[rows] = rows_of_tower
        aside = held_out[rows]
        pixels.write(place[rows[~aside]], decoded[-1][~aside])
        held_out_pixels.write(place[rows[aside]], decoded[0][aside])
    return _Decoded(embeddings, pixels, held_out_pixels)


def _of_all_processes(
    embeddings: np.ndarray | None, held_out: np.ndarray, group: DeviceGroup | None
) -> np.ndarray | None:
    """Put together the embeddings that the processes have made, each of its share and all of those held out."""
    if group is None or embeddings is None:
        return embeddings
    if group.rank > 0:
        embeddings[held_out] = 0
    return group.summed(embeddings)


def _frozen_encoding(request: FitRequest, backbone: Backbone, learner: Learner) -> Any:
    """How images are embedded for the first stage; the cache is for towers that are still the backbone's own."""
    device, settings = request.device, request.settings
    compiled = settings.compile and learner.tower is None
    encoding = shared_encoding(backbone, device, settings.precision, settings.batch_size, compiled)
    if learner.tower is not None and request.previous is not None and "tower" in request.previous.arrays:
        return replace(encoding, tower=learner.tower), None
    return encoding, cache_of(backbone, device, settings.precision, settings.embedding_cache, settings.max_memory)


@torch.no_grad()
def _collect(request: FitRequest, backbone: Backbone, learner: Learner, prepared: _Prepared) -> FittedState:
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
        column_names=request.column_names,
    )
