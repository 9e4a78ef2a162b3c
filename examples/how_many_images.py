"""How many images do I need?
==========================

Learning curves of L2RCLIP and of two linear probes, on two tasks.

What one learns: to draw a learning curve with scikit-learn's `learning_curve`, on embeddings that are computed once,
and to read it: whether more images would help, whether the order of the labels does, and by how much another draw
of the images moves it all. The first task has an order that images show (crops of one photograph graded by
quality, those of another as the test). The second has one that shapes do not follow (handwritten digits); there
logistic regression, which knows of no order, is better.

Run it with ``python how_many_images.py``, beside ``graded_photographs.py``; it takes less than a minute on two cores,
needs no network, and draws ``how-many-images/learning-curves.png`` with matplotlib (``pip install "skl2rclip[plot]"``).
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/learning-curves.png'

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from graded_photographs import GRADES, write_crops
from matplotlib.ticker import NullLocator, ScalarFormatter
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, learning_curve

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.errors import NothingLearnedWarning

N_SEEN_DIGITS = 900  # skl2rclip-tiny has learned from the first ones
STYLES = {
    "L2RCLIP": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "ridge": {"color": "#D55E00", "marker": "^", "linestyle": "--"},
    "logistic regression": {"color": "black", "marker": "s", "linestyle": ":"},
}


@dataclass
class Task:
    """Embeddings of images to learn from and of test images, with their ranks from 0 to K - 1."""

    name: str
    prompt: str
    rank_names: dict[int, str]
    Z_train: np.ndarray
    y_train: np.ndarray
    Z_test: np.ndarray
    y_test: np.ndarray


def graded_crops(encoder: CLIPImageEncoder, folder: Path) -> Task:
    """Crops of a temple to learn from, and of a flower as the test."""
    rng = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    for photograph, part, n in zip(("temple", "flower"), ("train", "test"), (600, 400), strict=True):
        paths, labels = write_crops(photograph, folder / part, n, rng)
        parts += [encoder.transform(paths), np.array([GRADES.index(label) for label in labels])]
    return Task("photographs by quality", "the quality of this photo is", dict(enumerate(GRADES)), *parts)


def digits(encoder: CLIPImageEncoder) -> Task:
    """Handwritten digits that the backbone has not seen, dark on light; 397 of them are the test."""
    inks, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(np.arange(N_SEEN_DIGITS, len(y)))
    papers = (255 - inks[order].reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)
    Z = encoder.transform([Image.fromarray(paper).resize((64, 64), Image.Resampling.BICUBIC) for paper in papers])
    names = {digit: str(digit) for digit in range(10)}
    y = y[order]
    return Task("handwritten digits by value", "the handwritten digit", names, Z[:500], y[:500], Z[500:], y[500:])


def models(task: Task) -> dict[str, Any]:
    """Each chooses by itself how much it believes the images."""
    settings = {"rank_names": task.rank_names, "prompt": task.prompt, "random_state": 0}
    logistic = LogisticRegression(max_iter=300)
    return {
        "L2RCLIP": L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", **settings),
        "ridge": RidgeCV(np.logspace(-4, 2, 13)),
        "logistic regression": GridSearchCV(logistic, {"C": [0.1, 1, 10, 100]}, cv=2, scoring="neg_log_loss"),
    }


def error_in_ranks(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error; what regression says is rounded to the nearest rank."""
    return float(np.abs(np.rint(predicted).clip(y.min(), y.max()) - y).mean())


def evenly(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an order in which the first n times K images are n of each of the K ranks."""
    by_rank = [rng.permutation(np.flatnonzero(y == rank)) for rank in np.unique(y)]
    n = min(map(len, by_rank))
    return np.stack([indices[:n] for indices in by_rank], axis=1).ravel()


def curves(task: Task, per_rank: list[int], n_repeats: int, n_jobs: int) -> dict[str, np.ndarray]:
    """Return the test error of each model, of shape (sizes, repeats); each repeat draws other training images."""
    Z, y = np.concatenate([task.Z_train, task.Z_test]), np.concatenate([task.y_train, task.y_test])
    test = np.arange(len(task.y_train), len(y))
    draws = [(evenly(task.y_train, np.random.default_rng(seed)), test) for seed in range(n_repeats)]
    sizes = [n * len(task.rank_names) for n in per_rank]
    scorer = make_scorer(error_in_ranks, greater_is_better=False)
    errors = {}
    for name, model in models(task).items():
        _, _, scores = learning_curve(model, Z, y, train_sizes=sizes, cv=draws, scoring=scorer, n_jobs=n_jobs)
        errors[name] = -scores
        print(f"{task.name:<28} {name:<20} {'  '.join(f'{e.mean():.2f} ± {e.std():.2f}' for e in errors[name])}")
    return errors


def best_constant(y: np.ndarray) -> float:
    """Error of whoever looks at no image."""
    return error_in_ranks(y, np.full(len(y), np.median(y)))


def draw(ax: Any, task: Task, per_rank: list[int], errors: dict[str, np.ndarray]) -> None:
    """Draw the mean over the repeats, within one standard deviation."""
    ax.axhline(best_constant(task.y_test), color="grey", linewidth=1, label="the same for every image")
    for name, error in errors.items():
        mean, spread = error.mean(axis=1), error.std(axis=1)
        ax.fill_between(per_rank, mean - spread, mean + spread, color=STYLES[name]["color"], alpha=0.15, linewidth=0)
        ax.plot(per_rank, mean, label=name, **STYLES[name])
    ax.set(xscale="log", title=task.name, xlabel="images of each rank", ylim=(0, None))
    ax.set_xticks(per_rank)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("how-many-images"), help="where crops and plot go")
    parser.add_argument("--per-rank", type=int, nargs="+", default=[2, 8, 32], help="images of each rank")
    parser.add_argument("--n-repeats", type=int, default=3, help="draws of the training images")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes")
    options = parser.parse_args()

    # two images of each digit show nothing of their order, which the curve says as well
    warnings.filterwarnings("ignore", category=NothingLearnedWarning)
    encoder = CLIPImageEncoder("skl2rclip-tiny").fit()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    print(f"MAE in ranks, mean ± deviation of {options.n_repeats} draws")
    for ax, task in zip(axes, (graded_crops(encoder, options.folder), digits(encoder)), strict=True):
        per_rank = [n for n in options.per_rank if n <= np.bincount(task.y_train).min()]
        print(f"\n{task.name:<28} {'images of a rank':<20} {'  '.join(f'{n:>11}' for n in per_rank)}")
        draw(ax, task, per_rank, curves(task, per_rank, options.n_repeats, options.n_jobs))
    axes[0].set_ylabel("mean absolute error, in ranks")
    axes[0].legend(frameon=False)
    file = options.folder / "learning-curves.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
