"""The contact sheet of a set in the order of its predicted ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._utils.arguments import check_integer, check_lengths
from skl2rclip.inspection._contact_sheet import SIDE, ContactSheet, labels_of, line_of, named, title_of, with_failures
from skl2rclip.inspection._drawing import (
    display_names,
    pyplot,
)
from skl2rclip.inspection._responses import Response, as_sequence
from skl2rclip.inspection._thumbnails import Thumbnail, check_pictures, thumbnails_of


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
    y_true : sequence of m labels, optional
    title : str
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
    >>> from skl2rclip.inspection import SortedPicturesDisplay
    >>> display = SortedPicturesDisplay.from_estimator(clf, X_new)  # doctest: +SKIP
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
        self.y_pred, self.y_true, self.display_labels = y_pred, y_true, display_labels
        self._hold(indices, thumbnails, title)

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
            Most pictures that are shown; no others are decoded for it.
        images : sequence of n images, optional
            The pictures, where X holds something else, such as stored embeddings.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        display_labels : sequence of K str, optional
            Words for the ranks; by default the labels.
        ax : Axes, optional
        **kwargs
            For `plot`.

        Returns
        -------
        SortedPicturesDisplay
        """
        asked = cls._asked(estimator, X, y, n_images, images, ranks, needs_labels=False)
        return cls._of(*asked, n_images, display_labels).plot(ax=ax, **kwargs)

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
            Pictures, as `L2RCLIPClassifier.fit` takes them.
        y_pred : array-like of shape (n,)
            Predicted labels.
        y_true : array-like of shape (n,), optional
            True labels, for the captions.
        n_images : int, default=40
            Most pictures that are shown; no others are decoded.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless they come as an ordered Categorical.
        display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        SortedPicturesDisplay
        """
        pyplot(cls.__name__)
        check_integer("n_images", n_images, 1)
        images = check_pictures(cls.__name__, as_sequence(images), None)
        scale, true, predicted = encoded_pair(y_pred if y_true is None else y_true, y_pred, ranks)
        check_lengths(images, predicted)
        said = Response(scale, np.arange(len(predicted)), true=None if y_true is None else true, predicted=predicted)
        return cls._of(said, images, FULL_RANGE, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls,
        said: Response,
        pictures: Any,
        white: WhiteLevel,
        n_images: int,
        display_labels: Any,
    ) -> SortedPicturesDisplay:
        assert said.predicted is not None
        scale = said.scale
        order = lowest_first(said.predicted, said.probabilities)
        if len(order) > n_images:
            order = order[np.linspace(0, len(order) - 1, n_images).round().astype(np.int64)]
        indices = with_failures(said.rows[order], said.failures, n_images)
        true = None if said.true is None else labels_of(said.rows, scale.ranks[said.true], indices)
        return cls(
            indices,
            labels_of(said.rows, scale.ranks[said.predicted], indices),
            thumbnails=thumbnails_of(pictures, indices, SIDE, white),
            y_true=true,
            title=title_of("By predicted rank", len(indices), len(pictures), len(said.failures)),
            display_labels=dict(zip(scale.ranks.tolist(), display_names(scale.ranks, display_labels), strict=True)),
        )

    def _captions(self) -> list[list[str]]:
        true = [None] * len(self.indices) if self.y_true is None else self.y_true
        return [
            [f"index {index}", *line_of("predicted", named(predicted, self)), *line_of("true", named(label, self))]
            for index, predicted, label in zip(self.indices.tolist(), self.y_pred, true, strict=True)
        ]


def lowest_first(predicted: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    """Order of the rows by predicted rank, and within a rank by the expected position.

    Parameters
    ----------
    predicted : ndarray of shape (n,), int
        Positions of the predicted ranks.
    probabilities : ndarray of shape (n, K), optional
        Columns in rank order.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    if probabilities is None:
        return np.argsort(predicted, kind="stable")
    return np.lexsort([probabilities @ np.arange(probabilities.shape[1]), predicted])
