"""What learns, and what it learns from: modules, batches, the loss of a batch.

``_training.stages`` optimises it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._clip.backbone import Backbone, precision_of, seeded
from skl2rclip._clip.features import FeatureTower
from skl2rclip._clip.text_tower import TextTower
from skl2rclip._embedding.pixel_store import PixelStore
from skl2rclip._images.preprocessing import Preprocessing, augment, normalize
from skl2rclip._model.modules import FeatureProjection, ImageAdapter, RankFormer, RidgeAdapter, ZeroShot, image_adapter
from skl2rclip._model.prompts import RankPrompts, tokenize_whole_prompts
from skl2rclip._model.state import load_module
from skl2rclip._ordinal.features import EMBEDDING, FeatureBlocks, Projection
from skl2rclip._ordinal.views import ONE_VIEW, Views
from skl2rclip._settings import Settings
from skl2rclip._training.distributed import ProcessGroup
from skl2rclip._training.objective import TERMS, Objective
from skl2rclip._training.request import FitRequest
from skl2rclip._utils.devices import autocast_for, to_device

# the adapter's rate as a share of the prompts', with soft targets, where it starts close to its end
_ADAPTER_SHARE = 1 / 3


@dataclass(frozen=True)
class EncodedImages:
    """What a tower, or a table, gives of images, or of several views of each, one after the other."""

    features: Tensor  # (n, P), what the adapter maps: the embeddings, or a projection of all that is read
    embeddings: Tensor | None  # (n, D), unit rows, what words are compared with; None for tables that hold none
    views: Views = ONE_VIEW

    def own(self, images: Tensor) -> Tensor:
        """Features of some images as they are, tensor of shape (images, P)."""
        return self.features[images * self.views.n]

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Features of some images, tensor of shape (images, P), each by one of the views that are learned from."""
        views = self.views
        if views.n == 1:
            return self.features[images]
        view = torch.randint(views.n_learned, images.shape, generator=generator)
        return self.features[images * views.n + to_device(view, images.device)]

    @property
    def predicted(self) -> EncodedImages:
        """The views that predictions see, and no others."""
        views = self.views
        if views.n == views.n_predicted:
            return self

        def first(rows: Tensor) -> Tensor:
            return rows.unflatten(0, (-1, views.n))[:, : views.n_predicted].flatten(0, 1)

        return EncodedImages(
            first(self.features), None if self.embeddings is None else first(self.embeddings), views.predicted
        )


@dataclass(frozen=True)
class Batch:
    """Images of one step; of several models of the batch, M stands before the shapes of weight and distributions."""

    inputs: Tensor  # what the stage maps: features (n, P), or pixels
    rows: Tensor  # (n,), int64, which images of the data these are
    target: Tensor  # (n,), int64
    weight: Tensor | None  # (n,)
    distributions: Tensor | None  # (n, K)


