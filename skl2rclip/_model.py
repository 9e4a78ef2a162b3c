"""`FittedState`: everything that was learned, what it makes of images, and its form as arrays and JSON.

No torch object is part of what is kept, so that a model fitted on CUDA loads where there is none. How it was learned is
not known here.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from skl2rclip._backbone import LOCAL_DIR_PREFIX, Backbone, BackboneRecord, BackboneSource, build_image_tower
from skl2rclip._devices import resolve_device
from skl2rclip._embedder import ImageEncoding, cache_of, check_headers, embed_chunks, shared_encoding
from skl2rclip._embedding_cache import EmbeddingCache
from skl2rclip._images import ImageLike
from skl2rclip._modules import image_adapter
from skl2rclip._preprocessing import Preprocessing
from skl2rclip._prompts import PromptTokens
from skl2rclip._ranks import RankScale, given_ranks, names_of
from skl2rclip._settings import Settings
from skl2rclip._targets import RunningErrors
from skl2rclip.errors import InvalidParameterError

FORMAT_VERSION = 2
_DESCRIPTION_FILE = "model.json"
_ARRAYS_FILE = "model.safetensors"
_BACKBONE_FOLDER = "backbone"

Arrays = dict[str, np.ndarray]

# what decides shapes and meaning of the learned arrays: training can go on only with the same
STRUCTURE = (
    "image_tower",
    "image_adapter",
    "rank_targets",
    "prompt",
    "n_context_tokens",
    "rank_position",
    "tune_ranks",
    "rankformer_layers",
)


@dataclass(frozen=True)
class FittedState:
    """Everything that predicting, training on and saving need beside the constructor's parameters. Never changed.

    Attributes
    ----------
    record : BackboneRecord
        The backbone, by name and fingerprint.
    tokens : PromptTokens
        What the prompts started from.
    scale : RankScale
    logit_scale : float
        Factor of the similarities.
    prototypes : ndarray of shape (K, D), float32
        Unit rows in rank order.
    arrays : dict of str to dict of str to ndarray
        Weights: ``"prompts"``, and where there is one ``"adapter"`` and ``"tower"``.
    structure : dict
        The parameters that decide shapes and meaning of `arrays`.
    asked_for : tuple of str or None
        The parameters ``model_name`` and ``pretrained`` of the fit.
    history : tuple of dict
        One entry an epoch.
    device : str
        Where it was trained.
    noise : float or None
        Error of a ridge regression on images that it has not seen, in the unit of the ranks' values; None where it was
        not measured.
    trust : float or None
        Share of the labels' variance that it explains.
    errors : RunningErrors or None
        Of the images of `partial_fit`, each predicted before it was learned from.
    column_names : tuple of str or None
        Of a table of embeddings.
    optimizer_state : dict or None
        To go on from, in this process only.
    """

    record: BackboneRecord
    tokens: PromptTokens
    scale: RankScale
    logit_scale: float
    prototypes: np.ndarray
    arrays: dict[str, Arrays]
    structure: dict[str, Any]
    asked_for: tuple[str | None, str | None]
    history: tuple[dict[str, Any], ...]
    device: str
    noise: float | None = None
    trust: float | None = None
    errors: RunningErrors | None = None
    column_names: tuple[str, ...] | None = None
    optimizer_state: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    _towers: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # modules on a device and the optimiser's moments are not for other processes
        return {**self.__dict__, "optimizer_state": None, "_towers": {}}

    # ---------------------------------------------------------- what it does

    def check_settings(self, settings: Settings, ranks: Any, rank_names: Any) -> None:
        """Refuse parameters that were set after the fit and say something else than what was learned.

        Whether X holds images or embeddings of a frozen tower may change, and so may everything that only says where
        and how to compute.

        Raises
        ------
        InvalidParameterError
            Naming the parameter.
        """
        trained = self.structure["image_tower"] == "finetune"
        if settings.image_tower != self.structure["image_tower"] and (trained or settings.finetunes):
            raise _contradiction("image_tower", self.structure["image_tower"], settings.image_tower)
        if not trained and settings.image_adapter != self.structure["image_adapter"]:
            raise _contradiction("image_adapter", self.structure["image_adapter"], settings.image_adapter)
        if ranks is not None and not np.array_equal(given_ranks(ranks), self.scale.ranks):
            raise _contradiction("ranks", self.scale.ranks.tolist(), given_ranks(ranks).tolist())
        if rank_names is not None and names_of(self.scale.ranks, rank_names) != self.scale.names:
            raise _contradiction("rank_names", list(self.scale.names), list(names_of(self.scale.ranks, rank_names)))

    def check_goes_on(self, settings: Settings, scale: RankScale) -> None:
        """Refuse to train on with what would not fit the learned arrays.

        Raises
        ------
        ValueError
            If the ranks are others.
        InvalidParameterError
            Naming the parameter that must stay.
        """
        if not np.array_equal(scale.ranks, self.scale.ranks):
            raise ValueError(
                "The ranks must stay the same when training goes on (warm_start, partial_fit): they were "
                f"{self.scale.ranks.tolist()}, got {scale.ranks.tolist()}. List all of them with ranks=[...]."
            )
        now = {**{name: getattr(settings, name) for name in self.structure}, "rank_names": list(scale.names)}
        for name, before in {**self.structure, "rank_names": list(self.scale.names)}.items():
            if now[name] != before:
                raise InvalidParameterError(
                    f"{name} must stay the same when training goes on (warm_start, partial_fit): it was {before!r}, "
                    f"got {now[name]!r}. Use warm_start=False, or a clone, to start anew."
                )

    def source(self, settings: Settings) -> BackboneSource:
        """Where the backbone is: where it came from, unless the parameters have been set to another place since."""
        if (settings.model_name, settings.pretrained) == self.asked_for:
            return self.record.source
        return BackboneSource(settings.model_name, settings.pretrained, self.record.source.seed)

    def embed(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> Iterator[tuple[Any, np.ndarray]]:
        """Embed images, or rows of a frozen tower's embeddings, as the fitted tower and adapter do.

        Parameters
        ----------
        data : list of n images, or ndarray of shape (n, D)
            Images as `skl2rclip._images.stamped` returns them.
        settings : Settings
            Where and how to compute.

        Yields
        ------
        rows : ndarray of int, or slice
            Indices in `data`.
        embeddings : ndarray of shape (chunk, D), float32
            Unit rows.
        """
        adapt = self._adapter()
        chunks: Any
        if isinstance(data, np.ndarray):
            chunks = [(slice(None), unit_rows(data))]
        else:
            folder = None if "tower" in self.arrays else settings.embedding_cache
            check_headers(data, folder, settings.n_jobs, settings.max_memory)
            encoding, cache = self._encoding(settings)
            chunks = embed_chunks(data, encoding, cache, settings.n_jobs, settings.max_memory)
        for rows, embeddings in chunks:
            yield rows, adapt(embeddings)

    def logits(self, data: list[ImageLike] | np.ndarray, settings: Settings) -> np.ndarray:
        """Scaled similarities ``s_ik`` to the prototypes, ndarray of shape (n, K) in rank order, float64."""
        prototypes = self.prototypes.astype(np.float64)
        result = np.empty((len(data), len(prototypes)))
        for rows, embeddings in self.embed(data, settings):
            result[rows] = self.logit_scale * embeddings.astype(np.float64) @ prototypes.T
        return result

    def _encoding(self, settings: Settings) -> tuple[ImageEncoding, EmbeddingCache | None]:
        """How images pass the fitted tower, kept for the next call; the cache is for the backbone's own tower."""
        device = resolve_device(settings.device, strict=False)
        key = (str(device), settings.compile)
        if key not in self._towers:
            self._towers[key] = self._encoding_on(device, settings)
        encoding = replace(self._towers[key], precision=settings.precision, batch_size=settings.batch_size)
        if "tower" in self.arrays:
            return encoding, None
        return encoding, cache_of(
            self.record, device, settings.precision, settings.embedding_cache, settings.max_memory
        )

    def _encoding_on(self, device: torch.device, settings: Settings) -> ImageEncoding:
        """Build the fitted tower; the backbone is loaded only where its own tower is used."""
        if "tower" not in self.arrays:
            backbone = self.record.load(self.source(settings))
            return shared_encoding(backbone, device, settings.precision, settings.batch_size, settings.compile)
        tower = build_image_tower(self.record.image_config)
        load_module(tower, self.arrays["tower"])
        tower = tower.to(device)
        return ImageEncoding(
            torch.compile(tower) if settings.compile else tower,
            self.record.preprocessing,
            self.record.embedding_width,
            device,
            settings.precision,
            settings.batch_size,
        )

    def _adapter(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return the image adapter as a function on arrays of unit rows."""
        if "adapter" not in self.arrays:
            return lambda embeddings: embeddings
        kind, rank_targets = self.structure["image_adapter"], self.structure["rank_targets"]
        adapter = image_adapter(self.record.embedding_width, kind, rank_targets)
        load_module(adapter, self.arrays["adapter"])

        @torch.inference_mode()
        def adapt(embeddings: np.ndarray) -> np.ndarray:
            return adapter(torch.tensor(embeddings)).numpy()

        return adapt

    # ------------------------------------------------------- arrays and JSON

    def to_arrays(self) -> Arrays:
        """All arrays by one name each: ``prototypes``, and ``part.weight`` of the modules."""
        weights = {f"{part}.{name}": array for part, group in self.arrays.items() for name, array in group.items()}
        return {"prototypes": self.prototypes, **weights}

    def to_json(self) -> dict[str, Any]:
        """Everything that is not an array, of JSON's own types."""
        ranks = self.scale.ranks
        return {
            "record": {**asdict(self.record), "preprocessing": self.record.preprocessing.to_config()},
            "tokens": asdict(self.tokens),
            "ranks": {"dtype": ranks.dtype.str, "labels": ranks.tolist()},
            "values": self.scale.values.tolist(),
            "names": list(self.scale.names),
            "logit_scale": self.logit_scale,
            "structure": self.structure,
            "asked_for": list(self.asked_for),
            "history": list(self.history),
            "device": self.device,
            "noise": self.noise,
            "trust": self.trust,
            "errors": None if self.errors is None else asdict(self.errors),
            "column_names": None if self.column_names is None else list(self.column_names),
        }

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], arrays: Arrays) -> FittedState:
        """Inverse of `to_json` and `to_arrays`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a part is missing or is not what it should be.
        """
        record, ranks, columns = description["record"], description["ranks"], description["column_names"]
        parts: dict[str, Arrays] = {}
        for key, array in arrays.items():
            if key != "prototypes":
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = array
        return cls(
            record=BackboneRecord(
                source=BackboneSource(**record["source"]),
                fingerprint=record["fingerprint"],
                preprocessing=Preprocessing.from_config(record["preprocessing"]),
                embedding_width=record["embedding_width"],
                image_config=record["image_config"],
            ),
            tokens=_tokens_from_json(description["tokens"]),
            scale=RankScale(
                ranks=np.array(ranks["labels"], dtype=np.dtype(ranks["dtype"])),
                values=np.array(description["values"]),
                names=tuple(description["names"]),
            ),
            logit_scale=description["logit_scale"],
            prototypes=arrays["prototypes"],
            arrays=parts,
            structure={name: description["structure"][name] for name in STRUCTURE},
            asked_for=(description["asked_for"][0], description["asked_for"][1]),
            history=tuple(description["history"]),
            device=description["device"],
            noise=description["noise"],
            trust=description["trust"],
            errors=None if description["errors"] is None else RunningErrors(**description["errors"]),
            column_names=None if columns is None else tuple(columns),
        )


