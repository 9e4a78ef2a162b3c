"""open_clip models: their architecture without weights, and the models themselves, loaded once per process.

How a text tower runs on word embeddings lives in ``_clip.text_tower``; models whose text tower cannot are refused here
by `check_text_config`, for those who want prompts. What prompts mean is not known, and neither are estimators.
"""

from __future__ import annotations

import copy
import difflib
import json
import logging
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from skl2rclip._clip.embedded import EMBEDDED_NAMES, embedded_config, load_embedded
from skl2rclip._clip.features import layout_of
from skl2rclip._clip.fingerprint import fingerprint, function_of
from skl2rclip._clip.hub import fetch, what_is_damaged
from skl2rclip._clip.source import CONFIG_FILE, HUB_PREFIX, LOCAL_DIR_PREFIX, BackboneSource, weight_files
from skl2rclip._clip.text_tower import TextTower, refusal, text_tower_of
from skl2rclip._clip.tokenizer import PromptTokenizer, root_logger_kept, tokenizer_of
from skl2rclip._clip.transformers import check_text_model
from skl2rclip._clip.untrusted import allowed_source, check_config, check_files, read_config
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._ordinal.features import FeatureBlocks
from skl2rclip._utils.devices import explain_out_of_memory, is_out_of_memory
from skl2rclip._utils.forks import in_forked_child
from skl2rclip.errors import InvalidParameterError

