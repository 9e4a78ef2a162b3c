"""Labelled pictures: one's own in folders or tables, the benchmarks of the field, and their protocols as splitters.

Every reader returns a `sklearn.utils.Bunch`: `data` (paths), `target`, `ranks` (all that `target` may hold, lowest
first), `rank_names` (their words) and `DESCR`; `groups` where it is known whose picture each is. With
``return_X_y=True`` it is ``(data, target)``. Nothing is fetched: readers of benchmarks take the folder that a user has
downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skl2rclip._utils.lazy import lazily

if TYPE_CHECKING:
    from skl2rclip.datasets._face_benchmarks import load_adience as load_adience
    from skl2rclip.datasets._face_benchmarks import load_clap2015 as load_clap2015
    from skl2rclip.datasets._face_benchmarks import load_morph2 as load_morph2
    from skl2rclip.datasets._face_benchmarks import load_utkface as load_utkface
    from skl2rclip.datasets._folders import load_image_folder as load_image_folder
    from skl2rclip.datasets._graded_photographs import make_graded_photographs as make_graded_photographs
    from skl2rclip.datasets._image_benchmarks import load_bccd as load_bccd
    from skl2rclip.datasets._image_benchmarks import load_hci as load_hci
    from skl2rclip.datasets._image_benchmarks import load_image_aesthetics as load_image_aesthetics
    from skl2rclip.datasets._image_benchmarks import load_lara2018 as load_lara2018
    from skl2rclip.datasets._image_tables import read_image_table as read_image_table
    from skl2rclip.datasets._splitters import DistributionShiftSplit as DistributionShiftSplit
    from skl2rclip.datasets._splitters import FewShotSplit as FewShotSplit

_HOME = {
    "load_adience": "skl2rclip.datasets._face_benchmarks",
    "load_clap2015": "skl2rclip.datasets._face_benchmarks",
    "load_morph2": "skl2rclip.datasets._face_benchmarks",
    "load_utkface": "skl2rclip.datasets._face_benchmarks",
    "load_bccd": "skl2rclip.datasets._image_benchmarks",
    "load_hci": "skl2rclip.datasets._image_benchmarks",
    "load_image_aesthetics": "skl2rclip.datasets._image_benchmarks",
    "load_lara2018": "skl2rclip.datasets._image_benchmarks",
    "DistributionShiftSplit": "skl2rclip.datasets._splitters",
    "FewShotSplit": "skl2rclip.datasets._splitters",
    "load_image_folder": "skl2rclip.datasets._folders",
    "make_graded_photographs": "skl2rclip.datasets._graded_photographs",
    "read_image_table": "skl2rclip.datasets._image_tables",
}
__all__ = list(_HOME)
__getattr__, __dir__ = lazily(__name__, _HOME)
