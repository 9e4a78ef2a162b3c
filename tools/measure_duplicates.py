"""Measure `find_duplicates` on copies made on purpose: precision and recall by what was done to them, and the time.

    python tools/measure_duplicates.py BCCD=DIR lara2018=DIR --choose BCCD
    python tools/measure_duplicates.py BCCD=DIR lara2018=DIR --timed 10000

Each DIR is gone through for JPEG files; scikit-learn's two photographs, tiles of them and its digits are always there.
The threshold is chosen on copies of one folder, and measured on the others. Different originals that end in one set
are named, to be looked at by eye, and count as errors of what follows, but for those that are known to be copies.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_images

import skl2rclip
from skl2rclip import _duplicates
from skl2rclip._embedding.cache import forget_embeddings

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


# found by this tool and looked at by eye: the same cells of BCCD, the same leaves of lara2018 photographed twice
KNOWN = {
    ("BloodImage_00037", "BloodImage_00038"),
    ("1022", "813"),
    ("1352", "1356"),
    ("1715", "1722"),
    ("758", "759"),
    ("760", "764"),
}
STAGES = {
    "_embeddings": "embed",
    "_appearances": "look (decode, digest, hash)",
    "_candidates": "choose pairs",
    "_near": "compare pairs",
    "_columns": "make sets",
}


def parts_of(photographs: Sequence[np.ndarray], side: int = 71) -> list[np.ndarray]:
    """Cut tiles that do not overlap: sky beside sky, petals beside petals."""
    return [
        photograph[top : top + side, left : left + side]
        for photograph in photographs
        for top in range(0, photograph.shape[0] - side + 1, side)
        for left in range(0, photograph.shape[1] - side + 1, side)
    ]


def handwritten_digits() -> list[np.ndarray]:
    """Handwritten digits of 8 by 8 pixels, of which many of one kind look alike, enlarged as they are."""
    grey = (load_digits().images * 255 / 16).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    return list(np.repeat(grey[..., None], 3, axis=-1))


def linked(frame: Any, origin: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of originals that are in one set, by themselves or by a copy; (i, i) of one and its copy."""
    pairs = set()
    for _, members in frame.groupby("set")["index"]:
        pairs |= {tuple(sorted(pair)) for pair in combinations(origin[members.to_numpy()].tolist(), 2)}
    return pairs


def opened(original: Any) -> Image.Image:
    return Image.fromarray(original) if isinstance(original, np.ndarray) else Image.open(original)


def measure(
    name: str, originals: list[Any], thresholds: Sequence[float], given: dict[str, Any], n_copies: int
) -> dict[float, float]:
    """Print recall and precision at each threshold by what was done, and return the least recall of each."""
    n = len(originals)
    known = {
        pair for pair in combinations(range(n), 2) if (_stem(originals[pair[0]]), _stem(originals[pair[1]])) in KNOWN
    }
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:n_copies])
    least = dict.fromkeys(thresholds, 1.0)
    print(f"\n{name}: {n} images, copies of {len(chosen)}\n")
    for threshold in thresholds:
        found = linked(skl2rclip.find_duplicates(originals, threshold=threshold, **given), np.arange(n)) - known
        shown = [(_stem(originals[a]) or a, _stem(originals[b]) or b) for a, b in sorted(found)]
        print(f"different originals in one set at {threshold}: {len(found)} pairs, {shown[:20]}")
    print(f"\n| what was done | {' | '.join(f'recall, precision at {each}' for each in thresholds)} | exact |")
    print(f"|---|{'---|' * (len(thresholds) + 1)}", flush=True)
    for what, change in CHANGES.items():
        rng = np.random.default_rng(1)
        copies = [change(opened(originals[row]), rng) for row in chosen]
        cells = []
        for threshold in thresholds:
            frame = skl2rclip.find_duplicates([*originals, *copies], threshold=threshold, **given)
            pairs = linked(frame, np.concatenate([np.arange(n), chosen])) - known
            right = sum(a == b for a, b in pairs)
            precision = right / len(pairs) if pairs else float("nan")
            recall = right / len(chosen)
            least[threshold] = min(least[threshold], recall)
            cells.append(f"{recall:.3f}, {precision:.3f}")
        exact = (frame.loc[frame["index"] >= n, "kind"] == "exact").sum()
        print(f"| {what} | {' | '.join(cells)} | {exact} of {len(chosen)} |", flush=True)
    return least


