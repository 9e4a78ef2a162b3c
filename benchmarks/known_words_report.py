"""The report on tasks whose words the backbone knows, made of what ``known_words`` keeps; nothing here fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from few_shots import files_by_seed, notes_of_age
from further import ABLATED_SHOTS, WITHOUT_RANKFORMER
from report import DRAWS, MARGIN, OURS, ZERO_SHOT, Cells, Rows, Summary, compare, interval, read, verdicts
from tasks import WORDINGS, worded_name

# the file of a store with what the report must know of the tasks
LABELS = "known-words.json"
LEFT_OUT = "words left out"
CHANGED = (WITHOUT_RANKFORMER, "blend ratio 0.3", "text ordering weight 0.1")
# images a rank of the other wordings
WORDED_SHOTS = (1, 4, 8, 16)
# by `predict` as it is, or by rounding
GOOD: Rows = {**{row: (row, None) for row in (OURS, LEFT_OUT, ZERO_SHOT)}, "ridge": ("ridge", "median")}
WORDED: Rows = {row: (row, None) for row in (OURS, LEFT_OUT)}


def shares(store: Path, cells: Cells) -> dict[tuple[str, int], float]:
    """Mean share of zero-shot that the fits of a cell have chosen."""
    result = {}
    for (task, shots), cell in cells.items():
        files = files_by_seed(store, OURS, task, shots)
        result[task, shots] = float(np.mean([np.load(files[seed])["zero-shot share"] for seed in cell[OURS].seeds]))
    return result


def mean_ratio(cells: Cells, row: str, other: str, value: Callable[[Summary], np.ndarray]) -> float:
    """Geometric mean over cells of what one row has of another's value."""
    return float(
        np.exp(np.mean([np.log(value(cell[row]).mean() / value(cell[other]).mean()) for cell in cells.values()]))
    )


def verdict(cells: Cells, baselines: tuple[str, ...]) -> str:
    found = verdicts([compare(cell, seed, baselines) for seed, cell in enumerate(cells.values())])
    named = [f"{task} at {shots}" for (task, shots), each in zip(cells, found, strict=True) if each == "behind"]
    where = f" ({', '.join(named)})" if named else ""
    counts = {name: found.count(name) for name in ("behind", "level", "ahead")}
    level, ahead = counts["level"], counts["ahead"]
    return f"behind in {counts['behind']}{where}, level in {level} and ahead in {ahead} of {len(found)} cells"


def statements(cells: Cells) -> list[str]:
    mae = [{row: cell[row].mae.mean() for row in GOOD} for cell in cells.values()]
    better = [min(each[ZERO_SHOT], each[LEFT_OUT]) for each in mae]
    ratio = np.mean([each[OURS] / least for each, least in zip(mae, better, strict=True)])
    below = sum(each[OURS] < least for each, least in zip(mae, better, strict=True))
    return [
        f"Against zero-shot CLIP 'nothing set' is {verdict(cells, (ZERO_SHOT,))}.",
        f"Against the fit without the words it is {verdict(cells, (LEFT_OUT,))}.",
        f"Against the best of zero-shot CLIP, the fit without the words and ridge it is "
        f"{verdict(cells, (ZERO_SHOT, LEFT_OUT, 'ridge'))}.",
        f"Its error is {ratio:.3f} of the better one of zero-shot CLIP and the fit without the words, in the mean over "
        f"cells, and below both in {below} of {len(cells)}.",
    ]


def wording_statements(cells: Cells, wording: str) -> str:
    ours = {key: cell for key, cell in cells.items() if key[0].endswith(worded_name("", wording))}
    error, score = (mean_ratio(ours, OURS, LEFT_OUT, value) for value in (lambda s: s.mae, lambda s: s.score))
    return (
        f"With {wording} words it has {error:.3f} of the error and {score:.3f} of the ranked probability score of the "
        f"fit without them, in the mean, and is {verdict(ours, (LEFT_OUT,))}."
    )


def table(title: str, cells: Cells, rows: dict[str, Callable[[tuple[str, int]], str]]) -> str:
    """Table of a task: a line for each of `rows`, which says what stands in a cell."""
    keys = [key for key in cells if key[0] == title]
    lines = [f"| {title} | {' | '.join(str(shots) for _, shots in keys)} |", "|---" * (len(keys) + 1) + "|"]
    return "\n".join(lines + [f"| {name} | {' | '.join(map(content, keys))} |" for name, content in rows.items()])


