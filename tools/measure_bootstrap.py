"""Measure how often intervals of drawn images, or groups, hold the score that a very large sample has.

    python tools/measure_bootstrap.py

Images are simulated: grades of 0 to 4, in groups of five whose errors resemble one another as those of one patient do,
and a model that is off by some of a grade. Intervals of 95% should hold it in 95 of 100 samples.
"""

from __future__ import annotations

import numpy as np

from skl2rclip.metrics import bootstrap_scores
from skl2rclip.metrics._at_least import SCORES, scores_by_weights

PER_GROUP = 5


def sample(n_groups: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return grades, what a model finds of them, and groups: half of its error is of the group."""
    groups = np.repeat(np.arange(n_groups), PER_GROUP)
    grades = rng.integers(0, 5, len(groups))
    error = 0.7 * rng.normal(size=n_groups)[groups] + 0.7 * rng.normal(size=len(groups))
    return grades, grades + error, groups


def mean_absolute_error(y: np.ndarray, found: np.ndarray) -> float:
    return float(np.abs(y - found.round().clip(0, 4)).mean())


def coverage_of_groups(n_groups: int, n_samples: int) -> list[float]:
    """Share of samples whose interval holds the truth, with images drawn and with groups drawn."""
    grades, found, _ = sample(200_000, np.random.default_rng(1))
    truth, rng, held = mean_absolute_error(grades, found), np.random.default_rng(0), np.zeros(2)
    for _ in range(n_samples):
        grades, found, groups = sample(n_groups, rng)
        for place, drawn in enumerate((None, groups)):
            score = bootstrap_scores(grades, found, mean_absolute_error, drawn, n_resamples=400, random_state=0)
            held[place] += score.low <= truth <= score.high
    return (held / n_samples).tolist()


def coverage_of_decisions(n_above: int, n_samples: int) -> list[float]:
    """Share of samples whose intervals hold the truth, by how many of 500 images are above the decision."""
    rng, held = np.random.default_rng(0), np.zeros(len(SCORES))

    def scored(is_so: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-2 * (rng.normal(size=len(is_so)) + 1.5 * is_so - 0.75)))

    every = np.arange(200_000) % 2 == 0
    [truth] = scores_by_weights(every, scored(every), 0.5, np.ones((1, len(every))))
    for _ in range(n_samples):
        is_so = np.arange(500) < n_above
        probability = scored(is_so)
        weights = np.stack([np.bincount(rng.integers(500, size=500), minlength=500) for _ in range(400)])
        low, high = np.nanpercentile(scores_by_weights(is_so, probability, 0.5, weights), [2.5, 97.5], axis=0)
        held += (low <= truth) & (truth <= high)
    return (held / n_samples).tolist()


def main() -> None:
    print("mean absolute error\n\n| groups of five | images drawn | groups drawn |\n|---|---|---|")
    for n_groups in (5, 10, 20, 50, 200):
        print(f"| {n_groups} | " + " | ".join(f"{each:.2f}" for each in coverage_of_groups(n_groups, 400)) + " |")
    print(f"\ndecisions, 500 images\n\n| of them above | {' | '.join(SCORES)} |\n|---|---|---|---|")
    for n_above in (5, 10, 20, 50, 250):
        cells = " | ".join(f"{each:.2f}" for each in coverage_of_decisions(n_above, 400))
        print(f"| {n_above} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
