"""Is it at least good?
====================

Sensitivity and specificity of each 'at least this rank', with intervals, and a threshold.

What one learns: to read a model of five grades as four decisions (`AtLeastRankDisplay`), to compare two models on the
same draws of images, and to choose the threshold of a decision on labelled images of the same origin, where it has to
find nearly all. The models have learned from crops of one photograph, and decide on those of another: half of these
choose the threshold, and the other half says what it is worth.

Run it with ``python decisions_at_a_rank.py``; it takes less than a minute on two cores, needs no network, and draws
``decisions-at-a-rank/decisions.png``. It needs matplotlib: ``pip install ".[plot]"`` in a checkout.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/decisions.png'

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from graded_photographs import GRADES, classifier, linear_probe, write_crops

from skl2rclip.inspection import AtLeastRankDisplay
from skl2rclip.metrics import at_least_rank_scores

WANTED = 0.9  # sensitivity


def chosen_threshold(proba: np.ndarray, y: np.ndarray, rank: str, ranks: list[str]) -> float:
    """Return the highest threshold at which 'at least `rank`' finds as many as wanted."""
    k = ranks.index(rank) - 1
    thresholds = np.linspace(0, 1, 21)
    found = [at_least_rank_scores(y, proba, ranks=ranks, threshold=each).sensitivity[k] for each in thresholds]
    return float(thresholds[np.flatnonzero(np.array(found) >= WANTED)[-1]])


def said(display: AtLeastRankDisplay, name: str, model: int, k: int) -> str:
    low, high = display.intervals[name][model, k]
    return f"{display.scores[name][model, k]:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, default=400)
    parser.add_argument("--n-test", type=int, default=400)
    parser.add_argument("--folder", type=Path, default=Path("decisions-at-a-rank"))
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X, y = write_crops("temple", options.folder / "train", options.n_train, rng)
    X_new, y_new = write_crops("flower", options.folder / "new", options.n_test, rng)
    models = {"L2RCLIP": classifier().fit(X, y), "linear probe": linear_probe().fit(X, y)}
    proba = {name: model.predict_proba(X_new) for name, model in models.items()}

    figure = plt.figure(figsize=(10.5, 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
    display = AtLeastRankDisplay.from_predictions(y_new, proba, ranks=GRADES, ax=above.subplots(1, 3))
    print(f"{'at least':<10} {'area under the curve':<22} {'sensitivity':<22} specificity")
    for k, grade in enumerate(GRADES[1:]):
        print(f"{grade:<10} " + " ".join(f"{said(display, name, 0, k):<22}" for name in display.scores).rstrip())
    print("\narea under the curve, L2RCLIP less linear probe:")
    for k, grade in enumerate(GRADES[1:]):
        low, high = display.difference_intervals["roc_auc"][0, k]
        print(f"{grade:<10} {display.differences['roc_auc'][0, k]:+.2f} ({low:+.2f} to {high:+.2f})")
    display.plot(below.subplots(1, 3), kind="differences")
    figure.savefig(options.folder / "decisions.png")

    # twenty images in a row have each degradation at each grade once
    is_first = np.arange(len(y_new)) // 20 % 2 == 0
    labels, ours = np.array(y_new), proba["L2RCLIP"]
    threshold = chosen_threshold(ours[is_first], labels[is_first], "good", GRADES)
    other = AtLeastRankDisplay.from_predictions(
        labels[~is_first], ours[~is_first], ranks=GRADES, threshold=threshold, ax=plt.figure().gca()
    )
    k = GRADES.index("good") - 1
    print(f"\n'at least good' from a probability of {threshold:.2f} on, on the other half of the images:")
    print(f"sensitivity {said(other, 'sensitivity', 0, k)}, specificity {said(other, 'specificity', 0, k)}")


if __name__ == "__main__":
    main()
