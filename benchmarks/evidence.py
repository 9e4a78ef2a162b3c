"""What L2RCLIP brings on top of skl2rclip-tiny, beside what a user would pick instead: mean and 95% interval.

    python benchmarks/evidence.py --tune                      # choose the settings, on validation images
    python benchmarks/evidence.py --data FOLDER               # all tables, on test images
    python benchmarks/evidence.py --data FOLDER --only few_shots --hours 3     # goes on where it stopped
    python benchmarks/evidence.py --report                    # of few shots, without fitting

Few shots, the library as it is beside what a user would fit instead, are in ``few_shots`` and ``report`` and come out
as benchmarks/evidence.md. The other experiments are here: their L2RCLIP has the paper's objective, and they come out as
benchmarks/further.md. There, errors are MAE in ranks by the read-out that was best on the validation images of the same
task and method; every method gets the same images, and the same number of candidates in the tuning.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import few_shots
import joblib
import numpy as np
import report
import torch
from methods import (
    DECISIONS,
    METHODS,
    cross_entropy_fine_tuning,
    fine_tuned,
    l2rclip,
    ordinal_logistic,
    predictions,
)
from report import interval
from tasks import Task, all_tasks
from variants import (
    LearnedBlendRatio,
    WithinPrompt,
    WithoutInnerResiduals,
    WithoutRankEncoding,
    fitted_with,
)

from skl2rclip._modules import RankFormer

HERE = Path(__file__).parent
# candidates of the tuning, and what it chose (python benchmarks/evidence.py --tune); the defaults where nothing stands
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "L2RCLIP": [{"learning_rate": rate} for rate in RATES],
    "CoOp": [{"rate": rate} for rate in RATES],
    "OrdinalCLIP": [{"rate": rate} for rate in RATES],
    "logistic regression": [{"C": C} for C in (1, 10, 100, 1000)],
    "ridge": [{"alpha": alpha} for alpha in (0.01, 0.03, 0.1, 0.3)],
    "CORN": [{"rate": rate} for rate in (1e-3, 3e-3, 1e-2, 3e-2)],
    "ordinal logistic": [{"alpha": alpha} for alpha in (0.03, 0.1, 0.3, 1.0)],
}
TUNED = METHODS | {"ordinal logistic": ordinal_logistic}
# images a rank in the tuning; one, where more of them allow for cross-validation
TUNING_SHOTS = dict.fromkeys(CANDIDATES, (2, 8, 32)) | {"ordinal logistic": (1,)}
CHOSEN = json.loads((HERE / "chosen.json").read_text()) if (HERE / "chosen.json").is_file() else {}
# the tuning draws other images than the tables: its seeds start here
TUNING_SEED = 1000

ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without RankFormer": {"rankformer_layers": 0},
    "no rank encoding": {"rankformer": WithoutRankEncoding},
    "attention within a prompt": {"rankformer": WithinPrompt},
    "no inner residuals": {"rankformer": WithoutInnerResiduals},
    "learned blend ratio, from 0.01": {"rankformer": LearnedBlendRatio},
    "blend ratio 0": {"blend_ratio": 0.0},
    "blend ratio 0.1": {"blend_ratio": 0.1},
    "blend ratio 0.3": {"blend_ratio": 0.3},
    "blend ratio 1": {"blend_ratio": 1.0},
    "adapter: none": {"image_adapter": None},
    "adapter: linear": {"image_adapter": "linear"},
    "adapter: hidden layer": {"image_adapter": "mlp"},
    "without the contrastive term": {"contrastive_weight": 0.0},
    "without the ordering term": {"pairwise_weight": 0.0},
    "without the tightness term": {"tightness_weight": 0.0},
    "contrastive term alone": {"pairwise_weight": 0.0, "tightness_weight": 0.0},
    "pairwise weight 0.1": {"pairwise_weight": 0.1},
    "pairwise weight 10": {"pairwise_weight": 10.0},
    "pairwise weight 100": {"pairwise_weight": 100.0},
    "ranks' words fixed": {"tune_ranks": False},
}
CONSTANT, NEAREST = "best constant", "nearest rank with images, known without error"
WITHOUT_READ_OUT = ("ridge", CONSTANT, NEAREST)
AS_IT_IS = {"blend_ratio": 0.1, "image_adapter": "linear"}
FINE_TUNING: dict[str, Callable] = {
    "frozen tower, linear adapter": l2rclip,
    "two stages": fine_tuned,
    "one stage (joint from the start)": functools.partial(fine_tuned, prompt_epochs=0),
    "linear head and tower, cross-entropy": cross_entropy_fine_tuning,
}


def score(task: Task, predictor: Callable, rows: np.ndarray | None = None, *, pixels: bool = False) -> dict[str, Any]:
    """Errors by read-out on validation and test images; on those of some ranks where `rows` names ranks."""
    result = {}
    for part_name in ("validation", "test"):
        part = getattr(task, part_name)
        keep = np.ones(len(part.target), bool) if rows is None else np.isin(part.target, rows)
        output = predictor((part.pixels if pixels else part.Z)[keep])
        for decision, predicted in predictions(output, task.n_ranks).items():
            error = np.abs(predicted - part.target[keep])
            result[f"{part_name} {decision}"] = float(error.mean())
            result[f"{part_name} accuracy {decision}"] = float((error == 0).mean())
    return result


def settings_of(name: str) -> dict[str, Any]:
    return CHOSEN.get(name.removesuffix(", hidden layer"), {})


def distribution_shift(task: Task, seed: int) -> list[dict]:
    """A random half of the ranks keep a tenth of their 32 images."""
    rng = np.random.default_rng([seed, 5])
    shots = np.where(rng.permutation(task.n_ranks) < task.n_ranks // 2, 3, 32)
    return [
        {"table": "distribution shift", "method": name, "condition": ""}
        | score(task, method(task, task.draw(shots, seed), seed, **settings_of(name)))
        for name, method in METHODS.items()
    ]


def unseen_ranks(task: Task, seed: int) -> list[dict]:
    """Every third rank without an image, the others with 16; the error on just those."""
    unseen = np.arange(1, task.n_ranks, 3)
    shots = np.full(task.n_ranks, 16)
    shots[unseen] = 0
    drawn = task.draw(shots, seed)
    rows = [
        {"table": "unseen ranks", "method": name, "condition": ""}
        | score(task, method(task, drawn, seed, **settings_of(name)), unseen)
        for name, method in METHODS.items()
    ]
    constant = int(np.median(task.train.target[drawn]))
    return [
        *rows,
        {"table": "unseen ranks", "method": CONSTANT, "condition": ""}
        | score(task, lambda Z: np.full(len(Z), float(constant)), unseen),
        {"table": "unseen ranks", "method": NEAREST, "condition": ""}
        | {f"{part} {decision}": 1.0 for part in ("validation", "test") for decision in DECISIONS},
    ]


def ablations(task: Task, seed: int) -> list[dict]:
    rows = []
    drawn = task.draw(8, seed)
    before = METHODS["zero-shot CLIP"](task, drawn, seed)
    done: dict[str, dict] = {}
    for name, changes in ABLATIONS.items():
        changes = dict(changes)
        variant = changes.pop("rankformer", RankFormer)
        key = json.dumps([variant.__name__, {**AS_IT_IS, **changes}], sort_keys=True)
        if key in done:  # the same under another name
            rows.append({**done[key], "method": name})
            continue
        with fitted_with(variant):
            predictor = l2rclip(task, drawn, seed, **{**settings_of("L2RCLIP"), **changes})
        rows.append(
            {
                "table": "ablation",
                "method": name,
                "condition": "",
                "order before": before.model.ordinality_,  # type: ignore[attr-defined]
                "order after": predictor.model.ordinality_,  # type: ignore[attr-defined]
            }
            | score(task, predictor)
        )
        done[key] = rows[-1]
    return rows


def fine_tuning(task: Task, seed: int) -> list[dict]:
    drawn = task.draw(8, seed)
    rows = []
    for name, method in FINE_TUNING.items():
        settings = settings_of("L2RCLIP") if method is l2rclip else {}
        predictor = method(task, drawn, seed, **settings)
        rows.append(
            {"table": "fine-tuning", "method": name, "condition": ""}
            | score(task, predictor, pixels=method is not l2rclip)
        )
    return rows


EXPERIMENTS = (distribution_shift, unseen_ranks, ablations, fine_tuning)


def job(experiment: Callable, task: Task, seed: int) -> list[dict]:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    start = time.perf_counter()
    rows = experiment(task, seed)
    seconds = time.perf_counter() - start
    return [{**row, "task": task.name, "seed": seed, "seconds": seconds} for row in rows]


def tune_job(name: str, candidate: dict, task: Task, seed: int) -> tuple[str, str, float]:
    """MAE on validation images by the best read-out, as a share of the best constant's, mean over shots."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    errors = []
    for shots in TUNING_SHOTS[name]:
        drawn = task.draw(shots, seed)
        predictor = TUNED[name](task, drawn, seed, **candidate)
        target = task.validation.target
        error = min(
            np.abs(predicted - target).mean()
            for predicted in predictions(predictor(task.validation.Z), task.n_ranks).values()
        )
        errors.append(error / np.abs(target - np.median(target)).mean())
    return name, json.dumps(candidate), float(np.mean(errors))


