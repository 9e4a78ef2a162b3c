"""Training target of each image: a distribution over the ranks whose width and centre are measured.

The measure is a ridge regression on the frozen tower's features, each image scored by a fit without it. Everything here
is NumPy on arrays; nothing knows of prompts or of how a model is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.ridge import Features, Scatter, leave_one_out, portions_of, ridge_map
from skl2rclip._ordinal.views import ONE_VIEW, Views

# the least width, in steps between ranks: a softmax cannot, and need not, be surer
_MIN_WIDTH = 0.3
# of the deviation of ranks that are equally frequent, where too few images are there to measure it
_UNMEASURED_SHARE = 0.7
_FEW = 4
# of the error's variance, which cannot all be the labels' own
_MIN_SHARE = 0.1
# the error is weighed by what it says of itself
_N_DISCOUNTS = 2
# of earlier batches' errors, with each batch
_MEMORY = 0.5


@dataclass(frozen=True)
class RankTargets:
    """What was measured of the labels, and the distributions over the ranks that follow from it.

    Attributes
    ----------
    target : ndarray of shape (n,), int
        Index of each image's rank.
    scale : ndarray of shape (K,)
        Values of the ranks, or their positions.
    sigma : float
        Root mean square error on images that were left out, along `scale`, corrected for the choice of the regression.
    noise : float
        The same in the unit of the ranks' values.
    trust : float
        Share of the labels' variance that is explained on images that were left out, in [0, 1].
    fitted : ndarray of shape (n,)
        What the regression says of each image, along `scale`.
    is_cumulative : bool
        Whether it is a regression of exceedances, else of `scale` itself.
    penalty : float
        Of the regression.
    scores : ndarray of shape (n,), optional
        Ranked probability score of what is said of each image that is left out; None where nothing was measured.
    views : Views
        What the rows of its features are to the images.
    """

    target: np.ndarray
    scale: np.ndarray
    sigma: float
    noise: float
    trust: float
    fitted: np.ndarray
    is_cumulative: bool
    penalty: float
    scores: np.ndarray | None = None
    views: Views = ONE_VIEW

    def around_labels(self, share: float = 1.0) -> np.ndarray:
        """Distributions around each image's own rank, `share` of sigma wide, ndarray of shape (n, K), float32."""
        return distributions(self.scale[self.target], self.scale, share * self.sigma)

    def around_fit(self, fitted: np.ndarray | None = None) -> np.ndarray:
        """Distributions around what the regression says, ndarray of shape (n, K), float32."""
        return distributions(self.fitted if fitted is None else fitted, self.scale, self.sigma)

    def of_ranks(self, share: float = 1.0) -> np.ndarray:
        """Distribution of an image that shows nothing but its rank, ndarray of shape (K, K), float32.

        `share` of sigma wide: what `around_labels` says of each image is the row of its rank.
        """
        return distributions(self.scale, self.scale, share * self.sigma)

    def refitted(self, features: Features | np.ndarray, scatter: Scatter) -> np.ndarray:
        """Tell what the regression says of all images when it has seen what `scatter` has, ndarray of shape (n,)."""
        outputs = _outputs(self.target, self.scale, self.is_cumulative)
        coefficients, intercept = ridge_map(
            features, self.views.repeated(outputs), scatter, self.penalty * scatter.weight.sum() / len(outputs)
        )
        predicted = np.concatenate([features[rows] @ coefficients + intercept for rows in portions_of(len(features))])
        return _centres(self.views.of_prediction(predicted), self.scale, self.is_cumulative)


def measure_targets(
    features: Features | np.ndarray,
    target: np.ndarray,
    rank_values: np.ndarray,
    weight: np.ndarray,
    blocks: np.ndarray,
    views: Views = ONE_VIEW,
) -> RankTargets:
    """Measure how wide, and around what, the distribution of each image over the ranks should be.

    Two regressions are tried, and for ranks that are not evenly spaced both with their values and with their positions:
    of the value, and of the exceedances ``[y <= k]``, whose predictions are cumulated probabilities with a median. That
    with the least ranked probability score on images left out, as Gaussians of the width of its own error, is taken.

    Parameters
    ----------
    features : Features or ndarray of shape (n views, P)
    target : ndarray of shape (n,), int
        Index of each image's rank.
    rank_values : ndarray of shape (K,)
    weight : ndarray of shape (n,)
        Mean one.
    blocks : ndarray of shape (n,), int
        What is left out together.
    views : Views, optional
        What the rows of features are to the images. The views that predictions see are measured, whatever is learned
        from.

    Returns
    -------
    RankTargets

    References
    ----------
    Distributions around the label: label distribution learning (Gao et al., TIP 2017), and for ordered labels SORD
    (Diaz and Marathe, CVPR 2019). Exceedances: Frank and Hall, ECML 2001. That width and centre are measured is this
    library's own.
    """
    positions, values = np.arange(len(rank_values), dtype=np.float64), _from_zero(rank_values)
    if len(np.unique(target)) == 1 or len(target) - np.bincount(blocks).max() < 3:
        return replace(_unmeasured(target, positions, values, 0.1 * features.shape[1]), views=views)
    steps = np.diff(values)
    is_even = bool((np.abs(steps - steps[0]) <= 1e-5 * abs(steps[0])).all())  # not their ratios, which may overflow
    scatter = Scatter(features, views.weights(weight))
    probes = [
        _probe(features, target, scale, scatter, blocks, is_cumulative, views)
        for scale in ([positions] if is_even else [positions, values])
        for is_cumulative in (False, True)
    ]
    _, left_out, targets = min(probes, key=lambda probe: probe[0])
    if is_even:
        return replace(targets, noise=targets.sigma * abs(values[1] - values[0]))
    order = np.argsort(targets.scale)
    error = np.interp(left_out, targets.scale[order], values[order]) - values[target]
    return replace(targets, noise=float(np.sqrt(np.average(error**2, weights=weight))))


