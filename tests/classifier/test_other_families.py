"""Models whose text tower is not CLIP's, from zero shots to the saved folder."""

import dataclasses
import importlib.util
import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone, unload_backbones
from skl2rclip.errors import InvalidParameterError


@pytest.mark.parametrize("kind", ["siglip", "siglip2", "clipa", "mobileclip", "coca", "roberta"])
def test_zero_shot_equals_open_clip_in_other_families(family_sources, zero_shot, shades, kind):
    """The bias of a sigmoid model is the same for all ranks, so that the softmax over them does not see it."""
    source, names = family_sources(kind), ["very old", "old", "7", "excellent", "aged"]
    model = open_clip.create_model(source.model_name, pretrained=source.pretrained, pretrained_text=False).eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    fitted = zero_shot(
        model_name=source.model_name,
        pretrained=source.pretrained,
        rank_names=names,
        prompt="photo of the",
        n_context_tokens=len(load_backbone(source).tokenizer().words("photo of the")),
    ).fit(*shades)
    with torch.no_grad():
        z = model.encode_image(torch.stack([transform(Image.fromarray(image)) for image in shades[0]]), normalize=True)
        t = model.encode_text(
            open_clip.get_tokenizer(source.model_name)([f"photo of the {name}" for name in names]), normalize=True
        )
        logits = model.logit_scale.exp() * z @ t.T + (0 if model.logit_bias is None else model.logit_bias)
    assert (model.logit_bias is not None) == kind.startswith("siglip")
    np.testing.assert_allclose(fitted.predict_proba(shades[0]), logits.softmax(dim=1).numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", ["siglip", "coca", "xlm_roberta"])
@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_other_families_train_are_saved_pickled_and_train_on(
    family_sources, make_classifier, shades, tmp_path, kind, image_tower
):
    source = family_sources(kind)
    settings = {"model_name": source.model_name, "pretrained": source.pretrained, "image_tower": image_tower}
    fitted = make_classifier(**settings, image_epochs=1).fit(*shades)
    expected = fitted.predict_proba(shades[0])
    untrained = make_classifier(**settings, prompt_epochs=0, image_epochs=0).fit(*shades)
    assert np.abs(fitted.prototypes_ - untrained.prototypes_).max() > 1e-3
    fitted.save(tmp_path / "model")
    for copied in (L2RCLIPClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(copied.predict_proba(shades[0]), expected, atol=1e-6)
        copied.partial_fit(*shades)
        fitted_on = copied.predict_proba(shades[0])
        assert np.abs(fitted_on - expected).max() > 1e-6
    np.testing.assert_allclose(fitted.partial_fit(*shades).predict_proba(shades[0]), fitted_on, atol=1e-5)


def test_a_backbone_that_is_not_causal_goes_into_the_folder_with_its_tokenizer(
    family_sources, make_classifier, shades, tmp_path
):
    fitted = make_classifier(model_name=family_sources("siglip2").model_name).fit(*shades)
    fitted.save(tmp_path / "model", include_backbone=True)
    unload_backbones()
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(shades[0]), fitted.predict_proba(shades[0]), atol=1e-6)
    inside = f"local-dir:{tmp_path / 'model' / 'backbone'}"
    again = make_classifier(model_name=inside).fit(*shades)
    np.testing.assert_allclose(again.prototypes_, fitted.prototypes_, atol=1e-6)


def test_a_backbone_with_a_hugging_face_text_tower_does_not_go_into_the_folder(
    family_sources, make_classifier, shades, tmp_path
):
    source = family_sources("bert")
    fitted = make_classifier(model_name=source.model_name, pretrained=source.pretrained).fit(*shades)
    with pytest.raises(InvalidParameterError, match=r"which a folder cannot hold. Save without it"):
        fitted.save(tmp_path / "model", include_backbone=True)
    assert not (tmp_path / "model").exists()


def test_ranks_of_a_hugging_face_tower_must_be_tokens_that_it_knows(family_sources, make_classifier, shades):
    source = family_sources("bert")
    fitted = make_classifier(model_name=source.model_name, pretrained=source.pretrained).fit(*shades)
    fitted._state = dataclasses.replace(
        fitted._state, tokens=dataclasses.replace(fitted._state.tokens, start=(9_999_999,))
    )
    with pytest.raises(ValueError, match="hold the token 9999999, and the text tower of its backbone knows 400"):
        fitted.partial_fit(*shades)


def test_a_prompt_longer_than_a_short_context_names_it(family_sources, make_classifier, shades):
    with pytest.raises(InvalidParameterError, match=r"\+ 1 end of text, but the text tower takes at most 20; lower"):
        make_classifier(model_name=family_sources("siglip").model_name, n_context_tokens=19).fit(*shades)


def test_a_missing_tokenizer_library_is_named_before_images_are_looked_at(family_sources, make_classifier, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(InvalidParameterError, match=r"pip install 'skl2rclip\[transformers\]'"):
        make_classifier(model_name="ViT-B-16-SigLIP", pretrained="webli").fit(["absent.jpg"] * 10, [0, 1] * 5)
