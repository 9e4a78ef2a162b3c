"""`find_unreadable`: which images of X cannot be read, for those who want to know before they fit."""

from __future__ import annotations

from typing import Any

from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import find_damaged
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._utils.arguments import check_thread_count, check_white_level, parse_max_memory


def find_unreadable(
    X: Any,
    *,
    n_jobs: int | None = None,
    max_memory: int | str | None = None,
    white_level: float | None = None,
) -> dict[int, str]:
    """Decode every image of X, and tell which cannot be read and why.

    What is found here is what `fit` would name, damage behind a file's header included, and of that `predict` takes
    nothing but images that are dark for their type. It takes as long as decoding does, so it is for once before a
    search, or before predictions that may not fail.

    Parameters
    ----------
    X : sequence of n images
        As `L2RCLIPClassifier.fit` takes them. A generator is used up by it.
    n_jobs : int or None, default=None
        Threads that decode; None and -1 take all cores. Lower it where other work needs the cores.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that images being decoded may take together; None stands for 1 GB. Give it as
        the estimator has it, because an image that takes more cannot be read either.
    white_level : float or None, default=None
        Which value is white in images of more than eight bits, and in floating or signed values. Give it as the
        estimator has it.

    Returns
    -------
    dict of int to str
        Reason by index in X, in order; empty where every image can be read.

    Raises
    ------
    ValueError, TypeError
        If an entry of X is no image at all.
    InvalidParameterError
        If a parameter is out of range.

    Examples
    --------
    >>> from skl2rclip import find_unreadable
    >>> find_unreadable(["no-such-image.png"])
    {0: 'no such file'}
    """
    check_thread_count("n_jobs", n_jobs)
    n_bytes, white = parse_max_memory(max_memory), WhiteLevel(check_white_level(white_level), refuses_dark=True)
    images = stamped(as_image_list(X))
    return find_damaged(images, range(len(images)), n_jobs=n_jobs, max_memory=n_bytes, white=white, warns=True)
