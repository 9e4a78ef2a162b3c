"""Ordinal tasks that our small CLIPs were not trained for, as embeddings of training, validation and test images.

graded photographs: crops of scikit-learn's two photographs, degraded in four ways at five severities; training and
validation on the one, test on the other. digits: scikit-learn's handwritten digits that the training of the backbone
left out. tilt and ripeness: rendered properties that it never saw. coffee leaves and blood cells: photographs, read in
their authors' layouts from a folder that holds ``lara2018`` (https://github.com/esgario/lara2018) and ``BCCD_Dataset``
(https://github.com/Shenggan/BCCD_Dataset). Images are drawn at the size that the backbone takes.

Known words: six of the properties that our small CLIPs were trained to name, drawn anew, with levels that training
never captioned among them, and in two of them phrasings that it never showed. Three learn from the photographs that the
backbone has seen and are tested on scikit-learn's two, which it has not. Each is there with two more wordings: of words
that mean nothing, and of its own in another order.
"""

from __future__ import annotations

import csv
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools")]

import captions  # noqa: E402
import rendering  # noqa: E402

from skl2rclip import CLIPImageEncoder  # noqa: E402
from skl2rclip._clip.backbone import load_backbone  # noqa: E402
from skl2rclip._clip.source import BackboneSource  # noqa: E402
from skl2rclip.datasets import FewShotSplit, make_graded_photographs  # noqa: E402

BACKBONE = "skl2rclip-tiny"
# to be raised where more, or other things, are kept of a task
_CONTENT = 2
TRAIN_PER_RANK, TEST_PER_RANK = 96, 32
# of photographs: the share of the training images that only choose among methods
VALIDATION_SHARE = 0.2
COFFEE_TRAIN, COFFEE_TEST = 1100, 585
# red cells in an image: below 6, 6 to 8, ..., from 18 on
PHOTOGRAPHS = ("coffee leaves", "blood cells")
CELL_EDGES, CELL_NAMES = (6, 9, 12, 15, 18), ("4", "8", "11", "14", "17", "20")


@dataclass(frozen=True)
class Part:
    """Images, of photographs only as large as the training of a tower takes them; embeddings; index of the rank.

    `features` has all that the tower gives, the embeddings and what it holds before them, in named blocks.
    """

    pixels: np.ndarray | None
    Z: np.ndarray
    target: np.ndarray
    features: pd.DataFrame | None = None

    @property
    def pooled(self) -> np.ndarray | None:
        """What the tower's last projection reads, for methods that train it."""
        return None if self.features is None else self.features.filter(regex="^pooled__").to_numpy()


@dataclass(frozen=True)
class Task:
    """A task on the embeddings of a backbone; `train` is a pool from which few shots are drawn."""

    name: str
    names: tuple[str, ...]
    prompt: str
    train: Part
    validation: Part
    test: Part
    backbone: str = BACKBONE

    def worded(self, wording: str) -> Task:
        """Itself in another wording: of words that mean nothing, or of its own in an order drawn at random."""
        name = worded_name(self.name, wording)
        if wording == "meaningless":
            return replace(self, name=name, prompt="something", names=tuple(_NAMES_WITHOUT_MEANING[: self.n_ranks]))
        shuffled = np.random.default_rng(self.n_ranks).permutation(self.n_ranks)
        return replace(self, name=name, names=tuple(self.names[k] for k in shuffled))

    @property
    def n_ranks(self) -> int:
        return len(self.names)

    @property
    def most_of_a_rank(self) -> int:
        """Number of training images of the most frequent rank."""
        return int(np.bincount(self.train.target).max())

    def without_pixels(self) -> Task:
        """Itself for methods that take embeddings, quick to hand to another process."""
        parts = {name: replace(getattr(self, name), pixels=None) for name in ("train", "validation", "test")}
        return replace(self, **parts)

    def draw(self, shots: int | np.ndarray, seed: int) -> np.ndarray:
        """Indices of `shots` training images of each rank (a number, or one for each rank)."""
        rng = np.random.default_rng([seed, 3])
        wanted = dict(enumerate(np.broadcast_to(shots, self.n_ranks).tolist()))
        pool = np.arange(len(self.train.target))
        draws = FewShotSplit(wanted, 1, cv=[(pool, [])], allow_fewer=True, random_state=rng)  # the test is elsewhere
        return next(draws.split(pool, self.train.target))[0]


def worded_name(name: str, wording: str) -> str:
    """Name of a task in another wording."""
    return f"{name}, {wording} words"


def side_of(backbone: str) -> int:
    """Height and width of the images that a backbone takes."""
    return load_backbone(BackboneSource(backbone)).preprocessing.size[0]


def part_of(pixels: list[np.ndarray], target: list[int], backbone: str) -> Part:
    """Images with what the backbone's tower gives of them."""
    stacked = np.stack(pixels)
    features = _features(stacked, backbone)
    return Part(stacked, embeddings_of(features), np.array(target), features)


def _features(images: Any, backbone: str) -> pd.DataFrame:
    encoder = CLIPImageEncoder(backbone, image_features="both", device="cpu").set_output(transform="pandas")
    return encoder.fit_transform(images)


