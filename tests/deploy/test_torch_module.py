"""A fitted model as a module, against what the classifier itself predicts."""

import copy
import io
import json

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, input_pixels
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._embedding.encoding import rounded
from skl2rclip.errors import InvalidParameterError
from tests.deploy.conftest import MODELS


def module_and_pixels(fitted, X):
    module = fitted.to_torch()
    return module, torch.from_numpy(input_pixels(X, module))


@pytest.mark.parametrize("name", MODELS)
def test_a_module_predicts_as_the_classifier(fitted_model, photos, name):
    fitted = fitted_model(name)
    module, pixels = module_and_pixels(fitted, photos[0])
    expected = fitted.predict_proba(photos[0])
    assert np.ptp(expected, axis=0).max() > 1e-3  # it tells images apart
    for images in (pixels, pixels.float()):
        np.testing.assert_allclose(module(images).numpy(), expected, atol=1e-5)
    assert module.classes == fitted.classes_.tolist()
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_models_are_what_they_are_called(fitted_model):
    assert fitted_model("tower_features").image_features_ == "tower"
    assert fitted_model("tower_features").zero_shot_share_ == 0.4
    assert fitted_model("embedding").image_adapter_ == "mlp"
    assert "tower" in fitted_model("finetuned")._state.arrays
    assert fitted_model("without_adapter").classes_.tolist() != fitted_model("without_adapter").ranks_.tolist()


@pytest.mark.parametrize("name", ["frozen", "finetuned"])
def test_a_loaded_model_becomes_the_same_module(fitted_model, photos, tmp_path, name):
    module, pixels = module_and_pixels(fitted_model(name), photos[0][:3])
    fitted_model(name).save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model").to_torch()
    assert torch.equal(loaded(pixels), module(pixels))
    assert loaded.description == module.description


def test_words_alone_become_a_module(fitted_model, photos):
    words = L2RCLIPClassifier(fitted_model("embedding").model_name, ranks=[1, 2, 3]).fit_zero_shot()
    module, pixels = module_and_pixels(words, photos[0])
    np.testing.assert_allclose(module(pixels).numpy(), words.predict_proba(photos[0]), atol=1e-5)


def test_mirror_is_what_it_is_now(fitted_model, photos):
    fitted = copy.deepcopy(fitted_model("frozen"))
    mirrored, pixels = module_and_pixels(fitted, photos[0][:4])
    plain = fitted.set_params(mirror=False).to_torch()
    mean = (plain(pixels) + plain(pixels.flip(2))) / 2
    torch.testing.assert_close(mirrored(pixels), mean, atol=1e-6, rtol=0)
    assert (plain(pixels) - mean).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["frozen", "embedding", "resnet"])
def test_gradients_are_those_of_finite_differences(fitted_model, photos, name):
    module, pixels = module_and_pixels(fitted_model(name), photos[0][:1])
    module = module.double()
    images = pixels.double().requires_grad_()
    # rounding to half precision, which predictions do, has no derivative; what it stands for has
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skl2rclip._deploy.torch_module.rounded", lambda features: features)
        module(images)[0, 0].backward()
        slope = images.grad.norm()
        with torch.no_grad():
            step = images.grad / slope
            difference = (module(images + step) - module(images - step))[0, 0] / 2
    assert slope > 1e-7
    torch.testing.assert_close(difference, slope, rtol=0.05, atol=0)


def test_gradients_do_not_pass_half_precision(fitted_model, photos):
    fitted = fitted_model("tower_features")
    with torch.inference_mode():
        module = fitted.to_torch()
    pixels = torch.from_numpy(input_pixels(photos[0][:2], module))
    images = pixels.float().requires_grad_()
    (1e-9 * module(images)[:, 0]).sum().backward()
    assert images.grad.abs().max() > 0
    torch.testing.assert_close(module(images).detach(), module(pixels), atol=1e-6, rtol=0)


def test_a_module_is_its_own(fitted_model, photos):
    fitted = fitted_model("embedding")
    before = fitted.predict_proba(photos[0])
    module = fitted.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    fitted._state._towers.clear()
    np.testing.assert_array_equal(fitted.predict_proba(photos[0]), before)
    assert load_backbone(BackboneSource(fitted.model_name, "openai")).model.visual.conv1.weight.abs().max() > 0


