"""Which images are probably mislabelled?
======================================

cleanlab ranks images by cross-validated probabilities.

What one learns: to get probabilities of each image from models that have not seen it (`cross_val_predict`), to let
cleanlab rank the images by how little they support their label, and what to expect of that. Of 400 graded crops 40
have their label swapped on purpose, so that it can be counted how many are found; a logistic probe does the same for
comparison. `cross_val_predict` numbers the labels in sorted order, so they are numbers in rank order here, and
`rank_names` has the words (see "Meta-estimators that number the labels" in the user guide).

Run it with ``python mislabelled.py``, beside ``graded_photographs.py``; it takes less than a minute on two cores, needs
no network, and draws ``mislabelled/suspects.png``. It needs cleanlab and matplotlib, as ``pip install ".[gallery]"`` in
a checkout installs them.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/suspects.png'

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from graded_photographs import GRADES, write_crops
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier

SWAPPED, KEPT = "#D55E00", "#0072B2"


def swap_some(y: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Give `n` images any other grade, and return the labels and which were swapped."""
    is_swapped = np.zeros(len(y), dtype=bool)
    is_swapped[rng.choice(len(y), n, replace=False)] = True
    given = y.copy()
    given[is_swapped] = (y[is_swapped] + rng.integers(1, len(GRADES), n)) % len(GRADES)
    return given, is_swapped


def suspects(model: Any, Z: np.ndarray, given: np.ndarray, n_folds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of suspicion, which images cleanlab flags, and the cross-validated probabilities."""
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    probabilities = cross_val_predict(model, Z, given, cv=folds, method="predict_proba")
    order = np.argsort(get_label_quality_scores(given, probabilities), kind="stable")
    return order, find_label_issues(given, probabilities), probabilities


def report(name: str, order: np.ndarray, is_flagged: np.ndarray, is_swapped: np.ndarray, is_far: np.ndarray) -> None:
    n = int(is_swapped.sum())
    first = order[:n]
    print(f"{name}: among the {n} most suspect images are {is_swapped[first].sum()} of the {n} swapped labels,")
    print(f"  {is_far[first].sum()} of the {is_far.sum()} that are two grades off or more among them;")
    print(f"  cleanlab flags {is_flagged.sum()} images, {is_swapped[is_flagged].sum()} of the swapped ones among them")


def draw_sheet(axes: Any, paths: list[str], captions: list[str], is_swapped: np.ndarray) -> None:
    """Draw images with captions; a thick frame for those whose label was swapped, a thin dashed one for others."""
    for ax, path, caption, swapped in zip(axes, paths, captions, is_swapped, strict=True):
        ax.imshow(Image.open(path))
        ax.set(xticks=[], yticks=[])
        ax.set_title(caption, fontsize=8)
        for edge in ax.spines.values():
            edge.set(
                color=SWAPPED if swapped else KEPT, linewidth=3 if swapped else 1.5, linestyle="-" if swapped else "--"
            )


def draw_found(ax: Any, orders: dict[str, np.ndarray], is_swapped: np.ndarray) -> None:
    """Draw how many swapped labels are found among the first so many images."""
    n, total = len(is_swapped), int(is_swapped.sum())
    for (name, order), style in zip(orders.items(), ("-", "--"), strict=True):
        ax.plot(np.arange(1, n + 1), is_swapped[order].cumsum(), style, color="black", label=name)
    ax.plot([0, n], [0, total], ":", color="grey", label="in any order")
    ax.set(xlabel="images looked at, most suspect first", ylabel="swapped labels found", xlim=(0, n), ylim=(0, None))
    ax.legend(frameon=False, loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("mislabelled"), help="where crops and plot go")
    parser.add_argument("--n-images", type=int, default=400)
    parser.add_argument("--n-swapped", type=int, default=40)
    parser.add_argument("--n-folds", type=int, default=5, help="of the cross-validation")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    paths, labels = write_crops("flower", options.folder / "crops", options.n_images, rng)
    y = np.array([GRADES.index(label) for label in labels])
    given, is_swapped = swap_some(y, options.n_swapped, rng)
    is_far = np.abs(given - y) >= 2
    Z = CLIPImageEncoder("skl2rclip-tiny").fit().transform(paths)
    settings = {"rank_names": dict(enumerate(GRADES)), "prompt": "the quality of this photo is", "random_state": 0}
    models = {
        "L2RCLIP": L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", **settings),
        "logistic regression": LogisticRegression(C=10, max_iter=2000),
    }
    found = {name: suspects(model, Z, given, options.n_folds) for name, model in models.items()}
    for name, (order, is_flagged, _) in found.items():
        report(name, order, is_flagged, is_swapped, is_far)

    order, _, probabilities = found["L2RCLIP"]
    likeliest = probabilities.argmax(axis=1)
    shown = order[:18]
    captions = [f"label: {GRADES[given[i]]}\nlooks {GRADES[likeliest[i]]}" for i in shown]
    figure = plt.figure(figsize=(10, 6.8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    above.suptitle("Most suspect first: thick frames were swapped, thin dashed ones were not", fontsize="medium")
    draw_sheet(above.subplots(2, 9).ravel()[: len(shown)], [paths[i] for i in shown], captions, is_swapped[shown])
    draw_found(below.subplots(), {name: order for name, (order, _, _) in found.items()}, is_swapped)
    file = options.folder / "suspects.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
