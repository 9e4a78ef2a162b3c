"""Intervals with a guarantee
==========================

Conformal prediction by MAPIE, on top of `L2RCLIPClassifier`.

What one learns: the classifier's own intervals are as honest as its probabilities, and those are too sure on images
of another origin: it has learned from crops of a temple and grades crops of a flower. MAPIE's
`SplitConformalClassifier` widens what it says by as much as some labelled images ask for, and its sets then hold
the true grade as often as promised, on average over draws of those images. The guarantee needs these to be of the
same origin as the images that it is for: with crops of the temple in their place it does not hold, which is drawn
too.

Sets of neighbouring grades are intervals; the few with a hole in them are filled here, which keeps the promise.
Labels are numbers in rank order, because MAPIE's columns are in the order of `classes_`, which words would sort by
the alphabet.

Run it with ``python intervals_with_a_guarantee.py``, beside ``graded_photographs.py``; it takes less than a minute on
two cores, needs no network, and draws ``intervals/coverage.png``. It needs MAPIE 1.x and matplotlib, as ``pip install
".[gallery]"`` in a checkout installs them.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/intervals.png'

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from graded_photographs import GRADES, write_crops
from mapie.classification import SplitConformalClassifier

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.metrics import interval_coverage, mean_interval_width

LEVELS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
OWN, OTHER, SAME = "the model's own", "MAPIE, with crops of the temple", "MAPIE, with crops of the flower"
STYLES = {
    OWN: {"color": "black", "marker": "s", "linestyle": ":"},
    OTHER: {"color": "#D55E00", "marker": "^", "linestyle": "--"},
    SAME: {"color": "#0072B2", "marker": "o", "linestyle": "-"},
}


def embedded_crops(photograph: str, folder: Path, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and grades, 0 to 4."""
    paths, labels = write_crops(photograph, folder, n, rng)
    grades = np.array([GRADES.index(label) for label in labels])
    return CLIPImageEncoder("skl2rclip-tiny").fit().transform(paths), grades


def conformal_intervals(model: Any, labelled: tuple[np.ndarray, np.ndarray], Z: np.ndarray) -> np.ndarray:
    """Return lowest and highest rank of MAPIE's sets, of shape (n, 2, levels)."""
    mapie = SplitConformalClassifier(model, confidence_level=LEVELS, conformity_score="lac", prefit=True)
    _, is_in_set = mapie.conformalize(*labelled).predict_set(Z)  # (n, K, levels)
    # where no grade is conforming enough the set is empty; the likeliest grade alone holds no less
    is_likeliest = model.predict_proba(Z).argmax(axis=1)[:, None] == np.arange(is_in_set.shape[1])
    is_in_set = is_in_set | (is_likeliest[:, :, None] & ~is_in_set.any(axis=1, keepdims=True))
    lowest = is_in_set.argmax(axis=1)
    highest = is_in_set.shape[1] - 1 - is_in_set[:, ::-1].argmax(axis=1)
    return np.stack([lowest, highest], axis=1)


def coverage_and_width(y: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Return an array of shape (levels, 2)."""
    every = np.moveaxis(intervals, 2, 0)
    return np.array([[interval_coverage(y, each), mean_interval_width(y, each)] for each in every])


def draw_of(part: tuple[np.ndarray, np.ndarray], n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw `n` of them, and return these and the others."""
    order = rng.permutation(len(part[1]))
    return tuple(each[order[:n]] for each in part), tuple(each[order[n:]] for each in part)


def measure(model: Any, temple: Any, flower: Any, n_labelled: int, n_draws: int) -> dict[str, np.ndarray]:
    """Coverage and width on crops of the flower, of shape (draws, levels, 2), by who says the intervals."""
    measured: dict[str, list[np.ndarray]] = {OWN: [], OTHER: [], SAME: []}
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        labelled, (Z, y) = draw_of(flower, n_labelled, rng)
        elsewhere, _ = draw_of(temple, n_labelled, rng)
        own = np.stack([model.predict_interval(Z, coverage=level) for level in LEVELS], axis=2)
        measured[OWN].append(coverage_and_width(y, own))
        measured[OTHER].append(coverage_and_width(y, conformal_intervals(model, elsewhere, Z)))
        measured[SAME].append(coverage_and_width(y, conformal_intervals(model, labelled, Z)))
    return {name: np.stack(each) for name, each in measured.items()}


def draw(axes: Any, measured: dict[str, np.ndarray]) -> None:
    """Draw means over the draws, and between which values nine of ten draws lie."""
    axes[0].plot([0.5, 1], [0.5, 1], color="grey", linewidth=1, label="as promised")
    for name, values in measured.items():
        low, high = np.quantile(values, [0.05, 0.95], axis=0)
        for column, ax in enumerate(axes):
            ax.fill_between(
                LEVELS, low[:, column], high[:, column], color=STYLES[name]["color"], alpha=0.15, linewidth=0
            )
            ax.plot(LEVELS, values[:, :, column].mean(axis=0), label=name, **STYLES[name])
    axes[0].set(xlabel="promised coverage", ylabel="coverage on other crops of the flower")
    axes[1].set(xlabel="promised coverage", ylabel="mean distance of the ends, in ranks (0: one grade)", ylim=(0, None))
    axes[0].legend(frameon=False, loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("intervals"), help="where crops and plot go")
    parser.add_argument("--n-images", type=int, default=600, help="crops of each photograph")
    parser.add_argument("--n-labelled", type=int, default=100, help="crops that MAPIE measures on")
    parser.add_argument("--n-draws", type=int, default=40, help="of these crops")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    train = embedded_crops("temple", options.folder / "train", options.n_images, rng)
    held_out = embedded_crops("temple", options.folder / "temple", options.n_images // 2, rng)
    other = embedded_crops("flower", options.folder / "flower", options.n_images, rng)
    settings = {"rank_names": dict(enumerate(GRADES)), "prompt": "the quality of this photo is", "random_state": 0}
    model = L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", **settings).fit(*train)

    measured = measure(model, held_out, other, options.n_labelled, options.n_draws)
    print(f"coverage (and width in ranks) on crops of the flower, mean of {options.n_draws} draws")
    print(f"{'promised':<34} {'  '.join(f'{level:>12.0%}' for level in LEVELS)}")
    for name, values in measured.items():
        print(f"{name:<34} {'  '.join(f'{held:>6.1%} ({width:.1f})' for held, width in values.mean(axis=0))}")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    draw(axes, measured)
    file = options.folder / "coverage.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
