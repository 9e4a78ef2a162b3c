"""Faults in saved models: damaged, edited, killed while they are written, read while they are replaced.

    python tools/fault_saves.py --count 10000 --kills 100 --loads 1000

Prints a line for each kind of fault: how often it was tried, how often it was refused, how often the model was read all
the same and was the one that had been saved, and what should never be: another model, another error, a leftover.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import os
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skl2rclip import L2RCLIPClassifier
from skl2rclip.errors import MissingBackboneError

WIDTH = 128
ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    2**31,
    10**30,
    -1e308,
    1e308,
    0.5,
    "",
    "x",
    "O",
    "<U99999",
    "../../etc/passwd",
    "hf-hub:nobody/nothing",
    "local-dir:/dev",
    [],
    [[]],
    {},
    {"a": 1},
    ["x"] * 3,
]


def small_model(seed: int = 0) -> L2RCLIPClassifier:
    """Fit a model of five ranks on a table of embeddings, within a second."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(5), 6)
    X = rng.normal(size=(30, WIDTH)) + 2 * y[:, None] * np.eye(WIDTH)[0]
    classifier = L2RCLIPClassifier(
        "skl2rclip-tiny", image_tower="precomputed", prompt_epochs=1, random_state=seed, device="cpu"
    )
    return classifier.fit(X, y)


def digest(classifier: L2RCLIPClassifier) -> str:
    """Tell one fitted model from another, whatever part of it differs."""
    state = classifier._state
    described = json.dumps([state.to_json(), {name: str(value) for name, value in classifier.get_params().items()}])
    arrays = b"".join(np.asarray(array).tobytes() for _, array in sorted(state.to_arrays().items()))
    return hashlib.sha256(described.encode() + arrays).hexdigest()


def outcome(folder: Path, saved: set[str]) -> str:
    """Load, and say what came of it: "refused", "as saved", or what should never be."""
    try:
        loaded = L2RCLIPClassifier.load(folder)
    except (ValueError, FileNotFoundError, MissingBackboneError):
        return "refused"
    except Exception as error:
        return type(error).__name__
    return "as saved" if digest(loaded) in saved else "another model"


# ------------------------------------------------------------- damaged, edited


def damaged(folder: Path, count: int, seed: int) -> Counter[str]:
    """Flip, cut, lengthen, blank or exchange bytes of the two files; none of it may be read."""
    rng = np.random.default_rng(seed)
    contents = {name: (folder / name).read_bytes() for name in ("model.json", "model.safetensors")}
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "model"
        shutil.copytree(folder, copied)
        for _ in range(count):
            name = str(rng.choice(list(contents)))
            (copied / name).write_bytes(_mutated(contents[name], rng))
            seen[outcome(copied, set())] += 1
            (copied / name).write_bytes(contents[name])
    return seen


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    place = int(rng.integers(len(data)))
    kind = rng.integers(5)
    if kind == 0:
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del changed[place:]
    elif kind == 2:
        changed[place:place] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == 3:
        changed[place : place + 512] = bytes(len(changed[place : place + 512]))
    else:
        changed[place] = (changed[place] + int(rng.integers(1, 256))) % 256
    return bytes(changed) if bytes(changed) != data else bytes(data[:-1])


def edited(folder: Path, count: int, seed: int) -> Counter[str]:
    """Put odd values into the description, with a checksum that fits; what is read must also predict."""
    rng = np.random.default_rng(seed)
    description = json.loads((folder / "model.json").read_text())
    places = [place for place in _places(description) if place[0] != "checksum"]
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "model"
        shutil.copytree(folder, copied)
        for _ in range(count):
            changed = copy.deepcopy(description)
            for _ in range(int(rng.integers(1, 3))):
                _edit(changed, places[int(rng.integers(len(places)))], rng)
            write_description(copied, changed)
            seen[_read_and_used(copied)] += 1
    return seen


def _read_and_used(folder: Path) -> str:
    """As `outcome`, but what is read may be another model, as long as it predicts."""
    try:
        loaded = L2RCLIPClassifier.load(folder)
    except (ValueError, FileNotFoundError, MissingBackboneError):
        return "refused"
    except Exception as error:
        return type(error).__name__
    try:
        probabilities = loaded.set_params(image_tower=loaded._state.structure["image_tower"]).predict_proba(
            np.ones((2, WIDTH), np.float32)
        )
    except (ValueError, RuntimeError):
        return "refused at the prediction"
    except Exception as error:
        return f"{type(error).__name__} at the prediction"
    return "read, and predicts" if np.isfinite(probabilities).all() else "predicts no probabilities"


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inner:
        yield (*path, name)
        yield from _places(entry, (*path, name))


