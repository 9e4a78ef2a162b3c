"""open_clip models: where they come from, loaded once per process, named by a fingerprint of their weights.

How a text tower runs on word embeddings lives in ``_text_tower``; models whose text tower cannot are refused here by
`check_text_config`, for those who want prompts. What prompts mean is not known, and neither are estimators.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import joblib
import open_clip
import torch
from torch import Tensor, nn

from skl2rclip._forks import in_forked_child
from skl2rclip._hub import fetch, what_is_damaged
from skl2rclip._hugging_face import check_text_model
from skl2rclip._preprocessing import Preprocessing
from skl2rclip._prompt_tokenizer import PromptTokenizer, tokenizer_of
from skl2rclip._text_tower import TextTower, refusal, text_tower_of
from skl2rclip._tiny_clip import EMBEDDED_NAME, embedded_config, load_embedded
from skl2rclip._validation import Recorded, warn_user
from skl2rclip.errors import InvalidParameterError, MissingBackboneError

LOCAL_DIR_PREFIX = "local-dir:"
HUB_PREFIX = "hf-hub:"
_log = logging.getLogger(__name__)
_CONFIG_FILE = "open_clip_config.json"
_WEIGHTS_FILE = "open_clip_model.safetensors"
# as open_clip looks for them at a hub
_HUB_WEIGHTS = [_WEIGHTS_FILE, "open_clip_pytorch_model.bin"]
_MAX_RANDOM_BACKBONES = 4
_WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.npz", "*.npy")
# what makes Hugging Face's libraries run code that comes with a model
_CODE_SETTINGS = ("trust_remote_code", "auto_map", "code_revision", "custom_pipelines")
_LARGEST_CONFIG = 10**7
_LARGEST_NUMBER = 10**6
_MOST_LAYERS = 1_000
_LARGEST_TABLE = 5 * 10**7
# what `Backbone.save` writes, tokenizers of Hugging Face included
BACKBONE_FILES = (
    _CONFIG_FILE,
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


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone comes from.

    Attributes
    ----------
    model_name : str
        open_clip name, ``local-dir:`` folder, ``hf-hub:`` id or ``skl2rclip-tiny``.
    pretrained : str or None
        open_clip tag or checkpoint file; None for random weights. Not used where `model_name` says by itself where
        the weights are.
    seed : int
        Of random weights; without meaning otherwise.
    """

    model_name: str
    pretrained: str | None = None
    seed: int = 0

    @property
    def has_own_weights(self) -> bool:
        """Whether `model_name` says by itself where the weights are."""
        return self.model_name == EMBEDDED_NAME or self.model_name.startswith((LOCAL_DIR_PREFIX, HUB_PREFIX))

    @property
    def is_random(self) -> bool:
        """Whether the weights are random numbers."""
        if self.pretrained is not None or self.model_name.startswith(HUB_PREFIX) or self.model_name == EMBEDDED_NAME:
            return False
        folder = self.local_folder
        return folder is None or not _weight_files(folder)

    @property
    def local_folder(self) -> Path | None:
        """Folder of a ``local-dir:`` model."""
        if self.model_name.startswith(LOCAL_DIR_PREFIX):
            return Path(self.model_name.removeprefix(LOCAL_DIR_PREFIX))
        return None

    def __str__(self) -> str:
        if self.has_own_weights and not self.is_random:
            return repr(self.model_name)
        return f"{self.model_name!r} with pretrained={self.pretrained!r}"


def _weight_files(folder: Path) -> list[Path]:
    return [path for pattern in ("*.safetensors", "*.bin", "*.pth") for path in sorted(folder.glob(pattern))]


def allowed_source(source: BackboneSource) -> BackboneSource:
    """Where to look for a backbone that a saved folder asks for; what the caller named himself stays as it is.

    Returns
    -------
    BackboneSource
        For a model of the hub, the folder of this machine's cache that holds it.

    Raises
    ------
    MissingBackboneError
        If it is not on this machine and is none of open_clip's own models.
    """
    by_folder = isinstance(source.model_name, Recorded)
    if not by_folder and (source.has_own_weights or not isinstance(source.pretrained, Recorded)):
        return source
    if by_folder and source.model_name.startswith(HUB_PREFIX):
        folder = _cached_snapshot(source.model_name.removeprefix(HUB_PREFIX))
        if folder is None:
            raise MissingBackboneError(
                f"The saved model asks for {str(source.model_name)!r}, which is not in this machine's cache, and "
                "nothing is fetched only because a folder asks for it. If you trust that address, name it yourself: "
                f"L2RCLIPClassifier.load(path, model_name={str(source.model_name)!r})."
            )
        return BackboneSource(LOCAL_DIR_PREFIX + str(folder), None, source.seed)
    for name in (source.model_name.removeprefix(LOCAL_DIR_PREFIX), source.pretrained or ""):
        if name[:2].strip("/\\") == "" and len(name) > 1:
            raise MissingBackboneError(
                f"The saved model asks for {str(name)!r}, a place on the network. If you trust it, name it yourself: "
                "L2RCLIPClassifier.load(path, model_name=..., pretrained=...)."
            )
    return source


