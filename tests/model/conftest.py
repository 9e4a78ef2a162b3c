"""Fitted classifiers of all kinds, and a saved one."""

import fault_saves
import numpy as np
import pytest

from tests.support.small_images import NAMES


@pytest.fixture(params=["frozen", "finetune", "precomputed"])
def case(request, make_classifier, fitted_classifier, shades):
    """A fitted classifier, and what it predicts from."""
    X, y = shades
    settings = {"image_tower": request.param, "ranks": NAMES, "image_learning_rate": 1e-3, "decision": "mean"}
    if request.param != "precomputed":
        return fitted_classifier(words=NAMES, **settings), X
    X = np.random.default_rng(0).normal(size=(len(y), 24))
    return make_classifier(**settings).fit(X, np.array(NAMES)[y]), X


@pytest.fixture(scope="module")
def models():
    return [fault_saves.small_model(0), fault_saves.small_model(1)]


@pytest.fixture
def saved(models, tmp_path):
    models[0].save(tmp_path / "model")
    return tmp_path / "model"
