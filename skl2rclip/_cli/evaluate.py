"""Score a model on images whose ranks are known, with intervals, and plot how it errs.

The rows are scores, the columns score, value, lower, upper and images. Lower and upper are the ends of an interval
that holds 95 % of the values under resampling (a percentile bootstrap of images, or with --group of whole groups,
which is wider where images of a group are alike); they are empty where there is a single one. Errors are in the unit of
the labels, for words in ranks.

With --case the scores are of cases, each predicted from all of its images, which must have one rank; cases are drawn
anew, or with --group whole groups of them, and the column cases says how many there are.

Images that cannot be read are said and left out, and the command ends with status 1.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from skl2rclip import metrics
from skl2rclip._classifier import L2RCLIPClassifier
from skl2rclip._cli.cases import Cases, add_case, check_case
from skl2rclip._cli.console import Console, DataError, UsageError
from skl2rclip._cli.inputs import LabelledImages, NamedImage, add_labelled, add_ranks, labelled_images, written_in
from skl2rclip._cli.models import (
    RUNNING,
    Pass,
    Predicted,
    ReadOut,
    add_coverage,
    add_model,
    checked_coverage,
    loaded_model,
)
from skl2rclip._cli.output import add_output, check_file, check_folder, rounded, rows_out
from skl2rclip._cli.parsing import user_path
from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.labels import holds_numbers, listing
from skl2rclip._ordinal.order_inference import written_numbers
from skl2rclip._ordinal.ranks import default_name
from skl2rclip._ordinal.resampling import drawn_anew, resampled_means, sums_by_group
from skl2rclip._utils.scratch import put_in_place, scratch_folder
from skl2rclip.errors import visible

_N_RESAMPLES = 1000
_PLOTS = ("confusion", "predictions", "calibration", "largest-errors", "prototypes", "history")


def add_options(parser: Any) -> None:
    """Add what is scored, and what is written and drawn of it."""
    parser.usage = "%(prog)s MODEL TABLE|FOLDER [options]"
    add_model(parser, *RUNNING, "decision", "mirror")
    add_labelled(parser, "Images whose ranks are known, and that the model has not learned from")
    add_ranks(
        parser,
        "Ranks as the table or folder writes them, where these are neither the words nor the labels of the model; in "
        "its order, from the lowest to the highest.",
    )
    add_case(parser, "The scores are of cases then, and a case is drawn as a whole.")
    add_coverage(parser, 0.8)
    parser.add_argument(
        "--plots",
        metavar="DIR",
        type=user_path,
        help=f"Draw {', '.join(_PLOTS)} as PNG files of these names; needs the extra plot.",
    )
    add_output(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Predict, score, draw."""
    check_case(options)
    coverage = checked_coverage(options)
    output = check_file("--output", options.output, options.overwrite)
    if options.plots is not None:
        _check_plots(options.plots, options.overwrite)
    model = loaded_model(options)
    ranks = _ranks_written(options, model)
    read = labelled_images(options, console, ranks)
    places = {rank: place for place, rank in enumerate(read.bunch.ranks)}
    true = np.array([places[label] for label in read.bunch.target.tolist()])
    cases = _cases_of(read, options)
    read_out = ReadOut(model, coverage)
    passed = Pass(console, read_out.of_images)
    images = [NamedImage(str(path), path) for path in read.bunch.data]
    good, probabilities, _ = passed.gathered(passed.over(images, console.bars_beside(output), "predicting"))
    groups = np.arange(len(images)) if read.groups is None else np.unique(read.groups, return_inverse=True)[1]
    of_images = scored = _Scored(true[good], read_out(probabilities), groups[good])
    if cases is not None:
        there, said = cases.pooled(probabilities, good, options.pool, read_out)
        cases.note_missing(there, console)
        first = np.unique(cases.of_image, return_index=True)[1][there]  # which says what all images of a case do
        scored = _Scored(true[first], said, there if options.group is None else groups[first])
    rows = scores(scored.true, scored.said, model._state.scale.values, scored.groups, _N_RESAMPLES)
    counts = [] if cases is None else [len(scored.true)]
    columns = ["score", "value", "lower", "upper", *(["cases"] if counts else []), "images"]
    with rows_out(output, columns, options.format) as out:
        out.write([name, *rounded(values), *counts, int(good.sum())] for name, values in rows.items())
    if options.plots is not None:
        _draw(options.plots, model, list(compress(read.bunch.data, good)), of_images, scored, coverage)
    return 1 if read.missed else passed.end()


