"""What the labels mean: their order, their words, their distances, and the way from probabilities back to labels.

Everything here is NumPy on arrays of labels. Images, torch and the estimator are not known, and neither is who calls:
labels are judged by what they are, so that a fit alone, in a search and in a meta-estimator get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from skl2rclip._validation import is_missing
from skl2rclip.errors import InvalidParameterError

RankNames = Mapping[Any, str] | Sequence[str] | Callable[[Any], str] | None

_MAX_LISTED = 10
_NUMBERED = (
    "A meta-estimator may have numbered them: cross_val_predict for probabilities, VotingClassifier, "
    "BaggingClassifier, StackingClassifier, OneVsRestClassifier and CalibratedClassifierCV(ensemble=False) replace the "
    "labels by the numbers 0, 1, ... in sorted order, so that neither words nor ranks reach the classifier. There, "
    "make y the numbers 0, 1, ... in rank order yourself, leave ranks out, and give the words with "
    "rank_names={0: ..., 1: ...}."
)


@dataclass(frozen=True)
class RankScale:
    """The K ranks of a fitted model.

    Attributes
    ----------
    ranks : ndarray of shape (K,)
        Labels in rank order, lowest first.
    values : ndarray of shape (K,), float64
        Numeric value of each rank: the label itself where labels are numbers, else 1..K.
    names : tuple of str
        The word that stands for each rank in its prompt, in rank order.
    """

    ranks: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]

    @property
    def classes(self) -> np.ndarray:
        """Labels sorted as scikit-learn sorts them, ndarray of shape (K,)."""
        return self.ranks[self.class_order]

    @property
    def class_order(self) -> np.ndarray:
        """Index into `ranks` of each sorted class, ndarray of shape (K,)."""
        return np.argsort(self.ranks, kind="stable")

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Index in rank order of each label.

        Parameters
        ----------
        y : ndarray of shape (n,)

        Returns
        -------
        ndarray of shape (n,), int64

        Raises
        ------
        ValueError
            If a label is not a rank; the message names the first of them.
        """
        index = {label: position for position, label in enumerate(self.ranks.tolist())}
        unknown = sorted({label for label in y.tolist() if label not in index})
        if unknown:
            is_of_their_kind = _holds_numbers(y) == _holds_numbers(self.ranks)
            advice = ["Add what is missing to ranks=[...]."] if is_of_their_kind else []
            if _holds_numbers(y):
                advice.append(_NUMBERED)
            raise ValueError(
                f"y contains labels that are not among the ranks: {_listing(unknown)}. The ranks are "
                f"{_listing(self.ranks.tolist())}. {' '.join(advice)}"
            )
        return np.array([index[label] for label in y.tolist()], dtype=np.int64)


def check_labels(y: Any) -> np.ndarray:
    """Turn `y` into a 1-D label array, or say what is wrong with it.

    Parameters
    ----------
    y : array-like of shape (n,)
        Numbers, strings or a pandas Categorical.

    Returns
    -------
    ndarray of shape (n,)
        Of numbers, of str, or of Python objects that are all strings.

    Raises
    ------
    ValueError
        For None, NaN, infinite, two-dimensional or mixed labels.
    """
    if y is None:
        raise ValueError("L2RCLIPClassifier requires y to be passed, but the target y is None.")
    labels = column_or_1d(np.asarray(y), warn=True)
    if labels.dtype.kind == "O":
        labels = _from_objects(labels)
    elif labels.dtype.kind == "U" and not hasattr(y, "dtype"):
        _from_objects(np.asarray(y, dtype=object))  # NumPy has made words of whatever else was in the list
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels))
        if len(bad):
            raise ValueError(
                f"Input y contains NaN or infinity (index {bad[0]}); every image needs a label: leave such images out."
            )
    if labels.dtype.kind not in "biufUO":
        raise ValueError(f"Unknown label type: labels must be numbers or strings, got dtype {labels.dtype}.")
    return labels


def _from_objects(labels: np.ndarray) -> np.ndarray:
    """Narrow an object array to numbers, or leave it as an array of strings."""
    kinds = {type(label) for label in labels.tolist()}
    if all(issubclass(kind, str) for kind in kinds):
        return labels
    if all(issubclass(kind, Real) for kind in kinds):  # float('nan') counts, and is refused by the caller
        return np.array(labels.tolist())
    missing = [i for i, label in enumerate(labels.tolist()) if is_missing(label)]
    if missing:
        raise ValueError(
            f"Input y contains NaN or None (index {missing[0]}); every image needs a label: leave such images out."
        )
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f"Unknown label type: labels must be all numbers or all strings, got {names}; try str(label).")


