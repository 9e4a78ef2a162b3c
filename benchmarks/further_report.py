"""benchmarks/further.md, made of the lines of ``further``: sentences that follow the numbers, then tables.

Two methods are compared seed by seed, on the same images: nothing here fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from few_shots import SHOTS, notes_of_age
from further import (
    ABLATED_SHOTS,
    AS_IT_IS,
    FINE_TUNED,
    FROZEN,
    LINEAR,
    MANY,
    NO_ADAPTER,
    OURS,
    REFERENCES,
    SHIFT,
    UNSEEN,
    WITHOUT_RANKFORMER,
    few,
    fit_of,
    of_line,
)
from protocols import finished
from report import interval
from scipy import stats
from tasks import BACKBONE

# lines of one task and condition, by method and seed
Cell = dict[str, dict[int, dict[str, Any]]]
Cells = dict[tuple[str, str], Cell]
Bounds = tuple[float, float, float]
MEASURES = {"mae": "MAE", "rps": "ranked probability score"}
CONDITIONS = {
    UNSEEN: "Unseen ranks: every third rank without an image, 16 for the others; error on those alone",
    SHIFT: "Distribution shift: a random half of the ranks keep a tenth of 32 images",
    MANY: "Many ranks: 101 ranks, 10 images of every tenth, none of the others; error on those without, in ranks",
}


def read(store: Path, chosen: dict[str, dict]) -> Cells:
    """Cells of the fits that would be made today: a line with other parameters is passed over."""
    cells: Cells = {}
    for line in finished(store):
        fit = of_line(line)
        if fit == fit_of(fit.task, fit.condition, fit.seed, fit.method, chosen):
            cell = cells.setdefault((fit.task, fit.condition), {})
            cell.setdefault(fit.method, {})[fit.seed] = line
    return cells


def values(cell: Cell, method: str, measure: str) -> np.ndarray:
    return np.array([line[measure] for _, line in sorted(cell.get(method, {}).items())], dtype=float)


# ---------------------------------------------------------------- comparisons


def bounds(differences: np.ndarray) -> Bounds:
    """Mean, and its 95% interval by Student's t, which is boundless with a single seed."""
    mean = float(differences.mean())
    if len(differences) < 2:
        return mean, -np.inf, np.inf
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return mean, float(mean - half), float(mean + half)


def verdict(low: float, high: float) -> str:
    return "better" if high < 0 else "worse" if low > 0 else "level"


def common_seeds(cells: Iterable[Cell], *methods: str) -> list[int]:
    """Seeds that all of the methods have in all of the cells."""
    return sorted(set.intersection(*(set(cell[method]) for cell in cells for method in methods)))


def compared(cells: list[Cell], ours: str, other: str, measure: str) -> np.ndarray:
    """Logarithm of the ratio of ours to the other, ndarray of shape (cells, seeds)."""
    seeds = common_seeds(cells, ours, other)
    of_seeds = [[cell[ours][s][measure] / cell[other][s][measure] for s in seeds] for cell in cells]
    return np.log(np.array(of_seeds))


def having(cells: Cells, conditions: Iterable[str], *methods: str) -> list[Cell]:
    """Cells of these conditions in which all of the methods have been fitted."""
    wanted = set(conditions)
    return [cell for (_, c), cell in cells.items() if c in wanted and all(method in cell for method in methods)]


def ratio(cells: list[Cell], ours: str, other: str, measure: str) -> Bounds:
    """Geometric mean over the cells of the ratio of ours to the other, and its 95% interval over the seeds."""
    logs = compared(cells, ours, other, measure)
    mean, low, high = bounds(logs.mean(axis=0)) if logs.size else (np.nan, -np.inf, np.inf)
    with np.errstate(over="ignore"):
        return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def counts(cells: list[Cell], ours: str, other: str, measure: str) -> dict[str, int]:
    """In how many cells ours is better, level and worse by the paired interval over the seeds."""
    found = [verdict(*bounds(_differences(cell, ours, other, measure))[1:]) for cell in cells]
    return {name: found.count(name) for name in ("better", "level", "worse")}