@dataclass(frozen=True)
class _Scored:
    """Images, or cases, with their true ranks."""

    true: np.ndarray  # (n,), positions
    said: Predicted
    groups: np.ndarray  # (n,), what is drawn together


def _cases_of(read: LabelledImages, options: argparse.Namespace) -> Cases | None:
    """Tell which images are of one case, all of which must have the same rank, and group."""
    if options.case is None:
        return None
    cases, bunch = Cases(read.bunch.cases.tolist()), read.bunch
    word_of = dict(zip(bunch.ranks, bunch.rank_names, strict=True))
    cases.values([word_of[label] for label in bunch.target.tolist()], "rank", options.case)
    if options.group is not None:
        cases.values(bunch.groups.tolist(), "group", options.case)
    return cases


def _ranks_written(options: argparse.Namespace, model: L2RCLIPClassifier) -> Sequence[Any]:
    """All ranks as the table or folder writes them, in the order of the model: its words, or its labels."""
    labels, words = model.ranks_.tolist(), list(model.rank_names_.values())
    if options.ranks is not None:
        if len(options.ranks) != len(labels):
            raise UsageError(f"--ranks must list the {len(labels)} ranks of the model, got {len(options.ranks)}")
        return options.ranks
    written = sorted({each if isinstance(each, str) else default_name(each) for each in written_in(options)})
    readings = written_numbers(written) if holds_numbers(model.ranks_) else []
    by_label = _places_of_labels(written, readings, labels)
    is_named = words != [default_name(label) for label in labels]
    if is_named and set(written) <= set(words):
        if by_label and [words.index(word) for word in written] not in by_label:
            raise DataError(
                f"{visible(options.source)} has the ranks {listing(written)}, which are words of the model and labels "
                f"of others of its ranks: --ranks {','.join(words)} takes them for words, --ranks "
                f"{','.join(map(default_name, labels))} for labels"
            )
        return words
    if by_label:
        return labels
    if is_named and (set(written) & set(words) or not readings):
        _check_known(sorted(set(written) - set(words)), options, words)
    if len(readings) == 1:
        _check_known([default_name(number) for number in sorted({*readings[0]} - {*labels})], options, words)
    return labels


def _places_of_labels(written: list[str], readings: list[list[float]], labels: list[Any]) -> list[list[int]]:
    """Positions along the ranks of what is written, where all are labels; several where numbers have two readings."""
    names = list(map(default_name, labels))
    if set(written) <= set(names):
        return [[names.index(word) for word in written]]
    return [[labels.index(number) for number in reading] for reading in readings if set(reading) <= set(labels)]


def _check_known(unknown: list[str], options: argparse.Namespace, words: list[str]) -> None:
    if unknown:
        raise DataError(
            f"{visible(options.source)} has ranks that the model does not know, {listing(unknown)}; it knows "
            f"{listing(words)}, for which --ranks says what stands there, in this order"
        )


# -------------------------------------------------------------------- scores


