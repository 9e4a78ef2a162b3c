"""What a plain scalar, path or array of weights must be, and what is said where it is not.

Which parameter may be what stands in ``_settings``; what an image or a label means, in ``_images.decoding`` and
``_ordinal.ranks``.
"""

from __future__ import annotations

import math
import os
import secrets
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import zip_longest
from numbers import Integral, Real
from types import FrameType
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from skl2rclip.errors import InvalidParameterError

# in the attrs of a pandas frame of embeddings
FINGERPRINT_ATTRIBUTE = "skl2rclip_backbone"
# with a slash at its end, lest a neighbour whose name begins alike counts as a part of it
_WRAPPERS = ("sklearn.base", "sklearn.callback", "sklearn.utils._set_output")
_PACKAGE = os.path.join(os.path.dirname(sys.modules["skl2rclip"].__file__ or ""), "")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line outside this package that led here."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_between(frame):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth + 1)


def _is_between(frame: FrameType) -> bool:
    """Whether a frame is this package's, or scikit-learn's wrapper around a method of it."""
    module = frame.f_globals.get("__name__", "")
    return frame.f_code.co_filename.startswith(_PACKAGE) or module.startswith(_WRAPPERS)


class Recorded(str):
    """A string that came with a saved folder, which anybody may have made, and that the caller has not repeated.

    It equals the plain string and prints like it. What it names is used as far as that touches nothing but this
    machine's own models and files; nothing is fetched from an address, and no place to write is made, because of it.
    Of a backbone that came along, `inside` is its folder.
    """

    inside: str | None = None


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return `value`, and raise unless it is one of `choices`."""
    if not _is_one_of(value, choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{name} must be one of {listed}, got {value!r}.")
    return value


def check_integer(
    name: str, value: Any, minimum: int, maximum: float = math.inf, *, also: Collection[str | None] = ()
) -> Any:
    """Return an integer in ``[minimum, maximum]`` as an int, one of the words `also` as it is, and raise for others."""
    if _is_one_of(value, also):
        return value
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise InvalidParameterError(f"{name} must be an integer of at least {minimum}{_or(also)}, got {value!r}.")
    if int(value) > maximum:
        raise InvalidParameterError(f"{name} must be at most {maximum}{_or(also)}, got {value!r}.")
    return int(value)


def check_real(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    open_ends: bool = False,
    also: Collection[str | None] = (),
) -> Any:
    """Return a finite number in ``[low, high]`` as a float, one of the words `also` as it is, and raise for others.

    With `open_ends` it must be in ``(low, high)``.
    """
    if _is_one_of(value, also):
        return value
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if is_number and _is_finite(value) and (low < value < high if open_ends else low <= value <= high):
        return float(value)
    left, right = "(" if open_ends else "[", ")" if open_ends or high == math.inf else "]"
    raise InvalidParameterError(f"{name} must be in {left}{low:g}, {high:g}{right}{_or(also)}, got {value!r}.")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # of an integer beyond all floats
        return False


def _is_one_of(value: Any, choices: Collection[Any]) -> bool:
    return isinstance(value, str | None) and value in choices


def _or(also: Collection[str | None]) -> str:
    return "".join(f", or {word!r}" for word in also)


def check_white_level(value: Any) -> float | None:
    """Return `white_level` as a number, or None, and raise unless it is either, and above 0."""
    return check_real("white_level", value, 0, open_ends=True, also=(None,))


def check_boolean(name: str, value: Any) -> bool:
    """Return True or False, and raise for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidParameterError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_string(name: str, value: Any) -> str:
    """Return a string, and raise for anything else."""
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name} must be a string, got {value!r}.")
    return value


def check_path(name: str, value: Any, what: str = "a string, a path or None") -> str | None:
    """Return a string or a path as a string, None as None, and raise for anything else."""
    if not isinstance(value, str | os.PathLike | None):
        raise InvalidParameterError(f"{name} must be {what}, got {value!r}.")
    return None if value is None else os.fspath(value)


def check_folder(name: str, value: Any) -> str | None:
    """Return the path of a folder, which need not be there, as a string, None as None, and raise for anything else."""
    path = check_path(name, value, "None or a folder")
    if path is not None and os.path.exists(path) and not os.path.isdir(path):
        raise InvalidParameterError(f"{name} must be None or a folder, got {value!r}, which is a file.")
    return path


