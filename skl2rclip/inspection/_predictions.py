"""The display of predicted against true ranks, with intervals. Images are not known."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.decisions import central_interval
from skl2rclip._ordinal.labels import check_labels, listing
from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._utils.arguments import check_choice, check_real
from skl2rclip.inspection._drawing import (
    BARS,
    BLUE,
    GREY,
    LEGEND_ABOVE,
    ORANGE,
    display_names,
    fitted,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    rounded,
    styled,
    unit_of,
)
from skl2rclip.inspection._responses import response_of

_MAX_WRITTEN = 15  # ranks, beyond which each of them is not named


class RankPredictionDisplay:
    """Predicted against true ranks with intervals, and the mean absolute error of each rank.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Up to `max_points` images are drawn one by one, each with its interval, side by side where they share a true rank.
    More of them are drawn as discs whose areas are the numbers of images, with the mean interval of each true rank.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels.
    ranks : array-like of shape (K,)
        All labels, lowest first.
    y_interval : array-like of shape (n, 2), optional
        Labels: lowest and highest rank of each interval, as `L2RCLIPClassifier.predict_interval` returns them.
    coverage : float, optional
        What the intervals are to hold, for the legend.
    display_labels : sequence of K str, optional
        Words for the ranks; by default the labels.

    Attributes
    ----------
    mae : float
        Mean absolute error, in the unit of numeric labels, else in ranks.
    mae_by_rank : ndarray of shape (K,)
        The same for the images of each true rank; NaN where there are none.
    n_by_rank : ndarray of shape (K,), int64
        Number of images of each true rank.
    points_ : PathCollection
        Images, or discs of them. None where that panel is not drawn.
    intervals_ : LineCollection, BarContainer or None
        Intervals.
    bars_ : BarContainer
        Errors by rank. None where that panel is not drawn.
    axes_ : ndarray of Axes
        The panels.
    ax_ : Axes
        The first of them.
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip.inspection import RankPredictionDisplay
    >>> display = RankPredictionDisplay.from_predictions([1, 1, 2, 3], [1, 2, 2, 1])
    >>> display.mae, display.mae_by_rank.tolist()
    (0.75, [0.5, 0.0, 2.0])

    Of a fitted classifier it is ``RankPredictionDisplay.from_estimator(clf, X_test, y_test, coverage=0.9)``.
    """

    def __init__(
        self,
        y_true: Any,
        y_pred: Any,
        *,
        ranks: Any,
        y_interval: Any = None,
        coverage: float | None = None,
        display_labels: Any = None,
    ):
        self.y_true, self.y_pred, self.ranks = y_true, y_pred, ranks
        self.y_interval, self.coverage, self.display_labels = y_interval, coverage, display_labels
        self._scale, self._true, self._predicted = encoded_pair(y_true, y_pred, ranks)
        self._ends = None if y_interval is None else self._encoded_interval(y_interval)
        errors = np.abs(self._scale.values[self._true] - self._scale.values[self._predicted])
        K = len(self._scale.ranks)
        self.mae = float(errors.mean())
        self.n_by_rank = np.bincount(self._true, minlength=K)
        with np.errstate(invalid="ignore"):
            self.mae_by_rank = np.bincount(self._true, weights=errors, minlength=K) / self.n_by_rank

    def _names(self) -> list[str]:
        return display_names(self._scale, self.display_labels)

    def _encoded_interval(self, y_interval: Any) -> np.ndarray:
        ends = np.asarray(y_interval)
        if ends.shape != (len(self._true), 2):
            raise ValueError(
                f"y_interval must have a row of two labels for each of {len(self._true)} images, got the shape "
                f"{ends.shape}."
            )
        encoded = self._scale.encode(check_labels(ends.ravel(), "y_interval"), "y_interval").reshape(-1, 2)
        wrong = np.flatnonzero(encoded[:, 0] > encoded[:, 1])
        if len(wrong):
            shown = listing(ends[wrong[0]].tolist())
            raise ValueError(f"y_interval[{wrong[0]}] ends before it begins: {shown}. The lowest label comes first.")
        return encoded

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        coverage: float | None = 0.8,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RankPredictionDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one.
        X : sequence of n images
            What it predicts from.
        y : array-like of shape (n,)
            True labels.
        coverage : float or None, default=0.8
            Probability that the central intervals are to hold, in (0, 1); see `L2RCLIPClassifier.predict_interval`.
            None draws none, and asks for no probabilities.
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
        RankPredictionDisplay
        """
        pyplot(cls.__name__)
        if coverage is not None:
            check_real("coverage", coverage, 0, 1, open_ends=True)
        said = response_of(
            cls.__name__,
            estimator,
            X,
            y,
            ranks=ranks,
            probabilities=coverage is not None,
            advice=": coverage=None draws without intervals",
        )
        labels = said.scale.ranks
        ends = None if coverage is None else labels[central_interval(said.probabilities, coverage)]  # type: ignore[arg-type]
        return cls.from_predictions(
            labels[said.true],
            labels[said.predicted],
            y_interval=ends,
            coverage=coverage,
            ranks=labels,
            display_labels=display_names(said.scale, display_labels),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        y_interval: Any = None,
        coverage: float | None = None,
        ranks: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> RankPredictionDisplay:
        """Draw predictions, with intervals of any kind.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            True and predicted labels.
        y_interval : array-like of shape (n, 2), optional
            Labels: lowest and highest rank of each interval.
        coverage : float, optional
            What the intervals are to hold, for the legend.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
        display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        RankPredictionDisplay
        """
        pyplot(cls.__name__)
        if coverage is not None:
            check_real("coverage", coverage, 0, 1, open_ends=True)
        scale = encoded_pair(y_true, y_pred, ranks)[0]
        display = cls(
            y_true,
            y_pred,
            ranks=scale.ranks,
            y_interval=y_interval,
            coverage=coverage,
            display_labels=display_names(scale, display_labels),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "both",
        max_points: int = 200,
        scatter_kw: dict[str, Any] | None = None,
        interval_kw: dict[str, Any] | None = None,
        bar_kw: dict[str, Any] | None = None,
    ) -> RankPredictionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or two of them, optional
            Where; one is divided into both panels. By default in a new figure.
        kind : {"both", "predictions", "errors"}, default="both"
            Which panels.
        max_points : int, default=200
            Up to so many images are drawn one by one.
        scatter_kw, interval_kw, bar_kw : dict, optional
            For `Axes.scatter`; for `Axes.vlines` of single intervals, or `Axes.bar` of mean ones; and for `Axes.bar` of
            the errors.

        Returns
        -------
        RankPredictionDisplay
            Itself.
        """
        check_choice("kind", kind, ("both", "predictions", "errors"))
        who = type(self).__name__
        is_both = kind == "both"
        margin = margin_for(self._names())
        size = (10.5 + 1.5 * margin if is_both else 5.5 + margin, 4.8 + 0.7 * margin)
        drawn = panels(who, ax, size, (1, 1) if is_both else (1,))
        self.points_: Any = None
        self.intervals_: Any = None
        self.bars_: Any = None
        if kind != "errors":
            self._draw_predictions(drawn[0], max_points, scatter_kw, interval_kw)
        if kind != "predictions":
            self._draw_errors(drawn[-1], bar_kw)
        self.axes_ = np.array(drawn, dtype=object)
        self.ax_, self.figure_ = drawn[0], drawn[0].figure
        return self

    def _draw_predictions(self, ax: Any, max_points: int, scatter_kw: Any, interval_kw: Any) -> None:
        K = len(self._scale.ranks)
        ax.set(xlabel="true", ylabel="predicted", xlim=(-0.6, K - 0.4), ylim=(-0.6, K - 0.4))
        for which in "xy":
            mark_ranks(ax, which, self._names())
        ax.plot([0, K - 1], [0, K - 1], color="black", linestyle="--", linewidth=1, label="exact", zorder=1)
        if len(self._true) <= max_points:
            self._draw_points(ax, scatter_kw, interval_kw)
        else:
            self._draw_discs(ax, scatter_kw, interval_kw)
        ax.legend(**LEGEND_ABOVE)

    def _interval_name(self, of: str) -> str:
        return f"interval{of}" if self.coverage is None else f"{self.coverage:.0%} interval{of}"

    def _draw_points(self, ax: Any, scatter_kw: Any, interval_kw: Any) -> None:
        from matplotlib.collections import LineCollection, PathCollection

        places = self._true + _side_by_side(self._true, self._predicted)
        if self._ends is not None:
            # side by side, with some white between them
            room = ax.get_window_extent().width / ax.figure.dpi * 72 / len(self.n_by_rank)  # points for each rank
            width = float(np.clip(0.4 * room / self.n_by_rank.max(), 0.7, 1.6))
            style = {"color": ORANGE, "linewidth": width, "zorder": 2, "label": self._interval_name("")}
            low, high = self._widened(*self._ends.T)
            self.intervals_ = ax.vlines(places, low, high, **styled(style, interval_kw, LineCollection))
        style = {"s": 16, "color": BLUE, "zorder": 3, "label": "image"}
        self.points_ = ax.scatter(places, self._predicted, **styled(style, scatter_kw, PathCollection))

    def _widened(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Widen intervals a little, so that those of one rank are seen, but not beyond the scale."""
        reach = 0.12
        return np.maximum(low - reach, 0), np.minimum(high + reach, len(self._scale.ranks) - 1)

    def _draw_discs(self, ax: Any, scatter_kw: Any, interval_kw: Any) -> None:
        from matplotlib.collections import PathCollection
        from matplotlib.patches import Rectangle

        K = len(self._scale.ranks)
        if self._ends is not None:
            ranks = np.flatnonzero(self.n_by_rank)
            low, high = (
                np.bincount(self._true, weights=self._ends[:, end], minlength=K)[ranks] / self.n_by_rank[ranks]
                for end in (0, 1)
            )
            style = {"color": ORANGE, "alpha": 0.45, "width": 1.0, "linewidth": 0, "zorder": 1}
            style["label"] = self._interval_name(", mean of the rank")
            low, high = self._widened(low, high)
            self.intervals_ = ax.bar(ranks, high - low, bottom=low, **styled(style, interval_kw, Rectangle))
        cells, counts = np.unique(self._true * K + self._predicted, return_counts=True)
        box = ax.get_window_extent()
        cell = min(box.width, box.height) / ax.figure.dpi * 72 / K  # points
        widest = min(cell * (0.7 if K <= 30 else 2.0), 36)
        sizes = widest**2 * counts / counts.max()
        style = {"color": BLUE, "alpha": 0.85, "linewidth": 0, "zorder": 2}
        self.points_ = ax.scatter(cells // K, cells % K, s=sizes, **styled(style, scatter_kw, PathCollection))
        name = f"discs of up to {_images(counts.max())}"
        ax.plot([], [], "o", markersize=5, color=self.points_.get_facecolor()[0], label=name)

    def _draw_errors(self, ax: Any, bar_kw: Any) -> None:
        from matplotlib.patches import Rectangle

        K = len(self._scale.ranks)
        style = {"width": 0.8 if K <= 30 else 1.0, **BARS}
        self.bars_ = ax.bar(np.arange(K), np.nan_to_num(self.mae_by_rank), **styled(style, bar_kw, Rectangle))
        errors = np.abs(self._scale.values[self._true] - self._scale.values[self._predicted])
        name = f"all {_images(len(errors))}: {rounded(self.mae, errors.std() / np.sqrt(len(errors)))}"
        ax.axhline(self.mae, color="black", linestyle="--", linewidth=1, label=name)
        empty = np.flatnonzero(self.n_by_rank == 0)
        if len(empty):
            ax.plot(empty, np.zeros(len(empty)), "x", color=GREY, markersize=4, clip_on=False, label="no image")
        names = self._names()
        ax.set(xlabel="true", ylabel=f"mean absolute error{unit_of(self._scale, names)}", xlim=(-0.6, K - 0.4))
        ax.set_ylim(0, 1.06 * max(np.nanmax(self.mae_by_rank), self.mae) or 1)
        counts = None
        if K <= _MAX_WRITTEN:  # below the axis, where nothing crosses them
            counts = [f"n = {count}" for count in self.n_by_rank]
            ax.set_xlabel(fitted(ax, "true, with the number n of images"))
        mark_ranks(ax, "x", names, counts)
        ax.legend(**LEGEND_ABOVE)


def _images(n: int) -> str:
    return f"{n} image{'' if n == 1 else 's'}"


def _side_by_side(slots: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Offsets from the middle of its slot for each point, so that those of one slot stand side by side by height."""
    offsets = np.zeros(len(slots))
    for slot in np.unique(slots):
        rows = np.flatnonzero(slots == slot)
        rows = rows[np.argsort(heights[rows], kind="stable")]
        if len(rows) > 1:
            reach = min(0.38, 0.08 * (len(rows) - 1))
            offsets[rows] = np.linspace(-reach, reach, len(rows))
    return offsets
