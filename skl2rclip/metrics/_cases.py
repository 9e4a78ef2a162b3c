"""Several images of one thing, a patient or a fruit: their distributions become one, and one label."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

from skl2rclip._ordinal.decisions import read_out
from skl2rclip._ordinal.rank_lookup import check_distributions, in_rank_order
from skl2rclip._ordinal.ranks import RankScale, given_ranks, scale_of
from skl2rclip._utils.arguments import check_choice, check_groups

_WAYS = ("mean", "geometric", "max")


def pool_probabilities(
    y_proba: Any, cases: Any, how: str = "mean", *, ranks: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Make one distribution of the images of each case, such as a patient, a fruit or a joint.

    With p_i the distributions of the m images of a case and F_i their sums along the ranks:

    - ``"mean"``: ``mean_i p_i``, which says what an image of the case shows, and stays as wide as the images differ;
    - ``"geometric"``: ``exp(mean_i log p_i)``, normalised, where the images show one and the same rank: what one of
      them excludes is excluded, however many they are, and what they agree on is not made narrower by their number.
      Where each rank is excluded by one or another, those are left that the fewest exclude;
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
        Each case once, sorted as NumPy sorts them; ``y[np.unique(cases, return_index=True)[1]]`` are their labels,
        where all images of a case have one.
    y_proba : ndarray of shape (m, K), float64
        A row for each, columns as they were.

    Raises
    ------
    ValueError
        If shapes do not fit, rows do not sum to one, a case is missing, or cases are words beside numbers.

    See Also
    --------
    labels_from_probabilities : The label that is predicted for each row.

    Notes
    -----
    ``"max"`` needs probabilities that are right for the set: where a fit has seen high ranks more often than they come
    among the images to predict, the highest of several is expected far too high.

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
    _check_of_one_kind(np.asarray(cases, dtype=object))
    names, case = np.unique(np.asarray(cases), return_inverse=True)
    if how == "mean":
        return names, _mean_by(case, probabilities)
    if how == "geometric":
        return names, _geometric_by(case, probabilities)
    scale, ordered = _in_rank_order(probabilities, ranks)
    below = np.ones((len(names), probabilities.shape[1]))
    # what rounded rows lack of one is no probability of the highest rank, and would grow with the images
    sums = ordered.cumsum(axis=1)
    np.multiply.at(below, case, sums / sums[:, -1:])
    below[:, -1] = 1
    return names, np.diff(below, axis=1, prepend=0)[:, scale.class_order]


def labels_from_probabilities(y_proba: Any, decision: str = "median", *, ranks: Any = None) -> np.ndarray:
    """Choose the label of each row of probabilities as `L2RCLIPClassifier.predict` does, of pooled ones too.

    Parameters
    ----------
    y_proba : array-like of shape (n, K)
        Probabilities; columns in the order of the sorted labels, as `predict_proba` returns them.
    decision : {"median", "argmax", "mean"}, default="median"
        The median has the least absolute error, the likeliest label the most hits, and the label nearest to the mean
        the least squared error.
    ranks : array-like of shape (K,), optional
        All labels, lowest first: `ranks_` of the classifier. By default they are the integers 0 to K - 1.

    Returns
    -------
    ndarray of shape (n,)
        Labels.

    Raises
    ------
    ValueError
        If `ranks` does not fit the columns, or rows do not sum to one.

    Examples
    --------
    >>> from skl2rclip.metrics import labels_from_probabilities
    >>> proba = [[0.1, 0.5, 0.4], [0.6, 0.1, 0.3]]  # of bad, fair and good
    >>> labels_from_probabilities(proba, ranks=["bad", "fair", "good"]).tolist()
    ['fair', 'bad']
    """
    scale, ordered = _in_rank_order(check_distributions(y_proba), ranks)
    return scale.ranks[read_out(ordered, scale.values, decision)]


def _in_rank_order(probabilities: np.ndarray, ranks: Any) -> tuple[RankScale, np.ndarray]:
    """Put columns in the order of the sorted labels in rank order, ndarray of shape (n, K)."""
    n_ranks = probabilities.shape[1]
    scale = scale_of(np.arange(n_ranks) if ranks is None else given_ranks(ranks))
    if len(scale.ranks) != n_ranks:
        raise ValueError(f"y_proba has {n_ranks} columns, but ranks lists {len(scale.ranks)} labels.")
    return scale, in_rank_order(probabilities, scale.class_order, n_ranks)


def _check_of_one_kind(cases: np.ndarray) -> None:
    """Raise where words stand beside numbers, which NumPy would sort as words, so that 1 and "1" become one case."""
    are_words = [isinstance(each, str) for each in cases.tolist()]
    if any(are_words) and not all(are_words):
        word, number = cases[are_words.index(True)], cases[are_words.index(False)]
        raise ValueError(f"cases holds words beside numbers, such as {word!r} and {number!r}: make all of them words.")


def _mean_by(case: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean of the rows of each case."""
    sums = np.zeros((int(case.max()) + 1, rows.shape[1]))
    np.add.at(sums, case, rows)
    return sums / np.bincount(case)[:, None]


def _geometric_by(case: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Geometric mean of the rows of each case, normalised; ranks that more of them exclude than others have nothing."""
    excluded = _mean_by(case, (probabilities == 0).astype(np.float64))
    logarithms = _mean_by(case, np.log(np.where(probabilities > 0, probabilities, 1)))
    return softmax(np.where(excluded > excluded.min(axis=1, keepdims=True), -np.inf, logarithms), axis=1)
