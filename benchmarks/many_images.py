"""What a fit costs with many images, and whether it takes enough steps: seconds, memory, and error beside probes.

Everything is on embeddings. For the costs these are unit rows that show their rank along a curve, among noise; for the
errors they are of rendered images of properties that skl2rclip-tiny never saw. Each cost is taken in a process of its
own, by one thread. The tables are written to ``many_images.md``. Embeddings and fits are kept in the folder that
``--cache`` names; remove it after a change of the library.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

try:
    import resource
except ImportError:  # Windows
    resource = None

import joblib
import numpy as np
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import BACKBONE, rendering

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._model.modules import N_HIDDEN, RidgeAdapter
from skl2rclip._ordinal.decisions import ranked_scores, read_out
from skl2rclip._ordinal.soft_targets import measure
from skl2rclip._training import initialization, prepare, trainer
from skl2rclip._training.candidates import CandidateSelection
from skl2rclip._training.learner import EncodedImages, Learner, TrainingData
from skl2rclip._training.objective import Objective

HERE = Path(__file__).parent
Predictor = Callable[[np.ndarray], np.ndarray]
# images of a rank, ranks
FITS = {"5 x 1,000": (1000, 5), "21 x 1,000": (1000, 21), "101 x 99": (99, 101), "101 x 990": (990, 101)}
STARTS = ("5 x 1,000", "21 x 1,000", "101 x 99")
NARROW, WIDE = 128, 512
# of the terms, as a fit has them with nothing set
WEIGHTS = {"contrastive": 1.0, "ordering": 0.1, "tightness": 0.1}
TEST_PER_RANK = 100
TASKS = {"tilt": "the tilt of the bar is", "ripeness": "the ripeness of the fruit is"}
# images of a rank: epochs beside "auto", the first of them eighty steps, or one epoch
EPOCHS = {128: (4, "auto", 14), 1000: (1, 2, 4, "auto", 14)}


# ----------------------------------------------------------------------- costs


def embeddings_of(target: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """Unit rows: a random linear map of a curve along the ranks and of eight things beside, and noise."""
    rng = np.random.default_rng([seed, width])
    place = target / max(target.max(), 1) + 0.05 * rng.normal(size=len(target))
    causes = np.column_stack([np.cos(2 * place), np.sin(2 * place), 0.3 * rng.normal(size=(len(target), 8))])
    Z = causes @ rng.normal(size=(causes.shape[1], width)) + 0.1 * rng.normal(size=(len(target), width))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


class Clock:
    """CPU seconds of functions that are called while it watches."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def watching(self, **functions: tuple[Any, str]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, (owner, attribute) in functions.items():
                stack.enter_context(mock.patch.object(owner, attribute, self._timed(name, getattr(owner, attribute))))
            yield

    def _timed(self, name: str, function: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begin

        return timed


def peak_memory() -> float:
    """Most memory that this process has taken so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # of Linux; getrusage also counts what the process had been before it became this one
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def cost_of_fit(per_rank: int, n_ranks: int) -> dict[str, float]:
    """CPU seconds and memory of a fit with nothing set, by its parts."""
    target = np.tile(np.arange(n_ranks), per_rank)
    Z = embeddings_of(target, NARROW)
    classifier = L2RCLIPClassifier(BACKBONE, image_tower="precomputed", random_state=0, device="cpu")
    few = np.arange(4 * n_ranks)
    classifier.fit(Z[few], target[few])  # the backbone is loaded, and torch has its threads
    clock, before, begin = Clock(), peak_memory(), time.process_time()
    with clock.watching(
        measure=(prepare, "measure"),
        order=(initialization, "order_prompts"),
        start=(trainer, "start"),
        train=(trainer, "run_stage"),
        evaluate=(CandidateSelection, "evaluate"),
    ):
        classifier.fit(Z, target)
    total, seconds = time.process_time() - begin, {"evaluate": 0.0, **clock.seconds}
    n_epochs = len(classifier.history_)
    rest = total - seconds["measure"] - seconds["start"] - seconds["train"]
    return {
        **seconds,
        "rest": rest,
        "total": total,
        "epochs": n_epochs,
        "steps": n_epochs * math.ceil(len(target) / 128),
        "epoch": seconds["train"] / n_epochs,
        "memory": peak_memory() - before,
    }


class Points(torch.nn.Module):
    """Prompts that are their prototypes, in place of a text tower of another width."""

    n_products = 0

    def __init__(self, n_ranks: int, width: int):
        super().__init__()
        self.context = torch.nn.Parameter(torch.randn(n_ranks, width, generator=torch.Generator().manual_seed(0)))

    def forward(self) -> torch.Tensor:
        return torch.nn.functional.normalize(self.context, dim=1)


def cost_of_start(per_rank: int, n_ranks: int) -> dict[str, float]:
    """CPU seconds and memory of the measuring pass and of the start, with embeddings of a usual tower's width."""
    target = np.tile(np.arange(n_ranks), per_rank)
    Z, weight = embeddings_of(target, WIDE), np.ones(len(target))
    learner = Learner(
        prompts=Points(n_ranks, WIDE),
        adapter=RidgeAdapter(WIDE),
        tower=None,
        preprocessing=None,
        objective=Objective(WEIGHTS, 100.0, torch.arange(float(n_ranks))),
        autocast=torch.autocast("cpu", enabled=False),
        image_autocast=torch.autocast("cpu", enabled=False),
        generator=torch.Generator().manual_seed(0),
    )
    before, begin = peak_memory(), time.process_time()
    measured = measure(Z, target, np.arange(float(n_ranks)), weight, np.arange(len(Z)), n_hidden=N_HIDDEN, seed=0)
    between, after_measuring = time.process_time(), peak_memory()
    distributions = torch.from_numpy(measured.targets.around_labels())
    data = TrainingData(
        torch.from_numpy(target), None, EncodedImages(torch.from_numpy(Z), None), distributions=distributions
    )
    initialization.start(learner, data, measured, 1, 0)
    return {
        "measure": between - begin,
        "start": time.process_time() - between,
        "memory_measure": after_measuring - before,
        "memory": peak_memory() - before,
    }


COSTS = {"fit": cost_of_fit, "start": cost_of_start}


def cost(what: str, name: str) -> dict[str, float]:
    """Seconds and memory in a process of its own, which has used no memory before, by one thread."""
    command = [sys.executable, __file__, "--cost", what, name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = json.loads(done.stdout.splitlines()[-1])
    print(what, name, {key: round(value, 2) for key, value in result.items()}, flush=True)
    return result


# ---------------------------------------------------------------------- errors


def drawn(name: str, per_rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and ranks of rendered images, whose pixels are not kept."""
    rng, levels = np.random.default_rng([seed, 9]), rendering.NEW_PROPERTIES[name].levels
    encoder = CLIPImageEncoder(BACKBONE, device="cpu").fit()
    target = np.tile(np.arange(len(levels)), per_rank)
    parts = np.array_split(target, max(1, len(target) // 2100))
    rendered = (np.stack([rendering.render(name, levels[k], rng) for k in part]) for part in parts)
    return np.concatenate([encoder.transform(pixels) for pixels in rendered]), target


def pools(name: str, cache: Path) -> dict[str, np.ndarray]:
    """Training and test embeddings with their ranks, made once."""
    file = cache / f"{name}.npz"
    if not file.is_file():
        test_Z, test_y = drawn(name, TEST_PER_RANK, 2)
        train_Z, train_y = drawn(name, max(EPOCHS), 0)
        np.savez(file, train_Z=train_Z, train_y=train_y, test_Z=test_Z, test_y=test_y)
    with np.load(file) as kept:
        return dict(kept)


def ridge(X: np.ndarray, y: np.ndarray) -> Predictor:
    """Its penalty and its error by leave-one-out; a Gaussian as wide as that error around its prediction."""
    model = RidgeCV(alphas=np.logspace(-4, 2, 25)).fit(X, y)
    sigma, edges = math.sqrt(-model.best_score_), np.concatenate([[-np.inf], np.arange(y.max()) + 0.5, [np.inf]])
    return lambda Z: np.diff(norm.cdf((edges - model.predict(Z)[:, None]) / sigma), axis=1)


def logistic(X: np.ndarray, y: np.ndarray) -> Predictor:
    """Multinomial, with the least penalty of those that the few shots try: there are images enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=1e4, max_iter=300).fit(X, y).predict_proba


def hidden_layer(X: np.ndarray, y: np.ndarray) -> Predictor:
    """scikit-learn's perceptron with a hidden layer as wide as the adapter's, on standardised embeddings."""
    perceptron = MLPClassifier((N_HIDDEN,), early_stopping=True, random_state=0)
    return make_pipeline(StandardScaler(), perceptron).fit(X, y).predict_proba


PROBES = {"ridge": ridge, "logistic regression": logistic, "perceptron, one hidden layer": hidden_layer}


def ours(X: np.ndarray, y: np.ndarray, prompt: str, epochs: int | str, seed: int) -> Predictor:
    """The library with nothing set but the number of epochs."""
    settings = {"prompt": prompt, "ranks": list(range(y.max() + 1)), "random_state": seed, "device": "cpu"}
    classifier = L2RCLIPClassifier(BACKBONE, image_tower="precomputed", prompt_epochs=epochs, **settings)
    return classifier.fit(X, y).predict_proba


def scored(per_rank: int, method: str | int, name: str, seed: int, cache: Path) -> dict[str, float]:
    """Fit a probe, or the library for some epochs; MAE by the median, RPS, and CPU seconds of the fit."""
    torch.set_num_threads(1)
    pool, begin = pools(name, cache), time.process_time()
    target = pool["test_y"]
    n = per_rank * (target.max() + 1)  # images come round by round of the ranks
    X, y = pool["train_Z"][:n], pool["train_y"][:n]
    predict = PROBES[method](X, y) if method in PROBES else ours(X, y, TASKS[name], method, seed)
    seconds, probabilities = time.process_time() - begin, predict(pool["test_Z"])
    predicted = read_out(probabilities, np.arange(probabilities.shape[1], dtype=float), "median")
    result = {
        "mae": float(np.abs(predicted - target).mean()),
        "rps": float(ranked_scores(probabilities, target).mean()),
        "seconds": seconds,
    }
    print(per_rank, name, method, seed, {key: round(value, 4) for key, value in result.items()}, flush=True)
    return result


# ---------------------------------------------------------------------- report


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def table_of_fits(costs: dict[str, dict[str, float]]) -> str:
    def share(each: dict[str, float], part: str) -> str:
        return f"{each[part]:.1f} s, {each[part] / each['total']:.0%}"

    head = [
        "ranks x images",
        "steps",
        "the fit",
        "measuring",
        "start",
        "steps and evaluations",
        "rest",
        "an epoch",
        "memory",
    ]
    lines = [
        [
            name,
            f"{each['steps']} in {each['epochs']} epochs",
            f"{each['total']:.1f} s",
            *(share(each, part) for part in ("measure", "start", "train", "rest")),
            f"{each['epoch']:.1f} s",
            f"{each['memory']:.0f} MB",
        ]
        for name, each in costs.items()
    ]
    return table(head, lines)


def table_of_starts(costs: dict[str, dict[str, float]]) -> str:
    lines = [
        [name, f"{each['measure']:.1f} s", f"{each['start']:.1f} s", f"{each['memory']:.0f} MB"]
        for name, each in costs.items()
    ]
    return table(["ranks x images", "measuring", "start", "memory"], lines)


def table_of_errors(results: dict[tuple[int, str | int, str], list[dict[str, float]]], per_rank: int) -> str:
    head = ["", *(f"{name}: {what}" for name in TASKS for what in ("MAE", "RPS", "CPU seconds"))]
    lines = []
    for method in (*PROBES, *EPOCHS[per_rank]):
        cells = ["ours, nothing set" if method == "auto" else method if method in PROBES else f"ours, epochs: {method}"]
        for name in TASKS:
            of_seeds = results[per_rank, method, name]
            for key, digits in (("mae", 3), ("rps", 3), ("seconds", 0)):
                values = [each[key] for each in of_seeds]
                spread = f" ({min(values):.3f} to {max(values):.3f})" if key == "rps" and len(values) > 1 else ""
                cells.append(f"{np.mean(values):.{digits}f}{spread}")
        lines.append(cells)
    return table(head, lines)


def report(fits: dict, starts: dict, results: dict, n_seeds: int) -> str:
    machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    parts = [
        "# Many images",
        f"Made by `python benchmarks/many_images.py` on {machine}, one thread each. Seconds are of the CPU. Memory "
        "is what the peak of the process rose by during the fit.",
        "## What a fit on embeddings costs",
        f"Nothing set, {BACKBONE}, embeddings {NARROW} wide. 'Start' puts prompts in order and makes the adapters by "
        "ridge regression; above 20,000 images candidates are not compared, and there is a single adapter.",
        table_of_fits(fits),
        f"Measuring and start alone, embeddings {WIDE} wide, with no text tower:",
        table_of_starts(starts),
        "## How many epochs",
        f"Rendered images of 21 ranks, {TEST_PER_RANK} of each for the test, seeds of ours: {n_seeds}; with "
        "several the mean, and the range. The images are the same for all seeds, and probes have one.",
    ]
    for per_rank in EPOCHS:
        parts += [f"### {per_rank:,} images a rank", table_of_errors(results, per_rank)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "skl2rclip-many-images")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cost", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost:
        torch.set_num_threads(1)
        print(json.dumps(COSTS[options.cost[0]](*FITS[options.cost[1]])))
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    kept = joblib.Memory(options.cache, verbose=0).cache
    parallel = joblib.Parallel(n_jobs=options.jobs)
    parallel(joblib.delayed(pools)(name, options.cache) for name in TASKS)
    fits = {name: kept(cost)("fit", name) for name in FITS}
    starts = {name: kept(cost)("start", name) for name in STARTS}
    cells = [
        (per_rank, method, name, seed)
        for seed in range(options.seeds)
        for per_rank, epochs in EPOCHS.items()
        for method in (*PROBES, *epochs)
        for name in TASKS
        if seed == 0 or method not in PROBES
    ]
    score = kept(scored)
    results: dict[tuple[int, str | int, str], list[dict[str, float]]] = {}
    made = parallel(joblib.delayed(score)(*cell, options.cache) for cell in cells)
    for (per_rank, method, name, _), result in zip(cells, made, strict=True):
        results.setdefault((per_rank, method, name), []).append(result)
    (HERE / "many_images.md").write_text(report(fits, starts, results, options.seeds))


if __name__ == "__main__":
    main()
