"""What is refused of a model that anybody may have made: places to fetch it from, code of its own, sizes without bound.

Folders of saved models and configurations of a hub are read with suspicion; what the caller has named himself may be
anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skl2rclip._clip.source import CONFIG_FILE, HUB_PREFIX, LOCAL_DIR_PREFIX, BackboneSource, weight_files
from skl2rclip._utils.arguments import Recorded
from skl2rclip.errors import InvalidParameterError, MissingBackboneError

_MAX_CONFIG = 10**7
_WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.npz", "*.npy")
# what makes Hugging Face's libraries run code that comes with a model
_CODE_SETTINGS = ("trust_remote_code", "auto_map", "code_revision", "custom_pipelines")
_MAX_NUMBER = 10**6
_MAX_LAYERS = 1_000
_MAX_TABLE = 5 * 10**7


def allowed_source(source: BackboneSource, path: str = "path") -> BackboneSource:
    """Where to look for a backbone that a saved folder asks for; what the caller named himself stays as it is.

    For a model of the hub that is the folder of this machine's cache that holds it. `path` is how a message writes the
    saved folder.
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
                f"L2RCLIPClassifier.load({path}, model_name={str(source.model_name)!r})."
            )
        return BackboneSource(LOCAL_DIR_PREFIX + str(folder), None, source.seed)
    for name in (source.model_name.removeprefix(LOCAL_DIR_PREFIX), source.pretrained or ""):
        if name[:2].strip("/\\") == "" and len(name) > 1:
            raise MissingBackboneError(
                f"The saved model asks for {str(name)!r}, a place on the network. If you trust it, name it yourself: "
                f"L2RCLIPClassifier.load({path}, model_name=..., pretrained=...)."
            )
    return source


def _cached_snapshot(hub_id: str) -> Path | None:
    """Folder of the hub's own cache that holds a model, or None."""
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(hub_id, CONFIG_FILE)
    except ValueError:  # no such id can be
        return None
    folder = Path(file).parent if isinstance(file, str) else None
    return folder if folder is not None and weight_files(folder) else None


def check_config(where: str, config: Any, *, is_whole: bool = False) -> None:
    """Refuse an architecture that is none, that makes a library run code of the model's, or that no memory would hold.

    With `is_whole`, what names parts that would be fetched from elsewhere is refused too.
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
        largest = _MAX_LAYERS if "layers" in path else _MAX_NUMBER
        if isinstance(value, int | float) and not abs(value) <= largest:
            raise InvalidParameterError(
                f"{where}: {'.'.join(path)}={value} in its configuration is larger than any model has ({largest})."
            )
    _check_positions(where, config["vision_cfg"])
    if is_whole:
        _check_whole(where, config)


def read_config(path: Path) -> Any:
    """Read a file of JSON that anybody may have made; a ValueError where it is none, or has no bound."""
    if path.stat().st_size > _MAX_CONFIG:
        raise ValueError("it is too large")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
    """Refuse more places in an image than any model has; open_clip may make a table of them before all else."""
    numbers = [vision.get("image_size", 224), vision.get("patch_size", 16), vision.get("width", 768)]
    image_size, patch_size, width = (
        max((each for each in (number if isinstance(number, list) else [number]) if isinstance(each, int)), default=1)
        for number in numbers
    )
    if (image_size / max(1, patch_size)) ** 2 * width > _MAX_TABLE:
        raise InvalidParameterError(
            f"{where}: vision_cfg.image_size={image_size} in patches of {patch_size} in its configuration is more than "
            "any model takes."
        )


def check_files(where: str, folder: Path) -> None:
    """Refuse what is no file where weights are looked for, and tokenizer settings that name code."""
    for path in sorted(path for pattern in _WEIGHT_PATTERNS for path in folder.glob(pattern)):
        if not path.is_file():  # a pipe would be waited for
            raise InvalidParameterError(f"{where}: {path} is not a regular file.")
    for name in ("tokenizer_config.json", "config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = read_config(path)
        except ValueError as error:
            raise InvalidParameterError(
                f"{where}: {path} is not a configuration that can be read ({error})."
            ) from error
        code = [entry for entry, value in _entries(settings) if entry[-1] in _CODE_SETTINGS and value]
        if code:
            raise InvalidParameterError(
                f"{where}: {'.'.join(code[0])} in {path} would run code that came with the model, which is never done."
            )
