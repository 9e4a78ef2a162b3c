"""What a label may be: numbers or strings, which of the two, and what is said of everything else.

Everything here is NumPy on arrays of labels. What their order is, and what they are worth, lives in ``_ordinal.ranks``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from skl2rclip._ordinal.columns import label_column, variable, with_names
from skl2rclip._utils.arguments import is_interval, is_missing, plain_label

_MAX_LISTED = 10
_LEAVE_OUT = "every image needs a label: leave such images out."
NUMBERED = (
    "A meta-estimator may have numbered them: cross_val_predict for probabilities, VotingClassifier, "
    "BaggingClassifier, StackingClassifier, OneVsRestClassifier and CalibratedClassifierCV(ensemble=False) replace the "
    "labels by the numbers 0, 1, ... in sorted order, so that neither words nor ranks reach the classifier. There, "
    "make y the numbers 0, 1, ... in rank order yourself, leave ranks out, and give the words with "
    "rank_names={0: ..., 1: ...}."
)


def check_labels(y: Any, name: str = "y") -> np.ndarray:
    """Turn `y` into an array of shape (n,) of numbers, of str, or of Python objects that are all strings.

    Intervals of pandas are the words that they print as, and fractions in less than double precision the numbers that
    they print as. Messages call it by its `name`.

    Raises
    ------
    ValueError
        For None, NaN, infinite, two-dimensional or mixed labels, and for integers that 64 bits do not hold.
    """
    if y is None:
        who = "L2RCLIPClassifier requires y to be passed, but the target y" if name == "y" else name
        raise ValueError(f"{who} is None.")
    if np.ma.is_masked(y):
        raise ValueError(f"Input {name} contains masked labels (index {np.ma.getmaskarray(y).argmax()}); {_LEAVE_OUT}")
    y = with_names(label_column(y, name))
    labels = column_or_1d(np.asarray(y), warn=True)
    if labels.size and labels.dtype.kind in "fSU" and not hasattr(y, "dtype"):
        # NumPy has made words, or rounded numbers, of whatever was in the list: it cuts members of an enumeration
        labels = np.asarray(y, dtype=object).reshape(-1)
    if labels.dtype.kind in "OT":
        labels = _from_objects(labels.astype(object), name, _hint_at_pandas(y))
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels))
        if len(bad):
            raise ValueError(f"Input {name} contains NaN or infinity (index {bad[0]}); {_LEAVE_OUT}")
        labels = _as_printed(labels)
    if labels.dtype.kind in "mM" and np.isnat(labels).any():
        raise ValueError(f"Input {name} contains NaT (index {np.flatnonzero(np.isnat(labels))[0]}); {_LEAVE_OUT}")
    if labels.dtype.kind not in "biufUO":
        dtype = f"dtype {labels.dtype}"
        advice = {
            "S": "bytes; decode them: {0}=[label.decode() for label in {0}]".format(variable(name)),
            "M": f"{dtype}; say what of a date is the rank, such as its year or its day as a number",
        }
        got = advice.get(labels.dtype.kind, dtype)
        raise ValueError(f"Unknown label type: {name} must hold numbers or strings, got {got}.")
    return labels


def _from_objects(labels: np.ndarray, name: str, hint: str) -> np.ndarray:
    """Narrow an object array to numbers, to strings of Python's own, or to the words of intervals."""
    kinds = {type(label) for label in labels.tolist()}
    if kinds <= {str}:
        return labels
    if all(issubclass(kind, str) for kind in kinds):
        return np.array([plain_label(label) for label in labels.tolist()], dtype=object)
    if all(issubclass(kind, Real | Decimal | np.bool_) for kind in kinds):  # NaN counts, and is refused by the caller
        return _numbers(labels.tolist(), name)
    missing = [i for i, label in enumerate(labels.tolist()) if is_missing(label)]
    if missing:
        raise ValueError(f"Input {name} contains NaN or None (index {missing[0]}); {_LEAVE_OUT}{hint}")
    if all(is_interval(label) for label in labels.tolist()):
        return np.array([str(label) for label in labels.tolist()])
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    mended = "label.decode() if isinstance(label, bytes) else label" if bytes in kinds else "str(label)"
    mended = "label.value" if all(issubclass(kind, Enum) for kind in kinds) else mended
    raise ValueError(
        f"Unknown label type: labels must be all numbers or all strings, got {names}; try "
        f"{variable(name)}=[{mended} for label in {variable(name)}]."
    )


def _hint_at_pandas(y: Any) -> str:
    """Say of what came through pandas that it may have been a word: None is a grade beside mild and severe."""
    if not type(y).__module__.startswith("pandas"):
        return ""
    return (
        " If that is a word, such as the grade None, pandas has taken it for a missing cell: read the table with "
        "pandas.read_csv(..., keep_default_na=False)."
    )


