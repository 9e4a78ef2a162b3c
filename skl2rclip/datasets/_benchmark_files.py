"""What readers of benchmarks share: images and lists found below a folder, lists in lines, and what is said of both.

Which benchmark is read is not known here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._ordinal.labels import listing
from skl2rclip.datasets._reading import Account, counts_by_rank, existing_folder, image_bunch, is_hidden
from skl2rclip.datasets._splitters import ListedSplits
from skl2rclip.errors import visible

L2RCLIP_LISTS = "https://github.com/raywang335/L2RCLIP (folder datalist)"
FACES = "see the owner's page; faces of people, for research only unless the owner says otherwise"


@dataclass(frozen=True)
class Benchmark:
    """What is known of a benchmark before anything is read."""

    name: str
    source: str  # of the images
    lists: str  # where they are to be had; empty where they come with the images
    layout: str  # what the folder must look like
    licence: str
    citation: str
    prompt: str

    def how_to_get(self) -> str:
        """Say where it is to be had, and what the folder must look like."""
        got = f"{self.name} is to be had from {self.source}" + (f", its lists from {self.lists}" if self.lists else "")
        return f"{got}. Expected below the folder:\n\n{self.layout}\n\nNothing is downloaded here."

    def description(self, protocol: str) -> str:
        """Describe it: source, lists, protocol, licence and citation."""
        parts = [self.name, f"Source: {self.source}"]
        parts += [f"Lists: {self.lists}"] if self.lists else []
        return "\n\n".join([*parts, f"Protocol: {protocol}", f"Licence: {self.licence}", f"Citation: {self.citation}"])


@dataclass(frozen=True)
class Entry:
    """An image of a list: its name there, its label, the part it is in, whose it is, and what else is said of it."""

    name: str
    label: float
    part: Any = None
    group: Any = None
    more: Any = None


class Files:
    """All files below a folder of a benchmark, and another of its lists, found by their last names at any depth."""

    def __init__(self, benchmark: Benchmark, root: Any, lists: Any = None):
        self.benchmark = benchmark
        self.roots = [existing_folder("root", root)] + ([] if lists is None else [existing_folder("lists", lists)])
        self._paths: dict[str, list[str]] = {}
        for place in dict.fromkeys(self.roots):
            for folder, inner, names in os.walk(place):
                inner[:] = sorted(name for name in inner if not is_hidden(name))
                for name in sorted(names):
                    self._paths.setdefault(name.casefold(), []).append(os.path.join(folder, name))

    def find(self, name: str) -> str | None:
        """Path that ends in `name`, whose letter case does not count; two are an error."""
        parts = name.casefold().split("/")
        paths = self._paths.get(parts[-1], [])
        found = [path for path in paths if Path(path).as_posix().casefold().split("/")[-len(parts) :] == parts]
        found = list({os.path.realpath(path): path for path in found}.values())
        if len(found) > 1:
            raise ValueError(
                f"There are two files {visible(name)} for {self.benchmark.name}: {visible(found[0])} and "
                f"{visible(found[1])}. Give the folder that holds only one."
            )
        return found[0] if found else None

    def matching(self, pattern: str) -> list[str]:
        """Paths whose last names match a regular expression, in order."""
        found = [path for name, paths in self._paths.items() if re.fullmatch(pattern, name) for path in paths]
        return sorted(found)

    def lists(self, names: Sequence[str]) -> list[str]:
        """Paths of all these lists, or an error that names what is missing and where it is to be had."""
        paths = [self.find(name) for name in names]
        missing = [name for name, path in zip(names, paths, strict=True) if path is None]
        if missing:
            where = " and ".join(visible(str(root)) for root in self.roots)
            raise FileNotFoundError(
                f"{listing(missing, 3)} cannot be found below {where}. {self.benchmark.how_to_get()}"
            )
        return [path for path in paths if path is not None]

    def rows(self, names: Sequence[str], fields: str) -> Iterator[tuple[int, str, list[str]]]:
        """Yield number and path of each of these lists with the cells of each of its lines, see `_cells_of_lines`."""
        for number, path in enumerate(self.lists(names)):
            for cells in _cells_of_lines(path, fields):
                yield number, path, cells

    def unique_present(self, entries: Iterable[Entry], suffixes: Sequence[str] = ("",)) -> list[Entry]:
        """As `keep_present`, each image once."""
        return unique_entries(self.keep_present(entries, suffixes))

    def keep_present(self, entries: Iterable[Entry], suffixes: Sequence[str] = ("",)) -> list[Entry]:
        """Put paths in place of names, and leave out entries without a file, in one warning; none at all is an error.

        Files may be named as the list has it with one of the `suffixes`.
        """
        present, absent = [], []
        for entry in entries:
            path = next((found for suffix in suffixes if (found := self.find(entry.name + suffix))), None)
            if path is None:
                absent.append(entry.name)
            else:
                present.append(replace(entry, name=path))
        if not present:
            raise FileNotFoundError(
                f"None of the {len(absent)} images that the lists of {self.benchmark.name} name is below "
                f"{visible(str(self.roots[0]))}, such as {visible(absent[0])}. {self.benchmark.how_to_get()}"
            )
        account = Account(self.benchmark.name)
        missing = list(dict.fromkeys(absent))
        account.add(len(missing), "images that lists name and that are not there", map(visible, missing))
        account.tell()
        return present


def _cells_of_lines(path: str, expected: str) -> list[list[str]]:
    """Cells of each line of a list whose cells are divided by commas, tabs or blanks.

    `expected` holds their names, divided by blanks. A first line of these names is passed over, and a line with another
    number of cells is an error.
    """
    names = expected.split()
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        delimiter = "," if "," in line else "\t" if "\t" in line else None
        # a name may hold blanks
        cells = [cell.strip() for cell in (line.split(delimiter) if delimiter else line.rsplit(None, len(names) - 1))]
        if cells == names:
            continue
        if len(cells) != len(names):
            raise ValueError(f"Line {number} of {visible(path)} should hold {expected!r}, got {line.strip()[:80]!r}.")
        rows.append(cells)
    return rows


def number_in(cell: str, path: str) -> float:
    """Read a number, or raise an error that names the list."""
    try:
        return float(cell)
    except ValueError as error:
        raise ValueError(f"{visible(path)} should hold a number where it has {cell[:80]!r}.") from error


def last_parts(name: str, n: int = 1) -> str:
    """Return the last `n` parts of a path as lists write it, without the folders of whoever made the list."""
    return "/".join(name.replace("\\", "/").split("/")[-n:])


def unique_entries(entries: Iterable[Entry]) -> list[Entry]:
    """Each image once: lists of several trials name an image more than once."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.name, entry)
    return list(first.values())


