"""Several images of a case, several raters
========================================

One prediction of several images, and one label of several ratings.

What one learns: to make one prediction of several images of the same thing, by `pool_probabilities` and
`labels_from_probabilities`, and to see how far that beats a vote of the images' labels; and to make labels of the
ratings of several raters, some strict and some mild, by `combine_ratings`, which finds what each of them adds.

A case is a lot of crops of one photograph that have the same grade, each degraded in a way of its own; the test has
other crops than those that are learned from. Raters are simulated: each sees a part of the crops.

Run it with ``python cases_and_raters.py``; it takes less than a minute on two cores, needs no network, and draws
``cases-and-raters/cases-and-raters.png`` with matplotlib (``pip install "skl2rclip[plot]"``).
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/cases-and-raters.png'

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.datasets import combine_ratings, make_graded_photographs
from skl2rclip.metrics import (
    bootstrap_scores,
    labels_from_probabilities,
    mean_absolute_rank_error,
    pool_probabilities,
)

BIAS = np.array([-1.2, -0.6, 0.0, 0.6, 1.2])  # of the raters, from strict to mild
SEEN = 0.4
COLOURS = {"vote of the images": "#D55E00", "pooled": "#0072B2"}


def classifier(grades: Any) -> L2RCLIPClassifier:
    words = {"ranks": grades.ranks, "rank_names": grades.rank_names, "prompt": grades.prompt}
    return L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", **words, random_state=0)


def in_cases(target: np.ndarray, n_images: int) -> np.ndarray:
    """Number the cases, of `n_images` of one grade each; -1 for images that are left over."""
    cases = np.full(len(target), -1)
    n_cases = 0
    for rank in np.unique(target):
        rows = np.flatnonzero(target == rank)
        rows = rows[: len(rows) // n_images * n_images]
        cases[rows] = n_cases + np.arange(len(rows)) // n_images
        n_cases += len(rows) // n_images
    return cases


def vote(labels: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Most frequent label of each case, of several the lowest."""
    return pd.Series(labels).groupby(cases).agg(lambda each: each.mode().iloc[0]).to_numpy()


def errors_by_size(proba: np.ndarray, target: np.ndarray, sizes: list[int]) -> dict[str, list[Any]]:
    """Error of cases with its interval, by how many images of each are seen; the cases are the same for all sizes."""
    cases = in_cases(target, max(sizes))
    place = pd.Series(cases).groupby(cases).cumcount().to_numpy()  # of an image in its case
    errors: dict[str, list[Any]] = {name: [] for name in COLOURS}
    for size in sizes:
        seen = (cases >= 0) & (place < size)
        _, pooled = pool_probabilities(proba[seen], cases[seen])
        true = target[seen][np.unique(cases[seen], return_index=True)[1]]  # that of the first image of each case
        said = {
            "vote of the images": vote(labels_from_probabilities(proba[seen]), cases[seen]),
            "pooled": labels_from_probabilities(pooled),
        }
        for name, labels in said.items():
            errors[name].append(
                bootstrap_scores(true, labels, mean_absolute_rank_error, n_resamples=200, random_state=0)
            )
    return errors


