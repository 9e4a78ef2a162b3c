"""The contact sheet of the largest errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip.inspection._contact_sheet import ContactSheet
from skl2rclip.inspection._thumbnails import Thumbnail


class LargestErrorsDisplay(ContactSheet):
    """Contact sheet of the images whose predicted rank is furthest from the true one.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Kinds of error take turns, so that one that is frequent does not hide the others: of those with the same true and
    the same predicted rank, the second image is chosen as if its error were half of what it is, the third a third, and
    so on. Within a kind the surest come first, those with the least probability of their true rank, where
    probabilities are known. What was chosen is shown with the largest error first. Images without an error are not
    shown.

    Parameters
    ----------
    indices : ndarray of shape (m,)
        Index in X of each image that is shown.
    y_true, y_pred : sequence of m labels
        None for an image that cannot be read.
    errors : ndarray of shape (m,)
        Predicted minus true, in the unit of numeric labels, else in ranks; NaN for an image that cannot be read.
    thumbnails : list of m Thumbnail
        Small images, or why there is none.
    title : str
        What the figure is headed by.
    display_labels : dict of label to str, optional
        Words for the ranks.

    Attributes
    ----------
    thumbnails : list of m ndarray of shape (H, W, 3), uint8, or None
        None where an image cannot be read.
    problems : list of m str or None
        Why not.
    images_ : list of AxesImage or None
    texts_ : list of Text
        Captions.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> from skl2rclip.inspection import LargestErrorsDisplay
    >>> photos = make_graded_photographs(5, random_state=0)  # of the grades 0 to 4
    >>> display = LargestErrorsDisplay.from_predictions(photos.data, photos.target, [0, 1, 2, 1, 1])
    >>> display.indices.tolist()
    [4, 3]

    Of a fitted classifier it is ``LargestErrorsDisplay.from_estimator(clf, X_test, y_test)``.
    """

    def __init__(
        self,
        indices: np.ndarray,
        y_true: Any,
        y_pred: Any,
        *,
        errors: np.ndarray,
        thumbnails: list[Thumbnail],
        title: str = "Largest errors",
        display_labels: dict[Any, str] | None = None,
    ):
        self.errors = errors
        self._hold(indices, thumbnails, title, y_true, y_pred, display_labels)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_images: int = 20,
        images: Any = None,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> LargestErrorsDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one. Without ``predict_proba``, images of
            equal error come in the order of X.
        X : sequence of n images
            What it predicts from. Of those that `L2RCLIPClassifier` cannot read the title tells, and they come last.
        y : array-like of shape (n,)
            True labels.
        n_images : int, default=20
            Most images that are shown; no others are decoded for it.
        images : sequence of n images, optional
            The images, where X holds something else, such as stored embeddings.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
            ``"ranks"`` shows the labels.
        ax : Axes, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        LargestErrorsDisplay
        """
        asked = cls._asked(estimator, X, y, n_images, images, ranks, needs_labels=True)
        return cls._of(asked, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        images: Any,
        y_true: Any,
        y_pred: Any,
        *,
        n_images: int = 20,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> LargestErrorsDisplay:
        """Draw predictions, such as those of `sklearn.model_selection.cross_val_predict`.

        Parameters
        ----------
        images : sequence of n images
            Images, as `L2RCLIPClassifier.fit` takes them.
        y_true, y_pred : array-like of shape (n,)
            True and predicted labels.
        n_images : int, default=20
            Most images that are shown; no others are decoded.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
        display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        LargestErrorsDisplay
        """
        asked = cls._given(images, y_true, y_pred, n_images, ranks)
        return cls._of(asked, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(cls, asked: Any, n_images: int, display_labels: Any) -> LargestErrorsDisplay:
        said = asked[0]
        errors = said.scale.values[said.predicted] - said.scale.values[said.true]
        order = _in_turns(errors, said.true, said.predicted, said.probabilities, n_images)
        what = "Largest errors" if len(order) else "No errors"
        return cls._shown(asked, order, n_images, what, display_labels, errors=errors)

    def _caption(self, place: int) -> list[str]:
        index, error = self.indices[place], self.errors[place]
        return [
            *self._file(place),
            f"index {index}" if np.isnan(error) else f"index {index}, off by {error:+g}",
            *self._line("true", self.y_true, place),
            *self._line("predicted", self.y_pred, place),
        ]


def _in_turns(
    errors: np.ndarray, true: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None, n: int
) -> np.ndarray:
    """Choose up to `n` rows that have an error, and return them with the largest first.

    Images of one true and one predicted rank are of one kind, the surest first, and the k-th of a kind is chosen as if
    its error were a k-th of what it is: D'Hondt's way to share places.
    """
    probable = np.zeros(len(errors)) if probabilities is None else probabilities[np.arange(len(errors)), true]
    sizes = np.abs(errors)
    rows = np.lexsort([probable, -sizes])
    rows = rows[sizes[rows] > 0]
    turns = _turns(true[rows] * (predicted.max(initial=0) + 1) + predicted[rows])
    chosen = np.lexsort([-sizes[rows], -sizes[rows] / turns])[:n]
    return rows[chosen[np.lexsort([probable[rows[chosen]], turns[chosen], -sizes[rows[chosen]]])]]


def _turns(kind: np.ndarray) -> np.ndarray:
    """Count for each entry how many of its kind there are up to it, ndarray of shape (n,), int64."""
    order = np.argsort(kind, kind="stable")
    places = np.arange(len(kind))
    is_first = np.diff(kind[order], prepend=-1) != 0
    turns = np.empty_like(places)
    turns[order] = places - np.maximum.accumulate(np.where(is_first, places, 0)) + 1
    return turns
