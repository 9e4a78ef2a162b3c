"""Measure `find_duplicates` on copies made on purpose: precision and recall by what was done to them, and the time.

    python tools/measure_duplicates.py lara2018=DIR BCCD=DIR --model skl2rclip-tiny --threshold 0.12

Each DIR is gone through for JPEG files; scikit-learn's two photographs are always there. Copies found among the
originals alone are named first: they are looked at by eye, and no error of what follows.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

import skl2rclip
from skl2rclip import _duplicates

Change = Callable[[Image.Image, np.random.Generator], Any]


def as_jpeg(image: Image.Image, quality: int = 90, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **more)
    return file.getvalue()


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def recompressed(image: Image.Image, rng: np.random.Generator) -> bytes:
    return as_jpeg(image, int(rng.integers(50, 91)))


def resized(image: Image.Image, rng: np.random.Generator) -> bytes:
    factor = rng.uniform(0.5, 0.9)
    return as_jpeg(image.resize([round(factor * side) for side in image.size], Image.Resampling.BICUBIC))


def mirrored(image: Image.Image, rng: np.random.Generator) -> bytes:
    return as_jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def cropped(image: Image.Image, rng: np.random.Generator) -> bytes:
    left, upper, right, lower = rng.uniform(0, 0.05, 4)
    width, height = image.size
    box = (left * width, upper * height, (1 - right) * width, (1 - lower) * height)
    return as_jpeg(image.crop([round(edge) for edge in box]))


def brighter_or_darker(image: Image.Image, rng: np.random.Generator) -> bytes:
    return as_jpeg(ImageEnhance.Brightness(image).enhance(rng.choice([0.9, 1.1])))


def rotated_by_exif(image: Image.Image, rng: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return as_jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def in_another_container(image: Image.Image, rng: np.random.Generator) -> bytes:
    return as_png(image)


CHANGES: dict[str, Change] = {
    "as PNG": in_another_container,
    "rotated by EXIF": rotated_by_exif,
    "recompressed": recompressed,
    "resized": resized,
    "mirrored": mirrored,
    "brighter or darker": brighter_or_darker,
    "cropped": cropped,
}


def linked(frame: Any, origin: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of originals that are in one set, by themselves or by a copy; (i, i) of one and its copy."""
    pairs = set()
    for _, members in frame.groupby("set")["index"]:
        pairs |= {tuple(sorted(pair)) for pair in combinations(origin[members.to_numpy()].tolist(), 2)}
    return pairs


def measure(name: str, originals: list[Any], given: dict[str, Any], n_copies: int) -> None:
    n = len(originals)
    known = linked(skl2rclip.find_duplicates(originals, **given), np.arange(n))
    print(f"{name}: {n} images; copies among them: {[(str(originals[a]), str(originals[b])) for a, b in known][:9]}")
    chosen = np.random.default_rng(0).permutation(n)[:n_copies]
    print("| what was done | recall | precision | exact |\n|---|---|---|---|")
    for what, change in CHANGES.items():
        rng = np.random.default_rng(1)
        copies = []
        for row in chosen:
            image = originals[row] if isinstance(originals[row], np.ndarray) else None
            copies.append(change(Image.open(originals[row]) if image is None else Image.fromarray(image), rng))
        frame = skl2rclip.find_duplicates([*originals, *copies], **given)
        pairs = linked(frame, np.concatenate([np.arange(n), chosen]))
        right = sum(a == b for a, b in pairs)
        wrong = len({pair for pair in pairs if pair[0] != pair[1]} - known)
        exact = (frame.loc[frame["index"] >= n, "kind"] == "exact").sum()
        precision = right / (right + wrong) if right + wrong else float("nan")
        print(f"| {what} | {right / len(chosen):.3f} | {precision:.3f} | {exact} of {len(chosen)} |", flush=True)


def measure_time(n: int) -> None:
    """Time of all but the tower: drawn embeddings, and files of 640 by 480 pixels."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(n, 2, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{row}.jpg") for row in range(n)]
        for path in paths:
            pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            path.write_bytes(as_jpeg(Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)))
        embed, _duplicates._embeddings = _duplicates._embeddings, lambda images, plain: embeddings
        begun = time.perf_counter()
        skl2rclip.find_duplicates(paths)
        _duplicates._embeddings = embed
    print(f"{n} embedded images: {time.perf_counter() - begun:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--model", default="skl2rclip-tiny")
    parser.add_argument("--threshold", type=float, nargs="*", default=[0.12])
    parser.add_argument("--images", type=int, default=10**6, help="Of each folder, at most.")
    parser.add_argument("--copies", type=int, default=200, help="Of each kind.")
    parser.add_argument("--timed", type=int, default=0, help="Embedded images that are timed.")
    options = parser.parse_args()
    sets: dict[str, list[Any]] = {"scikit-learn's photographs": list(load_sample_images().images)}
    for folder in options.folders:
        name, _, where = folder.partition("=")
        paths = sorted(Path(where).rglob("*.jpg"))
        kept = np.sort(np.random.default_rng(0).permutation(len(paths))[: options.images])
        sets[name] = [paths[row] for row in kept]
    for threshold in options.threshold:
        for name, originals in sets.items():
            print(f"\nthreshold={threshold}, {options.model}")
            with tempfile.TemporaryDirectory() as cache:
                given = {"model_name": options.model, "threshold": threshold, "embedding_cache": cache}
                measure(name, originals, given, options.copies)
    if options.timed:
        measure_time(options.timed)


if __name__ == "__main__":
    main()
