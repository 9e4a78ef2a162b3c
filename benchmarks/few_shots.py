"""Fits with few images a rank: which there are, what is kept of each, and how they are shared out among processes.

One file for each task, number of images, seed and method holds the predictions for every validation and test image, so
that a report needs no fit. What is there is not fitted again: remove the folder of a method to have it anew.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from methods import FEW_SHOTS, Fitted, Predictor, can_be_fitted, inputs_of
from tasks import Task

import skl2rclip
from skl2rclip._ordinal.decisions import central_interval

SHOTS = (1, 2, 4, 8, 16, 32, 64)
COVERAGE = 0.8
# the file of a store with what a report must know of the tasks
LABELS = "few-shots.json"
# what these do not choose on the drawn images was chosen on validation images of other draws
TUNED = ("logistic regression", "ordinal logistic", "CORN", "CoOp", "OrdinalCLIP")
# folders of the library that no fit and no prediction of these experiments runs through
NOT_IN_FITS = ("_cli", "_deploy", "inspection")
Methods = Mapping[str, Callable[..., Predictor]]


@dataclass(frozen=True)
class Job:
    """What is fitted on the images of one draw: `shots` of each rank."""

    task: Task
    shots: int
    seed: int
    methods: Methods


def shots_of(task: Task) -> list[int]:
    """Numbers of images a rank, as far as a larger one brings more images."""
    return [shots for i, shots in enumerate(SHOTS) if i == 0 or SHOTS[i - 1] < task.most_of_a_rank]


def file_of(store: Path, method: str, task: str, shots: int, seed: int) -> Path:
    folder = method.replace(" ", "-")
    return store / "few-shots" / folder / f"{task.replace(' ', '-')}-{shots}-{seed}.npz"


def files_by_seed(store: Path, method: str, task: str, shots: int) -> dict[int, Path]:
    """What is there, by seed."""
    pattern = file_of(store, method, task, shots, 0)
    files = {int(file.stem.rpartition("-")[2]): file for file in pattern.parent.glob(f"{pattern.stem[:-1]}*.npz")}
    return dict(sorted(files.items()))


def has_fits(store: Path, method: str) -> bool:
    """Whether a store has any fit of a method."""
    return any(file_of(store, method, "any", 1, 0).parent.glob("*.npz"))


@functools.cache
def state_of_library() -> str:
    """A few digits that differ where the code that fits and predicts does, whatever comments and docstrings say."""
    digest, folder = hashlib.sha256(), Path(skl2rclip.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        if file.relative_to(folder).parts[0] in NOT_IN_FITS:
            continue
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            has_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if has_one and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def notes_of_age(libraries: Iterable[str]) -> list[str]:
    """What a report says where fits are not by the library as it is."""
    others = ", ".join(sorted(set(libraries) - {state_of_library()}))
    return [f"**Not all fits are by the library as it is: some or all by its state {others}.**"] if others else []


def fitted(job: Job, name: str, settings: dict) -> dict[str, np.ndarray]:
    """What is kept of a fit: probabilities, predictions of L2RCLIP as they are, CPU seconds."""
    task, seed = job.task, job.seed
    drawn = task.draw(job.shots, seed)
    start = time.process_time()
    predictor = job.methods[name](task, drawn, seed, **settings)
    seconds = time.process_time() - start
    kept = {
        "validation": predictor(inputs_of(predictor, task.validation)).astype(np.float32),
        "test": predictor(inputs_of(predictor, task.test)).astype(np.float32),
        "interval": _interval(predictor, inputs_of(predictor, task.test)),
        "seconds": np.array(seconds),
        "library": np.array(state_of_library()),
    }
    if isinstance(predictor, Fitted):
        kept["ordinality"] = np.array(predictor.model.ordinality_)
        kept["zero-shot share"] = np.array(predictor.model.zero_shot_share_)
        kept["features"] = np.array(predictor.model.image_features_)
        kept["predicted validation"] = predictor.model.predict(inputs_of(predictor, task.validation))
        kept["predicted test"] = predictor.model.predict(inputs_of(predictor, task.test))
    return kept


def _interval(predictor: Predictor, X: np.ndarray) -> np.ndarray:
    if isinstance(predictor, Fitted):
        return predictor.model.predict_interval(X, COVERAGE)
    return central_interval(predictor(X), COVERAGE)


def cell(job: Job, store: Path, chosen: dict[str, dict], deadline: float = math.inf) -> None:
    """Make the fits of a draw that are missing, unless time is up."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in job.methods:
        file = file_of(store, name, job.task.name, job.shots, job.seed)
        if file.is_file():
            continue
        if time.time() > deadline:
            return
        kept = fitted(job, name, chosen.get(name, {}))
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        with open(unfinished, "wb") as stream:
            np.savez_compressed(stream, **kept)
        unfinished.replace(file)


def planned(tasks: tuple[Task, ...], n_seeds: int, shots: list[int]) -> Iterator[Job]:
    """All of the first seed before any of the second, so that an interrupted run has whole tables."""
    for seed in range(n_seeds):
        for task in tasks:
            methods = {name: method for name, method in FEW_SHOTS.items() if can_be_fitted(name, task)}
            for number in shots_of(task):
                if number in shots:
                    yield Job(task.without_pixels(), number, seed, methods)


def is_missing(job: Job, store: Path) -> bool:
    """Whether a fit of a draw is still to be made."""
    return not all(file_of(store, name, job.task.name, job.shots, job.seed).is_file() for name in job.methods)


def run(jobs: Iterable[Job], store: Path, chosen: dict[str, dict], n_jobs: int, hours: float) -> None:
    """Make the fits that are missing, until time is up."""
    deadline = time.time() + 3600 * hours
    missing = [job for job in jobs if is_missing(job, store)]
    done = joblib.Parallel(n_jobs, return_as="generator_unordered", batch_size=1)(
        joblib.delayed(cell)(job, store, chosen, deadline) for job in missing
    )
    for count, _ in enumerate(done, start=1):
        print(f"few_shots: {count} of {len(missing)} cells", flush=True)
    if time.time() > deadline:
        print("few_shots: time is up; run it again to go on")


def about(task: Task) -> dict:
    """What a report must know of a task beside the predictions."""
    parts = {name: getattr(task, name).target.tolist() for name in ("validation", "test")}
    return {"n_ranks": task.n_ranks, **parts}


def keep_labels(tasks: tuple[Task, ...], file: Path) -> None:
    """Keep it of all tasks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({task.name: about(task) for task in tasks}), encoding="utf-8")
