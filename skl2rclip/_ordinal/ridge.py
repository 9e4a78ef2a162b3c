"""Ridge regression of features in closed form, each image scored by a fit that left it out.

Everything here is NumPy on arrays; nothing knows of ranks, or of what the regression is for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from scipy.special import erf

from skl2rclip._ordinal.views import ONE_VIEW, Views
from skl2rclip._utils.threads import n_side_by_side, side_by_side

_Rows = TypeVar("_Rows", slice, np.ndarray)

# penalties that are tried, in units of the mean eigenvalue of the features' scatter
_PENALTIES = np.logspace(-4, 2, 19)
_ROWS_PER_CHUNK = 2048
# elements of a matrix that is kept instead of being made again in each pass
_MAX_KEPT = 4 * 10**6
# elements of the errors of a portion, under all penalties
_MAX_ERRORS = 8 * 10**6
# of an image's leverage, what is left to one: less is rounding; of heavy images it may be little
_MIN_REST = 1e-13
# blocks are solved together as far as their kernels have so many elements
_MAX_KERNELS = 2**16


class Features:
    """What ridge regression sees of features: themselves, standardised, and a hidden layer of random weights.

    ``[x, sqrt(P / H) gelu(x W + b)]`` with ``x = (f - mean) / spread``: the adapter's own layers before they learn.
    Of many images rows are made when they are asked for.

    Parameters
    ----------
    rows : ndarray of shape (n, P)
        Embeddings, or other features.
    weight : ndarray of shape (n,)
        For mean and spread.
    n_hidden : int
        H; 0 leaves the hidden layer out.
    generator : numpy Generator
    """

    def __init__(self, rows: np.ndarray, weight: np.ndarray, n_hidden: int, generator: np.random.Generator):
        width = rows.shape[1]
        self.rows = rows
        self.mean = weight @ rows / weight.sum()  # (P,)
        square = sum(weight[part] @ ((rows[part] - self.mean) ** 2).mean(axis=1) for part in portions_of(len(rows)))
        self.spread = float(np.sqrt(square / weight.sum())) or 1.0
        self.hidden_weight = generator.normal(size=(width, n_hidden)) / np.sqrt(max(width, 1))  # (P, H)
        self.hidden_bias = generator.normal(size=n_hidden)  # (H,)
        self.shape = (len(rows), width + n_hidden)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        return self._made[part] if self.shape[0] * self.shape[1] <= _MAX_KEPT else self._of(part)

    @cached_property
    def _made(self) -> np.ndarray:
        return self._of(slice(None))

    def _of(self, part: slice | np.ndarray) -> np.ndarray:
        x = (self.rows[part].astype(np.float64) - self.mean) / self.spread
        if not len(self.hidden_bias):
            return x
        before = x @ self.hidden_weight + self.hidden_bias
        gelu = before * (1 + erf(before / np.sqrt(2))) / 2
        return np.hstack([x, np.sqrt(x.shape[1] / len(self.hidden_bias)) * gelu])


class Scatter:
    """Weighted scatter of features about their mean, which all regressions of them with these weights share.

    Parameters
    ----------
    features : Features or ndarray of shape (n, P)
    weight : ndarray of shape (n,)
    """

    def __init__(self, features: Features | np.ndarray, weight: np.ndarray):
        self.weight = weight
        self._rotated: np.ndarray | None = None
        portions = list(portions_of(len(features)))
        self.mean = sum_of(lambda rows: weight[rows] @ features[rows], portions) / weight.sum()  # (P,)

        def of_portion(rows: slice) -> np.ndarray:
            x = features[rows] - self.mean
            return x.T @ (weight[rows, None] * x)

        self.matrix = sum_of(of_portion, portions)  # (P, P)

    def without(self, features: Features | np.ndarray, rows: np.ndarray) -> Scatter:
        """Return the scatter of the others than some rows, by taking these out where they are not most of it."""
        rest = self.weight.copy()
        rest[rows] = 0
        if rest.sum() < self.weight.sum() / 4 or not len(rows):  # a difference of nearly equal numbers
            return Scatter(features, rest)

        def of_portion(part: np.ndarray) -> np.ndarray:
            x = features[part] - self.mean
            return (self.weight[part, None] * x).T @ np.column_stack([x, np.ones(len(part))])

        moments = sum_of(of_portion, [rows[part] for part in portions_of(len(rows))])
        first = moments[:, -1]
        others = copy.copy(self)
        others.weight, others.mean = rest, self.mean - first / rest.sum()
        others.matrix = self.matrix - moments[:, :-1] - np.outer(first, first) / rest.sum()
        vars(others).pop("eigen", None)
        others._rotated = None
        return others

    def rotated(self, features: Features | np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that gives rows of the centred features along the axes."""
        if features.shape[0] * features.shape[1] > _MAX_KEPT:
            return lambda rows: (features[rows] - self.mean) @ self.eigen[1]
        if self._rotated is None:
            self._rotated = (features[slice(None)] - self.mean) @ self.eigen[1]
        return self._rotated.__getitem__

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, none of them negative, and the axes that go with them."""
        eigenvalues, axes = np.linalg.eigh(self.matrix)
        return eigenvalues.clip(0), axes

    def moment(self, features: Features | np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted mean of outputs of shape (n, m), and their moment with the centred features, of shape (P, m)."""
        mean = self.weight @ outputs / self.weight.sum()

        def of_portion(rows: slice) -> np.ndarray:
            return (features[rows] - self.mean).T @ (self.weight[rows, None] * (outputs[rows] - mean))

        return mean, sum_of(of_portion, list(portions_of(len(features))))


