"""A tower that is built from what was recorded of it."""

import copy
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from skl2rclip import CLIPImageEncoder
from skl2rclip._clip import backbone as backbone_module
from skl2rclip._clip.backbone import (
    build_image_tower,
    check_text_config,
    load_backbone,
    model_config,
    seeded,
    unload_backbones,
)
from skl2rclip._clip.fingerprint import fingerprint
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._clip.source import BackboneSource, warn_if_random
from skl2rclip._clip.tokenizer import tokenizer_of
from skl2rclip._images.preprocessing import Preprocessing, normalize
from skl2rclip.errors import InvalidParameterError, MissingBackboneError
from tests.support.small_models import CONFIGS, TEXT, write_model


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_image_tower_is_rebuilt_from_its_configuration_alone(model_names, kind):
    backbone = load_backbone(BackboneSource(model_names[kind]))
    rebuilt = build_image_tower(BackboneRecord.of(backbone).image_config)
    rebuilt.load_state_dict(backbone.model.visual.state_dict())
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(rebuilt(images), backbone.model.encode_image(images))
