"""Fitted classifiers of all kinds, and a saved one."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fault_saves
import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._model.state import _scale_from_json
from skl2rclip.errors import MissingBackboneError
from tests.support.small_images import NAMES
from tests.support.small_models import CONFIGS, write_model


@pytest.fixture(params=["frozen", "finetune", "precomputed"])
def case(request, make_classifier, shades):
    """A fitted classifier, and what it predicts from."""
    X, y = shades
    if request.param == "precomputed":
        X = np.random.default_rng(0).normal(size=(len(y), 24))
    classifier = make_classifier(image_tower=request.param, ranks=NAMES, image_learning_rate=1e-3, decision="mean")
    return classifier.fit(X, np.array(NAMES)[y]), X


@pytest.fixture(scope="module")
def models():
    return [fault_saves.small_model(0), fault_saves.small_model(1)]


@pytest.fixture
def saved(models, tmp_path):
    models[0].save(tmp_path / "model")
    return tmp_path / "model"
