"""What a fitted classifier says of images, in rank order: any classifier of scikit-learn's kind.

Where the order of its labels comes from, ``metrics._scorers`` says. Nothing is drawn here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from skl2rclip._images.crops import ImageCrop
from skl2rclip._ordinal.labels import check_labels, holds_numbers
from skl2rclip._ordinal.rank_lookup import in_rank_order
from skl2rclip._ordinal.ranks import RankScale, default_name, scale_of
from skl2rclip._utils.arguments import check_lengths
from skl2rclip.errors import UnreadableImagesError
from skl2rclip.metrics._scorers import parts_with, scale_of_estimator


@dataclass(frozen=True)
class Response:
    """What a classifier says of n images."""

    scale: RankScale
    rows: np.ndarray  # (n,), index in X of each image; those that cannot be read are left out
    true: np.ndarray | None = None  # (n,), positions of the true ranks
    predicted: np.ndarray | None = None  # (n,), positions of the predicted ranks
    probabilities: np.ndarray | None = None  # (n, K), columns in rank order
    failures: dict[int, str] = field(default_factory=dict)  # why an image cannot be read, by its index in X


def response_of(
    who: str,
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    ranks: Any = None,
    predict: bool = True,
    probabilities: bool = True,
    needs_labels: bool = True,
    skip_unreadable: bool = False,
    advice: str = "",
) -> Response:
    """Ask a fitted classifier.

    Parameters
    ----------
    who : str
        The display that asks, for messages.
    estimator, X, y, ranks
        As `from_estimator` takes them.
    predict, probabilities : bool, default=True
        What is asked.
    needs_labels : bool, default=True
        Whether y must be given.
    skip_unreadable : bool, default=False
        Leave out images that the classifier names as unreadable.
    advice : str, default=""
        What to do where it has no probabilities.
    """
    X = as_sequence(X)
    check_classifier(who, estimator, probabilities, advice)
    if needs_labels and y is None:
        raise ValueError(f"{who} compares with true labels, and y is None.")
    n = _num_samples(X)
    scale = ordered_scale(estimator, y, ranks)
    labels = None if y is None else check_labels(y)
    if labels is not None:
        check_lengths(range(n), labels)
    true = None if labels is None else scale.encode(labels)
    columns = scale.encode(check_labels(estimator.classes_, "classes_"), "classes_")
    rows, failures = np.arange(n), {}
    try:
        said = _asked(estimator, X, predict, probabilities)
    except UnreadableImagesError as error:
        if not skip_unreadable or len(error.failures) == n:
            raise
        failures = error.failures
        rows = np.array([row for row in range(n) if row not in failures])
        said = _asked(estimator, rows_of(X, rows), predict, probabilities)
    return Response(
        scale,
        rows,
        true=None if true is None else true[rows],
        predicted=None if said[0] is None else scale.encode(check_labels(said[0], "the prediction"), "the prediction"),
        probabilities=None if said[1] is None else in_rank_order(said[1], columns, len(scale.ranks)),
        failures=failures,
    )


def _asked(estimator: Any, X: Any, predict: bool, probabilities: bool) -> tuple[Any, Any]:
    # the dearer one last: of the classifier of this library both look at each image once
    return estimator.predict(X) if predict else None, estimator.predict_proba(X) if probabilities else None


def check_classifier(who: str, estimator: Any, probabilities: bool = False, advice: str = "") -> None:
    """Raise unless this is a fitted classifier that says what a display asks for."""
    name = type(estimator).__name__
    check_is_fitted(estimator)
    if not hasattr(estimator, "classes_"):
        raise ValueError(
            f"{who} needs a fitted classifier, and {name} has no classes_. A search must be fitted with refit=True; "
            "predictions of anything else are drawn by from_predictions, where the display has it."
        )
    if probabilities and not hasattr(estimator, "predict_proba"):
        raise ValueError(f"{who} needs probabilities, and {name} has no predict_proba{advice}.")


def ordered_scale(estimator: Any, y: Any, ranks: Any) -> RankScale:
    """Ranks of a classifier, with its words; numbers descend where the classifier has learned that they do."""
    scale = scale_of_estimator(estimator, y, ranks=ranks)
    learned = [part.ranks_ for part in parts_with(estimator, "ranks_")]
    if ranks is None and holds_numbers(scale.ranks) and len(learned) == 1 and learned[0][0] > learned[0][-1]:
        scale = scale_of(scale.ranks[::-1])
    words = words_of(estimator)
    return scale_of(scale.ranks, lambda label: words.get(label, default_name(label)))


def words_of(estimator: Any) -> dict[Any, str]:
    """Words of the labels that a classifier, or what it is made of, has learned them by; none where it numbers them."""
    labels = set(check_labels(estimator.classes_, "classes_").tolist())
    known = [part.rank_names_ for part in parts_with(estimator, "rank_names_")]
    return known[0] if known and all(each == known[0] for each in known) and set(known[0]) == labels else {}


# ------------------------------------------------------------------------ X


def as_sequence(X: Any) -> Any:
    """Return X, or a list of what it hands out where it can be gone through only once; refuse what is no sequence."""
    if isinstance(X, str | bytes | os.PathLike | ImageCrop):
        shown = "the contents of a file" if isinstance(X, bytes) else repr(X)
        raise ValueError(f"X must be a sequence of images, got one ({shown}): write [image].")
    if not any(hasattr(X, name) for name in ("__getitem__", "__iter__", "shape")):
        raise TypeError(f"X must be a sequence of images, or the rows of a table, got {type(X).__name__} ({X!r}).")
    return list(X) if hasattr(X, "__iter__") and not hasattr(X, "__getitem__") else X


def rows_of(X: Any, rows: Any) -> Any:
    """Part of X, a container of the same kind where scikit-learn knows it."""
    return _safe_indexing(X, np.asarray(rows)) if hasattr(X, "shape") else [X[int(row)] for row in rows]


def learned_by(who: str, estimator: Any, name: str) -> Any:
    """Find the part of an estimator that has learned something, or say who has not."""
    check_is_fitted(estimator)
    parts = parts_with(estimator, name)
    kind = type(estimator).__name__
    if not parts:
        raise ValueError(f"{who} draws {name} of a fitted L2RCLIPClassifier, and {kind} has none.")
    if len(parts) > 1:
        raise ValueError(
            f"{who} draws {name} of one classifier, and {kind} holds {len(parts)}: give one of them, such as "
            "calibrated.calibrated_classifiers_[0].estimator."
        )
    return parts[0]


def before_last(estimator: Any, X: Any) -> Any:
    """Return what the last step of a pipeline is given, or of one that was found or calibrated; of anything else X."""
    for calibrated in getattr(estimator, "calibrated_classifiers_", [])[:1]:
        return before_last(calibrated.estimator, X)
    for inner in ("best_estimator_", "estimator_"):
        if hasattr(estimator, inner):
            return before_last(getattr(estimator, inner), X)
    if hasattr(estimator, "steps"):
        passed = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
        return before_last(estimator.steps[-1][1], passed)
    return X
