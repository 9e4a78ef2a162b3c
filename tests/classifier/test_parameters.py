"""Parameters that are set after a fit: what contradicts it, and what takes effect."""

import numpy as np
import pytest
from sklearn.base import clone

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._ordinal.decisions import read_out
from tests.support.parameters import FINETUNE


@pytest.mark.parametrize(
    ("fitted_with", "change", "message"),
    [
        (FINETUNE, {"image_tower": "precomputed"}, "image_tower='precomputed' contradicts the fitted model"),
        (FINETUNE, {"image_tower": "frozen"}, "image_tower='frozen' contradicts"),
        ({}, {"image_tower": "finetune"}, "image_tower='finetune' contradicts"),
        ({}, {"image_adapter": None}, "image_adapter=None contradicts"),
        ({}, {"ranks": [4, 3, 2, 1, 0]}, r"ranks=\[4, 3, 2, 1, 0\] contradicts"),
        ({}, {"rank_names": list("abcde")}, r"rank_names=\['a', "),
        ({"white_level": 4095}, {"white_level": 1023}, "white_level=1023.0 contradicts"),
        ({}, {"decision": "Median"}, "decision must be one of 'argmax', 'mean', 'median'.*, got 'Median'"),
        ({}, {"n_jobs": 0}, "n_jobs must be"),
    ],
)
def test_what_contradicts_the_fit_is_refused_at_prediction(fitted_classifier, shades, fitted_with, change, message):
    fitted = fitted_classifier(**fitted_with)
    expected = fitted.predict_proba(shades[0])
    before = {name: fitted.get_params()[name] for name in change}
    fitted.set_params(**change)
    for method in (fitted.predict, fitted.predict_proba, fitted.transform, fitted.predict_expectation):
        with pytest.raises(ValueError, match=message):
            method(shades[0])
    np.testing.assert_array_equal(fitted.set_params(**before).predict_proba(shades[0]), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": "Median"}, "decision must be one of 'argmax', 'mean', 'median'.*, got 'Median'"),
        ({"batch_size": "8"}, "batch_size must be"),
        ({"device": "abacus"}, "device"),
        ({"max_memory": -1}, "max_memory must be"),
        ({"image_tower": "Frozen"}, "image_tower must be one of"),
        ({"ranks": "01234"}, "ranks must be a list"),
        ({"ranks": list("01234")}, r"ranks=\['0', .* contradicts"),
        ({"rank_names": 5}, "rank_names must be a mapping"),
        ({"rank_names": str.upper}, "rank_names"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
    ],
    ids=str,
)
def test_parameters_set_after_the_fit_are_checked_whatever_is_asked(fitted_once, shades, tmp_path, change, message):
    fitted = clone(fitted_once)
    fitted.__dict__.update(vars(fitted_once))
    fitted.set_params(**change)
    X, y = shades[0][:3], shades[1][:3]
    for method in (
        fitted.predict, fitted.predict_proba, fitted.predict_log_proba, fitted.decision_function,
        fitted.predict_expectation, fitted.predict_interval, fitted.transform, lambda X: fitted.score(X, y),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            method(X)


@pytest.fixture(scope="module")
def fitted_once(tiny, shades):
    return L2RCLIPClassifier(tiny, prompt_epochs=1, n_context_tokens=4, random_state=0, device="cpu").fit(*shades)


def test_what_does_not_contradict_the_fit_takes_effect(fitted_classifier, shades, tiny):
    fitted = fitted_classifier(image_features="embedding")
    expected = fitted.predict_proba(shades[0])
    fitted.set_params(batch_size=3, n_jobs=1, ranks=[0, 1, 2, 3, 4], rank_names={k: str(k) for k in range(5)})
    np.testing.assert_allclose(fitted.predict_proba(shades[0]), expected, atol=1e-6)
    embeddings = CLIPImageEncoder(tiny, device="cpu").fit_transform(shades[0])
    fitted.set_params(image_tower="precomputed", decision="mean")
    np.testing.assert_allclose(fitted.predict_proba(embeddings), expected, atol=1e-5)
    np.testing.assert_array_equal(fitted.predict(embeddings), read_out(expected, np.arange(5.0), "mean"))
    with pytest.raises(ValueError, match="X has 5 features"):
        fitted.predict(embeddings[:, :5])


@pytest.mark.parametrize("name", ["max_epochs", "n_devices", "rankformer_heads", "grad_checkpointing"])
def test_names_of_old_are_unknown(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        L2RCLIPClassifier(**{name: 2})
    with pytest.raises(ValueError, match=f"Invalid parameter '{name}' for estimator L2RCLIPClassifier"):
        L2RCLIPClassifier().set_params(**{name: 2})


def test_as_published_is_the_papers_objective_and_predicts_the_likeliest_rank(shades, tiny):
    model = L2RCLIPClassifier.as_published(tiny, image_tower="frozen", prompt_epochs=2, random_state=0, device="cpu")
    assert (model.model_name, model.pretrained, model.prompt_epochs) == (tiny, "openai", 2)
    assert clone(model).get_params() == model.get_params()
    model.fit(*shades)
    assert (model.image_features_, model.image_adapter_, model.zero_shot_share_) == ("embedding", "linear", 0.0)
    assert not hasattr(model, "label_noise_")
    for entry in model.history_:
        assert entry["loss"] == pytest.approx(entry["contrastive"] + entry["ordering"] + entry["tightness"], rel=1e-5)
    likeliest = model.classes_[model.predict_proba(shades[0]).argmax(axis=1)]
    np.testing.assert_array_equal(model.predict(shades[0]), likeliest)


def test_as_published_trains_prompts_first_and_then_the_tower_along_with_them(shades, tiny):
    model = L2RCLIPClassifier.as_published(
        tiny, ranks=range(5), prompt_epochs=1, image_epochs=1, random_state=0, device="cpu"
    )
    model.fit(*shades)
    assert [entry["stage"] for entry in model.history_] == ["prompts", "image_tower"]
    assert "tower" in model._state.arrays
    assert model.image_learning_rate == pytest.approx(0.005 * model.learning_rate)
    with pytest.raises(TypeError, match="unexpected keyword"):
        L2RCLIPClassifier.as_published(nonsense=1)
