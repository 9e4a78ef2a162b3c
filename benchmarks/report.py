"""The report on few shots, made of what ``few_shots`` keeps: tables, and a verdict whose sentences follow the numbers.

`Summary` holds what one method made of one task and number of images, over the seeds; nothing here fits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from few_shots import COVERAGE, LABELS, SHOTS, files_by_seed, has_fits, notes_of_age
from methods import FEW_SHOTS
from scipy import stats
from tasks import BACKBONE, PHOTOGRAPHS

from skl2rclip._ordinal.decisions import ranked_scores, read_out

OURS, ZERO_SHOT = "nothing set", "zero-shot CLIP"
Rows = dict[str, tuple[str, str | None]]
# each row of the tables: whose fit, and how it is read out; None is `predict` as it is
ROWS: Rows = {
    OURS: (OURS, None),
    ZERO_SHOT: (ZERO_SHOT, "median"),
    "ridge": ("ridge", "median"),
    "logistic regression, argmax": ("logistic regression", "argmax"),
    "logistic regression, median": ("logistic regression", "median"),
    "ordinal logistic": ("ordinal logistic", "median"),
    "CORN": ("CORN", "median"),
    "CoOp": ("CoOp", "argmax"),
    "OrdinalCLIP": ("OrdinalCLIP", "mean"),
    "Tip-Adapter-F": ("Tip-Adapter-F", "median"),
    "CLAP": ("CLAP", "median"),
    "LP++": ("LP++", "median"),
    "ProLIP": ("ProLIP", "median"),
    "TabPFN": ("TabPFN", "median"),
    "ridge, features": ("ridge, features", "median"),
    "logistic regression, features": ("logistic regression, features", "median"),
}
PROBES = ("ridge", "logistic regression", "ordinal logistic", "CORN")
PROMPT_LEARNERS = ("CoOp", "OrdinalCLIP")
# a store may have no fits of these and of `OF_FEATURES`, and then its report has no rows of them
PEERS = ("Tip-Adapter-F", "CLAP", "LP++", "ProLIP", "TabPFN")
# of all that the tower gives, as 'nothing set' has it; the others are of the embedding
OF_FEATURES = ("ridge, features", "logistic regression, features")
MARGIN, LEVEL, DRAWS = 0.02, 0.05, 10_000
WANTED_PIT, WANTED_ORDER = (0.75, 0.87), 0.9
READ_OUTS = (
    "Every method is read out as is usual for it: zero-shot CLIP by the median, ridge by rounding, logistic regression "
    "by the likeliest class and, as a row of its own, by the median, ordinal logistic and CORN by the number of "
    "thresholds that are exceeded (the median), CoOp by the likeliest rank, OrdinalCLIP by the expected value, the "
    "other few-shot methods by the median as ours is. "
    "'nothing set' is `L2RCLIPClassifier` with backbone, prompt, ranks and seed, and `predict` as it is; it sees all "
    "that the tower gives, as it does with images. Those named 'features' see that too, each column standardised; all "
    "others see the embedding. Ridge's distribution is a Gaussian as wide as its leave-one-out error."
)


@dataclass(frozen=True)
class Summary:
    """One row of one cell, over S seeds and N test images."""

    seeds: tuple[int, ...]
    errors: np.ndarray  # (S, N), in ranks
    validation: float  # MAE on validation images
    score: np.ndarray  # (S,), ranked probability score
    pit: np.ndarray  # (S,), share of the randomised probability integral transform in (0.1, 0.9)
    coverage: np.ndarray  # (S,), of the central interval
    width: np.ndarray  # (S,), of the interval, in ranks
    seconds: np.ndarray  # (S,)
    ordinality: np.ndarray  # (S,), NaN where there are no prototypes
    libraries: frozenset[str]

    @property
    def mae(self) -> np.ndarray:
        return self.errors.mean(axis=1)


Cells = dict[tuple[str, int], dict[str, Summary]]


def pit_share(probabilities: np.ndarray, target: np.ndarray, low: float = 0.1, high: float = 0.9) -> float:
    """Share of u = F(y - 1) + U p(y) in (low, high), averaged over U instead of drawn."""
    cumulated = np.cumsum(probabilities, axis=1)
    own = np.take_along_axis(probabilities, target[:, None], 1)[:, 0]
    above = np.take_along_axis(cumulated, target[:, None], 1)[:, 0]
    below = above - own
    inside = np.clip(np.minimum(above, high) - np.maximum(below, low), 0, None)
    # a rank without probability is a point: in or out
    certain = ((below > low) & (below < high)).astype(float)
    return float(np.where(own > 1e-12, inside / np.maximum(own, 1e-12), certain).mean())


def summary(files: dict[int, Path], decision: str | None, about: dict) -> Summary:
    """Read one method's files, by seed."""
    values, kept = np.arange(about["n_ranks"], dtype=float), []
    target = {part: np.array(about[part]) for part in ("validation", "test")}
    for file in files.values():
        with np.load(file) as fit:
            of_part = {
                part: fit[f"predicted {part}"] if decision is None else read_out(fit[part], values, decision)
                for part in target
            }
            y, probabilities, interval = target["test"], fit["test"].astype(float), fit["interval"]
            kept.append(
                {
                    "errors": np.abs(of_part["test"] - y),
                    "validation": np.abs(of_part["validation"] - target["validation"]).mean(),
                    "score": ranked_scores(probabilities, y).mean(),
                    "pit": pit_share(probabilities, y),
                    "coverage": ((interval[:, 0] <= y) & (y <= interval[:, 1])).mean(),
                    "width": (interval[:, 1] - interval[:, 0]).mean(),
                    "seconds": float(fit["seconds"]),
                    "ordinality": float(fit["ordinality"]) if "ordinality" in fit else np.nan,
                    "library": str(fit["library"]),
                }
            )
    arrays = {key: np.array([one[key] for one in kept]) for key in kept[0] if key != "library"}
    libraries = frozenset(one["library"] for one in kept)
    return Summary(tuple(files), **{**arrays, "validation": float(arrays["validation"].mean())}, libraries=libraries)


