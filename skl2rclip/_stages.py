"""The optimisation: prompts alone, then prompts together with the image tower; history, early stopping, progress.

What is trained arrives as modules and leaves with its weights changed. Paths, labels and parameters of the estimator
are not known here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from skl2rclip._device_group import DeviceGroup
from skl2rclip._devices import to_device
from skl2rclip._modules import ImageAdapter
from skl2rclip._objective import TERMS, Objective
from skl2rclip._pixel_store import PixelStore
from skl2rclip._preprocessing import Preprocessing, augment, normalize
from skl2rclip._prompts import RankPrompts
from skl2rclip._ranks import read_out
from skl2rclip.errors import NonFiniteLossError

# the image tower's weight decay as a share of the prompts', from the authors' optimiser
_IMAGE_WEIGHT_DECAY = 0.01


@dataclass
class TrainingData:
    """What the optimisation sees of the images.

    Attributes
    ----------
    target : tensor of shape (n,), int64
        Index of each image's rank.
    weight : tensor of shape (n,), float32, or None
    embeddings : tensor of shape (n, D), float32, or None
        Unit rows from the frozen tower, for training prompts alone.
    pixels : PixelStore or None
        Images of shape (H', W', 3), for training the image tower.
    share : tensor of shape (m,), int64, or None
        The images whose pixels this process of a group has, on the CPU; None for all of them.
    """

    target: Tensor
    weight: Tensor | None
    embeddings: Tensor | None = None
    pixels: PixelStore | None = None
    share: Tensor | None = None


@dataclass(frozen=True)
class Schedule:
    """How to optimise.

    Attributes
    ----------
    batch_size : int
    learning_rate : float
        Of the prompts, RankFormer and the image adapter.
    image_learning_rate : float
        Of the image tower.
    weight_decay : float
        Of the prompts, RankFormer and the image adapter; the image tower has 0.01 of it.
    decay : bool, default=True
        Let the learning rates fall to zero along half a cosine.
    patience : int or None
        Epochs without a better validation result after which a stage ends.
    """

    batch_size: int
    learning_rate: float
    image_learning_rate: float
    weight_decay: float
    decay: bool = True
    patience: int | None = None


@dataclass
class Learner:
    """The modules that learn, and what goes with them.

    Attributes
    ----------
    prompts : RankPrompts
    adapter : ImageAdapter or None
    tower : nn.Module or None
        A copy of the image tower that may change.
    preprocessing : Preprocessing
    objective : Objective
    autocast : torch.autocast
    generator : torch.Generator
        On the CPU: order of the batches, augmentation.
    history : list of dict
        One entry an epoch, appended to.
    group : DeviceGroup or None
        The processes that train together.
    """

    prompts: RankPrompts
    adapter: ImageAdapter | None
    tower: nn.Module | None
    preprocessing: Preprocessing
    objective: Objective
    autocast: torch.autocast
    generator: torch.Generator
    history: list[dict[str, Any]] = field(default_factory=list)
    group: DeviceGroup | None = None

    def modules(self) -> nn.ModuleDict:
        """Return everything that has weights of its own, by name."""
        parts = {"prompts": self.prompts, "adapter": self.adapter, "tower": self.tower}
        return nn.ModuleDict({name: module for name, module in parts.items() if module is not None})

    @property
    def device(self) -> torch.device:
        """Where training runs."""
        return self.prompts.context.device

    def adapt(self, embeddings: Tensor) -> Tensor:
        """Pass unit rows through the image adapter where there is one."""
        return embeddings if self.adapter is None else self.adapter(embeddings)

    def embed_pixels(self, pixels: Tensor, augmented: bool) -> Tensor:
        """Embed uint8 pixels on the device with the tower that is being trained, tensor of shape (n, D), unit rows."""
        assert self.tower is not None
        if augmented:
            pixels = augment(pixels, self.preprocessing.size, self.generator)
        with self.autocast:
            embeddings = self.tower(normalize(pixels, self.preprocessing))
        return F.normalize(embeddings.float(), dim=-1)

    def prototypes(self) -> Tensor:
        """Return the text prototypes, tensor of shape (K, D), unit rows."""
        with self.autocast:
            return self.prompts()


class EarlyStopping:
    """Watches images that training does not see, and keeps the best weights, in memory.

    A result is better if its mean absolute error in rank values is smaller, or equal with a smaller cross-entropy.

    Parameters
    ----------
    data : TrainingData
        Of the held-out images; ``pixels`` at the tower's own resolution.
    decision : str
        Read-out of the predictions that are scored.
    """

    def __init__(self, data: TrainingData, decision: str):
        self._data = data
        self._decision = decision
        self._best: tuple[float, float] = (math.inf, math.inf)
        self._best_state: dict[str, Tensor] | None = None
        self.epochs_without_improvement = 0

    @torch.no_grad()
    def update(self, learner: Learner, batch_size: int, from_pixels: bool) -> dict[str, float]:
        """Score the present weights, keep them if they are the best so far, and return the scores."""
        scores = self._score(learner, batch_size, from_pixels)
        if learner.group is not None:  # all processes stop together
            scores = learner.group.as_the_first(scores)
        result = (scores["validation_mae"], scores["validation_loss"])
        if result < self._best:
            self._best = result
            self._best_state = copy.deepcopy(learner.modules().state_dict())
            self.epochs_without_improvement = 0
        else:
            self.epochs_without_improvement += 1
        return scores

    def _score(self, learner: Learner, batch_size: int, from_pixels: bool) -> dict[str, float]:
        data = self._data
        if from_pixels:
            assert data.pixels is not None
            batches = torch.arange(len(data.pixels)).split(batch_size)
            parts = [learner.embed_pixels(pixels, augmented=False) for pixels in data.pixels.batches(batches)]
            embeddings = torch.cat(parts)
        else:
            assert data.embeddings is not None
            embeddings = learner.adapt(data.embeddings)
        logits = learner.objective.logit_scale * embeddings @ learner.prototypes().T  # (n, K)
        weight = torch.ones(len(logits), device=logits.device) if data.weight is None else data.weight
        loss = (weight * F.cross_entropy(logits, data.target, reduction="none")).sum() / weight.sum()
        values = learner.objective.rank_values.cpu().double().numpy()
        predicted = read_out(logits.double().softmax(dim=1).cpu().numpy(), values, self._decision)
        error = np.abs(values[predicted] - values[data.target.cpu().numpy()])
        return {
            "validation_mae": float(np.average(error, weights=weight.cpu().numpy())),
            "validation_loss": loss.item(),
        }

    def restore(self, learner: Learner) -> None:
        """Put the best weights back."""
        if self._best_state is not None:
            learner.modules().load_state_dict(self._best_state)


def optimizer_for(learner: Learner, schedule: Schedule, *, train_tower: bool) -> torch.optim.AdamW | None:
    """AdamW over what is to be trained, or None where nothing is."""
    text = [*learner.prompts.parameters(), *([] if learner.adapter is None else learner.adapter.parameters())]
    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for parameter in text if parameter.requires_grad],
            "lr": schedule.learning_rate,
            "weight_decay": schedule.weight_decay,
        }
    ]
    if train_tower:
        assert learner.tower is not None
        groups.append(
            {
                "params": list(learner.tower.parameters()),
                "lr": schedule.image_learning_rate,
                "weight_decay": _IMAGE_WEIGHT_DECAY * schedule.weight_decay,
            }
        )
    groups = [group for group in groups if any(parameter.numel() for parameter in group["params"])]
    if not groups:
        return None
    return torch.optim.AdamW(groups, fused=learner.device.type == "cuda")


def largest_batch_size(learner: Learner, data: TrainingData, largest: int, *, augmented: bool) -> int:
    """Halve `largest` until a step of the second stage fits the device's memory, with the optimiser's moments.

    Raises
    ------
    torch.OutOfMemoryError
        If not even one image fits.
    """
    assert data.pixels is not None
    size = min(largest, len(data.pixels))
    trial = replace(learner, generator=torch.Generator().manual_seed(0))  # the training's own stays where it is
    while True:
        try:
            _try_step(trial, data, size, augmented)
            return size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        finally:
            learner.modules().zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        size //= 2


def _try_step(learner: Learner, data: TrainingData, size: int, augmented: bool) -> None:
    assert data.pixels is not None
    assert learner.tower is not None
    moments = [torch.empty_like(parameter) for parameter in learner.tower.parameters() for _ in range(2)]
    [pixels] = data.pixels.batches([torch.arange(size)])
    embeddings = learner.embed_pixels(pixels, augmented)
    terms = learner.objective.terms(embeddings, learner.prototypes(), data.target[:size], None)
    terms.sum().backward()
    del moments


def train_stage(
    stage: str,
    learner: Learner,
    data: TrainingData,
    schedule: Schedule,
    n_epochs: int,
    *,
    augmented: bool = False,
    stopping: EarlyStopping | None = None,
    optimizer: torch.optim.AdamW | None = None,
    on_epoch_end: Callable[[Learner], None] | None = None,
    verbose: int = 0,
) -> torch.optim.AdamW | None:
    """Run one stage of the training.

    Parameters
    ----------
    stage : {"prompts", "image_tower"}
        "prompts" trains prompts, RankFormer and adapter on cached embeddings; "image_tower" trains prompts, RankFormer
        and the image tower on pixels.
    learner : Learner
        Changed in place.
    data : TrainingData
    schedule : Schedule
    n_epochs : int
    augmented : bool, default=False
        Crop and mirror at random; for "image_tower" only.
    stopping : EarlyStopping, optional
        Its best weights, over all stages that it has watched, are put back at the end.
    optimizer : AdamW, optional
        To go on with; a new one by default.
    on_epoch_end : callable, optional
        Called with the learner.
    verbose : int, default=0
        Show a progress bar.

    Returns
    -------
    AdamW or None
        None where nothing is trainable.

    Raises
    ------
    NonFiniteLossError
        Naming epoch, term and learning rate.

    References
    ----------
    The two stages of CLIP-ReID (Li et al., AAAI 2023), on which the authors' optimiser is built.
    """
    on_pixels = stage == "image_tower"
    optimizer = optimizer or optimizer_for(learner, schedule, train_tower=on_pixels)
    if optimizer is None or n_epochs == 0:
        return optimizer
    n_batches = math.ceil(len(data.target) / schedule.batch_size)
    decay = None
    if schedule.decay:
        n_steps = n_epochs * n_batches
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / n_steps))
        )
    if stopping is not None:
        stopping.epochs_without_improvement = 0
    is_silent = not verbose or (learner.group is not None and learner.group.rank > 0)
    with tqdm(range(n_epochs), desc=stage, disable=is_silent, unit="epoch") as epochs:
        for _ in epochs:
            rates = {group["lr"] for group in optimizer.param_groups}
            record = {"stage": stage, "epoch": len(learner.history) + 1, "learning_rate": max(rates)}
            means = _epoch(learner, data, schedule.batch_size, optimizer, decay, on_pixels, augmented).tolist()
            if learner.group is not None:
                means = learner.group.as_the_first(means)
            _check_finite(means, stage, record, optimizer)
            record |= dict(zip(("loss", *TERMS), means, strict=True))
            if stopping is not None:
                record |= stopping.update(learner, schedule.batch_size, on_pixels)
            learner.history.append(record)
            epochs.set_postfix({key: f"{record[key]:.4g}" for key in ("loss", "validation_mae") if key in record})
            if on_epoch_end is not None:
                on_epoch_end(learner)
            if stopping is not None and stopping.epochs_without_improvement >= (schedule.patience or math.inf):
                break
    if stopping is not None:
        stopping.restore(learner)
    if learner.group is not None:
        learner.group.align(learner.modules())
    return optimizer


def _epoch(
    learner: Learner,
    data: TrainingData,
    batch_size: int,
    optimizer: torch.optim.AdamW,
    decay: torch.optim.lr_scheduler.LambdaLR | None,
    on_pixels: bool,
    augmented: bool,
) -> Tensor:
    """One pass over the data; means of the loss and of the terms, tensor of shape (4,), left on the device."""
    sums, count = torch.zeros(4, device=learner.device), 0
    # nothing here waits for the device: what goes to it was put there before, or is copied alongside
    for embeddings, target, weight in _steps(learner, data, batch_size, on_pixels, augmented):
        terms = learner.objective.terms(embeddings, learner.prototypes(), target, weight)
        loss = learner.objective.total(terms)
        optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
        if on_pixels and learner.group is not None:
            assert learner.tower is not None
            learner.group.reduce_gradients(learner.tower, learner.prompts.parameters())
        optimizer.step()
        if decay is not None:
            decay.step()
        sums += len(target) * torch.cat([loss.detach()[None], terms.detach()])
        count += len(target)
    return sums / count


def _steps(
    learner: Learner, data: TrainingData, batch_size: int, on_pixels: bool, augmented: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Embeddings, targets and weights of each batch, with gradients to whatever makes the embeddings."""
    if on_pixels and learner.group is not None:
        yield from _steps_of_group(learner, data, batch_size, augmented)
        return
    n = len(data.target)
    # with a single batch the order means nothing but other rounding errors
    order = torch.randperm(n, generator=learner.generator) if n > batch_size else torch.arange(n)
    pixels = None
    if on_pixels:
        assert data.pixels is not None
        pixels = data.pixels.batches(order.split(batch_size))
    for chosen in to_device(order, learner.device).split(batch_size):
        if pixels is not None:
            embeddings = learner.embed_pixels(next(pixels), augmented)
        else:
            assert data.embeddings is not None
            embeddings = learner.adapt(data.embeddings[chosen])
        yield embeddings, data.target[chosen], None if data.weight is None else data.weight[chosen]


