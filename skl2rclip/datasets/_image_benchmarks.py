"""Readers of what is not faces: decades of colour photographs, aesthetics, coffee leaves and blood cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from sklearn.utils import Bunch

from skl2rclip._utils.arguments import check_choice
from skl2rclip.datasets._benchmark_files import (
    L2RCLIP_LISTS,
    Benchmark,
    Entry,
    Files,
    benchmark_bunch,
    last_parts,
    number_in,
    split_by_part,
)
from skl2rclip.errors import visible

_SEE_OWNER = "see the owner's page"

_HCI = Benchmark(
    name="Historical colour images (HCI)",
    source="http://graphics.cs.cmu.edu/projects/historicalColor/",
    lists=L2RCLIP_LISTS,
    layout=(
        "    .../1930s_decade_009a00d1654af26ee1ddbee64123484d.jpg, ...    images, at any depth\n"
        "    .../1930s.txt to 1970s.txt                                   a decade each: path and decade"
    ),
    licence=_SEE_OWNER,
    citation="F. Palermo, J. Hays, A. A. Efros, 'Dating historical color images', ECCV 2012",
    prompt="a photo taken in the",
)
_DECADES = ["1930s", "1940s", "1950s", "1960s", "1970s"]
# of the 265 images of a decade
_HCI_TRAIN, _HCI_TEST = 210 / 265, 50 / 265

_AESTHETICS = Benchmark(
    name="Image aesthetics",
    source="http://www.di.unito.it/~schifane/dataset/beauty-icwsm15/ (images from Flickr)",
    lists=L2RCLIP_LISTS,
    layout=(
        "    .../3645238811.png, ...                         images, at any depth\n"
        "    .../animals_train.txt, .../animals_test.txt     likewise nature, people, urban: id.png and score, 1 to 5"
    ),
    licence=_SEE_OWNER,
    citation=(
        "R. Schifanella, M. Redi, L. M. Aiello, 'An image is worth more than a thousand favorites: surfacing the "
        "hidden beauty of Flickr pictures', ICWSM 2015"
    ),
    prompt="aesthetics assessment: the quality of the photo is",
)
_CATEGORIES = ("animals", "nature", "people", "urban")
_QUALITIES = ["unacceptable", "flawed", "ordinary", "professional", "exceptional"]

_LARA = Benchmark(
    name="Coffee leaves (lara2018)",
    source="https://github.com/esgario/lara2018",
    lists="",
    layout=(
        "    .../classification/dataset/dataset.csv        columns id to severity\n"
        "    .../classification/dataset/leaf/1.jpg, ...    an image for each id"
    ),
    licence="MIT (its LICENSE)",
    citation=(
        "J. G. M. Esgario, R. A. Krohling, J. A. Ventura, 'Deep learning for classification and severity estimation of "
        "coffee leaf biotic stress', Computers and Electronics in Agriculture 169, 2020"
    ),
    prompt="the severity of the damage to the leaf is",
)
_SEVERITIES = ["healthy", "very low", "low", "high", "very high"]

_BCCD = Benchmark(
    name="Blood cells (BCCD_Dataset)",
    source="https://github.com/Shenggan/BCCD_Dataset",
    lists="",
    layout=(
        "    .../BCCD/Annotations/BloodImage_00000.xml, ...            boxes of cells\n"
        "    .../BCCD/ImageSets/Main/trainval.txt, .../test.txt        names of the images of each part\n"
        "    .../BCCD/JPEGImages/BloodImage_00000.jpg, ..."
    ),
    licence="MIT (its LICENSE)",
    citation="the repository",
    prompt="the number of red blood cells is",
)
# red cells in an image: below 6, 6 to 8, 9 to 11, 12 to 14, 15 to 17, from 18 on
_CELL_EDGES, _CELL_NAMES = (6, 9, 12, 15, 18), ["4", "8", "11", "14", "17", "20"]


def load_hci(
    root: Any, *, lists: Any = None, random_state: Any = 0, return_X_y: bool = False
) -> Bunch | tuple[Any, Any]:
    """Read historical colour images, photographs of five decades.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the images, at any depth.
    lists : str or path-like, optional
        Folder that holds the lists, if it is another.
    random_state : int, RandomState or None, default=0
        Of the ten random splits; the literature gives none.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (decade, 0 to 4), `ranks`, `rank_names`, `prompt`, `cv` (ten random splits with
        210 images of each decade to train and 50 to test; the other 5 are for validation) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_hci
    >>> photographs = load_hci("hci")  # the folder that you have downloaded
    >>> len(photographs.data) == len(photographs.target)
    True
    >>> photographs.rank_names
    ['1930s', '1940s', '1950s', '1960s', '1970s']
    """
    files = Files(_HCI, root, lists)
    entries = []
    for _, path, (name, decade) in files.rows([f"{decade}.txt" for decade in _DECADES], "path decade"):
        if decade not in _DECADES:
            raise ValueError(f"{visible(path)} should hold one of {_DECADES}, got {decade!r}.")
        entries.append(Entry(last_parts(name), _DECADES.index(decade)))
    entries = files.unique_present(entries)
    sizes = {"train_size": round(len(entries) * _HCI_TRAIN), "test_size": round(len(entries) * _HCI_TEST)}
    cv = StratifiedShuffleSplit(10, **sizes, random_state=random_state)
    protocol = (
        "ten random splits, 210 images of each decade to train, 5 for validation, 50 to test; accuracy, and mean "
        "absolute error in decades."
    )
    return benchmark_bunch(_HCI, entries, _DECADES, cv, protocol, return_X_y)


def load_image_aesthetics(
    root: Any, category: str = "all", *, lists: Any = None, return_X_y: bool = False
) -> Bunch | tuple[Any, Any]:
    """Read image aesthetics, images of Flickr whose beauty was judged on five steps.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the images, at any depth.
    category : {"all", "animals", "nature", "people", "urban"}, default="all"
        Which images; "all" takes the four together.
    lists : str or path-like, optional
        Folder that holds the lists, if it is another.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (mean judgement rounded to 1 to 5), `ranks`, `rank_names`, `prompt`, `category` (of
        each image), `cv` (one split, that of the lists) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_image_aesthetics
    >>> photographs = load_image_aesthetics("image_aesthetics")  # the folder that you have downloaded
    >>> len(photographs.data) == len(photographs.target)
    True
    >>> photographs.rank_names
    ['unacceptable', 'flawed', 'ordinary', 'professional', 'exceptional']
    """
    check_choice("category", category, ("all", *_CATEGORIES))
    files = Files(_AESTHETICS, root, lists)
    entries = []
    for each in _CATEGORIES if category == "all" else (category,):
        for side, path, (name, score) in files.rows([f"{each}_train.txt", f"{each}_test.txt"], "name score"):
            # half a step goes up, as people round
            label = np.floor(number_in(score, path) + 0.5)
            entries.append(Entry(last_parts(name), label, ("train", "test")[side], more=each))
    entries = files.unique_present(entries)
    cv = split_by_part(entries, "train")
    protocol = f"the split of the lists, {category}; accuracy, and mean absolute error in ranks."
    of_category = np.array([entry.more for entry in entries])
    return benchmark_bunch(_AESTHETICS, entries, _QUALITIES, cv, protocol, return_X_y, lowest=1, category=of_category)


def load_lara2018(root: Any, *, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read coffee leaves, photographs with five severities of damage.

    Parameters
    ----------
    root : str or path-like
        Folder of the repository, with its images in place.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (severity, 0 to 4), `ranks`, `rank_names`, `prompt`, `cv` (five shuffled stratified
        folds, which are not official: the owner lists none) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_lara2018
    >>> leaves = load_lara2018("lara2018")  # the folder that you have downloaded
    >>> len(leaves.data) == len(leaves.target)
    True
    >>> leaves.ranks
    [0, 1, 2, 3, 4]
    """
    files = Files(_LARA, root)
    fields = "id predominant_stress miner rust phoma cercospora severity"
    rows = files.rows(["classification/dataset/dataset.csv"], fields)
    entries = files.keep_present(Entry(f"leaf/{cells[0]}.jpg", number_in(cells[-1], path)) for _, path, cells in rows)
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    protocol = "five shuffled stratified folds, which are not official; accuracy, and mean absolute error in ranks."
    return benchmark_bunch(_LARA, entries, _SEVERITIES, cv, protocol, return_X_y)