def _differences(cell: Cell, ours: str, other: str, measure: str) -> np.ndarray:
    seeds = common_seeds([cell], ours, other)
    return np.array([cell[ours][s][measure] - cell[other][s][measure] for s in seeds] or [0.0])


def ratio_text(found: Bounds) -> str:
    mean, low, high = found
    return f"{mean:.3f} ({low:.3f} to {high:.3f})" if np.isfinite(high) else f"{mean:.3f}"


def against(cells: list[Cell], ours: str, other: str) -> str:
    """Counts and ratio in words, by both measures."""
    parts = []
    for measure, name in MEASURES.items():
        n = counts(cells, ours, other, measure)
        parts.append(
            f"by {name} better in {n['better']}, level in {n['level']} and worse in {n['worse']} of {len(cells)} "
            f"cells, mean ratio {ratio_text(ratio(cells, ours, other, measure))}"
        )
    return "; ".join(parts)


# ------------------------------------------------------------------ sentences


def few_shot_statements(cells: Cells) -> list[str]:
    lines = []
    for title, ours, other in (
        ("With RankFormer against without it", AS_IT_IS, WITHOUT_RANKFORMER),
        ("The adapter with a hidden layer against the linear one", AS_IT_IS, LINEAR),
        ("The adapter with a hidden layer against none", AS_IT_IS, NO_ADAPTER),
        ("The fine-tuned tower against the frozen one", FINE_TUNED, FROZEN),
    ):
        chosen = having(cells, map(few, SHOTS), ours, other)
        if chosen:
            lines.append(f"{title}, 1 to 64 images a rank: {against(chosen, ours, other)}.")
    lines += fine_tuning_statements(having(cells, map(few, SHOTS), FINE_TUNED, FROZEN))
    chosen = having(cells, map(few, SHOTS), AS_IT_IS, WITHOUT_RANKFORMER)
    return [*lines, *order_statements("1 to 64 images a rank", chosen)]


def fine_tuning_statements(cells: list[Cell]) -> list[str]:
    """How often the epoch selection left the tower as the frozen one is, and what came of the rest."""
    logs = [compared([cell], FINE_TUNED, FROZEN, "rps")[0] for cell in cells]
    if not logs:
        return []
    each = np.concatenate(logs)
    trained = each[np.abs(each) > 1e-4]
    return [
        f"In {len(each) - len(trained)} of {len(each)} fits the tower stayed as it was; of the {len(trained)} others "
        f"{int((trained < 0).sum())} have a lower ranked probability score than the frozen tower's."
    ]


def order_statements(title: str, cells: list[Cell]) -> list[str]:
    """What RankFormer does to the order of the prototypes, where more is better."""
    n = counts(cells, WITHOUT_RANKFORMER, AS_IT_IS, "ordinality")
    found = f"higher in {n['better']}, level in {n['level']} and lower in {n['worse']} of {len(cells)} cells"
    return [f"{title}, the ordinality of the prototypes with RankFormer against without it: {found}."] if cells else []


def beside_statements(cells: Cells) -> list[str]:
    lines = []
    for condition, title in CONDITIONS.items():
        name = title.partition(":")[0]
        best = [f"{task} {lowest(cell)}" for (task, c), cell in cells.items() if c == condition]
        chosen = having(cells, [condition], AS_IT_IS, WITHOUT_RANKFORMER)
        if best:
            lines.append(f"{name}, the lowest MAE: {'; '.join(best)}.")
        if chosen:
            lines.append(
                f"{name}, with RankFormer against without it: {against(chosen, AS_IT_IS, WITHOUT_RANKFORMER)}."
            )
        lines += order_statements(name, chosen)
        others = [method for method in methods_of(cells, condition) if method not in REFERENCES]
        lines += ratio_statements(cells, name, condition, others)
    return lines


