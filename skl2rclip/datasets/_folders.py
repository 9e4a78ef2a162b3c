"""`load_image_folder`: a folder of images for each rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skl2rclip._images.decoding import find_unreadable
from skl2rclip._images.files import stamped
from skl2rclip._utils.arguments import warn_user
from skl2rclip.datasets._reading import (
    Account,
    described,
    existing_folder,
    image_bunch,
    interleaved,
    is_hidden,
    keep_images,
    plain_word,
    put_in_order,
)
from skl2rclip.errors import visible


def load_image_folder(root: Any, *, ranks: Any = None, return_X_y: bool = False) -> Bunch | tuple[Any, Any]:
    """Read images that lie in a folder for each rank, which is named for the rank.

    Images are found at any depth below the folder of their rank, and told by their headers, whatever their names end
    in. Nothing is decoded: what is damaged behind its header is found by `skl2rclip.find_unreadable`.

    Parameters
    ----------
    root : str or path-like
        Folder that holds the folders, such as ``ripeness/unripe``, ``ripeness/ripe`` and ``ripeness/overripe``.
    ranks : array-like of shape (K,), optional
        Names of the folders, lowest first; numbers where they are numbers. A rank without images may be listed too.
        By default numbers are their own order, and words get the order that they show by themselves, such as bad < poor
        < fair; where they show none, it is asked for.
    return_X_y : bool, default=False
        Return ``(data, target)`` alone.

    Returns
    -------
    Bunch
        With the attributes

        data : ndarray of shape (n,), str
            Paths, by name within each rank, and the ranks mixed in their shares: parts without shuffling, into which
            scikit-learn cuts labels that are fractions, have all ranks.
        target : ndarray of shape (n,)
            The numbers that the folders are named for, or where they are words 0, 1, ... in rank order.
        ranks : list of length K
            All that `target` may hold, lowest first: `ranks` of `L2RCLIPClassifier`.
        rank_names : list of K str
            The words of the ranks, in the same order: `rank_names` of `L2RCLIPClassifier`.
        DESCR : str
            How many images each rank has, and what was left out.

    Raises
    ------
    ValueError
        If the order of the folders is not plain, or a folder is not among `ranks`.
    FileNotFoundError, NotADirectoryError

    Warns
    -----
    UserWarning
        Once, counting the files that are no images, those that lie beside the folders, and folders without images
        or that could not be opened.
        Names that begin with a dot are passed over, and so is what systems put beside images by themselves, such as
        ``@eaDir``, ``#recycle``, ``$RECYCLE.BIN`` and ``lost+found``. Another, if all images are of one rank.

    See Also
    --------
    read_image_table : Images that a table lists.
    sklearn.datasets.load_files : The same for texts without an order.

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.datasets import load_image_folder
    >>> fruit = load_image_folder("ripeness")  # holds the folders unripe, ripe and overripe
    >>> fruit.rank_names
    ['unripe', 'ripe', 'overripe']
    >>> clf = L2RCLIPClassifier(ranks=fruit.ranks, rank_names=fruit.rank_names)
    >>> clf.fit(fruit.data, fruit.target)  # doctest: +SKIP
    """
    root = existing_folder("root", root)
    account = Account(visible(str(root)))
    folders, beside = _folders_of(root)
    if not folders:
        raise ValueError(f"{account.source} has no folders in it; a folder of images for each rank is expected.")
    account.add(len(beside), "files beside the folders of the ranks", map(visible, beside))
    paths, labels = [], []
    unopened: list[OSError] = []
    for folder in folders:
        files = files_below(root / folder, unopened)
        paths += files
        labels += [folder] * len(files)
    closed = (visible(os.path.relpath(error.filename, root)) for error in unopened)
    account.add(len(unopened), "folders that could not be opened", closed)
    kept = keep_images(paths, account) if paths else np.zeros(0, bool)
    paths, labels = [[each for each, keep in zip(column, kept, strict=True) if keep] for column in (paths, labels)]
    if not paths:
        raise ValueError(f"No file in the {len(folders)} folders of {account.source} is an image.")
    empty = [folder for folder in folders if folder not in set(labels)]
    account.add(len(empty), "folders without an image, ranks only where ranks=[...] lists them", map(visible, empty))
    try:
        parts = put_in_order([plain_word(label) for label in labels], ranks, account.source)
    except ValueError as error:
        raise type(error)(f"{error}{_deeper(root, folders)}") from None
    if len(parts[1]) == 1:
        warn_user(
            f"All images in {account.source} are of one rank, {parts[2][0]!r}. root must be the folder whose "
            "own folders are the ranks."
        )
    order = interleaved(parts[0].tolist(), parts[1])
    data, parts = [paths[row] for row in order], (parts[0][order], *parts[1:])
    account.tell()
    descr = described(f"Images in a folder for each rank: {account.source}", parts, account)
    return (np.array(data), parts[0]) if return_X_y else image_bunch(data, *parts, descr)


def _deeper(root: Path, folders: list[str]) -> str:
    """Say which folder may have been meant, where all hold nothing but folders: train/ripe, test/ripe."""
    below = [_folders_of(root / folder) for folder in folders]
    if not all(inner and not files for inner, files in below):
        return ""
    meant = visible(str(root / folders[0]))
    return f" If the ranks are the folders below them, such as {below[0][0][0]!r}, give one of them: root={meant!r}."


def _folders_of(root: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the other files in a folder."""
    folders: list[str] = []
    files: list[str] = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if not is_hidden(entry.name):
            (folders if entry.is_dir() else files).append(entry.name)
    return folders, files


def folders_with_images(root: str) -> set[str]:
    """Names of the folders that `load_image_folder` takes images from."""
    folders, _ = _folders_of(Path(root))

    def holds_images(folder: str) -> bool:
        return any(not find_unreadable(stamped([file])) for file in files_below(Path(root) / folder, []))

    return {plain_word(folder) for folder in folders if holds_images(folder)}


def files_below(folder: Path, unopened: list[OSError]) -> list[str]:
    """Return the files at any depth, in the order of their names; why folders were not opened is noted."""
    found: list[str] = []
    seen = set()
    for place, inner, files in os.walk(folder, onerror=unopened.append, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        found += [os.path.join(place, name) for name in sorted(files) if not is_hidden(name)]
    return found
