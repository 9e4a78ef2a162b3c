"""Displays of predictions along the ranks: confusion, predicted against true. Pictures are not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix as count_pairs

from skl2rclip._drawing import (
    BLUE,
    GREY,
    LEGEND_ABOVE,
    LINES,
    ORANGE,
    display_names,
    mark_ranks,
    panels,
    pyplot,
    room_for,
    styled,
    unit_of,
    written_cells,
)
from skl2rclip._labels import check_labels
from skl2rclip._ranks import central_interval, given_ranks, scale_of
from skl2rclip._responses import as_sequence, check_classifier, response_of, scale_of_labels
from skl2rclip._validation import check_choice, check_integer, check_real

_MOST_WRITTEN = 15  # ranks, beyond which numbers in cells cannot be read
_NICE_BANDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class OrdinalConfusionDisplay:
    """Confusion matrix in rank order, with bands by distance from the diagonal.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    confusion_matrix : ndarray of shape (K, K)
        Rows are true ranks, columns predicted ones, as `sklearn.metrics.confusion_matrix` has them.
    display_labels : sequence of K str, optional
        Words for the ranks; by default 0 to K - 1.
    bands : sequence of int, optional
        Distances in ranks, not negative; each band is outlined, and holds all cells that are at most so far from the
        diagonal. By default the diagonal and up to two that suit K.
    band_shares : ndarray of shape (len(bands),), optional
        Share of the images in each band, for the legend.

    Attributes
    ----------
    im_ : AxesImage
        The matrix.
    text_ : ndarray of shape (K, K), dtype=object, or None
        Numbers in the cells; None where they are not written.
    lines_ : list of Line2D
        Outlines of the bands.
    ax_ : Axes
    figure_ : Figure

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : The same for labels without an order.

    Examples
    --------
    >>> from skl2rclip.inspection import OrdinalConfusionDisplay
    >>> display = OrdinalConfusionDisplay.from_estimator(clf, X_test, y_test)  # doctest: +SKIP
    >>> display.band_shares  # doctest: +SKIP
    """

    def __init__(
        self, confusion_matrix: Any, *, display_labels: Any = None, bands: Any = None, band_shares: Any = None
    ):
        self.confusion_matrix = confusion_matrix
        self.display_labels = display_labels
        self.bands = _bands_for(len(confusion_matrix)) if bands is None else bands
        self.band_shares = band_shares

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        ranks: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        bands: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> OrdinalConfusionDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one.
        X : sequence of n images
            What it predicts from.
        y : array-like of shape (n,)
            True labels.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        sample_weight : array-like of shape (n,), optional
        normalize : {"true", "pred", "all"} or None, default=None
            Divide by the images of the true rank, of the predicted one, or by all.
        bands : sequence of int, optional
            Distances in ranks.
        display_labels : sequence of K str, optional
            Words for the ranks; by default the labels.
        ax : Axes, optional
        **kwargs
            For `plot`.

        Returns
        -------
        OrdinalConfusionDisplay
        """
        pyplot(cls.__name__)
        X = as_sequence(X)
        said = response_of(cls.__name__, estimator, X, y, ranks=ranks, probabilities=False)
        labels = said.scale.ranks
        return cls.from_predictions(
            labels[said.true],
            labels[said.predicted],
            ranks=labels,
            sample_weight=sample_weight,
            normalize=normalize,
            bands=bands,
            display_labels=display_labels,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        ranks: Any = None,
        sample_weight: Any = None,
        normalize: str | None = None,
        bands: Any = None,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> OrdinalConfusionDisplay:
        """Draw predictions, such as those of `sklearn.model_selection.cross_val_predict`.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            True and predicted labels.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
        sample_weight, normalize, bands, display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        OrdinalConfusionDisplay
        """
        pyplot(cls.__name__)
        scale = scale_of_labels(y_true, y_pred, ranks)
        true, predicted = _encoded(scale, y_true, y_pred)
        every = np.arange(len(scale.ranks))
        matrix = count_pairs(true, predicted, labels=every, sample_weight=sample_weight, normalize=normalize)
        bands = _checked_bands(bands, len(every))
        distances = np.abs(true - predicted)
        shares = np.array([np.average(distances <= band, weights=sample_weight) for band in bands])
        names = display_names(scale.ranks, display_labels)
        return cls(matrix, display_labels=names, bands=bands, band_shares=shares).plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        include_values: bool | None = None,
        values_format: str | None = None,
        cmap: Any = "Blues",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
        text_kw: dict[str, Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> OrdinalConfusionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure.
        include_values : bool, optional
            Whether to write numbers into the cells; by default up to 15 ranks.
        values_format : str, optional
            How; by default "d" for counts and ".2f" for shares.
        cmap : str or Colormap, default="Blues"
            From light to dark, which prints in grey.
        colorbar : bool, default=True
        im_kw, text_kw, line_kw : dict, optional
            For `Axes.imshow`, `Axes.text` of the cells, and `Axes.plot` of the bands.

        Returns
        -------
        OrdinalConfusionDisplay
            Itself.
        """
        matrix = np.asarray(self.confusion_matrix)
        K = len(matrix)
        names = display_names(np.arange(K), self.display_labels)
        (ax,) = panels(type(self).__name__, ax, (6.0 + room_for(names), 5.4 + 0.7 * room_for(names)))
        from matplotlib.colors import PowerNorm
        from matplotlib.image import AxesImage
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        # where no numbers are written, single images are to be seen beside hundreds
        style = {"cmap": cmap, "interpolation": "nearest"}
        style["norm"] = PowerNorm(1.0 if K <= _MOST_WRITTEN else 0.5, vmin=0, vmax=matrix.max() or 1)
        self.im_ = ax.imshow(matrix, **styled(style, im_kw, AxesImage))
        if colorbar:
            are_counts = matrix.dtype.kind in "iu"
            ticks = MaxNLocator(integer=True) if are_counts else None
            ax.figure.colorbar(self.im_, ax=ax, label="images" if are_counts else None, shrink=0.8, ticks=ticks)
        ax.set(xlabel="predicted", ylabel="true", xlim=(-0.5, K - 0.5), ylim=(K - 0.5, -0.5))
        for which in "xy":
            mark_ranks(ax, which, names)
        is_written = K <= _MOST_WRITTEN if include_values is None else include_values
        form = values_format or ("d" if matrix.dtype.kind in "iu" else ".2f")
        self.text_ = written_cells(ax, self.im_, matrix, form, text_kw) if is_written else None
        self.lines_ = []
        for place, band in enumerate(self.bands):
            # the diagonal is plain to see beside other bands
            points: tuple[Any, Any] = ([], []) if band == 0 and len(self.bands) > 1 else _outline(K, band)
            line_style = styled(_band_style(place), line_kw, Line2D)
            if not len(points[0]):
                line_style["linestyle"] = "none"
            self.lines_ += ax.plot(*points, label=self._band_name(place), **line_style)
        ax.legend(handlelength=3, **LEGEND_ABOVE)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _band_name(self, place: int) -> str:
        band = self.bands[place]
        name = "exact" if band == 0 else f"at most {band} off"
        return name if self.band_shares is None else f"{name}: {self.band_shares[place]:.0%}"


def _bands_for(K: int) -> list[int]:
    return [0, *[band for band in _NICE_BANDS if K / 25 <= band < K / 2][:2]]


def _checked_bands(bands: Any, K: int) -> list[int]:
    if bands is None:
        return _bands_for(K)
    for band in bands:
        check_integer("bands", band, 0)
    return sorted({int(band) for band in bands})


def _band_style(place: int) -> dict[str, Any]:
    from matplotlib.patheffects import Normal, Stroke

    return {
        "color": "black",
        "linestyle": LINES[max(place - 1, 0) % len(LINES)]["linestyle"],
        "linewidth": 1.3,
        "path_effects": [Stroke(linewidth=3.0, foreground="white", alpha=0.8), Normal()],  # seen on dark cells too
    }


def _outline(K: int, band: int) -> tuple[np.ndarray, np.ndarray]:
    """Outline the cells that are at most `band` off the diagonal: stairs above and below it."""
    steps = np.arange(max(K - band, 0))
    across = np.repeat(steps + band + 0.5, 2)
    down = np.repeat(steps, 2) + np.tile([-0.5, 0.5], len(steps))
    return np.concatenate([across, [np.nan], down]), np.concatenate([down, [np.nan], across])


def _encoded(scale: Any, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = check_labels(y_true, "y_true"), check_labels(y_pred, "y_pred")
    if len(true) != len(predicted) or not len(true):
        raise ValueError(
            f"y_true and y_pred must have the same length, at least 1, got {len(true)} and {len(predicted)}."
        )
    return scale.encode(true, "y_true"), scale.encode(predicted, "y_pred")


# ----------------------------------------------------- predicted against true


def _check_gives_intervals(who: str, estimator: Any) -> None:
    check_classifier(who, estimator, probabilities=False)
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"{who} needs probabilities, and {type(estimator).__name__} has no predict_proba: coverage=None draws "
            "without intervals."
        )


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
    >>> display = RankPredictionDisplay.from_estimator(clf, X_test, y_test, coverage=0.9)  # doctest: +SKIP
    >>> display.mae_by_rank  # doctest: +SKIP
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
        self._scale = scale_of(given_ranks(ranks))
        self._true, self._predicted = _encoded(self._scale, y_true, y_pred)
        self._ends = None if y_interval is None else self._encoded_interval(y_interval)
        errors = np.abs(self._scale.values[self._true] - self._scale.values[self._predicted])
        K = len(self._scale.ranks)
        self.mae = float(errors.mean())
        self.n_by_rank = np.bincount(self._true, minlength=K)
        with np.errstate(invalid="ignore"):
            self.mae_by_rank = np.bincount(self._true, weights=errors, minlength=K) / self.n_by_rank

    def _encoded_interval(self, y_interval: Any) -> np.ndarray:
        ends = np.asarray(y_interval)
        if ends.shape != (len(self._true), 2):
            raise ValueError(
                f"y_interval must have a row of two labels for each of {len(self._true)} images, got the shape "
                f"{ends.shape}."
            )
        columns = [self._scale.encode(check_labels(ends[:, end], "y_interval"), "y_interval") for end in (0, 1)]
        return np.column_stack(columns)

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
        display_labels : sequence of K str, optional
            Words for the ranks; by default the labels.
        ax : Axes, or two of them, optional
        **kwargs
            For `plot`.

        Returns
        -------
        RankPredictionDisplay
        """
        pyplot(cls.__name__)
        if coverage is not None:
            check_real("coverage", coverage, 0, 1, open_ends=True)
            _check_gives_intervals(cls.__name__, estimator)
        X = as_sequence(X)
        said = response_of(cls.__name__, estimator, X, y, ranks=ranks, probabilities=coverage is not None)
        labels = said.scale.ranks
        ends = None if coverage is None else labels[central_interval(said.probabilities, coverage)]  # type: ignore[arg-type]
        return cls.from_predictions(
            labels[said.true],
            labels[said.predicted],
            y_interval=ends,
            coverage=coverage,
            ranks=labels,
            display_labels=display_labels,
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
        scale = scale_of_labels(y_true, y_pred, ranks)
        display = cls(
            y_true,
            y_pred,
            ranks=scale.ranks,
            y_interval=y_interval,
            coverage=coverage,
            display_labels=display_names(scale.ranks, display_labels),
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
            Where; one gives its room to both panels. By default in a new figure.
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
        room = room_for(display_names(self._scale.ranks, self.display_labels))
        size = (10.5 + 1.5 * room if is_both else 5.5 + room, 4.8 + 0.7 * room)
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
        names = display_names(self._scale.ranks, self.display_labels)
        for which in "xy":
            mark_ranks(ax, which, names)
        ax.plot([-0.5, K - 0.5], [-0.5, K - 0.5], color="black", linestyle="--", linewidth=1, label="exact", zorder=1)
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
            style = {"color": ORANGE, "linewidth": 1.6, "zorder": 2, "label": self._interval_name("")}
            reach = 0.12  # so that an interval of one rank is seen
            self.intervals_ = ax.vlines(
                places,
                self._ends[:, 0] - reach,
                self._ends[:, 1] + reach,
                **styled(style, interval_kw, LineCollection),
            )
        style = {"s": 16, "color": BLUE, "zorder": 3, "label": "image"}
        self.points_ = ax.scatter(places, self._predicted, **styled(style, scatter_kw, PathCollection))

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
            self.intervals_ = ax.bar(
                ranks, high - low + 0.24, bottom=low - 0.12, **styled(style, interval_kw, Rectangle)
            )
        cells, counts = np.unique(self._true * K + self._predicted, return_counts=True)
        box = ax.get_window_extent()
        cell = min(box.width, box.height) / ax.figure.dpi * 72 / K  # points
        widest = min(cell * (0.7 if K <= 30 else 2.0), 36)
        sizes = widest**2 * counts / counts.max()
        style = {"color": BLUE, "alpha": 0.85, "linewidth": 0, "zorder": 2}
        self.points_ = ax.scatter(cells // K, cells % K, s=sizes, **styled(style, scatter_kw, PathCollection))
        name = f"images, up to {counts.max()} in a disc"
        ax.plot([], [], "o", markersize=5, color=self.points_.get_facecolor()[0], label=name)

    def _draw_errors(self, ax: Any, bar_kw: Any) -> None:
        from matplotlib.patches import Rectangle

        K = len(self._scale.ranks)
        style = {"width": 0.8 if K <= 30 else 1.0, "color": BLUE}
        self.bars_ = ax.bar(np.arange(K), np.nan_to_num(self.mae_by_rank), **styled(style, bar_kw, Rectangle))
        name = f"all {len(self._true)} images: {self.mae:.3g}"
        ax.axhline(self.mae, color="black", linestyle="--", linewidth=1, label=name)
        empty = np.flatnonzero(self.n_by_rank == 0)
        if len(empty):
            ax.plot(empty, np.zeros(len(empty)), "x", color=GREY, markersize=4, clip_on=False, label="no image")
        ax.set(xlabel="true", ylabel=f"mean absolute error{unit_of(self._scale.ranks)}", xlim=(-0.6, K - 0.4))
        ax.set_ylim(0, 1.12 * max(np.nanmax(self.mae_by_rank), self.mae) or 1)
        mark_ranks(ax, "x", display_names(self._scale.ranks, self.display_labels))
        if K <= _MOST_WRITTEN:
            for place, count in enumerate(self.n_by_rank):
                height = np.nan_to_num(self.mae_by_rank[place])
                style = {"ha": "center", "fontsize": 8, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}
                ax.annotate(f"{count}", (place, height), (0, 3), textcoords="offset points", **style)
        ax.legend(**LEGEND_ABOVE)


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
