"""The display of a classifier's errors beside those of others, of the same images. Images are not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.rank_lookup import NamedLabels, known_scale, true_labels
from skl2rclip._ordinal.ranks import RankScale, given_ranks
from skl2rclip._ordinal.resampling import resampled_means, sums_by_group
from skl2rclip._utils.arguments import check_groups, check_integer, check_real, seed_from
from skl2rclip.inspection._drawing import (
    AS_IT_IS,
    BLUE,
    display_names,
    fitted,
    in_a_line,
    margin_for,
    mark_ranks,
    panels,
    pyplot,
    rounded,
    short,
    styled,
    unit_of,
)
from skl2rclip.inspection._responses import as_sequence, check_classifier, words_of
from skl2rclip.metrics._scorers import parts_with


class PairedErrorsDisplay:
    """A classifier beside others: mean absolute errors, and how far its own is from each of theirs on the same images.

    Make one with `from_estimators` or `from_predictions`. All parameters are stored as attributes.

    Errors of two models on one image resemble each other, for what is hard for one is often hard for the other. The
    difference of each pair therefore tells more than the two errors side by side, whose intervals may overlap though
    one model is surely ahead. Intervals are percentiles of the bootstrap: images are drawn with replacement, or with
    `groups` whole groups, because images of one subject, plant or burst tell less than as many of different ones. They
    are too narrow where there are fewer than some twenty images, or groups, and say nothing about another training set.

    Parameters
    ----------
    errors : ndarray of shape (m, n)
        Absolute error of each of m models on each of n images.
    names : sequence of m str
        Names of the models; the first is compared with each of the others.
    groups : array-like of shape (n,), optional
        Whose image each is.
    unit : str, default=""
        What errors are counted in, for the axes, such as ``"ranks"`` or ``"years"``.
    confidence_level : float, default=0.95
        Of the intervals, in (0, 1).
    n_resamples : int, default=2000
        How often images or groups are drawn.
    random_state : int, RandomState or None, default=0
        Seeds the draws.

    Attributes
    ----------
    mae : ndarray of shape (m,)
        Mean absolute error of each model.
    mae_interval : ndarray of shape (m, 2)
    difference : ndarray of shape (m - 1,)
        Mean absolute error of the first model minus that of each other: below zero where the first is better.
    difference_interval : ndarray of shape (m - 1, 2)
    points_, difference_points_ : ErrorbarContainer
    axes_ : ndarray of two Axes
        Errors and differences.
    ax_ : Axes
        The first of them.
    figure_ : Figure

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay : Errors of one regressor.

    Examples
    --------
    >>> import numpy as np
    >>> from skl2rclip.inspection import PairedErrorsDisplay
    >>> y_true = np.tile([0, 1, 2, 3, 4], 20)
    >>> predicted = {"L2RCLIP": np.minimum(y_true, 3), "always the middle": np.full(100, 2)}
    >>> display = PairedErrorsDisplay.from_predictions(y_true, predicted)
    >>> display.mae.tolist(), display.difference.tolist()
    ([0.2, 1.2], [-1.0])

    Of fitted classifiers it is ``from_estimators({"L2RCLIP": clf, "probe": probe}, X_test, y_test)``, and `groups`
    says which images are of one subject.
    """

    def __init__(
        self,
        errors: Any,
        *,
        names: Any,
        groups: Any = None,
        unit: str = "",
        confidence_level: float = 0.95,
        n_resamples: int = 2000,
        random_state: Any = 0,
    ):
        _check_intervals(confidence_level, n_resamples)
        self.errors, self.names, self.groups, self.unit = errors, names, groups, unit
        self.confidence_level, self.n_resamples, self.random_state = confidence_level, n_resamples, random_state
        sums, counts = _sums_by_group(np.asarray(errors, dtype=np.float64), groups)
        drawn = resampled_means(sums, counts, n_resamples, seed_from(random_state))
        ends = [(1 - confidence_level) / 2, (1 + confidence_level) / 2]
        self.mae = sums.sum(axis=1) / counts.sum()
        self.mae_interval = np.quantile(drawn, ends, axis=1).T
        self.difference = self.mae[0] - self.mae[1:]
        self.difference_interval = np.quantile(drawn[0] - drawn[1:], ends, axis=1).T
        self._n_groups = len(counts)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        ranks: Any = None,
        unit: str | None = None,
        confidence_level: float = 0.95,
        n_resamples: int = 2000,
        random_state: Any = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> PairedErrorsDisplay:
        """Predict with each, and draw.

        Parameters
        ----------
        estimators : dict of str to fitted classifier
            Two or more by their names, the one that is compared with the others first. They may be pipelines that end
            in a classifier, or searches for one. What predicts from something else than X goes into `from_predictions`.
        X : sequence of n images
            What they predict from; images that none of them has learned from.
        y : array-like of shape (n,)
            True labels.
        groups : array-like of shape (n,), optional
            Whose image each is: these are drawn whole.
        ranks : array-like of shape (K,), optional
            All labels, lowest first; by default what one of the estimators has learned, or as numbers sort.
        unit : str, optional
            What errors are counted in, for the axes, such as ``"years"``; by default ``"ranks"`` where labels are
            words, or numbers in a row that have words (`rank_names_`).
        confidence_level : float, default=0.95
            Of the intervals, in (0, 1).
        n_resamples : int, default=2000
            How often images or groups are drawn. More of them steady the ends of the intervals, and take longer.
        random_state : int, RandomState or None, default=0
            Seeds the draws.
        ax : Axes, or two of them, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        PairedErrorsDisplay
        """
        pyplot(cls.__name__)
        _check_names("estimators", estimators)
        if y is None:
            raise ValueError(f"{cls.__name__} compares with true labels, and y is None.")
        for estimator in estimators.values():
            check_classifier(cls.__name__, estimator)
        X = as_sequence(X)
        # all that can be wrong is said before anything is predicted
        true = true_labels(y, _num_samples(X), "X")
        classes = [
            NamedLabels(f"classes_ of {name!r}", check_labels(each.classes_, "classes_"))
            for name, each in estimators.items()
        ]
        learned = [given_ranks(part.ranks_) for each in estimators.values() for part in parts_with(each, "ranks_")]
        scale = known_scale([true, *classes], learned=learned, ranks=ranks)
        scale.encode(true.values)
        units = [_unit(scale, words_of(each)) for each in estimators.values()]
        if groups is not None:
            check_groups(groups, len(true.values))
        _check_intervals(confidence_level, n_resamples)
        return cls.from_predictions(
            y,
            {name: estimator.predict(X) for name, estimator in estimators.items()},
            groups=groups,
            ranks=scale.ranks,
            unit=next(filter(None, units), "") if unit is None else unit,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_preds: Mapping[str, Any],
        *,
        groups: Any = None,
        ranks: Any = None,
        unit: str | None = None,
        confidence_level: float = 0.95,
        n_resamples: int = 2000,
        random_state: Any = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> PairedErrorsDisplay:
        """Draw predictions, such as those of `sklearn.model_selection.cross_val_predict`.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels.
        y_preds : dict of str to array-like of shape (n,)
            Predicted labels of two or more models by their names, the one that is compared with the others first.
        groups : array-like of shape (n,), optional
            Whose image each is: these are drawn whole.
        ranks : array-like of shape (K,), optional
            All labels, lowest first. Needed where labels are words, unless `y_true` is an ordered Categorical.
        unit : str, optional
            What errors are counted in, for the axes, such as ``"years"``; by default ``"ranks"`` where labels are
            words.
        confidence_level, n_resamples, random_state, ax, **kwargs
            As `from_estimators` takes them.

        Returns
        -------
        PairedErrorsDisplay
        """
        pyplot(cls.__name__)
        _check_names("y_preds", y_preds)
        predicted = [NamedLabels.of(labels, f"the prediction of {name!r}") for name, labels in y_preds.items()]
        for each in predicted:
            true = true_labels(y_true, len(each.values), each.name)
        scale = known_scale([true, *predicted], ranks=ranks)
        of_truth = scale.values[scale.encode(true.values, "y_true")]
        errors = [np.abs(of_truth - scale.values[scale.encode(each.values, each.name)]) for each in predicted]
        display = cls(
            np.stack(errors),
            names=list(y_preds),
            groups=groups,
            unit=_unit(scale, {}) if unit is None else unit,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, errorbar_kw: dict[str, Any] | None = None) -> PairedErrorsDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, or two of them, optional
            Where; one is divided into both panels. By default in a new figure.
        errorbar_kw : dict, optional
            For `Axes.errorbar` of both panels.

        Returns
        -------
        PairedErrorsDisplay
            Itself.
        """
        unit = f" in {self.unit}" if self.unit else ""
        names = [in_a_line(str(name)) for name in self.names]
        size = (9.5 + margin_for(names), 1.9 + 0.5 * len(names))
        left, right = panels(type(self).__name__, ax, size, (1, 1))
        self.points_ = self._draw(left, 0, self.mae, self.mae_interval, errorbar_kw)
        left.set(xlabel=f"mean absolute error{unit}", xlim=(0, 1.15 * self.mae_interval.max() or 1))
        mark_ranks(left, "y", names)
        left.set_title(fitted(left, self._what_was_drawn(), 9), loc="left", fontsize=9)
        self.difference_points_ = self._draw(right, 1, self.difference, self.difference_interval, errorbar_kw)
        right.axvline(0, color="black", linewidth=1, linestyle="--")
        reach = 1.15 * np.abs(self.difference_interval).max() or 1
        right.set(xlabel=fitted(right, f"difference on the same images{unit}"), xlim=(-reach, reach))
        mark_ranks(right, "y", ["", *(f"against {name}" for name in names[1:])])
        right.yaxis.get_major_ticks()[0].set_visible(False)
        better = fitted(right, f"below 0: {short(names[0], 24)} is better", 9)
        right.set_title(better, loc="left", fontsize=9, **AS_IT_IS)
        self.axes_ = np.array([left, right], dtype=object)
        self.ax_, self.figure_ = left, left.figure
        return self

    def _what_was_drawn(self) -> str:
        n = np.shape(self.errors)[1]
        of_groups = "" if self.groups is None else f" in {self._n_groups} groups"
        return f"{n} images{of_groups}, {self.confidence_level:.0%} intervals"

    def _draw(self, ax: Any, first: int, means: np.ndarray, intervals: np.ndarray, errorbar_kw: Any) -> Any:
        from matplotlib.lines import Line2D

        heights = np.arange(first, first + len(means))
        lengths = np.abs(intervals.T - means)  # the mean is hardly ever, but may be outside
        style = {"fmt": "o", "color": BLUE, "markersize": 6, "capsize": 4, "linewidth": 1.5}
        drawn = ax.errorbar(means, heights, xerr=lengths, **{**style, **styled({}, errorbar_kw, Line2D)})
        spread = np.diff(intervals).max() / 4
        for mean, height in zip(means, heights, strict=True):
            style = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
            ax.annotate(rounded(mean, spread), (mean, height), (0, 7), **style)
        ax.set_ylim(len(self.names) - 0.4, -0.7)
        return drawn


def _check_names(name: str, models: Any) -> None:
    if not isinstance(models, Mapping) or len(models) < 2:
        raise ValueError(
            f"{name} must be a dict of two or more by their names, the one that is compared with the others first, "
            f'such as {{"L2RCLIP": ..., "ridge probe": ...}}, got {models!r}.'
        )


def _unit(scale: RankScale, words: dict[Any, str]) -> str:
    return unit_of(scale, display_names(scale, {**scale.names_by_label, **words})).removeprefix(" in ")


def _check_intervals(confidence_level: Any, n_resamples: Any) -> None:
    check_real("confidence_level", confidence_level, 0, 1, open_ends=True)
    check_integer("n_resamples", n_resamples, 1)


def _sums_by_group(errors: np.ndarray, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sum the errors of each group, ndarray of shape (m, G), and count its images, ndarray of shape (G,)."""
    group = np.arange(errors.shape[1]) if groups is None else check_groups(groups, errors.shape[1])
    sums, counts = sums_by_group(errors, group)
    if len(counts) < 2:
        what = "images" if groups is None else "groups"
        raise ValueError(f"Intervals need at least two {what} to draw from, got {len(counts)}.")
    return sums, counts