def _numbers(labels: list[Any], name: str) -> np.ndarray:
    """Make an array of the narrowest kind that holds each number as it is."""
    if all(isinstance(label, bool | np.bool_) for label in labels):
        return np.array(labels, dtype=bool)
    try:
        if not all(isinstance(label, Integral | np.bool_) for label in labels):
            return np.array([math.nan if is_missing(label) else float(plain_label(label)) for label in labels])
        integers = [int(label) for label in labels]
        return np.array(integers, np.int64 if max(integers) < 2**63 else np.uint64)
    except OverflowError as error:
        raise ValueError(f"{name} holds numbers that 64 bits do not hold: {kept_apart(labels, name)}") from error


def kept_apart(labels: Sequence[Any], name: str) -> str:
    """Say how integers stay what they are, of which neither their type nor double precision holds all digits."""
    y = variable(name)
    said = f"make them strings, {y}=[str(label) for label in {y}], and list these in ranks=[...]."
    if all(isinstance(label, Integral) for label in labels) and int(max(labels)) - int(min(labels)) < 2**53:
        return f"subtract the same number from all labels, {y}=np.subtract({y}, min({y})), or {said}"
    return said


def _as_printed(labels: np.ndarray) -> np.ndarray:
    """Take fractions in less than double precision for the numbers that they print as."""
    if labels.dtype.itemsize == 8 or (labels.dtype.itemsize < 8 and (labels == np.floor(labels)).all()):
        return labels
    result = labels.astype(np.float64)
    if labels.dtype.itemsize < 8:
        is_fraction = labels != np.floor(labels)
        result[is_fraction] = labels[is_fraction].astype(str).astype(np.float64)
    return result


def array_of(labels: Sequence[Any], name: str) -> np.ndarray:
    """Make an array of labels that are all words or all numbers, in which those that differ still differ.

    NumPy makes words of numbers beside them, rounds large integers beside fractions, and drops null characters at the
    end of a word.
    """
    array = np.array(labels)
    kept = dict(zip(labels, array.tolist(), strict=True))
    if len(set(kept.values())) < len(kept):
        first_of: dict[Any, Any] = {}
        one, other = next((first_of[k], label) for label, k in kept.items() if first_of.setdefault(k, label) != label)
        raise ValueError(f"{name} has {one!r} and {other!r}, which would become the same: write them differently.")
    return array


# ------------------------------------------------------------------ comparison


def holds_numbers(labels: np.ndarray) -> bool:
    """Whether labels are numbers, of which booleans are a kind, and not words."""
    return labels.dtype.kind in "biuf"


def kind_of(labels: np.ndarray) -> str:
    """Name the kind of labels as messages do."""
    return {"b": "booleans", "U": "strings", "O": "strings"}.get(labels.dtype.kind, "numbers")


def check_comparable(labels: np.ndarray, name: str, others: np.ndarray, others_name: str) -> None:
    """Raise where numbers and words would be compared, of which no two are ever equal."""
    if len(labels) and len(others) and holds_numbers(labels) != holds_numbers(others):
        raise ValueError(difference(labels, name, others, others_name))


def difference(labels: np.ndarray, name: str, others: np.ndarray, others_name: str) -> str:
    """Say of which kinds labels are that cannot be compared, and what to do."""
    words, numbers, words_name = (others, labels, others_name) if holds_numbers(labels) else (labels, others, name)
    first, first_of_others = (listing(list(dict.fromkeys(each[:1000].tolist())), 3) for each in (labels, others))
    said = (
        f"{name} holds {kind_of(labels)} ({first}) and {others_name} {kind_of(others)} ({first_of_others}), which "
        "cannot be compared."
    )
    if _are_written_numbers(words):
        labels_of = "ranks" if words_name == "the ranks" else variable(words_name)
        said += f" Make those of {words_name} numbers, as with np.asarray({labels_of}).astype(float), or both strings."
    return f"{said} {NUMBERED}" if holds_numbers(labels) and numbers is labels else said


def _are_written_numbers(words: np.ndarray) -> bool:
    try:
        return bool(np.isfinite([float(word) for word in words.tolist()]).all())
    except ValueError:
        return False


def listing(labels: Sequence[Any], limit: int = _MAX_LISTED) -> str:
    """List labels as Python writes them, the first of them and their number where there are many."""
    shown = ", ".join(repr(label) for label in labels[:limit])
    return f"[{shown}, ... ({len(labels)} in all)]" if len(labels) > limit else f"[{shown}]"
