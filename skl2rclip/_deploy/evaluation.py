"""How far a fitted model is off on images that it is shown, in figures for a model card.

Everything is NumPy on positions along the ranks; images, models and what is written of the figures are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skl2rclip._ordinal.decisions import central_interval, ranked_scores
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._ordinal.resampling import resampled_means, sums_by_group
from skl2rclip.metrics import quadratic_weighted_kappa

COVERAGE, COVERAGE_IN_WORDS = 0.8, "80 %"
_N_DRAWS = 1_000
# groups, or images where there are none, of which draws say something
_MIN_DRAWN = 10


@dataclass(frozen=True)
class Score:
    """A figure, and between which it lies in 95 % of the draws of other such images."""

    key: str
    name: str
    value: float
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was found of n images."""

    true: np.ndarray  # (n,), positions of the true ranks
    predicted: np.ndarray  # (n,), positions of the predicted ones
    n_groups: int | None  # that the images are of, where it is known
    scores: tuple[Score, ...]
    constant_error: float  # mean absolute error of the best answer that is always the same
    n_images: np.ndarray  # (K,), of each rank
    errors: np.ndarray  # (K,), mean absolute error of each rank; NaN of ranks without images
    held: np.ndarray  # (K,), share of each rank's images whose interval holds it; NaN likewise


def evaluate(
    scale: RankScale, true: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None
) -> Evaluation:
    """Compare predictions with the truth.

    Parameters
    ----------
    scale : RankScale
    true, predicted : ndarray of shape (n,)
        Positions in rank order.
    probabilities : ndarray of shape (n, K)
        Columns in rank order.
    groups : ndarray of shape (n,) or None
        Images of one group are drawn together.
    """
    values = scale.values
    errors, steps = np.abs(values[true] - values[predicted]), np.abs(true - predicted)
    interval = central_interval(probabilities, COVERAGE)
    held = (interval[:, 0] <= true) & (true <= interval[:, 1])
    means = {
        "mae": ("Mean absolute error", errors),
        "accuracy": ("Accuracy", steps == 0),
        "within_one_rank": ("At most one rank off", steps <= 1),
        "rps": ("Ranked probability score", ranked_scores(probabilities, true)),
        "interval_coverage": (f"True rank in the {COVERAGE_IN_WORDS} interval", held),
    }
    bounds = _bounds(np.stack([column for _, column in means.values()]).astype(float), groups)
    scores = [
        Score(key, name, float(column.mean()), None if bounds is None else (float(bounds[0, i]), float(bounds[1, i])))
        for i, (key, (name, column)) in enumerate(means.items())
    ]
    every = np.arange(len(values))
    kappa = quadratic_weighted_kappa(true, predicted, ranks=every)
    scores.append(Score("quadratic_weighted_kappa", "Quadratic weighted kappa", kappa))
    return Evaluation(
        true=true,
        predicted=predicted,
        n_groups=None if groups is None else len(np.unique(groups)),
        scores=tuple(scores),
        constant_error=float(np.abs(values[:, None] - values[true]).mean(axis=1).min()),
        n_images=np.bincount(true, minlength=len(values)),
        errors=_means_by_rank(errors, true, len(values)),
        held=_means_by_rank(held, true, len(values)),
    )


def _means_by_rank(column: np.ndarray, true: np.ndarray, n_ranks: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.bincount(true, column, minlength=n_ranks) / np.bincount(true, minlength=n_ranks)


def _bounds(columns: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
    """Bounds (2, M) of the means of columns (M, n) in 95 % of the draws of groups, with replacement."""
    group = np.arange(columns.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = sums_by_group(columns, group)
    if len(counts) < _MIN_DRAWN:
        return None
    return np.quantile(resampled_means(sums, counts, _N_DRAWS, seed=0), [0.025, 0.975], axis=1)