def test_a_module_is_stored_as_any_other(fitted_model, photos):
    module, pixels = module_and_pixels(fitted_model("frozen"), photos[0][:2])
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(pixels), module(pixels))
    assert json.loads(json.dumps(again.description)) == module.description
    assert torch.equal(copy.deepcopy(module)(pixels), module(pixels))


def test_a_description_holds_no_folder_of_this_machine(fitted_model):
    fitted = fitted_model("frozen")
    described = json.dumps(fitted.to_torch().description)
    assert "local-dir:one_layer" in described
    assert fitted.model_name.removeprefix("local-dir:") not in described


# ---------------------------------------------------------------- of a table


@pytest.mark.parametrize("features", ["embedding", "both"])
def test_a_model_of_a_table_is_its_head_alone(fitted_model, photos, features):
    X, y = photos
    name = fitted_model("embedding").model_name
    table = CLIPImageEncoder(name, image_features=features, device="cpu").fit_transform(X)
    how = {"image_tower": "precomputed", "image_features": features, "prompt_epochs": 2, "random_state": 0}
    fitted = L2RCLIPClassifier(name, **how).fit(3 * table, y)
    module = fitted.to_torch()
    np.testing.assert_allclose(module(torch.tensor(3 * table)).numpy(), fitted.predict_proba(3 * table), atol=1e-5)
    with pytest.raises(InvalidParameterError, match="TableModule, which takes rows of a table"):
        input_pixels(X, module)
    of_images = fitted.set_params(image_tower="frozen")
    if features == "embedding":  # a plain table of embeddings, or one that says what it is of
        module, pixels = module_and_pixels(of_images, X)
        np.testing.assert_allclose(module(pixels).numpy(), of_images.predict_proba(X), atol=1e-5)


def test_columns_of_a_table_are_in_the_order_of_the_fit(fitted_model, photos):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    columns = ["a__0", "b__0", "a__1", "b__1"]
    table = pandas.DataFrame(rng.normal(size=(20, 4)), columns=columns)
    how = {"image_tower": "precomputed", "prompt_epochs": 2, "random_state": 0}
    fitted = L2RCLIPClassifier(fitted_model("embedding").model_name, **how).fit(table, photos[1])
    module = fitted.to_torch()
    rows = torch.tensor(table.to_numpy(np.float32))
    np.testing.assert_allclose(module(rows).numpy(), fitted.predict_proba(table), atol=1e-5)
    assert module.description["columns"] == columns
    with pytest.raises(ValueError, match="was fitted on a table of 4 columns, of the blocks 'a', 'b'"):
        fitted.set_params(image_tower="frozen").to_torch()


# --------------------------------------------------------------- what is wrong


def test_what_contradicts_the_fit_is_refused(fitted_model):
    with pytest.raises(NotFittedError):
        L2RCLIPClassifier().to_torch()
    changed = copy.deepcopy(fitted_model("embedding")).set_params(image_features="tower")
    with pytest.raises(InvalidParameterError, match="contradicts the fitted model"):
        changed.to_torch()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((1, 32, 32, 3), np.uint8), TypeError, "torch.from_numpy"),
        (torch.zeros(1, 32, 32, 3, dtype=torch.int64), TypeError, "uint8, or floating from 0 to 255, got torch.int64"),
        (torch.zeros(1, 3, 32, 32), ValueError, r"\(n, 32, 32, 3\), channels last, got \(1, 3, 32, 32\)"),
        (torch.zeros(32, 32, 3), ValueError, "input_pixels"),
        (torch.zeros(1, 64, 64, 3, dtype=torch.uint8), ValueError, "input_pixels"),
    ],
)
def test_images_of_another_form_are_refused(fitted_model, images, error, message):
    with pytest.raises(error, match=message):
        fitted_model("embedding").to_torch()(images)


@pytest.mark.parametrize("name", MODELS)
def test_no_images_have_no_probabilities(fitted_model, name):
    module = fitted_model(name).to_torch()
    assert module(torch.zeros(0, *module.size, 3, dtype=torch.uint8)).shape == (0, len(module.classes))
    images = torch.zeros(0, *module.size, 3, requires_grad=True)
    module(images).sum().backward()
    assert images.grad.shape == images.shape


def test_rounding_is_that_of_predictions(fitted_model, photos):
    """Without it features would differ in the fourth digit."""
    module, pixels = module_and_pixels(fitted_model("tower_features"), photos[0][:2])
    features = module.rows(pixels.float())[:, module.embedding_width :]
    assert torch.equal(features, rounded(features))
