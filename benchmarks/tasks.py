"""Ordinal tasks that skl2rclip-tiny was not trained for, as embeddings of training, validation and test images.

graded photographs: crops of scikit-learn's two photographs, degraded in four ways at five severities; training and
validation on the one, test on the other. digits: scikit-learn's handwritten digits that the training of the backbone
left out. tilt and ripeness: rendered properties that it never saw.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "examples")]

import graded_photographs  # noqa: E402
import pictures  # noqa: E402

from skl2rclip import CLIPImageEncoder  # noqa: E402

BACKBONE = "skl2rclip-tiny"
TRAIN_PER_RANK, TEST_PER_RANK = 96, 32


@dataclass(frozen=True)
class Part:
    """Images, their embeddings, and the index of each image's rank."""

    pixels: np.ndarray
    Z: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Task:
    """A task; `train` is a pool from which few shots are drawn."""

    name: str
    names: tuple[str, ...]
    prompt: str
    train: Part
    validation: Part
    test: Part

    @property
    def n_ranks(self) -> int:
        return len(self.names)

    def draw(self, shots: int | np.ndarray, seed: int) -> np.ndarray:
        """Indices of `shots` training images of each rank (a number, or one for each rank)."""
        rng = np.random.default_rng([seed, 3])
        shots = np.broadcast_to(shots, self.n_ranks)
        chosen = [rng.permutation(np.flatnonzero(self.train.target == k))[: shots[k]] for k in range(self.n_ranks)]
        return np.concatenate(chosen)


def _part(pixels: list[np.ndarray], target: list[int]) -> Part:
    stacked = np.stack(pixels)
    Z = CLIPImageEncoder(BACKBONE, device="cpu").fit().transform(stacked)
    return Part(stacked, Z, np.array(target))


def _rendered(name: str, prompt: str) -> Task:
    spec = pictures.NEW_PROPERTIES[name]

    def part(per_rank: int, seed: int) -> Part:
        rng = np.random.default_rng([seed, 9])
        target = np.tile(np.arange(len(spec.levels)), per_rank)
        return _part([pictures.render(name, spec.levels[k], rng) for k in target], target.tolist())

    parts = (part(TRAIN_PER_RANK, 0), part(TEST_PER_RANK, 1), part(TEST_PER_RANK, 2))
    return Task(name, tuple(str(level) for level in spec.levels), prompt, *parts)


def _graded() -> Task:
    china, flower = graded_photographs.photographs()

    def part(photograph: np.ndarray, per_rank: int, seed: int) -> Part:
        rng = np.random.default_rng([seed, 9])
        triples = [graded_photographs.degraded_crop(photograph, i, rng) for i in range(5 * per_rank)]
        return _part([np.asarray(crop) for crop, _ in triples], [grade for _, grade in triples])

    parts = (part(china, TRAIN_PER_RANK, 0), part(china, TEST_PER_RANK, 1), part(flower, 3 * TEST_PER_RANK, 2))
    return Task("graded photographs", tuple(graded_photographs.GRADES), "the quality of this photo is", *parts)


def _digits() -> Task:
    rng = np.random.default_rng(4)
    images, target = pictures.handwritten_digits(training=False)
    order = rng.permutation(len(target))
    images, target = images[order], target[order]
    pixels = [np.asarray(pictures.draw_digit(image, rng)) for image in images]
    # the last 300 for the test, 150 for validation, the rest to draw from
    cut = [slice(None, -450), slice(-450, -300), slice(-300, None)]
    parts = (_part(pixels[where], target[where].tolist()) for where in cut)
    return Task("digits", tuple(str(k) for k in range(10)), "the handwritten digit", *parts)


@cache
def all_tasks() -> tuple[Task, ...]:
    return (
        _graded(),
        _digits(),
        _rendered("tilt", "the tilt of the bar is"),
        _rendered("ripeness", "the ripeness of the fruit is"),
    )
