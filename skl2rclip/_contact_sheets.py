"""Contact sheets: the largest errors, and a set in the order of its predicted ranks."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from skl2rclip._drawing import (
    display_names,
    draw_blank,
    panels,
    pyplot,
    short,
    styled,
)
from skl2rclip._labels import check_labels
from skl2rclip._ranks import default_name
from skl2rclip._responses import Response, as_sequence, response_of, scale_of_labels
from skl2rclip._thumbnails import Thumbnail, check_pictures, thumbnails_of, whites_of
from skl2rclip._validation import check_integer, check_lengths
from skl2rclip._white_levels import NOTHING_DECIDED, Whites

_SIDE = 160  # pixels of thumbnails


class _ContactSheet:
    """Pictures in rows, a caption below each, in one Axes: what the two sheets share."""

    indices: np.ndarray
    thumbnails: list[Any]
    problems: list[str | None]
    names: list[str]
    title: str

    def _captions(self) -> list[list[str]]:
        raise NotImplementedError

    @classmethod
    def _asked(
        cls, estimator: Any, X: Any, y: Any, n_images: int, images: Any, ranks: Any, *, needs_labels: bool
    ) -> tuple[Response, Any, Whites]:
        """Ask a classifier; what it said, the pictures that are shown, and what is white in them."""
        who = cls.__name__
        pyplot(who)
        check_integer("n_images", n_images, 1)
        X = as_sequence(X)
        pictures = check_pictures(who, X, images)
        said = response_of(
            who,
            estimator,
            X,
            y,
            ranks=ranks,
            probabilities=hasattr(estimator, "predict_proba"),
            needs_labels=needs_labels,
            skip_unreadable=True,
        )
        return said, pictures, whites_of(estimator, images)

    def _hold(self, indices: np.ndarray, thumbnails: list[Thumbnail], title: str) -> None:
        self.indices = indices
        self.thumbnails = [each.pixels for each in thumbnails]
        self.problems = [each.problem for each in thumbnails]
        self.names = [each.name for each in thumbnails]
        self.title = title

    def plot(self, ax: Any = None, *, n_columns: int | None = None, text_kw: dict[str, Any] | None = None) -> Self:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure, which grows with the number of pictures.
        n_columns : int, optional
            Pictures in a row; by default as many as make a sheet that is a little wider than high.
        text_kw : dict, optional
            For `Axes.text` of the captions.

        Returns
        -------
        display
            Itself.
        """
        n = len(self.indices)
        if n_columns is not None:
            check_integer("n_columns", n_columns, 1)
        columns = n_columns or math.ceil(n / max(1, round(math.sqrt(n / 1.7)))) or 1
        rows = max(1, math.ceil(n / columns))
        captions = self._captions()
        n_lines = max([len(lines) for lines in captions], default=1)
        tile, line = 1.6, 0.1  # inches of a tile, and of a line of its caption in tiles
        self._tallest = max([_sides(pixels)[0] for pixels in self.thumbnails], default=1.0)
        step = self._tallest + 0.06 + line * n_lines + 0.06
        width = max(columns * 1.08 * tile, 4.5)
        (ax,) = panels(type(self).__name__, ax, (width, rows * step * tile + 0.4))
        ax.set(xlim=(-0.04, columns * 1.08 - 0.04), ylim=(rows * step, -0.04), aspect="equal")
        ax.set_axis_off()
        box = ax.get_window_extent()
        scale = min(box.width / (columns * 1.08), box.height / (rows * step + 0.04)) / ax.figure.dpi  # inches of a tile
        size = max(1.0, 8.5 / tile * scale)
        self.images_: list[Any] = []
        self.texts_: list[Any] = []
        for place, lines in enumerate(captions):
            corner = (place % columns * 1.08, place // columns * step)
            self._draw_tile(ax, place, corner, size)
            self.texts_.append(_caption(ax, (corner[0], corner[1] + self._tallest + 0.03), lines, size, text_kw))
        ax.set_title(self.title, fontsize="medium", loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_tile(self, ax: Any, place: int, corner: tuple[float, float], size: float) -> None:
        pixels = self.thumbnails[place]
        left, top = corner
        if pixels is None:
            name = f"{self.names[place]}\n" if self.names[place] else ""
            draw_blank(ax, (left, top, 1), f"{name}{self.problems[place]}", size, 20)
            self.images_.append(None)
            return
        height, width = _sides(pixels)
        left, top = left + (1 - width) / 2, top + self._tallest - height  # on the line of its caption
        limits = ax.get_xlim(), ax.get_ylim()
        self.images_.append(
            ax.imshow(pixels, extent=(left, left + width, top + height, top), interpolation="antialiased")
        )
        ax.set(xlim=limits[0], ylim=limits[1])


def _sides(pixels: np.ndarray | None) -> tuple[float, float]:
    """Height and width in tiles; what cannot be read has a whole one."""
    if pixels is None:
        return 1.0, 1.0
    height, width = pixels.shape[:2]
    return height / max(height, width), width / max(height, width)


def _caption(
    ax: Any, corner: tuple[float, float], lines: list[str], size: float, text_kw: dict[str, Any] | None
) -> Any:
    from matplotlib.text import Text

    style = {"fontsize": size, "va": "top", "ha": "left", "linespacing": 1.15}
    return ax.text(*corner, "\n".join(short(line, 29) for line in lines), **styled(style, text_kw, Text))


def _title(what: str, shown: int, n: int, n_failures: int) -> str:
    lost = f"; {n_failures} cannot be read" if n_failures else ""
    return f"{what}: {shown} of {n} images{lost}"


def _with_failures(ordered: np.ndarray, failures: dict[int, str], n_images: int) -> np.ndarray:
    """Choose the indices that are shown; what cannot be read comes last, where there is room."""
    return np.concatenate([ordered, np.array(sorted(failures), dtype=np.int64)])[:n_images]


def _labels_of(said_rows: np.ndarray, labels: np.ndarray | None, indices: np.ndarray) -> list[Any]:
    """Label of each index, None where nothing was said of it."""
    if labels is None:
        return [None] * len(indices)
    by_row = dict(zip(said_rows.tolist(), labels.tolist(), strict=True))
    return [by_row.get(index) for index in indices.tolist()]


def _line(word: str, name: Any) -> list[str]:
    return [] if name is None else [f"{word} {short(str(name), 27 - len(word))}"]


class LargestErrorsDisplay(_ContactSheet):
    """Contact sheet of the images whose predicted rank is furthest from the true one.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Images of equal error come in the order of the probability of their true rank, the least first, where probabilities
    are known. Images without an error are not shown.

    Parameters
    ----------
    indices : ndarray of shape (m,)
        Index in X of each image that is shown.
    y_true, y_pred : sequence of m labels
        None for an image that cannot be read.
    errors : ndarray of shape (m,)
        Predicted minus true, in the unit of numeric labels, else in ranks; NaN for an image that cannot be read.
    thumbnails : list of m Thumbnail
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
    >>> from skl2rclip.inspection import LargestErrorsDisplay
    >>> display = LargestErrorsDisplay.from_estimator(clf, X_test, y_test)  # doctest: +SKIP
    >>> [X_test[i] for i in display.indices]  # doctest: +SKIP
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
        self.y_true, self.y_pred, self.errors, self.display_labels = y_true, y_pred, errors, display_labels
        self._hold(indices, thumbnails, title)

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
        LargestErrorsDisplay
        """
        asked = cls._asked(estimator, X, y, n_images, images, ranks, needs_labels=True)
        return cls._of(*asked, n_images, display_labels).plot(ax=ax, **kwargs)

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
            Pictures, as `L2RCLIPClassifier.fit` takes them.
        y_true, y_pred : array-like of shape (n,)
            True and predicted labels.
        n_images : int, default=20
            Most pictures that are shown; no others are decoded.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
        display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        LargestErrorsDisplay
        """
        pyplot(cls.__name__)
        check_integer("n_images", n_images, 1)
        images = check_pictures(cls.__name__, as_sequence(images), None)
        scale = scale_of_labels(y_true, y_pred, ranks)
        true, predicted = check_labels(y_true, "y_true"), check_labels(y_pred, "y_pred")
        check_lengths(images, true)
        check_lengths(images, predicted)
        said = Response(
            scale,
            np.arange(len(true)),
            true=scale.encode(true, "y_true"),
            predicted=scale.encode(predicted, "y_pred"),
        )
        return cls._of(said, images, NOTHING_DECIDED, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls,
        said: Response,
        pictures: Any,
        whites: Whites,
        n_images: int,
        display_labels: Any,
    ) -> LargestErrorsDisplay:
        assert said.true is not None
        assert said.predicted is not None
        scale = said.scale
        errors = scale.values[said.predicted] - scale.values[said.true]
        order = largest_first(errors, said.true, said.probabilities)
        indices = _with_failures(said.rows[order], said.failures, n_images)
        what = "Largest errors" if len(order) else "No errors"
        error_of = dict(zip(said.rows.tolist(), errors.tolist(), strict=True))
        return cls(
            indices,
            _labels_of(said.rows, scale.ranks[said.true], indices),
            _labels_of(said.rows, scale.ranks[said.predicted], indices),
            errors=np.array([error_of.get(index, np.nan) for index in indices.tolist()]),
            thumbnails=thumbnails_of(pictures, indices, _SIDE, whites),
            title=_title(what, len(indices), len(pictures), len(said.failures)),
            display_labels=dict(zip(scale.ranks.tolist(), display_names(scale.ranks, display_labels), strict=True)),
        )

    def _captions(self) -> list[list[str]]:
        return [
            [_place(index, error), *_line("true", _named(true, self)), *_line("predicted", _named(predicted, self))]
            for index, error, true, predicted in zip(
                self.indices.tolist(), self.errors.tolist(), self.y_true, self.y_pred, strict=True
            )
        ]


def _place(index: int, error: float) -> str:
    return f"index {index}" if math.isnan(error) else f"index {index}, {error:+.4g}"


def _named(label: Any, display: Any) -> str | None:
    if label is None:
        return None
    return default_name(label) if display.display_labels is None else display.display_labels[label]


def largest_first(errors: np.ndarray, true: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    """Order of the rows that have an error: the largest first, of equal ones the surest.

    Parameters
    ----------
    errors : ndarray of shape (n,)
        Signed.
    true : ndarray of shape (n,), int
        Positions of the true ranks.
    probabilities : ndarray of shape (n, K), optional
        Columns in rank order.

    Returns
    -------
    ndarray of shape (m,), int64
    """
    doubt = np.zeros(len(errors)) if probabilities is None else probabilities[np.arange(len(errors)), true]
    order = np.lexsort([doubt, -np.abs(errors)])
    return order[errors[order] != 0]


class SortedPicturesDisplay(_ContactSheet):
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
        scale = scale_of_labels(y_pred if y_true is None else y_true, y_pred, ranks)
        predicted = check_labels(y_pred, "y_pred")
        true = None if y_true is None else check_labels(y_true, "y_true")
        for labels in (predicted, *([] if true is None else [true])):
            check_lengths(images, labels)
        said = Response(
            scale,
            np.arange(len(predicted)),
            true=None if true is None else scale.encode(true, "y_true"),
            predicted=scale.encode(predicted, "y_pred"),
        )
        return cls._of(said, images, NOTHING_DECIDED, n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls,
        said: Response,
        pictures: Any,
        whites: Whites,
        n_images: int,
        display_labels: Any,
    ) -> SortedPicturesDisplay:
        assert said.predicted is not None
        scale = said.scale
        order = lowest_first(said.predicted, said.probabilities)
        if len(order) > n_images:
            order = order[np.linspace(0, len(order) - 1, n_images).round().astype(np.int64)]
        indices = _with_failures(said.rows[order], said.failures, n_images)
        true = None if said.true is None else _labels_of(said.rows, scale.ranks[said.true], indices)
        return cls(
            indices,
            _labels_of(said.rows, scale.ranks[said.predicted], indices),
            thumbnails=thumbnails_of(pictures, indices, _SIDE, whites),
            y_true=true,
            title=_title("By predicted rank", len(indices), len(pictures), len(said.failures)),
            display_labels=dict(zip(scale.ranks.tolist(), display_names(scale.ranks, display_labels), strict=True)),
        )

    def _captions(self) -> list[list[str]]:
        true = [None] * len(self.indices) if self.y_true is None else self.y_true
        return [
            [f"index {index}", *_line("predicted", _named(predicted, self)), *_line("true", _named(label, self))]
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
