"""From probabilities of the ranks to what is predicted: one rank, an expected value, an interval, and a score of them.

Everything here is NumPy on rows of probabilities in rank order. A read-out is one entry of `READ_OUTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from skl2rclip._utils.arguments import check_choice


def read_out(probabilities: np.ndarray, values: np.ndarray, decision: str = "argmax") -> np.ndarray:
    """Choose one rank for each row of probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Columns in rank order; each row sums to one.
    values : ndarray of shape (K,)
        Numeric values of the ranks, ascending or descending.
    decision : str, default="argmax"
        A name of `READ_OUTS`.

    Returns
    -------
    ndarray of shape (n,), int64
        Index of the rank.
    """
    check_choice("decision", decision, tuple(READ_OUTS))
    return READ_OUTS[decision](probabilities, values)


def _argmax(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Likeliest rank, which minimises the expected error rate."""
    return probabilities.argmax(axis=1)


def _mean(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank nearest to the expected value, which minimises the expected squared error."""
    shifted = values - values[0]  # large numbers keep their distances
    distance = np.abs(expected_value(probabilities, shifted)[:, None] - shifted)  # (n, K)
    return distance.argmin(axis=1)


def _median(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """First rank at which the cumulated probability reaches one half, which minimises the expected absolute error."""
    cumulated = np.cumsum(probabilities, axis=1, dtype=np.float64)
    half = 0.5 * cumulated[:, -1:]
    # rounding must not push an exact half to the next rank
    return (cumulated >= half - 1e-9).argmax(axis=1)


ReadOut = Callable[[np.ndarray, np.ndarray], np.ndarray]
# by what the parameter `decision` may be, as `_settings`, which stands below and cannot read this, lists it
READ_OUTS: MappingProxyType[str, ReadOut] = MappingProxyType({"argmax": _argmax, "mean": _mean, "median": _median})


def central_interval(probabilities: np.ndarray, coverage: float) -> np.ndarray:
    """Lowest and highest rank between which each row has at least `coverage` of its probability.

    Parameters
    ----------
    probabilities : ndarray of shape (n, K)
        Columns in rank order; each row sums to one.
    coverage : float
        In (0, 1).

    Returns
    -------
    ndarray of shape (n, 2), int64
        Indices; below the first and above the second there is at most ``(1 - coverage) / 2`` each.
    """
    tail = (1 - coverage) / 2
    # rounding must neither push an exact tail outwards nor take from the coverage
    below = np.cumsum(probabilities, axis=1, dtype=np.float64)  # up to and with k
    above = np.cumsum(probabilities[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    lowest = (below > tail + 1e-12).argmax(axis=1)
    highest = probabilities.shape[1] - 1 - (above > tail + 1e-12)[:, ::-1].argmax(axis=1)
    return np.column_stack([lowest, highest])


def ranked_scores(probabilities: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ranked probability score of each row, ``sum_k (F_k - [y <= k])^2`` with F the cumulated probabilities.

    Columns are in rank order, and `target` is the index of the true rank; the score is in [0, K - 1], and 0 is perfect.
    """
    cumulated = np.cumsum(probabilities, axis=1, dtype=np.float64)[:, :-1]
    return ((cumulated - (target[:, None] <= np.arange(cumulated.shape[1]))) ** 2).sum(axis=1)


def expected_value(probabilities: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute the expected numeric value of each row of probabilities, ``sum_k p_ik v_k``, ndarray of shape (n,)."""
    # relative to the first, so that the sum of probabilities, which is rounded, is not multiplied by large numbers
    return values[0] + probabilities.astype(np.float64) @ (values - values[0])
