"""One look-up of labels and the order of their ranks, for metrics, scorers and displays.

Who brings the labels, or has learned their order, is not known here: labels come with the name that messages call them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import check_comparable, check_labels, holds_numbers, listing
from skl2rclip._ordinal.ranks import RankScale, given_ranks, order_unknown, own_order, same_order, scale_of, union_of


@dataclass(frozen=True)
class NamedLabels:
    """Labels, checked."""

    name: str  # what messages call them
    values: np.ndarray  # (n,), as `check_labels` returns them
    own: np.ndarray | None = None  # (K,), order that they bring themselves, as an ordered Categorical does

    @classmethod
    def of(cls, y: Any, name: str) -> NamedLabels:
        """Check labels as they were given."""
        return cls(name, check_labels(y, name), own_order(y))


def known_scale(
    labels: Sequence[NamedLabels], *, learned: Sequence[np.ndarray] = (), ranks: Any = None, advice: str = ""
) -> RankScale:
    """Look the ranks of labels up.

    The order is, in this order: `ranks`; for numbers their own, of all that is known; for words what was learned,
    unless it disagrees; that of an ordered Categorical, where the first labels are one.

    `labels` begin with the true ones, where there are any; `learned` are labels in rank order, as estimators have
    learned them; `advice` says what to do where the order of words is not known.

    Raises
    ------
    ValueError
        If words and numbers would be compared, or the order of words is not known, or known in two ways.
    """
    first, *others = labels
    for other in others:
        check_comparable(first.values, first.name, other.values, other.name)
    if ranks is not None:
        return scale_of(given_ranks(ranks))
    orders = [each for each in labels if each.own is not None]
    for one, other in pairwise(orders):
        if not same_order(one.own, other.own):  # type: ignore[arg-type]
            raise ValueError(
                f"{one.name} and {other.name} are Categoricals in two orders: give both the same, or give ranks=[...]."
            )
    learned = [each for each in learned if holds_numbers(each) == holds_numbers(first.values)]
    if holds_numbers(first.values):
        own = [] if first.own is None else [first.own]
        return scale_of(union_of([*(each.values for each in labels), *own, *learned]))
    return scale_of(_order_of_words(labels, learned, advice))


def _order_of_words(labels: Sequence[NamedLabels], learned: Sequence[np.ndarray], advice: str) -> np.ndarray:
    first = labels[0]
    orders = {tuple(order.tolist()) for order in learned}
    if len(orders) == 1:  # parts of an ensemble may disagree
        order = np.array(orders.pop())
        if first.own is not None and not same_order(first.own, order):
            raise ValueError(
                f"{first.name} is a Categorical in the order {listing(first.own.tolist())}, and the estimator has "
                f"learned the order {listing(order.tolist())}: set one of them right, or give ranks=[...] to both."
            )
        return order
    if first.own is not None:
        scale = scale_of(first.own)
        for each in labels:
            scale.encode(np.unique(each.values), each.name)  # which names what is not among the categories
        return first.own
    words = union_of([each.values for each in labels])
    if len(words) == 1:
        return words
    raise ValueError(f"{order_unknown(words)} {advice}".rstrip())


def encoded_pair(y_true: Any, y_pred: Any, ranks: Any = None) -> tuple[RankScale, np.ndarray, np.ndarray]:
    """Look up the ranks of true and predicted labels, and the positions of both, ndarrays of shape (n,), int64."""
    predicted = NamedLabels.of(y_pred, "y_pred")
    true = true_labels(y_true, len(predicted.values), "y_pred")
    scale = known_scale([true, predicted], ranks=ranks)
    return scale, scale.encode(true.values, "y_true"), scale.encode(predicted.values, "y_pred")


def true_labels(y_true: Any, n: int, name: str) -> NamedLabels:
    """Check true labels, one for each of the n entries of what is called `name`, and at least one."""
    true = NamedLabels.of(y_true, "y_true")
    if len(true.values) != n:
        raise ValueError(f"y_true and {name} must have the same length, got {len(true.values)} and {n}.")
    if not n:
        raise ValueError(f"y_true and {name} are empty.")
    return true


# --------------------------------------------------------------- probabilities


def check_probabilities(y_true: Any, y_proba: Any) -> tuple[NamedLabels, np.ndarray]:
    """Check true labels and the probabilities of each, ndarray of shape (n, n_columns), float64."""
    true = NamedLabels.of(y_true, "y_true")
    y_proba = _array_of_probabilities(y_proba)
    n, shape = len(true.values), y_proba.shape
    if len(shape) != 2 or shape[0] != n:
        raise ValueError(f"y_proba must have a row for each of the {n} labels, got the shape {shape}.")
    if not n:
        raise ValueError("y_true and y_proba are empty.")
    return true, check_distributions(y_proba)


def check_distributions(y_proba: Any) -> np.ndarray:
    """Check rows of probabilities, ndarray of shape (n, n_columns), float64."""
    probabilities = _array_of_probabilities(y_proba)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(f"y_proba must have the shape (n, K), got {probabilities.shape}.")
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise ValueError("y_proba must hold probabilities, got negative or infinite values, or NaN.")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("y_proba must hold rows that sum to one.")
    return probabilities


def _array_of_probabilities(y_proba: Any) -> np.ndarray:
    """Make an array of what may be a table of numbers, float64, NaN where an entry is masked."""
    try:
        return np.where(np.ma.getmask(y_proba), np.nan, np.asarray(y_proba, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"y_proba must hold rows of as many numbers as there are ranks: {error}.") from error


def scale_of_columns(true: NamedLabels, n_columns: int, ranks: Any = None, *, of_labels: bool = False) -> RankScale:
    """Look up the ranks behind columns of probabilities, which are in the order of the sorted labels.

    `ranks` are all labels, lowest first. Without them an ordered Categorical gives them, or the labels are the integers
    0 to ``n_columns - 1``; `of_labels` takes the labels for all that there are, where none of these holds.
    """
    if ranks is None and true.own is None:
        unknown = sorted(set(true.values.tolist()) - set(range(n_columns)))
        if not unknown:
            return scale_of(np.arange(n_columns))
        if not of_labels:
            raise ValueError(
                f"{true.name} contains labels that are not among the ranks: {listing(unknown)}. Without ranks they "
                f"must be the integers 0 to {n_columns - 1}, one for each column of y_proba. Give all labels, lowest "
                "first: ranks=classifier.ranks_."
            )
    scale = known_scale([true], ranks=ranks)
    n_ranks = len(scale.ranks)
    if n_ranks != n_columns:
        if ranks is not None:
            said = f"ranks lists {n_ranks} labels"
        elif true.own is not None:
            said = f"{true.name} has as categories {n_ranks} labels"
        else:
            said = f"{n_ranks} labels are known: give all labels, lowest first, with ranks=[...]"
        raise ValueError(f"y_proba has {n_columns} columns, but {said}.")
    return scale


def in_rank_order(probabilities: Any, columns: np.ndarray, n_ranks: int) -> np.ndarray:
    """Put columns of probabilities at their positions in rank order, ndarray of shape (n, n_ranks), float64.

    Ranks that no column stands for have no probability.
    """
    result = np.zeros((len(probabilities), n_ranks))
    result[:, columns] = probabilities
    return result
