"""What L2RCLIP brings on top of a small CLIP, beside what a user would pick instead: mean and 95% interval.

    python benchmarks/evidence.py --tune                      # choose the settings, on validation images
    python benchmarks/evidence.py --data FOLDER               # all tables, on test images
    python benchmarks/evidence.py --data FOLDER --only few_shots --hours 3     # goes on where it stopped
    python benchmarks/evidence.py --data FOLDER --only rankformer ablation --jobs 16 --minutes 7
    python benchmarks/evidence.py --report                    # both reports of what there is, without fitting
    python benchmarks/evidence.py --data FOLDER --model-name skl2rclip-photo       # on another backbone

Few shots, the library as it is beside what a user would fit instead, are in ``few_shots`` and ``report`` and come out
as benchmarks/evidence.md. The other experiments are in ``further`` and ``further_report`` and come out as
benchmarks/further.md, with their fits in benchmarks/further.jsonl, from which another run goes on. The tuning is here:
its errors are MAE in ranks by the read-out that is best on validation images, and every method has the same number of
candidates. Of another backbone than skl2rclip-tiny the files have its name: evidence-photo.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import few_shots
import further
import further_report
import joblib
import numpy as np
import report
import torch
from methods import METHODS, predictions
from tasks import BACKBONE, Task, all_tasks

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / "skl2rclip-evidence"
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
# images a rank in the tuning; one, where more of them allow for cross-validation
TUNING_SHOTS = dict.fromkeys(CANDIDATES, (2, 8, 32)) | {"ordinal logistic": (1,)}
# the tuning draws other images than the tables: its seeds start here
TUNING_SEED = 1000
NAMES = ("few_shots", *further.EXPERIMENTS)


def tune_job(name: str, candidate: dict, task: Task, seed: int) -> tuple[str, str, float]:
    """MAE on validation images by the best read-out, as a share of the best constant's, mean over shots."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    errors = []
    for shots in TUNING_SHOTS[name]:
        drawn = task.draw(shots, seed)
        predictor = METHODS[name](task, drawn, seed, **candidate)
        target = task.validation.target
        error = min(
            np.abs(predicted - target).mean()
            for predicted in predictions(predictor(task.validation.Z), task.n_ranks).values()
        )
        errors.append(error / np.abs(target - np.median(target)).mean())
    return name, json.dumps(candidate), float(np.mean(errors))


def file_of(folder: Path, name: str, backbone: str) -> Path:
    """File of a backbone's figures: with its name, where that is not the first one's."""
    stem, dot, ending = name.partition(".")
    return folder / (name if backbone == BACKBONE else f"{stem}-{backbone.removeprefix('skl2rclip-')}{dot}{ending}")


def chosen_for(backbone: str) -> dict[str, dict]:
    """What the tuning chose, on the first backbone where it has not been run on this one."""
    files = (file_of(HERE, "chosen.json", backbone), HERE / "chosen.json")
    return next((json.loads(file.read_text()) for file in files if file.is_file()), {})


def chosen_on_validation(backbone: str) -> dict[str, dict]:
    """What of it holds for few shots: fits on drawn images where a rank has too few for folds, and rates."""
    return {name: settings for name, settings in chosen_for(backbone).items() if name in few_shots.TUNED}


def cache_for(folder: Path, backbone: str) -> Path:
    """Where tasks and fits of a backbone are kept: in a folder of its own, where that is not the first one."""
    return folder if backbone == BACKBONE else folder / backbone


def tune(tasks: tuple[Task, ...], n_seeds: int, n_jobs: int, names: list[str]) -> None:
    backbone = tasks[0].backbone
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
    chosen = chosen_for(backbone)
    for name, by_candidate in results.items():
        means = {candidate: float(np.mean(errors)) for candidate, errors in by_candidate.items()}
        best = min(means, key=means.__getitem__)
        chosen[name] = json.loads(best)
        for candidate, mean in means.items():
            print(f"{name}: {candidate}: {mean:.3f}{'  <' if candidate == best else ''}")
    file_of(HERE, "chosen.json", backbone).write_text(json.dumps(chosen, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--report", action="store_true", help="write the reports of what is in the cache")
    parser.add_argument("--only", nargs="*", default=[], help=f"of {', '.join(NAMES)}; or methods with --tune")
    parser.add_argument("--model-name", default=BACKBONE, help="backbone")
    parser.add_argument("--data", type=Path, help="folder with lara2018 and BCCD_Dataset as their authors publish them")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--seeds", type=int, help="by default 10 of few_shots, 5 of the others")
    parser.add_argument("--shots", type=int, nargs="*", default=list(few_shots.SHOTS), help="of few_shots")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no fit after that time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="the same in minutes")
    parser.add_argument("--jobs", "--n-jobs", type=int, default=-1, dest="n_jobs", help="processes")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the reports and of further.jsonl")
    options = parser.parse_args()
    unknown = set(options.only) - set(CANDIDATES if options.tune else NAMES)
    options.cache = cache_for(options.cache, options.model_name)
    if unknown:
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = parsed()
    chosen = chosen_on_validation(options.model_name)
    if options.tune:
        tune(
            all_tasks(options.cache, backbone=options.model_name),
            min(options.seeds or 2, 2),
            options.n_jobs,
            options.only,
        )
        return
    names, store = options.only or list(NAMES), options.cache / further.FILE
    written = functools.partial(file_of, options.output, backbone=options.model_name)
    further.begin_with(file_of(HERE, further.FILE, options.model_name), store)
    if not options.report:
        fit(options, names, chosen)
    if "few_shots" in names and (options.cache / few_shots.LABELS).is_file():
        report.write(options.cache, written("evidence.md"), options.model_name)
    if further_report.write(store, chosen, written("further.md"), options.model_name):
        shutil.copyfile(store, written(further.FILE))


def fit(options: argparse.Namespace, names: list[str], chosen: dict[str, dict]) -> None:
    """Make the fits that are missing, those of few shots first, until time is up."""
    hours = min(options.hours, options.minutes / 60)
    deadline = time.time() + 3600 * hours
    tasks = all_tasks(options.cache, options.data, options.model_name)
    if "few_shots" in names:
        few_shots.keep_labels(tasks, options.cache / few_shots.LABELS)
        planned = few_shots.planned(tasks, options.seeds or 10, options.shots)
        few_shots.run(planned, options.cache, chosen, options.n_jobs, hours)
    others = [name for name in further.EXPERIMENTS if name in names]
    many = further.many_rank_tasks(options.cache, options.model_name) if further.many_ranks.__name__ in names else ()
    jobs = further.planned(others, tasks, many, options.seeds or 5, chosen)
    further.run(jobs, options.cache / further.FILE, options.n_jobs, deadline)


if __name__ == "__main__":
    main()