_log = logging.getLogger(__name__)
_WEIGHTS_FILE = "open_clip_model.safetensors"
# as open_clip looks for them at a hub
_HUB_WEIGHTS = [_WEIGHTS_FILE, "open_clip_pytorch_model.bin"]
_MAX_RANDOM_BACKBONES = 4
# what `Backbone.save` writes, tokenizers of Hugging Face included
BACKBONE_FILES = (
    CONFIG_FILE,
    _WEIGHTS_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def model_config(source: BackboneSource) -> dict[str, Any]:
    """Architecture of a model as open_clip describes it, without loading its weights."""
    if source.model_name in EMBEDDED_NAMES:
        config = embedded_config(source.model_name)
    elif source.local_folder is not None:
        config = _local_config(source)
    elif source.model_name.startswith(HUB_PREFIX):
        config = _hub_config(source)
    else:
        config = open_clip.get_model_config(source.open_clip_name)
        if config is None:
            raise InvalidParameterError(_unknown_model(source.model_name))
        _check_pretrained(source)
    config = copy.deepcopy(config)
    if not source.has_own_weights and source.pretrained is not None:
        # weights trained with QuickGELU are run with it, also under the plain name of the architecture
        config["quick_gelu"] = bool(config.get("quick_gelu", False) or _tag_of(source).get("quick_gelu", False))
    return config


def _local_config(source: BackboneSource) -> dict[str, Any]:
    folder = source.local_folder
    assert folder is not None
    path = folder / CONFIG_FILE
    where = f"model_name={source.model_name!r}"
    if not path.is_file():
        raise InvalidParameterError(f"{where}: there is no file {CONFIG_FILE} in the folder {str(folder)!r}.")
    try:
        config = read_config(path)["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidParameterError(
            f"{where}: {path} is not an open_clip configuration with a 'model_cfg' ({error})."
        ) from error
    check_config(where, config, is_whole=True)
    check_files(where, folder)
    if source.pretrained is not None and not weight_files(folder):
        raise InvalidParameterError(
            f"{where}: the folder holds no weights (*.safetensors, *.bin or *.pth); pretrained=None draws random ones."
        )
    return config


def _hub_config(source: BackboneSource) -> dict[str, Any]:
    """Architecture of an ``hf-hub:`` model; the hub is asked once a process."""
    where, repository = f"model_name={source.model_name!r}", source.model_name.removeprefix(HUB_PREFIX)
    with _lock:
        path = _hub_configs.get(repository)
        if path is None or not path.is_file():
            path = _hub_configs[repository] = _fetched(source, repository, [CONFIG_FILE])
    try:
        description = read_config(path)
    except ValueError as error:
        raise RuntimeError(f"{where}: its {CONFIG_FILE} cannot be read ({error}). {what_is_damaged(path)}") from error
    if not isinstance(description, dict) or "model_cfg" not in description:
        raise InvalidParameterError(f"{where}: its {CONFIG_FILE} is no open_clip configuration with a 'model_cfg'.")
    check_config(where, description["model_cfg"])
    return description["model_cfg"]


def _fetched(source: BackboneSource, repository: str, names: list[str], revision: str | None = None) -> Path:
    try:
        return fetch(repository, names, revision)
    except RuntimeError as error:
        raise RuntimeError(f"The model {source} could not be fetched. {error}") from error.__cause__


def _fetched_weights(source: BackboneSource) -> Path | None:
    """File of a model's weights in the hub's cache; None where they are no file of a hub."""
    if source.model_name.startswith(HUB_PREFIX):
        repository = source.model_name.removeprefix(HUB_PREFIX)
        config_file = _hub_configs.get(repository)  # None where another thread has unloaded everything just now
        # those of the commit whose configuration was read
        return _fetched(source, repository, _HUB_WEIGHTS, None if config_file is None else config_file.parent.name)
    place = _place_at_hub(source)
    if place is None:
        return None
    repository, name = place
    others = [str(Path(name).with_suffix(".safetensors"))] if name.endswith((".bin", ".pth")) else []
    return _fetched(source, repository, [*others, name] if name else _HUB_WEIGHTS)


def _place_at_hub(source: BackboneSource) -> tuple[str, str] | None:
    """Repository of the hub and name of the file of published weights; None of what comes from elsewhere."""
    if source.has_own_weights or source.pretrained is None:
        return None
    place = _tag_of(source).get("hf_hub", "")
    # a checkpoint file, or what open_clip itself fetches from elsewhere, has none
    return os.path.split(place) if place else None


def hub_repository(source: BackboneSource) -> str | None:
    """Name the repository of the hub that a model comes from; None where it comes from elsewhere."""
    if source.model_name.startswith(HUB_PREFIX):
        return source.model_name.removeprefix(HUB_PREFIX)
    place = _place_at_hub(source)
    return None if place is None else place[0]


def is_of_this_machine(source: BackboneSource) -> bool:
    """Whether a model is a folder or a checkpoint file, which is not to be had elsewhere."""
    if source.has_own_weights:
        return source.local_folder is not None
    return source.pretrained is not None and not _tag_of(source)


def _tag_of(source: BackboneSource) -> dict[str, Any]:
    """Return what open_clip knows of published weights: where they are, and what they want of images."""
    return open_clip.get_pretrained_cfg(source.open_clip_name, source.pretrained)


def _unknown_model(name: str) -> str:
    known = [*open_clip.list_models(), *EMBEDDED_NAMES]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    return (
        f"model_name must be a name from open_clip.list_models() ({len(known)} of them), "
        f"{', '.join(map(repr, EMBEDDED_NAMES))}, a 'local-dir:' folder or an 'hf-hub:' id, got {name!r}{hint}"
    )


def _check_pretrained(source: BackboneSource) -> None:
    name, pretrained = source.open_clip_name, source.pretrained
    if pretrained is None or open_clip.is_pretrained_cfg(name, pretrained) or os.path.isfile(pretrained):
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    raise InvalidParameterError(
        f"pretrained must be a tag of {name} ({', '.join(map(repr, tags)) or 'it has none'}), the path of a checkpoint "
        f"file, or None for random weights, got {pretrained!r}, which is neither a tag nor an existing file."
    )


def check_text_config(source: BackboneSource, config: dict[str, Any]) -> None:
    """Refuse, before any weights are loaded, models whose text tower cannot run from word embeddings."""
    reason = refusal(config)
    if reason is not None:
        raise InvalidParameterError(
            f"model_name={source.model_name!r} cannot be used: {reason}. CLIPImageEncoder takes any model."
        )


@dataclass
class Backbone:
    """A loaded open_clip model, shared by all estimators of the process and never changed by them."""

    source: BackboneSource  # where it came from
    config: dict[str, Any]  # open_clip's description of the architecture
    model: Any  # on the CPU, in evaluation mode, without gradients
    preprocessing: Preprocessing  # size, geometry and normalisation that the image tower was trained with
    fingerprint: str  # of the weights and of what else decides the function: activations and numbers of heads
    _on_device: dict[torch.device, Any] = field(default_factory=dict)

    @property
    def embedding_width(self) -> int:
        """Width D of the embeddings."""
        return int(self.config["embed_dim"])

    @cached_property
    def feature_blocks(self) -> FeatureBlocks:
        """What the rows of a `FeatureTower` around the image tower consist of; towers that cannot be read are refused.

        The first time an image passes the tower for it.
        """
        return layout_of(self.model.visual, self.preprocessing.size, self.embedding_width, str(self.source.model_name))

    @cached_property
    def readable_blocks(self) -> FeatureBlocks:
        """The same, or the embedding alone of a tower that cannot be read."""
        try:
            return self.feature_blocks
        except InvalidParameterError as error:
            _log.info("The embedding alone is read: %s", error)
            return FeatureBlocks.of_embeddings(self.embedding_width)

    @property
    def function(self) -> str:
        """What tells one image tower's function from another's: weights, architecture, and what pixels need."""
        return function_of(self.fingerprint, self.config, self.preprocessing)

    @property
    def logit_scale(self) -> float:
        """Factor of the similarities, ``exp`` of the model's parameter."""
        return float(self.model.logit_scale.detach().exp().mean())

    def on(self, device: torch.device) -> Any:
        """Return the model on `device`; one copy is kept for each."""
        if device.type == "cpu":
            return self.model
        with _lock:
            if device not in self._on_device:
                with explain_out_of_memory(None, f"putting {self.source} on {device}"):
                    self._on_device[device] = copy.deepcopy(self.model).to(device)
            return self._on_device[device]

    def image_tower(self, device: torch.device) -> nn.Module:
        """Return the shared image tower on `device`."""
        return self.on(device).visual

    def image_tower_copy(self, device: torch.device) -> nn.Module:
        """Return a copy of the image tower that may be trained; its dropout and batch statistics stay as they are."""
        tower = copy.deepcopy(self.model.visual).to(device)
        return tower.requires_grad_(True).eval()

    def text_tower(self, device: torch.device) -> TextTower:
        """Return the shared text tower on `device`."""
        return text_tower_of(self.on(device), self.source.model_name)

    def tokenizer(self) -> PromptTokenizer:
        """Return the model's tokenizer."""
        return PromptTokenizer(self.source.model_name, self.config)

    def save(self, folder: Path) -> None:
        """Write the whole model as a folder that ``local-dir:`` loads."""
        from safetensors.torch import save_file

        if self.config["text_cfg"].get("hf_model_name"):
            raise InvalidParameterError(
                f"The backbone {self.source} cannot be saved as a folder: the architecture of its text tower is "
                "that of a Hugging Face model, which a folder cannot hold. Save without it (include_backbone=False)."
            )
        folder.mkdir(parents=True, exist_ok=True)
        description = {"model_cfg": self.config, "preprocess_cfg": self.preprocessing.to_config()}
        (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / _WEIGHTS_FILE)
        tokenizer = tokenizer_of(self.source.model_name, self.config["text_cfg"])
        if hasattr(tokenizer, "save_pretrained"):  # those of Hugging Face are looked for beside the configuration
            tokenizer.save_pretrained(folder)


_loaded: OrderedDict[tuple, Backbone] = OrderedDict()
# by repository, in the folder of the commit
_hub_configs: dict[str, Path] = {}
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew_lock)


