"""What the labels mean: their order, their words, their distances.

Everything here is NumPy on arrays of labels. Images, torch and the estimator are not known, and neither is who calls:
labels are checked by themselves alone, so that a fit alone, in a search and in a meta-estimator get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skl2rclip._ordinal.columns import categories_in_order, label_column
from skl2rclip._ordinal.labels import NUMBERED, array_of, check_labels, difference, holds_numbers, kept_apart, listing
from skl2rclip._ordinal.order_inference import plain_order
from skl2rclip._utils.arguments import (
    BROKEN_TEXT,
    is_broken_text,
    is_interval,
    keys_as_words,
    plain_label,
    warn_user,
)
from skl2rclip._utils.names import near_word
from skl2rclip.errors import InvalidParameterError

# of a list that is there to be pasted
_MAX_PASTED = 1000
# of numbers, from the lowest to the highest label: squares of less are zero, and of its inverse infinite
_MIN_EXTENT = 1e-150

RankNames = Mapping[Any, str] | Sequence[str] | Callable[[Any], str] | None


@dataclass(frozen=True)
class RankScale:
    """The K ranks of a fitted model, lowest first."""

    ranks: np.ndarray  # (K,), labels
    values: np.ndarray  # (K,), float64: the label itself where labels are numbers, else 1..K
    names: tuple[str, ...]  # the word that stands for each rank in its prompt

    @property
    def classes(self) -> np.ndarray:
        """Labels sorted as scikit-learn sorts them, ndarray of shape (K,)."""
        return self.ranks[self.class_order]

    @property
    def class_order(self) -> np.ndarray:
        """Index into `ranks` of each sorted class, ndarray of shape (K,)."""
        return np.argsort(self.ranks, kind="stable")

    @property
    def names_by_label(self) -> dict[Any, str]:
        """Word of each rank by its label, in rank order."""
        return dict(zip(self.ranks.tolist(), self.names, strict=True))

    def encode(self, y: np.ndarray, name: str = "y") -> np.ndarray:
        """Index in rank order of each label, ndarray of shape (n,), int64.

        Raises
        ------
        ValueError
            If a label is not a rank; names the first of them, and calls `y` by its `name`.
        """
        index = {label: position for position, label in enumerate(self.ranks.tolist())}
        unknown = sorted({label for label in y.tolist() if label not in index})
        if unknown:
            raise ValueError(
                f"{name} contains labels that are not among the ranks: {listing(unknown)}. The ranks are "
                f"{listing(self.ranks.tolist())}.{near_word(unknown, self.ranks.tolist())} {self._advice(y, name)}"
            )
        return np.array([index[label] for label in y.tolist()], dtype=np.int64)

    def _advice(self, y: np.ndarray, name: str) -> str:
        if holds_numbers(y) == holds_numbers(self.ranks):
            add = "Add what is missing to ranks=[...]."
            if not holds_numbers(y) or name != "y":  # those number y alone
                return add
            # who numbered them must not be told to take the numbers for ranks
            is_numbered = np.array_equal(np.unique(y), np.arange(len(np.unique(y))))
            return f"{NUMBERED} Where nobody has numbered them: {add}" if is_numbered else f"{add} {NUMBERED}"
        listed = f"ist the labels as they are in {name}, lowest first, such as ranks={_in_an_order(y)}."
        nobody = "Where nobody has numbered them, l" if holds_numbers(y) else "L"
        return f"{difference(y, name, self.ranks, 'the ranks')} {nobody}{listed}"


def _in_an_order(labels: np.ndarray) -> str:
    """List distinct labels in the order that is plain to see, or say that they still have to be ordered."""
    distinct = np.unique(labels).tolist()
    proposed = distinct if holds_numbers(labels) else plain_order(distinct)
    if proposed is None:
        return f"{listing(distinct, _MAX_PASTED)} put into the right order"
    return listing(proposed, _MAX_PASTED)


def rank_scale(y: Any, ranks: Any = None, rank_names: Any = None) -> tuple[RankScale, np.ndarray]:
    """Work out the ranks of a training set, and the index in rank order of each of its labels.

    `ranks` has all labels, lowest first, also such that `y` does not hold; `rank_names` words for the prompts: by
    label, in rank order, or computed from a label.

    Raises
    ------
    ValueError
        If the order of the labels is unknown, a label is not a rank, or fewer than two ranks remain.
    """
    labels = check_labels(y)
    own = own_order(y) if ranks is None else None
    if ranks is not None:
        ordered = given_ranks(ranks)
    elif own is not None:
        ordered = own
        _warn_of_unused(ordered, labels, label_column(y))
    else:
        ordered = _inferred_ranks(labels)
    if len(ordered) < 2:
        raise ValueError(
            "L2RCLIPClassifier needs at least 2 ranks, but the labels contain only one class: "
            f"{ordered.tolist()[0]!r}. Give images of another rank, or list all ranks with ranks=[...]."
        )
    scale = scale_of(ordered, rank_names)
    _check_learnable(scale, are_labels=rank_names is None)
    return scale, scale.encode(labels)


def scale_of(ordered: np.ndarray, rank_names: RankNames = None) -> RankScale:
    """Make the scale of labels that are in rank order, such as `given_ranks` returns."""
    _check_values(ordered)
    return RankScale(ordered, values_of(ordered), names_of(ordered, rank_names))


def own_order(y: Any) -> np.ndarray | None:
    """Order that labels bring themselves, lowest first: that of their type, or of intervals in a row."""
    y = label_column(y)
    categories = categories_in_order(y)
    if categories is not None:
        return given_ranks(categories)
    labels = np.asarray(y)
    if labels.dtype.kind != "O" or not labels.size or not all(is_interval(label) for label in labels.ravel()):
        return None
    intervals = sorted(set(labels.ravel().tolist()), key=lambda each: (each.left, each.right))
    ends = [each.right for each in intervals]
    return given_ranks(intervals) if ends == sorted(ends) else None


def same_order(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the labels that two orders share follow each other in the same way."""
    shared = set(one.tolist()) & set(other.tolist())
    return [each for each in one.tolist() if each in shared] == [each for each in other.tolist() if each in shared]


