"""Backbones that are found, fetched and loaded, or refused by name."""

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
    check_text_config,
    load_backbone,
    model_config,
    seeded,
    unload_backbones,
)
from skl2rclip._clip.fingerprint import fingerprint
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._clip.source import BackboneSource, warn_if_random
from skl2rclip._images.preprocessing import Preprocessing, normalize
from skl2rclip.errors import InvalidParameterError, MissingBackboneError
from tests.support.small_models import CONFIGS, TEXT, write_model


def test_a_backbone_is_loaded_once(tiny, monkeypatch):
    unload_backbones()
    loads = []
    create = open_clip.create_model
    monkeypatch.setattr(
        open_clip, "create_model", lambda *args, **kwargs: loads.append(args) or create(*args, **kwargs)
    )
    first = load_backbone(BackboneSource(tiny))
    assert load_backbone(BackboneSource(tiny, None, seed=5)) is first
    assert len(loads) == 1
    unload_backbones()
    assert load_backbone(BackboneSource(tiny)) is not first
    assert len(loads) == 2


def test_a_changed_folder_is_loaded_again(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"], seed=0)
    before = load_backbone(BackboneSource(name))
    write_model(tmp_path / "m", CONFIGS["clip"], seed=1)
    after = load_backbone(BackboneSource(name))
    assert after.fingerprint != before.fingerprint


def test_weights_come_from_a_checkpoint_file(tmp_path, tiny, monkeypatch):
    """A name of open_clip's own list, with a file that an ordinary training script would write."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "tiny-clip-for-tests.json").write_text(json.dumps(CONFIGS["clip"]))
    open_clip.add_model_config(folder)
    model = load_backbone(BackboneSource(tiny)).model
    file = tmp_path / "epoch_3.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, file)
    loaded = load_backbone(BackboneSource("tiny-clip-for-tests", str(file)))
    assert loaded.fingerprint == fingerprint(model)
    assert not loaded.source.is_random
    record = BackboneRecord.of(loaded)
    file.rename(tmp_path / "moved.pt")
    unload_backbones()
    with pytest.raises(MissingBackboneError, match=r"set_params\(model_name=..., pretrained=...\)"):
        record.load()
    assert (
        record.load(BackboneSource("tiny-clip-for-tests", str(tmp_path / "moved.pt"))).fingerprint == loaded.fingerprint
    )


def test_weights_come_from_the_hub(tmp_path, tiny, monkeypatch):
    """The hub's own client, with its cache filled and no network."""
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("a" * 40)
    write_model(snapshot, CONFIGS["clip"], seed=4)
    (snapshot / "model.safetensors").rename(snapshot / "open_clip_model.safetensors")
    refs = tmp_path / "models--someone--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    from_hub = load_backbone(BackboneSource("hf-hub:someone/tiny"))
    local = load_backbone(BackboneSource(write_model(tmp_path / "local", CONFIGS["clip"], seed=4)))
    assert from_hub.fingerprint == local.fingerprint
    with pytest.raises(RuntimeError, match="'hf-hub:someone/else' could not be fetched"):
        load_backbone(BackboneSource("hf-hub:someone/else"))


def test_weights_of_a_tag_that_cannot_be_fetched_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match=r"'RN50' with pretrained='openai' could not be fetched.*checkpoint file"):
        load_backbone(BackboneSource("RN50", "openai"))


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"], weights=False)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    prints = [load_backbone(BackboneSource(name, None, seed)).fingerprint for seed in (0, 1)]
    assert torch.equal(torch.rand(3), expected)
    unload_backbones()
    assert load_backbone(BackboneSource(name, None, 0)).fingerprint == prints[0] != prints[1]
    with pytest.warns(UserWarning, match="random weights"):
        warn_if_random(BackboneSource(name, None, 0))


def test_threads_that_draw_seeded_numbers_do_not_disturb_each_other():
    def draw(seed):
        with seeded(seed):
            numbers = [torch.rand(1)]
            time.sleep(0.005)
            return torch.cat([*numbers, torch.rand(2)])

    expected = {seed: draw(seed) for seed in range(4)}
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, [0, 1, 2, 3] * 5))
    assert all(torch.equal(numbers, expected[i % 4]) for i, numbers in enumerate(drawn))


