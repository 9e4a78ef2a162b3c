"""The display of an ordinal confusion matrix. Images are not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix as count_pairs

from skl2rclip._ordinal.rank_lookup import encoded_pair
from skl2rclip._ordinal.ranks import scale_of
from skl2rclip._utils.arguments import check_integer
from skl2rclip.inspection._drawing import (
    LEGEND_ABOVE,
    LINES,
    display_names,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    styled,
    written_cells,
)
from skl2rclip.inspection._responses import response_of

_MAX_WRITTEN = 15  # ranks, beyond which numbers in cells cannot be read
_NICE_BANDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SHARES_OF = {
    "true": "share of the images of the true rank",
    "pred": "share of the images of the predicted rank",
    "all": "share of all images",
}


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
    normalize : {"true", "pred", "all"}, optional
        What the entries are shares of, for the colour bar.

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
    >>> display = OrdinalConfusionDisplay.from_predictions([1, 1, 2, 3, 3], [1, 2, 2, 3, 1])
    >>> display.confusion_matrix.tolist()
    [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    >>> dict(zip(display.bands, display.band_shares.tolist()))  # by distance in ranks
    {0: 0.6, 1: 0.8}

    Of a fitted classifier it is ``OrdinalConfusionDisplay.from_estimator(clf, X_test, y_test)``.
    """

    def __init__(
        self,
        confusion_matrix: Any,
        *,
        display_labels: Any = None,
        bands: Any = None,
        band_shares: Any = None,
        normalize: str | None = None,
    ):
        self.confusion_matrix = confusion_matrix
        self.display_labels = display_labels
        self.bands = _bands_for(len(confusion_matrix)) if bands is None else bands
        self.band_shares, self.normalize = band_shares, normalize

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
            How much each image counts; all count the same by default.
        normalize : {"true", "pred", "all"} or None, default=None
            Show shares of the images of the true rank, so that each row sums to one, of those of the predicted rank
            (each column), or of all. None shows the numbers of images.
        bands : sequence of int, optional
            Distances in ranks.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
            ``"ranks"`` shows the labels.
        ax : Axes, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        OrdinalConfusionDisplay
        """
        pyplot(cls.__name__)
        said = response_of(cls.__name__, estimator, X, y, ranks=ranks, probabilities=False)
        labels = said.scale.ranks
        return cls.from_predictions(
            labels[said.true],
            labels[said.predicted],
            ranks=labels,
            sample_weight=sample_weight,
            normalize=normalize,
            bands=bands,
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
        scale, true, predicted = encoded_pair(y_true, y_pred, ranks)
        every = np.arange(len(scale.ranks))
        matrix = count_pairs(true, predicted, labels=every, sample_weight=sample_weight, normalize=normalize)
        bands = _checked_bands(bands, len(every))
        distances = np.abs(true - predicted)
        shares = np.array([np.average(distances <= band, weights=sample_weight) for band in bands])
        names = display_names(scale, display_labels)
        display = cls(matrix, display_labels=names, bands=bands, band_shares=shares, normalize=normalize)
        return display.plot(ax=ax, **kwargs)

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
            Whether to draw the scale of the colours.
        im_kw, text_kw, line_kw : dict, optional
            For `Axes.imshow`, `Axes.text` of the cells, and `Axes.plot` of the bands.

        Returns
        -------
        OrdinalConfusionDisplay
            Itself.
        """
        matrix = np.asarray(self.confusion_matrix)
        K = len(matrix)
        names = display_names(scale_of(np.arange(K)), self.display_labels)
        (ax,) = panels(type(self).__name__, ax, (6.0 + margin_for(names), 5.4 + 0.7 * margin_for(names)))
        from matplotlib.colors import PowerNorm
        from matplotlib.image import AxesImage
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        # where no numbers are written, single images are to be seen beside hundreds
        style = {"cmap": cmap, "interpolation": "nearest"}
        style["norm"] = PowerNorm(1.0 if K <= _MAX_WRITTEN else 0.5, vmin=0, vmax=matrix.max() or 1)
        self.im_ = ax.imshow(matrix, **styled(style, im_kw, AxesImage))
        if colorbar:
            are_counts = matrix.dtype.kind in "iu"
            ticks = MaxNLocator(integer=True) if are_counts else None
            counted = "number of images" if are_counts else "sum of weights"
            label = counted if self.normalize is None else _SHARES_OF[self.normalize]
            ax.figure.colorbar(self.im_, ax=ax, label=label, shrink=0.8, ticks=ticks)
        ax.set(xlabel="predicted", ylabel="true", xlim=(-0.5, K - 0.5), ylim=(K - 0.5, -0.5))
        for which in "xy":
            mark_ranks(ax, which, names)
        is_written = K <= _MAX_WRITTEN if include_values is None else include_values
        form = values_format or ("d" if matrix.dtype.kind in "iu" else ".2f")
        self.text_ = written_cells(ax, self.im_, matrix, form, text_kw) if is_written else None
        self.lines_ = []
        for place, band in enumerate(self.bands):
            style = styled(_band_style(band, place, K), line_kw, Line2D)
            self.lines_ += ax.plot(*_outline(K, band), label=self._band_name(place), **style)
        ax.legend(handlelength=3, **LEGEND_ABOVE)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _band_name(self, place: int) -> str:
        band = self.bands[place]
        name = "exact" if band == 0 else f"at most {band} rank{'s' if band > 1 else ''} off"
        return name if self.band_shares is None else f"{name}: {self.band_shares[place]:.0%}"


def _bands_for(K: int) -> list[int]:
    return [0, *[band for band in _NICE_BANDS if K / 25 <= band < K / 2][:2]]


def _checked_bands(bands: Any, K: int) -> list[int]:
    if bands is None:
        return _bands_for(K)
    for band in bands:
        check_integer("bands", band, 0)
    return sorted({int(band) for band in bands})


def _band_style(band: int, place: int, K: int) -> dict[str, Any]:
    from matplotlib.patheffects import Normal, Stroke

    if band == 0 and K > _MAX_WRITTEN:  # must leave something of small cells to be seen
        return {"color": "black", "linestyle": "-", "linewidth": 0.4}
    return {
        "color": "black",
        "linestyle": (0, (1, 1.2)) if band == 0 else LINES[max(place - 1, 0) % len(LINES)]["linestyle"],
        "linewidth": 1.3,
        "path_effects": [Stroke(linewidth=3.0, foreground="white", alpha=0.8), Normal()],  # seen on dark cells too
    }


def _outline(K: int, band: int) -> tuple[np.ndarray, np.ndarray]:
    """Outline the cells that are at most `band` off the diagonal: stairs above and below it."""
    steps = np.arange(max(K - band, 0))
    across = np.repeat(steps + band + 0.5, 2)
    down = np.repeat(steps, 2) + np.tile([-0.5, 0.5], len(steps))
    return np.concatenate([across, [np.nan], down]), np.concatenate([down, [np.nan], across])
