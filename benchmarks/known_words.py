"""Tasks whose words the small CLIPs know: the library as it is beside the words alone, and beside a fit without them.

    python benchmarks/known_words.py                                   # to benchmarks/known-words.md
    python benchmarks/known_words.py --model-name skl2rclip-photo      # to benchmarks/known-words-photo.md
    python benchmarks/known_words.py --hours 3                         # goes on where it stopped
    python benchmarks/known_words.py --report                          # of what there is, without fitting

Each task is there in good words, in words that mean nothing, and in its own in another order. Good words also come with
RankFormer left out or changed. What is kept of a fit, and where, is what ``few_shots`` keeps; ``known_words_report``
makes the report of it.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path

import few_shots
import known_words_report
from evidence import CACHE, HERE, cache_for, chosen_on_validation, file_of
from few_shots import Job, Methods, shots_of
from further import ABLATED_SHOTS
from further import OURS as CHANGES
from known_words_report import CHANGED, LABELS, LEFT_OUT, WORDED_SHOTS
from methods import FEW_SHOTS, nothing_set
from report import OURS, ZERO_SHOT
from tasks import BACKBONE, WORDINGS, Task, known_tasks

WORDED: Methods = {OURS: nothing_set, LEFT_OUT: functools.partial(nothing_set, zero_shot_share=0.0)}
GOOD: Methods = WORDED | {name: FEW_SHOTS[name] for name in (ZERO_SHOT, "ridge")}
CHANGED_METHODS: Methods = {name: functools.partial(nothing_set, **CHANGES[name]) for name in CHANGED}


def planned(tasks: tuple[Task, ...], n_seeds: int, n_worded: int, n_changed: int) -> Iterator[Job]:
    """All of the first seed before any of the second; other wordings and changes of RankFormer with the first seeds."""
    for seed in range(n_seeds):
        for task in tasks:
            yield from (Job(task, shots, seed, GOOD) for shots in shots_of(task))
        for task in tasks:
            for wording in WORDINGS if seed < n_worded else ():
                yield from (Job(task.worded(wording), shots, seed, WORDED) for shots in WORDED_SHOTS)
        for task in tasks if seed < n_changed else ():
            yield from (Job(task, shots, seed, CHANGED_METHODS) for shots in ABLATED_SHOTS)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="write the report of what is in the cache")
    parser.add_argument("--model-name", default=BACKBONE, help="backbone, which must know the words")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--worded-seeds", type=int, default=5, help="of the fits with other words")
    parser.add_argument("--changed-seeds", type=int, default=3, help="of the fits with RankFormer left out or changed")
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin no fit after that time")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the report")
    return parser.parse_args()


def main() -> None:
    """Make the fits that are missing, until time is up, and write the report."""
    options = parsed()
    store = cache_for(options.cache, options.model_name)
    if not options.report:
        tasks = known_tasks(store, options.model_name)
        few_shots.keep_labels(tasks, store / LABELS)
        jobs = planned(tasks, options.seeds, options.worded_seeds, options.changed_seeds)
        few_shots.run(jobs, store, chosen_on_validation(options.model_name), options.jobs, options.hours)
    file = file_of(options.output, "known-words.md", options.model_name)
    known_words_report.write(store, file, options.model_name)


if __name__ == "__main__":
    main()
