"""From a checked request to a fitted state: build modules, decode and embed images, run the stages, collect.

The estimator's parameters arrive as a plain namespace, already checked. The optimisation itself is in ``training``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from skl2rclip._backbone import Backbone, BackboneRecord, BackboneSource, build_image_tower, load_backbone, seeded
from skl2rclip._device_group import DeviceGroup, run_on_devices
from skl2rclip._devices import autocast_for, explain_out_of_memory
from skl2rclip._embedder import (
    LARGEST_AUTO_BATCH,
    ImageEncoding,
    cache_of,
    encode_decoded,
    encode_images,
    shared_encoding,
)
from skl2rclip._embedding_cache import EmbeddingCache
from skl2rclip._images import decode_chunks, split_rows
from skl2rclip._model import FittedState, load_module, module_arrays
from skl2rclip._modules import ImageAdapter, RankFormer
from skl2rclip._objective import Objective
from skl2rclip._pixel_store import PixelStore
from skl2rclip._prompts import PromptTokens, RankPrompts
from skl2rclip._ranks import RankScale
from skl2rclip._stages import (
    EarlyStopping,
    Learner,
    Schedule,
    TrainingData,
    largest_batch_size,
    optimizer_for,
    split_off_validation,
    train_stage,
)
from skl2rclip._validation import parse_max_memory
from skl2rclip.errors import InvalidParameterError


@dataclass(frozen=True)
class FitRequest:
    """What is known before any long work.

    Attributes
    ----------
    X : list of n images, or ndarray of shape (n, D)
        The array holds embeddings.
    target : ndarray of shape (n,), int64
        Index of each image's rank.
    weight : ndarray of shape (n,), float64
    scale : RankScale
    tokens : PromptTokens
    source : BackboneSource
    seed : int
    device : torch.device
    structure : dict
        The parameters that further training may not change.
    previous : FittedState or None
        To go on from.
    history : list of dict
        Of the previous training.
    optimizer_state : dict or None
        Of the previous pass.
    kept : ndarray of bool or None
        Which of the images that the user gave are left.
    """

    X: Any
    target: np.ndarray
    weight: np.ndarray
    scale: RankScale
    tokens: PromptTokens
    source: BackboneSource
    seed: int
    device: torch.device
    structure: dict[str, Any]
    previous: FittedState | None
    history: list[dict[str, Any]]
    optimizer_state: dict[str, Any] | None = None
    kept: np.ndarray | None = None

    def keep(self, rows: np.ndarray) -> FitRequest:
        """Return the same without the images where `rows`, of bool, is False."""
        index = np.flatnonzero(rows)
        kept = np.ones(len(rows), bool) if self.kept is None else self.kept.copy()
        kept[kept] = rows
        X = self.X[index] if isinstance(self.X, np.ndarray) else [self.X[i] for i in index]
        return replace(self, X=X, target=self.target[index], weight=self.weight[index], kept=kept)


@dataclass(frozen=True)
class FitResult:
    """What training brought.

    Attributes
    ----------
    state : FittedState
    prototypes : ndarray of shape (K, D), float32
        Unit rows in rank order.
    history : list of dict
    device : str
        Where it was trained.
    optimizer_state : dict or None
        To go on from.
    """

    state: FittedState
    prototypes: np.ndarray
    history: list[dict[str, Any]]
    device: str
    optimizer_state: dict[str, Any] | None = None


def train(
    request: FitRequest,
    settings: SimpleNamespace,
    *,
    one_pass: bool = False,
    on_epoch_end: Callable[[FitResult], None] | None = None,
    group: DeviceGroup | None = None,
) -> FitResult:
    """Train as `settings` says.

    Parameters
    ----------
    request : FitRequest
    settings : SimpleNamespace
        The parameters of `L2RCLIPClassifier`.
    one_pass : bool, default=False
        Make a single pass at constant learning rates instead of the two stages.
    on_epoch_end : callable, optional
        Called with the result so far.
    group : DeviceGroup, optional
        Of the processes that train together, of which this is one.

    Returns
    -------
    FitResult
    """
    previous = request.previous
    backbone = load_backbone(request.source) if previous is None else previous.record.load(request.source)
    with explain_out_of_memory(settings.batch_size):
        learner = _build_learner(request, settings, backbone)
        learner.group = group
        data, stopping = _prepare_data(request, settings, backbone, learner, one_pass)

        def report(learner: Learner) -> None:
            if on_epoch_end is not None and (group is None or group.rank == 0):
                on_epoch_end(_collect(request, settings, backbone, learner))

        schedule = Schedule(
            batch_size=_batch_size(settings, learner, data),
            learning_rate=float(settings.learning_rate),
            image_learning_rate=float(settings.image_learning_rate),
            weight_decay=float(settings.weight_decay),
            decay=not one_pass,
            patience=int(settings.n_iter_no_change),
        )
        optimizer_state = None
        if one_pass:
            optimizer_state = _pass(request, settings, learner, data, schedule)
        else:
            for stage, n_epochs in (
                ("prompts", settings.prompt_epochs),
                ("image_tower", settings.max_epochs),
            ):
                if stage == "image_tower" and settings.image_tower != "finetune":
                    continue
                if stage == "image_tower" and group is not None:  # each process draws from its own images
                    learner.generator = torch.Generator().manual_seed(request.seed + group.rank)
                train_stage(
                    stage,
                    learner,
                    data,
                    schedule,
                    int(n_epochs),
                    augmented=bool(settings.augment),
                    stopping=stopping,
                    on_epoch_end=report,
                    verbose=settings.verbose,
                )
        return replace(_collect(request, settings, backbone, learner), optimizer_state=optimizer_state)


def train_on_devices(
    request: FitRequest,
    settings: SimpleNamespace,
    n_devices: int,
    on_epoch_end: Callable[[FitResult], None] | None,
) -> FitResult:
    """As `train`, in a process for each of `n_devices` devices.

    Raises
    ------
    InvalidParameterError
        If there are fewer images than devices, or lightning-fabric is not installed.
    """
    if len(request.target) < n_devices:
        raise InvalidParameterError(f"n_devices={n_devices} is more than the {len(request.target)} images of the fit.")
    # what was only needed to read the labels may not travel: functions, for instance
    settings = SimpleNamespace(**{**vars(settings), "ranks": None, "rank_names": None, "class_weight": None})
    return run_on_devices(_train_in_group, n_devices, request.device, request, settings, on_epoch_end)


def _train_in_group(
    group: DeviceGroup,
    request: FitRequest,
    settings: SimpleNamespace,
    on_epoch_end: Callable[[FitResult], None] | None,
) -> FitResult:
    return train(replace(request, device=group.device), settings, on_epoch_end=on_epoch_end, group=group)


def _batch_size(settings: SimpleNamespace, learner: Learner, data: TrainingData) -> int:
    if settings.batch_size != "auto":
        return int(settings.batch_size)
    if data.pixels is None:
        return LARGEST_AUTO_BATCH
    size = largest_batch_size(learner, data, LARGEST_AUTO_BATCH, augmented=bool(settings.augment))
    return size if learner.group is None else learner.group.size * learner.group.as_the_first(size)


def _pass(
    request: FitRequest, settings: SimpleNamespace, learner: Learner, data: TrainingData, schedule: Schedule
) -> dict[str, Any] | None:
    """Make one pass with the moments of the last one, and return those to go on with."""
    stage = "image_tower" if settings.image_tower == "finetune" else "prompts"
    optimizer = optimizer_for(learner, schedule, train_tower=learner.tower is not None)
    if optimizer is not None and request.optimizer_state is not None:
        groups = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        optimizer.load_state_dict(request.optimizer_state)
        for group, (rate, weight_decay) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"], group["weight_decay"] = rate, weight_decay
    optimizer = train_stage(
        stage,
        learner,
        data,
        schedule,
        1,
        augmented=bool(settings.augment),
        optimizer=optimizer,
        verbose=settings.verbose,
    )
    if optimizer is None:
        return None
    state = optimizer.state_dict()
    moments = {key: {name: value.cpu() for name, value in entry.items()} for key, entry in state["state"].items()}
    return {**state, "state": moments}


def _build_learner(request: FitRequest, settings: SimpleNamespace, backbone: Backbone) -> Learner:
    """Build the modules, with the weights of the previous training where there is one."""
    device, finetune = request.device, settings.image_tower == "finetune"
    text_tower = backbone.text_tower(device)
    generator = torch.Generator().manual_seed(request.seed)
    rankformer = adapter = None
    with seeded(request.seed):
        if settings.rankformer_layers:
            rankformer = RankFormer(
                text_tower.width,
                settings.rankformer_layers,
                settings.rankformer_heads,
                float(settings.blend_ratio),
            )
        if not finetune and settings.image_adapter is not None:
            adapter = ImageAdapter(backbone.embedding_width, settings.image_adapter)
    prompts = RankPrompts(
        request.tokens, text_tower, rankformer, tune_ranks=bool(settings.tune_ranks), generator=generator
    )
    learner = Learner(
        prompts=prompts,
        adapter=adapter,
        tower=backbone.image_tower_copy(device) if finetune else None,
        preprocessing=backbone.preprocessing,
        objective=Objective(
            weights=(
                float(settings.contrastive_weight),
                float(settings.pairwise_weight),
                float(settings.tightness_weight),
            ),
            logit_scale=backbone.logit_scale,
            rank_values=torch.tensor(request.scale.values, dtype=torch.float32, device=device),
        ),
        autocast=autocast_for(settings.precision, device),
        generator=generator,
        history=request.history,
    )
    modules = learner.modules().to(device)
    if request.previous is not None:
        for name, module in modules.items():
            if name in request.previous.arrays:
                load_module(module, request.previous.arrays[name])
    if learner.tower is not None:
        _prepare_tower(learner.tower, settings, device)
    return learner


def _prepare_tower(tower: Any, settings: SimpleNamespace, device: torch.device) -> None:
    """Make a tower that is to be trained fast, or small in memory, as `settings` says."""
    if device.type == "cuda":
        tower.to(memory_format=torch.channels_last)  # what its convolutions prefer, and how the pixels come
    if settings.grad_checkpointing:
        tower.set_grad_checkpointing(True)
    if settings.compile:
        tower.compile()


def _prepare_data(
    request: FitRequest, settings: SimpleNamespace, backbone: Backbone, learner: Learner, one_pass: bool
) -> tuple[TrainingData, EarlyStopping | None]:
    """Decode and embed what the stages will need, and set images aside for early stopping."""
    held_out = np.zeros(len(request.target), dtype=bool)
    if settings.early_stopping and not one_pass:
        generator = np.random.default_rng(request.seed)
        held_out = split_off_validation(request.target, float(settings.validation_fraction), generator)
    finetune = settings.image_tower == "finetune"
    needs_pixels = finetune and (one_pass or settings.max_epochs > 0)
    needs_embeddings = not finetune or (not one_pass and settings.prompt_epochs > 0)
    embeddings: np.ndarray | None
    if isinstance(request.X, np.ndarray):
        embeddings, pixels, held_out_pixels = unit_rows(request.X), None, None
    else:
        embeddings, pixels, held_out_pixels = _decode(
            request, settings, backbone, learner, held_out, needs_embeddings, needs_pixels
        )
    # equal weights are no weights
    is_weighted = bool((request.weight != request.weight[0]).any())

    share = None
    if learner.group is not None:
        share = torch.from_numpy(np.flatnonzero(learner.group.is_mine(int((~held_out).sum()))))

    def part(rows: np.ndarray, pixels: PixelStore | None) -> TrainingData:
        weight = torch.tensor(request.weight[rows], dtype=torch.float32, device=request.device)
        return TrainingData(
            target=torch.from_numpy(request.target[rows]).to(request.device),
            weight=weight if is_weighted else None,
            embeddings=None if embeddings is None else torch.from_numpy(embeddings[rows]).to(request.device),
            pixels=pixels,
            share=share,
        )

    stopping = EarlyStopping(part(held_out, held_out_pixels), settings.decision) if held_out.any() else None
    return part(~held_out, pixels), stopping


def _decode(
    request: FitRequest,
    settings: SimpleNamespace,
    backbone: Backbone,
    learner: Learner,
    held_out: np.ndarray,
    needs_embeddings: bool,
    needs_pixels: bool,
) -> tuple[np.ndarray | None, PixelStore | None, PixelStore | None]:
    """Decode each image once: embeddings (n, D) of all, pixels of the training images, pixels of those held out."""
    nothing_to_train = settings.prompt_epochs == 0 and not needs_pixels and request.previous is None
    if not (needs_embeddings or needs_pixels) or (nothing_to_train and settings.image_tower == "frozen"):
        return None, None, None
    encoding, cache = _encoding(request, settings, backbone, learner)
    own, n, group = backbone.preprocessing, len(request.target), learner.group
    is_mine = np.ones(n, bool)  # to decode; those held out every process has
    if group is not None:
        is_mine[~held_out] = group.is_mine(int((~held_out).sum()))
    mine = np.flatnonzero(is_mine)
    embeddings = np.zeros((n, backbone.embedding_width), np.float32) if needs_embeddings else None
    if embeddings is not None and not needs_pixels:
        embeddings[mine] = encode_images([request.X[i] for i in mine], encoding, cache, settings.n_jobs)
        return _of_all_processes(embeddings, held_out, group), None, None
    enlarged = own.enlarged(8, 7) if settings.augment else own  # as OrdinalCLIP: 256 for a tower that takes 224
    max_memory = parse_max_memory(settings.max_memory)
    pixels = PixelStore((int((is_mine & ~held_out).sum()), *enlarged.size, 3), request.device, max_memory)
    held_out_pixels = PixelStore((int(held_out.sum()), *own.size, 3), request.device, max_memory)
    place = np.where(held_out, np.cumsum(held_out), np.cumsum(is_mine & ~held_out)) - 1
    wanted = [own, enlarged] if enlarged != own and (needs_embeddings or held_out.any()) else [enlarged]
    with contextlib.nullcontext() if cache is None else cache:
        chunks = [mine[part] for part in split_rows(len(mine))]
        for rows, decoded in decode_chunks(request.X, wanted, n_jobs=settings.n_jobs, chunks=chunks):
            if embeddings is not None:
                images = [request.X[i] for i in rows]
                embeddings[rows] = encode_decoded(images, decoded[0], encoding, cache, settings.n_jobs)
            aside = held_out[rows]
            pixels.write(place[rows[~aside]], decoded[-1][~aside])
            held_out_pixels.write(place[rows[aside]], decoded[0][aside])
    return _of_all_processes(embeddings, held_out, group), pixels, held_out_pixels


def _of_all_processes(
    embeddings: np.ndarray | None, held_out: np.ndarray, group: DeviceGroup | None
) -> np.ndarray | None:
    """Put together the embeddings that the processes have made, each of its share and all of those held out."""
    if group is None or embeddings is None:
        return embeddings
    if group.rank > 0:
        embeddings[held_out] = 0
    return group.summed(embeddings)


def _encoding(
    request: FitRequest, settings: SimpleNamespace, backbone: Backbone, learner: Learner
) -> tuple[ImageEncoding, EmbeddingCache | None]:
    """How images are embedded for the first stage; the cache is for towers that are still the backbone's own."""
    device, precision = request.device, settings.precision
    compiled = settings.compile and learner.tower is None
    encoding = shared_encoding(backbone, device, precision, settings.batch_size, compiled)
    if learner.tower is not None and request.previous is not None and "tower" in request.previous.arrays:
        return replace(encoding, tower=learner.tower), None
    return encoding, cache_of(backbone, device, precision, settings.embedding_cache, settings.max_memory)


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Scale each row to length one; a row of zeros stays as it is."""
    norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norm > 0, norm, 1)


@torch.no_grad()
def _collect(request: FitRequest, settings: SimpleNamespace, backbone: Backbone, learner: Learner) -> FitResult:
    """Copy everything learned to arrays on the CPU."""
    state = FittedState(
        record=BackboneRecord.of(backbone),
        tokens=request.tokens,
        scale=request.scale,
        logit_scale=backbone.logit_scale,
        arrays={name: module_arrays(module) for name, module in learner.modules().items()},
        structure=request.structure,
        asked_for=[settings.model_name, None if settings.pretrained is None else str(settings.pretrained)],
    )
    prototypes = learner.prototypes().cpu().numpy()
    return FitResult(state, prototypes, list(learner.history), str(request.device))


def fitted_encoding(
    state: FittedState, backbone: Callable[[], Backbone], settings: SimpleNamespace, device: torch.device
) -> ImageEncoding:
    """How images pass the fitted tower on `device`; the backbone is loaded only where its own tower is used."""
    if "tower" not in state.arrays:
        return shared_encoding(backbone(), device, settings.precision, settings.batch_size, settings.compile)
    tower = build_image_tower(state.record.image_config)
    load_module(tower, state.arrays["tower"])
    tower = tower.to(device)
    return ImageEncoding(
        torch.compile(tower) if settings.compile else tower,
        state.record.preprocessing,
        state.record.embedding_width,
        device,
        settings.precision,
        settings.batch_size,
    )


def fitted_adapter(state: FittedState) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the image adapter as a function on arrays of unit rows, or None where there is none."""
    if "adapter" not in state.arrays:
        return None
    adapter = ImageAdapter(state.record.embedding_width, state.structure["image_adapter"])
    load_module(adapter, state.arrays["adapter"])

    @torch.inference_mode()
    def adapt(embeddings: np.ndarray) -> np.ndarray:
        return adapter(torch.tensor(embeddings)).numpy()

    return adapt