def _cache_key(source: BackboneSource) -> tuple:
    """Tell what makes two sources the same; files count as changed with their size or modification time."""
    if source.local_folder is not None:
        files = tuple(_stamp(path) for path in [source.local_folder / CONFIG_FILE, *weight_files(source.local_folder)])
        return (os.path.abspath(source.local_folder), files, source.seed if source.is_random else None)
    if source.has_own_weights:
        return (source.model_name,)
    if source.pretrained is None:
        return (source.model_name, None, source.seed)
    if os.path.isfile(source.pretrained):
        return (source.model_name, _stamp(Path(source.pretrained)))
    return (source.model_name, source.pretrained)


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return (os.path.abspath(path), status.st_size, status.st_mtime_ns)


def load_backbone(source: BackboneSource) -> Backbone:
    """Load a model, or return the one that this process has loaded before; of random models the last few are kept.

    Any text tower will do here, since images do not need it; whoever embeds prompts calls `check_text_config` first.
    """
    source = allowed_source(source)
    config = model_config(source)
    key = _cache_key(source)
    with _lock:
        if key in _loaded:
            _log.debug("%s is in memory already.", source)
        else:
            with explain_out_of_memory(None, f"loading {source}"):
                _loaded[key] = _load(source, config)
            random_keys = [known for known, backbone in _loaded.items() if backbone.source.is_random]
            for known in random_keys[:-_MAX_RANDOM_BACKBONES]:
                del _loaded[known]
        return _loaded[key]


