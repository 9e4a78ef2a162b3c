"""`find_unreadable`: which pictures of X cannot be read, for those who want to know before they fit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from skl2rclip._images.bit_depths import decided
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import find_damaged, identity_of, stamped
from skl2rclip._images.white_levels import KINDS, NOTHING_DECIDED, ValueRange, Whites
from skl2rclip._utils.arguments import check_thread_count, parse_max_memory
from skl2rclip.errors import InvalidParameterError


def find_unreadable(
    X: Any,
    *,
    n_jobs: int | None = None,
    max_memory: int | str | None = None,
    white_values: Mapping[str, int] | None = None,
) -> dict[int, str]:
    """Decode every image of X, and tell which cannot be read and why.

    What is found here is what `fit` and `predict` would name, damage behind a file's header included. It takes as long
    as decoding does, so it is for once before a search, or before predictions that may not fail.

    Parameters
    ----------
    X : sequence of n images
        As `L2RCLIPClassifier.fit` takes them. A generator is used up by it.
    n_jobs : int or None, default=None
        Threads that decode; None and -1 take all cores. Lower it where other work needs the cores.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that pictures under way may take together; None stands for 1 GB. Give it as
        the estimator has it, because a picture that takes more cannot be read either.
    white_values : dict of str to int, optional
        The `white_values_` of a fitted estimator, to find what its `predict` would not take.

    Returns
    -------
    dict of int to str
        Reason by index in X, in order; empty where every image can be read.

    Raises
    ------
    ValueError, TypeError
        If an entry of X is no picture at all.
    InvalidParameterError
        If a parameter is out of range.

    Examples
    --------
    >>> from skl2rclip import find_unreadable
    >>> find_unreadable(["no-such-picture.png"])
    {0: 'no such file'}
    """
    check_thread_count("n_jobs", n_jobs)
    n_bytes, whites = parse_max_memory(max_memory), _whites_of(white_values)
    images = stamped(as_image_list(X))
    ranges: dict[Hashable, ValueRange] = {}
    damaged = find_damaged(images, range(len(images)), n_jobs=n_jobs, max_memory=n_bytes, ranges=ranges, warns=True)
    by_row = {row: ranges[key] for row, image in enumerate(images) if (key := identity_of(image)) in ranges}
    return dict(sorted((damaged | decided(images, by_row, whites).failures).items()))


def _whites_of(white_values: Mapping[str, int] | None) -> Whites:
    if white_values is None:
        return NOTHING_DECIDED
    if not isinstance(white_values, Mapping) or not set(white_values) <= set(KINDS):
        raise InvalidParameterError(
            f"white_values must be the white_values_ of a fitted estimator, got {white_values!r:.80}."
        )
    return Whites(**white_values)