def load_bccd(root: Any, *, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read blood cells, smears under the microscope, with the number of red cells as six ranks.

    Parameters
    ----------
    root : str or path-like
        Folder of the repository, with its images in place.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (0 to 5: below 6 red cells, 6 to 8, 9 to 11, 12 to 14, 15 to 17, from 18 on; the ranks
        are this library's), `count` (of red cells), `ranks`, `rank_names`, `prompt`, `cv` (one split, the owner's
        trainval and test) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_bccd
    >>> cells = load_bccd("bccd")  # the folder that you have downloaded
    >>> len(cells.data) == len(cells.target)
    True
    >>> cells.prompt  # for `L2RCLIPClassifier`
    'the number of red blood cells is'
    """
    files = Files(_BCCD, root)
    entries = []
    parts = ("trainval", "test")
    for part, path in zip(parts, files.lists([f"ImageSets/Main/{part}.txt" for part in parts]), strict=True):
        names = Path(path).read_text(encoding="utf-8").split()
        for name, annotation in zip(names, files.lists([f"Annotations/{name}.xml" for name in names]), strict=True):
            count = _red_cells(annotation)
            entries.append(Entry(f"JPEGImages/{name}.jpg", int(np.digitize(count, _CELL_EDGES)), part, more=count))
    entries = files.unique_present(entries)
    cv = split_by_part(entries, "trainval")
    protocol = "the owner's trainval and test; accuracy, and mean absolute error in ranks, which are this library's."
    counts = np.array([entry.more for entry in entries])
    return benchmark_bunch(_BCCD, entries, _CELL_NAMES, cv, protocol, return_X_y, count=counts)


def _red_cells(annotation: str) -> int:
    try:
        tree = ElementTree.parse(annotation)  # noqa: S314 - published data that the user has named
    except ElementTree.ParseError as error:
        raise ValueError(f"{visible(annotation)} is no XML: {error}.") from error
    return sum(each.findtext("name") == "RBC" for each in tree.iter("object"))
