"""Intervals of any metric, from images drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skl2rclip._utils.arguments import check_groups, check_integer, check_real

Metric = Callable[[Any, Any], float]


def bootstrap_scores(
    y_true: Any,
    predictions: Any,
    metrics: Metric | Mapping[str, Metric],
    groups: Any = None,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> Bunch:
    """Score predictions, with intervals by the percentiles of images drawn anew, of two models in pairs.

    Of n images, n are drawn with replacement, and scored again; with `groups`, whole groups are. Two models are scored
    on the same draws, so that the interval of their difference is that of the models and not of the images. The
    intervals say how far other images of the same kind would move the scores of these very models: neither how other
    training images would, nor other kinds of images.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    predictions : array-like of shape (n,) or (n, ...), or mapping of names to two such
        What the metrics take beside `y_true`: labels, probabilities or intervals; of one model, or of two.
    metrics : callable, or mapping of names to callables
        Each is called as ``metric(y_true, predictions)`` and returns a number, such as the functions of this module:
        ``functools.partial`` says the ranks, where it has to know them.
    groups : array-like of shape (n,), optional
        What an image belongs to: a patient, a plant. Images of one group are not independent.
    n_resamples : int, default=1000
        How often images are drawn anew; more of them steady the ends of the intervals, and take longer.
    confidence_level : float, default=0.95
        In (0, 1).
    random_state : int, RandomState or None, default=None
        Seed of the draws; an int gives the same intervals at each call.

    Returns
    -------
    Bunch
        For each metric, or at once of a single one, a Bunch with `score`, `low` and `high`; of two models by name, with
        their `difference`, the first less the second, too.

    Raises
    ------
    ValueError
        If lengths do not fit, or there are fewer than two images, or groups, to draw from.

    References
    ----------
    Percentile intervals: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13. Whole groups:
    Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8.

    Examples
    --------
    >>> import numpy as np
    >>> from skl2rclip.metrics import bootstrap_scores, mean_absolute_rank_error
    >>> y = np.tile([0, 1, 2, 3], 25)
    >>> said = {"ours": y, "always 1": np.ones(100, int)}
    >>> scores = bootstrap_scores(y, said, mean_absolute_rank_error, random_state=0)
    >>> scores["ours"].score, scores["always 1"].score, scores.difference.score
    (0.0, 1.0, -1.0)
    >>> bool(scores.difference.low < -1 < scores.difference.high)
    True
    """
    check_integer("n_resamples", n_resamples, minimum=1)
    check_real("confidence_level", confidence_level, low=0, high=1, open_ends=True)
    true = _rows(y_true)
    models = predictions if isinstance(predictions, Mapping) else {"": predictions}
    if len(models) > 2:
        names = ", ".join(map(str, models))
        raise ValueError(f"predictions must be of one model or of two, got {len(models)}: {names}.")
    rows = {name: _rows(each) for name, each in models.items()}
    for name, each in rows.items():
        if len(each) != len(true):
            of = f"predictions[{name!r}]" if name else "predictions"
            raise ValueError(f"{of} has {len(each)} rows, and y_true {len(true)} labels.")
    of_groups = _members(groups, len(true))
    functions = metrics if isinstance(metrics, Mapping) else {"": metrics}
    drawn = _draws(of_groups, n_resamples, random_state)
    every = slice(None)
    found = Bunch()
    for metric, function in functions.items():
        values = {
            name: np.array([function(true[index], each[index]) for index in (every, *drawn)], dtype=np.float64)
            for name, each in rows.items()
        }
        if len(values) == 2:
            one, other = values.values()
            values["difference"] = one - other
        summaries = {name: _summary(each, confidence_level) for name, each in values.items()}
        found[metric] = summaries[""] if "" in summaries else Bunch(**summaries)
    return found[""] if not isinstance(metrics, Mapping) else found


def _rows(values: Any) -> Any:
    """Rows that an array of indices can choose from, of labels with an order of their own too."""
    values = getattr(values, "array", values)  # of a Series, whose index is not the place
    return values if hasattr(values, "categories") else np.asarray(values)


def _members(groups: Any, n: int) -> list[np.ndarray]:
    """Rows of what is drawn together."""
    if groups is None:
        members = list(np.arange(n)[:, None])
    else:
        group = check_groups(groups, n)
        members = [np.flatnonzero(group == number) for number in range(int(group.max(initial=-1)) + 1)]
    if len(members) < 2:
        kind = "images" if groups is None else "groups"
        raise ValueError(f"There must be two {kind} to draw from, got {len(members)}.")
    return members


def _draws(members: list[np.ndarray], n_resamples: int, random_state: Any) -> list[np.ndarray]:
    generator, n = check_random_state(random_state), len(members)
    return [np.concatenate([members[i] for i in generator.randint(n, size=n)]) for _ in range(n_resamples)]


def _summary(values: np.ndarray, confidence_level: float) -> Bunch:
    """Name the score of all images, which comes first, and the percentiles of the draws that can be scored."""
    outside = 50 * (1 - confidence_level)
    low, high = np.nanpercentile(values[1:], [outside, 100 - outside])
    return Bunch(score=float(values[0]), low=float(low), high=float(high))
