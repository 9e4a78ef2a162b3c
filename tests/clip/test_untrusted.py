"""What a model, or a saved folder, may ask for: nothing that runs code or reaches elsewhere."""

import copy
import json
import os

import fault_saves
import huggingface_hub
import numpy as np
import open_clip
import pytest
from sklearn.base import clone

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip import backbone as backbone_module
from skl2rclip._clip.backbone import (
    load_backbone,
    model_config,
    unload_backbones,
)
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.tokenizer import tokenizer_of
from skl2rclip.errors import InvalidParameterError, MissingBackboneError
from tests.support.small_models import CONFIGS, TEXT, write_model


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


def test_an_architecture_that_the_weights_cannot_fill_is_not_allocated(tmp_path):
    """Half a million gigabytes, if it were."""
    source = edited_model(tmp_path / "m", lambda c: c["text_cfg"].update(width=800_000, layers=20, heads=4))
    with pytest.raises(RuntimeError, match=r"describes a model of \d{12,} numbers, and the weights have"):
        load_backbone(source)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A classifier of a hub's model, the hub's cache, and a hub that must not be asked."""
    cache = tmp_path / "hub"
    snapshot = cache / "models--someone--tiny" / "snapshots" / ("a" * 40)
    write_model(snapshot, CONFIGS["clip"], seed=4)
    (snapshot / "model.safetensors").rename(snapshot / "open_clip_model.safetensors")
    (cache / "models--someone--tiny" / "refs").mkdir()
    (cache / "models--someone--tiny" / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    unload_backbones()
    return cache


def test_a_model_of_a_hub_is_used_from_the_cache_or_named_by_the_caller(
    hub, make_classifier, shades, tmp_path, monkeypatch
):
    X, y = shades
    classifier = make_classifier(model_name="hf-hub:someone/tiny", prompt_epochs=1).fit(X, y)
    expected = classifier.predict_proba(X)
    classifier.save(tmp_path / "model")
    unload_backbones()

    def refuse(*args, **kwargs):
        raise AssertionError("the hub was asked")

    with monkeypatch.context() as patch:
        patch.setattr("open_clip.pretrained.hf_hub_download", refuse)
        patch.setattr("skl2rclip._clip.hub.hf_hub_download", refuse)
        loaded = L2RCLIPClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)
        assert clone(loaded).fit(X, y).predict(X).shape == y.shape
        hub.rename(tmp_path / "gone")
        unload_backbones()
        with pytest.raises(
            MissingBackboneError, match=r"not in this machine's cache.*load\('.*model', model_name='hf-hub:s"
        ):
            L2RCLIPClassifier.load(tmp_path / "model")
        with pytest.raises(MissingBackboneError, match="nothing is fetched"):
            loaded.fit(X, y)
    named = L2RCLIPClassifier.load(tmp_path / "model", model_name="hf-hub:someone/tiny")
    (tmp_path / "gone").rename(hub)  # stands for the fetch
    np.testing.assert_array_equal(named.predict_proba(X), expected)


def test_other_weights_under_the_same_address_are_refused(hub, make_classifier, shades, tmp_path):
    X, y = shades
    make_classifier(model_name="hf-hub:someone/tiny", prompt_epochs=1).fit(X, y).save(tmp_path / "model")
    snapshot = next((hub / "models--someone--tiny" / "snapshots").iterdir())
    write_model(snapshot, CONFIGS["clip"], seed=5)
    (snapshot / "model.safetensors").replace(snapshot / "open_clip_model.safetensors")
    unload_backbones()
    with pytest.raises(MissingBackboneError, match="not the one that the model was fitted with"):
        L2RCLIPClassifier.load(tmp_path / "model").predict(X)


def test_a_model_that_needs_no_tower_loads_without_the_hub(hub, make_classifier, shades, tmp_path):
    X, y = shades
    for image_tower, data in (("finetune", X), ("precomputed", np.random.default_rng(0).normal(size=(len(y), 24)))):
        classifier = make_classifier(model_name="hf-hub:someone/tiny", image_tower=image_tower, prompt_epochs=1)
        classifier.fit(data, y).save(tmp_path / image_tower)
    hub.rename(tmp_path / "gone")
    unload_backbones()
    for image_tower in ("finetune", "precomputed"):
        loaded = L2RCLIPClassifier.load(tmp_path / image_tower)
        assert image_tower == "precomputed" or loaded.predict(X).shape == y.shape


def test_a_place_on_the_network_is_not_looked_at(fitted_classifier, tmp_path):
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    for place in (r"local-dir:\\evil\share\model", "local-dir://evil/share/model"):
        description["state"]["record"]["source"]["model_name"] = place
        fault_saves.write_description(tmp_path / "model", description)
        with pytest.raises(MissingBackboneError, match="a place on the network"):
            L2RCLIPClassifier.load(tmp_path / "model")


def test_a_backbone_inside_the_folder_runs_no_code(fitted_classifier, shades, tmp_path):
    X = shades[0]
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model", include_backbone=True)
    file = tmp_path / "model" / "backbone" / "open_clip_config.json"
    description = json.loads(file.read_text())
    description["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    file.write_text(json.dumps(description))
    unload_backbones()
    with pytest.raises(MissingBackboneError, match=r"text_cfg.tokenizer_kwargs.trust_remote_code .* would run code"):
        L2RCLIPClassifier.load(tmp_path / "model").predict(X)


def test_a_strangers_backbone_does_not_pass_for_another(fitted_classifier, shades, tmp_path):
    """The weights are the same; what is done to the pixels, or the architecture around the weights, is not."""
    X = shades[0]
    classifier = fitted_classifier(prompt_epochs=1)
    changes = [
        lambda d: d["preprocess_cfg"].update(mean=[0.9, 0.1, 0.5]),
        lambda d: d["model_cfg"]["vision_cfg"].update(pool_type="avg"),
    ]
    for change in changes:
        classifier.save(tmp_path / "model", include_backbone=True)
        file = tmp_path / "model" / "backbone" / "open_clip_config.json"
        description = json.loads(file.read_text())
        change(description)
        file.write_text(json.dumps(description))
        unload_backbones()
        with pytest.raises(MissingBackboneError, match="its configuration is another"):
            L2RCLIPClassifier.load(tmp_path / "model").predict(X)
        file.write_text("{}")
        (tmp_path / "model" / "model.json").unlink()
        for left in ("backbone", "model.safetensors"):
            os.rename(tmp_path / "model" / left, tmp_path / f"{left}-{len(os.listdir(tmp_path))}")


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ("hf-hub:evil/model", {"model_name": "skl2rclip-tiny"}),
        ("hf-hub:evil/model", {"model_name": "local-dir:{tiny}"}),
        ("local-dir://srv/share", {"model_name": "local-dir:{tiny}"}),
    ],
)
def test_what_the_caller_names_is_what_is_loaded(tiny, fitted_classifier, shades, tmp_path, recorded, named):
    X, y = shades
    folder = tiny.removeprefix("local-dir:")
    named = {key: value.format(tiny=folder) for key, value in named.items()}
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    description["state"]["record"]["source"].update(model_name=recorded, pretrained=None)
    description["state"]["asked_for"] = [named["model_name"], description["params"]["pretrained"]]
    description["params"]["model_name"] = named["model_name"]
    fault_saves.write_description(tmp_path / "model", description)
    loaded = L2RCLIPClassifier.load(tmp_path / "model", **named)
    if "tiny" in named["model_name"] and "local-dir" not in named["model_name"]:
        with pytest.raises(MissingBackboneError, match="not the one that the model was fitted with"):
            loaded.predict(X)
    else:
        assert loaded.predict(X).shape == y.shape


def test_a_trained_tower_of_a_hubs_architecture_is_refused_without_asking_the_hub(make_classifier, shades, tmp_path):
    make_classifier(image_tower="finetune", prompt_epochs=1, image_epochs=1).fit(*shades).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    config = description["state"]["record"]["image_config"]
    before = dict(config["vision_cfg"])
    for change, message in (
        ({"timm_model_name": "hf-hub:evil/m"}, "vision_cfg.timm_model_name='hf-hub:evil/m' .* a model of a hub"),
        ({"image_size": 20_000, "patch_size": 1}, "image_size=20000 in patches of 1 .* more than any model takes"),
        ({"layers": 10**5}, "vision_cfg.layers=100000"),
        ({"nonsense": 1}, "state.record.image_config describes no image tower"),
    ):
        config["vision_cfg"] = {**before, **change}
        fault_saves.write_description(tmp_path / "model", description)
        with pytest.raises(ValueError, match=message):
            L2RCLIPClassifier.load(tmp_path / "model")
