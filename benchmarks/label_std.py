"""What it is worth to know how far labels are off: MAE against the true ranks, with and without ``label_std``.

Labels are drawn around the true ranks with standard deviations that are exponential with a mean of K/8 ranks; the
test images keep their own. One table goes to the standard output.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from tasks import BACKBONE, Task, all_tasks

from skl2rclip import L2RCLIPClassifier

SHOTS = (4, 16, 64)


def errors(task: Task, shots: int, seed: int) -> tuple[float, float]:
    """MAE in ranks of a fit that ignores how far labels are off, and of one that knows."""
    rng = np.random.default_rng([seed, 7])
    n_ranks = len(task.names)
    of_ranks = [rng.permutation(np.flatnonzero(task.train.target == k))[:shots] for k in range(n_ranks)]
    rows = np.concatenate(of_ranks)
    std = n_ranks / 8 * rng.exponential(1.0, len(rows))
    marked = np.clip(np.rint(task.train.target[rows] + std * rng.standard_normal(len(rows))), 0, n_ranks - 1).astype(
        int
    )
    classifier = L2RCLIPClassifier(
        task.backbone,
        image_tower="precomputed",
        prompt=task.prompt,
        ranks=range(n_ranks),
        rank_names=list(task.names),
        random_state=seed,
    )
    ignored, known = (
        np.abs(
            classifier.fit(task.train.Z[rows], marked, label_std=given).predict(task.test.Z) - task.test.target
        ).mean()
        for given in (None, std)
    )
    return float(ignored), float(known)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the photographs' repositories")
    parser.add_argument("--model-name", default=BACKBONE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "skl2rclip-evidence")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    print(f"| task | {' | '.join(f'{shots} images a rank' for shots in SHOTS)} |")
    print("|---" * (1 + len(SHOTS)) + "|")
    for task in all_tasks(options.cache, options.data, options.model_name):
        cells = []
        for shots in SHOTS:
            ignored, known = np.mean([errors(task, shots, seed) for seed in range(options.seeds)], axis=0)
            cells.append(f"{ignored:.2f} : {known:.2f}")
        print(f"| {task.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
