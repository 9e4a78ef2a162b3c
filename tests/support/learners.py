"""Learners without a text tower, what they learn from, and settings of a fit."""

import numpy as np
import torch

from skl2rclip import L2RCLIPClassifier
from skl2rclip._settings import Settings
from skl2rclip._training.learner import EncodedImages, Learner, TrainingData
from skl2rclip._training.objective import Objective

N_RANKS, WIDTH, N_IMAGES = 5, 12, 60
# of the images of `measured` and `data`
WEIGHT = np.linspace(0.5, 1.5, N_IMAGES)


class Points(torch.nn.Module):
    """Prompts that are their prototypes."""

    n_products = 0

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.context = torch.nn.Parameter(torch.randn(N_RANKS, WIDTH, generator=generator))

    def forward(self):
        return torch.nn.functional.normalize(self.context, dim=1)


class OneNumber(torch.nn.Module):
    """Prompts that are a single number, whose prototypes are two unit vectors that it turns."""

    n_products = 0

    def __init__(self):
        super().__init__()
        self.context = torch.nn.Parameter(torch.tensor([-0.5]))

    def forward(self):
        angle = torch.cat([self.context, -self.context])
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def images_of(embeddings):
    """Images of which nothing but embeddings is read."""
    return EncodedImages(embeddings, embeddings)


def learner_of(prompts, weights, n_ranks, adapter=None):
    """A learner of prompts that are any module."""
    return Learner(
        prompts=prompts,
        adapter=adapter,
        tower=None,
        preprocessing=None,
        objective=Objective(weights, 10.0, torch.arange(float(n_ranks))),
        autocast=torch.autocast("cpu", enabled=False),
        image_autocast=torch.autocast("cpu", enabled=False),
        generator=torch.Generator().manual_seed(0),
    )


def learner_of_two_ranks():
    return learner_of(OneNumber(), {"contrastive": 1.0}, 2)


def two_ranks(n=6):
    """Images that alternate between two ranks, which their angles show."""
    target = torch.arange(n) % 2
    angle = torch.where(target == 0, 1.0, -1.0) + torch.linspace(-0.1, 0.1, n)
    return TrainingData(target, None, images_of(torch.stack([angle.cos(), angle.sin()], dim=1)))


def settings_of(**changes):
    return Settings.of({**L2RCLIPClassifier().get_params(deep=False), **changes})


def hard_settings_of(**changes):
    """Settings for two ranks."""
    given = {"rank_targets": "hard", "learning_rate": 0.1, "weight_decay": 0.0, "n_iter_no_change": 2}
    return settings_of(**{**given, **changes})