def split_by_part(entries: Sequence[Entry], *train: str) -> ListedSplits:
    """Make one split: images of these parts to train, those of "test" to test."""
    part = np.array([entry.part for entry in entries])
    return ListedSplits([(np.flatnonzero(np.isin(part, train)), np.flatnonzero(part == "test"))])


def benchmark_bunch(
    benchmark: Benchmark,
    entries: Sequence[Entry],
    names: list[str],
    cv: Any,
    protocol: str,
    return_X_y: bool,
    *,
    lowest: int = 0,
    **more: Any,
) -> Bunch | tuple[Any, Any]:
    """Put together what readers of benchmarks return: a Bunch, or its data and target alone.

    The ranks are whole numbers from `lowest` on, one for each of the `names`; another label is an error.
    """
    ranks = list(range(lowest, lowest + len(names)))
    unknown = sorted({entry.label for entry in entries} - set(ranks))
    if unknown:
        raise ValueError(f"The lists of {benchmark.name} hold {listing(unknown)}, and its ranks are {listing(ranks)}.")
    data, target = [entry.name for entry in entries], np.array([entry.label for entry in entries]).astype(np.int64)
    if return_X_y:
        return np.array(data), target
    groups = None if entries[0].group is None else np.array([entry.group for entry in entries])
    descr = f"{benchmark.description(protocol)}\n\n{len(entries)} images:\n\n{counts_by_rank(target, ranks, names)}\n"
    return image_bunch(data, target, ranks, list(names), descr, groups=groups, cv=cv, prompt=benchmark.prompt, **more)
