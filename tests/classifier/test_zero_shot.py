"""A model that trains nothing predicts what open_clip predicts."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from skl2rclip import L2RCLIPClassifier
from tests.support.small_models import CONFIGS


def open_clip_probabilities(name, images, sentences):
    """Zero-shot probabilities by open_clip alone."""
    model = open_clip.create_model(name).eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    pixels = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        z = model.encode_image(pixels, normalize=True)
        t = model.encode_text(open_clip.get_tokenizer(name)(sentences), normalize=True)
        return (model.logit_scale.exp() * z @ t.T).softmax(dim=1).numpy(), t.numpy()


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_zero_shot_equals_open_clip(model_names, zero_shot, shades, kind, image_tower):
    X, y = shades[0][:12], shades[1][:12]
    names = ["pitch black", "dim", "7", "light", "white"]
    classifier = zero_shot(model_name=model_names[kind], image_tower=image_tower, rank_names=names).fit(X, y)
    expected, prototypes = open_clip_probabilities(model_names[kind], X, [f"a photo of {name}" for name in names])
    np.testing.assert_allclose(classifier.prototypes_, prototypes, atol=1e-5)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=2e-5)
    assert classifier.history_ == []
    assert classifier.n_iter_ == 0


def test_zero_shot_prompt_without_context_tokens_are_the_bare_names(zero_shot, shades, tiny):
    classifier = zero_shot(prompt="", n_context_tokens=0).fit(*shades)
    expected, _ = open_clip_probabilities(tiny, shades[0], [str(k) for k in range(5)])
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), expected, atol=2e-5)


def test_zero_shot_of_a_prompt_with_the_rank_inside_equals_open_clip(zero_shot, shades, tiny, tmp_path):
    prompt = "a photo of a {} year old person"
    classifier = zero_shot(prompt=prompt, n_context_tokens=7).fit(*shades)
    expected, prototypes = open_clip_probabilities(tiny, shades[0], [prompt.format(k) for k in range(5)])
    np.testing.assert_allclose(classifier.prototypes_, prototypes, atol=1e-5)
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), expected, atol=2e-5)
    assert classifier.prompt_ == prompt
    classifier.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert loaded.prompt_ == prompt
    np.testing.assert_array_equal(loaded.predict_proba(shades[0]), classifier.predict_proba(shades[0]))
    goes_on = loaded.set_params(warm_start=True, prompt_epochs=1).fit(*shades)
    assert goes_on.prompt_ == prompt
    assert goes_on.n_iter_ == 1
