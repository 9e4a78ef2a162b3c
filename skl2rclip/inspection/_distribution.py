"""`RankDistributionDisplay`: one image beside its distribution over the ranks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skl2rclip._images.collection import as_image_list
from skl2rclip._ordinal.decisions import central_interval, expected_value, read_out
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.ranks import default_name, given_ranks, scale_of
from skl2rclip._utils.arguments import check_integer, check_lengths, check_real
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from skl2rclip.inspection._drawing import (
    AS_IT_IS,
    BARS,
    LEGEND_ABOVE,
    ORANGE,
    display_names,
    draw_blank,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    rounded,
    short,
    styled,
    unit_of,
)
from skl2rclip.inspection._responses import as_sequence, ordered_scale, response_of, rows_of
from skl2rclip.inspection._thumbnails import check_images, thumbnails_of, white_of

_SIDE = 512  # pixels of the image


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
        The image; None where it cannot be read.
    problem : str, optional
        Why not.
    index : int, optional
        Its index in X, for the title.
    name : str, optional
        Name of its file, for the title.
    y_true : label, optional
        The true label, which is marked.
    y_pred : label, optional
        The predicted label, which is marked.
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
        Image and distribution.
    ax_ : Axes
        The distribution.
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> from skl2rclip.inspection import RankDistributionDisplay
    >>> photos = make_graded_photographs(5, random_state=0)
    >>> clf = L2RCLIPClassifier("skl2rclip-tiny", ranks=photos.ranks, prompt=photos.prompt).fit_zero_shot()
    >>> display = RankDistributionDisplay.from_estimator(clf, photos.data, photos.target, index=3)
    >>> display.probabilities.shape, display.interval.shape
    ((5,), (2,))
    """

    def __init__(
        self,
        probabilities: Any,
        *,
        ranks: Any,
        thumbnail: np.ndarray | None = None,
        problem: str | None = None,
        index: int | None = None,
        name: str | None = None,
        y_true: Any = None,
        y_pred: Any = None,
        coverage: float = 0.8,
        display_labels: Any = None,
    ):
        check_real("coverage", coverage, 0, 1, open_ends=True)
        self.probabilities, self.ranks = probabilities, ranks
        self.thumbnail, self.problem, self.index, self.name = thumbnail, problem, index, name
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
            The images, where X holds something else, such as stored embeddings.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
            ``"ranks"`` shows the labels.
        ax : Axes, or two of them, optional
            Where to draw; by default in a new figure.
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
        shown = check_images(who, X, images)
        truth = None if y is None else check_labels(y)
        if truth is not None:
            check_lengths(X, truth)
            ranks = ordered_scale(estimator, y, ranks).ranks  # which one label alone does not show
        asked = rows_of(X, [index])
        try:
            said = response_of(who, estimator, asked, ranks=ranks, needs_labels=False)
        except UnreadableImagesError as error:
            [reason] = error.failures.values()
            raise UnreadableImagesError({index: reason}, {index: as_image_list(asked)[0]}, len(X)) from None
        (thumbnail,) = thumbnails_of(shown, [index], _SIDE, white_of(estimator))
        assert said.probabilities is not None
        assert said.predicted is not None
        display = cls(
            said.probabilities[0],
            ranks=said.scale.ranks,
            thumbnail=thumbnail.pixels,
            problem=thumbnail.problem,
            index=int(index),
            name=thumbnail.name or None,
            y_true=None if truth is None else truth[index],
            y_pred=said.scale.ranks[said.predicted[0]],
            coverage=coverage,
            display_labels=display_names(said.scale, display_labels),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, bar_kw: dict[str, Any] | None = None) -> RankDistributionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or two of them, optional
            Where; one is divided into both panels. By default in a new figure.
        bar_kw : dict, optional
            For `Axes.bar` of the probabilities.

        Returns
        -------
        RankDistributionDisplay
            Itself.
        """
        margin = margin_for(self._names())
        image, ax = panels(type(self).__name__, ax, (9.0 + margin, 4.2 + 0.7 * margin), (1, 1.6))
        self._draw_image(image)
        self._draw_distribution(ax, bar_kw)
        self.axes_ = np.array([image, ax], dtype=object)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _names(self) -> list[str]:
        return display_names(self._scale, self.display_labels)

    def _name_of(self, label: Any) -> str:
        position = self._scale.encode(check_labels([label]))[0]
        return short(self._names()[position], 22)

    def _draw_image(self, ax: Any) -> None:
        ax.set_axis_off()
        lines = [short(self.name)] if self.name else []
        lines += [] if self.index is None else [f"index {self.index}"]
        lines += [] if self.y_true is None else [f"true {self._name_of(self.y_true)}"]
        lines += [] if self.y_pred is None else [f"predicted {self._name_of(self.y_pred)}"]
        ax.set_title("\n".join(lines), fontsize="medium", loc="left", **AS_IT_IS)
        if self.thumbnail is not None:
            ax.imshow(self.thumbnail)
        elif self.problem is not None:
            draw_blank(ax, (0, 0, 1), f"cannot be read: {self.problem}", 9, 18)
            ax.set(xlim=(-0.02, 1.02), ylim=(1.02, -0.02), aspect="equal")

    def _draw_distribution(self, ax: Any, bar_kw: dict[str, Any] | None) -> None:
        from matplotlib.patches import Rectangle

        row = np.asarray(self.probabilities, dtype=np.float64)
        K = len(row)
        style = {"width": 0.8 if K <= 30 else 1.0, **BARS}
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
        values = self._scale.values
        spread = math.sqrt(row @ (values - self.mean) ** 2)
        name = f"mean: {rounded(self.mean, spread)}{self._scale_of_mean()}"
        at = position_of(self.mean, values)
        (self.mean_line_,) = ax.plot(
            [at] * 2, [0, 1.04 * top], color="#D55E00", linestyle=":", linewidth=2.5, label=name
        )
        ax.set(ylabel="probability", xlim=(-0.7, K - 0.3), ylim=(0, 1.16 * top))
        mark_ranks(ax, "x", self._names())
        for text in ax.legend(**LEGEND_ABOVE).get_texts():
            text.set(**AS_IT_IS)

    def _scale_of_mean(self) -> str:
        """Say between which numbers a mean lies, where the ranks are shown by words."""
        if not unit_of(self._scale, self._names()):
            return ""
        first, last = (default_name(float(end)) for end in self._scale.values[[0, -1]])
        return f" on the scale of {first} to {last}"


def position_of(value: float, values: np.ndarray) -> float:
    """Find where a number stands between the positions 0 to K - 1 of ascending or descending values."""
    positions = np.arange(len(values))
    if values[0] > values[-1]:
        values, positions = values[::-1], positions[::-1]
    return float(np.interp(value, values, positions))


def _check_index(index: Any, n: int) -> None:
    check_integer("index", index, 0)
    if not n:
        raise ValueError("X is empty while a minimum of 1 image is required.")
    if index >= n:
        raise InvalidParameterError(f"index must be in [0, {n - 1}], got {index}: X holds {n} images.")