def _steps_of_group(
    learner: Learner, data: TrainingData, batch_size: int, augmented: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """As `_steps`, each process embedding its share of each batch; what fills uneven shares up has weight zero."""
    group = learner.group
    assert group is not None
    assert data.share is not None
    assert data.pixels is not None
    largest_share = math.ceil(len(data.target) / group.size)
    n_steps = min(math.ceil(len(data.target) / batch_size), largest_share)
    length = math.ceil(largest_share / n_steps)
    order = torch.randperm(len(data.share), generator=learner.generator)
    chunks = order.tensor_split(n_steps)
    padded = [torch.cat([chunk, order[:1].expand(length - len(chunk))]) for chunk in chunks]
    weights = torch.ones_like(data.target, dtype=torch.float32) if data.weight is None else data.weight
    for chunk, rows, pixels in zip(chunks, padded, data.pixels.batches(padded), strict=True):
        chosen = to_device(data.share[rows], learner.device)
        weight = weights[chosen] * (torch.arange(length, device=learner.device) < len(chunk))
        embeddings = group.gathered(learner.embed_pixels(pixels, augmented))
        yield embeddings, group.gathered(data.target[chosen]), group.gathered(weight)


def _check_finite(means: list[float], stage: str, record: dict[str, Any], optimizer: torch.optim.AdamW) -> None:
    names = [name for name, mean in zip(TERMS, means[1:], strict=True) if not math.isfinite(mean)]
    if not names and math.isfinite(means[0]):
        return
    rates = " and ".join(
        f"{group['initial_lr' if 'initial_lr' in group else 'lr']:g}" for group in optimizer.param_groups
    )
    parameters = "learning_rate" if stage == "prompts" else "learning_rate or image_learning_rate"
    raise NonFiniteLossError(
        f"Training stopped in epoch {record['epoch']} (stage {stage!r}): the {' and '.join(names) or 'total'} loss "
        f"is not finite at learning rate {rates}. Lower {parameters}, or use precision='float32'."
    )


def split_off_validation(target: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Choose validation images evenly along the ranks, and never the only image of a rank.

    scikit-learn's stratified splits refuse ranks with a single image and sets smaller than the number of ranks, both
    common among ages; ordered labels allow to take every so-many-th image of the sorted set instead.

    Parameters
    ----------
    target : ndarray of shape (n,), int
        Index of each image's rank.
    fraction : float
        Share to hold out, in (0, 1).
    generator : numpy Generator

    Returns
    -------
    ndarray of shape (n,), bool
        True for the images to hold out.
    """
    shuffled = generator.permutation(len(target))
    by_rank = shuffled[np.argsort(target[shuffled], kind="stable")]
    counts = np.bincount(target)
    place = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)  # within the rank
    candidates = by_rank[place > 0]
    n_held_out = min(max(1, round(fraction * len(target))), len(candidates))
    held_out = np.zeros(len(target), dtype=bool)
    if n_held_out:
        offset = generator.random()
        every = len(candidates) / n_held_out
        held_out[candidates[((np.arange(n_held_out) + offset) * every).astype(int)]] = True
    return held_out
