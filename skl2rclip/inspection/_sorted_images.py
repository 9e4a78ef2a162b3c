"""The contact sheet of a set in the order of its predicted ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip.inspection._contact_sheet import ContactSheet
from skl2rclip.inspection._thumbnails import Thumbnail


class SortedPicturesDisplay(ContactSheet):
    """Contact sheet of a set in the order of its predicted ranks, lowest first.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Images of one predicted rank come in the order of their expected value, where probabilities are known. Of more than
    `n_images`, every so many are shown, the lowest and the highest among them.

    Parameters
    ----------
    indices : ndarray of shape (m,)
        Index in X of each image that is shown.
    y_pred : sequence of m labels
        None for an image that cannot be read.
    thumbnails : list of m Thumbnail
        Small images, or why there is none.
    y_true : sequence of m labels, optional
        True labels, for the captions.
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
    >>> from skl2rclip.inspection import SortedPicturesDisplay
    >>> photos = make_graded_photographs(5, random_state=0)
    >>> display = SortedPicturesDisplay.from_predictions(photos.data, [2, 0, 1, 4, 3])
    >>> display.indices.tolist()
    [1, 2, 0, 4, 3]

    Of a fitted classifier it is ``SortedPicturesDisplay.from_estimator(clf, X_new)``.
    """

    def __init__(
        self,
        indices: np.ndarray,
        y_pred: Any,
        *,
        thumbnails: list[Thumbnail],
        y_true: Any = None,
        title: str = "By predicted rank",
        display_labels: dict[Any, str] | None = None,
    ):
        self._hold(indices, thumbnails, title, y_true, y_pred, display_labels)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_images: int = 40,
        images: Any = None,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SortedPicturesDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one. Without ``predict_proba``, images of
            one predicted rank come in the order of X.
        X : sequence of n images
            What it predicts from. Of those that `L2RCLIPClassifier` cannot read the title tells, and they come last.
        y : array-like of shape (n,), optional
            True labels, for the captions.
        n_images : int, default=40
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
        SortedPicturesDisplay
        """
        asked = cls._asked(estimator, X, y, n_images, images, ranks, needs_labels=False)
        return cls._of(asked, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        images: Any,
        y_pred: Any,
        y_true: Any = None,
        *,
        n_images: int = 40,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SortedPicturesDisplay:
        """Draw predictions.

        Parameters
        ----------
        images : sequence of n images
            Images, as `L2RCLIPClassifier.fit` takes them.
        y_pred : array-like of shape (n,)
            Predicted labels.
        y_true : array-like of shape (n,), optional
            True labels, for the captions.
        n_images : int, default=40
            Most images that are shown; no others are decoded.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless they come as an ordered Categorical.
        display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        SortedPicturesDisplay
        """
        asked = cls._given(images, y_true, y_pred, n_images, ranks)
        return cls._of(asked, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(cls, asked: Any, n_images: int, display_labels: Any) -> SortedPicturesDisplay:
        predicted, probabilities = asked[0].predicted, asked[0].probabilities
        expected = 0 * predicted if probabilities is None else probabilities @ np.arange(probabilities.shape[1])
        order = np.lexsort([expected, predicted])
        if len(order) > n_images:
            order = order[np.linspace(0, len(order) - 1, n_images).round().astype(np.int64)]
        return cls._shown(asked, order, n_images, "By predicted rank", display_labels)

    def _caption(self, place: int) -> list[str]:
        return [
            *self._file(place),
            f"index {self.indices[place]}",
            *self._line("predicted", self.y_pred, place),
            *self._line("true", self.y_true, place),
        ]
