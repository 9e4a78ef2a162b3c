"""Display of calibration: whether predicted distributions over the ranks mean what they say. Images are not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom

from skl2rclip._ordinal.decisions import central_interval
from skl2rclip._ordinal.rank_lookup import check_probabilities, in_rank_order, scale_of_columns
from skl2rclip._utils.arguments import check_choice, check_integer
from skl2rclip.inspection._drawing import BARS, BLUE, GREY, fitted, panels, pyplot, styled
from skl2rclip.inspection._responses import response_of

_LEVELS = np.arange(1, 20) / 20
_GOOD_COVERAGE = "Good: the points lie in the grey band.\nBelow it intervals are too narrow, above too wide."
_GOOD_HISTOGRAM = "Good: the bars end in the grey band.\nHigh at both ends: too narrow; in the middle: too wide."
_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 9}


class RankCalibrationDisplay:
    """Whether predicted distributions over the ranks mean what they say: coverage of intervals, and PIT histogram.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    A central interval of ranks holds more probability than was asked for wherever ranks are few, so that even honest
    intervals cover more than their nominal level. What they are to cover is the probability that they hold, `promised`.
    The PIT histogram is flat where distributions are honest, hollow where they are too narrow, and humped where they
    are too wide; a slope shows a bias.

    Parameters
    ----------
    nominal : ndarray of shape (m,)
        Levels that central intervals were asked for.
    coverage : ndarray of shape (m,)
        Share of the images whose true rank is in its interval.
    promised : ndarray of shape (m,)
        Mean predicted probability that the intervals hold.
    pit : ndarray of shape (n_bins,)
        Mean share of the probability integral transform in each of equal bins from 0 to 1; they sum to one.
    n_images : int
        Number of images, for the grey bands: where 95 % of the values lie by chance if the distributions are honest.

    Attributes
    ----------
    line_ : Line2D
        Coverage. None where that panel is not drawn.
    promised_line_ : Line2D
    bars_ : BarContainer
        The histogram, as densities. None where that panel is not drawn.
    axes_ : ndarray of Axes
        The panels.
    ax_ : Axes
        The first of them.
    figure_ : Figure

    References
    ----------
    C. Czado, T. Gneiting, L. Held, "Predictive model assessment for count data", Biometrics 65, 2009: the
    non-randomised PIT histogram of discrete distributions, equations (2) and (3).

    Examples
    --------
    >>> from skl2rclip.inspection import RankCalibrationDisplay
    >>> display = RankCalibrationDisplay.from_predictions([0, 1, 2, 2], [[0.8, 0.2, 0.0]] * 2 + [[0.0, 0.2, 0.8]] * 2)
    >>> display.n_images, display.coverage.shape
    (4, (19,))

    Of a fitted classifier it is ``RankCalibrationDisplay.from_estimator(clf, X_test, y_test)``.
    """

    def __init__(self, nominal: Any, coverage: Any, *, promised: Any, pit: Any, n_images: int):
        self.nominal, self.coverage, self.promised = nominal, coverage, promised
        self.pit, self.n_images = pit, n_images

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, ranks: Any = None, n_bins: int = 10, ax: Any = None, **kwargs: Any
    ) -> RankCalibrationDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one.
        X : sequence of n images
            What it predicts from; images that it has not learned from.
        y : array-like of shape (n,)
            True labels.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        n_bins : int, default=10
            Bins of the PIT histogram.
        ax : Axes, or two of them, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        RankCalibrationDisplay
        """
        pyplot(cls.__name__)
        check_integer("n_bins", n_bins, 1)
        said = response_of(cls.__name__, estimator, X, y, ranks=ranks, predict=False)
        assert said.probabilities is not None
        assert said.true is not None
        return cls._of(said.probabilities, said.true, n_bins).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_proba: Any, *, ranks: Any = None, n_bins: int = 10, ax: Any = None, **kwargs: Any
    ) -> RankCalibrationDisplay:
        """Draw probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels.
        y_proba : array-like of shape (n, K)
            Probabilities; columns in the order of the sorted labels, as `predict_proba` returns them.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Without it an ordered Categorical `y_true` gives them; else labels are numbers:
            0 to K - 1, or all K of them.
        n_bins, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        RankCalibrationDisplay
        """
        pyplot(cls.__name__)
        check_integer("n_bins", n_bins, 1)
        true, probabilities = check_probabilities(y_true, y_proba)
        scale = scale_of_columns(true, probabilities.shape[1], ranks, of_labels=True)
        ordered = in_rank_order(probabilities, scale.class_order, len(scale.ranks))
        return cls._of(ordered, scale.encode(true.values, "y_true"), n_bins).plot(ax=ax, **kwargs)

    @classmethod
    def _of(cls, probabilities: np.ndarray, true: np.ndarray, n_bins: int) -> RankCalibrationDisplay:
        coverage, promised = coverage_by_level(probabilities, true, _LEVELS)
        pit = pit_histogram(probabilities, true, n_bins)
        return cls(_LEVELS.copy(), coverage, promised=promised, pit=pit, n_images=len(true))

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "both",
        line_kw: dict[str, Any] | None = None,
        bar_kw: dict[str, Any] | None = None,
    ) -> RankCalibrationDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or two of them, optional
            Where; one is divided into both panels. By default in a new figure.
        kind : {"both", "coverage", "pit"}, default="both"
            Which panels.
        line_kw, bar_kw : dict, optional
            For `Axes.plot` of the coverage, and `Axes.bar` of the histogram.

        Returns
        -------
        RankCalibrationDisplay
            Itself.
        """
        check_choice("kind", kind, ("both", "coverage", "pit"))
        is_both = kind == "both"
        drawn = panels(type(self).__name__, ax, (10 if is_both else 5, 4.6), (1, 1) if is_both else (1,))
        self.line_ = self.promised_line_ = self.bars_ = None
        if kind != "pit":
            self._draw_coverage(drawn[0], line_kw)
        if kind != "coverage":
            self._draw_pit(drawn[-1], bar_kw)
        self.axes_ = np.array(drawn, dtype=object)
        self.ax_, self.figure_ = drawn[0], drawn[0].figure
        return self

    def _chance_name(self) -> str:
        return f"95 % of honest samples of {self.n_images} images"

    def _draw_coverage(self, ax: Any, line_kw: Any) -> None:
        from matplotlib.lines import Line2D

        low, high = _by_chance(self.n_images, np.asarray(self.promised))
        ax.fill_between(self.nominal, low, high, color="0.85", linewidth=0, label=self._chance_name())
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="what was asked for")
        style = {"color": "black", "linestyle": "--", "linewidth": 1.3, "label": "probability in the intervals"}
        (self.promised_line_,) = ax.plot(self.nominal, self.promised, **style)
        style = {"color": BLUE, "marker": "o", "markersize": 4, "label": "images in the intervals"}
        (self.line_,) = ax.plot(self.nominal, self.coverage, **styled(style, line_kw, Line2D))
        ax.set(xlabel="coverage asked for", ylabel="coverage", xlim=(0, 1), ylim=(0, 1.02))
        ax.set_title(fitted(ax, _GOOD_COVERAGE, 9), **_TITLE)
        ax.legend(loc="lower right", fontsize=8)

    def _draw_pit(self, ax: Any, bar_kw: Any) -> None:
        from matplotlib.patches import Rectangle

        n_bins = len(self.pit)
        low, high = (n_bins * end for end in _by_chance(self.n_images, np.array(1 / n_bins)))
        style = {"width": 1 / n_bins, "align": "edge", **BARS}
        heights = n_bins * np.asarray(self.pit)
        self.bars_ = ax.bar(np.arange(n_bins) / n_bins, heights, **styled(style, bar_kw, Rectangle))
        ax.axhspan(low, high, color="0.5", alpha=0.3, linewidth=0, zorder=2, label=self._chance_name())
        ax.axhline(1, color="black", linestyle="--", linewidth=1.3, label="honest distributions")
        ax.set(xlabel="probability integral transform", ylabel="density", xlim=(0, 1))
        ax.set_ylim(0, 1.3 * max(heights.max(), float(high)))
        ax.set_title(fitted(ax, _GOOD_HISTOGRAM, 9), **_TITLE)
        ax.legend(loc="upper right", fontsize=8)


def _by_chance(n: int, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which shares of n images 95 % of all samples lie that each belong to it with this probability."""
    share = np.clip(share, 0, 1)
    return binom.ppf(0.025, n, share) / n, binom.ppf(0.975, n, share) / n


