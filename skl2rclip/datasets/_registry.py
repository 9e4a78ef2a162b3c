"""The readers of `datasets`, an entry each: how it is called, where it is, and what it reads.

The package's public names, ``benchmarks/protocols.py`` and the tests of documentation and stand-ins read this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same for type checkers, which cannot read a table
    from skl2rclip.datasets._coco import read_coco_annotations as read_coco_annotations
    from skl2rclip.datasets._face_benchmarks import load_adience as load_adience
    from skl2rclip.datasets._face_benchmarks import load_clap2015 as load_clap2015
    from skl2rclip.datasets._face_benchmarks import load_morph2 as load_morph2
    from skl2rclip.datasets._face_benchmarks import load_utkface as load_utkface
    from skl2rclip.datasets._folders import load_image_folder as load_image_folder
    from skl2rclip.datasets._image_benchmarks import load_bccd as load_bccd
    from skl2rclip.datasets._image_benchmarks import load_hci as load_hci
    from skl2rclip.datasets._image_benchmarks import load_image_aesthetics as load_image_aesthetics
    from skl2rclip.datasets._image_benchmarks import load_lara2018 as load_lara2018
    from skl2rclip.datasets._image_tables import read_image_table as read_image_table


@dataclass(frozen=True)
class Reader:
    """A function that returns labelled images."""

    name: str  # of the function
    module: str  # of this folder
    reads: str  # what it reads
    # of a benchmark of the field, which its function takes the folder of: what errors are counted in
    unit: str = ""

    @property
    def benchmark(self) -> str:
        """Name of the benchmark, as the command of the protocols takes it."""
        return self.name.removeprefix("load_").replace("_", "-") if self.unit else ""


READERS = (
    Reader("load_adience", "_face_benchmarks", "age groups of faces", unit="groups"),
    Reader("load_bccd", "_image_benchmarks", "counts of red blood cells", unit="ranks"),
    Reader("load_clap2015", "_face_benchmarks", "guessed ages of faces", unit="years"),
    Reader("load_hci", "_image_benchmarks", "decades of photographs", unit="decades"),
    Reader("load_image_aesthetics", "_image_benchmarks", "quality of photographs", unit="ranks"),
    Reader("load_image_folder", "_folders", "a folder for each rank"),
    Reader("load_lara2018", "_image_benchmarks", "severity of a disease of leaves", unit="ranks"),
    Reader("load_morph2", "_face_benchmarks", "ages of faces", unit="years"),
    Reader("load_utkface", "_face_benchmarks", "ages of faces", unit="years"),
    Reader("read_coco_annotations", "_coco", "boxes of annotations in COCO's format"),
    Reader("read_image_table", "_image_tables", "a table that lists images"),
)
