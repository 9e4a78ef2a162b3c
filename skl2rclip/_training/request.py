"""`FitRequest`: everything that is known of a fit before any long work.

What is made of it is the business of ``_training.prepare`` and ``_training.trainer``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.source import BackboneSource
from skl2rclip._embedding.embedder import (
    LARGEST_AUTO_BATCH,
)
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._model.prompts import PromptTokens
from skl2rclip._model.state import FittedState
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._settings import Settings
from skl2rclip._training.stages import PromptStage, TowerStage
from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.names import EntryNames
from skl2rclip.errors import UnreadableImagesError

# of the first stage with prompt_epochs="auto": steps that suffice for so many images a rank, with more in proportion,
# but no more than so many epochs (benchmarks/many_pictures.md)
_STEPS = 80
_SUFFICE_PER_RANK = 64
_MOST_EPOCHS = 7
_HARD_EPOCHS = 200
# of the second stage with image_epochs="auto"
_TOWER_STEPS = 80
_FEWEST_TOWER_EPOCHS = 5


@dataclass(frozen=True)
class FitRequest:
    """What is known before any long work.

    Attributes
    ----------
    data : list of n images, or ndarray of shape (n, D)
        The array holds embeddings.
    target : ndarray of shape (n,), int64
        Index of each image's rank.
    weight : ndarray of shape (n,), float64
    groups : ndarray of shape (n,), or None
        Images of one group are left out together.
    scale : RankScale
    tokens : PromptTokens
    source : BackboneSource
    settings : Settings
    seed : int
    devices : tuple of torch.device
        One, or one for each process.
    previous : FittedState or None
        To go on from.
    one_pass : bool
        Make a single pass at constant learning rates instead of the two stages.
    column_names : tuple of str or None
        Where X has them.
    kept : ndarray of int
        Which of the images that the user gave are left.
    n_given : int
        How many images the user gave.
    n_columns : int or None
        Of a table of embeddings, or 1 for a column of images; None for images in a row.
    maker : str or None
        Fingerprint of the backbone that made a table of embeddings, where the table says it.
    label_std : ndarray of shape (n,), float64, or None
        How far each label may be off, in the unit of the ranks' values.
    held_out : ndarray of shape (n,), bool, or None
        Images that only judge what is learned from the others, which the user gave apart, behind them.
    n_given_apart : int
        How many of these the user gave.
    """

    data: Any
    target: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None
    scale: RankScale
    tokens: PromptTokens
    source: BackboneSource
    settings: Settings
    seed: int
    devices: tuple[torch.device, ...]
    previous: FittedState | None
    one_pass: bool
    column_names: tuple[str, ...] | None
    kept: np.ndarray
    n_given: int
    n_columns: int | None = None
    maker: str | None = None
    label_std: np.ndarray | None = None
    held_out: np.ndarray | None = None
    n_given_apart: int = 0

    def keep(self, rows: np.ndarray) -> FitRequest:
        """Return the same without the images where `rows`, of bool, is False."""
        index = np.flatnonzero(rows)
        data = self.data[index] if isinstance(self.data, np.ndarray) else [self.data[i] for i in index]
        parts = {name: getattr(self, name) for name in ("target", "weight", "groups", "kept", "label_std", "held_out")}
        return replace(self, data=data, **{name: part[index] for name, part in parts.items() if part is not None})

    def with_apart(self, data: Any, target: np.ndarray) -> FitRequest:
        """Return the same with images behind its own that only judge what is learned from those."""
        n, n_apart = len(self.target), len(target)
        is_apart = np.arange(n + n_apart) >= n
        return replace(
            self,
            data=np.concatenate([self.data, data]) if isinstance(data, np.ndarray) else [*self.data, *data],
            target=np.concatenate([self.target, target]),
            weight=np.concatenate([self.weight, np.ones(n_apart)]),
            # which groups these are in does not matter, and their labels are believed
            groups=None if self.groups is None else np.concatenate([self.groups, np.full(n_apart, -1)]),
            label_std=None if self.label_std is None else np.concatenate([self.label_std, np.zeros(n_apart)]),
            kept=np.concatenate([self.kept, self.n_given + np.arange(n_apart)]),
            held_out=is_apart,
            n_given_apart=n_apart,
        )

    @property
    def names(self) -> EntryNames:
        """What the user calls each image."""
        return EntryNames(self.kept.tolist(), self.n_given)

    @property
    def white(self) -> WhiteLevel:
        """Which value is white in images that do not say it; dark ones are refused."""
        return WhiteLevel(self.settings.white_level, refuses_dark=True)

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.devices[0]

    @property
    def n_learned_from(self) -> int:
        """How many images there are without those that the user gave apart."""
        return len(self.target) if self.held_out is None else int((~self.held_out).sum())

    def plan(self) -> list[tuple[type[PromptStage] | type[TowerStage], int]]:
        """Stages in order, with their numbers of epochs."""
        settings = self.settings
        if self.one_pass:
            return [(TowerStage if settings.finetunes else PromptStage, 1)]
        prompt_epochs = settings.prompt_epochs
        if isinstance(prompt_epochs, str) and not settings.is_soft:
            prompt_epochs = _HARD_EPOCHS
        elif isinstance(prompt_epochs, str):
            prompt_epochs = self._automatic_epochs()
        stages: list[tuple[type[PromptStage] | type[TowerStage], int]] = [(PromptStage, prompt_epochs)]
        if settings.finetunes:
            image_epochs = settings.image_epochs
            if isinstance(image_epochs, str):
                image_epochs = max(_FEWEST_TOWER_EPOCHS, round(_TOWER_STEPS / self._steps_of_epoch()))
            stages.append((TowerStage, image_epochs))
        return [(stage, n_epochs) for stage, n_epochs in stages if n_epochs > 0]

    def _steps_of_epoch(self) -> int:
        batch_size = self.settings.batch_size
        return math.ceil(self.n_learned_from / (LARGEST_AUTO_BATCH if isinstance(batch_size, str) else batch_size))

    def _automatic_epochs(self) -> int:
        """Epochs of the first stage, with soft targets, where the user names none."""
        an_epoch = self._steps_of_epoch()
        in_proportion = _STEPS * self.n_learned_from / (_SUFFICE_PER_RANK * len(self.scale.ranks))
        n_steps = max(_STEPS, min(in_proportion, _MOST_EPOCHS * an_epoch))
        return max(1, round(n_steps / an_epoch))

    def without(self, error: UnreadableImagesError) -> FitRequest:
        """Return the same without the images that cannot be read, or raise the error with the user's own indices."""
        failed = np.isin(np.arange(len(self.target)), list(error.failures))
        apart = np.zeros(len(failed), dtype=bool) if self.held_out is None else self.held_out
        for name, is_part, n_before, n_images in (
            ("X", ~apart, 0, self.n_given),
            ("X_val", apart, self.n_given, self.n_given_apart),
        ):
            rows = np.flatnonzero(failed & is_part)
            if not len(rows):
                continue
            is_skipped, is_last = self.settings.on_bad_image == "skip", len(rows) == is_part.sum()
            advice = "" if is_skipped else "on_bad_image='skip' makes fit leave such images out. "
            if is_skipped and is_last:
                advice = f"No image is left to {'learn from' if name == 'X' else 'judge by'}. "
            index = {int(self.kept[row]) - n_before: row for row in rows.tolist()}
            named = UnreadableImagesError(
                {place: error.failures[row] for place, row in index.items()},
                {place: self.data[row] for place, row in index.items()},
                n_images,
                advice,
                name,
            )
            if not is_skipped or is_last:
                raise named from None
            warn_user(f"on_bad_image='skip' leaves images out: {named}")
        return self.keep(~failed)
