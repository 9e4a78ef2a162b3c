"""Which stages a fit has, and how many epochs each may take.

Settings and numbers of images and ranks are all that is known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from skl2rclip._settings import Settings
from skl2rclip._utils.devices import MAX_AUTO_BATCH

PROMPTS = "prompts"
IMAGE_TOWER = "image_tower"
EPOCH_SELECTION = "epoch_selection"  # between them, where how far the tower learns is chosen on images left out
_NEEDS = {PROMPTS: "embeddings", IMAGE_TOWER: "pixels"}
# of the first stage with prompt_epochs="auto": steps that suffice for so many images a rank, with more in proportion,
# but no more than so many epochs (benchmarks/many_images.md)
_STEPS = 80
_SUFFICE_PER_RANK = 64
_MAX_EPOCHS = 7
_HARD_EPOCHS = 200
# of the second stage with image_epochs="auto"
_TOWER_STEPS = 80
_MIN_TOWER_EPOCHS = 5


@dataclass(frozen=True)
class PlannedStage:
    """A stage of the training before it runs, of at least one epoch."""

    name: str
    n_epochs: int

    @property
    def needs(self) -> str:
        """What it learns from: ``"embeddings"`` or ``"pixels"``."""
        return _NEEDS[self.name]


def plan_of(settings: Settings, n_images: int, n_ranks: int, *, one_pass: bool) -> tuple[PlannedStage, ...]:
    """Stages in order, without those that have no epoch; `one_pass` makes a single pass instead of the two stages."""
    if one_pass:
        return (PlannedStage(IMAGE_TOWER if settings.finetunes else PROMPTS, 1),)
    batch_size = MAX_AUTO_BATCH if isinstance(settings.batch_size, str) else settings.batch_size
    steps_of_epoch = math.ceil(n_images / batch_size)
    prompt_epochs, image_epochs = settings.prompt_epochs, settings.image_epochs
    if isinstance(prompt_epochs, str):
        prompt_epochs = _HARD_EPOCHS
        if settings.is_soft:
            prompt_epochs = _automatic_epochs(steps_of_epoch, n_images, n_ranks)
    if isinstance(image_epochs, str):
        image_epochs = max(_MIN_TOWER_EPOCHS, round(_TOWER_STEPS / steps_of_epoch))
    epochs = {PROMPTS: prompt_epochs, IMAGE_TOWER: image_epochs if settings.finetunes else 0}
    return tuple(PlannedStage(name, n_epochs) for name, n_epochs in epochs.items() if n_epochs > 0)


def _automatic_epochs(steps_of_epoch: int, n_images: int, n_ranks: int) -> int:
    """Epochs of the first stage, with soft targets, where the user names none."""
    in_proportion = _STEPS * n_images / (_SUFFICE_PER_RANK * n_ranks)
    n_steps = max(_STEPS, min(in_proportion, _MAX_EPOCHS * steps_of_epoch))
    return max(1, round(n_steps / steps_of_epoch))
