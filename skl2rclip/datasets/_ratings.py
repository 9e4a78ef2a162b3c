"""Several raters of each image: one label, and how far it may be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._ordinal.labels import array_of, holds_numbers, listing
from skl2rclip._ordinal.ranks import given_ranks, order_unknown, own_order, values_of
from skl2rclip._utils.arguments import is_missing


def combine_ratings(ratings: Any, *, ranks: Any = None) -> Bunch:
    """Make one label of several raters' of each image, without what each rater is stricter or milder by.

    A rating is taken for the sum of what the image shows, of the rater's bias, and of an error that is the same for all
    raters. Images and biases come from least squares over all ratings that there are; the biases of raters who share
    images, directly or through others, have the mean zero.

    Parameters
    ----------
    ratings : array-like of shape (n, raters)
        Numbers, or words with `ranks`; missing where a rater has not seen an image: None, NaN, an empty word or masked.
    ranks : array-like of shape (K,), optional
        All labels, lowest first. Needed for words, which count as steps, unless the columns of a frame are ordered
        Categoricals, of polars Enums; of numbers, by default all that were given.

    Returns
    -------
    Bunch
        With the attributes

        target : ndarray of shape (n,)
            Of the ranks the nearest to `mean`, for `y` in `fit`.
        label_std : ndarray of shape (n,), float64
            How far that may be off, for `fit`: the standard error of `mean`, and what is lost by the nearest rank.
        mean : ndarray of shape (n,), float64
            Mean of an image's ratings without the biases; of words, in ranks from 0.
        bias : ndarray of shape (raters,), float64
            What each rater adds.
        rating_std : float
            Standard deviation of a rating's own error.

    Raises
    ------
    ValueError
        If an image has no rating, ratings are words and `ranks` is missing, or no image has two ratings, which would
        tell how far they are off.

    References
    ----------
    The additive model of two-way classifications with gaps: Searle, "Linear models", 1971, chapter 7.

    Examples
    --------
    >>> from skl2rclip.datasets import combine_ratings
    >>> strict_and_mild = [[1, 3], [2, 4], [3, 5], [None, 3]]
    >>> combined = combine_ratings(strict_and_mild)
    >>> combined.mean.round(2).tolist(), combined.bias.round(2).tolist(), combined.target.tolist()
    ([2.0, 3.0, 4.0, 2.0], [-1.0, 1.0], [2, 3, 4, 2])
    """
    table, ordered = _numbers(ratings, ranks)
    given = np.isfinite(table)
    bare = np.flatnonzero(~given.any(axis=1))
    if len(bare):
        raise ValueError(f"ratings has no rating in row {listing(bare.tolist())}: leave these images out.")
    filled, counts = np.where(given, table, 0), given.sum(axis=1)
    shares = given / counts[:, None]  # (n, raters)
    # what is left of each rater's count once the images have taken theirs
    curvature = np.diag(given.sum(axis=0)) - given.T @ shares
    spread, n_free_biases = _inverse_and_rank(curvature)
    centred = np.where(given, filled - (filled.sum(axis=1) / counts)[:, None], 0)
    bias = spread @ centred.sum(axis=0)
    mean = np.where(given, filled - bias, 0).sum(axis=1) / counts
    free = int(counts.sum()) - len(table) - n_free_biases
    if free <= 0:
        raise ValueError(
            "ratings must have more ratings than images and raters, to tell how far they are off: with a single rating "
            "of each image, take these for y and leave label_std out."
        )
    residuals = np.where(given, filled - mean[:, None] - bias, 0)
    variance = float((residuals**2).sum()) / free
    errors = variance * (1 / counts + np.einsum("ij,jk,ik->i", shares, spread, shares))
    values = values_of(ordered) if holds_numbers(ordered) else np.arange(len(ordered), dtype=np.float64)
    nearest = np.abs(mean[:, None] - values).argmin(axis=1)
    label_std = np.sqrt(errors + (values[nearest] - mean) ** 2)
    return Bunch(
        target=ordered[nearest], label_std=label_std, mean=mean, bias=bias, rating_std=float(np.sqrt(variance))
    )


def _inverse_and_rank(curvature: np.ndarray) -> tuple[np.ndarray, int]:
    """Pseudo-inverse of a matrix that says nothing of what all raters who share images add together, and its rank.

    What rounding leaves of zero grows with the number of ratings, and has either sign: it must not be inverted.
    """
    sizes, directions = np.linalg.eigh(curvature)
    kept = sizes > 1e-10 * sizes.max(initial=0.0)
    return (directions[:, kept] / sizes[kept]) @ directions[:, kept].T, int(kept.sum())


def _numbers(ratings: Any, ranks: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as numbers, NaN where one is missing, and the ranks."""
    table = np.asarray(ratings, dtype=object)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"ratings must have the shape (images, raters), got {table.shape}.")
    is_given = np.array([[not is_missing(each) and each != "" for each in row] for row in table.tolist()])
    is_given &= ~np.broadcast_to(np.ma.getmask(ratings), table.shape)
    given = array_of(table[is_given].tolist(), "ratings")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        row, rater = np.argwhere(is_given)[np.flatnonzero(~np.isfinite(given))[0]]
        raise ValueError(
            f"ratings has an infinite number in row {row}, column {rater}: give it a rank, or NaN where it is missing."
        )
    ranks = _order_of_columns(ratings) if ranks is None else ranks
    if ranks is None and not holds_numbers(given):
        raise ValueError(order_unknown(np.unique(given).tolist()))
    ordered = np.unique(given) if ranks is None else given_ranks(ranks)
    steps = ordered if holds_numbers(ordered) else np.arange(len(ordered))
    place = dict(zip(ordered.tolist(), steps.tolist(), strict=True))
    unknown = sorted({label for label in given.tolist() if label not in place})
    if unknown:
        raise ValueError(f"ratings holds {listing(unknown)}, which ranks does not list: {listing(ordered.tolist())}.")
    numbers = np.full(table.shape, np.nan)
    numbers[is_given] = [place[label] for label in given.tolist()]
    return numbers, ordered


def _order_of_columns(ratings: Any) -> list[Any] | None:
    """Order of the ordered Categoricals among the columns of a frame of pandas, or of the Enums of polars."""
    if hasattr(ratings, "iloc"):
        columns = {name: own_order(ratings.iloc[:, place]) for place, name in enumerate(ratings.columns)}
    elif hasattr(ratings, "get_columns"):
        columns = {name: own_order(ratings[name]) for name in ratings.columns}
    else:
        return None
    return common_order({name: list(order) for name, order in columns.items() if order is not None}, "ratings")


def common_order(orders: Mapping[Any, list[Any]], source: str) -> list[Any] | None:
    """Find the order of all columns, of which one may lack some labels that another has; None where none has any.

    Raises
    ------
    ValueError
        If two columns disagree.
    """
    longest = max(orders.values(), key=len, default=None)
    if longest is None:
        return None
    for name, order in orders.items():
        if [each for each in longest if each in order] != order:
            other = next(each for each, its_order in orders.items() if its_order is longest)
            raise ValueError(
                f"{source} has {name!r} in the order {listing(order)}, and {other!r} in the order {listing(longest)}: "
                "list all ranks, lowest first, with ranks=[...]."
            )
    return longest
