"""Run a benchmark of the field as it is run in the literature, and print what was published beside it.

    python -m benchmarks.protocols adience --root FOLDER
    python -m benchmarks.protocols morph2 --setting C --root FOLDER --lists FOLDER
    python -m benchmarks.protocols hci --root FOLDER --shots 1 2 4 8 16 32 64
    python -m benchmarks.protocols morph2 --root FOLDER --shift 10 20 30 40 --keep 0.1

FOLDER holds what you have downloaded; what is missing is said, with where it is to be had. Each finished split is a
line of a file, and the same command goes on where it stopped. ``--report`` prints what there is.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

import skl2rclip
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, datasets
from skl2rclip.datasets import DistributionShiftSplit, FewShotSplit, _registry

READERS = {reader.benchmark: reader for reader in _registry.READERS if reader.benchmark}


@dataclass(frozen=True)
class Published:
    """A figure that others have published: accuracy in %, mean absolute error in the benchmark's unit."""

    who: str
    accuracy: float | None
    error: float


# on all training images, by backbones and schedules of their own
PUBLISHED = {
    "adience": [
        Published("OrdinalCLIP", 61.2, 0.47),
        Published("Ord2Seq", 63.9, 0.43),
        Published("L2RCLIP, its authors'", 66.2, 0.36),
    ],
    "hci": [Published("NumCLIP (ECCV 2024)", 69.61, 0.35)],
    "image-aesthetics": [Published("NumCLIP (ECCV 2024), overall", 76.53, 0.23)],
    "morph2": [Published("NumCLIP (ECCV 2024), in its setting", None, 2.08)],
}
# as OrdinalCLIP has; no prompt of a benchmark is longer
CONTEXT_TOKENS = 10
METHODS = ("most frequent rank", "logistic regression", "L2RCLIPClassifier")
# what a fit is read out as, and what the table calls it
READ_OUTS = {
    "predicted": "{method}",
    "argmax": "{method}, likeliest rank",
    "expectation": "{method}, expectation",
}


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        data = read(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{heading(data)}\n{len(data.data)} images of {len(data.ranks)} ranks\n", flush=True)
    for title, key, cv in conditions(data, options):
        n_splits = cv.get_n_splits(data.data, data.target)
        wanted = n_splits if options.max_splits is None else min(n_splits, options.max_splits)
        if not options.report:
            run(data, cv, key, wanted, options)
        report(title, finished(options.store), key, n_splits, data, options)
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.protocols",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(f"{name} ({reader.reads})" for name, reader in READERS.items())
    parser.add_argument("name", choices=sorted(READERS), metavar="name", help=known)
    parser.add_argument("--root", type=Path, required=True, help="folder that you have downloaded")
    parser.add_argument("--lists", type=Path, help="folder of the lists, if it is another")
    parser.add_argument("--setting", help="of morph2: A, B, C or D")
    parser.add_argument("--category", help="of image-aesthetics: animals, nature, people, urban or all")
    protocol = parser.add_mutually_exclusive_group()
    protocol.add_argument("--shots", type=int, nargs="+", default=[], help="images a rank")
    protocol.add_argument("--shift", type=int, nargs="+", default=[], help="how many ranks lose images")
    parser.add_argument("--keep", type=float, default=0.1, help="share that ranks of --shift keep")
    parser.add_argument("--model-name", default="ViT-B-16")
    parser.add_argument("--pretrained", default="openai")
    parser.add_argument("--parameters", type=json.loads, default={}, help="of L2RCLIPClassifier, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-splits", type=int, help="no more than so many of the splits")
    parser.add_argument("--store", type=Path, default=Path("protocols.jsonl"), help="a line for each finished split")
    parser.add_argument("--report", action="store_true", help="print what there is, without fitting")
    return parser.parse_args(arguments)


def read(options: argparse.Namespace) -> Bunch:
    """Read the benchmark with those of the options that its reader takes.

    Raises
    ------
    ValueError
        If another option is given.
    """
    reader = getattr(datasets, READERS[options.name].name)
    given = {name: getattr(options, name) for name in ("lists", "setting", "category")}
    given = {name: value for name, value in given.items() if value is not None}
    unknown = [f"--{name}" for name in given if name not in inspect.signature(reader).parameters]
    if unknown:
        raise ValueError(f"{options.name} has no {' and no '.join(unknown)}.")
    return reader(options.root, **given)


def heading(data: Bunch) -> str:
    lines = data.DESCR.splitlines()
    return "\n".join([lines[0], *(line for line in lines if line.startswith("Protocol: "))])


def conditions(data: Bunch, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Title, key and splitter of each table."""
    key = {
        "name": options.name,
        "setting": options.setting or options.category or "",
        "n_images": len(data.data),
        "model": [options.model_name, options.pretrained],
        "parameters": options.parameters,
        "seed": options.seed,
        "version": skl2rclip.__version__,
    }
    if not (options.shots or options.shift):
        yield "All training images", key | {"training": "all"}, data.cv
    for shots in options.shots:
        cv = FewShotSplit(shots, 1, cv=data.cv, allow_fewer=True, random_state=options.seed)
        yield f"{shots} images a rank, or all of a rank that has fewer", key | {"training": f"{shots} shots"}, cv
    for n_ranks in options.shift:
        cv = DistributionShiftSplit(n_ranks, options.keep, cv=data.cv, random_state=options.seed)
        title = f"The {n_ranks} most frequent ranks keep {options.keep:.0%} of their images"
        yield title, key | {"training": f"shift {n_ranks} {options.keep}"}, cv


# ----------------------------------------------------------------------- fits


def run(data: Bunch, cv: Any, key: dict[str, Any], wanted: int, options: argparse.Namespace) -> None:
    """Fit what is not in the store, split by split."""
    done = {(line["split"], line["method"]) for line in of_key(finished(options.store), key)}
    for split, (train, test) in enumerate(cv.split(data.data, data.target)):
        if split == wanted:
            return
        for method in METHODS:
            if (split, method) in done:
                continue
            start = time.perf_counter()
            scores = scored(method, data, train, test, options)
            seconds = round(time.perf_counter() - start, 1)
            line = {"key": key, "split": split, "method": method, "n_train": len(train), "n_test": len(test)}
            keep(options.store, line | {"seconds": seconds, "scores": scores})
            print(f"  split {split + 1} of {wanted}, {method}: {seconds} s", file=sys.stderr, flush=True)


def scored(
    method: str, data: Bunch, train: np.ndarray, test: np.ndarray, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Scores on the test images by read-out."""
    X, y = data.data, data.target
    backbone = {"model_name": options.model_name, "pretrained": options.pretrained}
    if method == "L2RCLIPClassifier":
        settings: dict[str, Any] = {
            "n_context_tokens": CONTEXT_TOKENS,
            "ranks": data.ranks,
            "rank_names": data.rank_names,
            "prompt": data.prompt,
        }
        model = L2RCLIPClassifier(**{**backbone, **settings, "random_state": options.seed, **options.parameters})
        model.fit(X[train], y[train], groups=data.groups[train] if "groups" in data else None)
        values = {
            "predicted": model.predict(X[test]),
            "argmax": model.classes_[model.predict_proba(X[test]).argmax(axis=1)],
            "expectation": model.predict_expectation(X[test]),
        }
    elif method == "logistic regression":
        encoder = CLIPImageEncoder(**backbone).fit()
        probe = LogisticRegression(C=10, max_iter=2000).fit(encoder.transform(X[train]), y[train])
        values = {"predicted": probe.predict(encoder.transform(X[test]))}
    else:
        values = {"predicted": DummyClassifier(strategy="most_frequent").fit(X[train], y[train]).predict(X[test])}
    spread = data.stdv[test] if "stdv" in data else None
    return {name: scores_of(y[test], predicted, spread) for name, predicted in values.items()}


def scores_of(true: np.ndarray, predicted: np.ndarray, spread: np.ndarray | None) -> dict[str, float]:
    """Mean absolute error, accuracy where ranks are predicted, and the error of CLAP2015 where `spread` is known."""
    errors = np.abs(predicted - true)
    scores = {"error": float(errors.mean())}
    if np.issubdtype(predicted.dtype, np.integer):
        scores["accuracy"] = float(100 * (errors == 0).mean())
    if spread is not None:
        scores["epsilon"] = float(np.mean(1 - np.exp(-(errors**2) / (2 * spread**2))))
    return scores


# ---------------------------------------------------------------------- store


def keep(store: Path, line: dict[str, Any]) -> None:
    store.parent.mkdir(parents=True, exist_ok=True)
    ends_amid_a_line = store.is_file() and store.read_bytes()[-1:] not in (b"", b"\n")
    with open(store, "a", encoding="utf-8") as file:
        file.write("\n" * ends_amid_a_line + json.dumps(line) + "\n")


def finished(store: Path) -> list[dict[str, Any]]:
    """Read all lines; one that an interruption cut off is passed over."""
    lines = []
    for line in store.read_text(encoding="utf-8").splitlines() if store.is_file() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def of_key(lines: list[dict[str, Any]], key: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["key"] == key]


# --------------------------------------------------------------------- report


def report(
    title: str,
    lines: list[dict[str, Any]],
    key: dict[str, Any],
    n_splits: int,
    data: Bunch,
    options: argparse.Namespace,
) -> None:
    """Print the table of a condition, and what is missing of it."""
    lines = of_key(lines, key)
    unit = READERS[options.name].unit
    has_epsilon = "stdv" in data
    weights = "" if options.model_name == "skl2rclip-tiny" else f", pretrained={options.pretrained}"
    print(f"{title}, {options.model_name}{weights}")
    print(f"{'':<44} {'accuracy in %':>15} {'MAE in ' + unit:>16}" + f" {'epsilon':>15}" * has_epsilon + "  splits")
    for method in METHODS:
        of_method = [line for line in lines if line["method"] == method]
        for read_out in of_method[0]["scores"] if of_method else ():
            scores = [line["scores"][read_out] for line in of_method]
            name = READ_OUTS[read_out].format(method=method)
            cells = [over_splits(scores, "accuracy", 1, 15), over_splits(scores, "error", 3, 16)]
            cells += [over_splits(scores, "epsilon", 3, 15)] if has_epsilon else []
            print(f"{name:<44} {' '.join(cells)}  {len(scores)} of {n_splits}")
    published = PUBLISHED.get(options.name, []) if key["training"] == "all" else []
    if key["setting"] not in ("", "all") and options.name == "image-aesthetics":
        published = []
    for figure in published:
        accuracy = "" if figure.accuracy is None else f"{figure.accuracy:g}"
        print(f"{'published: ' + figure.who:<44} {accuracy:>15} {figure.error:>16g}" + " " * 16 * has_epsilon + "  -")
    if not published:
        print("No published figure of this protocol is known here.")
    count = min(sum(line["method"] == method for line in lines) for method in METHODS)
    if count < n_splits:
        print(f"{n_splits - count} of {n_splits} splits are missing: the same command goes on where it stopped.")
    print(flush=True)


def over_splits(scores: list[dict[str, float]], name: str, digits: int, width: int) -> str:
    """Mean over splits, and their standard deviation where there are several."""
    values = [score[name] for score in scores if name in score]
    if not values:
        return " " * width
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}".rjust(width)


if __name__ == "__main__":
    sys.exit(main())
