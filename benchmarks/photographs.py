"""Two sets of real photographs on both of our small CLIPs: the library with nothing set, ridge, logistic regression.

    python benchmarks/photographs.py --data FOLDER       # to benchmarks/photographs.md, which says what it shows

Ten draws a cell take some minutes of two cores. The whole evidence, with six tasks and more methods, is made by
``evidence.py``; fits are kept and shared with it.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import few_shots
import joblib
import numpy as np
import torch
from evidence import chosen_for
from methods import predictions
from scipy import stats
from tasks import Task, photograph_tasks

BACKBONES = ("skl2rclip-tiny", "skl2rclip-photo")
SHOTS = (4, 16, 64)
# and the read-out of its probabilities, None for what it predicts itself
METHODS: dict[str, str | None] = {"nothing set": None, "ridge": "median", "logistic regression": "median"}

ABOUT = """Made by `python benchmarks/photographs.py --data FOLDER`: MAE in ranks, mean of {n} draws of the training
images (all of a rank that has fewer). All methods see the same embeddings of the frozen tower, and all say the median.
The last column is ours less the better probe, draw by draw, with the 95 % interval of its mean; the test images are the
same for all draws, so that it says nothing about others."""


def absolute_error(task: Task, shots: int, seed: int, method: str, store: Path) -> float:
    """MAE in ranks on the test images."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    file = few_shots.file_of(store, method, task.name, shots, seed)
    if not file.is_file():
        settings = chosen_for(task.backbone).get(method, {}) if method in few_shots.TUNED else {}
        kept = few_shots.fitted(method, task, shots, seed, settings)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **kept)
    with np.load(file) as kept:
        decision = METHODS[method]
        said = kept["predicted test"] if decision is None else predictions(kept["test"], task.n_ranks)[decision]
        return float(np.abs(said - task.test.target).mean())


def spread(values: np.ndarray) -> float:
    """Half of the 95% interval of a mean over draws."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def line(task: Task, shots: int, errors: dict[str, np.ndarray]) -> str:
    """Means by method, and how ours differs from the better probe, draw by draw."""
    ours, *probes = errors.values()
    best = min(probes, key=np.mean)
    gap = ours - best
    means = " | ".join(f"{values.mean():.2f}" for values in errors.values())
    return f"| {task.backbone} | {task.name} | {shots} | {means} | {gap.mean():+.3f} ± {spread(gap):.3f} |"


def main() -> None:
    """Fit what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with lara2018 and BCCD_Dataset")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "skl2rclip-evidence")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count())
    options = parser.parse_args()
    lines = []
    for backbone in BACKBONES:
        store = options.cache if backbone == BACKBONES[0] else options.cache / backbone
        for task in photograph_tasks(options.cache, options.data, backbone):
            few = task.without_pixels()
            jobs = [(shots, seed, method) for shots in SHOTS for seed in range(options.seeds) for method in METHODS]
            found = joblib.Parallel(options.jobs)(joblib.delayed(absolute_error)(few, *job, store) for job in jobs)
            for shots in SHOTS:
                errors = {
                    method: np.array([mae for job, mae in zip(jobs, found, strict=True) if job[::2] == (shots, method)])
                    for method in METHODS
                }
                lines.append(line(task, shots, errors))
                print(lines[-1], flush=True)
    head = f"| backbone | task | images a rank | {' | '.join(METHODS)} | difference |\n|{'---|' * (4 + len(METHODS))}"
    text = "\n\n".join(["# Photographs", ABOUT.format(n=options.seeds), "\n".join([head, *lines])])
    Path(__file__).with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