def read(store: Path, about: dict[str, dict], rows: Rows = ROWS, numbers: tuple[int, ...] = SHOTS) -> Cells:
    """All cells for which every method has a fit of at least one seed; of the seeds that all methods have.

    A peer, or a probe of features, of which the store has no fit at all has no row.
    """
    rows = {row: fit for row, fit in rows.items() if fit[0] not in PEERS + OF_FEATURES or has_fits(store, fit[0])}
    cells: Cells = {}
    for task, of_task in about.items():
        for shots in numbers:
            found = {name: files_by_seed(store, name, task, shots) for name, _ in rows.values()}
            seeds = sorted(set.intersection(*(set(files) for files in found.values())))
            if seeds:
                cells[task, shots] = {
                    row: summary({seed: found[name][seed] for seed in seeds}, decision, of_task)
                    for row, (name, decision) in rows.items()
                }
    return cells


# -------------------------------------------------------------------- verdict


@dataclass(frozen=True)
class Comparison:
    """'nothing set' against the baseline that is best on validation images."""

    baseline: str
    ours: float
    theirs: float
    bounds: tuple[float, float]  # of the difference, 95%, for this cell alone
    p_behind: float
    p_ahead: float

    @property
    def difference(self) -> float:
        return self.ours - self.theirs


def compare(cell: dict[str, Summary], seed: int, baselines: tuple[str, ...] | None = None) -> Comparison:
    """Resample seeds and test images together; the baselines are all rows but ours where none are named."""
    best = min(baselines or [row for row in cell if row != OURS], key=lambda row: cell[row].validation)
    ours, theirs = cell[OURS].errors, cell[best].errors
    rng = np.random.default_rng(seed)
    n_seeds, n_images = ours.shape
    seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), DRAWS) / n_seeds
    images = rng.multinomial(n_images, np.full(n_images, 1 / n_images), DRAWS) / n_images
    drawn = [((seeds @ errors) * images).sum(axis=1) for errors in (ours, theirs)]
    difference = drawn[0] - drawn[1]
    return Comparison(
        best,
        float(ours.mean()),
        float(theirs.mean()),
        tuple(np.quantile(difference, [0.025, 0.975]).tolist()),  # type: ignore[arg-type]
        _tail(difference - MARGIN * drawn[1]),
        _tail(-difference),
    )


def _tail(statistic: np.ndarray) -> float:
    """How often a bootstrapped statistic is not above zero."""
    return float((1 + (statistic <= 0).sum()) / (1 + len(statistic)))


def holm(p: list[float], level: float = LEVEL) -> list[bool]:
    """Which hypotheses Holm's procedure rejects."""
    rejected = [False] * len(p)
    for step, i in enumerate(np.argsort(p)):
        if p[i] > level / (len(p) - step):
            break
        rejected[i] = True
    return rejected


def verdicts(comparisons: list[Comparison]) -> list[str]:
    behind, ahead = holm([c.p_behind for c in comparisons]), holm([c.p_ahead for c in comparisons])
    return ["behind" if b else "ahead" if a else "level" for b, a in zip(behind, ahead, strict=True)]


def baselines_of(cells: Cells) -> tuple[str, ...]:
    """Probes and prompt learners of the embedding, and zero-shot CLIP, which stand in every report."""
    return tuple(row for row in rows_of(cells) if row not in (OURS, *PEERS, *OF_FEATURES))


