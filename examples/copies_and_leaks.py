"""Copies and leaks
================

Copies found, shown, and kept together in a split.

What one learns: to list copies before a split (`find_duplicates`), to look at those whose labels contradict
(`DuplicateImagesDisplay`), and to keep copies on one side of each split (`group_duplicates`). Thirty graded tiles of
scikit-learn's two photographs are joined by three copies of each: recompressed, resized, mirrored, cropped or brighter
ones, as scrapers and augmented archives bring them along. Who has graded the copies is sometimes off by a grade.

Run it with ``python copies_and_leaks.py``; it takes half a minute on two cores, needs no network, and draws
``copies-and-leaks/copies.png``. It needs ImageHash, pandas and matplotlib: ``pip install ".[duplicates,plot]"`` in a
checkout.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/copies.png'

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from skl2rclip import CLIPImageEncoder, find_duplicates, group_duplicates
from skl2rclip.inspection import DuplicateImagesDisplay

SIDE = 120
GRADES = ["bad", "poor", "fair", "good", "excellent"]
BLUR = [4.0, 2.5, 1.5, 0.8, 0.0]  # radius in pixels, by grade


def graded_tiles(n: int, rng: np.random.Generator) -> tuple[list[Image.Image], np.ndarray]:
    """Cut up to 30 tiles of both photographs, of which none overlaps another, blurred at five severities."""
    corners = [(top, left) for top in range(0, 427 - SIDE, SIDE) for left in range(0, 640 - SIDE + 1, SIDE)]
    tiles = [
        photograph[top : top + SIDE, left : left + SIDE]
        for photograph in load_sample_images().images
        for top, left in corners
    ]
    chosen = rng.permutation(len(tiles))[:n]
    grades = np.arange(len(chosen)) % len(GRADES)
    blurred = [
        Image.fromarray(tiles[tile]).filter(ImageFilter.GaussianBlur(BLUR[grade]))
        for tile, grade in zip(chosen, grades, strict=True)
    ]
    return blurred, grades


def changed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a copy as archives and scrapers make them."""
    ways = [
        lambda: image,
        lambda: image.resize((96, 96)),
        lambda: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda: image.crop((4, 2, SIDE, SIDE - 3)),
        lambda: image.point(lambda value: min(255, round(1.1 * value))),
    ]
    file = io.BytesIO()
    ways[rng.integers(len(ways))]().save(file, "JPEG", quality=85)
    return Image.open(file)


def archive(n: int, n_copies: int, rng: np.random.Generator) -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    """Return images, their grades, and of which original each is a copy, in any order."""
    originals, grades = graded_tiles(n, rng)
    origin = np.tile(np.arange(len(originals)), 1 + n_copies)
    copies = [changed(originals[row], rng) for row in origin[len(originals) :]]
    off = rng.choice([-1, 0, 0, 0, 1], len(copies))  # who has graded the copies
    graded = np.concatenate([grades, np.clip(grades[origin[len(originals) :]] + off, 0, 4)])
    order = rng.permutation(len(origin))
    images = [*originals, *copies]
    return [images[row] for row in order], graded[order], origin[order]


def linked(sets: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of places that have the same name."""
    return {(i, j) for i, j in zip(*np.nonzero(sets[:, None] == sets), strict=True) if i < j}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=30)
    parser.add_argument("--n-copies", type=int, default=3, help="of each image")
    parser.add_argument("--folder", type=Path, default=Path("copies-and-leaks"))
    options = parser.parse_args()
    images, grades, origin = archive(options.n_images, options.n_copies, np.random.default_rng(0))

    copies = find_duplicates(images, grades)
    groups = group_duplicates(copies, len(images))
    found, true = linked(groups), linked(origin)
    print(f"{len(copies)} of {len(images)} images are in {copies['set'].nunique()} sets,")
    print(f"{copies[copies['contradicts']]['set'].nunique()} of which have several labels;")
    print(f"{len(found & true)} of {len(true)} pairs of copies are found, and {len(found - true)} pairs are none.\n")

    embeddings = CLIPImageEncoder("skl2rclip-tiny").fit(images).transform(images)
    probe = LogisticRegression(C=10, max_iter=2000)
    for name, folds, whose in (
        ("copies on both sides", KFold(5), None),
        ("copies kept together", GroupKFold(5), groups),
    ):
        predicted = cross_val_predict(probe, embeddings, grades, cv=folds, groups=whose)
        print(f"MAE in grades, {name}: {mean_absolute_error(grades, predicted):.2f}")

    options.folder.mkdir(parents=True, exist_ok=True)
    words = dict(enumerate(GRADES))
    display = DuplicateImagesDisplay.from_frame(copies, images, grades, n_sets=3, n_images=4, display_labels=words)
    display.figure_.savefig(options.folder / "copies.png")


if __name__ == "__main__":
    main()