def _cached_snapshot(hub_id: str) -> Path | None:
    """Folder of the hub's own cache that holds a model, or None."""
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(hub_id, _CONFIG_FILE)
    except ValueError:  # no such id can be
        return None
    folder = Path(file).parent if isinstance(file, str) else None
    return folder if folder is not None and _weight_files(folder) else None


def model_config(source: BackboneSource) -> dict[str, Any]:
    """Architecture of a model as open_clip describes it, without loading its weights.

    Returns
    -------
    dict
        With ``embed_dim``, ``vision_cfg`` and ``text_cfg``.

    Raises
    ------
    InvalidParameterError
        If there is no such model, tag, file or folder.
    RuntimeError
        If the configuration cannot be fetched.
    """
    if source.model_name == EMBEDDED_NAME:
        config = embedded_config()
    elif source.local_folder is not None:
        config = _local_config(source)
    elif source.model_name.startswith(HUB_PREFIX):
        config = _hub_config(source)
    else:
        config = open_clip.get_model_config(source.model_name.replace("/", "-"))
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
    path = folder / _CONFIG_FILE
    where = f"model_name={source.model_name!r}"
    if not path.is_file():
        raise InvalidParameterError(f"{where}: there is no file {_CONFIG_FILE} in the folder {str(folder)!r}.")
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidParameterError(
            f"{where}: {path} is not an open_clip configuration with a 'model_cfg' ({error})."
        ) from error
    check_config(where, config, is_whole=True)
    _check_files(where, folder)
    if source.pretrained is not None and not _weight_files(folder):
        raise InvalidParameterError(
            f"{where}: the folder holds no weights (*.safetensors, *.bin or *.pth). "
            "Put them there, or say pretrained=None for random weights."
        )
    return config


def _hub_config(source: BackboneSource) -> dict[str, Any]:
    """Architecture of an ``hf-hub:`` model; the hub is asked once a process."""
    where, repository = f"model_name={source.model_name!r}", source.model_name.removeprefix(HUB_PREFIX)
    with _lock:
        path = _hub_configs.get(repository)
        if path is None or not path.is_file():
            path = _hub_configs[repository] = _fetched(source, repository, [_CONFIG_FILE])
    try:
        description = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _LARGEST_CONFIG else {}
    except (ValueError, RecursionError) as error:
        raise RuntimeError(f"{where}: its {_CONFIG_FILE} cannot be read ({error}). {what_is_damaged(path)}") from error
    if not isinstance(description, dict) or "model_cfg" not in description:
        raise InvalidParameterError(f"{where}: its {_CONFIG_FILE} is no open_clip configuration with a 'model_cfg'.")
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
    if source.has_own_weights or source.pretrained is None:
        return None
    place = _tag_of(source).get("hf_hub", "")
    if not place:  # a checkpoint file, or what open_clip itself fetches from elsewhere
        return None
    repository, name = os.path.split(place)
    others = [str(Path(name).with_suffix(".safetensors"))] if name.endswith((".bin", ".pth")) else []
    return _fetched(source, repository, [*others, name] if name else _HUB_WEIGHTS)


def _tag_of(source: BackboneSource) -> dict[str, Any]:
    """Return what open_clip knows of published weights: where they are, and what they want of pictures."""
    return open_clip.get_pretrained_cfg(source.model_name.replace("/", "-"), source.pretrained)


