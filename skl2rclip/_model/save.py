"""A fitted model as a folder: written whole or not at all, and read with the suspicion that a stranger's file deserves.

``model.json`` is what counts: it takes its place in one step, and names the bytes of ``model.safetensors`` that belong
to it. While a save replaces an earlier one, the new arrays lie beside the old ones under a name of their own, so that
whoever reads finds either model complete. ``_model.state`` says what the parts of a model mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import stat
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from skl2rclip._clip.backbone import BACKBONE_FILES, Backbone
from skl2rclip._clip.source import LOCAL_DIR_PREFIX, BackboneSource, without_folders
from skl2rclip._model.schema import FORMAT_NAME, FORMAT_VERSION, MAX_WIDTH, check_description, parse_json
from skl2rclip._model.state import Arrays, FittedState, array_shapes
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._settings import Settings
from skl2rclip._utils.arguments import Recorded, class_weights_of, seed_from
from skl2rclip._utils.scratch import (
    is_in_use,
    is_scratch,
    only_holder,
    put_in_place,
    remove_leftovers,
    scratch_folder,
    sync,
)
from skl2rclip.errors import MissingBackboneError

DESCRIPTION_FILE = "model.json"
ARRAYS_FILE = "model.safetensors"
_BACKBONE_FOLDER = "backbone"
# what a save that was interrupted, or an earlier one with another backbone, leaves beside the model
_PASSING = re.compile(r"model-[0-9a-f]{16}\.safetensors|backbone(-[0-9a-f]{16})?")
_CHECKSUM = re.compile(r'"checksum": "([0-9a-f]{64})"\n}\n\Z')
_MAX_DESCRIPTION_BYTES = 200 * 10**6
_MAX_HEADER_BYTES = 100 * 10**6
_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
_ATTEMPTS = 1_000
# beside the model of a fit that is under way, what it goes on from
PROGRESS_FOLDER = "progress"
# names that a saved folder may carry, but that do nothing until the caller repeats them
_RECORDED = ("model_name", "pretrained", "embedding_cache", "checkpoint_dir")


# ---------------------------------------------------------------------- saving


def save(
    path: str | os.PathLike, state: FittedState, parameters: Mapping[str, Any], backbone: Backbone | None = None
) -> None:
    """Write a fitted model as a folder, all of it or nothing; on disk before it is seen.

    Where `path` is a symbolic link, the link stays and where it leads is written. `parameters` are what
    `portable_parameters` returns; a backbone is included where it is given.
    """
    target = Path(os.path.realpath(path))
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = None if backbone is not None else _backbone_inside(target, state)
    remove_leftovers(target.parent, target.name)
    # where there is a folder, the one above it need not be writable
    with scratch_folder(target if target.is_dir() else target.parent, target.name) as scratch:
        new = scratch / "new"
        new.mkdir()
        try:
            _write(new, parameters, state, backbone, kept)
        except safetensors.SafetensorError as error:  # what a full disk is to it
            raise OSError(f"the model was not written to {target}: {error}") from error
        if target.is_dir() or not _has_moved(new, target):
            with only_holder(target):
                _refuse_foreign(target)
                _replace(target, new)
        sync(target.parent)


def _backbone_inside(target: Path, state: FittedState) -> str | None:
    """Name of the backbone's folder where it lies in the very folder that is to be written, and would be lost."""
    folder = state.record.source.local_folder
    if folder is None or Path(os.path.realpath(folder)).parent != target or not _PASSING.fullmatch(folder.name):
        return None
    return folder.name


def _write(
    folder: Path, parameters: Mapping[str, Any], state: FittedState, backbone: Backbone | None, kept: str | None
) -> None:
    """Write a complete model into an empty folder, and see it to the disk."""
    arrays = folder / ARRAYS_FILE
    safetensors.numpy.save_file(
        {name: np.asarray(array, order="C") for name, array in state.to_arrays().items()}, arrays
    )
    if backbone is not None:
        backbone.save(folder / _BACKBONE_FOLDER)
    _write_description(
        folder,
        {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "library_version": importlib.metadata.version("skl2rclip"),
            "params": dict(parameters),
            "state": state.to_json(),
            "includes_backbone": kept or False if backbone is None else _BACKBONE_FOLDER,
            "arrays": {"sha256": _digest_of(arrays), "bytes": arrays.stat().st_size},
        },
    )
    _flush(folder)


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write ``model.json``, with a checksum of itself at its end."""
    text = json.dumps({**description, "checksum": "0" * 64}, indent=2, allow_nan=False) + "\n"
    check_description(json.loads(text))
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (folder / DESCRIPTION_FILE).write_bytes(_CHECKSUM.sub(f'"checksum": "{checksum}"\n}}\n', text).encode())


def _flush(folder: Path) -> None:
    """Give every file the mode that the process's umask leaves, and see it and its folder to the disk."""
    # the description is written by Python, which asks the umask; other writers have modes of their own
    mode = stat.S_IMODE((folder / DESCRIPTION_FILE).stat().st_mode)
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.chmod(Path(parent, name), mode)
            sync(Path(parent, name))
        sync(Path(parent))