def union_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All labels of arrays that hold numbers only or words only, sorted."""
    return given_ranks(sorted({label for array in arrays for label in np.unique(array).tolist()}))


def _warn_of_unused(ordered: np.ndarray, labels: np.ndarray, y: Any) -> None:
    shown = set(labels.tolist())
    unused = [label for label in ordered.tolist() if label not in shown]
    if not unused:
        return
    is_series = hasattr(getattr(y, "cat", None), "remove_unused_categories")
    what, advice = "has an order with labels", ""
    if is_series or hasattr(y, "remove_unused_categories"):
        what = "is an ordered Categorical with categories"
        advice = f"Leave them out with y{'.cat' if is_series else ''}.remove_unused_categories(), or list"
    warn_user(
        f"y {what} that no image shows: {listing(unused)}. They stay ranks and can be predicted. {advice or 'List'} "
        "all ranks with ranks=[...]."
    )


def _check_values(ranks: np.ndarray) -> None:
    """Raise where numbers differ by less than double precision can tell."""
    if holds_numbers(ranks):
        _check_distinct(ranks, ranks.astype(np.float64), "the same number")


def _check_distinct(ranks: np.ndarray, values: np.ndarray, what: str) -> None:
    same = np.flatnonzero(np.diff(values) == 0)
    if len(same):
        one, other = ranks[same[0] : same[0] + 2].tolist()
        raise ValueError(
            f"The labels {one} and {other} are {what} in double precision, so that their distance is lost: "
            f"{kept_apart(ranks.tolist(), 'y')}"
        )


def _check_learnable(scale: RankScale, *, are_labels: bool) -> None:
    """Raise where distances of numbers are none that double precision can compute with, and where no text is a name."""
    values = scale.values
    extent = abs(values[-1] / 2 - values[0] / 2)  # the whole may overflow
    if not _MIN_EXTENT < extent < 1 / _MIN_EXTENT:
        raise ValueError(
            f"The labels lie between {values.min():g} and {values.max():g}, whose squared distance is no number in "
            f"double precision: use another unit, such as y=np.multiply(y, {1e200 if extent < 1 else 1e-200:g})."
        )
    _check_distinct(scale.ranks, values - values.min(), f"equally far from {values.min():g}")
    for label, name in zip(scale.ranks.tolist(), scale.names, strict=True):
        if is_broken_text(name):
            where = "The label" if are_labels else f"rank_names: the name of {label!r},"
            instead = " Or give it another name in prompts with rank_names." if are_labels else ""
            raise InvalidParameterError(f"{where} {name!r} {BROKEN_TEXT}{instead}")


def all_ranks(classes: Any, known: Any) -> Any:
    """All labels of a training by parts: what is known of them, or else the `classes` of its first part."""
    if classes is None:
        if known is None:
            raise ValueError("classes must be passed on the first call to partial_fit (or ranks=[...] be set).")
        return known
    given = np.unique(check_labels(classes))
    if known is None:
        return rank_scale(classes)[0].ranks
    before = np.unique(given_ranks(known))
    if holds_numbers(given) != holds_numbers(before) or not np.array_equal(given, before):
        raise ValueError(
            f"classes={given.tolist()} is not the same as on the last call to partial_fit, or as ranks: "
            f"{before.tolist()}."
        )
    return known


def given_ranks(ranks: Any) -> np.ndarray:
    """Turn the parameter `ranks` into an array, or say what is wrong with it.

    It holds all labels, lowest first: distinct strings, or numbers that ascend or descend.
    """
    if not hasattr(ranks, "__len__") or isinstance(ranks, str | Mapping | set | frozenset) or not len(ranks):
        raise InvalidParameterError(f"ranks must be a list of all labels, lowest first, got {ranks!r}.")
    objects = np.empty(len(ranks), dtype=object)
    objects[:] = list(ranks)
    try:
        array = check_labels(objects, "ranks")
    except ValueError as error:
        raise InvalidParameterError(f"ranks must hold numbers only or strings only: {error}") from error
    labels = array.tolist()
    if len(set(labels)) < len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise InvalidParameterError(f"ranks must not repeat a label, got {listing(repeated)} more than once.")
    if not holds_numbers(array):
        return array_of(labels, "ranks")
    steps = np.diff(array.astype(np.float64))
    if not ((steps >= 0).all() or (steps <= 0).all()):
        raise InvalidParameterError(
            f"numeric ranks must ascend or descend, got {listing(labels)}. For another order make the labels strings."
        )
    return array


def _inferred_ranks(labels: np.ndarray) -> np.ndarray:
    distinct = np.unique(labels)
    if not holds_numbers(distinct) and len(distinct) > 1:
        raise ValueError(order_unknown(distinct))
    # not scikit-learn's check, which also warns where most labels occur once, as ages do in small sets
    if distinct.dtype.kind == "f" and (distinct != np.floor(distinct)).any():
        raise ValueError(
            "Unknown label type: continuous. To use such labels as ranks, round them, or list them: "
            f"ranks={listing(distinct.tolist(), 100)}."
        )
    return distinct


def order_unknown(labels: np.ndarray) -> str:
    """Say that the order of words is not known, and propose the one that is plain to see."""
    distinct = np.unique(labels).tolist()
    proposed = plain_order(distinct)
    if proposed is None:
        advice = f"Give it, lowest first, for example ranks={listing(distinct, 100)} put into the right order, or"
    else:
        advice = (
            f"It looks like ranks={listing(proposed, _MAX_PASTED)}, lowest first: give that if it is right, or "
            "another order, or"
        )
    near = near_word(distinct, distinct)
    return f"The labels are words and their order is not known.{near} {advice} make y an ordered pandas Categorical."


def values_of(ranks: np.ndarray) -> np.ndarray:
    """Numeric value of each rank, ndarray of shape (K,), float64: the label itself, or for words 1..K."""
    if holds_numbers(ranks):
        return ranks.astype(np.float64)
    return np.arange(1, len(ranks) + 1, dtype=np.float64)


def default_name(label: Any) -> str:
    """Word for a label in its prompt: ``21`` for 21 and for 21.0, ``3.5`` for 3.5, a string as it is."""
    if isinstance(label, float):
        return f"{label:.0f}" if label.is_integer() else repr(label)
    return str(label)


def names_of(ranks: np.ndarray, rank_names: RankNames = None) -> tuple[str, ...]:
    """Word that stands for each rank in its prompt, in rank order, or an error that names what has none.

    `rank_names` has words by label, in rank order, or computed from a label; by default the label itself is the word.
    """
    labels = ranks.tolist()
    if rank_names is None:
        names = [default_name(label) for label in labels]
    elif isinstance(rank_names, Mapping):
        plain = {plain_label(label): name for label, name in rank_names.items()}
        missing = [label for label in labels if label not in rank_names and label not in plain]
        if missing:
            hint = keys_as_words("rank_names", plain, labels) or (f" {NUMBERED}" if holds_numbers(ranks) else "")
            raise InvalidParameterError(f"rank_names has no name for {listing(missing)}; add what is missing.{hint}")
        names = [rank_names[label] if label in rank_names else plain[label] for label in labels]
    elif callable(rank_names):
        names = [_named_by(rank_names, label) for label in labels]
    elif isinstance(rank_names, str) or not hasattr(rank_names, "__len__"):
        raise InvalidParameterError(
            f"rank_names must be a mapping from label to name, a list in rank order, or a function, got {rank_names!r}."
        )
    else:
        names = list(rank_names)
        if len(names) != len(labels):
            raise InvalidParameterError(
                f"rank_names must hold one name for each of the {len(labels)} ranks {listing(labels)}, "
                f"got {len(names)}."
            )
    for label, name in zip(labels, names, strict=True):
        if not isinstance(name, str) or not name.strip():
            raise InvalidParameterError(f"rank_names must give a non-empty string for {label!r}, got {name!r}.")
    return tuple(str(name) for name in names)


def _named_by(function: Callable[[Any], str], label: Any) -> str:
    try:
        return function(label)
    except Exception as error:
        raise InvalidParameterError(
            f"rank_names is a function that fails for the label {label!r}: {type(error).__name__}: {error}"
        ) from error