def check_thread_count(name: str, value: Any) -> int | None:
    """Return None or a non-zero integer, as joblib has it, and raise for anything else."""
    if value is None:
        return None
    if not isinstance(value, Integral) or isinstance(value, bool) or value == 0:
        raise InvalidParameterError(f"{name} must be None or a non-zero integer (-1: all cores), got {value!r}.")
    return int(value)


BROKEN_TEXT = (
    "holds halves of characters, as bytes become that were read in another encoding than they were written in: read "
    "the text in its own, encoding='latin-1' perhaps."
)


def is_broken_text(text: str) -> bool:
    """Whether a string holds surrogates, which no encoding writes and no tokenizer reads."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def check_prompt(prompt: str, rank_position: str) -> None:
    """Raise unless the prompt says at most once where the rank stands, and `rank_position` does not say it too."""
    if is_broken_text(prompt):
        raise InvalidParameterError(f"prompt={prompt!r} {BROKEN_TEXT}")
    if "{" not in prompt and "}" not in prompt:
        return
    before, _, after = prompt.partition("{}")
    if "{}" not in prompt or any(brace in before + after for brace in "{}"):
        raise InvalidParameterError(
            "prompt may have one {}, which stands for the rank, and no other braces, as in 'a photo of a {} year old "
            f"person'; got {prompt!r}."
        )
    if rank_position != "tail":
        raise InvalidParameterError(
            f"prompt={prompt!r} and rank_position={rank_position!r} both say where the rank stands: leave "
            "rank_position out, or the {}."
        )


def seed_from(random_state: Any) -> int:
    """Turn `random_state` into one seed in [0, 2**31), leaving NumPy's global generator alone; None draws a new one."""
    if random_state is None:
        return secrets.randbelow(2**31)
    try:
        generator = check_random_state(random_state)
    except (ValueError, TypeError) as error:
        raise InvalidParameterError(
            f"random_state must be None, an integer in [0, 2**32) or a RandomState, got {random_state!r}."
        ) from error
    if isinstance(random_state, Integral):
        return int(random_state) % 2**31
    return int(generator.randint(2**31 - 1))


def check_sample_weight(sample_weight: Any, n_samples: int) -> np.ndarray:
    """Return the weights, ones where None is given, as an ndarray of shape (n_samples,), float64.

    Raises
    ------
    ValueError
        If there is not one weight for each image, one is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_samples, sample_weight)
    weight = _numbers_of_images("sample_weight", sample_weight, n_samples)
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def _numbers_of_images(name: str, values: Any, n_samples: int) -> np.ndarray:
    """Turn an array-like into float64, and raise unless it has a number for each image, finite and not negative."""
    try:
        array = np.asarray(values)  # not every array-like answers NumPy's functions of itself
        if array.dtype.kind in "cmM":
            raise TypeError(f"{array.dtype} has no unit that is known, or no order")
        numbers = np.where(np.ma.getmask(values), np.nan, array.astype(np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}.") from error
    if numbers.shape != (n_samples,):
        raise ValueError(f"{name}.shape == {numbers.shape}, expected {(n_samples,)}: one for each image.")
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(wrong):
        raise ValueError(
            f"{name} must not be negative, infinite or missing, got {numbers[wrong[0]]} at index {wrong[0]}."
        )
    return numbers


def check_lengths(data: Any, labels: np.ndarray, name: str = "X", name_of_labels: str = "y") -> None:
    """Raise unless there is one label for each image."""
    if len(data) != len(labels):
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {len(data)} images in {name} and "
            f"{len(labels)} labels in {name_of_labels}."
        )


def check_validation_images(X_val: Any, y_val: Any, *, early_stopping: bool) -> None:
    """Raise unless images for early stopping come with labels, and are asked for."""
    if X_val is None or y_val is None:
        given, missing = ("y_val", "X_val") if X_val is None else ("X_val", "y_val")
        raise ValueError(f"{given} is given without {missing}: images that training does not see need labels.")
    if not early_stopping:
        raise ValueError("X_val is given, but nothing watches it: set early_stopping=True.")


def check_label_std(label_std: Any, n_samples: int, extent: float, *, is_soft: bool) -> np.ndarray:
    """Return how far labels may be off, ndarray of shape (n_samples,), float64.

    At most ten thousand times the `extent` of the ranks: a label that is off by more says as little.

    Raises
    ------
    ValueError
        If there is not one number for each image, or one is negative or not finite, or targets are not soft.
    """
    if not is_soft:
        raise ValueError("label_std belongs to soft targets; with rank_targets='hard' use sample_weight.")
    std = _numbers_of_images("label_std", label_std, n_samples)
    return np.minimum(std, 1e4 * extent)  # whose square any precision holds


def check_width(table: np.ndarray, width: int, expected_by: str, how: str, name: str = "X") -> None:
    """Raise unless a table has as many columns as are expected; `how` says how such a table is made."""
    if table.shape[1] != width:
        raise ValueError(f"{name} has {table.shape[1]} features, but {expected_by} {width}: make {name} {how}.")


def check_same_columns(names: tuple[str, ...] | None, expected: tuple[str, ...] | None) -> None:
    """Raise where X_val has columns of other names than X, or in another order."""
    if names is None or expected is None or names == expected:
        return
    ours, theirs = next((a, b) for a, b in zip_longest(names, expected) if a != b)
    raise ValueError(
        f"X_val must have the columns of X in the same order: the first that differs is {ours!r} where X has "
        f"{theirs!r}."
    )


def column_names(X: Any) -> tuple[str, ...] | None:
    """Names of a table's columns, where all of them are strings."""
    columns = getattr(X, "column_names", None)  # of Arrow, whose columns are data
    columns = getattr(X, "columns", None) if columns is None else columns
    if columns is None:
        return None
    are_names = [isinstance(name, str) for name in columns]
    if any(are_names) and not all(are_names):
        raise TypeError("X has columns whose names are words beside others: make all of them strings.")
    return tuple(columns) if all(are_names) else None