def ratings_of(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ratings of five raters, NaN where one has not seen an image, ndarray of shape (n, 5)."""
    said = np.clip(np.rint(target[:, None] + BIAS + 0.7 * rng.standard_normal((len(target), 5))), 0, 4)
    is_seen = rng.random(said.shape) < SEEN
    is_seen[np.arange(len(target)), rng.integers(5, size=len(target))] = True  # each image by somebody
    return np.where(is_seen, said, np.nan)


def labels_of(ratings: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of images by what is made of their ratings."""
    return {
        "majority": pd.DataFrame(ratings).mode(axis=1)[0].to_numpy(dtype=int),
        "mean": np.rint(np.nanmean(ratings, axis=1)).astype(int),
        "combined": combine_ratings(ratings, ranks=range(5)).target,
    }


def draw_case(ax: Any, proba: np.ndarray, pooled: np.ndarray, names: list[str], true: int) -> None:
    """Draw what each image of a case says, and what they say together."""
    for row in proba:
        ax.plot(row, color="grey", linewidth=1, marker=".")
    ax.plot([], color="grey", linewidth=1, marker=".", label="each image")
    ax.plot(pooled, color=COLOURS["pooled"], linewidth=3, marker="o", label="pooled")
    ax.axvline(true, color="black", linestyle=":", linewidth=1, label="true grade")
    ax.set(title="one case", ylabel="probability", ylim=(0, None))
    ax.set_xticks(range(len(names)), names)
    ax.legend(frameon=False)


def draw_errors(ax: Any, sizes: list[int], errors: dict[str, list[Any]]) -> None:
    """Draw the error by the number of images, with the interval of 95 % of the cases drawn anew."""
    for name, found in errors.items():
        ax.fill_between(sizes, [e.low for e in found], [e.high for e in found], color=COLOURS[name], alpha=0.15)
        ax.plot(sizes, [e.score for e in found], color=COLOURS[name], marker="o", label=name)
    ax.set(title="cases", xlabel="images of a case", ylabel="mean absolute error, in grades", ylim=(0, None))
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, list(map(str, sizes)))
    ax.legend(frameon=False)


def draw_biases(ax: Any, bias: np.ndarray) -> None:
    """Draw what each rater was found to add, beside what he does add."""
    ax.bar(range(len(bias)), bias, color="lightgrey", label="found by combine_ratings")
    ax.plot(BIAS, color="black", marker="o", linestyle="", label="simulated")
    ax.axhline(0, color="grey", linewidth=1)
    ax.set(title="raters", xlabel="rater", ylabel="what he adds, in grades")
    ax.set_xticks(range(len(bias)), [str(number + 1) for number in range(len(bias))])
    ax.legend(frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("cases-and-raters"), help="where the plot goes")
    parser.add_argument("--n-train", type=int, default=60, help="crops to learn from")
    parser.add_argument("--n-test", type=int, default=800, help="crops of the test")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="images of a case")
    options = parser.parse_args()

    train = make_graded_photographs(options.n_train, photograph="temple", random_state=0)
    test = make_graded_photographs(options.n_test, photograph="temple", random_state=1)
    encoder = CLIPImageEncoder("skl2rclip-tiny").fit()
    Z, Z_test = encoder.transform(train.data), encoder.transform(test.data)
    order = np.random.default_rng(2).permutation(len(test.target))  # of which cases are made
    Z_test, y_test = Z_test[order], test.target[order]

    proba = classifier(train).fit(Z, train.target).predict_proba(Z_test)
    errors = errors_by_size(proba, y_test, options.sizes)
    print("mean absolute error in grades, and its interval, by the number of images of a case")
    for name, found in errors.items():
        cells = "  ".join(f"{each.score:.2f} ({each.low:.2f} to {each.high:.2f})" for each in found)
        print(f"{name:<20} {cells}")

    ratings = ratings_of(train.target, np.random.default_rng(3))
    print("\nmean absolute error of the labels themselves, in grades, by what is made of the ratings")
    for name, labels in labels_of(ratings).items():
        print(f"{name:<20} {np.abs(labels - train.target).mean():.2f}")

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    cases = in_cases(y_test, max(options.sizes))
    names, pooled = pool_probabilities(proba[cases >= 0], cases[cases >= 0])
    shown = len(names) // 2
    rows = np.flatnonzero(cases == names[shown])
    draw_case(left, proba[rows[:8]], pooled[shown], train.rank_names, y_test[rows[0]])
    draw_errors(middle, options.sizes, errors)
    draw_biases(right, combine_ratings(ratings, ranks=range(5)).bias)
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / "cases-and-raters.png"
    figure.savefig(file)
    print(f"\nWrote {file}")


if __name__ == "__main__":
    main()