def _edit(description: Any, place: tuple[Any, ...], rng: np.random.Generator) -> None:
    inner = description
    try:
        for name in place[:-1]:
            inner = inner[name]
        old = inner[place[-1]]
    except (KeyError, IndexError, TypeError):  # an edit before this one has taken it away
        return
    if not isinstance(inner, dict | list):  # or put a string in its place
        return
    kind = rng.integers(4)
    if kind == 0 and isinstance(inner, dict):
        del inner[place[-1]]
    elif kind == 1 and isinstance(old, list) and old:
        inner[place[-1]] = [*old, old[0]] if rng.random() < 0.5 else old[::-1]
    elif kind == 2 and isinstance(old, int | float) and not isinstance(old, bool):
        inner[place[-1]] = old * -1 if rng.random() < 0.3 else old + 1
    else:
        inner[place[-1]] = copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write a description with the checksum that belongs to it, as somebody who means harm would."""
    text = json.dumps({**description, "checksum": "0" * 64}, indent=2) + "\n"
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (folder / "model.json").write_text(text.replace('"checksum": "' + "0" * 64, f'"checksum": "{checksum}'))


def edited_arrays(folder: Path, count: int, seed: int) -> Counter[str]:
    """Edit the header of the arrays, with checksums that fit."""
    rng = np.random.default_rng(seed)
    description = json.loads((folder / "model.json").read_text())
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    places = list(_places(header))
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / "model"
        shutil.copytree(folder, copied)
        for _ in range(count):
            changed = copy.deepcopy(header)
            _edit(changed, places[int(rng.integers(len(places)))], rng)
            text = json.dumps(changed).encode()
            size = len(text) if rng.random() < 0.9 else int(rng.choice([0, 2**20, 2**40, 2**63]))
            arrays = struct.pack("<Q", size) + text + body
            (copied / "model.safetensors").write_bytes(arrays)
            fitting = {"sha256": hashlib.sha256(arrays).hexdigest(), "bytes": len(arrays)}
            write_description(copied, {**description, "arrays": fitting})
            seen[_read_and_used(copied)] += 1
    return seen


# ---------------------------------------------------------- killed, interleaved


def _save_for_ever(models: list[L2RCLIPClassifier], folder: str, begun: Any) -> None:
    begun.set()
    while True:
        for model in models:
            model.save(folder)


def _writer(models: list[L2RCLIPClassifier], folder: Path) -> multiprocessing.Process:
    # forked where that can be, which is soon; nothing in the models has run threads that a child would miss
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    begun = context.Event()
    process = context.Process(target=_save_for_ever, args=(models, str(folder), begun), daemon=True)
    process.start()
    assert begun.wait(60)
    return process


def killed(models: list[L2RCLIPClassifier], count: int, seed: int) -> Counter[str]:
    """Kill a process that saves two models in turn over each other; one of them must be there, and no rest for long."""
    rng = np.random.default_rng(seed)
    saved = {digest(model) for model in models}
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        models[0].save(folder)
        for _ in range(count):
            process = _writer(models, folder)
            time.sleep(float(rng.uniform(0, 0.1)))
            process.kill()
            process.join()
            seen[outcome(folder, saved)] += 1
        models[0].save(folder)
        left = {*os.listdir(scratch), *os.listdir(folder)} - {"model", "model.json", "model.safetensors"}
        seen["left behind"] += len(left)
    return seen


def read_during_saves(models: list[L2RCLIPClassifier], count: int) -> Counter[str]:
    """Load while another process saves two models in turn; each load must get one of them."""
    saved = {digest(model) for model in models}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        models[0].save(folder)
        process = _writer(models, folder)
        try:
            return Counter(outcome(folder, saved) for _ in range(count))
        finally:
            process.kill()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="damaged, and edited, folders of each kind")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--loads", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    models = [small_model(0), small_model(1)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        models[0].save(folder)
        faults: dict[str, Callable[[], Counter[str]]] = {
            "damaged bytes": lambda: damaged(folder, arguments.count, arguments.seed),
            "edited description": lambda: edited(folder, arguments.count, arguments.seed),
            "edited arrays": lambda: edited_arrays(folder, arguments.count, arguments.seed),
            "killed during a save": lambda: killed(models, arguments.kills, arguments.seed),
            "read during saves": lambda: read_during_saves(models, arguments.loads),
        }
        for name, inject in faults.items():
            began = time.monotonic()
            seen = inject()
            print(f"{name}: {dict(seen)} in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
