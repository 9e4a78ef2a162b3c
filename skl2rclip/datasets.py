"""Labelled pictures: one's own in folders or tables, the benchmarks of the field, and their protocols as splitters.

Every reader returns a `sklearn.utils.Bunch`: `data` (paths), `target`, `ranks` (all that `target` may hold, lowest
first), `rank_names` (their words) and `DESCR`; `groups` where it is known whose picture each is. With
``return_X_y=True`` it is ``(data, target)``. Nothing is fetched: readers of benchmarks take the folder that a user has
downloaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skl2rclip._folders import load_image_folder as load_image_folder
    from skl2rclip._graded_photographs import make_graded_photographs as make_graded_photographs
    from skl2rclip._image_tables import read_image_table as read_image_table
    from skl2rclip._splitters import DistributionShiftSplit as DistributionShiftSplit
    from skl2rclip._splitters import FewShotSplit as FewShotSplit

_HOME = {
    "DistributionShiftSplit": "skl2rclip._splitters",
    "FewShotSplit": "skl2rclip._splitters",
    "load_image_folder": "skl2rclip._folders",
    "make_graded_photographs": "skl2rclip._graded_photographs",
    "read_image_table": "skl2rclip._image_tables",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'skl2rclip.datasets' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