def _has_moved(new: Path, target: Path) -> bool:
    """Put a folder where there is none; say whether that was possible."""
    try:
        put_in_place(new, target)
    except OSError:
        if target.is_dir():
            return False
        raise
    return True


def _replace(target: Path, new: Path) -> None:
    """Put a new model in the place of an earlier one, or into an empty folder, while others may be reading there."""
    description = parse_json((new / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    arrays = target / f"model-{description['arrays']['sha256'][:16]}.safetensors"
    if (new / _BACKBONE_FOLDER).is_dir():
        description["includes_backbone"] = _bring_backbone(target, new, description["state"]["record"])
        del description["checksum"]
        _write_description(new, description)
        _flush(new)
    put_in_place(new / ARRAYS_FILE, arrays)
    sync(target)
    put_in_place(new / DESCRIPTION_FILE, target / DESCRIPTION_FILE)  # from here on the new model is there
    sync(target)
    put_in_place(arrays, target / ARRAYS_FILE)
    _remove_passing(target, keep=description["includes_backbone"])
    sync(target)


def _bring_backbone(target: Path, new: Path, record: dict[str, Any]) -> str:
    """Put the new backbone beside an earlier one, or use that where it is the same; return the folder's name."""
    file = target / DESCRIPTION_FILE
    earlier: dict[str, Any] = parse_json(_read_description(file)) if file.is_file() else {}
    if earlier.get("includes_backbone") and {**earlier["state"]["record"], "source": record["source"]} == record:
        return earlier["includes_backbone"]
    name = f"{_BACKBONE_FOLDER}-{record['fingerprint'][:16]}" if earlier else _BACKBONE_FOLDER
    if (target / name).exists():
        _remove_backbone(target / name)
    put_in_place(new / _BACKBONE_FOLDER, target / name)
    return name


def _remove_passing(target: Path, keep: Any) -> None:
    """Remove what earlier saves left in a model's folder; what the user put there stays."""
    for entry in target.iterdir():
        if not _PASSING.fullmatch(entry.name) or entry.name == keep or entry.is_symlink():
            continue
        with contextlib.suppress(OSError):  # what is in use, on Windows: the next save removes it
            if entry.is_dir():
                _remove_backbone(entry)
            elif entry.is_file() and _digest_of(entry)[:16] in entry.name:
                entry.unlink(missing_ok=True)


def _remove_backbone(folder: Path) -> None:
    """Remove the files of a backbone, and the folder where nothing else is in it."""
    for name in BACKBONE_FILES:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _digest_of(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_replaceable(path: str | os.PathLike) -> None:
    """Raise a FileExistsError where `save` would."""
    _refuse_foreign(Path(os.path.realpath(path)))


def _refuse_foreign(target: Path) -> None:
    """Raise unless there is nothing, an empty folder, or a model that this library has saved."""
    if not os.path.lexists(target):
        return
    # what a save that was killed has left in an empty folder is nobody's
    names = [entry.name for entry in target.iterdir()] if target.is_dir() else [DESCRIPTION_FILE]
    foreign = [name for name in names if not (is_scratch(name) or name == PROGRESS_FOLDER or _PASSING.fullmatch(name))]
    if foreign and not _is_ours(target):
        raise FileExistsError(f"{target} exists and is not a saved model; choose another path, or remove it first.")


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds what `save` writes, of whatever version."""
    file = folder / DESCRIPTION_FILE
    try:
        description = parse_json(_read_description(file)) if file.is_file() else None  # a pipe would be waited for
    except PermissionError:  # whatever it is, it is not to be called worthless
        raise
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT_NAME


# --------------------------------------------------------------------- loading


def load(path: str | os.PathLike, parameter_names: Sequence[str]) -> tuple[dict[str, Any], FittedState]:
    """Read what `save` wrote, and believe nothing of it; parameters that name models or places are `Recorded`."""
    folder = Path(path)
    file = folder / DESCRIPTION_FILE
    for attempt in range(_ATTEMPTS):
        if folder.is_file():
            raise NotADirectoryError(f"{folder} is a file: give the folder that `save` made, {folder.parent} perhaps.")
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is not a saved model: there is no file {DESCRIPTION_FILE} in it.")
        before = _identity(file)
        try:
            return _load(folder, parameter_names)
        except (ValueError, OSError, MissingBackboneError) as error:
            is_as_before = _identity(file) == before and not is_in_use(error)
            if is_as_before or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(0.001)  # a save has replaced it meanwhile
    raise AssertionError("the last attempt raises")


def _identity(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _described(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read ``model.json`` and check what every field of it is."""
    file = folder / DESCRIPTION_FILE
    with _blaming(f"{file} is damaged or is not a saved model", KeyError, TypeError):
        text = _read_description(file)
        description = parse_json(text)
        version = description["format_version"]
    _check_version(folder, version, description)
    with _blaming(f"{file} is damaged or incomplete"):
        check_description(description)
    return text, description


def needed_files(folder: Path) -> tuple[list[str], str | None]:
    """Name the files that belong to a ``model.json`` in a folder, and the folder of its backbone where it has one."""
    inside = _described(folder)[1]["includes_backbone"] or None
    return [ARRAYS_FILE, *([] if inside is None else [f"{inside}/{name}" for name in BACKBONE_FILES[:2]])], inside


def is_of_a_model(name: str) -> bool:
    """Whether a file, by its name in a model's folder, is one that a save writes."""
    if name in (DESCRIPTION_FILE, ARRAYS_FILE):
        return True
    first, _, rest = name.partition("/")
    return _PASSING.fullmatch(first) is not None and (rest in BACKBONE_FILES if rest else "." in first)


def _load(folder: Path, parameter_names: Sequence[str]) -> tuple[dict[str, Any], FittedState]:
    file = folder / DESCRIPTION_FILE
    text, description = _described(folder)
    with _blaming(f"{file} is damaged or incomplete"):
        parameters = _parameters_from_json(description["params"], parameter_names)
    with _blaming(f"{folder / ARRAYS_FILE} is missing or damaged", OSError, safetensors.SafetensorError):
        arrays = _read_arrays(folder, description)
    with _blaming(f"{folder} is damaged"):
        state = FittedState.from_parts(description["state"], arrays)
    with _blaming(f"{file} is damaged: params"):
        _check_parameters(parameters, state)
    with _blaming(f"{file} is damaged, or was changed after it was saved"):
        _check_checksum(text)
    source = state.record.source
    if description["includes_backbone"]:
        inside = os.path.abspath(folder / description["includes_backbone"])
        source = BackboneSource(LOCAL_DIR_PREFIX + inside, None, 0)
        parameters["model_name"].inside = inside
    source = BackboneSource(_recorded(source.model_name), _recorded(source.pretrained), source.seed)
    record = replace(state.record, source=source)
    # a later save may bring another backbone into the folder
    backbone = record.load() if description["includes_backbone"] and state.needs_backbone else None
    return parameters, replace(state, record=record, backbone=backbone)


@contextlib.contextmanager
def _blaming(what: str, *more: type[Exception]) -> Iterator[None]:
    """Say what is to blame for a ValueError, or an error of more kinds."""
    errors: tuple[type[Exception], ...] = (ValueError, *more)
    try:
        yield
    except errors as error:
        raise ValueError(f"{what}: {str(error).rstrip('.')}.") from error


def _read_description(file: Path) -> str:
    with open(file, "rb") as opened:
        data = opened.read(_MAX_DESCRIPTION_BYTES + 1)
    if len(data) > _MAX_DESCRIPTION_BYTES:
        raise ValueError("it is too large")
    return data.decode("utf-8")


def _check_version(folder: Path, version: Any, description: Mapping[str, Any]) -> None:
    """Refuse versions that this one does not read."""
    if version != FORMAT_VERSION or type(version) is not int:
        is_earlier = type(version) is int and version < FORMAT_VERSION
        writer = f"{'an earlier form of ' if is_earlier else ''}skl2rclip {description.get('library_version')!s:.50}"
        raise ValueError(
            f"{folder} has format version {version!r:.20}, and this version of skl2rclip reads {FORMAT_VERSION}; it "
            f"was written by {writer}, which reads it. {'Fit and save it again.' if is_earlier else 'Update to that.'}"
        )


def _check_checksum(text: str) -> None:
    found = _CHECKSUM.search(text)
    blank = _CHECKSUM.sub(f'"checksum": "{"0" * 64}"\n}}\n', text)
    if found is None or hashlib.sha256(blank.encode()).hexdigest() != found[1]:
        raise ValueError("its checksum is another")


def _read_arrays(folder: Path, description: Mapping[str, Any]) -> Arrays:
    """Read the arrays that belong to a description, wherever a save at work has them at the moment."""
    expected = description["arrays"]
    with _open_arrays(folder, expected["sha256"]) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != expected["bytes"]:
            raise ValueError(f"it has {status.st_size} bytes, and {DESCRIPTION_FILE} belongs to {expected['bytes']}")
        _check_header(file, description["state"])
        file.seek(0)
        data = file.read(expected["bytes"])
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise ValueError(f"it is not the one that {DESCRIPTION_FILE} belongs to (its checksum is another)")
    return safetensors.numpy.load(data)


def _open_arrays(folder: Path, digest: str) -> BufferedReader:
    for name in (f"model-{digest[:16]}.safetensors", ARRAYS_FILE):
        with contextlib.suppress(FileNotFoundError):
            if (folder / name).is_file():  # a pipe would be waited for
                return open(folder / name, "rb")
    raise FileNotFoundError("there is no such file")


def _check_header(file: BufferedReader, state: Mapping[str, Any]) -> None:
    """Compare names, dtypes and shapes of the arrays with what the description needs, before any is read."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER_BYTES:
            raise ValueError("it is too long")
        header = parse_json(file.read(length).decode("utf-8"))
        header.pop("__metadata__", None)
        found = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"its header is not one of safetensors ({error})") from error
    width = _word_width(found)
    for name, (dtype, shape) in array_shapes(state, width).items():
        if name not in found:
            raise ValueError(f"the array {name} is missing")
        if found.pop(name) != (_DTYPES.get(dtype), shape):
            raise ValueError(f"the array {name} is not of the shape {shape} and the dtype {dtype}")
    if found:
        raise ValueError(f"it holds an unknown array {sorted(found)[0]!r:.100}")


def _word_width(found: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    shape = found["prompts.rank_tokens"][1] if "prompts.rank_tokens" in found else ()
    if len(shape) != 2 or type(shape[1]) is not int or not 0 < shape[1] <= MAX_WIDTH:
        raise ValueError("the array prompts.rank_tokens is missing, or of no shape that word embeddings have")
    return shape[1]


# ------------------------------------------------------------------ parameters


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


def without_places(state: FittedState, parameters: Mapping[str, Any]) -> tuple[FittedState, dict[str, Any]]:
    """Return state and parameters that say nothing of this machine's folders: for a model that others are to read."""
    # where it was loaded from may be a folder that came with an earlier save, or the cache of a hub
    fitted, (model_name, pretrained) = state.record.source, state.asked_for
    source = without_folders(BackboneSource(model_name or fitted.model_name, pretrained, fitted.seed))
    asked_for = source.model_name, source.pretrained
    now = without_folders(BackboneSource(parameters["model_name"], parameters["pretrained"]))
    named = {
        "model_name": now.model_name,
        "pretrained": now.pretrained,
        "embedding_cache": None,
        "checkpoint_dir": None,
    }
    record = replace(state.record, source=source)
    return replace(state, record=record, asked_for=asked_for), {**parameters, **named}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _parameters_from_json(parameters: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    missing, unknown = sorted(set(names) - set(parameters)), sorted(set(parameters) - set(names))
    if missing or unknown:
        what = f"lacks the parameter {missing[0]!r}" if missing else f"holds an unknown parameter {unknown[0]!r:.100}"
        raise ValueError(f"params {what}")
    result = dict(parameters)
    if isinstance(result["class_weight"], list):
        pairs = result["class_weight"]
        if not all(isinstance(pair, list) for pair in pairs):
            raise ValueError("params.class_weight is not a list of labels with their weights")
        result["class_weight"] = dict(pairs)
        if len(result["class_weight"]) < len(pairs):
            raise ValueError("params.class_weight names a label twice")
    return {name: _recorded(value) if name in _RECORDED else value for name, value in result.items()}


def _check_parameters(parameters: Mapping[str, Any], state: FittedState) -> None:
    """Check the constructor's parameters as a prediction and a fit would."""
    state.check_settings(Settings.of(parameters), parameters["ranks"], parameters["rank_names"])
    classes = state.scale.classes
    class_weights_of(parameters["class_weight"], classes, classes, np.ones(len(classes), bool))
    seed_from(parameters["random_state"])


def _recorded(value: Any) -> Any:
    return Recorded(value) if isinstance(value, str) else value
