"""What a fit costs with many pictures, and whether it takes enough steps: seconds, memory, and error beside probes.

Everything is on embeddings. For the costs these are unit rows that show their rank along a curve, among noise; for the
errors they are of rendered pictures of skl2rclip-tiny's new properties. Each cost is taken in a process of its own, by
one thread. The tables are written to ``many_pictures.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, RidgeCV
from tasks import BACKBONE, pictures

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, _fit, _preparation, _start
from skl2rclip._learner import Learner
from skl2rclip._modules import RidgeAdapter
from skl2rclip._objective import Objective
from skl2rclip._ranks import ranked_scores
from skl2rclip._selection import Contest

HERE = Path(__file__).parent
# name: images of a rank, ranks
FITS = {"5 ranks": (1000, 5), "21 ranks": (1000, 21), "101 ages": (99, 101), "101 ages, more": (990, 101)}
WIDE = 512
TRAIN_PER_RANK, TEST_PER_RANK = 1000, 100
TASKS = {"tilt": "the tilt of the bar is", "ripeness": "the ripeness of the fruit is"}
FACTORS = (1, 2, 4, 10)
SEEDS = 2


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
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def cost_of_fit(per_rank: int, n_ranks: int) -> dict[str, float]:
    """CPU seconds and memory of a fit with nothing set, by its parts."""
    target = np.tile(np.arange(n_ranks), per_rank)
    Z = embeddings_of(target, 128)
    classifier = L2RCLIPClassifier(BACKBONE, image_tower="precomputed", random_state=0, device="cpu")
    few = np.arange(4 * n_ranks)
    classifier.fit(Z[few], target[few])  # the backbone is loaded, and torch has its threads
    clock, before, begin = Clock(), peak_memory(), time.process_time()
    with clock.watching(
        measure=(_preparation, "measure"),
        order=(_start, "order_prompts"),
        start=(_fit, "start"),
        train=(_fit, "run_stage"),
        look=(Contest, "look"),
    ):
        classifier.fit(Z, target)
    total, seconds = time.process_time() - begin, {"look": 0.0, **clock.seconds}
    n_epochs = len(classifier.history_)
    rest = total - seconds["measure"] - seconds["start"] - seconds["train"]
    return {
        **seconds,
        "rest": rest,
        "total": total,
        "epochs": n_epochs,
        "epoch": seconds["train"] / n_epochs,
        "memory": peak_memory() - before,
    }


class Points(torch.nn.Module):
    """Prompts that are their prototypes, in place of a text tower of another width."""

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
        prompts=Points(n_ranks, WIDE),  # type: ignore[arg-type]
        adapter=RidgeAdapter(WIDE),
        tower=None,
        preprocessing=None,  # type: ignore[arg-type]
        objective=Objective((1.0, 0.1, 0.1, 0.0), 100.0, torch.arange(float(n_ranks))),
        autocast=torch.autocast("cpu", enabled=False),
        generator=torch.Generator().manual_seed(0),
    )
    before, begin = peak_memory(), time.process_time()
    measured = _start.measure(Z, target, np.arange(float(n_ranks)), weight, None, has_hidden=True, seed=0)
    between, after_measuring = time.process_time(), peak_memory()
    distributions = torch.from_numpy(measured.targets.around_labels())
    data = _fit.TrainingData(torch.from_numpy(target), None, torch.from_numpy(Z), distributions=distributions)
    _start.start(learner, data, measured, 1, 0)
    return {
        "measure": between - begin,
        "start": time.process_time() - between,
        "memory_measure": after_measuring - before,
        "memory": peak_memory() - before,
    }


def in_process_of_its_own(what: str, name: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--cost", what, name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result = json.loads(done.stdout.splitlines()[-1])
    print(what, name, {key: round(value, 2) for key, value in result.items()}, flush=True)
    return result


COSTS = {"fit": cost_of_fit, "start": cost_of_start}


if __name__ == "__main__":
    if sys.argv[1] == "--cost":
        print(json.dumps(COSTS[sys.argv[2]](*FITS[sys.argv[3]])))
