"""Several images of one thing, a patient or a fruit: their distributions become one."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

from skl2rclip._ordinal.rank_lookup import check_distributions, in_rank_order
from skl2rclip._ordinal.ranks import given_ranks, scale_of
from skl2rclip._utils.arguments import check_choice, check_groups

_WAYS = ("mean", "geometric", "max")
# probability whose logarithm is still a number
_MIN_PROBABILITY = 1e-300


def pool_probabilities(
    y_proba: Any, cases: Any, how: str = "mean", *, ranks: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Make one distribution of the images of each case, such as a patient, a fruit or a joint.

    With p_i the distributions of the m images of a case and F_i their sums along the ranks:

    - ``"mean"``: ``mean_i p_i``, which says what an image of the case shows, and stays as wide as the images differ;
    - ``"geometric"``: ``exp(mean_i log p_i)``, normalised, where the images show one and the same rank: what one of
      them excludes is excluded, and what they agree on is not made narrower by their number;
    - ``"max"``: ``F(k) = prod_i F_i(k)``, the distribution of the highest rank among the images, where a case is as
      bad as the worst of them, and each errs by itself.

    Parameters
    ----------
    y_proba : array-like of shape (n, K)
        Probabilities of each image; columns in the order of the sorted labels, as `predict_proba` returns them.
    cases : array-like of shape (n,)
        The case of each image: words or numbers.
    how : {"mean", "geometric", "max"}, default="mean"
    ranks : array-like of shape (K,), optional
        All labels, lowest first, for ``"max"`` where sorted labels are not in rank order: words, or ranks that fall.

    Returns
    -------
    cases : ndarray of shape (m,)
        Each case once, sorted, as pandas' ``groupby`` has them.
    y_proba : ndarray of shape (m, K), float64
        A row for each, columns as they were.

    Raises
    ------
    ValueError
        If shapes do not fit, rows do not sum to one, or a case is missing.

    References
    ----------
    Linear and logarithmic opinion pools: Genest and Zidek, "Combining probability distributions", Statistical Science
    1, 1986. The highest of independent values: David and Nagaraja, "Order statistics", 2003.

    Examples
    --------
    >>> from skl2rclip.metrics import pool_probabilities
    >>> proba = [[0.8, 0.2, 0.0], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]]
    >>> patients, pooled = pool_probabilities(proba, ["ann", "ann", "bob"])
    >>> patients.tolist(), pooled.round(2).tolist()
    (['ann', 'bob'], [[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    """
    check_choice("how", how, _WAYS)
    probabilities = check_distributions(y_proba)
    check_groups(cases, len(probabilities), "cases")
    names, case = np.unique(np.asarray(cases), return_inverse=True)
    if how == "mean":
        return names, _mean_by(case, probabilities)
    if how == "geometric":
        return names, softmax(_mean_by(case, np.log(np.maximum(probabilities, _MIN_PROBABILITY))), axis=1)
    n_ranks = probabilities.shape[1]
    scale = scale_of(np.arange(n_ranks) if ranks is None else given_ranks(ranks))
    if len(scale.ranks) != n_ranks:
        raise ValueError(f"y_proba has {n_ranks} columns, but ranks lists {len(scale.ranks)} labels.")
    ordered = in_rank_order(probabilities, scale.class_order, n_ranks)
    below = np.ones((len(names), n_ranks))
    np.multiply.at(below, case, np.minimum(ordered.cumsum(axis=1), 1))
    below[:, -1] = 1
    return names, np.diff(below, axis=1, prepend=0)[:, scale.class_order]


def _mean_by(case: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the rows of each case."""
    sums = np.zeros((int(case.max()) + 1, rows.shape[1]))
    np.add.at(sums, case, rows)
    return sums / np.bincount(case)[:, None]