def lowest(cell: Cell) -> str:
    means = {method: values(cell, method, "mae").mean() for method in cell if method not in REFERENCES}
    best = min(means, key=means.__getitem__)
    return f"{best} ({means[best]:.2f}; as it is {means[AS_IT_IS]:.2f})" if AS_IT_IS in means else best


def ratio_statements(cells: Cells, title: str, condition: str, methods: Iterable[str]) -> list[str]:
    """Which methods have a lower, and which a higher error than the library as it is, on average over the tasks."""
    lines = []
    for measure, name in MEASURES.items():
        found: dict[str, list[str]] = {"better": [], "worse": [], "level": []}
        for method in methods:
            chosen = having(cells, [condition], method, AS_IT_IS)
            if method != AS_IT_IS and chosen:
                mean, low, high = ratio(chosen, method, AS_IT_IS, measure)
                found[verdict(low - 1, high - 1)].append(f"{method} {ratio_text((mean, low, high))}")
        lower, higher = (", ".join(found[each]) or "nothing" for each in ("better", "worse"))
        if any(found.values()):
            lines.append(
                f"{title}, mean ratio of {name} to that as it is: lower: {lower}; higher: {higher}; within the noise: "
                f"{len(found['level'])} others."
            )
    return lines


# --------------------------------------------------------------------- tables


def methods_of(cells: Cells, *conditions: str) -> list[str]:
    there = {method for (_, condition), cell in cells.items() if condition in conditions for method in cell}
    order = [*OURS, *(m for cell in cells.values() for m in cell if m not in OURS)]
    return [method for method in dict.fromkeys(order) if method in there]


def tasks_of(cells: Cells, *conditions: str) -> list[str]:
    return list(dict.fromkeys(task for task, condition in cells if condition in conditions))


def table(first: str, columns: Iterable[Any], rows: Iterable[tuple[str, list[str]]]) -> str:
    columns = list(columns)
    lines = [f"| {first} | {' | '.join(map(str, columns))} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(content)} |" for name, content in rows)])


def shown(cell: Cell, method: str, measure: str) -> str:
    found = values(cell, method, measure)
    return "" if len(found) == 0 or np.isnan(found).any() else interval(found, 3 if measure == "ordinality" else 2)


def tables_by_shots(cells: Cells, title: str, methods: tuple[str, ...], measures: dict[str, str]) -> list[str]:
    """A table for each measure: tasks and methods in rows, numbers of images in columns."""
    there = [shots for shots in SHOTS if having(cells, [few(shots)], *methods)]
    parts = []
    for measure, name in measures.items() if there else ():
        rows = [
            (f"{task}: {method}", [shown(cells.get((task, few(shots)), {}), method, measure) for shots in there])
            for task in tasks_of(cells, *map(few, there))
            for method in methods
        ]
        parts += [f"## {title}: {name} by images a rank", table("", there, rows)]
    return parts


def table_of_ratios(cells: Cells, pairs: dict[str, tuple[str, str]]) -> str:
    """Mean ratio over the tasks for each number of images a rank."""
    there = [shots for shots in SHOTS if any(having(cells, [few(shots)], *pair) for pair in pairs.values())]

    def content(pair: tuple[str, str], measure: str, shots: int) -> str:
        chosen = having(cells, [few(shots)], *pair)
        return ratio_text(ratio(chosen, *pair, measure)) if chosen else ""

    rows = [
        (f"{title}, {name}", [content(pair, measure, shots) for shots in there])
        for title, pair in pairs.items()
        for measure, name in MEASURES.items()
    ]
    return table("images a rank", there, rows) if there else ""


