"""Readers of facial age: MORPH II, CLAP2015, Adience and UTKFace, in the layouts that their lists are published in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, PredefinedSplit
from sklearn.utils import Bunch

from skl2rclip._utils.arguments import check_choice
from skl2rclip.datasets._benchmark_files import (
    FACES,
    L2RCLIP_LISTS,
    Benchmark,
    Entry,
    Files,
    benchmark_bunch,
    last_parts,
    number_in,
    split_by_part,
    unique_entries,
)
from skl2rclip.datasets._splitters import ListedSplits

_MWR = "https://github.com/nhshin-mcl/MWR (folder datalist)"
_AGE_PROMPT = "age estimation: the age of the person is"

_MORPH = Benchmark(
    name="MORPH II",
    source="the University of North Carolina Wilmington, under its licence",
    lists=f"{_MWR} for settings A and B, {L2RCLIP_LISTS} for C and D",
    layout=(
        "    .../101157_5F39.JPG, ...                                 images, at any depth\n"
        "    .../Setting_1_fold0_train.txt, ..._test.txt, to fold4    setting A\n"
        "    .../Setting_2_fold0.txt to Setting_2_fold2.txt           setting B\n"
        "    .../morph_C_00.txt to morph_C_04.txt                     setting C\n"
        "    .../morph_D_00.txt to morph_D_04.txt                     setting D"
    ),
    licence=FACES,
    citation=(
        "K. Ricanek, T. Tesafaye, 'MORPH: A longitudinal image database of normal adult age-progression', FG 2006"
    ),
    prompt=_AGE_PROMPT,
)
_MORPH_SETTINGS = {
    "A": "Five independent trials, each with its own training and test list",
    "B": "Three parts; train on one, test on the two others",
    "C": "Five folds, in which subjects may be on both sides",
    "D": "Five folds, nearly without shared subjects",
}
_CLAP = Benchmark(
    name="CLAP2015",
    source="ChaLearn Looking at People, challenge of 2015 on apparent age: https://chalearnlap.cvc.uab.cat",
    lists=L2RCLIP_LISTS,
    layout=(
        "    .../image_1.jpg, ...    images, at any depth\n"
        "    .../total_2015.csv      filename,age,stdv,database; database is train, val or test"
    ),
    licence=FACES,
    citation=(
        "S. Escalera et al., 'ChaLearn Looking at People 2015: Apparent age and cultural event recognition datasets "
        "and results', ICCV Workshops 2015"
    ),
    prompt=_AGE_PROMPT,
)
_ADIENCE = Benchmark(
    name="Adience",
    source="the Open University of Israel: https://talhassner.github.io/home/projects/Adience/Adience-data.html",
    lists=L2RCLIP_LISTS,
    layout=(
        "    .../62501130@N02/landmark_aligned_face.97.11285930074_310e1df058_o.jpg, ...    aligned faces\n"
        "    .../simplified_adience_0.txt to simplified_adience_4.txt    a fold each: user/file and group, 0 to 7"
    ),
    licence=FACES,
    citation="E. Eidinger, R. Enbar, T. Hassner, 'Age and gender estimation of unfiltered faces', IEEE TIFS 9, 2014",
    prompt=_AGE_PROMPT,
)
_ADIENCE_GROUPS = ["0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-100"]
_UTK = Benchmark(
    name="UTKFace",
    source="https://susanqq.github.io/UTKFace/",
    lists=f"{_MWR}, where the split of ages 21 to 60 is wanted",
    layout=(
        "    .../40_1_3_20170119165539693.jpg, ...              age_gender_race_date.jpg, or .jpg.chip.jpg\n"
        "    .../UTK_train_coral.csv, .../UTK_test_coral.csv    for the split"
    ),
    licence=FACES,
    citation="Z. Zhang, Y. Song, H. Qi, 'Age progression/regression by conditional adversarial autoencoder', CVPR 2017",
    prompt=_AGE_PROMPT,
)
_UTK_NAME = r"\d+_[01]_[0-4]_\d+\.jpg(\.chip\.jpg)?"


def load_morph2(
    root: Any, setting: str = "A", *, lists: Any = None, return_X_y: bool = False
) -> Bunch | tuple[Any, Any]:
    """Read MORPH II, mugshots with ages from 16 to 77, under one of the four settings of the literature.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the images, at any depth.
    setting : {"A", "B", "C", "D"}, default="A"
        A: five independent trials, 80 % of 5,492 images to train. B: three parts of 7,000, train on one and test on
        the two others. C: five folds of all images, in which subjects may be on both sides. D: five folds, nearly
        without shared subjects.
    lists : str or path-like, optional
        Folder that holds the lists, if it is another.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (ages in years), `ranks`, `rank_names`, `prompt`, `groups` (subjects), `cv` (the
        setting's splits) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_morph2
    >>> faces = load_morph2("morph2")  # the folder that you have downloaded
    >>> len(faces.data) == len(faces.target)
    True
    >>> faces.prompt  # for `L2RCLIPClassifier`
    'age estimation: the age of the person is'
    """
    check_choice("setting", setting, tuple("ABCD"))
    files = Files(_MORPH, root, lists)
    if setting in "AB":
        names = [f"Setting_2_fold{i}.txt" for i in range(3)]
        if setting == "A":
            names = [f"Setting_1_fold{i}_{side}.txt" for i in range(5) for side in ("train", "test")]
        fields, place = "race gender age filename database", (3, 2)
    else:
        names, fields, place = [f"morph_{setting}_{i:02d}.txt" for i in range(5)], "path age", (0, 1)
    entries = []
    for part, path, cells in files.rows(names, fields):
        name = last_parts(cells[place[0]])
        entries.append(Entry(name, number_in(cells[place[1]], path), part, name.partition("_")[0]))
    # as the authors' loader does: the few above are errors of the list
    entries = files.keep_present(entry for entry in entries if entry.label <= 77)
    kept = unique_entries(entries)
    index = {entry.name: row for row, entry in enumerate(kept)}
    rows = [np.array([index[entry.name] for entry in entries if entry.part == part]) for part in range(len(names))]
    protocol = f"setting {setting}. {_MORPH_SETTINGS[setting]}; mean absolute error in years."
    if setting == "A":
        splits = [(rows[2 * i], rows[2 * i + 1]) for i in range(5)]
    elif setting == "B":
        splits = [(rows[i], np.concatenate([rows[j] for j in range(3) if j != i])) for i in range(3)]
    else:
        splits = [(np.concatenate([rows[j] for j in range(5) if j != i]), rows[i]) for i in range(5)]
    return _of_ages(_MORPH, kept, ListedSplits(splits), protocol, return_X_y)


def load_clap2015(root: Any, *, lists: Any = None, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read CLAP2015, faces with the age that people guessed, and how far their guesses spread.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the images, at any depth.
    lists : str or path-like, optional
        Folder that holds ``total_2015.csv``, if it is another.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (mean guessed age, whole years), `stdv` (standard deviation of the guesses in years,
        for the challenge's error), `part` ("train", "val" or "test"), `ranks`, `rank_names`, `prompt`, `cv` (one
        split: training and validation images against those of the test) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_clap2015
    >>> faces = load_clap2015("clap2015")  # the folder that you have downloaded
    >>> len(faces.data) == len(faces.target)
    True
    >>> faces.cv.get_n_splits()  # the official one
    1
    """
    files = Files(_CLAP, root, lists)
    rows = files.rows(["total_2015.csv"], "filename age stdv database")
    entries = files.unique_present(
        Entry(last_parts(name), round(number_in(age, path)), part, more=number_in(spread, path))
        for _, path, (name, age, spread, part) in rows
    )
    part = np.array([entry.part for entry in entries])
    cv = split_by_part(entries, "train", "val")
    protocol = (
        "train on the images of train and val, test on those of test; mean absolute error in years, and the "
        "challenge's error 1 - exp(-error^2 / (2 stdv^2))."
    )
    spread = np.array([entry.more for entry in entries])
    return _of_ages(_CLAP, entries, cv, protocol, return_X_y, stdv=spread, part=part)


def load_adience(root: Any, *, lists: Any = None, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read Adience, unfiltered faces in eight groups of age, with its five folds.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the aligned faces, in a folder for each user.
    lists : str or path-like, optional
        Folder that holds the lists, if it is another.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (group, 0 to 7), `ranks`, `rank_names`, `prompt`, `groups` (users of the photo
        site), `cv` (the five folds) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_adience
    >>> faces = load_adience("adience")  # the folder that you have downloaded
    >>> len(faces.data) == len(faces.target)
    True
    >>> faces.cv.get_n_splits()  # the official folds
    5
    """
    files = Files(_ADIENCE, root, lists)
    entries = []
    for fold, path, (name, group) in files.rows([f"simplified_adience_{i}.txt" for i in range(5)], "path group"):
        name = last_parts(name, 2)
        entries.append(Entry(name, number_in(group, path), fold, name.partition("/")[0]))
    entries = files.unique_present(entries)
    cv = PredefinedSplit([entry.part for entry in entries])
    protocol = "five folds of different users; accuracy, and mean absolute error in groups."
    return benchmark_bunch(_ADIENCE, entries, _ADIENCE_GROUPS, cv, protocol, return_X_y)


def load_utkface(root: Any, *, lists: Any = None, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read UTKFace, faces whose names say their age.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the images, at any depth.
    lists : str or path-like, optional
        Folder that holds ``UTK_train_coral.csv`` and ``UTK_test_coral.csv``, if it is another. Where these are, the
        images are those that they list, of ages from 21 to 60.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        `data` (paths), `target` (ages in years), `ranks`, `rank_names`, `prompt`, `cv` (the split of the lists,
        or without them five shuffled folds, which are not official: the owner gives none) and `DESCR`.

    Examples
    --------
    >>> from skl2rclip.datasets import load_utkface
    >>> faces = load_utkface("utkface")  # the folder that you have downloaded
    >>> len(faces.data) == len(faces.target)
    True
    >>> faces.prompt  # for `L2RCLIPClassifier`
    'age estimation: the age of the person is'
    """
    files = Files(_UTK, root, lists)
    names = ["UTK_train_coral.csv", "UTK_test_coral.csv"]
    if any(files.find(name) for name in names):
        entries = [
            Entry(last_parts(cells[1]), number_in(cells[2], path), ("train", "test")[side])
            for side, path, cells in files.rows(names, "number filename age database")
            if cells[1] != "filename"
        ]
        entries = files.unique_present(entries, ("", ".chip.jpg"))
        cv: Any = split_by_part(entries, "train")
        protocol = "the split of the lists, ages from 21 to 60; mean absolute error in years."
    else:
        paths = files.matching(_UTK_NAME)
        if not paths:
            raise FileNotFoundError(f"No image of UTKFace is below {files.roots[0]}. {_UTK.how_to_get()}")
        entries = [Entry(path, float(re.split("_", Path(path).name)[0])) for path in paths]
        cv = KFold(5, shuffle=True, random_state=0)
        protocol = "five shuffled folds, which are not official; mean absolute error in years."
    return _of_ages(_UTK, entries, cv, protocol, return_X_y)


def _of_ages(
    benchmark: Benchmark, entries: list[Entry], cv: Any, protocol: str, return_X_y: bool, **more: Any
) -> Bunch | tuple[Any, Any]:
    """Put together what is labelled by age: all years from the youngest to the oldest are ranks."""
    ages = [int(entry.label) for entry in entries]
    names = [str(age) for age in range(min(ages), max(ages) + 1)]
    return benchmark_bunch(benchmark, entries, names, cv, protocol, return_X_y, lowest=min(ages), **more)
