"""What several test modules use: counts of stats and opens, threads that are not waited for for ever, a toy tower."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections import Counter
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from skl2rclip._embedding.cache import EmbeddingCache
from skl2rclip._embedding.embedder import check_headers, embed_images
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._images.files import stamped
from skl2rclip._images.preprocessing import Preprocessing

SQUARE = Preprocessing(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
WIDTH = 6


class FileAccess:
    """How often each path was asked about (`stats`), and opened (`opens`)."""

    def __init__(self):
        self.stats, self.opens = Counter(), Counter()

    def of(self, paths):
        """Set of the pairs (stats, opens) that the given paths have had."""
        return {(self.stats[str(path)], self.opens[str(path)]) for path in paths}


_watchers = []


def _note_opens(event, arguments):
    if event == "open" and _watchers and isinstance(arguments[0], str):
        for watcher in _watchers:
            watcher.opens[arguments[0]] += 1


sys.addaudithook(_note_opens)  # for ever, as hooks are


@contextmanager
def file_access():
    """Count stats and opens while the block runs, in all threads."""
    watcher, stat = FileAccess(), os.stat

    def noted(path, *arguments, **options):
        if isinstance(path, str | os.PathLike):
            watcher.stats[os.fspath(path)] += 1
        return stat(path, *arguments, **options)

    _watchers.append(watcher)
    try:
        with mock.patch("os.stat", noted):
            yield watcher
    finally:
        _watchers.remove(watcher)


def in_threads(*functions, timeout=60):
    """Call functions at the same time and return their results; fail where they take too long."""
    results = [None] * len(functions)

    def call(place, function):
        try:
            results[place] = function(), None
        except BaseException as error:
            results[place] = None, error

    threads = [
        threading.Thread(target=call, args=(place, function), daemon=True) for place, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        if thread.is_alive():
            raise TimeoutError(f"A thread has not come to its end in {timeout} seconds.")
    for _, error in results:
        if error is not None:
            raise error
    return [result for result, _ in results]


def within(timeout, function):
    """Call a function that may wait, but not for longer than `timeout` seconds."""
    return in_threads(function, timeout=timeout)[0]


def toy_encoding(batch_size=64):
    """An encoding whose tower is a fixed matrix on the pixels."""
    matrix = torch.randn(3 * 8 * 8, WIDTH, generator=torch.Generator().manual_seed(0))

    def tower(pixels):
        return pixels.flatten(1) @ matrix

    return ImageEncoding(tower, SQUARE, WIDTH, torch.device("cpu"), "float32", batch_size)


def cache_for_tests(folder=None):
    """The cache of what `toy_encoding` makes of images."""
    return EmbeddingCache("toy", SQUARE, "float32", folder=folder, width=WIDTH)


def embedded(images, folder, n_jobs=2):
    """What `toy_encoding` makes of images, headers looked at first, with a cache in a folder where one is given."""
    images = stamped(images)
    check_headers(images, folder, n_jobs)
    cache = None if folder is None else cache_for_tests(folder)
    return embed_images(images, toy_encoding(), cache, n_jobs)


def embedded_one_by_one(images):
    """What `toy_encoding` makes of PIL images, by the textbook: an oracle."""
    tower, resize, rows = toy_encoding().tower, SQUARE.resizer(), []
    for image in images:
        pixels = torch.from_numpy(np.array(resize(image.convert("RGB")))).permute(2, 0, 1)[None] / 255
        mean, std = (torch.tensor(values)[None, :, None, None] for values in (SQUARE.mean, SQUARE.std))
        rows.append(F.normalize(tower((pixels - mean) / std), dim=-1))
    return torch.cat(rows).numpy()


def write_images(folder, n, seed=0, size=(20, 20)):
    """Write small images of noise and return their paths as strings."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{i:02d}.png") for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def truncate(path):
    """Cut a file off behind its header, as a copy that was interrupted."""
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) - 200)


def shown_warnings(call, *arguments, **options):
    """What is shown to the user while a function runs: category and text."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        call(*arguments, **options)
    return [(each.category, str(each.message)) for each in shown]
