"""Experiments beside few shots, with the library as it is: RankFormer, image adapter, shift, unseen ranks, ablation.

Each fit is one line of ``further.jsonl`` in the cache folder: task, condition, seed, method, its parameters, and what
came out on test images. Experiments share fits, and a fit whose line is there is not made again, here or in
benchmarks/further.jsonl. ``further_report`` makes benchmarks/further.md of the lines.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from few_shots import shots_of, state_of_library
from methods import FEW_SHOTS, Fitted, Predictor, can_be_fitted, from_pixels, inputs_of, nothing_set
from protocols import finished, keep
from report import ROWS
from tasks import BACKBONE, Part, Task, part_of, rendering, side_of
from variants import (
    DistanceBias,
    FixedContext,
    LearnedBlendRatio,
    TenTimesFaster,
    WithinPrompt,
    WithoutInnerResiduals,
    WithoutRankEncoding,
    fitted_with,
)

from skl2rclip._ordinal.decisions import ranked_scores, read_out
from skl2rclip.datasets import DistributionShiftSplit

AS_IT_IS, WITHOUT_RANKFORMER, WITHOUT_ENCODING = "as it is", "without RankFormer", "no rank encoding"
LINEAR, NO_ADAPTER = "adapter: linear", "adapter: none"
# from pixels, on a GPU where there is one
FROZEN, FINE_TUNED = "frozen tower, from pixels", "fine-tuned tower"
TOWERS = {FROZEN: "frozen", FINE_TUNED: "finetune"}
# the library with changed parameters
OURS: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    WITHOUT_RANKFORMER: {"rankformer_layers": 0},
    WITHOUT_ENCODING: {},
    "attention within a prompt": {},
    "no inner residuals": {},
    "learned blend ratio, from 0.01": {},
    "blend ratio 0.3": {"blend_ratio": 0.3},
    "blend ratio 1": {"blend_ratio": 1.0},
    "two layers": {"rankformer_layers": 2},
    "two layers, blend ratio 0.5": {"rankformer_layers": 2, "blend_ratio": 0.5},
    "attention falls with the distance of ranks": {},
    "RankFormer learns ten times faster": {},
    "of the prompts, RankFormer alone learns": {"tune_ranks": False},
    "prompts fixed": {"tune_ranks": False, "rankformer_layers": 0},
    "ranks' words fixed": {"tune_ranks": False},
    LINEAR: {"image_adapter": "linear"},
    NO_ADAPTER: {"image_adapter": None},
    "without the ordering term": {"pairwise_weight": 0.0},
    "pairwise weight 1": {"pairwise_weight": 1.0},
    "pairwise weight 10": {"pairwise_weight": 10.0},
    "without the tightness term": {"tightness_weight": 0.0},
    "tightness weight 1": {"tightness_weight": 1.0},
    "divergence alone": {"pairwise_weight": 0.0, "tightness_weight": 0.0},
    "text ordering weight 0.1": {"text_ordering_weight": 0.1},
    "text ordering weight 1": {"text_ordering_weight": 1.0},
    "hard targets": {"rank_targets": "hard"},
}
# what no parameter does
VARIANTS: dict[str, type] = {
    WITHOUT_ENCODING: WithoutRankEncoding,
    "attention within a prompt": WithinPrompt,
    "no inner residuals": WithoutInnerResiduals,
    "learned blend ratio, from 0.01": LearnedBlendRatio,
    "attention falls with the distance of ranks": DistanceBias,
    "RankFormer learns ten times faster": TenTimesFaster,
    "of the prompts, RankFormer alone learns": FixedContext,
    "prompts fixed": FixedContext,
}
BASELINES = tuple(row for row in ROWS if row != "nothing set")
CONSTANT, NEAREST = "best constant", "nearest rank with images, known without error"
REFERENCES = (CONSTANT, NEAREST)
UNSEEN, SHIFT, MANY = "unseen ranks", "distribution shift", "many ranks"
ABLATED_SHOTS = (4, 16)
# of the tasks with many ranks: how many, every which of them has images, and how many images
N_RANKS, STEP, POOL_PER_RANK, DRAWN_PER_RANK, TEST_PER_RANK = 101, 10, 40, 10, 10
FILE = "further.jsonl"


def few(shots: int) -> str:
    """The condition of so many images of each rank."""
    return f"{shots} images a rank"


# ---------------------------------------------------------------- experiments

# what an experiment fits on a task: conditions and methods
Plan = list[tuple[str, str]]


def rankformer(task: Task) -> Plan:
    return [(few(shots), method) for shots in shots_of(task) for method in (AS_IT_IS, WITHOUT_RANKFORMER)]


def adapter(task: Task) -> Plan:
    return [(few(shots), method) for shots in shots_of(task) for method in (AS_IT_IS, LINEAR, NO_ADAPTER)]


def fine_tuning(task: Task) -> Plan:
    return [(few(shots), method) for shots in shots_of(task) for method in TOWERS]


def baselines_of(task: Task) -> list[str]:
    """Baselines that can be fitted on a task."""
    return [row for row in BASELINES if can_be_fitted(_fitted_as(row), task)]


def unseen_ranks(task: Task) -> Plan:
    methods = (AS_IT_IS, WITHOUT_RANKFORMER, WITHOUT_ENCODING, *baselines_of(task), *REFERENCES)
    return [(UNSEEN, method) for method in methods]


def distribution_shift(task: Task) -> Plan:
    methods = (AS_IT_IS, WITHOUT_RANKFORMER, WITHOUT_ENCODING, *baselines_of(task), CONSTANT)
    return [(SHIFT, method) for method in methods]


def ablation(task: Task) -> Plan:
    return [(few(shots), method) for shots in ABLATED_SHOTS for method in OURS]


def many_ranks(task: Task) -> Plan:
    return [(MANY, method) for _, method in unseen_ranks(task)]


EXPERIMENTS: dict[str, Callable[[Task], Plan]] = {
    each.__name__: each
    for each in (rankformer, adapter, unseen_ranks, distribution_shift, ablation, many_ranks, fine_tuning)
}


def many_rank_tasks(cache: Path, backbone: str = BACKBONE) -> tuple[Task, ...]:
    """Tilt and ripeness in a hundred steps instead of twenty; only every tenth rank can be drawn."""
    kept = joblib.Memory(cache / f"many-ranks-{state_of_library()}", verbose=0).cache(_many_ranks)
    return (
        kept("tilt", "the tilt of the bar is", backbone),
        kept("ripeness", "the ripeness of the fruit is", backbone),
    )


def _many_ranks(name: str, prompt: str, backbone: str) -> Task:
    side = side_of(backbone)

    def part(ranks: np.ndarray, per_rank: int, seed: int) -> Part:
        rng, target = np.random.default_rng([seed, 11]), np.tile(ranks, per_rank)
        levels = 20 * target / (N_RANKS - 1)
        drawn = [rendering.render(name, t, rng, side=side) for t in levels]
        return replace(part_of(drawn, target.tolist(), backbone), pixels=None)

    train = part(np.arange(0, N_RANKS, STEP), POOL_PER_RANK, 0)
    test = part(np.arange(N_RANKS), TEST_PER_RANK, 1)
    return Task(f"{name}, {N_RANKS} ranks", tuple(map(str, range(N_RANKS))), prompt, train, test, test, backbone)


def draw(task: Task, condition: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images, and the ranks whose test images count."""
    every = np.arange(task.n_ranks)
    if condition == UNSEEN:
        without = every % 3 == 1
        return task.draw(np.where(without, 0, 16), seed), every[without]
    if condition == MANY:
        return task.draw(np.where(every % STEP, 0, DRAWN_PER_RANK), seed), every[every % STEP > 0]
    if condition == SHIFT:
        pool = task.draw(32, seed)
        shift = DistributionShiftSplit(task.n_ranks // 2, which="random", cv=[(pool, [])], random_state=seed)
        return next(shift.split(task.train.target, task.train.target))[0], every
    return task.draw(int(condition.split()[0]), seed), every


# ----------------------------------------------------------------------- fits


@dataclass(frozen=True)
class Fit:
    """What is to be fitted; `parameters`, as JSON, are those of the method beside the data."""

    task: str
    condition: str
    seed: int
    method: str
    parameters: str


def fit_of(task: str, condition: str, seed: int, method: str, chosen: dict[str, dict]) -> Fit:
    parameters = OURS[method] if method in OURS else chosen.get(_fitted_as(method), {})
    if method in VARIANTS:
        parameters = parameters | {"variant": VARIANTS[method].__name__}
    return Fit(task, condition, seed, method, json.dumps(parameters, sort_keys=True))


def _fitted_as(method: str) -> str:
    """The name in `FEW_SHOTS` of a baseline: one fit may be read out in two ways."""
    return ROWS[method][0] if method in ROWS else method


def of_line(line: dict[str, Any]) -> Fit:
    return Fit(line["task"], line["condition"], line["seed"], line["method"], line["parameters"])


def planned(
    names: list[str], tasks: tuple[Task, ...], many: tuple[Task, ...], n_seeds: int, chosen: dict[str, dict]
) -> Iterator[tuple[Fit, Task]]:
    """All of the first seed before any of the second, so that an interrupted run has whole tables."""
    for seed in range(n_seeds):
        for name in names:
            for task in many if name == many_ranks.__name__ else tasks:
                for condition, method in EXPERIMENTS[name](task):
                    yield fit_of(task.name, condition, seed, method, chosen), task


def predictor_of(fit: Fit, task: Task, drawn: np.ndarray) -> Predictor:
    parameters = json.loads(fit.parameters)
    if fit.method in TOWERS:
        return from_pixels(task, drawn, fit.seed, image_tower=TOWERS[fit.method])
    if fit.method in OURS:
        parameters.pop("variant", None)
        with fitted_with(VARIANTS[fit.method]) if fit.method in VARIANTS else nullcontext():
            return nothing_set(task, drawn, fit.seed, device="cpu", **parameters)
    if fit.method == CONSTANT:
        constant = round(np.median(task.train.target[drawn]))
        return lambda Z: np.eye(task.n_ranks)[np.full(len(Z), constant)]
    return FEW_SHOTS[_fitted_as(fit.method)](task, drawn, fit.seed, **parameters)


def _nearest(task: Task, drawn: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The rank with images that is nearest to the true one."""
    seen = np.unique(task.train.target[drawn])
    return seen[np.abs(true[:, None] - seen).argmin(axis=1)]


def scores(fit: Fit, task: Task) -> dict[str, Any]:
    """Fit, and score on test images."""
    drawn, tested = draw(task, fit.condition, fit.seed)
    kept = np.isin(task.test.target, tested)
    true = task.test.target[kept]
    start = time.process_time()
    ordinality = None
    if fit.method == NEAREST:
        predicted = _nearest(task, drawn, true)
        probabilities = np.eye(task.n_ranks)[predicted]
    else:
        predictor = predictor_of(fit, task, drawn)
        X = (task.test.pixels if fit.method in TOWERS else inputs_of(predictor, task.test))[kept]
        probabilities = predictor(X)
        decision = ROWS[fit.method][1] if fit.method in ROWS else "median"
        predicted = read_out(probabilities, np.arange(task.n_ranks, dtype=float), decision)
        if isinstance(predictor, Fitted):
            ordinality = float(predictor.model.ordinality_)
            predicted = predictor.model.predict(X) if fit.method in {*OURS, *TOWERS} else predicted
    return {
        "mae": float(np.abs(predicted - true).mean()),
        "rps": float(ranked_scores(probabilities, true).mean()),
        "ordinality": ordinality,
        "seconds": round(time.process_time() - start, 2),
        "library": state_of_library(),
    }


def line_of(fit: Fit, task: Task, deadline: float) -> dict[str, Any] | None:
    """The line of a fit, or None where time is up."""
    if time.time() > deadline:
        return None
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    return vars(fit) | scores(fit, task)


def begin_with(kept: Path, store: Path) -> None:
    """Take over the lines of an earlier run that the present library made, where there are none yet."""
    if not store.is_file():
        for line in finished(kept):
            if line["library"] == state_of_library():
                keep(store, line)


def run(jobs: Iterator[tuple[Fit, Task]], store: Path, n_jobs: int, deadline: float) -> None:
    """Make the fits whose lines are not there, each once; one process writes."""
    done = {of_line(line) for line in finished(store)}
    missing = {fit: task if fit.method in TOWERS else task.without_pixels() for fit, task in jobs if fit not in done}
    lines = joblib.Parallel(n_jobs, return_as="generator_unordered", batch_size=1)(
        joblib.delayed(line_of)(fit, task, deadline) for fit, task in missing.items()
    )
    n_made = 0
    for line in lines:
        if line is not None:
            keep(store, line)
            n_made += 1
            if n_made % 100 == 0:
                print(f"further: {n_made} of {len(missing)} fits", flush=True)
    print(f"further: {n_made} of {len(missing)} fits" + "; run it again to go on" * (n_made < len(missing)))