def check_config(where: str, config: Any, *, is_whole: bool = False) -> None:
    """Refuse an architecture that is none, that makes a library run code of the model's, or that no memory would hold.

    Parameters
    ----------
    where : str
        Which model it is, for the message.
    config : dict
        As open_clip describes models.
    is_whole : bool, default=False
        Refuse, too, what names parts that would be fetched from elsewhere.

    Raises
    ------
    InvalidParameterError
        Naming the setting.
    """
    parts = ("vision_cfg", "text_cfg")
    if not isinstance(config, dict) or not all(isinstance(config.get(part), dict) for part in parts):
        raise InvalidParameterError(f"{where}: its configuration lacks a 'vision_cfg' or a 'text_cfg'.")
    if not isinstance(config.get("embed_dim"), int):
        raise InvalidParameterError(f"{where}: 'embed_dim' in its configuration must be a whole number.")
    for path, value in _entries(config):
        if path[-1] in _CODE_SETTINGS and value not in (False, None):
            raise InvalidParameterError(
                f"{where}: {'.'.join(path)} in its configuration would run code that came with the model, which is "
                "never done. Remove it where the model works without."
            )
        largest = _MOST_LAYERS if "layers" in path else _LARGEST_NUMBER
        if isinstance(value, int | float) and not abs(value) <= largest:
            raise InvalidParameterError(
                f"{where}: {'.'.join(path)}={value} in its configuration is larger than any model has ({largest})."
            )
    _check_positions(where, config["vision_cfg"])
    if is_whole:
        _check_whole(where, config)


