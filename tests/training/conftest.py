"""Images of five ranks, measured, and what is to learn from them."""

import numpy as np
import pytest
import torch

from skl2rclip._model.modules import N_HIDDEN, RidgeAdapter
from skl2rclip._ordinal.soft_targets import measure
from skl2rclip._training.learner import TrainingData
from tests.support.learners import N_IMAGES, N_RANKS, WEIGHT, WIDTH, Points, images_of, learner_of


@pytest.fixture(params=["linear", "mlp"])
def kind(request):
    return request.param


@pytest.fixture
def learner(kind):
    weights = {"contrastive": 1.0, "ordering": 0.1, "tightness": 0.1}
    return learner_of(Points(), weights, N_RANKS, RidgeAdapter(WIDTH, kind))


@pytest.fixture
def measured(kind):
    """What embeddings say that show the rank, with noise."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(N_RANKS), N_IMAGES // N_RANKS)
    Z = rng.normal(size=(N_IMAGES, WIDTH))
    Z[:, 0] += 1.5 * target
    Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)
    n_hidden = N_HIDDEN if kind == "mlp" else 0
    return measure(Z, target, np.arange(float(N_RANKS)), WEIGHT, np.arange(N_IMAGES), n_hidden=n_hidden, seed=0)


@pytest.fixture
def data(measured):
    targets = measured.targets
    return TrainingData(
        torch.from_numpy(targets.target),
        torch.from_numpy(WEIGHT).float(),
        images_of(torch.from_numpy(measured.features.rows)),
        distributions=torch.from_numpy(targets.around_labels()),
    )


@pytest.fixture
def whole(data):
    """All images in one batch."""
    return data.batch(data.images.features, torch.arange(N_IMAGES))
