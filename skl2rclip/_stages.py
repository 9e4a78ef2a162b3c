"""The optimisation: two stages with the same verbs, the loop that drives them, early stopping, history, progress.

What is trained arrives as modules and leaves with its weights changed. Paths, labels and the estimator are not known
here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from skl2rclip._device_group import DeviceGroup
from skl2rclip._devices import to_device
from skl2rclip._modules import ImageAdapter, RidgeAdapter
from skl2rclip._objective import TERMS, Objective
from skl2rclip._pixel_store import PixelStore
from skl2rclip._preprocessing import Preprocessing, augment, normalize
from skl2rclip._prompts import RankPrompts
from skl2rclip._ranks import ranked_scores, read_out
from skl2rclip._settings import Settings
from skl2rclip.errors import NonFiniteLossError

# the image tower's weight decay as a share of the prompts', from the authors' optimiser
_IMAGE_WEIGHT_DECAY = 0.01
# the adapter's rate as a share of the prompts', with soft targets, where it starts close to its end
_ADAPTER_SHARE = 1 / 3


@dataclass(frozen=True)
class Batch:
    """Images of one step.

    Attributes
    ----------
    inputs : tensor
        What the stage embeds: unit rows of shape (n, D), or pixels.
    rows : tensor of shape (n,), int64
        Which images of the data these are.
    target : tensor of shape (n,), int64
    weight : tensor of shape (n,), or None
    distributions : tensor of shape (n, K), or None
    """

    inputs: Tensor
    rows: Tensor
    target: Tensor
    weight: Tensor | None
    distributions: Tensor | None


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
    distributions : tensor of shape (n, K), float32, or None
        Soft targets; None where each image is to be its rank alone.
    """

    target: Tensor
    weight: Tensor | None
    embeddings: Tensor | None = None
    pixels: PixelStore | None = None
    share: Tensor | None = None
    distributions: Tensor | None = None

    def batch(self, inputs: Tensor, rows: Tensor) -> Batch:
        """Put inputs and what belongs to them together."""
        weight = None if self.weight is None else self.weight[rows]
        distributions = None if self.distributions is None else self.distributions[rows]
        return Batch(inputs, rows, self.target[rows], weight, distributions)

    def order(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Rows in the order of an epoch; with a single batch it means nothing but other rounding errors."""
        n = len(self.target)
        return torch.randperm(n, generator=generator) if n > batch_size else torch.arange(n)


@dataclass
class Learner:
    """The modules that learn, and what goes with them.

    Attributes
    ----------
    prompts : RankPrompts
    adapter : ImageAdapter or RidgeAdapter or None
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
    adapter: ImageAdapter | RidgeAdapter | None
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

    def loss(self, embeddings: Tensor, prototypes: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and its terms."""
        terms = self.objective.terms(embeddings, prototypes, batch.target, batch.weight, batch.distributions)
        return self.objective.total(terms), terms

    def parameter_groups(self, settings: Settings, adapter: nn.Module | None) -> list[dict[str, Any]]:
        """Parameter groups of prompts, RankFormer and an adapter."""
        rate, decay = settings.learning_rate, settings.weight_decay
        adapters = [] if adapter is None else [adapter]
        if not settings.is_soft:
            return [_group([self.prompts, *adapters], rate, decay)]
        return [
            _group([self.prompts], rate, decay),
            *(_group([each], _ADAPTER_SHARE * rate, decay) for each in adapters),
        ]


def _group(modules: list[nn.Module], rate: float, weight_decay: float) -> dict[str, Any]:
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return {"params": parameters, "lr": rate, "weight_decay": weight_decay}


class PromptStage:
    """First stage: prompts, RankFormer and adapter learn from the frozen tower's embeddings.

    Parameters
    ----------
    learner : Learner
        Changed in place.
    settings : Settings
    contest : Contest, optional
        Trains in the place of the learner's adapter, and provides it.
    """

    name: ClassVar[str] = "prompts"
    needs: ClassVar[str] = "embeddings"
    rates: ClassVar[str] = "learning_rate"

    def __init__(self, learner: Learner, settings: Settings, contest: Contest | None = None):
        self.learner, self._settings, self._contest = learner, settings, contest

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say what learns, and at which rate."""
        adapter = self.learner.adapter if self._contest is None else self._contest.adapters
        return self.learner.parameter_groups(self._settings, adapter)

    def epoch(self, data: TrainingData, batch_size: int) -> Iterator[Batch]:
        """Yield the embeddings of each batch, and what belongs to them."""
        assert data.embeddings is not None
        for rows in to_device(data.order(batch_size, self.learner.generator), self.learner.device).split(batch_size):
            yield data.batch(data.embeddings[rows], rows)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the gradients of a batch; return its loss and terms."""
        if self._contest is not None:
            return self._contest.step(self.learner, batch)
        loss, terms = self.learner.loss(self.learner.adapt(batch.inputs), self.learner.prototypes(), batch)
        if loss.requires_grad:
            loss.backward()
        return loss, terms

    def look(self) -> dict[str, float]:
        """Judge what was learned in an epoch by the training images alone; return the score."""
        return {} if self._contest is None else self._contest.look(self.learner)

    def finish(self) -> None:
        """Keep what was judged best."""
        if self._contest is not None:
            self._contest.restore(self.learner)

    def held_out(self, data: TrainingData, batch_size: int) -> Tensor:
        """Embeddings of images that the stage does not learn from, tensor of shape (n, D)."""
        assert data.embeddings is not None
        return self.learner.adapt(data.embeddings)


class TowerStage:
    """Second stage: prompts, RankFormer and the image tower learn from pixels.

    Parameters
    ----------
    learner : Learner
        Changed in place.
    settings : Settings
    """

    name: ClassVar[str] = "image_tower"
    needs: ClassVar[str] = "pixels"
    rates: ClassVar[str] = "learning_rate or image_learning_rate"

    def __init__(self, learner: Learner, settings: Settings):
        self.learner, self._settings = learner, settings

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Say what learns, and at which rate."""
        assert self.learner.tower is not None
        decay = _IMAGE_WEIGHT_DECAY * self._settings.weight_decay
        tower = _group([self.learner.tower], self._settings.image_learning_rate, decay)
        return [*self.learner.parameter_groups(self._settings, self.learner.adapter), tower]

    def epoch(self, data: TrainingData, batch_size: int) -> Iterator[Batch]:
        """Yield the pixels of each batch, and what belongs to them."""
        if self.learner.group is not None:
            yield from self._epoch_of_group(self.learner.group, data, batch_size)
            return
        assert data.pixels is not None
        order = data.order(batch_size, self.learner.generator)
        pixels = data.pixels.batches(order.split(batch_size))
        for rows in to_device(order, self.learner.device).split(batch_size):
            yield data.batch(next(pixels), rows)

    def _epoch_of_group(self, group: DeviceGroup, data: TrainingData, batch_size: int) -> Iterator[Batch]:
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
                group.gathered(own.rows),
                group.gathered(own.target),
                group.gathered(weight),
                None if own.distributions is None else group.gathered(own.distributions),
            )

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the gradients of a batch, those of all processes where there are several; return loss and terms."""
        learner = self.learner
        embeddings = learner.embed_pixels(batch.inputs, self._settings.augment)
        if learner.group is not None:
            embeddings = learner.group.gathered(embeddings)
        loss, terms = learner.loss(embeddings, learner.prototypes(), batch)
        loss.backward()
        if learner.group is not None:
            assert learner.tower is not None
            learner.group.reduce_gradients(learner.tower, learner.prompts.parameters())
        return loss, terms

    def look(self) -> dict[str, float]:
        """Nothing is judged by the training images alone."""
        return {}

    def finish(self) -> None:
        """Keep what is there."""

    def held_out(self, data: TrainingData, batch_size: int) -> Tensor:
        """Embeddings of images that the stage does not learn from, tensor of shape (n, D)."""
        assert data.pixels is not None
        batches = torch.arange(len(data.pixels)).split(batch_size)
        return torch.cat(
            [self.learner.embed_pixels(pixels, augmented=False) for pixels in data.pixels.batches(batches)]
        )


Stage = PromptStage | TowerStage


class EarlyStopping:
    """Watches images that training does not see, and keeps the best weights, in memory.

    With soft targets a result is better if its ranked probability score is smaller; else if its mean absolute error in
    rank values is, or that is equal and the cross-entropy smaller.

    Parameters
    ----------
    data : TrainingData
        Of the held-out images; ``pixels`` at the tower's own resolution.
    settings : Settings
        For the read-out of the predictions that are scored, and the epochs without a better result after which a stage
        ends.
    """

    def __init__(self, data: TrainingData, settings: Settings):
        self._data = data
        self._decision = settings.decision
        self._patience = settings.n_iter_no_change
        self._judged_by = ("validation_rps",) if settings.is_soft else ("validation_mae", "validation_loss")
        self._best: tuple[float, ...] = (math.inf,)
        self._best_state: dict[str, Tensor] | None = None
        self._without_improvement = 0

    def begin(self) -> None:
        """Begin to count for another stage; the best weights so far stay."""
        self._without_improvement = 0

    @property
    def is_over(self) -> bool:
        """Whether the stage has gone on without improvement for as long as is allowed."""
        return self._without_improvement >= self._patience

    @torch.no_grad()
    def update(self, stage: Stage, batch_size: int) -> dict[str, float]:
        """Score the present weights, keep them if they are the best so far, and return the scores."""
        learner = stage.learner
        scores = self._score(learner, stage.held_out(self._data, batch_size))
        if learner.group is not None:  # all processes stop together
            scores = learner.group.as_the_first(scores)
        result = tuple(scores[name] for name in self._judged_by)
        if result < self._best:
            self._best = result
            self._best_state = copy.deepcopy(learner.modules().state_dict())
            self._without_improvement = 0
        else:
            self._without_improvement += 1
        return scores

    def _score(self, learner: Learner, embeddings: Tensor) -> dict[str, float]:
        data = self._data
        logits = learner.objective.logit_scale * embeddings @ learner.prototypes().T  # (n, K)
        weight = torch.ones(len(logits), device=logits.device) if data.weight is None else data.weight
        loss = (weight * F.cross_entropy(logits, data.target, reduction="none")).sum() / weight.sum()
        values = learner.objective.rank_values.cpu().double().numpy()
        probabilities, target = logits.double().softmax(dim=1).cpu().numpy(), data.target.cpu().numpy()
        error = np.abs(values[read_out(probabilities, values, self._decision)] - values[target])
        return {
            "validation_mae": float(np.average(error, weights=weight.cpu().numpy())),
            "validation_loss": loss.item(),
            "validation_rps": float(np.average(ranked_scores(probabilities, target), weights=weight.cpu().numpy())),
        }

    def restore(self, learner: Learner) -> None:
        """Put the best weights back."""
        if self._best_state is not None:
            learner.modules().load_state_dict(self._best_state)


class Contest:
    """Candidates for the targets, each with adapters of its own, trained side by side on the same prompts.

    Beside the adapter that sees everything, each candidate has one for each fold of the images, which misses that fold.
    What these say of the images that they miss, by the ranked probability score, tells which candidate to take, and
    how far training may go. The text tower, which a step costs, runs once for all.

    Parameters
    ----------
    data : TrainingData
    adapters : RidgeAdapter
        C (1 + F) maps: of each candidate the one that sees everything first, then one for each fold.
    distributions : tensor of shape (C (1 + F), n, K)
        Targets of each.
    fold : tensor of shape (n,), int64
        Which fold an image is in.
    every : int, default=1
        Epochs between two looks.
    """

    def __init__(self, data: TrainingData, adapters: RidgeAdapter, distributions: Tensor, fold: Tensor, every: int = 1):
        self.adapters = adapters
        self._data, self._distributions, self._fold, self._every = data, distributions, fold, every
        self._n_maps = int(fold.max()) + 2  # of a candidate
        self._n_epochs = 0
        self._best: tuple[float, dict[str, Tensor], RidgeAdapter] | None = None

    def step(self, learner: Learner, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the gradients of a batch; return loss and terms, the mean over the candidates.

        The folds' adapters leave the prompts alone.
        """
        prototypes, adapted = learner.prototypes(), self.adapters.all(batch.inputs)
        fold, zero = self._fold[batch.rows], prototypes.new_zeros(())
        total, loss_of_all, terms_of_all = zero, [], []
        for place, embeddings in enumerate(adapted):
            number = place % self._n_maps - 1
            weight, texts = batch.weight, prototypes
            if number >= 0:
                seen = (fold != number).float()
                weight, texts = seen if weight is None else seen * weight, prototypes.detach()
                # a batch of which an adapter sees nothing may not divide by zero
                weight = torch.where(weight.sum() > 0, weight, torch.full_like(weight, 1e-12))
            part = replace(batch, weight=weight, distributions=self._distributions[place][batch.rows])
            loss, terms = learner.loss(embeddings, texts, part)
            if number < 0:
                loss_of_all.append(loss)
                terms_of_all.append(terms)
            else:
                total = total + loss
        loss = torch.stack(loss_of_all).mean()
        total = total + loss
        if total.requires_grad:
            total.backward()
        return loss, torch.stack(terms_of_all).mean(dim=0)

    @torch.no_grad()
    def look(self, learner: Learner, *, now: bool = False) -> dict[str, float]:
        """Give the learner the adapter of the candidate that foretells best at present, and return its score."""
        self._n_epochs += not now
        if self._n_epochs % self._every and not now:
            return {}
        data = self._data
        assert data.embeddings is not None
        prototypes, adapted = learner.prototypes(), self.adapters.all(data.embeddings)
        rows, weight = torch.arange(len(self._fold), device=learner.device), data.weight
        target = data.target.cpu().numpy()
        scores = []
        for first in range(0, len(adapted), self._n_maps):
            missed = adapted[first + 1 + self._fold, rows]  # of each image by the adapter that misses it
            probabilities = (learner.objective.logit_scale * missed @ prototypes.T).double().softmax(dim=1)
            each = ranked_scores(probabilities.cpu().numpy(), target)
            scores.append(float(np.average(each, weights=None if weight is None else weight.cpu().numpy())))
        if learner.group is not None:
            scores = learner.group.as_the_first(scores)
        best = int(np.argmin(scores))
        learner.adapter = self.adapters.copy_of(best * self._n_maps)
        if self._best is None or scores[best] < self._best[0]:
            self._best = (scores[best], copy.deepcopy(learner.prompts.state_dict()), learner.adapter)
        return {"cross_fitted_rps": scores[best]}

    def restore(self, learner: Learner) -> None:
        """Give the learner the prompts and the adapter that foretold best."""
        assert self._best is not None
        _, prompts, learner.adapter = self._best
        learner.prompts.load_state_dict(prompts)


def optimizer_for(stage: Stage) -> torch.optim.AdamW | None:
    """AdamW over what the stage trains, or None where that is nothing."""
    groups = [group for group in stage.parameter_groups() if any(p.numel() for p in group["params"])]
    return torch.optim.AdamW(groups, fused=stage.learner.device.type == "cuda") if groups else None


def run_stage(
    stage: Stage,
    data: TrainingData,
    *,
    n_epochs: int,
    batch_size: int,
    decay: bool = True,
    stopping: EarlyStopping | None = None,
    optimizer: torch.optim.AdamW | None = None,
    on_epoch_end: Callable[[], None] | None = None,
    verbose: int = 0,
) -> torch.optim.AdamW | None:
    """Run one stage of the training.

    Parameters
    ----------
    stage : PromptStage or TowerStage
    data : TrainingData
    n_epochs : int
    batch_size : int
    decay : bool, default=True
        Let the learning rates fall to zero along half a cosine.
    stopping : EarlyStopping, optional
        Its best weights, over all stages that it has watched, are put back at the end.
    optimizer : AdamW, optional
        To go on with; a new one by default.
    on_epoch_end : callable, optional
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
    learner = stage.learner
    optimizer = optimizer or optimizer_for(stage)
    if optimizer is None or n_epochs == 0:
        return optimizer
    falling = _cosine(optimizer, n_epochs * math.ceil(len(data.target) / batch_size)) if decay else None
    if stopping is not None:
        stopping.begin()
    is_silent = not verbose or (learner.group is not None and learner.group.rank > 0)
    with tqdm(range(n_epochs), desc=stage.name, disable=is_silent, unit="epoch") as epochs:
        for _ in epochs:
            rate = max(group["lr"] for group in optimizer.param_groups)
            record = {"stage": stage.name, "epoch": len(learner.history) + 1, "learning_rate": rate}
            means = _epoch(stage, data, batch_size, optimizer, falling).tolist()
            if learner.group is not None:
                means = learner.group.as_the_first(means)
            _check_finite(means, stage, record, optimizer)
            record |= dict(zip(("loss", *TERMS), means, strict=True)) | stage.look()
            if stopping is not None:
                record |= stopping.update(stage, batch_size)
            learner.history.append(record)
            epochs.set_postfix({key: f"{record[key]:.4g}" for key in ("loss", "validation_mae") if key in record})
            if on_epoch_end is not None:
                on_epoch_end()
            if stopping is not None and stopping.is_over:
                break
    if stopping is not None:
        stopping.restore(learner)
    else:
        stage.finish()
    if learner.group is not None:
        learner.group.align(learner.modules())
    return optimizer


def _cosine(optimizer: torch.optim.AdamW, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / n_steps)))


def _epoch(
    stage: Stage,
    data: TrainingData,
    batch_size: int,
    optimizer: torch.optim.AdamW,
    falling: torch.optim.lr_scheduler.LambdaLR | None,
) -> Tensor:
    """One pass over the data; means of the loss and of the terms, tensor of shape (5,), left on the device."""
    sums, count = torch.zeros(1 + len(TERMS), device=stage.learner.device), 0
    # nothing here waits for the device: what goes to it was put there before, or is copied alongside
    for batch in stage.epoch(data, batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss, terms = stage.step(batch)
        optimizer.step()
        if falling is not None:
            falling.step()
        sums += len(batch.target) * torch.cat([loss.detach()[None], terms.detach()])
        count += len(batch.target)
    return sums / count


def _check_finite(means: list[float], stage: Stage, record: dict[str, Any], optimizer: torch.optim.AdamW) -> None:
    names = [name for name, mean in zip(TERMS, means[1:], strict=True) if not math.isfinite(mean)]
    if not names and math.isfinite(means[0]):
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

    Raises
    ------
    torch.OutOfMemoryError
        If not even one image fits.
    """
    assert data.pixels is not None
    learner = stage.learner
    assert learner.tower is not None
    size, keep_less = min(largest, len(data.pixels)), getattr(learner.tower, "set_grad_checkpointing", None)
    # the training's own random numbers stay where they are
    trial = TowerStage(replace(learner, generator=torch.Generator().manual_seed(0), group=None), stage._settings)
    while True:
        try:
            _try_step(trial, data, size)
            return size
        except torch.OutOfMemoryError:
            if size == 1 and keep_less is None:
                raise
        finally:
            learner.modules().zero_grad(set_to_none=True)
        if learner.device.type == "cuda":
            torch.cuda.empty_cache()
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
    embeddings = learner.embed_pixels(pixels, stage._settings.augment)
    learner.objective.terms(embeddings, learner.prototypes(), data.target[:size], None).sum().backward()
    del moments


def split_off_validation(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
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
    groups : ndarray of shape (n,), optional
        Images of one group are held out together, or not at all.

    Returns
    -------
    ndarray of shape (n,), bool
        True for the images to hold out.
    """
    if groups is not None:
        return _split_off_groups(target, fraction, generator, groups)
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


def _split_off_groups(
    target: np.ndarray, fraction: float, generator: np.random.Generator, groups: np.ndarray
) -> np.ndarray:
    """Choose whole groups along the ranks, none that a rank would lose its last image with."""
    group = np.unique(groups, return_inverse=True)[1]
    mean_rank = np.bincount(group, target) / np.bincount(group)
    shuffled = generator.permutation(len(mean_rank))
    by_rank = shuffled[np.argsort(mean_rank[shuffled], kind="stable")]
    # from one end of the scale to the other in strides, so that few groups already stand for all ranks
    stride = max(1, round(1 / fraction))
    offset = int(generator.integers(stride))
    order = np.concatenate([by_rank[(offset + first) % stride :: stride] for first in range(stride)])
    left, held_out = np.bincount(target), np.zeros(len(target), dtype=bool)
    for number in order:
        members = group == number
        counts = np.bincount(target[members], minlength=len(left))
        if held_out.sum() >= max(1, round(fraction * len(target))):
            break
        if (counts < left)[counts > 0].all():
            held_out |= members
            left = left - counts
    return held_out
