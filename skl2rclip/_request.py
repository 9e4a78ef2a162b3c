"""`FitRequest`: everything that is known of a fit before any long work.

What is made of it is the business of ``_preparation`` and ``_fit``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skl2rclip._backbone import BackboneSource
from skl2rclip._embedder import (
    LARGEST_AUTO_BATCH,
)
from skl2rclip._model import FittedState
from skl2rclip._prompts import PromptTokens
from skl2rclip._ranks import RankScale
from skl2rclip._settings import Settings
from skl2rclip._stages import PromptStage, TowerStage
from skl2rclip._validation import warn_user
from skl2rclip._white_levels import NOTHING_DECIDED, Whites
from skl2rclip.errors import UnreadableImagesError

# of the first stage with prompt_epochs="auto"
_STEPS = 80
_HARD_EPOCHS = 200


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
    whites : Whites
        Which value is white in images that do not say it, as far as it has been decided.
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
    whites: Whites = NOTHING_DECIDED

    def keep(self, rows: np.ndarray) -> FitRequest:
        """Return the same without the images where `rows`, of bool, is False."""
        index = np.flatnonzero(rows)
        data = self.data[index] if isinstance(self.data, np.ndarray) else [self.data[i] for i in index]
        groups = None if self.groups is None else self.groups[index]
        return replace(
            self, data=data, target=self.target[index], weight=self.weight[index], groups=groups, kept=self.kept[index]
        )

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.devices[0]

    def plan(self) -> list[tuple[type[PromptStage] | type[TowerStage], int]]:
        """Stages in order, with their numbers of epochs."""
        settings = self.settings
        if self.one_pass:
            return [(TowerStage if settings.finetunes else PromptStage, 1)]
        prompt_epochs = settings.prompt_epochs
        if isinstance(prompt_epochs, str) and not settings.is_soft:
            prompt_epochs = _HARD_EPOCHS
        elif isinstance(prompt_epochs, str):
            batch_size = LARGEST_AUTO_BATCH if isinstance(settings.batch_size, str) else settings.batch_size
            prompt_epochs = max(1, round(_STEPS / math.ceil(len(self.target) / batch_size)))
        stages: list[tuple[type[PromptStage] | type[TowerStage], int]] = [(PromptStage, prompt_epochs)]
        if settings.finetunes:
            stages.append((TowerStage, settings.image_epochs))
        return [(stage, n_epochs) for stage, n_epochs in stages if n_epochs > 0]

    def without(self, error: UnreadableImagesError) -> FitRequest:
        """Return the same without the images that cannot be read, or raise the error with the user's own indices."""
        is_skipped = self.settings.on_bad_image == "skip"
        is_last = len(error.failures) == len(self.target)
        advice = "" if is_skipped else "on_bad_image='skip' makes fit leave such images out. "
        if is_skipped and is_last:
            advice = "No image is left to learn from. "
        named = UnreadableImagesError(
            {int(self.kept[i]): reason for i, reason in error.failures.items()},
            {int(self.kept[i]): self.data[i] for i in error.failures},
            self.n_given,
            advice,
        )
        if not is_skipped or is_last:
            raise named from None
        warn_user(f"on_bad_image='skip' leaves images out: {named}")
        return self.keep(~np.isin(np.arange(len(self.target)), list(error.failures)))
