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


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_image_tower_is_rebuilt_from_its_configuration_alone(model_names, kind):
    backbone = load_backbone(BackboneSource(model_names[kind]))
    rebuilt = build_image_tower(BackboneRecord.of(backbone).image_config)
    rebuilt.load_state_dict(backbone.model.visual.state_dict())
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(rebuilt(images), backbone.model.encode_image(images))


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


def edited_model(folder, change):
    """A small model whose configuration has been changed."""
    name = write_model(folder, copy.deepcopy(CONFIGS["clip"]))
    file = folder / "open_clip_config.json"
    description = json.loads(file.read_text())
    change(description["model_cfg"])
    file.write_text(json.dumps(description))
    return BackboneSource(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}),
            r"tokenizer_kwargs.trust_remote",
        ),
        (lambda c: c["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": "yes"}), r"tokenizer_kwargs.trust_remo"),
        (lambda c: c["text_cfg"].update(deep=[{"auto_map": {"AutoTokenizer": "x.Y"}}]), r"text_cfg.deep.0.auto_map"),
        (lambda c: c.update(trust_remote_code=1), r"trust_remote_code in its configuration would run code"),
        (lambda c: c["text_cfg"].update(hf_model_name="someone/model"), r"text_cfg.hf_model_name='someone/model'"),
        (lambda c: c["vision_cfg"].update(timm_model_name="hf-hub:someone/model"), r"vision_cfg.timm_model_name='hf-h"),
        (lambda c: c["vision_cfg"].update(timm_model_name="local-dir:/x"), r"vision_cfg.timm_model_name='local-dir"),
        (lambda c: c["vision_cfg"].update(width=10**9), r"vision_cfg.width=1000000000 .* larger than any model"),
        (lambda c: c["text_cfg"].update(layers=10**5), r"text_cfg.layers=100000 .* larger than any model has \(1000\)"),
        (lambda c: c.update(embed_dim="24"), r"'embed_dim' in its configuration must be a whole number"),
        (lambda c: c.update(vision_cfg=[]), r"lacks a 'vision_cfg' or a 'text_cfg'"),
    ],
)
def test_configurations_that_run_code_or_reach_elsewhere_are_refused_by_name(tmp_path, change, message):
    source = edited_model(tmp_path / "m", change)
    with pytest.raises(InvalidParameterError, match=message):
        load_backbone(source)
    with pytest.raises(InvalidParameterError, match=message):
        CLIPImageEncoder(source.model_name).fit()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_tokenizer_settings_that_name_code_are_refused(tmp_path, name):
    source = BackboneSource(write_model(tmp_path / "m", CONFIGS["clip"]))
    (tmp_path / "m" / name).write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}))
    with pytest.raises(InvalidParameterError, match=rf"auto_map in .*{name} would run code that came with the model"):
        load_backbone(source)
    (tmp_path / "m" / name).write_text("[" * 100_000)
    with pytest.raises(InvalidParameterError, match="is not a configuration that can be read"):
        load_backbone(source)


def test_a_hubs_model_that_would_run_code_is_refused(tmp_path, monkeypatch):
    config = {**CONFIGS["clip"], "text_cfg": {**TEXT, "tokenizer_kwargs": {"trust_remote_code": True}}}
    file = tmp_path / "open_clip_config.json"
    file.write_text(json.dumps({"model_cfg": config}))
    monkeypatch.setattr(backbone_module, "fetch", lambda repository, names, revision: file)
    monkeypatch.setattr(backbone_module, "_hub_configs", {})
    with pytest.raises(InvalidParameterError, match="would run code that came with the model, which is never done"):
        model_config(BackboneSource("hf-hub:someone/model"))


def test_tokenizers_of_hugging_face_are_told_to_run_no_code(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name, **options: asked.append(options))
    tokenizer_of("local-dir:x", {"hf_tokenizer_name": "someone/tokenizer"})
    tokenizer_of("ViT-B-16", {})
    assert asked == [{"trust_remote_code": False}, {}]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_in_the_place_of_weights_are_not_waited_for(tmp_path):
    name = write_model(tmp_path / "m", CONFIGS["clip"])
    (tmp_path / "m" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "m" / "open_clip_model.safetensors")
    with pytest.raises(InvalidParameterError, match=r"open_clip_model.safetensors is not a regular file"):
        load_backbone(BackboneSource(name))
    with pytest.raises(InvalidParameterError, match="which is neither a tag nor an existing file"):
        model_config(BackboneSource("ViT-B-16", str(tmp_path / "m" / "open_clip_model.safetensors")))


def test_an_architecture_that_the_weights_cannot_fill_is_not_allocated(tmp_path):
    """Half a million gigabytes, if it were."""
    source = edited_model(tmp_path / "m", lambda c: c["text_cfg"].update(width=800_000, layers=20, heads=4))
    with pytest.raises(RuntimeError, match=r"describes a model of \d{12,} numbers, and the weights have"):
        load_backbone(source)


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


def test_training_a_copy_leaves_the_shared_tower_alone(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    before = fingerprint(backbone.model)
    copied = backbone.image_tower_copy(torch.device("cpu"))
    for parameter in copied.parameters():
        assert parameter.requires_grad
        parameter.data.add_(1)
    assert fingerprint(backbone.model) == before
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


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