def _entries(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All settings, however deep, with the names that lead to them."""
    inner = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for name, value in inner:
        yield (*path, str(name)), value
        yield from _entries(value, (*path, str(name)))


def _check_whole(where: str, config: dict[str, Any]) -> None:
    """Refuse a model that is partly somewhere else: what it names there would be fetched."""
    elsewhere = {
        "text_cfg.hf_model_name": config["text_cfg"].get("hf_model_name"),
        "vision_cfg.timm_model_name": config["vision_cfg"].get("timm_model_name"),
    }
    for name, value in elsewhere.items():
        if value and (name == "text_cfg.hf_model_name" or not isinstance(value, str) or ":" in value):
            raise InvalidParameterError(
                f"{where}: {name}={value!r} in its configuration is a model of a hub, with files and perhaps code of "
                "its own. A folder must hold the whole model: name the hub's model itself (model_name='hf-hub:...')."
            )


def _check_positions(where: str, vision: dict[str, Any]) -> None:
    """Refuse more places in a picture than any model has; open_clip may make a table of them before all else."""
    numbers = [vision.get("image_size", 224), vision.get("patch_size", 16), vision.get("width", 768)]
    image_size, patch_size, width = (
        max((each for each in (number if isinstance(number, list) else [number]) if isinstance(each, int)), default=1)
        for number in numbers
    )
    if (image_size / max(1, patch_size)) ** 2 * width > _LARGEST_TABLE:
        raise InvalidParameterError(
            f"{where}: vision_cfg.image_size={image_size} in patches of {patch_size} in its configuration is more than "
            "any model takes."
        )


def _check_files(where: str, folder: Path) -> None:
    """Refuse what is no file where weights are looked for, and tokenizer settings that name code."""
    for path in sorted(path for pattern in _WEIGHT_PATTERNS for path in folder.glob(pattern)):
        if not path.is_file():  # a pipe would be waited for
            raise InvalidParameterError(f"{where}: {path} is not a regular file.")
    for name in ("tokenizer_config.json", "config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < _LARGEST_CONFIG else None
        except (ValueError, RecursionError):
            settings = None
        if settings is None:
            raise InvalidParameterError(f"{where}: {path} is not a configuration that can be read.")
        code = [entry for entry, value in _entries(settings) if entry[-1] in _CODE_SETTINGS and value]
        if code:
            raise InvalidParameterError(
                f"{where}: {'.'.join(code[0])} in {path} would run code that came with the model, which is never done."
            )


def _unknown_model(name: str) -> str:
    known = [*open_clip.list_models(), EMBEDDED_NAME]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    return (
        f"model_name must be a name from open_clip.list_models() ({len(known)} of them), {EMBEDDED_NAME!r}, a "
        f"'local-dir:' folder or an 'hf-hub:' id, got {name!r}{hint}"
    )


def _check_pretrained(source: BackboneSource) -> None:
    name, pretrained = source.model_name.replace("/", "-"), source.pretrained
    if pretrained is None or open_clip.is_pretrained_cfg(name, pretrained) or os.path.isfile(pretrained):
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    raise InvalidParameterError(
        f"pretrained must be a tag of {name} ({', '.join(map(repr, tags)) or 'it has none'}), the path of a checkpoint "
        f"file, or None for random weights, got {pretrained!r}, which is neither a tag nor an existing file."
    )


def check_text_config(source: BackboneSource, config: dict[str, Any]) -> None:
    """Refuse, before any weights are loaded, models whose text tower cannot run from word embeddings.

    Raises
    ------
    InvalidParameterError
        Saying why.
    """
    reason = refusal(config)
    if reason is not None:
        raise InvalidParameterError(
            f"model_name={source.model_name!r} cannot be used: {reason}. CLIPImageEncoder takes any model."
        )


@dataclass
class Backbone:
    """A loaded open_clip model, shared by all estimators of the process and never changed by them.

    Attributes
    ----------
    source : BackboneSource
        Where it came from.
    config : dict
        open_clip's description of the architecture.
    model : nn.Module
        On the CPU, in evaluation mode, without gradients.
    preprocessing : Preprocessing
        Size, geometry and normalisation that the image tower was trained with.
    fingerprint : str
        Digest of the weights and of what else decides the function: activations and numbers of heads.
    """

    source: BackboneSource
    config: dict[str, Any]
    model: Any
    preprocessing: Preprocessing
    fingerprint: str
    _on_device: dict[torch.device, Any] = field(default_factory=dict)

    @property
    def embedding_width(self) -> int:
        """Width D of the embeddings."""
        return int(self.config["embed_dim"])

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
        (folder / _CONFIG_FILE).write_text(json.dumps(description, indent=2), encoding="utf-8")
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
        files = tuple(
            _stamp(path) for path in [source.local_folder / _CONFIG_FILE, *_weight_files(source.local_folder)]
        )
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
    """Load a model, or return the one that this process has loaded before.

    Random models are kept too, the last few of them.

    Raises
    ------
    InvalidParameterError
        If there is no such model.
    MissingBackboneError
        If only a saved folder asks for it, and it would have to be fetched from an address.
    RuntimeError
        If weights cannot be fetched or do not fit the architecture.

    Notes
    -----
    Any text tower will do here, since images do not need it; whoever embeds prompts calls `check_text_config` first.
    """
    source = allowed_source(source)
    config = model_config(source)
    key = _cache_key(source)
    with _lock:
        if key in _loaded:
            _log.debug("%s is in memory already.", source)
        else:
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
    try:
        model = load_embedded() if source.model_name == EMBEDDED_NAME else _create_model(source, config, weights_file)
    except Exception as error:  # open_clip, torch and safetensors raise families of their own
        raise RuntimeError(_not_loaded(source, weights_file, error)) from error
    model = model.eval().requires_grad_(False)
    if getattr(model.visual, "output_tokens", False):  # CoCa's, which only its captions need
        model.visual.output_tokens = False
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


def _create_model(source: BackboneSource, config: dict[str, Any], weights_file: Path | None) -> Any:
    """Build a model with its weights, which open_clip reads from `weights_file` where they came from a hub."""
    model_name = source.model_name if source.has_own_weights else source.model_name.replace("/", "-")
    pretrained: str | None = None if source.has_own_weights else source.pretrained
    preprocess: dict[str, Any] | None = None
    if weights_file is not None and source.has_own_weights:
        model_name = LOCAL_DIR_PREFIX + str(weights_file.parent)
    elif weights_file is not None:
        pretrained, preprocess = str(weights_file), _tag_of(source)
    if source.local_folder is not None and not source.is_random:
        _check_size(config, source.local_folder)
    with seeded(source.seed), warnings.catch_warnings():
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
    n_bytes = max(path.stat().st_size for path in _weight_files(folder))
    if n_numbers > n_bytes:
        raise ValueError(
            f"{_CONFIG_FILE} describes a model of {n_numbers} numbers, and the weights have {n_bytes} bytes"
        )


def _not_loaded(source: BackboneSource, weights_file: Path | None, error: Exception) -> str:
    is_file = source.pretrained is not None and os.path.isfile(source.pretrained)
    if weights_file is None and not is_file and source.local_folder is None:
        return f"The model {source} could not be made: {error}"
    where = "" if weights_file is None else f"\n{what_is_damaged(weights_file)}"
    return f"The weights of {source} do not load into this architecture, or are damaged: {error}{where}"


def warn_if_random(source: BackboneSource) -> None:
    """Say loudly that a model knows nothing."""
    if source.is_random:
        warn_user(
            f"The backbone {source} has random weights: nothing that CLIP has learned is used. This is for tests, and "
            "for training a tower from scratch."
        )


def fingerprint(model: nn.Module) -> str:
    """Digest of a model's weights, and of its activations and numbers of heads.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:  # hashlib works without the interpreter's lock
        weights = list(pool.map(_digest, sorted(model.state_dict().items())))
    structure = sorted(
        (name, type(module).__name__, getattr(module, "num_heads", None))
        for name, module in model.named_modules()
        if hasattr(module, "num_heads") or "gelu" in type(module).__name__.lower()
    )
    return hashlib.sha256(json.dumps([weights, structure]).encode()).hexdigest()


def _digest(item: tuple[str, Tensor]) -> str:
    name, tensor = item
    description = f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(description + hashlib.sha256(data).digest()).hexdigest()


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


def function_of(weights: str, config: dict[str, Any], preprocessing: Preprocessing) -> str:
    """Digest of what decides the embeddings of an image: 64 hexadecimal digits.

    Parameters
    ----------
    weights : str
        The fingerprint.
    config : dict
        Architecture; settings that are the defaults count as if they were not there.
    preprocessing : Preprocessing
    """
    defaults = {field.name: field.default for field in fields(open_clip.CLIPVisionCfg)}
    vision = {name: it for name, it in config["vision_cfg"].items() if it != defaults.get(name, _NO_DEFAULT)}
    vision.pop("timm_model_pretrained", None)  # open_clip writes it where it makes the model
    described = [weights, config["embed_dim"], vision, bool(config.get("quick_gelu")), preprocessing.to_config()]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


_NO_DEFAULT = object()


@dataclass(frozen=True)
class BackboneRecord:
    """What a fitted model keeps of its backbone: where it came from, and how to tell it again.

    Attributes
    ----------
    source : BackboneSource
        Where it came from, with absolute paths.
    fingerprint : str
        Digest by which it is told from others.
    preprocessing : Preprocessing
        What images need before they pass the tower.
    embedding_width : int
        Width D of the embeddings.
    image_config : dict
        Architecture of the image tower: ``embed_dim``, ``vision_cfg``, ``quick_gelu``.
    """

    source: BackboneSource
    fingerprint: str
    preprocessing: Preprocessing
    embedding_width: int
    image_config: dict[str, Any]

    @property
    def function(self) -> str:
        """What tells one image tower's function from another's: weights, architecture, and what pixels need."""
        return function_of(self.fingerprint, self.image_config, self.preprocessing)

    @classmethod
    def of(cls, backbone: Backbone) -> BackboneRecord:
        """Record a loaded backbone."""
        config = backbone.config
        return cls(
            source=_absolute(backbone.source),
            fingerprint=backbone.fingerprint,
            preprocessing=backbone.preprocessing,
            embedding_width=backbone.embedding_width,
            image_config={
                "embed_dim": config["embed_dim"],
                "vision_cfg": config["vision_cfg"],
                "quick_gelu": config.get("quick_gelu", False),
            },
        )

    def load(self, source: BackboneSource | None = None) -> Backbone:
        """Load the backbone again and check that it is the same.

        Parameters
        ----------
        source : BackboneSource, optional
            Where to look; where it came from by default.

        Raises
        ------
        MissingBackboneError
            If it cannot be loaded, or its weights are others.
        """
        source = source or self.source
        remedy = (
            "Point the model to the same weights with set_params(model_name=..., pretrained=...), or save it where "
            "they are with save(path, include_backbone=True), which makes a folder that needs nothing else."
        )
        try:
            backbone = load_backbone(source)
        except (ValueError, RuntimeError, OSError) as error:
            raise MissingBackboneError(f"The fitted model needs its backbone {source}: {error}\n{remedy}") from error
        if backbone.fingerprint != self.fingerprint:
            because = "the weights are others"
            if source.is_random:
                drew = "another version of torch drew other random weights"
                because = drew if source.local_folder is None else f"its folder holds no weights, or {drew}"
            raise MissingBackboneError(
                f"The backbone {source} is not the one that the model was fitted with ({because}): fingerprint "
                f"{backbone.fingerprint[:12]}..., expected {self.fingerprint[:12]}... {remedy}"
            )
        # the same weights in another architecture, or for other pixels, make other embeddings
        if BackboneRecord.of(backbone).function != self.function:
            raise MissingBackboneError(
                f"The backbone {source} has the weights that the model was fitted with, but its configuration is "
                f"another (vision_cfg or preprocess_cfg): {remedy}"
            )
        return backbone


def _absolute(source: BackboneSource) -> BackboneSource:
    """Return the source with paths that hold from any working directory."""
    if source.local_folder is not None:
        return BackboneSource(LOCAL_DIR_PREFIX + os.path.abspath(source.local_folder), source.pretrained, source.seed)
    if not source.has_own_weights and source.pretrained is not None and os.path.isfile(source.pretrained):
        return BackboneSource(source.model_name, os.path.abspath(source.pretrained), source.seed)
    return source