def _unmeasured(target: np.ndarray, positions: np.ndarray, values: np.ndarray, penalty: float) -> RankTargets:
    """Assume what cannot be measured, as nothing can be left out.

    Few images show little; of many in one group, and of a single rank, the labels are believed.
    """
    is_wide = len(target) < _FEW and len(np.unique(target)) > 1
    share = _UNMEASURED_SHARE if is_wide else 0.0
    sigma, noise = (float(share * scale.std()) for scale in (positions, values))
    return RankTargets(target, positions, sigma, noise, 1 - share**2, positions[target], False, penalty)


def _from_zero(rank_values: np.ndarray) -> np.ndarray:
    """Subtract the lowest value: of numbers such as dates, sums and products would lose the distances."""
    values = np.asarray(rank_values, np.float64)
    return values - values.min()


def _probe(
    features: Features | np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    scatter: Scatter,
    blocks: np.ndarray,
    is_cumulative: bool,
    views: Views = ONE_VIEW,
) -> tuple[float, np.ndarray, RankTargets]:
    """Ranked probability score on images left out, what is said of them, and what follows from it."""
    weight = scatter.weight.reshape(-1, views.n).sum(axis=1)  # of the images
    ridge = leave_one_out(features, _outputs(target, scale, is_cumulative), weight, blocks, scatter, views)
    left_out, fitted = (_centres(outputs, scale, is_cumulative) for outputs in (ridge.predicted, ridge.fitted))
    labels = scale[target]
    variance = np.average((labels - np.average(labels, weights=weight)) ** 2, weights=weight)
    # the choice of penalty and regression is paid for with two images
    n_blocks = len(np.unique(blocks))
    square = np.average((labels - left_out) ** 2, weights=weight) * n_blocks / max(n_blocks - 2, 1)
    sigma, r2 = float(np.sqrt(square)), float(max(0.0, 1 - square / variance))
    scores = ranked_scores(distributions(left_out, scale, sigma), target)
    targets = RankTargets(target, scale, sigma, sigma, r2, fitted, is_cumulative, ridge.penalty, scores, views)
    return float(np.average(scores, weights=weight)), left_out, targets


def _outputs(target: np.ndarray, scale: np.ndarray, is_cumulative: bool) -> np.ndarray:
    """Make what is regressed: exceedances, ndarray of shape (n, K - 1), or values along the scale, (n, 1)."""
    if is_cumulative:
        return (target[:, None] <= np.arange(len(scale) - 1)).astype(np.float64)
    return scale[target][:, None]


def _centres(predicted: np.ndarray, scale: np.ndarray, is_cumulative: bool) -> np.ndarray:
    """Turn predicted outputs into places along the scale: of exceedances their interpolated median."""
    if not is_cumulative:
        return predicted[:, 0]
    n, edges = len(predicted), np.arange(len(scale) + 1) - 0.5
    # sorting makes cumulated probabilities of what need not ascend
    cumulated = np.sort(np.hstack([np.zeros((n, 1)), predicted.clip(0, 1), np.ones((n, 1))]), axis=1)  # (n, K + 1)
    above = (cumulated >= 0.5).argmax(axis=1)
    rows = np.arange(n)
    low, high = cumulated[rows, above - 1], cumulated[rows, above]
    position = edges[above - 1] + (0.5 - low) / np.maximum(high - low, 1e-12)
    return np.interp(position, np.arange(len(scale)), scale)


@dataclass(frozen=True)
class Measurement:
    """Soft targets, and what they were measured on.

    Attributes
    ----------
    variance : float
        Mean squared error on images left out, in the unit of the ranks' values, without what the labels add to it.
    """

    targets: RankTargets
    features: Features  # of the views of the n training images
    blocks: np.ndarray  # (n,), what is left out together
    weight: np.ndarray  # (n,), mean one
    variance: float


