"""`FitRequest`: everything that is known of a fit before any long work.

``_training.prepare`` and ``_training.trainer`` carry it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.source import BackboneSource
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._model.prompts import PromptTokens
from skl2rclip._model.state import FittedState
from skl2rclip._ordinal.features import FeatureBlocks
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._ordinal.views import ONE_VIEW, Views
from skl2rclip._settings import Settings
from skl2rclip._training.plan import PlannedStage, plan_of
from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.names import EntryNames
from skl2rclip.errors import UnreadableImagesError

# of each image under n_views="auto", and how many images there may be
_N_VIEWS, _MAX_VIEWED = 8, 2_000


@dataclass(frozen=True)
class FitRequest:
    """What is known before any long work."""

    data: Any  # list of n images, or a table of features (n, W)
    target: np.ndarray  # (n,), int64, index of each image's rank
    weight: np.ndarray  # (n,), float64
    groups: np.ndarray | None  # (n,); images of one group are left out together
    scale: RankScale
    tokens: PromptTokens
    source: BackboneSource
    settings: Settings
    seed: int
    devices: tuple[torch.device, ...]  # one, or one for each process
    previous: FittedState | None  # to go on from
    one_pass: bool  # make a single pass at constant learning rates instead of the two stages
    column_names: tuple[str, ...] | None  # where X has them
    kept: np.ndarray  # which of the images that the user gave are left
    n_given: int  # how many images the user gave
    n_columns: int | None = None  # of a table of features, or 1 for a column of images; None for images in a row
    blocks: FeatureBlocks | None = None  # of a table of features
    fingerprint: str | None = None  # of the backbone that made a table of embeddings, where it says it
    # (n,), float64: how far each label may be off, in the unit of the ranks' values
    label_std: np.ndarray | None = None
    # (n,), bool: images that only validate what is learned from the others, which the user gave as X_val, behind them
    held_out: np.ndarray | None = None
    n_given_validation: int = 0  # how many of these the user gave
    known: Mapping[str, bytes] | None = None  # what `check_headers` has returned, once it has been asked
    plan: tuple[PlannedStage, ...] = field(init=False)  # what is trained, in order; follows from the rest

    def __post_init__(self) -> None:
        plan = plan_of(self.settings, self.n_learned_from, len(self.scale.ranks), one_pass=self.one_pass)
        object.__setattr__(self, "plan", plan)

    @property
    def views(self) -> Views:
        """Views of each image that are embedded, of which fewer may come to be learned from."""
        settings = self.settings
        if isinstance(self.data, np.ndarray) or settings.image_tower != "frozen":
            return ONE_VIEW
        n_predicted, n_views = 2 if settings.mirror else 1, settings.n_views
        if not settings.augment or self.one_pass or not self.plan:
            return Views.of(1, n_predicted)
        if isinstance(n_views, str):
            n_views = _N_VIEWS if settings.is_soft and self.n_learned_from <= _MAX_VIEWED else 1
        return Views.of(n_views, n_predicted)

    def with_seed(self, seed: int) -> FitRequest:
        """Return the same with another seed, of random weights too unless they are those of the fit before."""
        source = self.source if self.previous is not None else replace(self.source, seed=seed)
        return replace(self, seed=seed, source=source)

    def keep(self, rows: np.ndarray) -> FitRequest:
        """Return the same without the images where `rows`, of bool, is False."""
        index = np.flatnonzero(rows)
        data = self.data[index] if isinstance(self.data, np.ndarray) else [self.data[i] for i in index]
        parts = {name: getattr(self, name) for name in ("target", "weight", "groups", "kept", "label_std", "held_out")}
        return replace(self, data=data, **{name: part[index] for name, part in parts.items() if part is not None})

    def with_validation(self, data: Any, target: np.ndarray) -> FitRequest:
        """Return the same with images behind its own that only validate what is learned from those."""
        n, n_validation = len(self.target), len(target)
        is_validation = np.arange(n + n_validation) >= n
        return replace(
            self,
            data=np.concatenate([self.data, data]) if isinstance(data, np.ndarray) else [*self.data, *data],
            target=np.concatenate([self.target, target]),
            weight=np.concatenate([self.weight, np.ones(n_validation)]),
            # which groups these are in does not matter, and their labels are believed
            groups=None if self.groups is None else np.concatenate([self.groups, np.full(n_validation, -1)]),
            label_std=None if self.label_std is None else np.concatenate([self.label_std, np.zeros(n_validation)]),
            kept=np.concatenate([self.kept, self.n_given + np.arange(n_validation)]),
            held_out=is_validation,
            n_given_validation=n_validation,
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
        """How many images there are without those that the user gave as X_val."""
        return len(self.target) if self.held_out is None else int((~self.held_out).sum())

    @property
    def n_images(self) -> tuple[int, ...]:
        """How many images of each rank there are, with those of the passes that this one goes on from."""
        target = self.target if self.held_out is None else self.target[~self.held_out]
        counts = np.bincount(target, minlength=len(self.scale.ranks))
        if self.one_pass and self.previous is not None:
            counts += np.array(self.previous.n_images)
        return tuple(counts.tolist())

    @property
    def n_groups(self) -> int | None:
        """How many groups the images are of; None where nobody has said it."""
        if self.groups is None:
            return None
        return len(np.unique(self.groups if self.held_out is None else self.groups[~self.held_out]))

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned before, so that a start can be chosen."""
        return not self.one_pass and (self.previous is None or not self.previous.history)

    def epochs_of(self, name: str) -> int:
        """Epochs that a stage may take, 0 where it is not planned."""
        return sum(stage.n_epochs for stage in self.plan if stage.name == name)

    def without(self, error: UnreadableImagesError) -> FitRequest:
        """Return the same without the images that cannot be read, or raise the error with the user's own indices."""
        failed = np.isin(np.arange(len(self.target)), list(error.failures))
        is_validation = np.zeros(len(failed), dtype=bool) if self.held_out is None else self.held_out
        for name, is_part, n_before, n_images in (
            ("X", ~is_validation, 0, self.n_given),
            ("X_val", is_validation, self.n_given, self.n_given_validation),
        ):
            rows = np.flatnonzero(failed & is_part)
            if not len(rows):
                continue
            is_skipped, is_last = self.settings.on_bad_image == "skip", len(rows) == is_part.sum()
            advice = "" if is_skipped else "on_bad_image='skip' makes fit leave such images out. "
            if is_skipped and is_last:
                advice = f"No image is left to {'learn from' if name == 'X' else 'validate with'}. "
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