def further_statements(cells: Cells) -> list[str]:
    """Against the best of those that not every report has."""
    lines = []
    named = {"the best probe of the same features": OF_FEATURES, "the best of the other few-shot methods": PEERS}
    for what, names in named.items():
        rows = tuple(name for name in names if name in rows_of(cells))
        if not rows:
            continue
        comparisons = [compare(cell, seed, rows) for seed, cell in enumerate(cells.values())]
        count = Counter(verdicts(comparisons))
        ratio = np.exp(np.mean([np.log(c.ours / c.theirs) for c in comparisons]))
        lines.append(
            f"Against {what} ({', '.join(rows)}) it is behind in {count['behind']}, level in {count['level']} and "
            f"ahead in {count['ahead']} cells; the ratio of the errors is {ratio:.3f} in the mean, and its error is "
            f"the lower one in {sum(c.difference < 0 for c in comparisons)}."
        )
    return lines


def error_statements(cells: Cells, comparisons: list[Comparison], found: list[str]) -> list[str]:
    lower = sum(c.difference < 0 for c in comparisons)
    error = sum(cell[ZERO_SHOT].mae.mean() < cell[OURS].mae.mean() for cell in cells.values())
    score = sum(cell[ZERO_SHOT].score.mean() < cell[OURS].score.mean() for cell in cells.values())
    count = {name: found.count(name) for name in ("behind", "level", "ahead")}
    named = [f"{task} at {shots}" for (task, shots), v in zip(cells, found, strict=True) if v == "behind"]
    where = f" ({', '.join(named)})" if named else ""
    return [
        f"Against the best baseline of each cell, 'nothing set' is behind in {count['behind']}{where}, level in "
        f"{count['level']} and ahead in {count['ahead']} of {len(found)} cells; its error is the lower one in {lower}.",
        f"Zero-shot CLIP has a lower error than 'nothing set' in {error} cells, and a lower ranked probability score "
        f"in {score}.",
    ]


def score_statement(cells: Cells) -> str:
    rows = {name: next(row for row, (of, _) in ROWS.items() if of == name) for name in FEW_SHOTS}
    peers = tuple(name for name in PEERS if name in rows_of(cells))

    def ahead_of(names: tuple[str, ...]) -> int:
        return sum(
            all(cell[OURS].score.mean() < cell[rows[name]].score.mean() for name in names) for cell in cells.values()
        )

    also = f", and of {', '.join(peers)} too in {ahead_of(PROBES + PROMPT_LEARNERS + peers)}" if peers else ""
    return (
        f"Its ranked probability score is ahead of every probe ({', '.join(PROBES)}) in {ahead_of(PROBES)} of "
        f"{len(cells)} cells, and of the prompt learners as well in {ahead_of(PROBES + PROMPT_LEARNERS)}{also}."
    )


def order_statements(cells: Cells, about: dict[str, dict]) -> list[str]:
    ours = {key: cell[OURS].ordinality.mean() for key, cell in cells.items()}
    kept = [ours[key] >= cell[ZERO_SHOT].ordinality.mean() - 1e-9 for key, cell in cells.items()]
    many = [value for (task, _), value in ours.items() if about[task]["n_ranks"] > 5]
    lines = [f"Ordinality is at least that of zero-shot CLIP in {sum(kept)} of {len(kept)} cells."]
    if many:
        lines.append(
            f"With more than five ranks it is at least {WANTED_ORDER} in {sum(v >= WANTED_ORDER for v in many)} of "
            f"{len(many)} cells; the lowest is {min(many):.2f}."
        )
    return lines


def calibration_statements(cells: Cells) -> list[str]:
    lines, (low, high) = [], WANTED_PIT
    for task in dict.fromkeys(task for task, _ in cells):
        share = np.mean([cell[OURS].pit.mean() for (name, _), cell in cells.items() if name == task])
        where = "within" if low <= share <= high else "outside"
        lines.append(f"{task}: {share:.1%} of the transform lies in (0.1, 0.9), {where} {low:.0%} to {high:.0%}.")
    return lines


# --------------------------------------------------------------------- tables