def measure(
    rows: np.ndarray,
    target: np.ndarray,
    rank_values: np.ndarray,
    weight: np.ndarray,
    blocks: np.ndarray,
    label_std: np.ndarray | None = None,
    *,
    n_hidden: int,
    seed: int,
    views: Views = ONE_VIEW,
) -> Measurement:
    """Measure soft targets on features and a hidden layer of random weights, as an adapter begins.

    Parameters
    ----------
    rows : ndarray of shape (n views, P), float32
        Embeddings, or other features.
    target : ndarray of shape (n,), int
    rank_values : ndarray of shape (K,)
    weight : ndarray of shape (n,)
    blocks : ndarray of shape (n,), int
        What is left out together.
    label_std : ndarray of shape (n,), optional
        How far each label may be off, in the unit of the ranks' values. Images then count as `reliability` says, and
        the targets are as wide as the error without the labels' own.
    n_hidden : int
        Width of that layer; 0 leaves it out.
    seed : int
    views : Views, optional
        What the rows are to the images.
    """

    def measured_with(weight: np.ndarray) -> Measurement:
        weight = weight / weight.mean()
        features = Features(rows, views.weights(weight), n_hidden, np.random.default_rng([seed, 1]))
        targets = measure_targets(features, target, rank_values, weight, blocks, views)
        return Measurement(targets, features, blocks, weight, targets.noise**2)

    measured = measured_with(weight)
    if label_std is None or not measured.variance:
        return measured
    least = _MIN_SHARE * measured.variance
    for _ in range(_N_DISCOUNTS):
        variance = _without_labels(measured, label_std, least)
        measured = measured_with(weight * reliability(label_std, variance))
    variance = _without_labels(measured, label_std, least)
    targets, noise = measured.targets, math.sqrt(variance)
    narrowed = replace(targets, sigma=targets.sigma * noise / targets.noise, noise=noise)
    return replace(measured, targets=narrowed, variance=variance)


def _without_labels(measured: Measurement, label_std: np.ndarray, least: float) -> float:
    """Variance of the error, less what the labels are off by on average."""
    return max(measured.targets.noise**2 - float(np.average(label_std**2, weights=measured.weight)), least)


def reliability(label_std: np.ndarray, variance: float) -> np.ndarray:
    """How much each image counts: ``v / (v + s_i^2)``, v the variance of the error without the labels' own.

    Weighted least squares, where an image's error has the variance ``v + s_i^2``; s is `label_std`, in the unit of the
    ranks' values.
    """
    return variance / (variance + label_std**2) if variance else np.ones(len(label_std))


@dataclass(frozen=True)
class RunningErrors:
    """Sums over the images that a model has predicted before it learned from them."""

    weight: float = 0.0
    squared_error: float = 0.0  # in steps between ranks
    squared_value_error: float = 0.0  # in the unit of the ranks' values
    position: float = 0.0  # of the labels
    squared_position: float = 0.0


def targets_of_predictions(
    probabilities: np.ndarray,
    target: np.ndarray,
    rank_values: np.ndarray,
    weight: np.ndarray,
    before: RunningErrors,
) -> tuple[RankTargets, RunningErrors]:
    """As `measure_targets`, from what the model itself says of images that it has not learned from yet.

    `probabilities` are the model's, of shape (n, K) in rank order. The errors of the images before these count half;
    those of all images so far come back with the targets.
    """
    # what was predicted at the beginning may not be held against the model for ever
    before = RunningErrors(**{name: _MEMORY * value for name, value in vars(before).items()})
    positions, values = np.arange(len(rank_values), dtype=np.float64), _from_zero(rank_values)
    predicted = probabilities @ positions
    errors = RunningErrors(
        before.weight + weight.sum(),
        before.squared_error + weight @ (predicted - target) ** 2,
        before.squared_value_error + weight @ (probabilities @ values - values[target]) ** 2,
        before.position + weight @ target,
        before.squared_position + weight @ target**2,
    )
    square = errors.squared_error / errors.weight
    variance = errors.squared_position / errors.weight - (errors.position / errors.weight) ** 2
    trust = max(0.0, 1 - square / variance) if variance > 1e-9 else 1.0
    noise = float(np.sqrt(errors.squared_value_error / errors.weight))
    targets = RankTargets(target, positions, float(np.sqrt(square)), noise, float(trust), predicted, False, 0.0)
    return targets, errors


def distributions(centre: np.ndarray, scale: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussians on the ranks, no narrower than a part of a step, ndarray of shape (n, K), float32.

    ``q_k proportional to exp(-(c - v_k)^2 / (2 max(sigma, 0.3 steps)^2))``; a step is the distance of the rank that is
    nearest to the centre from its nearer neighbour.
    """
    gaps = np.abs(np.diff(scale))
    step = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))  # (K,)
    distance = np.abs(centre[:, None] - scale)  # (n, K)
    width = np.maximum(sigma, _MIN_WIDTH * step)[distance.argmin(axis=1)]
    exponent = -(distance**2) / (2 * width[:, None] ** 2)
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
