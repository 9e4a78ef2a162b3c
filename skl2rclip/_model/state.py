"""`FittedState`: everything that was learned, what it makes of images, and its form as arrays and JSON.

No torch object is part of what is kept, so that a model fitted on CUDA loads where there is none. How it was learned is
not known here, and neither are files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch import nn

from skl2rclip._clip.backbone import Backbone, build_image_tower
from skl2rclip._clip.features import FeatureTower
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.untrusted import check_config
from skl2rclip._embedding.cache import EmbeddingCache
from skl2rclip._embedding.embedder import check_headers, embed_chunks
from skl2rclip._embedding.encoding import ImageEncoding, cache_of, shared_encoding
from skl2rclip._images.files import ImageLike
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._model.modules import FeatureProjection, RankFormer, ZeroShot, image_adapter
from skl2rclip._model.prompts import PromptTokens, split_prompt, tokens_before
from skl2rclip._ordinal.features import EMBEDDING, FeatureBlocks, Projection, read
from skl2rclip._ordinal.leverage import Leverage
from skl2rclip._ordinal.ranks import RankScale, given_ranks, names_of, values_of
from skl2rclip._ordinal.soft_targets import RunningErrors
from skl2rclip._settings import Settings
from skl2rclip._utils.arguments import Recorded, check_prompt
from skl2rclip._utils.devices import explain_out_of_memory, own_precision, resolve_device
from skl2rclip._utils.progress import counted
from skl2rclip.errors import InvalidParameterError

_MAX_LABELS = 10**8

_AS_THEY_ARE = ("structure", "device", "features", "n_views", "n_groups", "noise", "trust", "n_columns")  # in JSON

Arrays = dict[str, np.ndarray]

# what decides shapes and meaning of the learned arrays: training can go on only with the same
STRUCTURE = (
    "image_tower",
    "image_features",
    "image_adapter",
    "rank_targets",
    "prompt",
    "n_context_tokens",
    "rank_position",
    "tune_ranks",
    "rankformer_layers",
    "white_level",
)


@dataclass(frozen=True)
class FittedState:
    """Everything that predicting, training on and saving need beside the constructor's parameters. Never changed."""

    record: BackboneRecord  # the backbone, by name and fingerprint
    tokens: PromptTokens  # what the prompts started from
    scale: RankScale
    logit_scale: float  # factor of the similarities
    prototypes: np.ndarray  # (K, D), float32, unit rows in rank order
    # weights of "prompts" and "zero_shot", and where there is one of "projection", "adapter" and "tower"
    arrays: dict[str, Arrays]
    # the parameters that decide shapes and meaning of the arrays, and which value is white in images
    structure: dict[str, Any]
    asked_for: tuple[str | None, str | None]  # model_name and pretrained of the fit
    history: tuple[dict[str, Any], ...]  # one entry an epoch
    device: str  # where it was trained
    blocks: FeatureBlocks  # the columns of what a tower or table gives
    features: str  # which of them are read
    n_images: tuple[int, ...]  # of each rank, in rank order, that the last fit and what came after it have learned from
    n_groups: int | None = None  # that these were of, where the fit was told
    n_views: int = 1  # of each image that it learned from
    # error of a ridge regression on images that it has not seen, in the unit of the ranks' values; None where it was
    # not measured
    noise: float | None = None
    trust: float | None = None  # share of the labels' variance that it explains
    errors: RunningErrors | None = None  # of the images of `partial_fit`, each predicted before it was learned from
    n_columns: int | None = None  # of a table of embeddings, or 1 for a column of images; None for images in a row
    column_names: tuple[str, ...] | None = None  # where the table has them
    leverage: Leverage | None = None  # of an image's embedding, or of what is read of a table without one
    resumed_from_epoch: int = 0  # of a checkpoint, how many epochs had been made before
    # to go on from, in this process only
    optimizer_state: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    # where it was loaded along with the model
    backbone: Backbone | None = field(default=None, compare=False, repr=False)
    _towers: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # modules on a device and the optimiser's moments are not for other processes
        return {**self.__dict__, "optimizer_state": None, "backbone": None, "_towers": {}}

    # ---------------------------------------------------------- what it does

    def check_settings(self, settings: Settings, ranks: Any, rank_names: Any) -> None:
        """Refuse parameters that were set after the fit and say something else than what was learned.

        Whether X holds images or embeddings of a frozen tower may change, and so may everything that only says where
        and how to compute.
        """
        names = ("image_features", "image_adapter", "white_level")
        pairs = {name: (self.structure[name], getattr(settings, name)) for name in names}
        if "finetune" in (self.structure["image_tower"], settings.image_tower):
            pairs["image_tower"] = (self.structure["image_tower"], settings.image_tower)
        if self.structure["white_level"] is None:
            del pairs["white_level"]
        if ranks is not None:
            pairs["ranks"] = (self.scale.ranks.tolist(), given_ranks(ranks).tolist())
        if rank_names is not None:
            pairs["rank_names"] = (list(self.scale.names), list(names_of(self.scale.ranks, rank_names)))
        chosen = {"image_features": self.features, "image_adapter": self.adapter_kind}
        for name, (fitted, given) in pairs.items():
            if fitted != given and not (fitted == "auto" and given == chosen[name]):
                raise InvalidParameterError(
                    f"{name}={given!r} contradicts the fitted model, which has {name}={fitted!r}: set it back, or fit "
                    "again."
                )

    def check_reads_images(self, settings: Settings) -> None:
        """Refuse images where the model was fitted on a table that is not what the backbone's tower gives."""
        if self.blocks.is_plain or self.structure["image_tower"] != "precomputed":
            return
        if not self._reads(self.load_backbone(self.source(settings))):
            raise ValueError(
                f"The model was fitted on a table of {self.blocks.width} columns, of the blocks {self.blocks.shown}: "
                "it cannot read images. Make such a table of them, and set image_tower='precomputed'."
            )

    def _reads(self, backbone: Backbone) -> bool:
        """Whether the columns are those that a backbone's tower gives, whatever their names begin with."""
        return self.blocks.embedding == 0 and self.blocks.without_prefix == backbone.readable_blocks.blocks

    def check_goes_on(self, settings: Settings, scale: RankScale) -> None:
        """Refuse to train on with what would not fit the learned arrays."""
        if not np.array_equal(scale.ranks, self.scale.ranks):
            raise ValueError(
                "The ranks must stay the same when training goes on (warm_start, partial_fit): they were "
                f"{self.scale.ranks.tolist()}, got {scale.ranks.tolist()}. List all of them with ranks=[...]."
            )
        # of what was chosen, the very value may be named now
        chosen = {"n_context_tokens": self.tokens.n_context}
        now = {**{name: getattr(settings, name) for name in self.structure}, "rank_names": list(scale.names)}
        for name, before in {**self.structure, "rank_names": list(self.scale.names)}.items():
            if now[name] != before and not (before == "auto" and now[name] == chosen.get(name)):
                raise InvalidParameterError(
                    f"{name} must stay the same when training goes on (warm_start, partial_fit): it was {before!r}, "
                    f"got {now[name]!r}. Use warm_start=False, or a clone, to start anew."
                )

    @property
    def is_of_words_alone(self) -> bool:
        """Whether it has seen no image, and is what CLIP says of the names."""
        return not self.history and self.zero_shot_share == 1 and self.noise is None

    @property
    def n_learned_from(self) -> int:
        """How many images of all ranks it has learned from."""
        return int(np.sum(self.n_images))

    @property
    def needs_backbone(self) -> bool:
        """Whether images cannot be predicted without the backbone's own tower."""
        return "tower" not in self.arrays and self.structure["image_tower"] != "precomputed"

    def source(self, settings: Settings) -> BackboneSource:
        """Where the backbone is: where it came from, unless the parameters have been set to another place since."""
        is_same = (settings.model_name, settings.pretrained) == self.asked_for
        # what a saved folder says counts only where the caller has not named it himself
        has_named = isinstance(self.record.source.model_name, Recorded) and not isinstance(
            settings.model_name, Recorded
        )
        if is_same and not has_named:
            return self.record.source
        return BackboneSource(settings.model_name, settings.pretrained, self.record.source.seed)

    def load_backbone(self, source: BackboneSource) -> Backbone:
        """Load the backbone again, unless it came with the model, and check that it is the same."""
        if self.backbone is not None and source == self.record.source:
            return self.backbone
        return self.record.load(source)

    def named_source(self, settings: Settings) -> BackboneSource:
        """Name the backbone as the parameters do, whatever folder of this machine it comes from."""
        return BackboneSource(settings.model_name, settings.pretrained, self.record.source.seed)

    @property
    def projection(self) -> Projection | None:
        """Map of rows to what the adapter reads; None where that is the embedding as it is."""
        return Projection(**self.arrays["projection"]) if "projection" in self.arrays else None

    @property
    def adapter_kind(self) -> str:
        """Whether the adapter has a hidden layer."""
        kind, arrays = self.structure["image_adapter"], self.arrays.get("adapter", {})
        if kind != "auto" or "output" not in arrays:
            return "mlp" if kind in ("auto", None) else kind
        return "mlp" if arrays["output"].shape[1] else "linear"

    def embed(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> np.ndarray:
        """Embed images, or a table's rows, as the fitted model does: unit rows, ndarray of shape (n, D), float32."""
        with _explained(settings):
            return self._embed(data, settings)

    def _embed(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> np.ndarray:
        """Embed: a call of its own, so that what it has made is let go of where memory runs out."""
        adapt = self._adapter()
        with closing(self._of_tower(data, settings)) as chunks:
            result = np.empty((len(data), self.record.embedding_width), np.float32)
            for rows, of_tower in chunks:
                result[rows] = adapt(of_tower)
        return result

    def scores(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> np.ndarray:
        """How usual images are, as `Leverage.scores` has it, ndarray of shape (n,), float64."""
        with _explained(settings):
            return self._scores(data, settings)

    def _scores(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> np.ndarray:
        """Score, in a call of its own as `_embed` is."""
        with closing(self._of_tower(data, settings)) as chunks:
            result = np.empty(len(data))
            for rows, of_tower in chunks:
                result[rows] = self._scores_of(of_tower)
        return result

    def _scores_of(self, of_tower: np.ndarray) -> np.ndarray:
        assert self.leverage is not None
        columns = self.blocks.embedding_columns
        return self.leverage.scores(read(of_tower, self.blocks, self.projection if columns is None else None))

    def logits(
        self, data: list[ImageLike] | np.ndarray, settings: Settings, scores: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits ``s_ik`` as `modules.ZeroShot` has them, ndarray of shape (n, K) in rank order, float64.

        With `mirror` those of the mean of the probabilities of each image and its mirror image: its logarithm. The
        array `scores`, of shape (n,), is filled with what the method says, so that images pass the tower once for both.
        """
        with _explained(settings):
            return self._logits(data, settings, scores)

    def _logits(self, data: list[ImageLike] | np.ndarray, settings: Settings, scores: np.ndarray | None) -> np.ndarray:
        """Compute the logits, in a call of its own as `_embed` is."""
        n_views = 2 if settings.mirror and not isinstance(data, np.ndarray) else 1
        adapt, prototypes, share = self._adapter(), self.prototypes.astype(np.float64), self.zero_shot_share
        with closing(self._of_tower(data, settings, n_views)) as chunks:
            result = np.empty((len(data) * n_views, len(prototypes)))
            scored = None if scores is None else np.empty(len(result))
            for rows, of_tower in chunks:
                similarities = adapt(of_tower).astype(np.float64) @ prototypes.T
                if share:
                    embeddings = of_tower[:, self.blocks.embedding_columns]
                    names = embeddings.astype(np.float64) @ self.arrays["zero_shot"]["prototypes"].T
                    similarities = (1 - share) * similarities + share * names
                result[rows] = self.logit_scale * similarities
                if scored is not None:
                    scored[rows] = self._scores_of(of_tower)
        if scores is not None and scored is not None:
            scores[:] = scored[::n_views]
        if n_views == 1:
            return result
        log_probabilities = log_softmax(result, axis=1).reshape(len(data), n_views, -1)
        return logsumexp(log_probabilities, axis=1) - math.log(n_views)

    @property
    def zero_shot_share(self) -> float:
        """Share of what the names say by themselves in the logits."""
        return round(float(self.arrays["zero_shot"]["share"]), 6)  # as it was given: it is kept in single precision

    def _of_tower(
        self, data: list[ImageLike] | np.ndarray, settings: Settings, n_views: int = 1
    ) -> Generator[tuple[Any, np.ndarray]]:
        """Go over what the fitted tower, or a table, gives of images: indices, and rows of shape (n, W).

        Of several views of an image the indices are those of `embed_chunks`.
        """
        chunks: Any
        if isinstance(data, np.ndarray):
            chunks = [(slice(None), table_rows(data, self.blocks))]
        else:
            folder = None if "tower" in self.arrays else settings.embedding_cache
            white = WhiteLevel(settings.white_level)
            known = check_headers(data, folder, settings.n_jobs, settings.max_memory, white)
            encoding, cache = self._encoding(settings)
            how = (encoding, cache, settings.n_jobs, settings.max_memory)
            chunks = embed_chunks(data, *how, white=white, known=known, n_views=n_views)
            unit = "image" if n_views == 1 else "view"
            chunks = counted(chunks, len(data) * n_views, settings.verbose, unit=unit)
        yield from chunks

    def _encoding(self, settings: Settings) -> tuple[ImageEncoding, EmbeddingCache | None]:
        """How images pass the fitted tower, kept for the next call; the cache is for the backbone's own tower."""
        device = resolve_device(settings.device, strict=False)
        key = (str(device), settings.compile)
        if key not in self._towers:
            self._towers[key] = self._encoding_on(device, settings)
        kept, blocks = self._towers[key]
        encoding = replace(kept, precision=settings.precision, batch_size=settings.batch_size)
        if "tower" in self.arrays:
            return encoding, None
        return encoding, cache_of(
            self.record,
            device,
            settings.precision,
            settings.embedding_cache,
            settings.max_memory,
            WhiteLevel(settings.white_level),
            blocks,
            encoding.embeddings_alone,
        )

    def _encoding_on(self, device: torch.device, settings: Settings) -> tuple[ImageEncoding, FeatureBlocks]:
        """Build the fitted tower, and say what it gives; the backbone is loaded only where its own tower is used."""
        precision, batch_size = settings.precision, settings.batch_size
        if "tower" not in self.arrays:
            backbone = self._backbone(settings)
            # other fits may want to read more of the same images, which are to pass the tower once
            alone = self.blocks.is_plain and settings.may_read_tower
            blocks = self.blocks if self.blocks.is_plain and not alone else backbone.readable_blocks
            return shared_encoding(backbone, device, precision, batch_size, settings.compile, blocks, alone), blocks
        tower: Any = self._trained_tower().to(device)
        if not self.blocks.is_plain:
            tower = FeatureTower(tower)
        encoding = ImageEncoding(
            torch.compile(tower) if settings.compile else tower,
            self.record.preprocessing,
            self.blocks.width,
            device,
            precision,
            batch_size,
            embedding_width=None if self.blocks.is_plain else self.record.embedding_width,
        )
        return encoding, self.blocks

    def _backbone(self, settings: Settings) -> Backbone:
        """Load the backbone, whose own tower is used, and check that it gives what is read."""
        backbone = self.load_backbone(self.source(settings))
        if not self.blocks.is_plain and not self._reads(backbone):
            raise ValueError(
                f"The model reads {self.blocks.width} columns of its backbone's image tower, and these are others: "
                "fit again."
            )
        return backbone

    def _trained_tower(self) -> nn.Module:
        """Build the tower that the fit has trained."""
        tower = build_image_tower(self.record.image_config)
        load_module(tower, self.arrays["tower"])
        return tower

    def tower_copy(self, settings: Settings) -> nn.Module:
        """Return the fitted image tower on the CPU, as a module that nobody else uses, without gradients."""
        if "tower" in self.arrays:
            return self._trained_tower()
        return copy.deepcopy(self._backbone(settings).model.visual)

    def adapter(self) -> nn.Module | None:
        """Build the image adapter, which reads what is projected, or embeddings; None where there is none."""
        if "adapter" not in self.arrays:
            return None
        n_features = None if self.projection is None else self.projection.weight.shape[1]
        rank_targets = self.structure["rank_targets"]
        adapter = image_adapter(self.record.embedding_width, self.adapter_kind, rank_targets, n_features)
        load_module(adapter, self.arrays["adapter"])
        return adapter

    def _adapter(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return the image adapter, and what projects features for it, as a function on arrays of shape (n, W)."""
        return partial(_adapted, self.adapter(), self.blocks, self.projection)

    # ------------------------------------------------------- arrays and JSON

    def to_arrays(self) -> Arrays:
        """All arrays by one name each: ``prototypes``, and ``part.weight`` of the modules."""
        weights = {f"{part}.{name}": array for part, group in self.arrays.items() for name, array in group.items()}
        usual = {} if self.leverage is None else self.leverage.to_arrays()
        return {"prototypes": self.prototypes, **weights, **{f"leverage.{name}": each for name, each in usual.items()}}

    def to_json(self) -> dict[str, Any]:
        """Everything that is not an array, of JSON's own types."""
        ranks = self.scale.ranks
        return {
            "record": {**asdict(self.record), "preprocessing": self.record.preprocessing.to_config()},
            "tokens": asdict(self.tokens),
            "ranks": {"dtype": "str" if ranks.dtype.kind == "O" else ranks.dtype.str, "labels": ranks.tolist()},
            "values": self.scale.values.tolist(),
            "names": list(self.scale.names),
            "logit_scale": self.logit_scale,
            "structure": self.structure,
            "asked_for": list(self.asked_for),
            "history": [{name: _finite(value) for name, value in entry.items()} for entry in self.history],
            "device": self.device,
            "blocks": {
                "blocks": [list(block) for block in self.blocks.blocks],
                "embedding": self.blocks.embedding,
            },
            "features": self.features,
            "n_views": self.n_views,
            "n_images": list(self.n_images),
            "n_groups": self.n_groups,
            "adapter": self.adapter_kind,
            "n_features": None if self.projection is None else self.projection.weight.shape[1],
            "noise": _finite(self.noise),
            "trust": _finite(self.trust),
            "errors": None if self.errors is None else asdict(self.errors),
            "leverage": None if self.leverage is None else self.leverage.to_json(),
            "n_columns": self.n_columns,
            "column_names": None if self.column_names is None else list(self.column_names),
        }

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], arrays: Arrays) -> FittedState:
        """Inverse of `to_json` and `to_arrays`, for what the schema and `array_shapes` allow."""
        record, errors = description["record"], description["errors"]
        source, preprocessing = BackboneSource(**record["source"]), Preprocessing.from_config(record["preprocessing"])
        _check_values(arrays)
        if errors is not None and not errors["weight"] and any(errors.values()):
            raise ValueError("state.errors: sums over no images that are not zero")
        parts: dict[str, Arrays] = {}
        for key, array in arrays.items():
            if key != "prototypes":
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = array
        blocks, usual = _blocks_from_json(description), description.get("leverage")
        of_usual = parts.pop("leverage", {})
        _check_reading(parts, blocks, description["features"])
        return cls(
            record=BackboneRecord(**{**record, "source": source, "preprocessing": preprocessing}),
            tokens=PromptTokens(**{name: _tuples(value) for name, value in description["tokens"].items()}),
            scale=_scale_from_json(description),
            logit_scale=float(description["logit_scale"]),
            prototypes=arrays["prototypes"],
            arrays=parts,
            asked_for=_tuples(description["asked_for"]),
            history=tuple(description["history"]),
            n_images=tuple(description["n_images"]),
            errors=None if errors is None else RunningErrors(**errors),
            blocks=blocks,
            **{name: description[name] for name in _AS_THEY_ARE},
            column_names=_tuples(description["column_names"]),
            leverage=None if usual is None else Leverage.from_parts(usual, of_usual),
        )


# no closure: a traceback keeps functions, and with them what they close over
@torch.inference_mode()
@own_precision()
def _adapted(
    adapter: nn.Module | None, blocks: FeatureBlocks, projection: Projection | None, rows: np.ndarray
) -> np.ndarray:
    """Read what is read of rows (n, W), and adapt it."""
    of_images = read(rows, blocks, projection)
    return of_images if adapter is None else adapter(torch.tensor(of_images)).numpy()


def _explained(settings: Settings) -> AbstractContextManager[None]:
    """Say what helps where memory does not suffice to predict."""
    return explain_out_of_memory(settings.batch_size, "predicting", ("hand over fewer images at a time",))


def array_shapes(description: Mapping[str, Any], word_width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Say which arrays belong to a description, by name: NumPy's name of the dtype, and the shape; none is made.

    The width d of word embeddings is known from the arrays alone.
    """
    record, tokens, structure = description["record"], description["tokens"], description["structure"]
    n_ranks, width = len(description["ranks"]["labels"]), record["embedding_width"]
    _check_counts(description)
    modules: dict[str, nn.Module] = {}
    with torch.device("meta"):
        if structure["rankformer_layers"]:
            modules["prompts.rankformer"] = RankFormer(word_width, structure["rankformer_layers"])
        modules["zero_shot"] = ZeroShot(n_ranks, width)
        n_features = description["n_features"]
        if n_features is not None:
            modules["projection"] = FeatureProjection(_blocks_from_json(description).width, n_features)
        if structure["image_adapter"] is not None:
            modules["adapter"] = image_adapter(width, description["adapter"], structure["rank_targets"], n_features)
    if structure["image_tower"] == "finetune":
        modules["tower"] = _tower_without_weights(record["image_config"])
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "prototypes": ("float32", (n_ranks, width)),
        "prompts.context": ("float32", (tokens["n_context"], word_width)),
        "prompts.rank_tokens": ("float32", (sum(len(rank) for rank in tokens["ranks"]), word_width)),
    }
    if description.get("leverage") is not None:  # models from before have none
        n_axes, n_columns = description["leverage"]["n_axes"], _n_usual(description)
        shapes["leverage.mean"] = ("float32", (n_columns,))
        shapes["leverage.axes"] = ("float32", (n_columns, n_axes))
        shapes["leverage.inverse"] = ("float32", (n_axes,))
    for part, module in modules.items():
        for name, tensor in module.state_dict().items():
            shapes[f"{part}.{name}"] = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    return shapes


def _n_usual(description: Mapping[str, Any]) -> int:
    """Columns that leverages are of: those of embeddings, or of a table without them all that are read."""
    has_embedding = description["blocks"]["embedding"] is not None
    return description["record"]["embedding_width"] if has_embedding else description["n_features"]


def _check_counts(description: Mapping[str, Any]) -> None:
    """Raise unless every list of a description is as long as the others say."""
    record, tokens, n_ranks = description["record"], description["tokens"], len(description["ranks"]["labels"])
    columns, width = description["column_names"], record["embedding_width"]
    n_columns, is_table = description["n_columns"], description["structure"]["image_tower"] == "precomputed"
    blocks = _blocks_from_json(description)
    n_context = description["structure"]["n_context_tokens"]
    lengths = {
        "state.values": (len(description["values"]), n_ranks),
        "state.names": (len(description["names"]), n_ranks),
        "state.n_images": (len(description["n_images"]), n_ranks),
        "state.tokens.ranks": (len(tokens["ranks"]), n_ranks),
        "state.record.image_config.embed_dim": (record["image_config"]["embed_dim"], width),
        "state.structure.n_context_tokens": (
            len(tokens["context"]) if n_context == "auto" else n_context,
            tokens["n_context"],
        ),
        "state.n_columns": (n_columns, blocks.width if is_table else n_columns and 1),
        "state.column_names": (n_columns if columns is None else len(columns), n_columns),
    }
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise ValueError(f"{name} gives {found} where the rest of the model has {expected}")
    _check_features(description, blocks)
    if len(tokens["context"]) > tokens["n_context"]:
        raise ValueError(f"state.tokens.context has {len(tokens['context'])} tokens, of {tokens['n_context']}")
    _check_place(description["structure"], tokens)


def _check_features(description: Mapping[str, Any], blocks: FeatureBlocks) -> None:
    """Raise unless what is read is there, and as the parameters have it."""
    structure, features, adapter = description["structure"], description["features"], description["adapter"]
    if blocks.embedding is not None and blocks.blocks[blocks.embedding][1] != description["record"]["embedding_width"]:
        raise ValueError("state.blocks.embedding is a block of another width than embeddings")
    names = [name.rpartition("__")[2] for name, _ in blocks.blocks]
    if blocks.embedding is not None and names[blocks.embedding] not in ("", EMBEDDING):
        raise ValueError("state.blocks.embedding is a block of another name")
    if len({name for name, _ in blocks.blocks}) < len(names):
        raise ValueError("state.blocks names a block twice")
    if structure["image_tower"] != "precomputed" and (blocks.embedding != 0 or names[0] != EMBEDDING):
        raise ValueError("state.blocks does not begin with the embedding, as an image tower's do")
    if (description["n_features"] is None) != (features == EMBEDDING):
        raise ValueError(f"state.n_features is {description['n_features']}, and state.features {features!r}")
    if features not in blocks.choices:
        raise ValueError(f"state.features is {features!r}, and the blocks allow {blocks.choices}")
    if features != EMBEDDING and (structure["image_adapter"] is None or structure["rank_targets"] == "hard"):
        raise ValueError(f"state.features is {features!r}, and without adapter or soft targets it is the embedding")
    if structure["image_features"] not in ("auto", features):
        raise ValueError(f"state.features is {features!r}, and the parameter says {structure['image_features']!r}")
    if structure["image_adapter"] not in ("auto", None, adapter):
        raise ValueError(f"state.adapter is {adapter!r}, and the parameter says {structure['image_adapter']!r}")


def _check_reading(parts: dict[str, Arrays], blocks: FeatureBlocks, features: str) -> None:
    """Raise unless the arrays read what they are said to."""
    columns = blocks.embedding_columns
    if columns is None and parts["zero_shot"]["share"]:
        raise ValueError("the array zero_shot.share is not 0, and there is no embedding that it could be of")
    if columns is not None and features == "tower" and parts["projection"]["weight"][columns].any():
        raise ValueError(f"state.features is {features!r}, and the array projection.weight says otherwise")


def _blocks_from_json(description: Mapping[str, Any]) -> FeatureBlocks:
    blocks, embedding = description["blocks"]["blocks"], description["blocks"]["embedding"]
    if embedding is not None and embedding >= len(blocks):
        raise ValueError("state.blocks.embedding is no block")
    return FeatureBlocks(_tuples(blocks), embedding)


def _check_place(structure: Mapping[str, Any], tokens: Mapping[str, Any]) -> None:
    """Raise unless the rank stands where the parameters say."""
    check_prompt(structure["prompt"], structure["rank_position"])
    if split_prompt(structure["prompt"])[1] is None:
        low = high = tokens_before(structure["rank_position"], tokens["n_context"])
    else:
        low, high = 0, len(tokens["context"])
    if not low <= tokens["n_before"] <= high:
        raise ValueError(f"state.tokens.n_before is {tokens['n_before']}, and prompt and rank_position say otherwise")


def _tower_without_weights(config: dict[str, Any]) -> nn.Module:
    check_config("state.record.image_config", {**config, "text_cfg": {}}, is_whole=True)
    try:
        with torch.device("meta"):
            return build_image_tower(config)
    except Exception as error:  # open_clip and timm raise anything on what they do not know
        raise ValueError(f"state.record.image_config describes no image tower: {error}") from error


def _check_values(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"the array {name} holds NaN or infinity")
    for name in ("prototypes", "zero_shot.prototypes"):
        if np.abs(np.linalg.norm(arrays[name], axis=1) - 1).max() > 1e-3:
            raise ValueError(f"the array {name} has rows that are not of length one")
    if not 0 <= arrays["zero_shot.share"] <= 1:
        raise ValueError("the array zero_shot.share is not in [0, 1]")


def _scale_from_json(description: Mapping[str, Any]) -> RankScale:
    dtype, labels = description["ranks"]["dtype"], description["ranks"]["labels"]
    if dtype != "str" and np.dtype(dtype).itemsize * len(labels) > _MAX_LABELS:
        raise ValueError(f"state.ranks.dtype: {len(labels)} labels of {dtype} take too much memory")
    try:
        ranks = np.array(labels, dtype=object if dtype == "str" else np.dtype(dtype))
        kept = ranks.tolist() == labels and len({type(label) for label in labels} - {int, float}) <= 1
    except (ValueError, OverflowError) as error:
        raise ValueError(f"state.ranks: labels that are no {dtype} ({error})") from error
    if not kept or (dtype == "str" and not all(isinstance(label, str) for label in labels)):
        raise ValueError(f"state.ranks: the labels do not fit the dtype {dtype}")
    given_ranks(ranks)
    scale = RankScale(ranks, np.array(description["values"], dtype=np.float64), tuple(description["names"]))
    if not np.array_equal(scale.values, values_of(ranks)):
        raise ValueError("state.values: not the values of state.ranks")
    names_of(ranks, list(scale.names))
    return scale


def _finite(value: Any) -> Any:
    """Leave out what JSON cannot say."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tuples(value: Any) -> Any:
    """Give lists of JSON back as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Scale each row to length one; a row of zeros stays as it is."""
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(norm).all():
        return unit_rows(embeddings / np.abs(embeddings).max(axis=1, keepdims=True).clip(1))
    return embeddings / np.where(norm > 0, norm, 1)


def table_rows(table: np.ndarray, blocks: FeatureBlocks) -> np.ndarray:
    """Rows of a table as a model reads them, embeddings of length one."""
    columns = blocks.embedding_columns
    if columns is None:
        return table
    rows = table.copy()
    rows[:, columns] = unit_rows(table[:, columns])
    return rows


def module_arrays(module: nn.Module) -> Arrays:
    """Copy a module's weights into arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Arrays) -> None:
    """Copy arrays into a module's weights, wherever those are; read-only arrays are fine."""
    module.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})