def rank_scale(y: Any, ranks: Any = None, rank_names: Any = None) -> tuple[RankScale, np.ndarray]:
    """Work out the ranks of a training set.

    Parameters
    ----------
    y : array-like of shape (n,)
        Labels of the images.
    ranks : array-like of shape (K,), optional
        All labels, lowest first; may hold labels that `y` does not.
    rank_names : mapping, sequence of str or callable, optional
        Words for the prompts: by label, in rank order, or computed from a label.

    Returns
    -------
    scale : RankScale
    target : ndarray of shape (n,), int64
        Index in rank order of each label of `y`.

    Raises
    ------
    ValueError
        If the order of the labels is unknown, a label is not a rank, or fewer than two ranks remain.
    """
    labels = check_labels(y)
    if ranks is not None:
        ordered = given_ranks(ranks)
    elif getattr(getattr(y, "dtype", None), "ordered", False):
        ordered = given_ranks(np.asarray(y.dtype.categories, dtype=object))
    else:
        ordered = _inferred_ranks(labels)
    if len(ordered) < 2:
        raise ValueError(
            "L2RCLIPClassifier needs at least 2 ranks, but the labels contain only one class: "
            f"{ordered.tolist()[0]!r}. Give images of another rank, or list all ranks with ranks=[...]."
        )
    scale = RankScale(ordered, values_of(ordered), names_of(ordered, rank_names))
    return scale, scale.encode(labels)


def all_ranks(classes: Any, known: Any) -> Any:
    """All labels of a training by parts: what is known of them, or else the `classes` of its first part.

    Raises
    ------
    ValueError
        If nothing is known and `classes` is missing, or the two are not the same.
    """
    if classes is None:
        if known is None:
            raise ValueError("classes must be passed on the first call to partial_fit (or ranks=[...] be set).")
        return known
    given = np.unique(check_labels(classes))
    if known is None:
        return rank_scale(classes)[0].ranks
    if not np.array_equal(given, np.unique(np.asarray(known))):
        raise ValueError(
            f"classes={given.tolist()} is not the same as on the last call to partial_fit, or as ranks: "
            f"{np.unique(np.asarray(known)).tolist()}."
        )
    return known


def given_ranks(ranks: Any) -> np.ndarray:
    """Turn the parameter `ranks` into an array, or say what is wrong with it.

    Parameters
    ----------
    ranks : array-like of shape (K,)
        All labels, lowest first: distinct strings, or numbers that ascend or descend.

    Returns
    -------
    ndarray of shape (K,)

    Raises
    ------
    InvalidParameterError
        Naming what is repeated, mixed or out of order.
    """
    if isinstance(ranks, str) or not hasattr(ranks, "__len__") or isinstance(ranks, Mapping | set | frozenset):
        raise InvalidParameterError(f"ranks must be a list of all labels, lowest first, got {ranks!r}.")
    labels = list(ranks.tolist() if isinstance(ranks, np.ndarray) else ranks)
    if not labels:
        raise InvalidParameterError("ranks must be a list of all labels, lowest first, got an empty one.")
    try:
        array = check_labels(np.array(labels, dtype=object))
    except ValueError as error:
        raise InvalidParameterError(f"ranks must hold numbers only or strings only: {error}") from error
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise InvalidParameterError(f"ranks must not repeat a label, got {_listing(repeated)} more than once.")
    if array.dtype.kind == "O":
        return np.array(labels)
    steps = np.diff(array.astype(np.float64))
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InvalidParameterError(
            f"numeric ranks must ascend or descend, got {_listing(labels)}. For another order make the labels strings."
        )
    return array


def _inferred_ranks(labels: np.ndarray) -> np.ndarray:
    distinct = np.unique(labels)
    if distinct.dtype.kind in "UO" and len(distinct) > 1:
        raise ValueError(
            "The labels are words and their order is not known. Give it, lowest first, for example "
            f"ranks={_listing(distinct.tolist(), limit=100)} put into the right order, or make y an ordered pandas "
            "Categorical."
        )
    # not scikit-learn's check, which also warns where most labels occur once, as ages do in small sets
    if distinct.dtype.kind == "f" and (distinct != np.floor(distinct)).any():
        raise ValueError(
            "Unknown label type: continuous. To use such labels as ranks, round them, or list them: "
            f"ranks={_listing(distinct.tolist(), limit=100)}."
        )
    return distinct


def values_of(ranks: np.ndarray) -> np.ndarray:
    """Numeric value of each rank, ndarray of shape (K,), float64: the label itself, or for words 1..K."""
    if _holds_numbers(ranks):
        return ranks.astype(np.float64)
    return np.arange(1, len(ranks) + 1, dtype=np.float64)


def default_name(label: Any) -> str:
    """Word for a label in its prompt: ``21`` for 21 and for 21.0, ``3.5`` for 3.5, a string as it is."""
    if isinstance(label, float):
        return str(int(label)) if label.is_integer() else repr(label)
    return str(label)


