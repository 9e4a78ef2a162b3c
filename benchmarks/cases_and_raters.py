"""What pooling the images of a case brings, and what it is worth to combine raters: two tables of errors in ranks.

    python benchmarks/cases_and_raters.py --data FOLDER --only cases
    python benchmarks/cases_and_raters.py --data FOLDER --only raters --seeds 3 \
        --tasks "graded photographs" "coffee leaves" ripeness

Cases are made of the two sets of photographs, which publish none: the two halves of a leaf, and the four quarters of a
smear, have the label of the whole; a plant is four leaves of the test that were drawn at random, and as bad as the
worst of them. Images are learned from, of 300 files that were drawn at random or of all that there are, with `groups`
that keep those of a case together.

Raters are simulated on the training images of the tasks: five, each of whom sees half of the images, is stricter or
milder by a bias of his own, errs by himself, and says a rank. Test images keep their true ones; in brackets stands how
far the labels themselves are off. Both tables go to the standard output.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import interval
from tasks import BACKBONE, CELL_NAMES, PHOTOGRAPHS, Task, all_tasks, files_of

from skl2rclip import CLIPImageEncoder, ImageCrop, L2RCLIPClassifier
from skl2rclip.datasets import combine_ratings
from skl2rclip.metrics import labels_from_probabilities, pool_probabilities, ranked_probability_score

N_FILES, N_OF_A_RANK = 300, 64
HALVES = [(256 * column, 0, 256, 256) for column in range(2)]
QUARTERS = [(320 * column, 240 * row, 320, 240) for row in range(2) for column in range(2)]
PROMPTS = {
    PHOTOGRAPHS[0]: ("the severity of the damage to the leaf is", tuple("01234")),
    PHOTOGRAPHS[1]: ("the number of red blood cells is", CELL_NAMES),
}
N_RATERS, SEEN = 5, 0.5
RATED_SHOTS = (16, 64)


def classifier(backbone: str, prompt: str, names: tuple[str, ...], seed: int) -> L2RCLIPClassifier:
    """Make the library with nothing set, for embeddings."""
    words = {"prompt": prompt, "ranks": range(len(names)), "rank_names": list(names)}
    return L2RCLIPClassifier(backbone, image_tower="precomputed", **words, random_state=seed)


# -------------------------------------------------------------------- cases


class Views:
    """Embeddings of the parts of files, computed once and kept in a folder."""

    def __init__(self, backbone: str, cache: Path):
        cache.mkdir(parents=True, exist_ok=True)
        self._encoder = CLIPImageEncoder(backbone, device="cpu", embedding_cache=cache / "cases.sqlite").fit()

    def of(self, paths: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
        """Embed the boxes of each file in turn, or the file itself where there are none."""
        return self._encoder.transform([ImageCrop(path, box) for path in paths for box in boxes] or list(paths))


def drawn(target: np.ndarray, seed: int, balanced: bool) -> np.ndarray:
    """Indices of the files to learn from, as frequent along the ranks as in the set, or `balanced` as many of each."""
    rng = np.random.default_rng([seed, 11])
    if not balanced:
        return rng.permutation(len(target))[:N_FILES]
    return np.concatenate([rng.permutation(np.flatnonzero(target == k))[:N_OF_A_RANK] for k in np.unique(target)])


def of_images(labels: np.ndarray, cases: np.ndarray, how: str) -> np.ndarray:
    """Label of each case from the labels of its images alone: their lower median, most frequent or highest one."""
    by_case = pd.Series(labels).groupby(cases)
    if how == "majority":
        return by_case.agg(lambda each: each.mode().iloc[0]).to_numpy()
    return (by_case.max() if how == "highest" else by_case.quantile(0.5, interpolation="lower")).to_numpy().astype(int)


def errors_of_cases(proba: np.ndarray, cases: np.ndarray, true: np.ndarray) -> dict[str, tuple[float, float]]:
    """MAE, and the ranked probability score where there is one, by how cases are predicted; `true` has sorted cases."""
    labels = labels_from_probabilities(proba)
    of_each = true[np.unique(cases, return_inverse=True)[1]]
    found = {"each image by itself": (np.abs(labels - of_each).mean(), ranked_probability_score(of_each, proba))}
    for how in ("majority", "median", "highest"):
        found[f"{how} of labels"] = (np.abs(of_images(labels, cases, how) - true).mean(), np.nan)
    for how in ("mean", "geometric", "max"):
        _, pooled = pool_probabilities(proba, cases, how)
        error = np.abs(labels_from_probabilities(pooled) - true).mean()
        found[f'"{how}"'] = (error, ranked_probability_score(true, pooled))
    return found


def parts_of_files(
    name: str, views: Views, data: Path, backbone: str, seed: int, balanced: bool
) -> dict[str, tuple[float, float]]:
    """Score cases whose images are parts of one file."""
    boxes = HALVES if name == PHOTOGRAPHS[0] else QUARTERS
    (paths, target), (test_paths, true) = files_of(name, data)
    rows = drawn(target, seed, balanced)
    prompt, names = PROMPTS[name]
    whole = np.repeat(rows, len(boxes))
    model = classifier(backbone, prompt, names, seed)
    model.fit(views.of(paths[rows], boxes), target[whole], groups=whole)
    proba = model.predict_proba(views.of(test_paths, boxes))
    return errors_of_cases(proba, np.repeat(np.arange(len(true)), len(boxes)), true)


def plants(views: Views, data: Path, backbone: str, seed: int, balanced: bool) -> dict[str, tuple[float, float]]:
    """Score cases of four leaves, each as bad as its worst leaf."""
    (paths, target), (test_paths, true) = files_of(PHOTOGRAPHS[0], data)
    rows = drawn(target, seed, balanced)
    model = classifier(backbone, *PROMPTS[PHOTOGRAPHS[0]], seed).fit(views.of(paths[rows], []), target[rows])
    proba = model.predict_proba(views.of(test_paths, []))
    leaves = np.random.default_rng([seed, 12]).permutation(len(true))[: len(true) // 4 * 4]
    return errors_of_cases(
        proba[leaves], np.repeat(np.arange(len(leaves) // 4), 4), true[leaves].reshape(-1, 4).max(axis=1)
    )


def table_of_cases(data: Path, backbone: str, cache: Path, seeds: int, balanced: bool) -> Iterator[str]:
    """Yield the lines of the table, MAE and ranked probability score."""
    views = Views(backbone, cache)
    kinds: dict[str, Any] = {
        "leaf, two halves": lambda seed: parts_of_files(PHOTOGRAPHS[0], views, data, backbone, seed, balanced),
        "smear, four quarters": lambda seed: parts_of_files(PHOTOGRAPHS[1], views, data, backbone, seed, balanced),
        "plant, as bad as the worst of four leaves": lambda seed: plants(views, data, backbone, seed, balanced),
    }
    head = True
    for kind, errors in kinds.items():
        found = [errors(seed) for seed in range(seeds)]
        if head:
            yield f'| case | {" | ".join(found[0])} | "mean" less median of labels |'
            yield "|---" * (2 + len(found[0])) + "|"
            head = False
        cells = []
        for how in found[0]:
            error, score = np.mean([each[how] for each in found], axis=0)
            cells.append(f"{error:.2f}" + ("" if np.isnan(score) else f" ({score:.2f})"))
        gap = np.array([each['"mean"'][0] - each["median of labels"][0] for each in found])
        yield f"| {kind} | {' | '.join(cells)} | {interval(gap, 3)} |"


# ------------------------------------------------------------------- raters


def ratings_of(target: np.ndarray, n_ranks: int, rng: np.random.Generator) -> np.ndarray:
    """Ratings of each image by five raters, NaN where one has not seen it, ndarray of shape (n, raters)."""
    bias = n_ranks / 8 * rng.standard_normal(N_RATERS)
    error = n_ranks / 10 * rng.standard_normal((len(target), N_RATERS))
    said = np.clip(np.rint(target[:, None] + bias - bias.mean() + error), 0, n_ranks - 1)
    is_seen = rng.random(said.shape) < SEEN
    is_seen[np.arange(len(target)), rng.integers(N_RATERS, size=len(target))] = True
    return np.where(is_seen, said, np.nan)


def labels_of(ratings: np.ndarray, true: np.ndarray, n_ranks: int) -> dict[str, tuple[np.ndarray, Any]]:
    """Labels to learn from by how they are made, and how far they may be off where that is known."""
    combined = combine_ratings(ratings, ranks=range(n_ranks))
    return {
        "majority": (pd.DataFrame(ratings).mode(axis=1)[0].to_numpy(dtype=int), None),
        "mean, rounded": (np.rint(np.nanmean(ratings, axis=1)).astype(int), None),
        "combined": (combined.target, None),
        "combined, with `label_std`": (combined.target, combined.label_std),
        "true labels": (true, None),
    }


def errors_of_raters(task: Task, shots: int, seed: int) -> dict[str, tuple[float, float]]:
    """MAE in ranks on test images, and of the labels that are learned from, by how these are made."""
    rng = np.random.default_rng([seed, 8])
    of_ranks = [rng.permutation(np.flatnonzero(task.train.target == k))[:shots] for k in range(task.n_ranks)]
    rows = np.concatenate(of_ranks)
    true = task.train.target[rows]
    model = classifier(task.backbone, task.prompt, task.names, seed)
    found = {}
    for name, (y, std) in labels_of(ratings_of(true, task.n_ranks, rng), true, task.n_ranks).items():
        said = model.fit(task.train.Z[rows], y, label_std=std).predict(task.test.Z)
        found[name] = (float(np.abs(said - task.test.target).mean()), float(np.abs(y - true).mean()))
    return found


def table_of_raters(tasks: Sequence[Task], seeds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    head = True
    for task in tasks:
        for shots in RATED_SHOTS:
            found = [errors_of_raters(task, shots, seed) for seed in range(seeds)]
            if head:
                yield f"| task | images a rank | {' | '.join(found[0])} |"
                yield "|---" * (2 + len(found[0])) + "|"
                head = False
            means = [np.mean([each[name] for each in found], axis=0) for name in found[0]]
            yield f"| {task.name} | {shots} | {' | '.join(f'{error:.2f} ({own:.2f})' for error, own in means)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the photographs' repositories, which cases are made of")
    parser.add_argument("--only", choices=("cases", "raters"), nargs="+", default=["cases", "raters"])
    parser.add_argument("--balanced", action="store_true", help="learn cases from as many images of each rank")
    parser.add_argument("--tasks", nargs="+", help="of raters these tasks alone")
    parser.add_argument("--model-name", default=BACKBONE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "skl2rclip-evidence")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    if "cases" in options.only and options.data is not None:
        for line in table_of_cases(options.data, options.model_name, options.cache, options.seeds, options.balanced):
            print(line, flush=True)
        print()
    if "raters" in options.only:
        tasks = all_tasks(options.cache, options.data, options.model_name)
        chosen = [task for task in tasks if options.tasks is None or task.name in options.tasks]
        for line in table_of_raters(chosen, options.seeds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
