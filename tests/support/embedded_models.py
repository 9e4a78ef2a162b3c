"""What holds of each small CLIP that comes with the package."""

import warnings

import numpy as np
import open_clip
from open_clip.tokenizer import SimpleTokenizer

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from tests.support.processes import output_of


def assert_needs_no_network(name, width):
    code = (
        "import socket; socket.socket.connect = lambda *arguments: exit('it wants the network')\n"
        "from skl2rclip import CLIPImageEncoder\n"
        f"print(CLIPImageEncoder({name!r}).fit().embedding_width_)"
    )
    assert output_of(code, HF_HUB_OFFLINE="0").strip() == str(width)


def assert_is_an_ordinary_open_clip_model(name, width):
    backbone = load_backbone(BackboneSource(name, "openai"))
    assert type(backbone.model) is open_clip.CLIP
    assert not backbone.source.is_random
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = L2RCLIPClassifier(
            name,
            image_tower="precomputed",
            random_state=0,
            device="cpu",
            prompt="the size is",
            n_context_tokens=3,
            prompt_epochs=0,
            blend_ratio=0.0,
            ranks=range(21),
        )
        model.fit(np.eye(2, width), [0, 20])
    sentences = [f"the size is {k}" for k in range(21)]
    expected = backbone.model.encode_text(SimpleTokenizer(context_length=32)(sentences), normalize=True)
    np.testing.assert_allclose(model.prototypes_, expected.numpy(), atol=1e-5)