def column_count(X: Any) -> int | None:
    """Count the columns of a table, None where X is none."""
    shape: Any = getattr(X, "shape", ())
    return int(shape[1]) if len(shape) == 2 else None


def check_no_embeddings(X: Any, name: str = "X") -> None:
    """Raise where X is a table of floating-point numbers, though images are expected."""
    if column_count(X) is not None and _holds_floats(X):
        raise ValueError(
            f"{name} must hold images, got a table of numbers of shape {X.shape}: for embeddings of CLIPImageEncoder "
            "set image_tower='precomputed'. Reshape your data if its rows are flattened images."
        )


def _holds_floats(X: Any) -> bool:
    if not hasattr(X, "columns") and not hasattr(X, "column_names"):
        return np.asarray(X).dtype.kind == "f"
    # a frame is not made an array for it, which would change the images that it may hold
    names = [str(each).lower() for each in getattr(X, "dtypes", ())]
    are_numbers = all(name.startswith(("int", "uint", "bool", "float")) for name in names)
    return are_numbers and any(name.startswith("float") for name in names)


def check_fingerprint(stated: str | None, fingerprint: str | None, model_name: str, name: str = "X") -> None:
    """Raise where a table's `fingerprint_of` is that of another model, which its width may not show."""
    if stated is not None and stated != fingerprint:
        raise ValueError(
            f"{name} holds embeddings of another model than {model_name}, or of other weights of it: make {name} with "
            "CLIPImageEncoder and the same model_name and pretrained."
        )


def fingerprint_of(X: Any) -> str | None:
    """Fingerprint of the model that made a table of embeddings, where the table says it."""
    return getattr(X, "attrs", {}).get(FINGERPRINT_ATTRIBUTE)


def check_groups(groups: Any, n_samples: int, called: str = "groups") -> np.ndarray:
    """Return the groups as numbers from 0, ndarray of shape (n_samples,), int64.

    Raises
    ------
    ValueError
        If there is not one group for each image, or one is missing or neither word nor number.
    """
    names = np.asarray(groups, dtype=object)  # which makes no words of what is missing
    if names.shape != (n_samples,):
        raise ValueError(f"{called} has the shape {names.shape}, expected {(n_samples,)}: one for each image.")
    numbers: dict[Any, int] = {}
    group = np.empty(n_samples, dtype=np.int64)
    hidden = np.broadcast_to(np.ma.getmask(groups), names.shape)
    for i, name in enumerate(names.tolist()):
        if hidden[i] or is_missing(name):
            raise ValueError(f"{called} has a missing value at index {i}; every image needs one.")
        try:
            group[i] = numbers.setdefault(name, len(numbers))
        except TypeError as error:
            raise ValueError(f"{called} must hold words or numbers, got {name!r} at index {i}.") from error
    return group


def is_missing(value: Any) -> bool:
    """Whether `value` is None, NaN, NaT or pandas' NA, which does not even compare with itself."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ArithmeticError):  # of pandas' NA, and of a signalling NaN
        return True


def is_interval(value: Any) -> bool:
    """Whether `value` is one of pandas' intervals, which this library takes for the words that it prints as."""
    return type(value).__name__ == "Interval" and hasattr(value, "closed")