def interval(values: np.ndarray | list[float], digits: int = 2) -> str:
    """Mean, and half the width of its 95% interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(cells: Cells, task: str, rows: tuple[str, ...], content: Callable[[Summary], str]) -> str:
    shots = [number for name, number in cells if name == task]
    lines = [f"| {task} | {' | '.join(map(str, shots))} |", "|---" * (len(shots) + 1) + "|"]
    for row in rows:
        name = row if rows == rows_of(cells) else ROWS[row][0]
        lines.append(f"| {name} | {' | '.join(content(cells[task, number][row]) for number in shots)} |")
    return "\n".join(lines)


def rows_of(cells: Cells) -> tuple[str, ...]:
    """All rows of a report, which are those of any of its cells."""
    return tuple(next(iter(cells.values())))


def by_fit(row: str) -> bool:
    """Whether a row is the first of its fit: what does not depend on the read-out stands once."""
    return row == next(other for other, (name, _) in ROWS.items() if name == ROWS[row][0])


def tables(cells: Cells, title: str, rows: tuple[str, ...], content: Callable[[Summary], str]) -> list[str]:
    names = dict.fromkeys(task for task, _ in cells)
    return [f"## {title}", *(table(cells, task, rows, content) for task in names)]


def verdict_table(cells: Cells, comparisons: list[Comparison], found: list[str]) -> str:
    lines = [
        "| task | images a rank | nothing set | best baseline | its error | difference (95%) | |",
        "|---" * 7 + "|",
    ]
    for (task, shots), c, verdict in zip(cells, comparisons, found, strict=True):
        lines.append(
            f"| {task} | {shots} | {c.ours:.2f} | {c.baseline} | {c.theirs:.2f} | {c.difference:+.2f} "
            f"({c.bounds[0]:+.2f} to {c.bounds[1]:+.2f}) | {verdict} |"
        )
    return "\n".join(lines)


def introduction(cells: Cells, about: dict[str, dict], backbone: str) -> list[str]:
    counts = [len(cell[OURS].seeds) for cell in cells.values()]
    seeds = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    parts = [
        f"Made by `python benchmarks/evidence.py --only few_shots`: {len(cells)} cells, seeds in each: {seeds}, "
        f"{backbone}, CPU. Errors are MAE in ranks on test images, mean ± half of the 95% interval over the seeds.",
        READ_OUTS,
    ]
    left_out = [name for name in PHOTOGRAPHS if name not in about]
    if left_out:
        parts.append(f"Left out, as no folder with the photographs was named: {', '.join(left_out)}.")
    not_fitted = [name for name in PEERS + OF_FEATURES if name not in rows_of(cells)]
    if not_fitted:
        parts.append(f"Left out, as there are no fits of them: {', '.join(not_fitted)}.")
    return parts + notes_of_age(frozenset().union(*(cell[OURS].libraries for cell in cells.values())))


def write(store: Path, file: Path, backbone: str = BACKBONE) -> None:
    """Write the report of what there is."""
    about = json.loads((store / LABELS).read_text())
    cells = read(store, about)
    if not cells:
        print("few_shots: no cell is complete yet")
        return
    baselines = baselines_of(cells)
    comparisons = [compare(cell, seed, baselines) for seed, cell in enumerate(cells.values())]
    found = verdicts(comparisons)
    statements = [
        *error_statements(cells, comparisons, found),
        *further_statements(cells),
        score_statement(cells),
        *order_statements(cells, about),
        *calibration_statements(cells),
    ]
    fits = tuple(row for row in rows_of(cells) if by_fit(row))
    parts = [
        f"# Evidence: few images a rank, {backbone}",
        *introduction(cells, about, backbone),
        "## What holds",
        "\n".join(f"- {line}" for line in statements),
        f"The baseline of a cell is the one with the lowest error on validation images, of zero-shot CLIP, probes and "
        f"prompt learners on the embedding. Behind: the lower 95% bound of "
        f"the difference lies above {MARGIN:.0%} of the baseline's error; ahead: the upper one lies below zero; both "
        f"one-sided, from {DRAWS:,} draws of seeds and test images together, Holm over all cells. The interval in the "
        "table is two-sided and for its cell alone. The transform is the randomised probability integral transform, "
        "u = F(y - 1) + U p(y), which a calibrated distribution fills evenly; shares are averaged over U, and those "
        "above over numbers of images.",
        verdict_table(cells, comparisons, found),
        *tables(cells, "Error by images a rank", rows_of(cells), lambda s: interval(s.mae)),
        *tables(cells, "Ranked probability score", fits, lambda s: interval(s.score)),
        *tables(cells, "Ordinality of the prototypes", (OURS, ZERO_SHOT), lambda s: interval(s.ordinality)),
        *tables(
            cells,
            f"Calibration: share of the transform in (0.1, 0.9); coverage and mean width, in ranks, of the central "
            f"interval of {COVERAGE:.0%}",
            fits,
            lambda s: f"{s.pit.mean():.0%}; {s.coverage.mean():.0%}, {s.width.mean():.1f}",
        ),
        *tables(cells, "CPU seconds a fit, one thread", fits, lambda s: interval(s.seconds, 1)),
    ]
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {file}")
