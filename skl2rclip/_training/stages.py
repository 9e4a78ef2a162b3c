"""The optimisation: two stages with the same verbs, the loop that drives them, early stopping, history, progress.

What is trained arrives as modules and leaves with its weights changed. Paths, labels and the estimator are not known
here.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.distributed import ProcessGroup
from skl2rclip._training.early_stopping import EarlyStopping
from skl2rclip._training.learner import Batch, EncodedImages, Learner, TrainingData, parameter_group
from skl2rclip._training.objective import TERMS
from skl2rclip._training.plan import IMAGE_TOWER, PROMPTS
from skl2rclip._utils.devices import is_out_of_memory, release_memory, to_device
from skl2rclip._utils.eta import ProgressMonitor, quicker_device
from skl2rclip._utils.progress import progress_bar
from skl2rclip._utils.threads import LoadWatch, threads_for
from skl2rclip.errors import NonFiniteLossError

_log = logging.getLogger(__name__)
# of an epoch's record, what a bar has room for
_SHOWN = ("loss", "cross_fitted_rps", "validation_rps", "validation_mae")
# the image tower's weight decay as a share of the prompts', from the authors' optimiser
_IMAGE_WEIGHT_DECAY = 0.01
# of the image tower's own weights, the step that image_learning_rate="auto" makes
_RELATIVE_RATE = 2e-3


class Keeper(Protocol):
    """Says what of a stage's training is kept, where that is not simply what is there at its end."""

    def restore(self, learner: Learner) -> None:
        """Give the learner what is to be kept."""

    def kept_epoch(self, learner: Learner) -> int:
        """Return the epoch that it is of, 0 where that is the start."""

    def log_kept(self, learner: Learner) -> None:
        """Say what that is."""


class PromptStage:
    """First stage: prompts, RankFormer and adapter learn from the frozen tower's embeddings.

    Candidates train in the place of the learner's adapter, and provide it.
    """

    name = PROMPTS
    rates: ClassVar[str] = "learning_rate"
    warm_up: ClassVar[float] = 0.0
    quicker: ClassVar[list[str]] = [
        "fewer prompt_epochs",
        "a larger batch_size",
        "a model_name with a smaller text tower",
    ]

    def __init__(self, learner: Learner, settings: Settings, candidates: CandidateSelection | None = None):
        self.learner, self.settings, self._candidates = learner, settings, candidates
        self.keeper: Keeper | None = candidates

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say what learns, and at which rate."""
        adapter = self.learner.adapter if self._candidates is None else self._candidates.adapters
        return self.learner.parameter_groups(self.settings, adapter)

    def epoch(self, data: TrainingData, batch_size: int) -> Iterator[Batch]:
        """Yield the features of each batch, and what belongs to them."""
        assert data.images is not None
        images, generator = data.images, self.learner.generator
        # a start that has seen all views loses what it has of them by one at a time
        has_seen = isinstance(self.learner.adapter, RidgeAdapter)
        for rows in to_device(data.order(batch_size, generator), self.learner.device).split(batch_size):
            yield data.batch(images.own(rows) if has_seen else images.drawn(rows, generator), rows)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the gradients of a batch; return its loss and terms."""
        if self._candidates is not None:
            return self._candidates.step(self.learner, batch)
        loss, terms = self.learner.loss(self.learner.adapt(batch.inputs), self.learner.prototypes(), batch)
        if loss.requires_grad:
            loss.backward()
        return loss, terms

    @property
    def n_products(self) -> int:
        """How many products a step takes, about: of a small text tower they are not worth several threads."""
        return self.learner.prompts.n_products

    def evaluate(self) -> dict[str, float]:
        """Score what was learned in an epoch out of fold, by the training images alone."""
        return {} if self._candidates is None else self._candidates.evaluate(self.learner)

    def held_out(self, data: TrainingData, batch_size: int) -> EncodedImages:
        """Return what the tower makes of images that the stage does not learn from."""
        assert data.images is not None
        return data.images