def coverage_by_level(probabilities: np.ndarray, true: np.ndarray, levels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Share of the true ranks in central intervals of each level, and the mean probability that these hold."""
    cumulated = np.concatenate([np.zeros((len(true), 1)), np.cumsum(probabilities, axis=1)], axis=1)  # (n, K + 1)
    every = np.arange(len(true))
    coverage, promised = [], []
    for level in levels:
        low, high = central_interval(probabilities, float(level)).T
        coverage.append(((low <= true) & (true <= high)).mean())
        promised.append((cumulated[every, high + 1] - cumulated[every, low]).mean())
    return np.array(coverage), np.array(promised)


def pit_histogram(probabilities: np.ndarray, true: np.ndarray, n_bins: int) -> np.ndarray:
    """Non-randomised histogram of the probability integral transform, of equal bins from 0 to 1.

    An image of rank k with the cumulated probabilities ``F_{k-1}`` and ``F_k`` is spread evenly from one to the other.

    `true` are positions of ranks, and the columns of `probabilities` are in rank order. Equations (2) and (3) of Czado,
    Gneiting and Held, see `RankCalibrationDisplay`.
    """
    cumulated = np.minimum(np.cumsum(probabilities, axis=1), 1.0)
    upper = np.take_along_axis(cumulated, true[:, None], axis=1)  # (n, 1)
    own = np.take_along_axis(probabilities, true[:, None], axis=1)
    edges = np.arange(n_bins + 1) / n_bins  # (n_bins + 1,)
    # an image whose rank has no probability is a step; it counts to the bin that ends at or above it
    width = np.maximum(own, 1e-12)
    below = np.clip((edges - (upper - width)) / width, 0, 1)  # (n, n_bins + 1)
    below[:, 0], below[:, -1] = 0, 1
    return np.diff(below.mean(axis=0))
