"""Intervals of any metric, from images drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
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
        If lengths do not fit, there are fewer than two images, or groups, to draw from, a metric returns no number, or
        one of two models is called "difference".
    TypeError
        If a metric is no function.

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
    true, models, functions = _rows(y_true, "y_true"), _by_name(predictions), _by_name(metrics)
    rows = {name: _rows(each, _called("predictions", name)) for name, each in models.items()}
    for name, each in rows.items():
        if len(each) != len(true):
            raise ValueError(f"{_called('predictions', name)} has {len(each)} rows, and y_true {len(true)} labels.")
    _check_names(rows, functions)
    draws = _draws(_members(groups, len(true)), n_resamples, random_state)
    of_draws = [
        [
            [_number(score(true[index], each[index]), name) for each in rows.values()]
            for name, score in functions.items()
        ]
        for index in chain([slice(None)], draws)
    ]
    found = Bunch()
    for name, values in zip(functions, np.moveaxis(np.array(of_draws), 0, -1), strict=True):  # (models, 1 + draws)
        said = dict(zip(rows, values, strict=True))
        if len(said) == 2:
            said["difference"] = values[0] - values[1]
        found[name] = Bunch()
        found[name].update({model: _summary(each, confidence_level) for model, each in said.items()})
        found[name] = found[name] if isinstance(predictions, Mapping) else found[name][None]
    return found if isinstance(metrics, Mapping) else found[None]


def _by_name(given: Any) -> Mapping[Any, Any]:
    """Several by their names, and a single one by None."""
    return given if isinstance(given, Mapping) else {None: given}


def _called(parameter: str, name: Any) -> str:
    return parameter if name is None else f"{parameter}[{name!r}]"


def _check_names(models: Mapping[Any, Any], functions: Mapping[Any, Any]) -> None:
    if not 1 <= len(models) <= 2:
        names = f": {', '.join(map(str, models))}" if models else ""
        raise ValueError(f"predictions must be of one model or of two, got {len(models)}{names}.")
    if len(models) == 2 and "difference" in models:
        raise ValueError(
            "predictions has a model called 'difference', as the result calls the first less the second: give it "
            "another name."
        )
    if not functions:
        raise ValueError("metrics holds no metric.")
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(
                f"{_called('metrics', name)} must be a function (several: a dict of them), got {function!r}."
            )


def _rows(values: Any, name: str) -> Any:
    """Rows that an array of indices can choose from, of labels with an order of their own too."""
    values = getattr(values, "array", values)  # of a Series, whose index is not the place
    if hasattr(values, "categories"):
        return values
    rows = np.asanyarray(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if not rows.ndim:
        kind = type(values).__name__
        raise ValueError(f"{name} must hold a row for each image, got {kind}: make it a list first.")
    return rows


def _number(value: Any, name: Any) -> float:
    """Check what a metric returned."""
    try:
        number = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        number = None
    if value is None or number is None or number.ndim:
        raise ValueError(f"{_called('metrics', name)} must return a number, got {type(value).__name__}.")
    return float(number)


def _members(groups: Any, n: int) -> list[np.ndarray]:
    """Rows of what is drawn together."""
    group = np.arange(n) if groups is None else check_groups(groups, n)
    counts = np.bincount(group)
    if len(counts) < 2:
        kind = "images" if groups is None else "groups"
        raise ValueError(f"There must be two {kind} to draw from, got {len(counts)}.")
    return np.split(np.argsort(group, kind="stable"), counts.cumsum()[:-1])


def _draws(members: list[np.ndarray], n_resamples: int, random_state: Any) -> Iterator[np.ndarray]:
    """Draw rows anew, one draw at a time: as many as there are images take much memory together."""
    generator, n = check_random_state(random_state), len(members)
    return (np.concatenate([members[i] for i in generator.randint(n, size=n)]) for _ in range(n_resamples))


def _summary(values: np.ndarray, confidence_level: float) -> Bunch:
    """Name the score of all images, which comes first, and the percentiles of the draws that can be scored."""
    outside = 50 * (1 - confidence_level)
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, [outside, 100 - outside]) if len(drawn) else (np.nan, np.nan)
    return Bunch(score=float(values[0]), low=float(low), high=float(high))