def _contradiction(name: str, fitted: Any, given: Any) -> InvalidParameterError:
    return InvalidParameterError(
        f"{name}={given!r} contradicts the fitted model, which has {name}={fitted!r}: set it back, or fit again."
    )


def _tokens_from_json(tokens: Mapping[str, Any]) -> PromptTokens:
    return PromptTokens(
        start=tuple(tokens["start"]),
        end=tuple(tokens["end"]),
        context=tuple(tokens["context"]),
        n_context=tokens["n_context"],
        ranks=tuple(tuple(rank) for rank in tokens["ranks"]),
        position=tokens["position"],
    )


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Scale each row to length one; a row of zeros stays as it is."""
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(norm).all():
        return unit_rows(embeddings / np.abs(embeddings).max(axis=1, keepdims=True).clip(1))
    return embeddings / np.where(norm > 0, norm, 1)


def module_arrays(module: nn.Module) -> Arrays:
    """Copy a module's weights into arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Arrays) -> None:
    """Copy arrays into a module's weights, wherever those are; read-only arrays are fine."""
    module.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})


# ----------------------------------------------------------------- the folder


def save(
    path: str | os.PathLike, parameters: Mapping[str, Any], state: FittedState, backbone: Backbone | None = None
) -> None:
    """Write a fitted model as a folder, all of it or nothing.

    Parameters
    ----------
    path : path
        A new folder, or an earlier save, which is replaced.
    parameters : mapping
        Constructor parameters, as `portable_parameters` returns them.
    state : FittedState
    backbone : Backbone, optional
        To be included, so that the folder needs nothing else.

    Raises
    ------
    FileExistsError
        If `path` is something else than an earlier save.
    """
    target = Path(path)
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / _DESCRIPTION_FILE).is_file()):
        raise FileExistsError(f"{target} exists and is not a saved model; choose another path, or remove it first.")
    description = {
        "format_version": FORMAT_VERSION,
        "library_version": importlib.metadata.version("skl2rclip"),
        "params": parameters,
        "state": state.to_json(),
        "includes_backbone": backbone is not None,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        (new / _DESCRIPTION_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
        arrays = {name: np.ascontiguousarray(array) for name, array in state.to_arrays().items()}
        save_file(arrays, new / _ARRAYS_FILE)
        if backbone is not None:
            backbone.save(new / _BACKBONE_FOLDER)
        _replace(target, new, Path(scratch) / "old")


def _replace(target: Path, new: Path, old: Path) -> None:
    """Put the folder `new` in the place of `target`, which goes to `old`, or stays where that fails."""
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def load(path: str | os.PathLike) -> tuple[dict[str, Any], FittedState]:
    """Read what `save` wrote.

    Returns
    -------
    parameters : dict
        Of the constructor.
    state : FittedState

    Raises
    ------
    FileNotFoundError
        If there is no saved model.
    ValueError
        If it is damaged, lacks a part, or is of a format that this version does not know.
    """
    folder = Path(path)
    file = folder / _DESCRIPTION_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a saved model: there is no file {_DESCRIPTION_FILE} in it.")
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        version = description["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged or is not a saved model: {error}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {version}, and this version of skl2rclip reads {FORMAT_VERSION}; it was "
            f"written by skl2rclip {description.get('library_version')}, which reads it."
        )
    try:
        arrays = load_file(folder / _ARRAYS_FILE)
    except Exception as error:  # safetensors raises a class of its own
        raise ValueError(f"{folder / _ARRAYS_FILE} is missing or damaged: {error}") from error
    try:
        parameters = _parameters_from_json(description["params"])
        state = FittedState.from_parts(description["state"], arrays)
        includes_backbone = description["includes_backbone"]
    except KeyError as error:
        raise ValueError(f"{folder} is damaged or incomplete: the part {error} is missing.") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{folder} is damaged: {file} does not have the form of a saved model ({error}).") from error
    if includes_backbone:
        source = BackboneSource(LOCAL_DIR_PREFIX + os.path.abspath(folder / _BACKBONE_FOLDER), None, 0)
        state = replace(state, record=replace(state.record, source=source))
    return parameters, state


def portable_parameters(parameters: Mapping[str, Any], scale: RankScale) -> dict[str, Any]:
    """Parameters as JSON types; a function that names ranks becomes its names, a generator is left out."""
    result = dict(parameters)
    if result.get("rank_names") is not None:
        result["rank_names"] = list(scale.names)
    if result.get("ranks") is not None:
        result["ranks"] = scale.ranks.tolist()
    if isinstance(result.get("class_weight"), dict):
        result["class_weight"] = [[_plain(label), _plain(weight)] for label, weight in result["class_weight"].items()]
    if isinstance(result.get("random_state"), np.random.RandomState):
        result["random_state"] = None
    return {name: _plain(value) for name, value in result.items()}


def _parameters_from_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(parameters)
    if isinstance(result["class_weight"], list):
        result["class_weight"] = dict(result["class_weight"])
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value
