"""Every family's states against hooks on its layers and statistics by the textbook; its embedding against itself."""

import copy

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from skl2rclip._clip.backbone import build_image_tower, load_backbone
from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._clip.features import FeatureTower, layout_of
from skl2rclip._clip.source import BackboneSource
from skl2rclip.errors import InvalidParameterError
from tests.support.families import COCA, FAMILIES, write_family
from tests.support.helpers import in_threads
from tests.support.small_models import CONFIGS, VIT

RESNET = CONFIGS["quick_gelu_resnet"]["vision_cfg"]
# architecture of the image tower, the layers whose output is read by depth, the last norm, and the module whose input
# the projection reads, where it is one
TOWERS = {
    "class_token": ({**VIT, "layers": 5}, "transformer.resblocks", [2, 3, 4, 5], "ln_post", None),
    "one_layer": ({**VIT, "layers": 1}, "transformer.resblocks", [1], "ln_post", None),
    "clipa": (
        {**VIT, "pool_type": "avg", "no_ln_pre": True, "pos_embed_type": "sin_cos_2d"},
        "transformer.resblocks", [1, 2], "ln_post", None,
    ),
    "norm_after_pooling": ({**VIT, "final_ln_after_pool": True}, "transformer.resblocks", [1, 2], "ln_post", None),
    "coca": ({**COCA["vision_cfg"], "output_tokens": False}, "transformer.resblocks", [1, 2], None, None),
    "resnet": (RESNET, "layer", [1, 2, 3, 4], None, None),
    "timm_vit": (
        {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None, "image_size": 160},
        "trunk.blocks", [2, 3, 5, 6], "trunk.norm", "trunk.head",
    ),
    "timm_fc_norm": (
        {"timm_model_name": "test_vit_relpos", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
        "trunk.blocks", [3, 5, 7, 9], "trunk.fc_norm", "head.proj",
    ),
    "siglip": (
        {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160},
        "trunk.blocks", [2, 3, 5, 6], "trunk.norm", None,
    ),
    "convnext": (
        {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp", "image_size": 64},
        "trunk.stages", [1, 2, 3, 4], "trunk.head.norm", "head.mlp",
    ),
    "efficientnet": (
        {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64},
        "trunk.blocks", [2, 3, 4, 5], None, "trunk.classifier",
    ),
}  # fmt: skip


# whose feature maps have no norm at their end
WITHOUT_NORM = {"resnet", "efficientnet"}


def built(kind):
    """A small image tower with random weights, of biases and gains too."""
    vision = TOWERS[kind][0]
    if not timm.is_model(vision.get("timm_model_name", "test_vit")):
        pytest.skip("an older timm")
    tower = build_image_tower({"embed_dim": 64 if kind == "siglip" else 24, "vision_cfg": vision})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in tower.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return tower


def images(kind, n=3):
    size = TOWERS[kind][0]["image_size"]
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def layer(tower, kind, depth):
    name = TOWERS[kind][1]
    if kind == "resnet":
        return getattr(tower, f"{name}{depth}")
    index = tower.trunk.stage_ends[depth - 1] - 1 if kind == "efficientnet" else depth - 1
    return tower.get_submodule(name)[index]


def seen(tower, module, pixels, what):
    """What a module of the tower reads or returns, by a hook."""
    got = []
    hooks = {
        "input": lambda: module.register_forward_pre_hook(lambda _, given: got.append(given[0])),
        "output": lambda: module.register_forward_hook(lambda _, given, returned: got.append(returned)),
    }
    handle = hooks[what]()
    with torch.no_grad():
        tower(pixels)
    handle.remove()
    return got[0]


def tokens_of(tower, state):
    """Patches or positions (n, P, C) of a layer's output."""
    if state.ndim == 4:
        return state.flatten(2).transpose(1, 2)
    return state[:, 1 if isinstance(tower, VisionTransformer) else tower.trunk.num_prefix_tokens :]


def normalized_by_the_textbook(tokens, norm):
    """Tokens (n, P, C) one after the other, in double precision."""
    result = tokens.double().numpy().copy()
    for token in result.reshape(-1, result.shape[-1]):
        token[:] = (token - token.mean()) / np.sqrt(token.var() + (1e-5 if norm is None else norm.eps))
        if norm is not None and len(token) == len(norm.weight):
            token[:] = token * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    return torch.from_numpy(result)


def statistics_by_the_textbook(tokens):
    """Mean and deviation (n, C) over tokens (n, P, C), in double precision."""
    rows = tokens.double().numpy().swapaxes(0, 1)
    mean = sum(rows) / len(rows)
    return mean, np.sqrt(sum((row - mean) ** 2 for row in rows) / len(rows))


def pooled_by_the_tower(tower, kind, pixels):
    """State that the projection reads: what the tower returns without it, or what its module is given."""
    bare = copy.deepcopy(tower)
    if isinstance(tower, VisionTransformer):
        bare.proj = None
    elif kind == "resnet":
        width = bare.attnpool.c_proj.in_features
        bare.attnpool.c_proj = nn.Linear(width, width, bias=True)
        bare.attnpool.c_proj.weight.data, bare.attnpool.c_proj.bias.data = torch.eye(width), torch.zeros(width)
    elif TOWERS[kind][4] is None:
        return None
    else:
        return seen(tower, tower.get_submodule(TOWERS[kind][4]), pixels, "input")
    with torch.no_grad():
        return bare(pixels)


@pytest.mark.parametrize("kind", TOWERS)
def test_blocks_are_what_hooks_see_and_the_embedding_is_the_towers(kind):
    tower, pixels = built(kind), images(kind)
    depths, norm = TOWERS[kind][2:4]
    with torch.no_grad():
        blocks, expected = dict(FeatureTower(tower).blocks(pixels)), tower(pixels)
        rows = FeatureTower(tower)(pixels)
    pooled = pooled_by_the_tower(tower, kind, pixels)
    statistics = [f"{name}_{depth}" for depth in depths for name in ("mean", "deviation")]
    assert list(blocks) == ["embedding", *([] if pooled is None else ["pooled"]), *statistics]
    torch.testing.assert_close(blocks["embedding"], expected, atol=1e-5, rtol=1e-5)
    if pooled is not None:
        torch.testing.assert_close(blocks["pooled"], pooled, atol=1e-5, rtol=1e-5)
    for depth in depths:
        tokens = tokens_of(tower, seen(tower, layer(tower, kind, depth), pixels, "output"))
        if kind not in WITHOUT_NORM:
            tokens = normalized_by_the_textbook(tokens, None if norm is None else tower.get_submodule(norm))
        mean, deviation = statistics_by_the_textbook(tokens)
        np.testing.assert_allclose(blocks[f"mean_{depth}"], mean, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(blocks[f"deviation_{depth}"], deviation, atol=2e-5, rtol=1e-4)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, torch.cat(list(blocks.values()), dim=1))
    layout = layout_of(tower, tuple(pixels.shape[2:]), expected.shape[1], kind)
    assert layout.blocks == tuple((name, block.shape[1]) for name, block in blocks.items())


@pytest.mark.parametrize("kind", ["class_token", "resnet", "convnext"])
def test_gradients_reach_the_first_layer_through_every_block(kind):
    """Also where a feature map has one position, whose deviation is zero."""
    tower = built(kind).requires_grad_(True)
    first = next(module for module in tower.modules() if isinstance(module, nn.Conv2d))
    for name, block in FeatureTower(tower).blocks(images(kind)):
        weights = torch.randn(block.shape, generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad((weights * block).sum(), first.weight, retain_graph=True)
        is_one_position = name.startswith("deviation") and float(block.detach().abs().max()) < 2e-6
        assert gradient.isfinite().all(), name
        assert is_one_position or gradient.abs().max() > 0, name


def test_activations_that_are_computed_twice_give_the_same_gradients():
    tower, gradients = built("class_token").requires_grad_(True), []
    for twice in (False, True):
        features = FeatureTower(tower)
        features.set_grad_checkpointing(twice)
        features(images("class_token")).square().sum().backward()
        gradients.append(tower.conv1.weight.grad.clone())
        tower.zero_grad()
    torch.testing.assert_close(*gradients)


def test_compiled_it_gives_the_same_rows():
    features, pixels = FeatureTower(built("clipa")), images("clipa")
    with torch.inference_mode():
        compiled = torch.compile(features, backend="eager", fullgraph=True)(pixels)
        torch.testing.assert_close(compiled, features(pixels))


def test_statistics_are_computed_in_float32_whatever_the_layers_return():
    tower, pixels = built("class_token"), images("class_token")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        blocks = dict(FeatureTower(tower).blocks(pixels))
        tokens = seen(tower, tower.transformer.resblocks[4], pixels, "output")[:, 1:]
    assert tokens.dtype == torch.bfloat16
    assert {block.dtype for block in blocks.values()} == {torch.float32}
    mean, deviation = statistics_by_the_textbook(normalized_by_the_textbook(tokens.float(), tower.ln_post))
    np.testing.assert_allclose(blocks["mean_5"], mean, atol=1e-5)
    np.testing.assert_allclose(blocks["deviation_5"], deviation, atol=1e-5)


def test_threads_do_not_see_each_others_states():
    features, parts = FeatureTower(built("timm_vit")), images("timm_vit", 8).split(1)
    with torch.no_grad():
        expected = [features(part) for part in parts]

    def rows(part):
        with torch.no_grad():
            return [features(part) for _ in range(5)]

    for rows_of_part, row in zip(in_threads(*[lambda part=part: rows(part) for part in parts]), expected, strict=True):
        for each in rows_of_part:
            torch.testing.assert_close(each, row)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_familys_embedding_is_encode_images(kind, tmp_path):
    name = write_family(tmp_path / kind, kind)
    assert_embeds_as(open_clip.create_model(name).eval(), load_backbone(BackboneSource(name)))


@pytest.mark.parametrize("name", EMBEDDED_NAMES)
def test_the_embedded_models_are_read(name):
    backbone = load_backbone(BackboneSource(name))
    assert_embeds_as(backbone.model, backbone)
    assert backbone.feature_blocks is backbone.feature_blocks
    assert sum(name.startswith("mean") for name, _ in backbone.feature_blocks.blocks) == 4


def assert_embeds_as(model, backbone):
    pixels = torch.randn(2, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))
    layout = backbone.feature_blocks
    with torch.no_grad():
        rows = FeatureTower(backbone.image_tower(torch.device("cpu")))(pixels)
        expected = model.encode_image(pixels, normalize=False)
    assert rows.shape == (2, layout.width)
    torch.testing.assert_close(rows[:, : layout.embedding_columns.stop], expected, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------ what is refused


class Unknown(nn.Module):
    def forward(self, pixels):
        return pixels.flatten(1)[:, :24]


class Other(VisionTransformer):
    """A tower of a known family that does something else in the end."""

    def forward(self, x):
        return super().forward(x).tanh()


def other():
    tower = built("class_token")
    tower.__class__ = Other
    return tower


def without_map():
    tower = built("timm_vit")
    tower.trunk.forward_intermediates = None
    return tower


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Unknown, r"image tower, Unknown, holds .*TypeError: Unknown is of no family"),
        (other, r"image tower, Other, holds .*the embedding computed beside them differs by \d"),
        (lambda: built("class_token"), r"it does not return rows of 25 columns"),
        (without_map, r"image tower, TimmModel of VisionTransformer, holds .*TypeError"),
    ],
)
def test_a_tower_that_cannot_be_read_is_refused_with_its_name_and_the_remedy(make, message):
    size = (160, 160) if make is without_map else (32, 32)
    width = 25 if "25" in message else 24
    with pytest.raises(InvalidParameterError, match=message) as caught:
        layout_of(make(), size, width, "my-model")
    assert str(caught.value).startswith("model_name='my-model': ")
    assert "image_features='embedding' takes any tower" in str(caught.value)