def names_of(ranks: np.ndarray, rank_names: RankNames = None) -> tuple[str, ...]:
    """Word that stands for each rank in its prompt.

    Parameters
    ----------
    ranks : ndarray of shape (K,)
        Labels in rank order.
    rank_names : mapping, sequence of str or callable, optional
        Words by label, in rank order, or computed from a label; by default the label itself is the word.

    Returns
    -------
    tuple of K str
        In rank order.

    Raises
    ------
    InvalidParameterError
        If a rank has no word, or what stands for it is not a word.
    """
    labels = ranks.tolist()
    if rank_names is None:
        names = [default_name(label) for label in labels]
    elif isinstance(rank_names, Mapping):
        missing = [label for label in labels if label not in rank_names]
        if missing:
            hint = f" {_NUMBERED}" if _holds_numbers(ranks) else ""
            raise InvalidParameterError(f"rank_names has no name for {_listing(missing)}; add what is missing.{hint}")
        names = [rank_names[label] for label in labels]
    elif callable(rank_names):
        names = [rank_names(label) for label in labels]
    elif isinstance(rank_names, str) or not hasattr(rank_names, "__len__"):
        raise InvalidParameterError(
            f"rank_names must be a mapping from label to name, a list in rank order, or a function, got {rank_names!r}."
        )
    else:
        names = list(rank_names)
        if len(names) != len(labels):
            raise InvalidParameterError(
                f"rank_names must hold one name for each of the {len(labels)} ranks {_listing(labels)}, "
                f"got {len(names)}."
            )
    for label, name in zip(labels, names, strict=True):
        if not isinstance(name, str) or not name.strip():
            raise InvalidParameterError(f"rank_names must give a non-empty string for {label!r}, got {name!r}.")
    return tuple(str(name) for name in names)


def _holds_numbers(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "biuf"


def _listing(labels: Sequence[Any], limit: int = _MAX_LISTED) -> str:
    shown = ", ".join(repr(label) for label in labels[:limit])
    return f"[{shown}, ... ({len(labels)} in all)]" if len(labels) > limit else f"[{shown}]"


def read_out(probabilities: np.ndarray, values: np.ndarray, decision: str = "argmax") -> np.ndarray:
    """Choose one rank for each row of probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Columns in rank order; each row sums to one.
    values : ndarray of shape (K,)
        Numeric values of the ranks, ascending or descending.
    decision : {"argmax", "mean", "median"}
        "argmax" minimises the expected error rate, "mean" (the rank nearest to the expected value) the expected
        squared error, "median" (the first rank at which the cumulated probability reaches one half) the expected
        absolute error.

    Returns
    -------
    ndarray of shape (n,), int64
        Index of the rank.
    """
    if decision == "argmax":
        return probabilities.argmax(axis=1)
    if decision == "mean":
        distance = np.abs(expected_value(probabilities, values)[:, None] - values)  # (n, K)
        return distance.argmin(axis=1)
    cumulated = np.cumsum(probabilities, axis=1, dtype=np.float64)
    half = 0.5 * cumulated[:, -1:]
    # rounding must not push an exact half to the next rank
    return (cumulated >= half - 1e-9).argmax(axis=1)


def central_interval(probabilities: np.ndarray, coverage: float) -> np.ndarray:
    """Lowest and highest rank between which each row has at least `coverage` of its probability.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Columns in rank order; each row sums to one.
    coverage : float
        In (0, 1).

    Returns
    -------
    ndarray of shape (n, 2), int64
        Indices; below the first and above the second there is at most ``(1 - coverage) / 2`` each.
    """
    tail = (1 - coverage) / 2
    # rounding must neither push an exact tail outwards nor take from the coverage
    below = np.cumsum(probabilities, axis=1, dtype=np.float64)  # up to and with k
    above = np.cumsum(probabilities[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    lowest = (below > tail + 1e-12).argmax(axis=1)
    highest = probabilities.shape[1] - 1 - (above > tail + 1e-12)[:, ::-1].argmax(axis=1)
    return np.column_stack([lowest, highest])


def ranked_scores(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ranked probability score of each row, ``sum_k (F_k - [y <= k])^2`` with F the cumulated probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Columns in rank order.
    target : ndarray of shape (n,), int
        Index of the true rank.

    Returns
    -------
    ndarray of shape (n,), float64
        In [0, K - 1]; 0 is perfect.
    """
    cumulated = np.cumsum(probabilities, axis=1, dtype=np.float64)[:, :-1]
    return ((cumulated - (target[:, None] <= np.arange(cumulated.shape[1]))) ** 2).sum(axis=1)


def expected_value(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute the expected numeric value of each row of probabilities, ``sum_k p_ik v_k``, ndarray of shape (n,)."""
    return probabilities.astype(np.float64) @ values