def _stem(original: Any) -> str:
    return "" if isinstance(original, np.ndarray) else Path(original).stem


def choose(name: str, originals: list[Any], given: dict[str, Any], n_copies: int) -> float:
    """Return the lowest of several thresholds at which 99% of each kind of copies are found."""
    thresholds = [round(0.02 * step, 2) for step in range(1, 11)]
    least = measure(name, originals, thresholds, given, n_copies)
    chosen = min((each for each in thresholds if least[each] >= 0.99), default=thresholds[-1])
    print(f"\nchosen on {name}: {chosen}, the lowest at which the recall of each kind of copies is at least 0.99")
    return chosen


def measure_time(folders: dict[str, list[Any]], n: int, given: dict[str, Any]) -> None:
    """Time each stage for `n` parts of the images of folders, of which each gives five that overlap."""
    parts = []
    for path in [path for paths in folders.values() for path in paths]:
        width, height = Image.open(path).size
        for x, y in ((0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4), (0.2, 0.2)):
            box = (int(x * width), int(y * height), int(0.6 * width), int(0.6 * height))
            parts.append(skl2rclip.ImageCrop(path, box))
    parts = [parts[row] for row in np.random.default_rng(0).permutation(len(parts))[:n]]
    for what in ("seen for the first time", "seen before"):
        stages = dict.fromkeys(STAGES, (0.0, 0.0))
        with contextlib.ExitStack() as stack:
            for stage in STAGES:
                stack.enter_context(timed(stage, stages))
            wall, processor = time.perf_counter(), time.process_time()
            skl2rclip.find_duplicates(parts, **given)
            whole = time.perf_counter() - wall, time.process_time() - processor
        forget_embeddings()
        print(f"\n{len(parts)} images, {what}\n\n| stage | seconds | seconds of processors |\n|---|---|---|")
        for stage, seconds in [*stages.items(), ("all", whole)]:
            print(f"| {STAGES.get(stage, stage)} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


@contextlib.contextmanager
def timed(stage: str, stages: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Note how long a step of `find_duplicates` takes."""
    function = getattr(_duplicates, stage)

    def watched(*arguments: Any) -> Any:
        begun = time.perf_counter(), time.process_time()
        result = function(*arguments)
        stages[stage] = time.perf_counter() - begun[0], time.process_time() - begun[1]
        return result

    setattr(_duplicates, stage, watched)
    yield
    setattr(_duplicates, stage, function)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--model", default="skl2rclip-tiny")
    parser.add_argument("--threshold", type=float, nargs="*", default=[])
    parser.add_argument("--choose", metavar="NAME", help="The folder that the threshold is chosen on.")
    parser.add_argument("--images", type=int, default=10**6, help="Of each folder, at most.")
    parser.add_argument("--copies", type=int, default=100, help="Of each kind.")
    parser.add_argument("--timed", type=int, default=0, help="Images that are timed, and nothing else.")
    options = parser.parse_args()
    folders: dict[str, list[Any]] = {}
    for folder in options.folders:
        name, _, where = folder.partition("=")
        paths = sorted(Path(where).rglob("*.jpg"))
        kept = np.sort(np.random.default_rng(0).permutation(len(paths))[: options.images])
        folders[name] = [paths[row] for row in kept]
    with tempfile.TemporaryDirectory() as cache:
        given = {"model_name": options.model, "embedding_cache": cache}
        if options.timed:
            measure_time(folders, options.timed, given)
            return
        thresholds = list(options.threshold)
        if options.choose:
            thresholds.append(choose(options.choose, folders.pop(options.choose), given, options.copies))
        photographs = list(load_sample_images().images)
        others = {
            "scikit-learn's photographs": photographs,
            "tiles of these photographs": parts_of(photographs),
            "handwritten digits": handwritten_digits(),
        }
        for name, originals in (folders | others).items():
            measure(name, originals, thresholds or [0.1], given, options.copies)


if __name__ == "__main__":
    main()