@dataclass(frozen=True)
class LeaveOneOut:
    """A ridge regression, and what it says of each image without having seen it."""

    predicted: np.ndarray  # (n, m), of each image by a fit that left it out, together with its copies and its group
    fitted: np.ndarray  # (n, m), of each image by the fit of all
    penalty: float


def leave_one_out(
    features: Features | np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    blocks: np.ndarray,
    scatter: Scatter | None = None,
    views: Views = ONE_VIEW,
) -> LeaveOneOut:
    """Fit ridge regression with an intercept, its penalty chosen by the error on images left out.

    From the P x P scatter matrix, in passes over portions of the rows. With G the weighted scatter of the centred
    features x, the fit of all is ``b + x' (G + a I)^-1 g``, and what images of a block B get without them solves
    ``(I - K_BB W_B) e = r_B`` for the errors e, where r are the residuals of the fit of all and
    ``K = 1 / sum w + x (G + a I)^-1 x'``; of a block of one that is the familiar ``e = r / (1 - w K)``.

    Parameters
    ----------
    features : Features or ndarray of shape (n views, P)
    values : ndarray of shape (n,) or (n, m)
        What is to be predicted.
    weight : ndarray of shape (n,)
        Of each image; not negative. A weight of two equals the image twice.
    blocks : ndarray of shape (n,), int
        Images of one block are left out together, see `splits.blocks_of`.
    scatter : Scatter, optional
        Of these features and weights, where it is known.
    views : Views, optional
        What the rows of features are to the images, which are left out with all of theirs.

    Returns
    -------
    LeaveOneOut

    References
    ----------
    The closed form for single rows is that of Allen's PRESS (1974); scikit-learn's `RidgeCV` has it too, without
    weights that count as copies, and without groups.
    """
    X, Y, total = features, np.asarray(values, np.float64).reshape(len(weight), -1), weight.sum()
    scatter = scatter or Scatter(X, views.weights(weight))
    (eigenvalues, axes), along_axes = scatter.eigen, scatter.rotated(X)
    mean_y, moment = scatter.moment(X, views.repeated(Y))
    moment = axes.T @ moment

    def errors(images: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """Errors of whole blocks left out, array of shape (penalties, images, m)."""
        x, y = along_axes(views.rows(images)), views.repeated(Y[images]) - mean_y
        w, block = views.weights(weight[images]), views.repeated(blocks[images])
        shrunk = 1 / (eigenvalues + penalties[:, None])  # (penalties, D)
        residual = y - x @ (shrunk[:, :, None] * moment)  # (penalties, rows, m)
        leverage = w * (1 / total + shrunk @ (x**2).T)  # (penalties, rows)
        result = residual / np.maximum(1 - leverage, _MIN_REST)[:, :, None]
        for members in _by_size(block):
            if members.shape[1] <= X.shape[1]:
                result[:, members] = _by_rows(x[members], residual[:, members], w[members], shrunk, total)
                continue
            for own in members:
                result[:, own] = _by_columns(x[own], y[own], w[own], eigenvalues, penalties, moment, total)
        return views.of_prediction(result, axis=1)

    penalties = _PENALTIES * mean_eigenvalue(eigenvalues)
    # of many outputs the errors take more than the features
    n_rows = min(_ROWS_PER_CHUNK, _MAX_ERRORS // (len(penalties) * Y.shape[1]))
    portions = list(_portions_of_blocks(blocks, max(1, n_rows // views.n)))
    squares = sum_of(lambda images: (errors(images, penalties) ** 2).sum(axis=2) @ weight[images], portions)
    penalty = penalties[int(np.argmin(squares))]
    predicted, fitted = np.empty_like(Y), np.empty_like(Y)
    coefficients = moment / (eigenvalues + penalty)[:, None]

    def fill(images: np.ndarray) -> None:
        predicted[images] = Y[images] - errors(images, np.array([penalty]))[0]
        fitted[images] = mean_y + views.of_prediction(along_axes(views.rows(images))) @ coefficients

    side_by_side(fill, portions)
    return LeaveOneOut(predicted, fitted, float(penalty))


def ridge_map(
    features: Features | np.ndarray, outputs: np.ndarray, scatter: Scatter, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients, of shape (P, m), and intercept, of shape (m,), of a ridge regression of outputs of shape (n, m)."""
    mean, moment = scatter.moment(features, outputs)
    normal = scatter.matrix.copy()
    np.fill_diagonal(normal, normal.diagonal() + penalty)
    coefficients = np.linalg.solve(normal, moment)
    return coefficients, mean - scatter.mean @ coefficients


def mean_eigenvalue(eigenvalues: np.ndarray) -> float:
    """Mean of those that are not zero."""
    counted = np.count_nonzero(eigenvalues > 1e-10 * eigenvalues.max())
    return float(eigenvalues.sum() / counted) if counted else 1.0


def _by_size(block: np.ndarray) -> Iterator[np.ndarray]:
    """Go over the blocks of more than one row, some of one size together: arrays of shape (blocks, rows)."""
    order = np.argsort(block, kind="stable")
    _, start, size = np.unique(block[order], return_index=True, return_counts=True)
    for each in np.unique(size[size > 1]):
        members = order[start[size == each][:, None] + np.arange(each)]
        yield from np.split(members, range(0, len(members), max(1, _MAX_KERNELS // each**2))[1:])


def _by_rows(x: np.ndarray, residual: np.ndarray, weight: np.ndarray, shrunk: np.ndarray, total: float) -> np.ndarray:
    """Errors of the rows of small blocks by fits without them, array of shape (penalties, blocks, rows, m)."""
    result = np.empty_like(residual)
    for number, factors in enumerate(shrunk):
        kernel = 1 / total + (x * factors) @ x.swapaxes(1, 2)  # (blocks, rows, rows)
        inverse = np.linalg.pinv(np.eye(x.shape[1]) - kernel * weight[:, None], rcond=_MIN_REST)
        result[number] = inverse @ residual[number]
    return result


def _by_columns(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    eigenvalues: np.ndarray,
    penalties: np.ndarray,
    moment: np.ndarray,
    total: float,
) -> np.ndarray:
    """As `_by_rows` for one block of more rows than dimensions, by taking it out of the normal equations."""
    extended = np.column_stack([x, np.ones(len(x))])
    rest = np.vstack([moment, np.zeros((1, y.shape[1]))]) - extended.T @ (weight[:, None] * y)
    own = extended.T @ (weight[:, None] * extended)
    result = np.empty((len(penalties), *y.shape))
    for i, penalty in enumerate(penalties):
        normal = np.diag([*(eigenvalues + penalty), total]) - own
        result[i] = y - extended @ np.linalg.lstsq(normal, rest, rcond=1e-9)[0]
    return result


def portions_of(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS_PER_CHUNK):
        yield slice(start, start + _ROWS_PER_CHUNK)


def sum_of(function: Callable[[_Rows], np.ndarray], portions: Sequence[_Rows]) -> np.ndarray:
    """Sum of what a function makes of each portion of the rows, some portions side by side."""
    n = n_side_by_side()

    def part(first: int) -> np.ndarray:
        total = function(portions[first])
        for portion in portions[first + n :: n]:
            total += function(portion)
        return total

    first, *others = side_by_side(part, range(min(n, len(portions))))
    return sum(others, start=first)


def _portions_of_blocks(blocks: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Images in portions of about this size that do not cut a block in two."""
    order = np.argsort(blocks, kind="stable")
    ends = np.flatnonzero(np.diff(blocks[order], append=-1)) + 1  # where blocks end
    start = 0
    while start < len(order):
        within = ends[(ends > start) & (ends <= start + size)]
        end = within[-1] if len(within) else ends[ends > start][0]
        yield order[start:end]
        start = end