def tune(tasks: tuple[Task, ...], n_seeds: int, n_jobs: int, names: list[str]) -> None:
    jobs = [
        joblib.delayed(tune_job)(name, candidate, task.without_pixels(), TUNING_SEED + seed)
        for name in names or CANDIDATES
        for candidate in CANDIDATES[name]
        for seed in range(n_seeds)
        for task in tasks
    ]
    results: dict[str, dict[str, list[float]]] = {}
    for name, candidate, error in joblib.Parallel(n_jobs)(jobs):
        results.setdefault(name, {}).setdefault(candidate, []).append(error)
    chosen = dict(CHOSEN)
    for name, by_candidate in results.items():
        means = {candidate: float(np.mean(errors)) for candidate, errors in by_candidate.items()}
        best = min(means, key=means.__getitem__)
        chosen[name] = json.loads(best)
        for candidate, mean in means.items():
            print(f"{name}: {candidate}: {mean:.3f}{'  <' if candidate == best else ''}")
    (HERE / "chosen.json").write_text(json.dumps(chosen, indent=1) + "\n")


# --------------------------------------------------------------------- tables


def cell(rows: list[dict]) -> str:
    """Test error of some seeds by the read-out that is best on their validation images."""
    best = min(DECISIONS, key=lambda decision: np.mean([row[f"validation {decision}"] for row in rows]))
    shown = "" if rows[0]["method"] in WITHOUT_READ_OUT else best
    return f"{interval([row[f'test {best}'] for row in rows])} {shown}".strip()