def plain_label(label: Any) -> Any:
    """Make a label one of Python's own numbers or strings; what is neither comes back as it is.

    Single precision is taken for the number that it prints: 0.1, not 0.10000000149.
    """
    if isinstance(label, bool | np.bool_):
        return bool(label)
    if isinstance(label, str):
        return str.__str__(label)  # the word itself: str() of an enumeration's member is its name
    if is_interval(label):
        return str(label)
    if isinstance(label, Integral):
        return int(label)
    if isinstance(label, np.floating) and label.dtype.itemsize < 8:
        return float(label) if label == np.floor(label) else float(str(label))
    with suppress(OverflowError, ValueError):
        return float(label) if isinstance(label, Real | Decimal) else label
    return label


def keys_as_words(name: str, mapping: Mapping[Any, Any], labels: Sequence[Any]) -> str:
    """Say how a mapping from labels that was JSON gets its numbers back; empty where its keys are no such words."""
    kind = int if all(isinstance(label, int) for label in labels) else float
    try:
        are_words = all(isinstance(key, str) for key in mapping) and set(map(kind, mapping)) & set(labels)
    except ValueError:
        return ""
    if not are_words:
        return ""
    return (
        f" Its keys are words, as JSON makes them of numbers: {name}={{{kind.__name__}(label): each for label, each in "
        f"{name}.items()}}."
    )


_MIN_WEIGHT = 1e-8


def in_range(weight: np.ndarray) -> np.ndarray:
    """Bring weights to a range that can be computed with; those without weight keep none.

    Weights that single precision could not hold become at most one. What is less than 1e-8 of the largest becomes that:
    beside it, it counts as little, and what a fit without the heavy images says can still be told from rounding.
    """
    largest = weight.max(initial=0.0)
    unit = 1.0 if 1e-30 < largest < 1e30 or not largest else largest
    return np.where(weight > 0, np.maximum(weight / unit, _MIN_WEIGHT * (largest / unit)), 0.0)


def class_weights_of(class_weight: Any, y: np.ndarray, classes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weight of each image due to `class_weight`, as scikit-learn computes it, ndarray of shape (n,), float64.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
    y : ndarray of shape (n,)
    classes : ndarray of shape (K,)
        All labels that there may be.
    counts : ndarray of shape (n,), bool
        Whether an image counts among those that "balanced" balances.
    """
    if class_weight is None:
        return np.ones(len(y))
    if isinstance(class_weight, dict):
        class_weight = {plain_label(label): weight for label, weight in class_weight.items()}
        known = set(classes.tolist())
        unknown = [label for label in class_weight if label not in known]
        if unknown:
            raise InvalidParameterError(
                f"class_weight names {unknown[0]!r}, which is not a label; the labels are {classes.tolist()}."
                f"{keys_as_words('class_weight', class_weight, classes.tolist())}"
            )
        for label, weight in class_weight.items():
            check_real(f"class_weight[{label!r}]", weight, 0)
        # not compute_sample_weight, which takes 0.5 for 0
        return np.array([float(class_weight.get(label, 1.0)) for label in y.tolist()])
    if class_weight != "balanced":
        raise InvalidParameterError(
            f"class_weight must be None, 'balanced' or a dict from label to weight, got {class_weight!r}."
        )
    return compute_sample_weight(class_weight, y, indices=np.flatnonzero(counts))


def parse_bytes(name: str, value: int | str, *, optional: bool = False) -> int:
    """Bytes that `value` stands for: a number of bytes, or a string such as "2GB" or "500 MB" (powers of ten)."""
    units = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1, "": 1}
    n_bytes: float = -1
    if isinstance(value, str):
        text = value.upper().strip()
        unit = next(unit for unit in units if text.endswith(unit))
        with suppress(ValueError):
            n_bytes = float(text[: len(text) - len(unit)]) * units[unit]
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        n_bytes = value
    if not 0 < n_bytes < float("inf"):
        raise InvalidParameterError(
            f"{name} must be {'None, ' if optional else ''}a positive number of bytes, or a string such as '2GB', got "
            f"{value!r}."
        )
    return int(n_bytes)


def parse_max_memory(max_memory: int | str | None) -> int | None:
    """Bytes that the parameter `max_memory` stands for, None where it is None."""
    return None if max_memory is None else parse_bytes("max_memory", max_memory, optional=True)
