"""The display of how similar the prototypes of the ranks are. No image is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip._ordinal.ranks import scale_of
from skl2rclip.inspection._drawing import (
    display_names,
    fitted,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    styled,
    written_cells,
)
from skl2rclip.inspection._responses import learned_by
from skl2rclip.metrics import ordinality as ordinality_of

_MAX_WRITTEN = 12


class PrototypeSimilarityDisplay:
    """Cosine similarity of the prototypes of all ranks to each other.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Where the prototypes are in order, similarity falls with every step away from the diagonal. That is an order among
    the prompts alone, and no measure of how well images are graded: for that compare predictions, as
    `RankPredictionDisplay` does.

    Parameters
    ----------
    similarity : ndarray of shape (K, K)
        In rank order, in [-1, 1].
    ordinality : float, optional
        Share of neighbouring similarities in the right order, see `skl2rclip.metrics.ordinality`, for the title.
    display_labels : sequence of K str, optional
        Words for the ranks; by default 0 to K - 1.

    Attributes
    ----------
    im_ : AxesImage
        The matrix.
    text_ : ndarray of shape (K, K), dtype=object, or None
        Numbers in the cells; None where they are not written.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.inspection import PrototypeSimilarityDisplay
    >>> clf = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(5), prompt="a photo with blur level").fit_zero_shot()
    >>> display = PrototypeSimilarityDisplay.from_estimator(clf)
    >>> display.similarity.shape, display.ordinality
    ((5, 5), 1.0)
    """

    def __init__(self, similarity: Any, *, ordinality: float | None = None, display_labels: Any = None):
        self.similarity, self.ordinality, self.display_labels = similarity, ordinality, display_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any = None, y: Any = None, *, display_labels: Any = None, ax: Any = None, **kwargs: Any
    ) -> PrototypeSimilarityDisplay:
        """Draw the prototypes of a fitted classifier.

        Parameters
        ----------
        estimator : fitted L2RCLIPClassifier
            It may be at the end of a pipeline, or found by a search.
        X, y : ignored
            There so that all displays are called alike.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
            ``"ranks"`` shows the labels.
        ax : Axes, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        PrototypeSimilarityDisplay
        """
        pyplot(cls.__name__)
        part = learned_by(cls.__name__, estimator, "prototypes_")
        rows = np.asarray(part.prototypes_, dtype=np.float64)
        names = display_names(scale_of(np.asarray(part.ranks_), part.rank_names_), display_labels)
        return cls(rows @ rows.T, ordinality=ordinality_of(rows), display_labels=names).plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        include_values: bool | None = None,
        values_format: str = ".2f",
        cmap: Any = "cividis",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
        text_kw: dict[str, Any] | None = None,
    ) -> PrototypeSimilarityDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure.
        include_values : bool, optional
            Whether to write numbers into the cells; by default up to 12 ranks.
        values_format : str, default=".2f"
            How numbers are written in the cells.
        cmap : str or Colormap, default="cividis"
            Colours, from the lowest to the highest value.
        colorbar : bool, default=True
            Whether to draw the scale of the colours.
        im_kw, text_kw : dict, optional
            For `Axes.imshow`, and `Axes.text` of the cells.

        Returns
        -------
        PrototypeSimilarityDisplay
            Itself.
        """
        matrix = np.asarray(self.similarity)
        K = len(matrix)
        names = display_names(scale_of(np.arange(K)), self.display_labels)
        (ax,) = panels(type(self).__name__, ax, (6.0 + margin_for(names), 5.0 + 0.7 * margin_for(names)))
        from matplotlib.image import AxesImage

        self.im_ = ax.imshow(matrix, **styled({"cmap": cmap, "interpolation": "nearest"}, im_kw, AxesImage))
        if colorbar:
            ax.figure.colorbar(self.im_, ax=ax, label="cosine similarity", shrink=0.9)
        for which in "xy":
            mark_ranks(ax, which, names)
        is_written = K <= _MAX_WRITTEN if include_values is None else include_values
        self.text_ = written_cells(ax, self.im_, matrix, values_format, text_kw) if is_written else None
        title = "Similarity of prototypes"
        if self.ordinality is not None:  # which is so often near 1 that it would be taken for success
            title += f", ordinality {self.ordinality:.2f}\n(order of the prompts, not quality of predictions)"
        ax.set_title(fitted(ax, title), fontsize="medium")
        self.ax_, self.figure_ = ax, ax.figure
        return self
