"""How many new images of the same origin are called unusual, and how many others, by leverage and by neighbours.

    python benchmarks/usualness.py --data FOLDER --model-name skl2rclip-tiny

FOLDER holds ``lara2018`` and ``BCCD_Dataset``, see ``tasks.py``. Each origin is learned from its training images; the
columns are the share beyond the training's 99%: of other images of that origin, of the other origins, of noise, of
blank images, and of its own images upside down and dark. Neighbours: the distance to the nearest, and to the fifth
nearest, training image, of the training images themselves to others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.neighbors import NearestNeighbors
from tasks import files_of

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._ordinal.leverage import SHARE_BEYOND, fit_leverage
from skl2rclip._training import prepare
from skl2rclip.datasets import make_graded_photographs

_SIDE = 256
# whether rows are beyond what others of the training are
Beyond = Callable[[np.ndarray], np.ndarray]


def crops(photograph: np.ndarray, n: int, seed: int) -> list[np.ndarray]:
    rng, result = np.random.default_rng(seed), []
    for _ in range(n):
        side = rng.integers(90, 200)
        top, left = (rng.integers(0, length - side) for length in photograph.shape[:2])
        result.append(np.array(Image.fromarray(photograph[top : top + side, left : left + side]).resize((128, 128))))
    return result


def small(path: str) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    image.thumbnail((2 * _SIDE, _SIDE))
    return np.asarray(image)


def sets_of(data: Path | None, n: int) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
    """Training images and others of each origin."""
    temple, flower = load_sample_images().images
    rng = np.random.default_rng(0)
    digits = [Image.fromarray((16 * each).clip(0, 255).astype(np.uint8)) for each in load_digits().images]
    drawn = [np.array(each.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")) for each in digits]
    order = rng.permutation(len(drawn))[: n + n // 2]
    result = {
        "temple": (crops(temple, n, 0), crops(temple, n // 2, 1)),
        "flower": (crops(flower, n, 2), crops(flower, n // 2, 3)),
        "digits": ([drawn[i] for i in order[:n]], [drawn[i] for i in order[n:]]),
    }
    for name in ("coffee leaves", "blood cells") if data is not None else ():
        (train, _), (test, _) = files_of(name, data)
        parts = [(np.asarray(train), n), (np.asarray(test), n // 2)]
        images = [[small(path) for path in paths[rng.permutation(len(paths))[:most]]] for paths, most in parts]
        result[name] = images[0], images[1]
    return result


def by_leverage(train: np.ndarray) -> Beyond:
    own = fit_leverage(train, np.ones(len(train)), np.arange(len(train)))
    assert own is not None
    return lambda rows: own.scores(rows) < own.offset


def by_neighbours(train: np.ndarray, k: int) -> Beyond:
    neighbours = NearestNeighbors(n_neighbors=k + 1).fit(train)
    bound = np.quantile(neighbours.kneighbors(train)[0][:, k], 1 - SHARE_BEYOND)
    return lambda rows: neighbours.kneighbors(rows)[0][:, k - 1] > bound


METHODS = {
    "leverage": by_leverage,
    "nearest": lambda train: by_neighbours(train, 1),
    "fifth nearest": lambda train: by_neighbours(train, 5),
}


def of_fits(model_name: str, n: int) -> None:
    """Print how many new crops are beyond by whole fits, frozen and fine-tuned, and what scores take of the time."""
    train, same = (make_graded_photographs(n, random_state=seed) for seed in (0, 1))
    other = make_graded_photographs(n, photograph="flower", random_state=2)
    learn = prepare.of_encoded
    for tower in ("frozen", "finetune"):
        took = []

        def timed(*arguments: Any, took: list[float] = took) -> Any:
            start = time.perf_counter()
            result = learn(*arguments)
            took.append(time.perf_counter() - start)
            return result

        prepare.of_encoded = timed
        how = {"image_tower": tower, "early_stopping": tower == "finetune", "image_epochs": 5}
        start = time.perf_counter()
        clf = L2RCLIPClassifier(model_name, ranks=train.ranks, prompt=train.prompt, random_state=0, **how)
        clf.fit(train.data, train.target)
        seconds = time.perf_counter() - start
        beyond = [100 * (clf.score_samples(part.data) < clf.offset_).mean() for part in (same, other)]
        print(
            f"{tower}: {beyond[0]:.1f}% of {n} new crops of the same photograph and {beyond[1]:.1f}% of another are "
            f"beyond; fitted in {seconds:.2f} s, of which scores took {sum(took):.3f} s before the stages"
        )
    prepare.of_encoded = learn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the photographs")
    parser.add_argument("--model-name", default="skl2rclip-tiny")
    parser.add_argument("--n", type=int, default=400, help="training images of each origin")
    parser.add_argument("--fits", action="store_true", help="whole fits, frozen and fine-tuned, instead of embeddings")
    options = parser.parse_args()
    if options.fits:
        of_fits(options.model_name, options.n)
        return
    encoder, sets = CLIPImageEncoder(options.model_name), sets_of(options.data, options.n)
    rng = np.random.default_rng(5)
    embedded = {name: tuple(encoder.fit_transform(part) for part in parts) for name, parts in sets.items()}
    noise = encoder.fit_transform(list(rng.integers(0, 256, (50, 128, 128, 3), np.uint8)))
    blank = encoder.fit_transform([np.full((128, 128, 3), level, np.uint8) for level in range(0, 256, 8)])
    print("| origin | method | same origin | other origins | noise | blank | upside down | dark |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (train, same) in embedded.items():
        others = np.concatenate([embedded[other][1] for other in embedded if other != name])
        turned = encoder.fit_transform([np.ascontiguousarray(image[::-1]) for image in sets[name][1]])
        dark = encoder.fit_transform([(image * 0.25).astype(np.uint8) for image in sets[name][1]])
        for label, method in METHODS.items():
            beyond = method(train)
            shares = [f"{100 * beyond(rows).mean():.1f}%" for rows in (same, others, noise, blank, turned, dark)]
            print(f"| {name} ({len(train)}) | {label} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