def unload_backbones() -> None:
    """Forget every loaded model, so that their memory is freed once no fit is using them."""
    with _lock:
        _loaded.clear()
        _hub_configs.clear()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global CPU generator seeded, and leave it as it was; one thread at a time."""
    with _lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _load(source: BackboneSource, config: dict[str, Any]) -> Backbone:
    if config["text_cfg"].get("hf_model_name"):
        check_text_model(source.model_name, config["text_cfg"]["hf_model_name"])
    since = time.monotonic()
    weights_file = _fetched_weights(source)
    is_embedded = source.model_name in EMBEDDED_NAMES
    try:
        model = load_embedded(source.model_name) if is_embedded else _create_model(source, config, weights_file)
    except Exception as error:  # open_clip, torch and safetensors raise families of their own
        if is_out_of_memory(error):
            raise
        raise RuntimeError(_not_loaded(source, weights_file, error)) from error
    model = model.eval().requires_grad_(False)
    if getattr(model.visual, "output_tokens", False):  # CoCa's, which only its captions need
        model.visual.output_tokens = False
    if is_convolutional(model.visual):
        model.visual.to(memory_format=torch.channels_last)  # as pixels come; only the order in memory changes
    backbone = Backbone(
        source=source,
        config=config,
        model=model,
        preprocessing=Preprocessing.from_config(model.visual.preprocess_cfg),
        fingerprint=fingerprint(model),
    )
    seconds, weights = time.monotonic() - since, backbone.fingerprint[:12]
    _log.info("Loaded %s in %.1f s; the fingerprint of the weights begins with %s.", source, seconds, weights)
    return backbone


def is_convolutional(tower: nn.Module) -> bool:
    """Whether more than half of a tower's weights are those of convolutions."""
    n_all = sum(parameter.numel() for parameter in tower.parameters())
    return 2 * sum(m.weight.numel() for m in tower.modules() if isinstance(m, nn.Conv2d)) > n_all


def precision_of(tower: object, precision: str) -> str:
    """Say in which precision a tower computes where the estimator has this one: with batch norm always in float32.

    Such a norm has its statistics from the training and takes them from each layer as they are, so that what bfloat16
    rounds away grows from layer to layer: to a third of the embedding's length in ``skl2rclip-photo``.
    """
    has_batch_norm = isinstance(tower, nn.Module) and any(isinstance(m, nn.BatchNorm2d) for m in tower.modules())
    return "float32" if has_batch_norm else precision


def _create_model(source: BackboneSource, config: dict[str, Any], weights_file: Path | None) -> Any:
    """Build a model with its weights, which open_clip reads from `weights_file` where they came from a hub."""
    model_name = source.model_name if source.has_own_weights else source.open_clip_name
    pretrained: str | None = None if source.has_own_weights else source.pretrained
    preprocess: dict[str, Any] | None = None
    if weights_file is not None and source.has_own_weights:
        model_name = LOCAL_DIR_PREFIX + str(weights_file.parent)
    elif weights_file is not None:
        pretrained, preprocess = str(weights_file), _tag_of(source)
    if source.local_folder is not None and not source.is_random:
        _check_size(config, source.local_folder)
    with seeded(source.seed), root_logger_kept(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="These pretrained weights were trained with QuickGELU")
        return open_clip.create_model(
            model_name,
            pretrained=pretrained,
            force_preprocess_cfg=preprocess,
            precision="fp32",
            device="cpu",
            force_quick_gelu=config.get("quick_gelu", False),
            require_pretrained=not source.is_random,
            pretrained_text=False,  # random weights are random; any others come with the checkpoint
        )


def _check_size(config: dict[str, Any], folder: Path) -> None:
    """Raise where a folder's weights cannot be those of the architecture beside them, before that is allocated."""
    architecture = dict(config)
    kind = open_clip.CLIP
    if architecture.pop("custom_text", False):
        kind = open_clip.CoCa if "multimodal_cfg" in architecture else open_clip.CustomTextCLIP
    with seeded(0), torch.device("meta"):
        model = kind(**architecture)
    n_numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    n_bytes = max(path.stat().st_size for path in weight_files(folder))
    if n_numbers > n_bytes:
        raise ValueError(
            f"{CONFIG_FILE} describes a model of {n_numbers} numbers, and the weights have {n_bytes} bytes"
        )


def _not_loaded(source: BackboneSource, weights_file: Path | None, error: Exception) -> str:
    is_file = source.pretrained is not None and os.path.isfile(source.pretrained)
    if weights_file is None and not is_file and source.local_folder is None:
        return f"The model {source} could not be made: {error}"
    where = "" if weights_file is None else f"\n{what_is_damaged(weights_file)}"
    return f"The weights of {source} do not load into this architecture, or are damaged: {error}{where}"


def build_image_tower(config: dict[str, Any]) -> nn.Module:
    """Image tower of the architecture `config`, its weights yet to be filled in, without its text tower."""
    # CoCa's tokens, which only its captions need, are left out as in `_load`
    vision = {**config["vision_cfg"], "timm_model_pretrained": False, "output_tokens": False}
    text = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    with seeded(0):
        model = open_clip.CLIP(
            config["embed_dim"], vision_cfg=vision, text_cfg=text, quick_gelu=config.get("quick_gelu", False)
        )
    return model.visual.eval().requires_grad_(False)