def scores(
    true: np.ndarray, said: Predicted, values: np.ndarray, groups: np.ndarray, n_resamples: int
) -> dict[str, tuple[float, float, float]]:
    """Score predictions: value, and the ends of its interval of 95 %, by the name of the metric.

    Parameters
    ----------
    true : ndarray of shape (n,)
        Positions along the ranks.
    said : Predicted
    values : ndarray of shape (K,)
        Numeric values of the ranks.
    groups : ndarray of shape (n,), int
        What is drawn together, numbered from 0.
    n_resamples : int
    """
    assert said.interval is not None
    errors = np.abs(values[said.predicted] - values[true])
    lower, upper = said.interval.T
    of_images = {
        "accuracy": said.predicted == true,
        "accuracy_within_1_rank": np.abs(said.predicted - true) <= 1,
        "mean_absolute_error": errors,
        "mean_absolute_expectation_error": np.abs(values[true] - said.expectation),
        "ranked_probability_score": ranked_scores(said.probabilities, true),
        "interval_coverage": (lower <= true) & (true <= upper),
        "mean_interval_width": np.abs(values[upper] - values[lower]),
    }
    table = np.stack([column.astype(np.float64) for column in of_images.values()])  # (metrics, n)
    group = np.unique(groups, return_inverse=True)[1]
    sums, counts = sums_by_group(table, group)
    n_groups, kappa = len(counts), _kappa(true, said.predicted, len(values))
    weights = (np.bincount(rows, minlength=n_groups)[group] for rows in drawn_anew(n_groups, n_resamples, seed=0))
    kappas = [kappa(weight.astype(np.float64)) for weight in weights]
    drawn = np.vstack([resampled_means(sums, counts, n_resamples, seed=0), kappas])  # of the same draws
    found = [*table.mean(axis=1), kappa(np.ones(len(true)))]
    ends = np.percentile(drawn, (2.5, 97.5), axis=1)
    if n_groups < 2:  # which say nothing of others
        ends = np.full_like(ends, np.nan)
    names = [*of_images, "quadratic_weighted_kappa"]
    return {name: (value, low, high) for name, value, low, high in zip(names, found, *ends, strict=True)}


def _kappa(true: np.ndarray, predicted: np.ndarray, n_ranks: int) -> Callable[[np.ndarray], float]:
    """Make the function that computes quadratic weighted kappa by weights of the images, from pairs of ranks."""
    cells, cell = np.unique(true * n_ranks + predicted, return_inverse=True)
    pairs = np.divmod(cells, n_ranks)

    def kappa(weight: np.ndarray) -> float:
        in_cells = np.bincount(cell, weight, len(cells))
        drawn = in_cells > 0
        return metrics.quadratic_weighted_kappa(
            pairs[0][drawn], pairs[1][drawn], ranks=range(n_ranks), sample_weight=in_cells[drawn]
        )

    return kappa


# --------------------------------------------------------------------- plots


def _check_plots(folder: str, overwrite: bool) -> None:
    from skl2rclip.inspection._drawing import pyplot

    pyplot("evaluate --plots")
    check_folder("--plots", folder)
    there = [name for name in _PLOTS if os.path.lexists(os.path.join(folder, f"{name}.png"))]
    if there and not overwrite:
        raise UsageError(f"{visible(os.path.join(folder, there[0]))}.png exists; --overwrite replaces it")


def _draw(
    folder: str,
    model: L2RCLIPClassifier,
    images: list[Any],
    of_images: _Scored,
    scored: _Scored,
    coverage: float | None,
) -> None:
    """Draw displays into a folder, all of them or none; those that show images show each by itself."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from skl2rclip import inspection

    said, ranks = scored.said, model.ranks_
    y = ranks[scored.true]
    shown: dict[str, Any] = {"ranks": ranks, "display_labels": said.words}
    assert said.interval is not None
    proba = said.probabilities[:, model._state.scale.class_order]
    drawn: dict[str, Callable[[], Any]] = {
        "confusion": lambda: inspection.OrdinalConfusionDisplay.from_predictions(y, said.labels, **shown),
        "predictions": lambda: inspection.RankPredictionDisplay.from_predictions(
            y, said.labels, y_interval=ranks[said.interval], coverage=coverage, **shown
        ),
        "calibration": lambda: inspection.RankCalibrationDisplay.from_predictions(y, proba, ranks=ranks),
        "largest-errors": lambda: inspection.LargestErrorsDisplay.from_predictions(
            images, ranks[of_images.true], of_images.said.labels, **shown
        ),
        "prototypes": lambda: inspection.PrototypeSimilarityDisplay.from_estimator(model),
        "history": lambda: inspection.TrainingHistoryDisplay.from_estimator(model),
    }
    if not model.history_:  # it has not been trained
        del drawn["history"]
    os.makedirs(folder, exist_ok=True)
    with scratch_folder(Path(folder), "plots") as scratch:
        for name, draw in drawn.items():
            figure = draw().figure_
            figure.savefig(scratch / f"{name}.png", dpi=150)
            plt.close(figure)
        for name in drawn:
            put_in_place(scratch / f"{name}.png", Path(folder) / f"{name}.png")