class TowerStage:
    """Second stage: prompts, RankFormer, adapter and the image tower learn from pixels."""

    n_products: ClassVar[None] = None  # many enough for all threads
    rates: ClassVar[str] = "learning_rate or image_learning_rate"
    # of the steps: AdamW's first ones, at the full rate, would wreck what the first stage has brought
    warm_up: ClassVar[float] = 0.1

    quicker: ClassVar[list[str]] = [
        "image_tower='frozen', whose images pass the tower once",
        "fewer image_epochs",
        "a smaller model_name",
    ]

    def __init__(self, learner: Learner, settings: Settings, keeper: Keeper | None = None, name: str = IMAGE_TOWER):
        self.learner, self.settings, self.keeper, self.name = learner, settings, keeper, name

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say what learns, and at which rate."""
        assert self.learner.tower is not None
        rate, decay = self.settings.image_learning_rate, _IMAGE_WEIGHT_DECAY * self.settings.weight_decay
        tower = parameter_group([self.learner.tower], _rate_for(self.learner.tower, rate), decay)
        return [*self.learner.parameter_groups(self.settings, self.learner.adapter), tower]

    def epoch(self, data: TrainingData, batch_size: int) -> Iterator[Batch]:
        """Yield the pixels of each batch, and what belongs to them."""
        if self.learner.group.size > 1:
            yield from self._epoch_of_group(self.learner.group, data, batch_size)
            return
        assert data.pixels is not None
        order = data.order(batch_size, self.learner.generator)
        pixels = data.pixels.batches(order.split(batch_size))
        for rows in to_device(order, self.learner.device).split(batch_size):
            yield data.batch(next(pixels), rows)

    def _epoch_of_group(self, group: ProcessGroup, data: TrainingData, batch_size: int) -> Iterator[Batch]:
        """Each process embeds its share of each batch; what fills uneven shares up has weight zero."""
        assert data.share is not None
        assert data.pixels is not None
        learner = self.learner
        largest_share = math.ceil(len(data.target) / group.size)
        n_steps = min(math.ceil(len(data.target) / batch_size), largest_share)
        length = math.ceil(largest_share / n_steps)
        order = torch.randperm(len(data.share), generator=learner.generator)
        chunks = order.tensor_split(n_steps)
        padded = [torch.cat([chunk, order[:1].expand(length - len(chunk))]) for chunk in chunks]
        weights = torch.ones_like(data.target, dtype=torch.float32) if data.weight is None else data.weight
        for chunk, rows, pixels in zip(chunks, padded, data.pixels.batches(padded), strict=True):
            own = data.batch(pixels, to_device(data.share[rows], learner.device))
            weight = weights[own.rows] * (torch.arange(length, device=learner.device) < len(chunk))
            yield Batch(
                pixels,
                group.all_gather(own.rows),
                group.all_gather(own.target),
                group.all_gather(weight),
                None if own.distributions is None else group.all_gather(own.distributions),
            )

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Make the gradients of a batch, those of all processes where there are several; return loss and terms."""
        learner = self.learner
        assert learner.tower is not None
        images = learner.read(learner.group.all_gather(learner.embed_pixels(batch.inputs, self.settings.augment)))
        adapted, prototypes = learner.adapt(images.features), learner.prototypes()
        loss, terms = learner.loss(adapted, prototypes, batch, learner.logits(images.embeddings, adapted, prototypes))
        loss.backward()
        head = [learner.prompts] if learner.adapter is None else [learner.prompts, learner.adapter]
        learner.group.all_reduce_gradients(learner.tower, (p for module in head for p in module.parameters()))
        return loss, terms

    def evaluate(self) -> dict[str, float]:
        """Nothing is scored out of fold."""
        return {}

    def held_out(self, data: TrainingData, batch_size: int) -> EncodedImages:
        """Return what the tower makes of images that the stage does not learn from."""
        assert data.pixels is not None
        batches = torch.arange(len(data.pixels)).split(batch_size)
        rows = [self.learner.embed_pixels(pixels, augmented=False) for pixels in data.pixels.batches(batches)]
        return self.learner.read(torch.cat(rows))


def _rate_for(tower: torch.nn.Module, rate: float | str) -> float:
    """Learning rate of a tower, by default in proportion to its weights: those of wide towers are small.

    References
    ----------
    Steps relative to the weights' root mean square: Adafactor (Shazeer and Stern, ICML 2018), there for each matrix.
    """
    if not isinstance(rate, str):
        return rate
    squares = [(p.detach().square().sum().item(), p.numel()) for p in tower.parameters() if p.ndim > 1]
    return _RELATIVE_RATE * math.sqrt(sum(square for square, _ in squares) / sum(n for _, n in squares))