def test_random_backbones_do_not_pile_up(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"], weights=False)
    unload_backbones()
    for seed in range(10):
        load_backbone(BackboneSource(name, None, seed))
    assert len(backbone_module._loaded) == backbone_module._MAX_RANDOM_BACKBONES


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (("ViT-B16", "openai"), r"model_name must be .* got 'ViT-B16'; did you mean .*'ViT-B-16'"),
        (("ViT-B-16", "openay"), r"pretrained must be a tag of ViT-B-16 \('openai', .* got 'openay'"),
        (("local-dir:/no/such/folder", None), r"no file open_clip_config.json in the folder '/no/such/folder'"),
    ],
)
def test_unknown_models_are_refused(source, message):
    with pytest.raises(InvalidParameterError, match=message):
        model_config(BackboneSource(*source))


def test_a_folder_without_weights_needs_pretrained_none(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"], weights=False)
    with pytest.raises(InvalidParameterError, match="holds no weights"):
        model_config(BackboneSource(name, "openai"))
    (tmp_path / "m" / "open_clip_config.json").write_text("{}")
    with pytest.raises(InvalidParameterError, match="not an open_clip configuration"):
        model_config(BackboneSource(name))


def test_damaged_weights_are_named(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"])
    (tmp_path / "m" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RuntimeError, match="do not load into this architecture, or are damaged"):
        load_backbone(BackboneSource(name))


def test_every_model_of_open_clip_is_accepted():
    for model_name in open_clip.list_models():
        source = BackboneSource(model_name)
        check_text_config(source, model_config(source))


def test_quick_gelu_of_a_tag_is_part_of_the_configuration():
    assert model_config(BackboneSource("ViT-B-16", "openai"))["quick_gelu"]
    assert not model_config(BackboneSource("ViT-B-16", "laion2b_s34b_b88k"))["quick_gelu"]


@pytest.mark.parametrize(
    "preprocess",
    [
        {"mean": [0.5] * 3, "std": [0.3] * 3},
        {"mean": [0.5] * 3, "std": [0.3] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
        {"mean": [0.5] * 3, "std": [0.3] * 3, "resize_mode": "longest", "fill_color": 128},
    ],
)
@pytest.mark.parametrize("shape", [(40, 90), (90, 41), (32, 32), (20, 300)])
def test_a_models_preprocessing_equals_the_transform_that_open_clip_makes_for_it(tmp_path, preprocess, shape):
    name = write_model(tmp_path / "m", CONFIGS["clip"], preprocess=preprocess)
    backbone = load_backbone(BackboneSource(name))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8))
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**backbone.model.visual.preprocess_cfg), is_train=False
    )
    pixels = torch.from_numpy(np.array(backbone.preprocessing.resizer()(image)))[None]
    actual = normalize(pixels, backbone.preprocessing)[0]
    torch.testing.assert_close(actual, transform(image), atol=1e-5, rtol=0)
    config = json.loads(json.dumps(backbone.preprocessing.to_config()))
    assert Preprocessing.from_config(config) == backbone.preprocessing


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_in_the_place_of_weights_are_not_waited_for(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"])
    (tmp_path / "m" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "m" / "open_clip_model.safetensors")
    with pytest.raises(InvalidParameterError, match=r"open_clip_model.safetensors is not a regular file"):
        load_backbone(BackboneSource(name))
    with pytest.raises(InvalidParameterError, match="which is neither a tag nor an existing file"):
        model_config(BackboneSource("ViT-B-16", str(tmp_path / "m" / "open_clip_model.safetensors")))


def test_weights_that_hold_code_are_refused(tmp_path):
    """A pickle that would make a file when it is read."""
    name = write_model(tmp_path / "m", CONFIGS["clip"])
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({"state_dict": Harmful(str(tmp_path / "harm")), "filling": torch.zeros(10**6)}, tmp_path / "m" / "m.pth")
    with pytest.raises(RuntimeError, match="do not load into this architecture, or are damaged"):
        load_backbone(BackboneSource(name))
    assert not (tmp_path / "harm").exists()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_model_whose_text_tower_is_of_no_use_still_embeds_images(tmp_path, shades, make_classifier):
    X, y = shades[0][:10], shades[1][:10]
    config = {**CONFIGS["clip"], "custom_text": True, "text_cfg": {**TEXT, "pool_type": "first"}}
    name = write_model(tmp_path / "m", config)
    unload_backbones()
    with pytest.raises(InvalidParameterError, match=r"model_name='local-dir:.* cannot be used: .*sees no word"):
        make_classifier(model_name=name).fit(X, y)
    assert not backbone_module._loaded  # refused before weights are loaded
    model = open_clip.create_model(name).eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    with torch.no_grad():
        expected = model.encode_image(torch.stack([transform(Image.fromarray(image)) for image in X]), normalize=True)
    actual = CLIPImageEncoder(name, device="cpu").fit().transform(X)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)
