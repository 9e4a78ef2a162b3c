"""How unusual rows of features are beside those that were learned from: leverages, and where the last hundredth begins.

Everything here is NumPy on arrays; nothing knows where the features come from, or what is learned from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skl2rclip._ordinal.ridge import Scatter, mean_eigenvalue, portions_of

MAX_AXES = 256
# of the training rows that lie beyond `offset`
SHARE_BEYOND = 0.01
# in units of the mean eigenvalue of the scatter
_PENALTY = 0.1
# of the rows' own scatter about zero: what does not vary at all is not known to better than that
_MIN_PENALTY = 1e-6
# with more rows it comes from some of them
_MAX_ROWS = 20_000
# of a leverage, what is left to one: less is rounding
_MIN_REST = 1e-13
_ARRAYS = ("mean", "axes", "inverse")


@dataclass(frozen=True)
class Leverage:
    """Leverage of a row beside those that were learned from, in a ridge regression with an intercept.

    ``1 / sum w + x' (G + a I)^-1 x`` with x the centred row and G the scatter of the training rows. Of the axes of G
    those with the largest eigenvalues are kept, and what lies off them counts by the mean of the other eigenvalues.

    Attributes
    ----------
    mean : ndarray of shape (D,), float32
    axes : ndarray of shape (D, k), float32
    inverse : ndarray of shape (k,), float32
        Of eigenvalue and penalty.
    rest : float
        The same off the axes.
    total : float
        Sum of the weights.
    offset : float
        The score that so many of the training rows lie below, each scored by a fit without it and its block.
    """

    mean: np.ndarray
    axes: np.ndarray
    inverse: np.ndarray
    rest: float
    total: float
    offset: float = -np.inf

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return minus the logarithm of each row's leverage, ndarray of shape (n,), float64: the higher the more usual.

        Parameters
        ----------
        rows : ndarray of shape (n, D)
        """
        result = np.empty(len(rows))
        for part in portions_of(len(rows)):
            x = rows[part].astype(np.float64) - self.mean
            along = x @ self.axes
            off = ((x**2).sum(axis=1) - (along**2).sum(axis=1)).clip(0)
            result[part] = -np.log(1 / self.total + along**2 @ self.inverse + self.rest * off)
        return result

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return its arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def to_json(self) -> dict[str, float | int]:
        """Return everything else, of JSON's own types."""
        return {"n_axes": len(self.inverse), "rest": self.rest, "total": self.total, "offset": self.offset}

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Leverage:
        """Inverse of `to_json` and `to_arrays`."""
        if (arrays["inverse"] <= 0).any():
            raise ValueError("the array leverage.inverse holds numbers that are not positive")
        rest, total, offset = (float(description[name]) for name in ("rest", "total", "offset"))
        return cls(arrays["mean"], arrays["axes"], arrays["inverse"], rest, total, offset)


def fit_leverage(rows: np.ndarray, weight: np.ndarray, blocks: np.ndarray) -> Leverage | None:
    """Learn what is usual; None of fewer than two blocks, none of which says how another one would be seen.

    Parameters
    ----------
    rows : ndarray of shape (n, D)
    weight : ndarray of shape (n,)
        Not negative. A row of weight zero is not looked at.
    blocks : ndarray of shape (n,), int
        Rows of one block are left out together.

    References
    ----------
    Leverage, and what it is without a row: R. Cook and S. Weisberg, "Residuals and influence in regression", 1982. The
    place of the hundredth among n rows is that of split conformal prediction: so far no more than a hundredth of new
    rows of the same kind lie beyond it, or with fewer than a hundred rows one of n + 1.
    """
    seen = np.flatnonzero(weight > 0)
    if len(seen) > _MAX_ROWS:
        seen = seen[np.linspace(0, len(seen) - 1, _MAX_ROWS).astype(np.int64)]
    rows, weight, blocks = rows[seen].astype(np.float64), weight[seen], blocks[seen]
    if len(np.unique(blocks)) < 2 or not rows.shape[1]:
        return None
    weight = weight / weight.mean()
    scatter, total = Scatter(rows, weight), float(weight.sum())
    eigenvalues, axes = (each[..., ::-1] for each in scatter.eigen)  # the largest first
    least = max(_MIN_PENALTY * float(weight @ (rows**2).sum(axis=1)), float(np.finfo(np.float32).tiny))
    penalty = max(_PENALTY * mean_eigenvalue(eigenvalues), least)
    x = (rows - scatter.mean) @ axes
    left_out = -np.log(_without_own_block(x, weight, blocks, eigenvalues + penalty, total))
    place = max(0, int(SHARE_BEYOND * (len(rows) + 1)) - 1)
    k = min(MAX_AXES, len(eigenvalues))
    others = eigenvalues[k:]
    return Leverage(
        mean=scatter.mean.astype(np.float32),
        axes=np.ascontiguousarray(axes[:, :k], np.float32),
        inverse=(1 / (eigenvalues[:k] + penalty)).astype(np.float32),
        rest=float(1 / (others.mean() + penalty)) if len(others) else 0.0,
        total=total,
        offset=float(np.sort(left_out)[place]),
    )


def _without_own_block(
    x: np.ndarray, weight: np.ndarray, blocks: np.ndarray, eigenvalues: np.ndarray, total: float
) -> np.ndarray:
    """Leverage of each row by a fit without its block, ndarray of shape (n,).

    With L the leverages of a block's rows among each other that is the diagonal of ``L (I - W L)^-1``, and of a single
    row ``h / (1 - w h)``.
    """
    result = 1 / total + x**2 @ (1 / eigenvalues)
    result /= np.maximum(1 - weight * result, _MIN_REST)
    for members in _of_several(blocks):
        own, w = np.column_stack([x[members], np.ones(len(members))]), weight[members]
        normal = np.append(eigenvalues, total)
        if len(members) <= len(normal):
            kernel = (own / normal) @ own.T
            rest = np.eye(len(members)) - w[:, None] * kernel
            result[members] = np.einsum("ij,ji->i", kernel, np.linalg.pinv(rest, rcond=_MIN_REST))
        else:  # more rows than dimensions are taken out of the normal equations
            others = np.diag(normal) - own.T @ (w[:, None] * own)
            result[members] = np.einsum("ij,ij->i", own @ np.linalg.pinv(others, rcond=_MIN_REST), own)
    return np.maximum(result, 1 / total)


def _of_several(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of the rows of each block that has several."""
    order = np.argsort(blocks, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1):
        if len(members) > 1:
            yield members