def table(rows: list[dict], columns: list, key: str, content: Callable[[list[dict]], str] = cell) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [f"| | {' | '.join(map(str, columns))} |", "|---" * (len(columns) + 1) + "|"]
    for method in methods:
        cells = []
        for column in columns:
            chosen = [row for row in rows if row["method"] == method and row[key] == column]
            cells.append(content(chosen) if chosen else "")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_further(rows: list[dict], tasks: list[str], n_seeds: int, seconds: float, file: Path) -> None:
    parts = [
        "# Further experiments, with the paper's objective",
        f"Made by `python benchmarks/evidence.py`: {n_seeds} seeds, {seconds / 60:.0f} minutes on "
        f"{joblib.cpu_count()} cores, CPU. MAE in ranks on test images, mean ± half of the 95% interval, and the "
        "read-out that was best on validation images.",
    ]
    for title, key in (
        ("Distribution shift: a random half of the ranks keep 3 of 32 images", "distribution shift"),
        ("Unseen ranks: every third rank without an image, 16 for the others; error on those alone", "unseen ranks"),
        ("Fine-tuning: 8 images a rank", "fine-tuning"),
        ("Ablation: 8 images a rank", "ablation"),
    ):
        chosen = [row for row in rows if row["table"] == key]
        if chosen:
            parts += [f"## {title}", table(chosen, tasks, "task")]
    ablation = [row for row in rows if row["table"] == "ablation"]
    if ablation:
        as_it_is = [row for row in ablation if row["method"] == "as it is"]
        by_decision = [
            {**row, "method": decision, "value": row[f"test {decision}"]} for decision in DECISIONS for row in as_it_is
        ]
        parts += [
            "## Read-out, as it is, 8 images a rank",
            table(by_decision, tasks, "task", lambda chosen: interval([row["value"] for row in chosen])),
            "## Order of the prototypes (`ordinality_`), zero-shot and trained on 8 images a rank",
            table(
                ablation,
                tasks,
                "task",
                lambda chosen: (
                    f"{np.mean([row['order before'] for row in chosen]):.2f} to "
                    f"{interval([row['order after'] for row in chosen])}"
                ),
            ),
        ]
    file.write_text("\n\n".join(parts) + "\n")
    print(f"wrote {file}")


def further(experiments: list[Callable], tasks: tuple[Task, ...], n_seeds: int, n_jobs: int, file: Path) -> None:
    start = time.perf_counter()
    rows: list[dict] = []
    for experiment in experiments:
        jobs = [joblib.delayed(job)(experiment, task, seed) for seed in range(n_seeds) for task in reversed(tasks)]
        made = [row for rows in joblib.Parallel(n_jobs)(jobs) for row in rows]
        spent = {(row["task"], row["seed"]): row["seconds"] for row in made}
        print(f"{experiment.__name__}: {sum(spent.values()):.0f} core seconds", flush=True)
        rows += made
        # after each experiment, so that little is lost where the next is interrupted
        seconds = time.perf_counter() - start
        write_further(rows, [task.name for task in tasks], n_seeds, seconds, file)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--report", action="store_true", help="write the report on few shots of what is in the cache")
    parser.add_argument("--only", nargs="*", default=[], help="experiments by function name, or methods with --tune")
    parser.add_argument("--data", type=Path, help="folder with lara2018 and BCCD_Dataset as their authors publish them")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "skl2rclip-evidence")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shots", type=int, nargs="*", default=list(few_shots.SHOTS), help="of few_shots")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no fit of few_shots after that time")
    parser.add_argument("--n-jobs", type=int, default=-1)
    parser.add_argument("--output", type=Path, default=HERE, help="folder of evidence.md and further.md")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.report:
        report.write(options.cache, options.output / "evidence.md")
        return
    drawn = all_tasks(options.cache)
    if options.tune:
        tune(drawn, min(options.seeds, 2), options.n_jobs, options.only)
        return
    if not options.only or "few_shots" in options.only:
        tasks = all_tasks(options.cache, options.data)
        chosen = {name: settings for name, settings in CHOSEN.items() if name in few_shots.TUNED}
        few_shots.run(tasks, options.seeds, options.shots, options.cache, chosen, options.n_jobs, options.hours)
        report.write(options.cache, options.output / "evidence.md")
    experiments = [e for e in EXPERIMENTS if not options.only or e.__name__ in options.only]
    further(experiments, drawn, options.seeds, options.n_jobs, options.output / "further.md")


if __name__ == "__main__":
    main()
