"""The display of the history of a training. No image is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from skl2rclip.inspection._drawing import LEGEND_ABOVE, LINES, panels, pyplot, styled
from skl2rclip.inspection._responses import learned_by

_MAX_MARKERS = 15
_NOT_DRAWN = ("stage", "epoch", "learning_rate", "kept")
_SCORES = {
    "cross_fitted_rps": "cross-fitted ranked probability score",
    "validation_mae": "validation mean absolute error",
    "validation_loss": "validation loss",
    "validation_rps": "validation ranked probability score",
}
# terms are shown by the names of the parameters that weigh them
_NAMES = {**_SCORES, "ordering": "pairwise", "text_ordering": "text ordering"}


class TrainingHistoryDisplay:
    """The terms of the loss by epoch, and beside them the scores of images left out, where there are any.

    Make one with `from_estimator`. All parameters are stored as attributes.

    A line marks the epoch of each stage whose weights were kept. Terms are named as the parameters that weigh them, so
    that ``history_``'s ``ordering`` is the term of `pairwise_weight`. Scores start at zero, so that a small change
    looks small.

    Parameters
    ----------
    history : list of dict
        An entry for each epoch, as `L2RCLIPClassifier.history_` has them.

    Attributes
    ----------
    terms : dict of str to ndarray of shape (n_epochs,)
        The loss and its terms before they are weighted; those that are zero in all epochs are left out.
    scores : dict of str to ndarray of shape (n_epochs,)
        What was measured on images left out; NaN in epochs without.
    stages : list of str of length n_epochs
    kept : list of int
        Epochs that were kept, counted from 1: at most one of each stage. None is where the start of training scored
        best, or a model was saved by an earlier version.
    lines_ : dict of str to Line2D
        By the name in `history`.
    axes_ : ndarray of Axes
        The panels: one or two.
    ax_ : Axes
        The first of them.
    figure_ : Figure

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> from skl2rclip.inspection import TrainingHistoryDisplay
    >>> photos = make_graded_photographs(20, random_state=0)
    >>> clf = L2RCLIPClassifier("skl2rclip-tiny", prompt_epochs=2, random_state=0).fit(photos.data, photos.target)
    >>> display = TrainingHistoryDisplay.from_estimator(clf)
    >>> list(display.terms), len(display.terms["loss"])  # by epoch
    (['loss', 'contrastive', 'ordering', 'tightness'], 2)
    """

    def __init__(self, history: Any):
        self.history = history
        if not history:
            raise ValueError("history is empty: no epoch has been trained.")
        self.stages = [entry.get("stage", "") for entry in history]
        self.kept = self._kept_epochs()
        names = [name for name in dict.fromkeys(name for entry in history for name in entry) if name not in _NOT_DRAWN]
        columns = {name: np.array([entry.get(name, np.nan) for entry in history], dtype=np.float64) for name in names}
        self.terms = {name: column for name, column in columns.items() if name not in _SCORES and np.any(column != 0)}
        self.scores = {name: column for name, column in columns.items() if name in _SCORES}

    def _kept_epochs(self) -> list[int]:
        """Of epochs of one stage in a row, the last that was kept: each `partial_fit` keeps its own."""
        kept: dict[int, int] = {}
        first = 0
        for place, entry in enumerate(self.history):
            if self.stages[place] != self.stages[first]:
                first = place
            if entry.get("kept"):
                kept[first] = place + 1
        return list(kept.values())

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any = None, y: Any = None, *, ax: Any = None, **kwargs: Any
    ) -> TrainingHistoryDisplay:
        """Draw the history of a fitted classifier.

        Parameters
        ----------
        estimator : fitted L2RCLIPClassifier
            It may be at the end of a pipeline, or found by a search.
        X, y : ignored
            There so that all displays are called alike.
        ax : Axes, or one for each panel, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        TrainingHistoryDisplay
        """
        pyplot(cls.__name__)
        return cls(learned_by(cls.__name__, estimator, "history_").history_).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, line_kw: dict[str, Any] | None = None) -> TrainingHistoryDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or one for each panel, optional
            Where; by default in a new figure.
        line_kw : dict, optional
            For `Axes.plot` of every line.

        Returns
        -------
        TrainingHistoryDisplay
            Itself.
        """
        groups = [("loss, and its terms before weighting", self.terms), ("on images left out", self.scores)]
        groups = [group for group in groups if group[1]]
        drawn = panels(type(self).__name__, ax, (5.6 * len(groups), 4.4), (1,) * len(groups))
        self.lines_: dict[str, Any] = {}
        for panel, (title, columns) in zip(drawn, groups, strict=True):
            self._draw(panel, title, columns, line_kw)
        self.axes_ = np.array(drawn, dtype=object)
        self.ax_, self.figure_ = drawn[0], drawn[0].figure
        return self

    def _draw(self, ax: Any, title: str, columns: dict[str, np.ndarray], line_kw: dict[str, Any] | None) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        epochs = np.arange(1, len(self.history) + 1)
        for place, (name, values) in enumerate(columns.items()):
            known = np.flatnonzero(np.isfinite(values))
            style = {
                **LINES[place % len(LINES)],
                "markersize": 4,
                "markevery": max(1, len(known) // _MAX_MARKERS),
                "label": _NAMES.get(name, name.replace("_", " ")),
            }
            (self.lines_[name],) = ax.plot(epochs[known], values[known], **styled(style, line_kw, Line2D))
        self._mark_kept(ax)
        ax.set(xlabel="epoch", ylabel=title, xlim=(0.5, len(epochs) + max(0.5, 0.02 * len(epochs))))
        if columns is self.scores:
            largest = max(np.nanmax(values, initial=0) for values in columns.values())
            ax.set_ylim(0, 1.08 * largest or 1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        changes = [place for place in range(1, len(self.stages)) if self.stages[place] != self.stages[place - 1]]
        for place in changes:
            ax.axvline(place + 0.5, color="0.5", linewidth=1)
            ax.annotate(
                f" {self.stages[place]}", (place + 0.5, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8
            )
        n_columns = 1 if columns is self.scores else 3  # whose names are long
        ax.legend(**{**LEGEND_ABOVE, "ncols": n_columns, "handlelength": 3, "columnspacing": 1})

    def _mark_kept(self, ax: Any) -> None:
        if not any("kept" in entry for entry in self.history):
            return
        name = "the start"
        if self.kept:
            name = f"epoch{'s' if len(self.kept) > 1 else ''} {' and '.join(map(str, self.kept))}"
        style = {"color": "black", "linewidth": 1.2, "linestyle": (0, (1, 1.5)), "zorder": 1}
        for number, epoch in enumerate(self.kept or [0.5]):
            ax.axvline(epoch, label=f"kept: {name}" if number == 0 else None, **style)
