"""Several ratings of an image in a table, in columns or in rows of their own: one label, and how far it may be off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from skl2rclip._ordinal.labels import listing
from skl2rclip.datasets._ratings import combine_ratings, common_order
from skl2rclip.datasets._reading import put_in_order
from skl2rclip.datasets._tables import Table, TableColumn

Parts = tuple[np.ndarray, list[Any], list[str]]  # target, ranks and their words, as `put_in_order` returns them


def rank_columns(rank: Any) -> dict[str, str | int]:
    """Columns that the parameter `rank` names, by what messages call each."""
    if isinstance(rank, str | int):
        return {"rank": rank}
    names = list(rank) if hasattr(rank, "__iter__") and not isinstance(rank, Mapping | Set | bytes) else []
    if not names or not all(isinstance(name, str | int) for name in names):
        raise ValueError(
            f"rank must be the name of a column, or a list of them, such as rank=['first', 'second'], got {rank!r}."
        )
    twice = sorted({name for name in names if names.count(name) > 1}, key=str)
    if twice:
        raise ValueError(f"rank names {listing(twice)} more than once: a rater has one column.")
    return {"rank": names[0]} if len(names) == 1 else {f"rank[{place}]": name for place, name in enumerate(names)}


def columns_of_ranks(read: Table) -> dict[str, TableColumn]:
    """Columns of a table that hold ranks, by what messages call each."""
    return {name: column for name, column in read.columns.items() if name.partition("[")[0] == "rank"}


def own_order(columns: Mapping[str, TableColumn], names: Mapping[str, Any], source: str) -> list[Any] | None:
    """Order that the type of the columns says."""
    orders = {names[name]: column.order for name, column in columns.items() if column.order is not None}
    return common_order(orders, source)


def of_columns(ratings: Sequence[tuple[Any, ...]], order: Any, source: str) -> tuple[Parts, dict[str, Any]]:
    """Label images by their ratings, None where a rater gives none; with how far labels may be off, and the biases."""
    places = [(row, rater) for row, each in enumerate(ratings) for rater, label in enumerate(each) if label is not None]
    numbers, ranks, words = put_in_order([ratings[row][rater] for row, rater in places], order, source)
    table = np.full((len(ratings), len(ratings[0])), None, dtype=object)
    for place, number in zip(places, numbers.tolist(), strict=True):
        table[place] = number
    try:
        said = combine_ratings(table, ranks=ranks)
    except ValueError as error:
        raise ValueError(
            f"{source} has {len(places)} ratings of {len(ratings)} images by {table.shape[1]} raters, too few to be "
            "combined: there must be more ratings than images and raters, to tell how far they are off. Name one "
            "column."
        ) from error
    return (said.target, ranks, words), {"label_std": said.label_std, "bias": said.bias}


def of_rows(
    ratings: Sequence[Sequence[Any]], order: Any, source: str, *, with_spread: bool
) -> tuple[Parts, dict[str, Any]]:
    """Label images by the one rating that each has, or `with_spread` by the middle of one or more."""
    flat, ranks, words = put_in_order([label for each in ratings for label in each], order, source)
    if not with_spread:
        return (flat, ranks, words), {}
    ends = np.cumsum([len(each) for each in ratings])[:-1]
    target, label_std = _medians(np.split(flat, ends), ranks)
    return (target, ranks, words), {"label_std": label_std}


def _medians(ratings: list[np.ndarray], ranks: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Lower median of each image's ratings along the ranks, and their standard deviation."""
    place = {rank: index for index, rank in enumerate(ranks)}
    in_order = [sorted(each.tolist(), key=place.__getitem__) for each in ratings]
    target = np.array([each[(len(each) - 1) // 2] for each in in_order], ratings[0].dtype)
    several = np.array([len(each) > 1 for each in ratings])
    std = np.array([float(np.std(each)) for each in ratings])
    if several.any():
        std[~several] = np.sqrt(np.mean(std[several] ** 2))
    return target, std
