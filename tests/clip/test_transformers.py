"""Text towers of Hugging Face: what is asked before anything of them is loaded."""

import importlib.util
import json
from pathlib import Path

import open_clip
import pytest
from transformers import GPT2Config

from skl2rclip._clip import backbone as backbone_module
from skl2rclip._clip.backbone import load_backbone, model_config, unload_backbones
from skl2rclip._clip.source import BackboneSource
from skl2rclip.errors import InvalidParameterError
from tests.support.small_models import CONFIGS


@pytest.fixture
def registered(tmp_path, family_sources):
    """Make open_clip know the small RoBERTa model under another name, its tower's description changed."""

    def register(name, **changes):
        config = open_clip.get_model_config(family_sources("roberta").model_name)
        folder = tmp_path / name
        folder.mkdir()
        description = json.loads(Path(config["text_cfg"]["hf_model_name"], "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**description, **changes}))
        config["text_cfg"]["hf_model_name"] = str(folder)
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / f"{name}.json")
        return name

    return register


def test_a_tower_that_would_run_code_of_its_own_is_refused_before_anyone_is_asked(registered, tmp_path):
    """transformers would ask at the terminal."""
    name = registered("with-code", auto_map={"AutoConfig": "harm.Config", "AutoModel": "harm.Model"}, model_type="mine")
    (tmp_path / name / "harm.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')")
    unload_backbones()
    with pytest.raises(InvalidParameterError, match=r"would run code that came with the model \(auto_map\)"):
        load_backbone(BackboneSource(name))
    assert not backbone_module._loaded
    assert not (tmp_path / "harm").exists()


def test_an_architecture_that_open_clip_does_not_build_is_named(registered):
    name = registered("another", **GPT2Config().to_dict())
    with pytest.raises(InvalidParameterError, match=r"is of the type 'gpt2', of which open_clip builds no text tower"):
        load_backbone(BackboneSource(name))


def test_a_missing_library_is_named_with_the_extra(family_sources, monkeypatch):
    source = family_sources("bert")
    unload_backbones()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(InvalidParameterError, match=r"needs transformers, .* pip install 'skl2rclip\[transformers\]'"):
        load_backbone(source)


def test_random_weights_are_random_and_fetch_nothing(family_sources):
    """The folder of the small tower has a description and no weights, which transformers would look for."""
    name = family_sources("xlm_roberta").model_name
    prints = [load_backbone(BackboneSource(name, None, seed)).fingerprint for seed in (0, 1)]
    assert prints[0] != prints[1]
    unload_backbones()
    assert load_backbone(BackboneSource(name, None, 0)).fingerprint == prints[0]


def test_a_folder_with_a_tower_from_elsewhere_is_refused(tmp_path):
    config = {**CONFIGS["clip"], "text_cfg": {"hf_model_name": "someone/model"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(InvalidParameterError, match=r"text_cfg.hf_model_name='someone/model' .* is a model of a hub"):
        model_config(BackboneSource(f"local-dir:{tmp_path}"))
