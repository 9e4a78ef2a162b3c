"""Labelled images: one's own in folders or tables, the benchmarks of the field, and their protocols as splitters.

Every reader returns a `sklearn.utils.Bunch`: `data` (paths), `target`, `ranks` (all that `target` may hold, lowest
first), `rank_names` (their words) and `DESCR`; `groups` where it is known whose image each is. With
``return_X_y=True`` it is ``(data, target)``. Nothing is fetched: readers of benchmarks take the folder that a user has
downloaded. A FileNotFoundError says where a benchmark is to be had and what its folder must look like; one warning
counts the images that its lists name and that are not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skl2rclip._utils.lazy import lazily
from skl2rclip.datasets._registry import READERS

if TYPE_CHECKING:
    from skl2rclip.datasets._graded_photographs import make_graded_photographs as make_graded_photographs
    from skl2rclip.datasets._ratings import combine_ratings as combine_ratings
    from skl2rclip.datasets._registry import *  # noqa: F403
    from skl2rclip.datasets._splitters import DistributionShiftSplit as DistributionShiftSplit
    from skl2rclip.datasets._splitters import FewShotSplit as FewShotSplit

_HOME = {
    **{reader.name: f"skl2rclip.datasets.{reader.module}" for reader in READERS},
    "combine_ratings": "skl2rclip.datasets._ratings",
    "DistributionShiftSplit": "skl2rclip.datasets._splitters",
    "FewShotSplit": "skl2rclip.datasets._splitters",
    "make_graded_photographs": "skl2rclip.datasets._graded_photographs",
}
__all__ = list(_HOME)
__getattr__, __dir__ = lazily(__name__, _HOME)