Stage = PromptStage | TowerStage


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is, beside what the learner and its keepers know; made of what a record may hold."""

    n_epochs: int = 0
    is_over: bool = False  # before its last epoch
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        n_epochs: int,
        is_over: bool,
        optimizer: torch.optim.AdamW,
        falling: torch.optim.lr_scheduler.LambdaLR | None,
    ) -> StageProgress:
        """Look at a stage between two epochs."""
        return cls(n_epochs, is_over, optimizer.state_dict(), None if falling is None else falling.state_dict())

    def restore(self, optimizer: torch.optim.AdamW, falling: torch.optim.lr_scheduler.LambdaLR | None) -> None:
        """Bring optimiser and rates to where they were."""
        assert self.optimizer is not None
        optimizer.load_state_dict(self.optimizer)
        if falling is not None:
            assert self.schedule is not None
            falling.load_state_dict(self.schedule)


def optimizer_for(stage: Stage) -> torch.optim.AdamW | None:
    """AdamW over what the stage trains, or None where that is nothing."""
    groups = [group for group in stage.parameter_groups() if any(p.numel() for p in group["params"])]
    return torch.optim.AdamW(groups, fused=stage.learner.device.type in ("cpu", "cuda")) if groups else None


def run_stage(
    stage: Stage,
    data: TrainingData,
    *,
    n_epochs: int,
    batch_size: int,
    last_epoch: int | None = None,
    decay: bool = True,
    stopping: EarlyStopping | None = None,
    optimizer: torch.optim.AdamW | None = None,
    on_epoch_begin: Callable[[], None] | None = None,
    on_epoch_end: Callable[[], bool | None] | None = None,
    begun: StageProgress | None = None,
    keep: Callable[[StageProgress], None] | None = None,
) -> torch.optim.AdamW | None:
    """Run one stage up to `last_epoch` of the `n_epochs` that the rates are made for; None where nothing trains.

    With `decay` the rates fall to zero along half a cosine, after the stage's warm-up. The best weights of `stopping`,
    over all stages that it has watched, are put back at the end. The stage ends where `on_epoch_end` returns True. A
    stage that has `begun` goes on, with the learner and all that watches it as they were then; `keep` is given what
    that takes after each epoch.

    References
    ----------
    The two stages of CLIP-ReID (Li et al., AAAI 2023), on which the authors' optimiser is built.
    """
    learner = stage.learner
    optimizer = optimizer or optimizer_for(stage)
    if optimizer is None or n_epochs == 0:
        return optimizer
    steps_of_epoch = math.ceil(len(data.target) / batch_size)
    n_steps = n_epochs * steps_of_epoch
    falling = _cosine(optimizer, n_steps, stage.warm_up) if decay else None
    n_epochs = n_epochs if last_epoch is None else last_epoch
    if begun is None:
        begun = StageProgress()
        if stopping is not None:
            stopping.begin()
    else:
        begun.restore(optimizer, falling)
    is_shown = bool(stage.settings.verbose) and learner.group.rank == 0
    _log.info(
        "Stage %s begins: at most %d epochs of %d images, %d at a time, on %s.",
        stage.name,
        n_epochs,
        len(data.target),
        batch_size,
        learner.device,
    )
    since, n_before = time.monotonic(), len(learner.history) - begun.n_epochs
    monitor = _monitor(stage, (n_epochs - begun.n_epochs) * steps_of_epoch)
    is_over = begun.is_over
    with threads_for(stage.n_products) as watch, progress_bar(is_shown, stage.name, n_epochs, "epoch") as bar:
        bar.update(begun.n_epochs)
        for number in range(begun.n_epochs, n_epochs):
            if is_over:
                break
            if on_epoch_begin is not None:
                on_epoch_begin()
            rate = max(group["lr"] for group in optimizer.param_groups)
            record = {"stage": stage.name, "epoch": len(learner.history) + 1, "learning_rate": rate}
            values = _epoch(stage, data, batch_size, optimizer, falling, monitor, watch).tolist()
            means = learner.group.broadcast(dict(zip(("loss", *TERMS), values, strict=True)))
            _check_finite(means, stage, record, optimizer)
            record |= means | stage.evaluate()
            if stopping is not None:
                record |= stopping.update(learner, stage.held_out(stopping.data, batch_size))
            learner.history.append(record)
            bar.set_postfix({key: f"{record[key]:.4g}" for key in _SHOWN if key in record}, refresh=False)
            bar.update()
            _log.debug("%s", record)
            is_over = on_epoch_end is not None and bool(on_epoch_end())
            is_over |= stopping is not None and stopping.is_over
            if keep is not None:
                keep(StageProgress.of(number + 1, is_over, optimizer, falling))
    n_run, seconds = len(learner.history) - n_before, time.monotonic() - since
    _log.info("Stage %s ended after %d epochs and %.1f s.", stage.name, n_run, seconds)
    keeper = stopping or stage.keeper
    if keeper is not None:
        keeper.restore(learner)
        keeper.log_kept(learner)
    kept_epoch = len(learner.history) if keeper is None else keeper.kept_epoch(learner)
    for record in learner.history[n_before:]:
        record["kept"] = int(record["epoch"] == kept_epoch)
    learner.group.broadcast_module(learner.modules())
    return optimizer


@contextmanager
def as_if_ended(stage: Stage, stopping: EarlyStopping | None) -> Iterator[None]:
    """Between two epochs, show the learner as it would be if the stage ended here."""
    keeper, learner = stopping or stage.keeper, stage.learner
    if keeper is None:
        yield
        return
    adapter, present = learner.adapter, copy.deepcopy(learner.modules().state_dict())
    keeper.restore(learner)
    try:
        yield
    finally:
        learner.adapter = adapter
        learner.modules().load_state_dict(present)


def _monitor(stage: Stage, n_steps: int) -> ProgressMonitor | None:
    """Watch a stage, to say where it takes long; of several processes, the first one."""
    learner = stage.learner
    if learner.group.rank > 0:
        return None
    ends = [] if stage.settings.early_stopping else ["early_stopping=True, which may end it sooner"]
    quicker = [*quicker_device(learner.device), *stage.quicker, *ends]
    return ProgressMonitor(f"The stage {stage.name!r} of the training on {learner.device}", n_steps, "step", quicker)


def _cosine(optimizer: torch.optim.AdamW, n_steps: int, warm_up: float) -> torch.optim.lr_scheduler.LambdaLR:
    n_rising = max(1, warm_up * n_steps)

    def share(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * step / n_steps)) * min(1, (step + 1) / n_rising)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _epoch(
    stage: Stage,
    data: TrainingData,
    batch_size: int,
    optimizer: torch.optim.AdamW,
    falling: torch.optim.lr_scheduler.LambdaLR | None,
    monitor: ProgressMonitor | None,
    watch: LoadWatch,
) -> Tensor:
    """One pass over the data; means of the loss and of the terms in that order, left on the device."""
    sums, count = torch.zeros(1 + len(TERMS), device=stage.learner.device), 0
    # nothing here waits for the device: what goes to it was put there before, or is copied alongside
    for batch in stage.epoch(data, batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss, terms = stage.step(batch)
        optimizer.step()
        if falling is not None:
            falling.step()
        if monitor is not None:
            monitor.step()
        watch.step()
        sums += len(batch.target) * torch.stack([loss.detach(), *(terms[name].detach() for name in TERMS)])
        count += len(batch.target)
    return sums / count


def _check_finite(means: dict[str, float], stage: Stage, record: dict[str, Any], optimizer: torch.optim.AdamW) -> None:
    names = [name for name in TERMS if not math.isfinite(means[name])]
    if not names and math.isfinite(means["loss"]):
        return
    rates = " and ".join(f"{group.get('initial_lr', group['lr']):g}" for group in optimizer.param_groups)
    raise NonFiniteLossError(
        f"Training stopped in epoch {record['epoch']} (stage {stage.name!r}): the {' and '.join(names) or 'total'} "
        f"loss is not finite at learning rate {rates}. Lower {stage.rates}, or use precision='float32'."
    )


def largest_batch_size(stage: TowerStage, data: TrainingData, largest: int) -> int:
    """Find a batch that fits the device's memory, with the optimiser's moments, by trying steps.

    Where `largest` does not fit, activations are computed again in the backward pass instead of being kept, which
    costs a third more time and leaves the batch, over which the losses compare images, as it is; where that does not
    suffice either, the batch is halved.
    """
    assert data.pixels is not None
    learner = stage.learner
    assert learner.tower is not None
    size, keep_less = min(largest, len(data.pixels)), getattr(learner.tower, "set_grad_checkpointing", None)
    # the training's own random numbers stay where they are
    alone = replace(learner, generator=torch.Generator().manual_seed(0), group=ProcessGroup())
    trial = TowerStage(alone, stage.settings)
    while True:
        try:
            _try_step(trial, data, size)
            return size
        except RuntimeError as error:
            if not is_out_of_memory(error) or (size == 1 and keep_less is None):
                raise
        finally:
            learner.modules().zero_grad(set_to_none=True)
        release_memory(learner.device)
        if keep_less is not None:
            keep_less(True)
            keep_less = None
        else:
            size //= 2


def _try_step(stage: TowerStage, data: TrainingData, size: int) -> None:
    assert data.pixels is not None
    learner = stage.learner
    assert learner.tower is not None
    moments = [torch.empty_like(parameter) for parameter in learner.tower.parameters() for _ in range(2)]
    [pixels] = data.pixels.batches([torch.arange(size)])
    images = learner.read(learner.embed_pixels(pixels, stage.settings.augment))
    terms = learner.objective.terms(learner.adapt(images.features), learner.prototypes(), data.target[:size], None)
    torch.stack([*terms.values()]).sum().backward()
    del moments