def tables_by_task(cells: Cells, condition: str, title: str, measures: dict[str, str]) -> list[str]:
    """A table for each measure: methods in rows, tasks in columns, and the mean ratio to the library as it is."""
    tasks, parts = tasks_of(cells, condition), []

    def last(method: str, measure: str) -> str:
        chosen = having(cells, [condition], method, AS_IT_IS)
        return ratio_text(ratio(chosen, method, AS_IT_IS, measure)) if chosen and method != AS_IT_IS else ""

    for measure, name in measures.items() if tasks else ():
        with_ratio = measure in MEASURES
        rows = [
            (m, [shown(cells[task, condition], m, measure) for task in tasks] + [last(m, measure)] * with_ratio)
            for m in methods_of(cells, condition)
        ]
        parts += [f"## {title}: {name}", table("", tasks + ["ratio to as it is"] * with_ratio, rows)]
    return parts


def introduction(cells: Cells, backbone: str) -> list[str]:
    lines = [line for cell in cells.values() for of_seeds in cell.values() for line in of_seeds.values()]
    numbers = [len(of_seeds) for cell in cells.values() for of_seeds in cell.values()]
    seeds = str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"
    minutes = sum(line["seconds"] for line in lines) / 60
    parts = [
        f"Made by `python benchmarks/evidence.py`: {len(lines)} fits, {minutes:.0f} core minutes, seeds of each: "
        f"{seeds}, {backbone} on stored embeddings, the towers from pixels. MAE is in ranks on test images. "
        "'as it is' is `L2RCLIPClassifier` with backbone, prompt, ranks and seed, and `predict` as it is; what else is "
        "named is changed. The others are read out as in [the evidence](evidence.md).",
        "A cell is a task under one condition. Two methods see the same images, and are compared seed by seed: better "
        "or worse where the 95% interval of the difference (Student's t over the seeds) leaves out zero. Where there "
        "is no difference, about one comparison in twenty does so by chance; one seed alone decides nothing. A mean "
        "ratio is the geometric mean over cells, with the interval over the seeds for these very tasks; below 1 the "
        "first method is the better one.",
    ]
    return parts + notes_of_age(line["library"] for line in lines)


def parts_of(cells: Cells, backbone: str = BACKBONE) -> list[str]:
    with_order = MEASURES | {"ordinality": "ordinality of the prototypes"}
    pairs = {
        "with RankFormer to without": (AS_IT_IS, WITHOUT_RANKFORMER),
        "hidden layer to linear": (AS_IT_IS, LINEAR),
        "hidden layer to no adapter": (AS_IT_IS, NO_ADAPTER),
        "fine-tuned to frozen tower": (FINE_TUNED, FROZEN),
    }
    statements = [*few_shot_statements(cells), *beside_statements(cells)]
    for shots in ABLATED_SHOTS:
        statements += ratio_statements(cells, f"Ablation, {few(shots)}", few(shots), OURS)
    adapters = (AS_IT_IS, LINEAR, NO_ADAPTER)
    parts: list[str] = [
        "# Further experiments",
        *introduction(cells, backbone),
        "## What holds",
        "\n".join(f"- {line}" for line in statements),
        *(["## Mean ratio by images a rank", of_pairs] if (of_pairs := table_of_ratios(cells, pairs)) else []),
        *tables_by_shots(cells, "RankFormer", (AS_IT_IS, WITHOUT_RANKFORMER), with_order),
        *tables_by_shots(cells, "Image adapter", adapters, MEASURES),
        *tables_by_shots(cells, "Image tower", (FROZEN, FINE_TUNED), MEASURES),
    ]
    for condition, title in CONDITIONS.items():
        parts += tables_by_task(cells, condition, title, MEASURES)
    for shots in ABLATED_SHOTS:
        parts += tables_by_task(cells, few(shots), f"Ablation, {few(shots)}", with_order)
    return parts


def write(store: Path, chosen: dict[str, dict], file: Path, backbone: str = BACKBONE) -> bool:
    """Write the report of what there is, and tell whether there is anything."""
    cells = read(store, chosen)
    if not cells:
        print("further: no fit is there yet")
        return False
    file.write_text("\n\n".join(parts_of(cells, backbone)) + "\n", encoding="utf-8")
    print(f"wrote {file}")
    return True
