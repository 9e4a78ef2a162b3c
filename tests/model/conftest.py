"""Fitted classifiers of all kinds, and a saved one."""

import copy

import fault_saves
import numpy as np
import pytest

from tests.support.small_images import NAMES


@pytest.fixture(scope="session")
def _cases():
    """Fitted classifiers by their image tower; none of them is handed out."""
    return {}


@pytest.fixture(params=["frozen", "finetune", "precomputed"])
def case(request, make_classifier, shades, _cases):
    """A copy of a fitted classifier, and what it predicts from."""
    X, y = shades
    if request.param == "precomputed":
        X = np.random.default_rng(0).normal(size=(len(y), 24))
    if request.param not in _cases:
        settings = {"ranks": NAMES, "image_learning_rate": 1e-3, "decision": "mean"}
        _cases[request.param] = make_classifier(image_tower=request.param, **settings).fit(X, np.array(NAMES)[y])
    return copy.deepcopy(_cases[request.param]), X


@pytest.fixture(scope="module")
def models():
    return [fault_saves.small_model(0), fault_saves.small_model(1)]


@pytest.fixture
def saved(models, tmp_path):
    models[0].save(tmp_path / "model")
    return tmp_path / "model"
