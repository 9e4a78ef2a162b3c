"""A tower that is built from what was recorded of it."""

import pytest
import torch

from skl2rclip._clip.backbone import (
    build_image_tower,
    load_backbone,
)
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._clip.source import BackboneSource
from tests.support.small_models import CONFIGS


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_image_tower_is_rebuilt_from_its_configuration_alone(model_names, kind):
    backbone = load_backbone(BackboneSource(model_names[kind]))
    rebuilt = build_image_tower(BackboneRecord.of(backbone).image_config)
    rebuilt.load_state_dict(backbone.model.visual.state_dict())
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(rebuilt(images), backbone.model.encode_image(images))