def embeddings_of(features: pd.DataFrame) -> np.ndarray:
    """The embeddings among the features."""
    return features.filter(regex="^embedding__").to_numpy()


def _rendered(name: str, prompt: str, backbone: str) -> Task:
    side = side_of(backbone)
    spec = rendering.NEW_PROPERTIES[name]

    def part(per_rank: int, seed: int) -> Part:
        rng = np.random.default_rng([seed, 9])
        target = np.tile(np.arange(len(spec.levels)), per_rank)
        drawn = [rendering.render(name, spec.levels[k], rng, side=side) for k in target]
        return part_of(drawn, target.tolist(), backbone)

    parts = (part(TRAIN_PER_RANK, 0), part(TEST_PER_RANK, 1), part(TEST_PER_RANK, 2))
    return Task(name, tuple(str(level) for level in spec.levels), prompt, *parts, backbone=backbone)


def _graded(backbone: str) -> Task:
    side = side_of(backbone)

    def part(photograph: str, per_rank: int, seed: int) -> Bunch:
        rng = np.random.default_rng([seed, 9])
        return make_graded_photographs(5 * per_rank, photograph=photograph, image_size=side, random_state=rng)

    made = (part("temple", TRAIN_PER_RANK, 0), part("temple", TEST_PER_RANK, 1), part("flower", 3 * TEST_PER_RANK, 2))
    parts = [part_of(list(each.data), each.target.tolist(), backbone) for each in made]
    return Task("graded photographs", tuple(made[0].rank_names), made[0].prompt, *parts, backbone=backbone)


def _digits(backbone: str) -> Task:
    side = side_of(backbone)
    rng = np.random.default_rng(4)
    images, target = rendering.handwritten_digits(training=False)
    order = rng.permutation(len(target))
    images, target = images[order], target[order]
    pixels = [np.asarray(rendering.draw_digit(image, rng, side)) for image in images]
    # the last 300 for the test, 150 for validation, the rest to draw from
    cut = [slice(None, -450), slice(-450, -300), slice(-300, None)]
    parts = (part_of(pixels[where], target[where].tolist(), backbone) for where in cut)
    return Task("digits", tuple(str(k) for k in range(10)), "the handwritten digit", *parts, backbone=backbone)


# ---------------------------------------------------------------- known words

# of tokens that the training of the small CLIPs did not show, in no order
_NAMES_WITHOUT_MEANING = (
    "walrus onion trumpet velvet canyon pepper lizard anchor ribbon magnet turnip violin saddle feather pirate cactus "
    "muffin teapot lantern otter parsley wizard goblet thistle"
).split()
WORDINGS = ("meaningless", "shuffled")


@dataclass(frozen=True)
class _Known:
    """A property, words for its levels, and whether test images are of photographs that training has not seen."""

    property: str
    prompt: str
    levels: tuple[int, ...]
    names: tuple[str, ...]
    is_elsewhere: bool = False


def _numbered(name: str, prompt: str, is_elsewhere: bool = False) -> _Known:
    levels = rendering.PROPERTIES[name].levels
    return _Known(name, prompt, levels, tuple(captions.level_text(name, level) for level in levels), is_elsewhere)


_KNOWN = {
    "blur": _numbered("blur", "a photo with blur level", is_elsewhere=True),
    "brightness": _numbered("brightness", "we rated the brightness of this", is_elsewhere=True),
    "decade": _numbered("decade", "a photo taken in the", is_elsewhere=True),
    "age": _numbered("age", "a face aged"),
    "size": _numbered("size", "please note how much size you see :"),
    "wear": _Known("wear", "condition :", (0, 5, 10, 15, 20), captions.GRADES[::-1]),
}


def _known(name: str, backbone: str) -> Task:
    spec, side = _KNOWN[name], side_of(backbone)

    def part(per_rank: int, seed: int, is_elsewhere: bool = False) -> Part:
        rng = np.random.default_rng([seed, 9])
        target = np.tile(np.arange(len(spec.levels)), per_rank)
        ours = rendering.photographs
        if is_elsewhere:
            rendering.photographs = lambda: tuple(load_sample_images().images)
        try:
            drawn = [rendering.render(spec.property, spec.levels[k], rng, training=False, side=side) for k in target]
        finally:
            rendering.photographs = ours
        return part_of(drawn, target.tolist(), backbone)

    parts = (part(TRAIN_PER_RANK, 0), part(TEST_PER_RANK, 1), part(TEST_PER_RANK, 2, spec.is_elsewhere))
    return Task(name, spec.names, spec.prompt, *parts, backbone=backbone)


def known_tasks(cache: Path, backbone: str = BACKBONE) -> tuple[Task, ...]:
    """Tasks whose words the backbone was trained to know, without pixels; made once and kept in the folder `cache`."""
    kept = _kept(cache, backbone)
    return tuple(kept(_known)(name, backbone).without_pixels() for name in _KNOWN)


# ---------------------------------------------------------------- photographs