def tables(cells: Cells, share: dict[tuple[str, int], float]) -> list[str]:
    def of(row: str, value: Callable[[Summary], np.ndarray]) -> Callable[[tuple[str, int]], str]:
        return lambda key: interval(value(cells[key][row]))

    parts = []
    names = dict.fromkeys(task for task, _ in cells)
    for title, value in (("MAE", lambda s: s.mae), ("Ranked probability score", lambda s: s.score)):
        rows = {row: of(row, value) for row in GOOD}
        if title == "MAE":
            rows["mean share of zero-shot"] = lambda key: f"{share[key]:.2f}"
        parts += [f"## {title} by images a rank", *(table(name, cells, rows) for name in names)]
    return parts


def wording_table(good: Cells, worded: Cells, shots: tuple[int, ...]) -> str:
    """Errors of 'nothing set' with each wording, in mean ratio to good words with the same seeds, and where higher."""
    lines = [f"| wording | {' | '.join(map(str, shots))} |", "|---" * (len(shots) + 1) + "|"]
    for wording in WORDINGS:
        cells = []
        for number in shots:
            ratios = [
                cell[OURS].mae.mean() / of_seeds(good[task, number][OURS], cell[OURS].seeds).mean()
                for task in dict.fromkeys(task for task, _ in good)
                if (cell := worded.get((worded_name(task, wording), number))) is not None
            ]
            higher = f"higher in {sum(ratio > 1 for ratio in ratios)} of {len(ratios)} tasks"
            cells.append(f"{np.exp(np.mean(np.log(ratios))):.2f}, {higher}" if ratios else "-")
        lines.append(f"| {wording} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of_seeds(one: Summary, seeds: tuple[int, ...]) -> np.ndarray:
    """MAE of some of the seeds."""
    return one.mae[np.isin(one.seeds, seeds)]


def changed_table(cells: Cells) -> str:
    """Mean ratios of error and score with RankFormer left out or changed, to those of 'nothing set'."""
    lines = ["| change | images a rank | MAE | ranked probability score | ordinality |", "|---" * 5 + "|"]
    for name in CHANGED:
        for shots in ABLATED_SHOTS:
            of_shots = {key: cell for key, cell in cells.items() if key[1] == shots}
            ratios = [mean_ratio(of_shots, name, OURS, value) for value in (lambda s: s.mae, lambda s: s.score)]
            order = [np.mean([cell[row].ordinality.mean() for cell in of_shots.values()]) for row in (name, OURS)]
            lines.append(f"| {name} | {shots} | {ratios[0]:.3f} | {ratios[1]:.3f} | {order[0]:.2f} ({order[1]:.2f}) |")
    return "\n".join(lines)


def seeds_of(cells: Cells) -> str:
    counts = {len(cell[OURS].seeds) for cell in cells.values()}
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)}))


def write(store: Path, file: Path, backbone: str) -> None:
    """Write the report of what there is."""
    about = json.loads((store / LABELS).read_text())
    good = read(store, about, GOOD)
    if not good:
        print("known_words: no cell is complete yet")
        return
    names = {worded_name(task, wording): of_task for task, of_task in about.items() for wording in WORDINGS}
    worded = read(store, names, WORDED, WORDED_SHOTS)
    changed = read(store, about, {row: (row, None) for row in (OURS, *CHANGED)}, ABLATED_SHOTS)
    libraries = frozenset().union(*(cell[OURS].libraries for cell in good.values()))
    said = statements(good)
    if worded:
        said += [wording_statements(worded, wording) for wording in WORDINGS]
    parts = [
        f"# Evidence: words that {backbone} knows",
        f"Made by `python benchmarks/known_words.py`: {len(good)} cells, seeds in each: {seeds_of(good)}, {backbone}, "
        "CPU. Errors are MAE in ranks on test images, mean ± half of the 95% interval over the seeds. 'nothing set' is "
        "`L2RCLIPClassifier` with backbone, prompt, ranks and seed, 'words left out' the same with "
        "`zero_shot_share=0`; these and zero-shot CLIP are read out by `predict`, ridge by rounding.",
        *notes_of_age(libraries),
        "## What holds",
        "\n".join(f"- {line}" for line in said),
        f"Behind: the lower 95% bound of the difference lies above {MARGIN:.0%} of the other's error; ahead: the upper "
        f"one lies below zero; both one-sided, from {DRAWS:,} draws of seeds and test images together, Holm over all "
        "cells. Of several baselines a cell has the one with the lowest error on validation images.",
        *tables(good, shares(store, good)),
    ]
    if worded:
        parts += [
            f"## Other wordings: error of 'nothing set' in mean ratio to good words, seeds: {seeds_of(worded)}",
            wording_table(good, worded, WORDED_SHOTS),
        ]
    if changed:
        parts += [
            f"## RankFormer and the order of the texts, in mean ratio to 'nothing set', seeds: {seeds_of(changed)}",
            "In brackets the ordinality of 'nothing set'.",
            changed_table(changed),
        ]
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {file}")
