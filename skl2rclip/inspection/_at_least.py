"""The display of each 'at least this rank' as a decision. Images are not known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from skl2rclip._ordinal.rank_lookup import check_probabilities, in_rank_order, scale_of_columns
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._ordinal.resampling import drawn_counts
from skl2rclip._utils.arguments import check_choice, check_groups, check_integer, check_real, seed_from
from skl2rclip.inspection._drawing import (
    AS_IT_IS,
    LEGEND_ABOVE,
    LINES,
    display_names,
    fitted,
    in_a_line,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    short,
    styled,
)
from skl2rclip.inspection._responses import as_sequence, check_classifier, response_of, words_of
from skl2rclip.metrics._at_least import SCORES, at_least, scores_by_weights
from skl2rclip.metrics._scorers import parts_with

_TITLES = {"roc_auc": "area under the ROC curve", "sensitivity": "sensitivity", "specificity": "specificity"}
_WEIGHTS_AT_ONCE = 10**6


class AtLeastRankDisplay:
    """How well each 'at least this rank' is told: area under the curve, sensitivity and specificity, with intervals.

    Make one with `from_estimator`, `from_estimators` or `from_predictions`. All parameters are stored as attributes.

    A decision such as 'moderate or worse' is taken where the probabilities of its rank and of all above it sum up to
    `threshold` or more. Intervals are percentiles of the bootstrap: images are drawn with replacement, or with `groups`
    whole groups. Several models are scored on the same draws, so that the intervals of their difference are those of
    the models and not of the images. Intervals are too narrow where there are fewer than some twenty images, or groups,
    on either side of a decision: the number of those above it stands beside each rank.

    Parameters
    ----------
    true : ndarray of shape (n,)
        Positions of the true ranks, from 0.
    probabilities : ndarray of shape (m, n, K - 1)
        Of each of m models and n images, the probability of at least each rank but the lowest.
    names : sequence of m str
        Names of the models; the first is compared with each of the others.
    display_labels : sequence of K - 1 str
        Words for the ranks from which on decisions are taken.
    groups : array-like of shape (n,), optional
        Whose image each is.
    threshold : float, default=0.5
        In [0, 1].
    confidence_level : float, default=0.95
        Of the intervals, in (0, 1).
    n_resamples : int, default=1000
        How often images or groups are drawn.
    random_state : int, RandomState or None, default=0
        Seeds the draws.

    Attributes
    ----------
    scores : dict of str to ndarray of shape (m, K - 1)
        ``"roc_auc"``, ``"sensitivity"`` and ``"specificity"`` of each model; NaN where no image would tell.
    intervals : dict of str to ndarray of shape (m, K - 1, 2)
    differences : dict of str to ndarray of shape (m - 1, K - 1)
        Scores of the first model minus those of each other: above zero where the first is better.
    difference_intervals : dict of str to ndarray of shape (m - 1, K - 1, 2)
    n_at_least : ndarray of shape (K - 1,)
        Number of images that are at least of each rank.
    points_ : list of list of ErrorbarContainer
        By panel and model.
    axes_ : ndarray of three Axes
    ax_ : Axes
        The first of them.
    figure_ : Figure

    See Also
    --------
    skl2rclip.metrics.at_least_rank_scores : The scores alone.
    PairedErrorsDisplay : Mean absolute errors of several classifiers.

    References
    ----------
    Ordered classes as a row of binary decisions: Frank and Hall, "A simple approach to ordinal classification", ECML
    2001. Percentile intervals: Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.

    Examples
    --------
    >>> from skl2rclip.inspection import AtLeastRankDisplay
    >>> probabilities = [[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]
    >>> display = AtLeastRankDisplay.from_predictions([0, 1, 1, 2], probabilities, n_resamples=100)
    >>> display.scores["sensitivity"].round(2)  # of 'at least 1' and 'at least 2'
    array([[0.67, 1.  ]])
    """

    def __init__(
        self,
        true: np.ndarray,
        probabilities: np.ndarray,
        *,
        names: Any,
        display_labels: Any,
        groups: Any = None,
        threshold: float = 0.5,
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: Any = 0,
    ):
        _check_settings(threshold, confidence_level, n_resamples)
        self.true, self.probabilities, self.names, self.display_labels = true, probabilities, names, display_labels
        self.groups, self.threshold, self.confidence_level = groups, threshold, confidence_level
        self.n_resamples, self.random_state = n_resamples, random_state
        self._group = _numbered(groups, len(true))
        draws = drawn_counts(self._group, n_resamples, seed_from(random_state))
        # (3, m, K - 1) and (3, m, K - 1, R)
        values, resampled = self._scores(iter([np.ones(len(true))]))[..., 0], self._scores(draws)
        self.scores = dict(zip(SCORES, values, strict=True))
        self.intervals = dict(zip(SCORES, self._ends(resampled), strict=True))
        self.differences = dict(zip(SCORES, values[:, :1] - values[:, 1:], strict=True))
        between = self._ends(resampled[:, :1] - resampled[:, 1:])
        self.difference_intervals = dict(zip(SCORES, between, strict=True))
        self.n_at_least = (true[:, None] > np.arange(probabilities.shape[2])).sum(axis=0)

    def _scores(self, draws: Iterator[np.ndarray]) -> np.ndarray:
        """Score each decision of each model under the weights of each draw, (3, m, K - 1, R)."""
        parts = []
        while portion := list(islice(draws, max(1, _WEIGHTS_AT_ONCE // len(self.true)))):
            weights = np.stack(portion)
            parts.append(
                [
                    [
                        scores_by_weights(self.true > k, of_rank, self.threshold, weights)
                        for k, of_rank in enumerate(of_model.T)
                    ]
                    for of_model in self.probabilities
                ]
            )
        return np.moveaxis(np.concatenate(parts, axis=2), -1, 0)

    def _ends(self, resampled: np.ndarray) -> np.ndarray:
        """Percentiles of the draws that can be scored, along the last axis; NaN where none can."""
        if not resampled.size:  # of which NumPy forgets the shape
            return np.empty((*resampled.shape[:-1], 2))
        levels = [(1 - self.confidence_level) / 2, (1 + self.confidence_level) / 2]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
            return np.moveaxis(np.nanquantile(resampled, levels, axis=-1), 0, -1)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        ranks: Any = None,
        threshold: float = 0.5,
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: Any = 0,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AtLeastRankDisplay:
        """Predict, and draw.

        Parameters
        ----------
        estimator : fitted classifier
            It may be a pipeline that ends in a classifier, or a search for one.
        X : sequence of n images
            What it predicts from; images that it has not learned from.
        y : array-like of shape (n,)
            True labels.
        groups : array-like of shape (n,), optional
            Whose image each is: these are drawn whole.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what the estimator has learned, or as numbers sort.
        threshold : float, default=0.5
            The probability from which on a decision is taken, in [0, 1]. A lower one finds more, and takes more of the
            others for it.
        confidence_level : float, default=0.95
            Of the intervals, in (0, 1).
        n_resamples : int, default=1000
            How often images or groups are drawn. More of them steady the ends of the intervals, and take longer.
        random_state : int, RandomState or None, default=0
            Seeds the draws.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
        ax : Axes, or three of them, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        AtLeastRankDisplay
        """
        return cls.from_estimators(
            {"": estimator},
            X,
            y,
            groups=groups,
            ranks=ranks,
            threshold=threshold,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
            display_labels=display_labels,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        ranks: Any = None,
        threshold: float = 0.5,
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: Any = 0,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AtLeastRankDisplay:
        """Predict with each, and draw.

        Parameters
        ----------
        estimators : dict of str to fitted classifier
            By their names, the one that is compared with the others first. What predicts from something else than X
            goes into `from_predictions`.
        X, y, groups
            As `from_estimator` takes them.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what one of the estimators has learned, or as numbers sort.
        threshold, confidence_level, n_resamples, random_state, display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        AtLeastRankDisplay
        """
        pyplot(cls.__name__)
        _check_names("estimators", estimators)
        _check_settings(threshold, confidence_level, n_resamples)
        for estimator in estimators.values():
            check_classifier(cls.__name__, estimator, probabilities=True)
        X = as_sequence(X)
        if y is None:
            raise ValueError(f"{cls.__name__} compares with true labels, and y is None.")
        _numbered(groups, len(y))
        if ranks is None:
            learned = [part.ranks_ for each in estimators.values() for part in parts_with(each, "ranks_")]
            ranks = learned[0] if learned and len(estimators) > 1 else None
        said = [response_of(cls.__name__, each, X, y, ranks=ranks, predict=False) for each in estimators.values()]
        known = [each.scale for each, model in zip(said, estimators.values(), strict=True) if words_of(model)]
        scale = (known or [said[0].scale])[0]
        probabilities = [each.probabilities for each in said if each.probabilities is not None]
        assert said[0].true is not None
        return cls._of(
            said[0].true,
            dict(zip(estimators, probabilities, strict=True)),
            display_names(scale, display_labels),
            groups=groups,
            threshold=threshold,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
        ).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        groups: Any = None,
        ranks: Any = None,
        threshold: float = 0.5,
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: Any = 0,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AtLeastRankDisplay:
        """Draw probabilities, such as those of `sklearn.model_selection.cross_val_predict`.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels.
        y_proba : array-like of shape (n, K), or dict of str to such
            Probabilities of a model, or of several by their names, the one that is compared with the others first;
            columns in the order of the sorted labels, as `predict_proba` returns them.
        groups : array-like of shape (n,), optional
            Whose image each is.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Without it, an ordered Categorical `y_true` gives them; else labels must be the
            integers 0 to K - 1, which are the columns.
        threshold, confidence_level, n_resamples, random_state, display_labels, ax, **kwargs
            As `from_estimator` takes them.

        Returns
        -------
        AtLeastRankDisplay
        """
        pyplot(cls.__name__)
        models = y_proba if isinstance(y_proba, Mapping) else {"": y_proba}
        _check_names("y_proba", models)
        ordered: dict[str, np.ndarray] = {}
        scale: RankScale | None = None
        for name, each in models.items():
            labels, probabilities = check_probabilities(y_true, each)
            scale = scale_of_columns(labels, probabilities.shape[1], ranks)
            ordered[name] = in_rank_order(probabilities, scale.class_order, len(scale.ranks))
        assert scale is not None
        return cls._of(
            scale.encode(labels.values, "y_true"),
            ordered,
            display_names(scale, display_labels),
            groups=groups,
            threshold=threshold,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
        ).plot(ax=ax, **kwargs)

    @classmethod
    def _of(
        cls, true: np.ndarray, probabilities: Mapping[str, np.ndarray], words: list[str], **settings: Any
    ) -> AtLeastRankDisplay:
        of_ranks = np.stack([at_least(each) for each in probabilities.values()])
        return cls(true, of_ranks, names=list(probabilities), display_labels=words[1:], **settings)

    def plot(
        self, ax: Any = None, *, kind: str = "scores", errorbar_kw: dict[str, Any] | None = None
    ) -> AtLeastRankDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or three of them, optional
            Where; one is divided into all panels. By default in a new figure.
        kind : {"scores", "differences"}, default="scores"
            ``"differences"`` draws how far the first model is from each other one.
        errorbar_kw : dict, optional
            For `Axes.errorbar` of all panels.

        Returns
        -------
        AtLeastRankDisplay
            Itself.
        """
        check_choice("kind", kind, ("scores", "differences"))
        if kind == "differences" and len(self.names) < 2:
            raise ValueError(f"{type(self).__name__} draws differences of two models or more, and has one.")
        is_scores = kind == "scores"
        first, *others = [short(in_a_line(str(name))) for name in self.names]
        shown = [first, *others] if is_scores else [f"{first} less {other}" for other in others]
        n_ranks = len(self.display_labels)
        size = (10.5 + margin_for(self.display_labels), 1.6 + n_ranks * (0.35 + 0.2 * len(shown)))
        axes = panels(type(self).__name__, ax, size, (1, 1, 1))
        self.points_ = []
        for panel, score in zip(axes, SCORES, strict=True):
            values = (self.scores if is_scores else self.differences)[score]
            intervals = (self.intervals if is_scores else self.difference_intervals)[score]
            self.points_.append(
                [
                    _points(panel, number, len(shown), values[number], intervals[number], name, errorbar_kw)
                    for number, name in enumerate(shown)
                ]
            )
            panel.set_ylim(n_ranks - 0.5, -0.5)
            panel.set_xlabel(fitted(panel, _TITLES[score]))
            _bound(panel, intervals, is_scores)
        self._name_ranks(axes, shown if len(self.names) > 1 else [])
        self.axes_ = np.array(axes, dtype=object)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        return self

    def _name_ranks(self, axes: list[Any], legend: list[str]) -> None:
        n = len(self.true)
        notes = [f"{count} of {n}" for count in self.n_at_least]
        mark_ranks(axes[0], "y", list(self.display_labels), notes)
        axes[0].set_ylabel(fitted(axes[0], "at least this rank"))
        for panel in axes[1:]:
            panel.set_yticks(range(len(self.display_labels)), [])
        of_groups = "" if self.groups is None else f" in {int(self._group.max()) + 1} groups"
        what = f"{n} images{of_groups}, taken from {self.threshold:g} on, {self.confidence_level:.0%} intervals"
        if legend:
            drawn = axes[0].legend(**LEGEND_ABOVE)
            for text in drawn.get_texts():
                text.set(**AS_IT_IS)
            axes[1].set_title(fitted(axes[1], what, 9), loc="left", fontsize=9)
        else:
            axes[0].set_title(fitted(axes[0], what, 9), loc="left", fontsize=9)


def _points(
    ax: Any,
    number: int,
    n_models: int,
    values: np.ndarray,
    interval: np.ndarray,
    name: str,
    errorbar_kw: dict[str, Any] | None,
) -> Any:
    from matplotlib.lines import Line2D

    heights = np.arange(len(values)) + 0.6 * ((number + 0.5) / n_models - 0.5)
    lengths = np.maximum(np.abs(interval.T - values), 0)
    style = {**LINES[number % len(LINES)], "linestyle": "none", "markersize": 5, "capsize": 3, "linewidth": 1.3}
    given = styled({}, errorbar_kw, Line2D)
    return ax.errorbar(values, heights, xerr=lengths, label=name, **{**style, **given})


def _bound(ax: Any, intervals: np.ndarray, is_scores: bool) -> None:
    """Show scores from one half, or the lowest one, to one, and differences with zero in the middle."""
    if is_scores:
        low = min(0.5, np.nanmin(intervals, initial=0.5))
        ax.set_xlim(low - 0.02, 1.02)
        return
    reach = 1.15 * np.nanmax(np.abs(intervals), initial=0) or 1
    ax.set_xlim(-reach, reach)
    ax.axvline(0, color="black", linewidth=1, linestyle="--")


def _numbered(groups: Any, n: int) -> np.ndarray:
    """Give numbers to what is drawn together, ndarray of shape (n,)."""
    group = np.arange(n) if groups is None else check_groups(groups, n)
    if group.max(initial=-1) < 1:
        what = "images" if groups is None else "groups"
        raise ValueError(f"Intervals need at least two {what} to draw from, got {int(group.max(initial=-1)) + 1}.")
    return group


def _check_names(name: str, models: Any) -> None:
    if not isinstance(models, Mapping) or not models:
        raise ValueError(
            f"{name} must be a dict of models by their names, the one that is compared with the others first, such as "
            f'{{"L2RCLIP": ..., "probe": ...}}, got {models!r}.'
        )


def _check_settings(threshold: Any, confidence_level: Any, n_resamples: Any) -> None:
    check_real("threshold", threshold, 0, 1)
    check_real("confidence_level", confidence_level, 0, 1, open_ends=True)
    check_integer("n_resamples", n_resamples, 1)
