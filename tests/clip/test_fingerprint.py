"""What tells one backbone from another."""

import copy

import numpy as np
import torch

from skl2rclip import CLIPImageEncoder
from skl2rclip._clip.backbone import (
    load_backbone,
    unload_backbones,
)
from skl2rclip._clip.fingerprint import fingerprint
from skl2rclip._clip.source import BackboneSource
from skl2rclip._embedding.cache import forget_embeddings
from tests.support.small_models import CONFIGS, write_model


def test_fingerprint_tells_weights_and_activations_apart(tmp_path):
    def of(config, seed):
        folder = tmp_path / f"{seed}-{config.get('quick_gelu', False)}"
        return load_backbone(BackboneSource(write_model(folder, config, seed=seed))).fingerprint

    plain, quick = CONFIGS["clip"], {**CONFIGS["clip"], "quick_gelu": True}
    assert len({of(plain, 0), of(plain, 1), of(quick, 0)}) == 3
    model = load_backbone(BackboneSource(write_model(tmp_path / "again", plain, seed=0))).model
    assert fingerprint(model) == of(plain, 0)
    changed = copy.deepcopy(model)
    changed.ln_final.weight.data[3] += 1e-6
    assert fingerprint(changed) != fingerprint(model)


def test_training_a_copy_leaves_the_shared_tower_alone(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    before = fingerprint(backbone.model)
    copied = backbone.image_tower_copy(torch.device("cpu"))
    for parameter in copied.parameters():
        assert parameter.requires_grad
        parameter.data.add_(1)
    assert fingerprint(backbone.model) == before
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_embeddings_of_one_function_are_not_those_of_another(tmp_path, shades):
    """Same weights, other pixels or pooling: each gets its own embeddings, in one process and from one folder."""
    X = shades[0][:4]
    pooled = {**CONFIGS["clip"], "vision_cfg": {**CONFIGS["clip"]["vision_cfg"], "pool_type": "avg"}}
    names = [
        write_model(tmp_path / "a", CONFIGS["clip"]),
        write_model(tmp_path / "b", CONFIGS["clip"], preprocess={"mean": [0.9, 0.1, 0.5], "std": [0.2, 0.3, 0.4]}),
        write_model(tmp_path / "c", pooled),
    ]
    together = [
        CLIPImageEncoder(name, embedding_cache=tmp_path / "cache", device="cpu").fit().transform(X) for name in names
    ]
    for name, embeddings in zip(names, together, strict=True):
        forget_embeddings()
        unload_backbones()
        np.testing.assert_allclose(CLIPImageEncoder(name, device="cpu").fit().transform(X), embeddings, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert np.abs(together[0] - together[2]).max() > 1e-3
