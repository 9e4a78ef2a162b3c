"""Where did the model look?
=========================

Images in which the place that decides the rank is known.

What one learns: to draw with `AttributionDisplay` how much each part of an image moves the expected rank, and to check
such a map before believing it. A disc that ripens from green to red lies somewhere on crops of two photographs, so that
it can be counted how much of each map lies on the disc; the same model with the weights of its image tower shuffled,
and a model of shuffled labels, must give other maps.

Run it with ``python where_it_looked.py``; it takes less than a minute on two cores, needs no network, and draws
``where-it-looked/where-it-looked.png``. It needs Captum and matplotlib, as ``pip install ".[attribution]"`` in a
checkout installs them.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/where-it-looked.png'

from __future__ import annotations

import argparse
import copy
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images

from skl2rclip import L2RCLIPClassifier
from skl2rclip.errors import NothingLearnedWarning
from skl2rclip.inspection import AttributionDisplay

WORDS = ["green", "turning", "orange", "nearly ripe", "ripe"]
SIDE = 96


def fruits(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images, their ranks from 0 to 4, and where the fruit is in each."""
    rng, photographs = np.random.default_rng(seed), load_sample_images().images
    images, ranks, places = [], np.arange(n) % len(WORDS), np.zeros((n, SIDE, SIDE), bool)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number, rank in enumerate(ranks):
        photograph = photographs[rng.integers(2)]
        top, left = (rng.integers(0, length - 160) for length in photograph.shape[:2])
        image = np.array(Image.fromarray(photograph[top : top + 160, left : left + 160]).resize((SIDE, SIDE)))
        radius = SIDE / 6
        centre = rng.uniform(radius, SIDE - radius, 2)
        places[number] = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
        image[places[number]] = (60 + 45 * rank, 200 - 35 * rank, 40)
        images.append(image)
    return images, ranks, places


def classifier() -> L2RCLIPClassifier:
    words = {"ranks": range(len(WORDS)), "rank_names": WORDS, "prompt": "a fruit that is"}
    return L2RCLIPClassifier("skl2rclip-tiny", **words, random_state=0, device="cpu")


def with_shuffled_weights(clf: L2RCLIPClassifier) -> torch.nn.Module:
    """The model as a module, each weight of its image tower at another place of its layer."""
    module, generator = clf.to_torch(), torch.Generator().manual_seed(0)
    for weight in module.tower.parameters():
        weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].reshape(weight.shape))
    return module


def share_on_the_fruit(display: AttributionDisplay, places: np.ndarray) -> float:
    parts = zip(display.attributions_, places, strict=True)
    return float(np.mean([np.abs(part)[place].sum() / np.abs(part).sum() for part, place in parts]))


def correlation(display: AttributionDisplay, other: AttributionDisplay) -> float:
    """Mean rank correlation of the maps of two displays."""
    pairs = zip(display.attributions_, other.attributions_, strict=True)
    return float(np.mean([spearmanr(one.ravel(), another.ravel())[0] for one, another in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("where-it-looked"), help="where the figure goes")
    parser.add_argument("--n-train", type=int, default=200)
    parser.add_argument("--n-test", type=int, default=10)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    X, y, _ = fruits(options.n_train, 0)
    X_new, y_new, places = fruits(options.n_test, 1)
    clf = classifier().fit(X, y)

    display = AttributionDisplay.from_estimator(clf, X_new, y_new, n_images=options.n_test, n_columns=5)
    display.figure_.savefig(options.folder / "where-it-looked.png", dpi=100)
    plt.close(display.figure_)
    print(f"{'share of the image that is fruit':50} {places.mean():.2f}")
    print(f"{'share of the maps that lies on it':50} {share_on_the_fruit(display, places):.2f}")

    module, other = with_shuffled_weights(clf), copy.deepcopy(clf)
    other.to_torch = lambda: module  # nothing that one does but for such a check
    of_weights = AttributionDisplay.from_estimator(other, X_new, n_images=options.n_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingLearnedWarning)  # that is the point
        shuffled = classifier().fit(X, np.random.default_rng(0).permutation(y))
    of_labels = AttributionDisplay.from_estimator(shuffled, X_new, n_images=options.n_test)
    print(f"{'correlation with maps of shuffled weights':50} {correlation(display, of_weights):.2f}")
    print(f"{'correlation with maps of shuffled labels':50} {correlation(display, of_labels):.2f}")
    plt.close("all")


if __name__ == "__main__":
    main()