Files = tuple[np.ndarray, np.ndarray]  # paths, and the index of each one's rank


def _coffee_files(folder: Path) -> tuple[Files, Files]:
    """Files to learn from and of the test; a stratified split, which the authors do not give."""
    dataset = folder / "lara2018" / "classification" / "dataset"
    with open(dataset / "dataset.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths = np.array([str(dataset / "leaf" / f"{row['id']}.jpg") for row in rows])
    target = np.array([int(row["severity"]) for row in rows])
    pool, test = train_test_split(
        np.arange(len(rows)), train_size=COFFEE_TRAIN, test_size=COFFEE_TEST, stratify=target, random_state=0
    )
    return (paths[pool], target[pool]), (paths[test], target[test])


def _cell_files(folder: Path) -> tuple[Files, Files]:
    """Files to learn from and of the test, as the authors split them."""
    root = folder / "BCCD_Dataset" / "BCCD"

    def listed(part: str) -> Files:
        names = (root / "ImageSets" / "Main" / f"{part}.txt").read_text().split()
        counts = [_red_cells(root / "Annotations" / f"{name}.xml") for name in names]
        return np.array([str(root / "JPEGImages" / f"{name}.jpg") for name in names]), np.digitize(counts, CELL_EDGES)

    return listed("trainval"), listed("test")


_FILES = dict(zip(PHOTOGRAPHS, (_coffee_files, _cell_files), strict=True))


def files_of(name: str, folder: Path) -> tuple[Files, Files]:
    """Files of a task of photographs that few shots are drawn from, as `Task.train` has them, and of its test."""
    pool, test = _FILES[name](folder)
    train, _ = _without_validation(pool[1])
    return (pool[0][train], pool[1][train]), test


def _coffee_leaves(folder: Path, backbone: str) -> Task:
    """Severity of damage, 0 to 4."""
    parts = _parts_of_photographs(*_coffee_files(folder), backbone)
    names = tuple(str(k) for k in range(5))
    return Task("coffee leaves", names, "the severity of the damage to the leaf is", *parts, backbone=backbone)


def _blood_cells(folder: Path, backbone: str) -> Task:
    """Number of red cells as six ranks."""
    parts = _parts_of_photographs(*_cell_files(folder), backbone)
    return Task("blood cells", CELL_NAMES, "the number of red blood cells is", *parts, backbone=backbone)


def _red_cells(annotation: Path) -> int:
    tree = ElementTree.parse(annotation)  # noqa: S314 - published data that the user has named
    return sum(item.findtext("name") == "RBC" for item in tree.iter("object"))


def _without_validation(target: np.ndarray) -> list[np.ndarray]:
    """Rows to learn from and of the validation, stratified."""
    return train_test_split(np.arange(len(target)), test_size=VALIDATION_SHARE, stratify=target, random_state=0)


def _parts_of_photographs(pool: Files, test: Files, backbone: str) -> tuple[Part, Part, Part]:
    """Training, validation and test part."""
    features, target = _features(pool[0], backbone), pool[1]
    train, validation = _without_validation(target)
    pixels = _decoded(pool[0], backbone)

    def part(pixels: np.ndarray, features: pd.DataFrame, target: np.ndarray) -> Part:
        return Part(pixels, embeddings_of(features), target, features)

    of_pool = (part(pixels[rows], features.iloc[rows], target[rows]) for rows in (train, validation))
    return (*of_pool, part(_decoded(test[0], backbone), _features(test[0], backbone), test[1]))


def _decoded(paths: np.ndarray, backbone: str) -> np.ndarray:
    resize = load_backbone(BackboneSource(backbone)).preprocessing.enlarged(8, 7).resizer()
    return np.stack([np.asarray(resize(Image.open(path).convert("RGB"))) for path in paths])


# ------------------------------------------------------------------------ all


@functools.cache
def weights_of(backbone: str) -> str:
    """A few digits that differ where the backbone's weights do."""
    return load_backbone(BackboneSource(backbone)).fingerprint[:12]


def all_tasks(cache: Path, data: Path | None = None, backbone: str = BACKBONE) -> tuple[Task, ...]:
    """Tasks, those of photographs only where `data` is their folder; made once and kept in the folder `cache`."""
    kept = _kept(cache, backbone)
    drawn = (
        kept(_graded)(backbone),
        kept(_digits)(backbone),
        kept(_rendered)("tilt", "the tilt of the bar is", backbone),
        kept(_rendered)("ripeness", "the ripeness of the fruit is", backbone),
    )
    return drawn if data is None else (*drawn, *photograph_tasks(cache, data, backbone))


def photograph_tasks(cache: Path, data: Path, backbone: str = BACKBONE) -> tuple[Task, ...]:
    """Tasks of photographs, made once and kept in the folder `cache`."""
    kept = _kept(cache, backbone)
    return kept(_coffee_leaves)(data, backbone), kept(_blood_cells)(data, backbone)


def _kept(cache: Path, backbone: str) -> Callable[[Callable], Callable]:
    return joblib.Memory(cache / f"tasks-{weights_of(backbone)}-{_CONTENT}", verbose=0).cache
