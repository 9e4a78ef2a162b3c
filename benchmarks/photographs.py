"""Two sets of real photographs on both of our small CLIPs: the library with nothing set, ridge, logistic regression.

    python benchmarks/photographs.py --data FOLDER       # to benchmarks/photographs.md, which says what it shows

Ten draws a cell take some minutes of two cores. The whole evidence, with six tasks and more methods, is made by
``evidence.py``; fits are kept and shared with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import few_shots
import joblib
import numpy as np
from evidence import CACHE, cache_for, chosen_on_validation
from methods import FEW_SHOTS
from report import OURS, ROWS, interval, summary
from tasks import Task, photograph_tasks

from skl2rclip._clip.embedded import EMBEDDED_NAMES

SHOTS = (4, 16, 64)
# of the report's rows those that say the median
SHOWN = (OURS, "ridge", "logistic regression, median")
METHODS = {ROWS[row][0]: FEW_SHOTS[ROWS[row][0]] for row in SHOWN}

ABOUT = """Made by `python benchmarks/photographs.py --data FOLDER`: MAE in ranks, mean of {n} draws of the training
images (all of a rank that has fewer). All methods see the same embeddings of the frozen tower, and all say the median.
The last column is ours less the better probe, draw by draw, with the 95 % interval of its mean; the test images are the
same for all draws, so that it says nothing about others."""


def errors_of(task: Task, shots: int, n_seeds: int, store: Path) -> list[np.ndarray]:
    """MAE in ranks on the test images by draw, for each row that is shown."""
    errors = []
    for name, decision in (ROWS[row] for row in SHOWN):
        files = {seed: few_shots.file_of(store, name, task.name, shots, seed) for seed in range(n_seeds)}
        errors.append(summary(files, decision, few_shots.about(task)).mae)
    return errors


def line(task: Task, shots: int, errors: list[np.ndarray]) -> str:
    """Means by method, and how ours differs from the better probe, draw by draw."""
    ours, *probes = errors
    gap = ours - min(probes, key=np.mean)
    means = " | ".join(f"{values.mean():.2f}" for values in errors)
    return f"| {task.backbone} | {task.name} | {shots} | {means} | {interval(gap, 3)} |"


def main() -> None:
    """Fit what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with lara2018 and BCCD_Dataset")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count())
    options = parser.parse_args()
    lines = []
    for backbone in EMBEDDED_NAMES:
        store, chosen = cache_for(options.cache, backbone), chosen_on_validation(backbone)
        for task in photograph_tasks(store, options.data, backbone):
            few = task.without_pixels()
            joblib.Parallel(options.jobs)(
                joblib.delayed(few_shots.cell)(few_shots.Job(few, shots, seed, METHODS), store, chosen)
                for shots in SHOTS
                for seed in range(options.seeds)
            )
            for shots in SHOTS:
                lines.append(line(task, shots, errors_of(task, shots, options.seeds, store)))
                print(lines[-1], flush=True)
    head = f"| backbone | task | images a rank | {' | '.join(SHOWN)} | difference |\n|{'---|' * (4 + len(SHOWN))}"
    text = "\n\n".join(["# Photographs", ABOUT.format(n=options.seeds), "\n".join([head, *lines])])
    Path(__file__).with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
