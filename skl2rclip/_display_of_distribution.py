"""Displays that show pictures: one beside its distribution over the ranks, and contact sheets."""

from __future__ import annotations

import math
import textwrap
from typing import Any, Self

import numpy as np

from skl2rclip._drawing import (
    BLUE,
    LEGEND_ABOVE,
    ORANGE,
    display_names,
    mark_ranks,
    panels,
    pyplot,
    room_for,
    short,
    styled,
)
from skl2rclip._labels import check_labels, holds_numbers
from skl2rclip._ranks import central_interval, default_name, expected_value, given_ranks, read_out, scale_of
from skl2rclip._responses import Response, as_sequence, ordered_scale, response_of, rows_of, scale_of_labels
from skl2rclip._thumbnails import Thumbnail, check_pictures, thumbnails_of, whites_of
from skl2rclip._validation import check_integer, check_lengths, check_real
from skl2rclip._white_levels import NOTHING_DECIDED, Whites
from skl2rclip.errors import InvalidParameterError

_SIDE, _LARGE_SIDE = 160, 512  # pixels of thumbnails, and of one picture alone


class RankDistributionDisplay:
    """One image beside its predicted distribution over the ranks, with mean, median and interval.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    probabilities : ndarray of shape (K,)
        In rank order.
    ranks : array-like of shape (K,)
        All labels, lowest first.
    thumbnail : ndarray of shape (H, W, 3), uint8, optional
        The picture; None where it cannot be read.
    problem : str, optional
        Why not.
    index : int, optional
        Its index in X, for the title.
    y_true : label, optional
    y_pred : label, optional
    coverage : float, default=0.8
        Probability that the interval is to hold, in (0, 1).
    display_labels : sequence of K str, optional
        Words for the ranks; by default the labels.

    Attributes
    ----------
    mean : float
        Expected value, in the unit of numeric labels, else on the scale of 1 to K.
    median : label
        First rank at which the cumulated probability reaches one half.
    interval : ndarray of shape (2,)
        Labels: lowest and highest rank of the central interval.
    bars_ : BarContainer
        Probabilities.
    mean_line_, median_line_, interval_line_ : Line2D
        Marks above the bars, at positions in rank order.
    axes_ : ndarray of two Axes
        Picture and distribution.
    ax_ : Axes
        The distribution.
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip.inspection import RankDistributionDisplay
    >>> display = RankDistributionDisplay.from_estimator(clf, X_test, y_test, index=3)  # doctest: +SKIP
    >>> display.mean, display.interval  # doctest: +SKIP
    """

    def __init__(
        self,
        probabilities: Any,
        *,
        ranks: Any,
        thumbnail: np.ndarray | None = None,
        problem: str | None = None,
        index: int | None = None,
        y_true: Any = None,
        y_pred: Any = None,
        coverage: float = 0.8,
        display_labels: Any = None,
    ):
        check_real("coverage", coverage, 0, 1, open_ends=True)
        self.probabilities, self.ranks = probabilities, ranks
        self.thumbnail, self.problem, self.index = thumbnail, problem, index
        self.y_true, self.y_pred = y_true, y_pred
        self.coverage, self.display_labels = coverage, display_labels
        self._scale = scale_of(given_ranks(ranks))
        row = np.asarray(probabilities, dtype=np.float64)[None]
        self.mean = float(expected_value(row, self._scale.values)[0])
        self._median = int(read_out(row, self._scale.values, "median")[0])
        self._ends = central_interval(row, float(coverage))[0]
        self.median = self._scale.ranks[self._median]
        self.interval = self._scale.ranks[self._ends]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        index: int = 0,
        coverage: float = 0.8,
        images: Any = None,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RankDistributionDisplay:
        """Predict one image of X, and draw it.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one.
        X : sequence of n images
            What it predicts from; no other image than that of `index` is looked at.
        y : array-like of shape (n,), optional
            True labels; that of the image is marked.
        index : int, default=0
            Which image, from 0 to n - 1.
        coverage : float, default=0.8
            Probability that the interval is to hold, in (0, 1).
        images : sequence of n images, optional
            The pictures, where X holds something else, such as stored embeddings.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        display_labels : sequence of K str, optional
            Words for the ranks; by default the labels.
        ax : Axes, or two of them, optional
        **kwargs
            For `plot`.

        Returns
        -------
        RankDistributionDisplay
        """
        who = cls.__name__
        pyplot(who)
        check_real("coverage", coverage, 0, 1, open_ends=True)
        X = as_sequence(X)
        _check_index(index, len(X))
        pictures = check_pictures(who, X, images)
        truth = None if y is None else check_labels(y)
        if truth is not None:
            check_lengths(X, truth)
            ranks = ordered_scale(estimator, y, ranks).ranks  # which one label alone does not show
        said = response_of(who, estimator, rows_of(X, [index]), ranks=ranks, needs_labels=False)
        (thumbnail,) = thumbnails_of(pictures, [index], _LARGE_SIDE, _whites(estimator, images))
        assert said.probabilities is not None
        assert said.predicted is not None
        display = cls(
            said.probabilities[0],
            ranks=said.scale.ranks,
            thumbnail=thumbnail.pixels,
            problem=thumbnail.problem,
            index=int(index),
            y_true=None if truth is None else truth[index],
            y_pred=said.scale.ranks[said.predicted[0]],
            coverage=coverage,
            display_labels=display_names(said.scale.ranks, display_labels),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, bar_kw: dict[str, Any] | None = None) -> RankDistributionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or two of them, optional
            Where; one gives its room to both panels. By default in a new figure.
        bar_kw : dict, optional
            For `Axes.bar` of the probabilities.

        Returns
        -------
        RankDistributionDisplay
            Itself.
        """
        room = room_for(display_names(self._scale.ranks, self.display_labels))
        picture, ax = panels(type(self).__name__, ax, (9.0 + room, 4.2 + 0.7 * room), (1, 1.6))
        self._draw_picture(picture)
        self._draw_distribution(ax, bar_kw)
        self.axes_ = np.array([picture, ax], dtype=object)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _name_of(self, label: Any) -> str:
        position = self._scale.encode(check_labels([label]))[0]
        return short(display_names(self._scale.ranks, self.display_labels)[position], 22)

    def _draw_picture(self, ax: Any) -> None:
        ax.set_axis_off()
        lines = [] if self.index is None else [f"index {self.index}"]
        lines += [] if self.y_true is None else [f"true {self._name_of(self.y_true)}"]
        lines += [] if self.y_pred is None else [f"predicted {self._name_of(self.y_pred)}"]
        ax.set_title("\n".join(lines), fontsize="medium", loc="left")
        if self.thumbnail is not None:
            ax.imshow(self.thumbnail)
        elif self.problem is not None:
            _draw_blank(ax, (0, 0, 1), f"cannot be read: {self.problem}", 9, 18)
            ax.set(xlim=(-0.02, 1.02), ylim=(1.02, -0.02), aspect="equal")

    def _draw_distribution(self, ax: Any, bar_kw: dict[str, Any] | None) -> None:
        from matplotlib.patches import Rectangle

        row = np.asarray(self.probabilities, dtype=np.float64)
        K = len(row)
        style = {"width": 0.8 if K <= 30 else 1.0, "color": "#8DB9D8", "edgecolor": BLUE, "linewidth": 0.5}
        self.bars_ = ax.bar(np.arange(K), row, **styled(style, bar_kw, Rectangle))
        if self.y_true is not None:
            true = int(self._scale.encode(check_labels([self.y_true]))[0])
            name = f"true: {self._name_of(self.y_true)}"
            style = {"color": "black", "markeredgecolor": "white", "markersize": 9, "zorder": 4}
            ax.plot(true, row[true] + 0.03 * row.max(), "v", label=name, **style)
        top = row.max()
        low, high = self._ends
        style = {"color": ORANGE, "linewidth": 3, "marker": "|", "markersize": 12, "markeredgewidth": 3}
        ends = [self._name_of(end) for end in self.interval]
        name = f"{self.coverage:.0%} interval: {' to '.join(ends if low < high else ends[:1])}"
        (self.interval_line_,) = ax.plot([low, high], [1.08 * top] * 2, label=name, **style)
        name = f"median: {self._name_of(self.median)}"
        (self.median_line_,) = ax.plot([self._median] * 2, [0, 1.04 * top], color="black", linestyle="-", label=name)
        name = f"mean: {self.mean:.4g}" + ("" if holds_numbers(self._scale.ranks) else f" on the scale of 1 to {K}")
        at = position_of(self.mean, self._scale.values)
        (self.mean_line_,) = ax.plot(
            [at] * 2, [0, 1.04 * top], color="#D55E00", linestyle=":", linewidth=2.5, label=name
        )
        ax.set(ylabel="probability", xlim=(-0.7, K - 0.3), ylim=(0, 1.16 * top))
        mark_ranks(ax, "x", display_names(self._scale.ranks, self.display_labels))
        ax.legend(**LEGEND_ABOVE)


def position_of(value: float, values: np.ndarray) -> float:
    """Find where a number stands between the positions 0 to K - 1 of ascending or descending values."""
    positions = np.arange(len(values))
    if values[0] > values[-1]:
        values, positions = values[::-1], positions[::-1]
    return float(np.interp(value, values, positions))


def _whites(estimator: Any, images: Any) -> Whites:
    """Tell what is white in the pictures that are shown: as the estimator takes them, unless they are others than X."""
    return whites_of(estimator) if images is None else NOTHING_DECIDED


def _check_index(index: Any, n: int) -> None:
    check_integer("index", index, 0)
    if index >= n:
        raise InvalidParameterError(f"index must be in [0, {n - 1}], got {index}: X holds {n} images.")


# ------------------------------------------------------------ contact sheets


class _ContactSheet:
    """Pictures in rows, a caption below each, in one Axes: what the two sheets share."""

    indices: np.ndarray
    thumbnails: list[Any]
    problems: list[str | None]
    names: list[str]
    title: str

    def _captions(self) -> list[list[str]]:
        raise NotImplementedError

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
            _draw_blank(ax, (left, top, 1), f"{name}{self.problems[place]}", size, 20)
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


def _draw_blank(ax: Any, square: tuple[float, float, float], said: str, size: float, letters: int) -> None:
    """Draw a tile without a picture, which says why."""
    from matplotlib.patches import Rectangle

    left, top, side = square
    ax.add_patch(Rectangle((left, top), side, side, facecolor="0.93", edgecolor="0.5", hatch="//", linewidth=0.8))
    wrapped = "\n".join(line for part in said.splitlines() for line in textwrap.wrap(part, letters)[:4])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    ax.text(left + side / 2, top + side / 2, wrapped, ha="center", va="center", fontsize=size, bbox=box)


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
        who = cls.__name__
        pyplot(who)
        check_integer("n_images", n_images, 1)
        X = as_sequence(X)
        pictures = check_pictures(who, X, images)
        has_probabilities = hasattr(estimator, "predict_proba")
        said = response_of(who, estimator, X, y, ranks=ranks, probabilities=has_probabilities, skip_unreadable=True)
        whites = _whites(estimator, images)
        return cls._of(said, pictures, len(X), n_images, display_labels, whites).plot(ax=ax, **kwargs)

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
        return cls._of(said, images, len(true), n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls,
        said: Response,
        pictures: Any,
        n: int,
        n_images: int,
        display_labels: Any,
        whites: Whites = NOTHING_DECIDED,
    ) -> LargestErrorsDisplay:
        assert said.true is not None
        assert said.predicted is not None
        scale = said.scale
        errors = scale.values[said.predicted] - scale.values[said.true]
        order = largest_first(errors, said.true, said.probabilities)
        indices = _with_failures(said.rows[order], said.failures, n_images)
        error_of = dict(zip(said.rows.tolist(), errors.tolist(), strict=True))
        return cls(
            indices,
            _labels_of(said.rows, scale.ranks[said.true], indices),
            _labels_of(said.rows, scale.ranks[said.predicted], indices),
            errors=np.array([error_of.get(index, np.nan) for index in indices.tolist()]),
            thumbnails=thumbnails_of(pictures, indices, _SIDE, whites),
            title=_title("Largest errors" if len(order) else "No errors", len(indices), n, len(said.failures)),
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
        who = cls.__name__
        pyplot(who)
        check_integer("n_images", n_images, 1)
        X = as_sequence(X)
        pictures = check_pictures(who, X, images)
        has_probabilities = hasattr(estimator, "predict_proba")
        said = response_of(
            who,
            estimator,
            X,
            y,
            ranks=ranks,
            probabilities=has_probabilities,
            needs_labels=False,
            skip_unreadable=True,
        )
        whites = _whites(estimator, images)
        return cls._of(said, pictures, len(X), n_images, display_labels, whites).plot(ax=ax, **kwargs)

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
        return cls._of(said, images, len(predicted), n_images, display_labels).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls,
        said: Response,
        pictures: Any,
        n: int,
        n_images: int,
        display_labels: Any,
        whites: Whites = NOTHING_DECIDED,
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
            title=_title("By predicted rank", len(indices), n, len(said.failures)),
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
