"""Fitted models of each kind that is handed on, each made once."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from skl2rclip import L2RCLIPClassifier
from tests.support.small_models import CONFIGS, TEXT, VIT, write_model

_TIMM = {"text_cfg": {**TEXT, "context_length": 20}, "custom_text": True}
TOWERS = {
    "vit": CONFIGS["clip"],
    "one_layer": {**CONFIGS["clip"], "vision_cfg": {**VIT, "layers": 1}},
    "resnet": CONFIGS["quick_gelu_resnet"],
    "siglip": {
        **_TIMM,
        "embed_dim": 64,
        "init_logit_bias": -10,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 48},
    },
    "convnext": {
        **_TIMM,
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 48},
    },
}
# of images in strong contrast: random weights hardly tell others apart
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.01, 0.015, 0.02]}
WORDS = ["low", "high", "extreme", "bare", "none"]  # in another order than sorted
# tower and parameters by what is particular about the model
MODELS = {
    "frozen": ("one_layer", {"image_features": "both", "mirror": True}),
    "tower_features": ("vit", {"image_features": "tower", "zero_shot_share": 0.4}),
    "embedding": ("vit", {"image_features": "embedding", "image_adapter": "mlp"}),
    "finetuned": ("vit", {"image_tower": "finetune", "image_features": "both"}),
    "hard": ("vit", {"rank_targets": "hard", "image_adapter": "linear"}),
    "without_adapter": ("vit", {"image_adapter": None, "ranks": WORDS}),
    "two_ranks": ("vit", {"ranks": WORDS[:2]}),
    "resnet": ("resnet", {"image_features": "embedding"}),
    "resnet_features": ("resnet", {"image_features": "both"}),
    "siglip": ("siglip", {"image_features": "both"}),
    "convnext": ("convnext", {"image_features": "both"}),
}


def made_photos(y):
    """Noise over four fields of colour, the brighter the higher the rank: uint8 arrays that are no squares.

    Of 38 columns at the size of the small towers six are cut off, an even number, so that mirrors agree.
    """
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 100, (len(y), 2, 2, 3)).repeat(90, axis=1).repeat(108, axis=2)
    images = fields + rng.integers(0, 50, fields.shape) + 26 * y[:, None, None, None]
    return list(images.astype(np.uint8))


@pytest.fixture(scope="session")
def photos():
    """Twenty images of the ranks 0 to 4 that are no squares, and their ranks."""
    y = np.tile(np.arange(5), 4)
    return made_photos(y), y


@pytest.fixture(scope="session")
def fitted_model(tmp_path_factory, photos):
    """Return a fitted model by its name in `MODELS`, made when it is first asked for; it is not to be changed."""
    root = tmp_path_factory.mktemp("towers")

    @functools.cache
    def tower(kind):
        return write_model(root / kind, TOWERS[kind], preprocess=PREPROCESS)

    @functools.cache
    def fitted(name):
        kind, parameters = MODELS[name]
        how = {"prompt_epochs": 2, "image_epochs": 2, "random_state": 0, "device": "cpu"}
        X, y = photos
        labels = y if "ranks" not in parameters else np.array(parameters["ranks"])[y * len(parameters["ranks"]) // 5]
        return L2RCLIPClassifier(tower(kind), **{**how, **parameters}).fit(X, labels)

    return fitted