@dataclass
class TrainingData:
    """What the optimisation sees of the images."""

    target: Tensor  # (n,), int64, index of each image's rank
    weight: Tensor | None  # (n,), float32
    images: EncodedImages | None = None  # by the frozen tower, for training prompts alone
    pixels: PixelStore | None = None  # images of shape (H', W', 3), for training the image tower
    # (m,), int64, on the CPU: the images whose pixels this process of a group has; None for all of them
    share: Tensor | None = None
    distributions: Tensor | None = None  # (n, K), float32, soft targets; None where each image is to be its rank alone

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
    """The modules that learn, and what goes with them."""

    prompts: RankPrompts
    adapter: ImageAdapter | RidgeAdapter | None
    tower: nn.Module | None  # a copy of the image tower that may change
    preprocessing: Preprocessing
    objective: Objective
    autocast: torch.autocast  # of the text tower
    image_autocast: torch.autocast
    generator: torch.Generator  # on the CPU: order of the batches, augmentation
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry an epoch, appended to
    zero_shot: ZeroShot | None = None  # what the names say by themselves
    blocks: FeatureBlocks = field(default_factory=lambda: FeatureBlocks((), None))  # columns of a tower or table
    features: str = EMBEDDING  # which blocks are read
    projection: FeatureProjection | None = None  # of rows to what the adapter maps; None for the embedding as it is
    views: Views = ONE_VIEW  # of each image that the frozen tower gives
    group: ProcessGroup = field(default_factory=ProcessGroup)  # the processes that train together
    compiles: bool = False  # the tower
    _reader: nn.Module | None = None  # the tower, with what it holds before its embedding where that is read

    def modules(self) -> nn.ModuleDict:
        """Return everything that has weights of its own, by name."""
        parts = {
            "prompts": self.prompts,
            "projection": self.projection,
            "adapter": self.adapter,
            "zero_shot": self.zero_shot,
            "tower": self.tower,
        }
        return nn.ModuleDict({name: module for name, module in parts.items() if module is not None})

    @property
    def device(self) -> torch.device:
        """Where training runs."""
        return self.prompts.context.device

    @property
    def measured_share(self) -> ZeroShot | None:
        """What the names say, where it is for training to find how much of it to keep."""
        return self.zero_shot if self.zero_shot is not None and self.zero_shot.is_measured else None

    @property
    def prototypes_width(self) -> int:
        """Number D of columns of prototypes and embeddings."""
        assert self.zero_shot is not None
        return self.zero_shot.prototypes.shape[1]

    def take_features(self, features: str, projection: Projection | None, adapter: str) -> None:
        """Read these features from now on, by an adapter that is yet to begin."""
        self.features = features
        width, n_features = self.prototypes_width, None
        if projection is not None:
            n_columns, n_features = projection.weight.shape
            self.projection = FeatureProjection(n_columns, n_features)
            load_module(self.projection, {"mean": projection.mean, "weight": projection.weight})
            self.projection.to(self.device)
        if self.adapter is not None:
            self.adapter = RidgeAdapter(width, adapter, n_features=n_features).to(self.device)

    def read(self, rows: Tensor, views: Views = ONE_VIEW) -> EncodedImages:
        """Divide rows of shape (n, W) of a tower or table into what words are compared with, and what is mapped."""
        columns = self.blocks.embedding_columns
        embeddings = None if columns is None else rows[:, columns]
        if self.projection is not None:
            return EncodedImages(self.projection(rows), embeddings, views)
        assert embeddings is not None
        return EncodedImages(embeddings, embeddings, views)

    def adapt(self, features: Tensor) -> Tensor:
        """Map features to unit rows of shape (n, D), by the image adapter where there is one."""
        return features if self.adapter is None else self.adapter(features)

    @property
    def reader(self) -> nn.Module:
        """The tower that is being trained, with what it holds before its embedding where that is read."""
        assert self.tower is not None
        if self._reader is None:
            self._reader = self.tower if self.blocks.is_plain else FeatureTower(self.tower)
            if self.compiles:
                self._reader.compile()
        return self._reader

    def embed_pixels(self, pixels: Tensor, augmented: bool) -> Tensor:
        """Pass uint8 pixels on the device through the tower that is being trained, rows of shape (n, W)."""
        if augmented:
            pixels = augment(pixels, self.preprocessing.size, self.generator)
        with self.image_autocast:
            rows = self.reader(normalize(pixels, self.preprocessing)).float()
        width = self.prototypes_width
        return torch.cat([F.normalize(rows[:, :width], dim=-1), rows[:, width:]], dim=1)

    def prototypes(self) -> Tensor:
        """Return the text prototypes, tensor of shape (K, D), unit rows."""
        with self.autocast:
            return self.prompts()

    def logits(self, embeddings: Tensor | None, adapted: Tensor, prototypes: Tensor) -> Tensor:
        """Logits, as predictions have them, of embeddings and of what the adapter makes of images, (n, K)."""
        logits = self.objective.logits(adapted, prototypes)
        if self.zero_shot is None or embeddings is None:
            return logits
        return self.zero_shot(logits, self.objective.logits(embeddings, self.zero_shot.prototypes))

    @torch.no_grad()
    def probabilities(self, images: EncodedImages) -> np.ndarray:
        """Say how likely each rank is, ndarray of shape (n, K), float64, by the mean over the views predictions see."""
        images = images.predicted
        logits = self.logits(images.embeddings, self.adapt(images.features), self.prototypes())
        # not all devices have doubles
        return images.views.of_prediction(logits.cpu().double().softmax(dim=1).numpy())

    def loss(
        self, embeddings: Tensor, prototypes: Tensor, batch: Batch, logits: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and its terms; zero where no image of it has weight, as when images are left out.

        `logits` are those of predictions, where they are not simply the similarities of embeddings and prototypes. Of
        several embeddings of the batch, as `Objective.terms` takes them, each has its loss.
        """
        weight = batch.weight
        if weight is None:
            terms = self.objective.terms(embeddings, prototypes, batch.target, None, batch.distributions, logits)
            return self.objective.total(terms), terms
        counts = weight.sum(dim=-1) > 0  # stays on the device
        weight = torch.where(counts[..., None], weight, torch.ones_like(weight))
        terms = self.objective.terms(embeddings, prototypes, batch.target, weight, batch.distributions, logits)
        terms = {name: counts * term for name, term in terms.items()}
        return self.objective.total(terms), terms

    def state(self) -> dict[str, Any]:
        """Return everything that training changes; of a group, with the generators of all processes."""
        return {
            "modules": self.modules().state_dict(),
            "history": [dict(record) for record in self.history],
            "generators": self.group.all_gather_object(self.generator.get_state()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.modules().load_state_dict(state["modules"])
        self.history[:] = state["history"]
        self.generator.set_state(state["generators"][self.group.rank])

    def epoch_of(self, scores: dict[str, float]) -> int:
        """Return the first epoch that has these scores, 0 where none has and the start was best."""
        epochs = [record["epoch"] for record in self.history if scores.items() <= record.items()]
        return epochs[0] if epochs else 0

    def parameter_groups(self, settings: Settings, adapter: nn.Module | None) -> list[dict[str, Any]]:
        """Parameter groups of prompts, RankFormer and an adapter."""
        rate, decay = settings.learning_rate, settings.weight_decay
        adapters = [] if adapter is None else [adapter]
        if not settings.is_soft:
            return [parameter_group([self.prompts, *adapters], rate, decay)]
        return [
            parameter_group([self.prompts], rate, decay),
            *(parameter_group([each], _ADAPTER_SHARE * rate, decay) for each in adapters),
        ]


def parameter_group(modules: list[nn.Module], rate: float, weight_decay: float) -> dict[str, Any]:
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return {"params": parameters, "lr": rate, "weight_decay": weight_decay}


def build_learner(request: FitRequest, backbone: Backbone, group: ProcessGroup) -> Learner:
    """Build the modules, with the weights of the previous training where there is one."""
    device, settings, previous = request.device, request.settings, request.previous
    text_tower = backbone.text_tower(device)
    generator = torch.Generator().manual_seed(request.seed)
    rankformer = adapter = None
    projection = None if previous is None else previous.projection
    with seeded(request.seed):
        if settings.rankformer_layers:
            rankformer = RankFormer(text_tower.width, settings.rankformer_layers, settings.blend_ratio)
        if settings.image_adapter is not None:
            kind = settings.adapter_kind if previous is None else previous.adapter_kind
            n_features = None if projection is None else projection.weight.shape[1]
            adapter = image_adapter(backbone.embedding_width, kind, settings.rank_targets, n_features)
    tower = backbone.image_tower_copy(device) if settings.finetunes else None
    learner = Learner(
        prompts=RankPrompts(
            request.tokens, text_tower, rankformer, tune_ranks=settings.tune_ranks, generator=generator
        ),
        adapter=adapter,
        zero_shot=_zero_shot(request, backbone, text_tower),
        tower=tower,
        preprocessing=backbone.preprocessing,
        objective=Objective(
            weights={name: getattr(settings, term.parameter) for name, term in TERMS.items()},
            logit_scale=backbone.logit_scale,
            rank_values=torch.from_numpy(_distances(request.scale.values)).float().to(device),
        ),
        autocast=autocast_for(settings.precision, device),
        image_autocast=autocast_for(precision_of(tower, settings.precision), device),
        generator=generator,
        history=[] if previous is None else [dict(entry) for entry in previous.history],
        group=group,
        compiles=settings.compile,
        blocks=_blocks(request, backbone),
        features=EMBEDDING if previous is None else previous.features,
        projection=None if projection is None else FeatureProjection(*projection.weight.shape),
    )
    modules = learner.modules().to(device)
    if previous is not None:
        for name, module in modules.items():
            if name in previous.arrays:
                load_module(module, previous.arrays[name])
    assert learner.zero_shot is not None
    if not isinstance(settings.zero_shot_share, str) and learner.blocks.embedding is not None:
        learner.zero_shot.share.fill_(settings.zero_shot_share)
    if learner.tower is not None and device.type == "cuda":
        learner.tower.to(memory_format=torch.channels_last)  # what its convolutions prefer, and how the pixels come
    return learner


def _blocks(request: FitRequest, backbone: Backbone) -> FeatureBlocks:
    """Say what the columns of a table are, or of what the tower is to give."""
    if request.blocks is not None:
        return request.blocks
    if request.previous is not None:
        return request.previous.blocks
    wanted = request.settings.image_features
    if wanted == EMBEDDING or request.one_pass or not request.settings.may_read_tower:
        return FeatureBlocks.of_embeddings(backbone.embedding_width)
    return backbone.readable_blocks if wanted == "auto" else backbone.feature_blocks


def _zero_shot(request: FitRequest, backbone: Backbone, text_tower: TextTower) -> ZeroShot:
    """Zero-shot prototypes, of the whole prompt with each rank's name; none of it counts yet."""
    settings, zero_shot = request.settings, ZeroShot(len(request.scale.ranks), backbone.embedding_width)
    has_embedding = request.blocks is None or request.blocks.embedding is not None
    zero_shot.is_measured = has_embedding and isinstance(settings.zero_shot_share, str)
    if request.previous is None:
        names, position = request.scale.names, settings.rank_position
        tokens = tokenize_whole_prompts(backbone.tokenizer(), settings.prompt, names, position)
        prompts = RankPrompts(tokens, text_tower, None, tune_ranks=False, generator=torch.Generator())
        with torch.no_grad(), autocast_for(settings.precision, request.device):
            zero_shot.prototypes.copy_(prompts())
    return zero_shot


def _distances(values: np.ndarray) -> np.ndarray:
    """Rank values from the lowest on, of a size whose differences single precision holds, float64."""
    shifted = values - values.min()
    largest = shifted.max()
    return shifted if 1e-6 < largest < 1e6 else shifted / largest
