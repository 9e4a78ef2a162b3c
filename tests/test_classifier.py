import copy
import dataclasses
import gc
import importlib.util
import inspect
import os
import pickle
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone, unload_backbones
from skl2rclip._clip.fingerprint import fingerprint
from skl2rclip._clip.source import BackboneSource
from skl2rclip._ordinal.ranks import expected_value, read_out
from skl2rclip._training.candidates import split_off_validation
from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import InvalidParameterError, NonFiniteLossError, UnreadableImagesError
from skl2rclip.metrics import mean_absolute_rank_error, ordinality
from tests.support.small_images import shaded_images
from tests.support.small_models import CONFIGS, write_model


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


# ------------------------------------------------------------ nothing trained


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


# ------------------------------------------------------------------- training


# without an adapter the second stage is not rehearsed: all its epochs count
ALL_OF_IT = {"image_tower": "finetune", "image_adapter": None}


def test_training_learns_what_is_plain_to_see(make_classifier, shades):
    X, y = shades
    unseen, truth = shaded_images(np.arange(5).repeat(6), seed=9), np.arange(5).repeat(6)
    for parameters in (
        {"image_tower": "frozen", "prompt_epochs": "auto"},
        {"image_tower": "frozen", "prompt_epochs": 120, "learning_rate": 1e-2, "rank_targets": "hard"},
        ALL_OF_IT | {"prompt_epochs": 0, "image_epochs": 40, "image_learning_rate": 2e-3},
    ):
        classifier = make_classifier(**parameters).fit(X, y)
        assert mean_absolute_rank_error(truth, classifier.predict(unseen)) < 0.5  # the best constant: 1.2
        assert min(record["loss"] for record in classifier.history_[1:]) < classifier.history_[0]["loss"]


def test_history_holds_each_term_and_their_weighted_sum(make_classifier, shades):
    weights = {"contrastive_weight": 0.7, "pairwise_weight": 2.0, "tightness_weight": 0.3}
    classifier = make_classifier(**ALL_OF_IT, prompt_epochs=2, image_epochs=1, **weights).fit(*shades)
    assert [record["stage"] for record in classifier.history_] == ["prompts", "prompts", "image_tower"]
    assert [record["epoch"] for record in classifier.history_] == [1, 2, 3]
    for record in classifier.history_:
        total = 0.7 * record["contrastive"] + 2.0 * record["ordering"] + 0.3 * record["tightness"]
        assert record["loss"] == pytest.approx(total, rel=1e-4)
        assert record["ordering"] < 0 < record["tightness"]
    assert classifier.n_iter_ == 3
    assert [record["learning_rate"] for record in classifier.history_] == pytest.approx([3e-4, 1.5e-4, 3e-4])


def test_fine_tuning_leaves_the_shared_backbone_alone(make_classifier, shades, tiny):
    backbone = load_backbone(BackboneSource(tiny))
    before = fingerprint(backbone.model)
    classifier = make_classifier(**ALL_OF_IT, image_epochs=1, image_learning_rate=1e-2).fit(*shades)
    assert fingerprint(backbone.model) == before
    assert not np.allclose(
        classifier.transform(shades[0]), CLIPImageEncoder(tiny).fit().transform(shades[0]), atol=1e-2
    )


BASE = {"prompt": "a photo of", "prompt_epochs": 2}
FINETUNE = {**ALL_OF_IT, "image_epochs": 1, "prompt_epochs": 0, "image_learning_rate": 1e-3}
CHANGES = [
    ({**BASE, "image_adapter": None}, {"image_tower": "finetune", "image_epochs": 1}),
    (BASE, {"image_adapter": None}),
    (BASE, {"image_adapter": "linear"}),
    (BASE, {"rank_targets": "hard"}),
    (BASE, {"text_ordering_weight": 0.5}),
    (BASE, {"rank_names": ["a", "b", "c", "d", "e"]}),
    (BASE, {"prompt": "a photo in"}),
    (BASE, {"n_context_tokens": 3}),
    (BASE, {"rank_position": "front"}),
    (BASE, {"rank_position": "middle"}),
    (BASE, {"tune_ranks": False}),
    (BASE, {"rankformer_layers": 0}),
    (BASE, {"rankformer_layers": 2}),
    (BASE, {"blend_ratio": 0.5}),
    (BASE, {"contrastive_weight": 0.0}),
    (BASE, {"pairwise_weight": 0.0}),
    (BASE, {"tightness_weight": 0.0}),
    (BASE, {"class_weight": {0: 3.0}}),
    (BASE, {"prompt_epochs": 3}),
    (BASE, {"batch_size": 7}),
    (BASE, {"learning_rate": 2e-3}),
    (BASE, {"weight_decay": 0.5}),
    (BASE, {"early_stopping": True}),
    (BASE, {"precision": "bfloat16"}),
    (BASE, {"random_state": 1}),
    (BASE, {"model_name": "custom_text"}),
    (FINETUNE, {"image_epochs": 2}),
    (FINETUNE, {"image_learning_rate": 2e-3}),
    (FINETUNE, {"augment": False}),
    (FINETUNE, {"weight_decay": 0.5}),
    ({**BASE, "early_stopping": True}, {"validation_fraction": 0.5}),
]


@pytest.mark.parametrize(("base", "change"), CHANGES, ids=lambda value: "-".join(map(str, value)))
def test_every_parameter_of_the_training_counts(make_classifier, model_names, shades, base, change):
    change = {**change, **({"model_name": model_names[change["model_name"]]} if "model_name" in change else {})}
    plain = make_classifier(**base).fit(*shades)
    changed = make_classifier(**{**base, **change}).fit(*shades)
    assert not np.array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))


@pytest.mark.parametrize("base", [BASE, FINETUNE])
@pytest.mark.parametrize("change", [{"n_jobs": 1}, {"max_memory": 1000}, {"max_memory": "1KB"}, {"verbose": 1}])
def test_parameters_of_the_running_change_no_result(make_classifier, shades, base, change):
    plain = make_classifier(**base).fit(*shades)
    changed = make_classifier(**{**base, **change}).fit(*shades)
    np.testing.assert_array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_one_seed_gives_one_model_and_global_generators_stay(make_classifier, shades, image_tower):
    np.random.seed(3)  # noqa: NPY002  the point of the test
    torch.manual_seed(3)
    expected = np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    fits = [make_classifier(image_tower=image_tower, batch_size=16).fit(*shades) for _ in range(2)]
    assert (np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    np.testing.assert_array_equal(fits[0].prototypes_, fits[1].prototypes_)
    np.testing.assert_array_equal(fits[0].predict_proba(shades[0]), fits[1].predict_proba(shades[0]))
    assert fits[0].history_ == fits[1].history_


def test_random_state_objects_seed_too(make_classifier, shades):
    seeds = [np.random.RandomState(5) for _ in range(2)]
    first, second = (make_classifier(random_state=seed).fit(*shades) for seed in seeds)
    np.testing.assert_array_equal(first.prototypes_, second.prototypes_)
    again = make_classifier(random_state=seeds[0]).fit(*shades)  # the generator has moved on
    assert not np.array_equal(first.prototypes_, again.prototypes_)


def test_compiled_tower_predicts_the_same(make_classifier, shades, monkeypatch):
    compiled = []
    # the compiler itself takes half a minute and a C++ toolchain: what is tested is where it is asked for
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiled.append(module) or module)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    plain = make_classifier(**FINETUNE).fit(*shades)
    assert not compiled
    changed = make_classifier(**FINETUNE, compile=True).fit(*shades)
    assert len(compiled) == 1
    np.testing.assert_array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))
    assert len(compiled) == 2


# -------------------------------------------------------------------- weights


def test_weight_zero_equals_leaving_out(make_classifier, shades):
    X, y = shades
    weight = np.ones(len(y))
    weight[[3, 8, 20]] = 0
    weighted = make_classifier(image_adapter="linear").fit(X, y, sample_weight=weight)
    without = make_classifier(image_adapter="linear").fit(X[weight > 0], y[weight > 0])
    np.testing.assert_allclose(weighted.prototypes_, without.prototypes_, atol=1e-6)
    np.testing.assert_allclose(weighted.predict_proba(X), without.predict_proba(X), atol=1e-5)


def test_weight_two_equals_the_image_twice(make_classifier, shades):
    X, y = shades
    weight = np.ones(len(y), int)
    weight[[3, 8, 20]] = 2
    twice = np.repeat(np.arange(len(y)), weight)
    weighted = make_classifier(prompt_epochs=1).fit(X, y, sample_weight=weight)
    repeated = make_classifier(prompt_epochs=1).fit(X[twice], y[twice])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-4)
    unweighted = make_classifier(prompt_epochs=1).fit(X, y)
    assert np.abs(weighted.predict_proba(X) - unweighted.predict_proba(X)).max() > 1e-4


def test_class_weight_equals_the_sample_weights_that_it_stands_for(make_classifier, shades):
    X, y = shades[0][:33], shades[1][:33]
    counts = np.bincount(y)
    balanced = make_classifier(class_weight="balanced").fit(X, y)
    by_hand = make_classifier().fit(X, y, sample_weight=(len(y) / (5 * counts))[y])
    np.testing.assert_allclose(balanced.prototypes_, by_hand.prototypes_, atol=1e-6)
    mapped = make_classifier(class_weight={0: 2.0, 4: 0.0}).fit(X, y)
    by_hand = make_classifier(ranks=range(5)).fit(X, y, sample_weight=np.array([2.0, 1, 1, 1, 0])[y])
    np.testing.assert_allclose(mapped.prototypes_, by_hand.prototypes_, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0] * 3, r"sample_weight.shape == \(3,\), expected \(40,\)"),
        ([-1.0] + [1.0] * 39, "must not be negative, got -1 at index 0"),
        ([1.0] * 39 + [np.nan], "NaN or infinity at index 39"),
        ([0.0] * 40, "at least one non-zero"),
        (["a"] * 40, "must hold numbers"),
        (np.ones((40, 1)), "must be 1D"),
    ],
)
def test_unusable_weights_are_named(make_classifier, shades, weight, message):
    with pytest.raises(ValueError, match=message):
        make_classifier().fit(*shades, sample_weight=weight)


# -------------------------------------------- early stopping, going on, passes


def test_early_stopping_restores_the_best_epoch(make_classifier, shades):
    parameters = {"learning_rate": 0.3, "prompt_epochs": 40, "early_stopping": True, "n_iter_no_change": 4}
    parameters |= {"rank_targets": "hard", "image_adapter": "linear"}
    classifier = make_classifier(**parameters, validation_fraction=0.3).fit(*shades)
    results = [(record["validation_mae"], record["validation_loss"]) for record in classifier.history_]
    best = results.index(min(results))
    assert len(results) == best + 1 + 4 < 40  # the patience has run out
    shorter = make_classifier(**{**parameters, "prompt_epochs": 40}, validation_fraction=0.3)
    shorter.set_params(n_iter_no_change=1000)
    assert len(shorter.fit(*shades).history_) == 40
    held_out = split_off_validation(shades[1], 0.3, np.random.default_rng(0))
    predicted = classifier.predict(shades[0][held_out])
    assert np.abs(predicted - shades[1][held_out]).mean() == pytest.approx(results[best][0])


def test_early_stopping_in_both_stages(make_classifier, shades):
    classifier = make_classifier(
        image_tower="finetune", early_stopping=True, image_epochs=3, image_learning_rate=1e-3, prompt_epochs=2
    ).fit(*shades)
    assert {record["stage"] for record in classifier.history_} == {"prompts", "image_tower"}
    assert all(np.isfinite(record["validation_loss"]) for record in classifier.history_)


def test_early_stopping_watches_the_adapter_of_each_epoch(make_classifier, shades):
    classifier = make_classifier(prompt_epochs=25, early_stopping=True, n_iter_no_change=25, validation_fraction=0.2)
    seen = [record["cross_fitted_rps"] for record in classifier.fit(*shades).history_]
    assert len(set(seen)) == 25


@pytest.mark.parametrize("rank_targets", ["soft", "hard"])
@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_warm_start_keeps_what_held_out_images_find_better(make_classifier, shades, rank_targets, image_tower):
    (X, y), stopping = shades, {"early_stopping": True, "n_iter_no_change": 2, "warm_start": True}
    classifier = make_classifier(rank_targets=rank_targets, image_tower=image_tower, prompt_epochs=8, **stopping)
    classifier.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    before = classifier.predict_proba(X)
    classifier.set_params(learning_rate=0.5, image_learning_rate=0.5, prompt_epochs=3)
    classifier.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    assert classifier.n_iter_ > 8
    np.testing.assert_allclose(classifier.predict_proba(X), before, atol=1e-5)


def test_warm_start_goes_on(make_classifier, shades):
    classifier = make_classifier(warm_start=True, rank_targets="hard").fit(*shades)
    first = classifier.prototypes_.copy()
    classifier.fit(*shades)
    assert classifier.n_iter_ == 6
    assert [record["epoch"] for record in classifier.history_] == [1, 2, 3, 4, 5, 6]
    assert classifier.history_[3]["loss"] < classifier.history_[0]["loss"]
    classifier.set_params(prompt_epochs=0).fit(*shades)
    assert classifier.n_iter_ == 6  # nothing to do, nothing lost
    assert not np.array_equal(first, classifier.prototypes_)
    afresh = make_classifier(warm_start=False, rank_targets="hard").fit(*shades).fit(*shades)
    np.testing.assert_array_equal(afresh.prototypes_, first)


def test_warm_start_keeps_a_fine_tuned_tower(make_classifier, shades):
    classifier = make_classifier(**FINETUNE, warm_start=True).fit(*shades)
    embeddings = classifier.transform(shades[0])
    classifier.set_params(image_epochs=0).fit(*shades)
    np.testing.assert_allclose(classifier.transform(shades[0]), embeddings, atol=1e-6)


def test_warm_start_refuses_another_structure(make_classifier, shades):
    classifier = make_classifier(warm_start=True).fit(*shades)
    with pytest.raises(InvalidParameterError, match=r"n_context_tokens must stay the same .* it was 4, got 5"):
        classifier.set_params(n_context_tokens=5).fit(*shades)
    classifier.set_params(n_context_tokens=4)
    with pytest.raises(ValueError, match=r"ranks must stay the same .*\[0, 1, 2, 3, 4\], got \[0, 1\]"):
        classifier.fit(shades[0][:2], shades[1][:2])
    with pytest.raises(InvalidParameterError, match=r"rank_names must stay the same .* it was \['0', .* got \['a', "):
        classifier.set_params(rank_names=list("abcde")).fit(*shades)


@pytest.mark.parametrize("parameters", [{}, FINETUNE])
def test_partial_fit_learns_pass_by_pass(make_classifier, shades, parameters):
    X, y = shades
    classifier = make_classifier(**{**parameters, "learning_rate": 5e-3})
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        classifier.partial_fit(X[:10], y[:10])
    classifier.partial_fit(X[:3], y[:3], classes=range(5))
    assert classifier.classes_.tolist() == list(range(5))
    for _ in range(10):
        for part in np.array_split(np.arange(len(y)), 3):
            classifier.partial_fit(X[part], y[part])
    assert classifier.n_iter_ == 31
    assert classifier.history_[-1]["loss"] < classifier.history_[1]["loss"]
    with pytest.raises(ValueError, match="not the same as on the last call"):
        classifier.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"not among the ranks: \[7\]"):
        classifier.partial_fit(X[:2], [1, 7])


def test_partial_fit_carries_the_moments_of_the_optimiser_over(make_classifier, shades):
    X, y = shades
    twice = make_classifier().partial_fit(X, y, classes=range(5))
    forgetful = copy.deepcopy(twice)  # a copy does not carry the moments
    twice.partial_fit(X, y)
    forgetful.partial_fit(X, y)
    assert not np.array_equal(twice.prototypes_, forgetful.prototypes_)


def test_partial_fit_takes_words_with_ranks(make_classifier, shades):
    names = np.array(["void", "dim", "mild", "light", "blank"])
    classifier = make_classifier(ranks=list(names)).partial_fit(shades[0][:5], names[shades[1][:5]])
    assert classifier.ranks_.tolist() == list(names)
    with pytest.raises(ValueError, match="order is not known"):
        make_classifier().partial_fit(shades[0][:5], names[:5], classes=names)


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_partial_fit_learns_where_no_epochs_are_set(make_classifier, shades, image_tower):
    settings = {"image_tower": image_tower, "prompt_epochs": 0, "image_epochs": 0}
    classifier = make_classifier(**settings).partial_fit(*shades, classes=range(5))
    assert classifier.n_iter_ == 1
    assert not np.array_equal(classifier.prototypes_, make_classifier(**settings).fit(*shades).prototypes_)


# ------------------------------------------------------------------- read-out


@pytest.fixture
def fitted(make_classifier, shades):
    names = np.array(["void", "dim", "mild", "light", "blank"])
    return make_classifier(ranks=list(names)).fit(shades[0], names[shades[1]])


def test_read_outs_agree_with_each_other(fitted, shades):
    X = shades[0]
    assert fitted.classes_.tolist() == sorted(fitted.ranks_)
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), probabilities)
    logits = fitted.decision_function(X)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), probabilities)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)])
    in_order = probabilities[:, np.searchsorted(fitted.classes_, fitted.ranks_)]
    np.testing.assert_allclose(fitted.predict_expectation(X), expected_value(in_order, np.arange(1.0, 6.0)))
    for decision in ("argmax", "mean", "median"):
        chosen = fitted.set_params(decision=decision).predict(X)
        np.testing.assert_array_equal(chosen, fitted.ranks_[read_out(in_order, np.arange(1.0, 6.0), decision)])


def test_logits_are_scaled_similarities(fitted, shades, tiny):
    scale = load_backbone(BackboneSource(tiny)).logit_scale
    similarities = fitted.transform(shades[0]) @ fitted.prototypes_.T
    in_classes = similarities[:, np.argsort(fitted.ranks_)]
    np.testing.assert_allclose(fitted.decision_function(shades[0]), scale * in_classes, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(fitted.transform(shades[0]), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fitted.prototypes_, axis=1), 1, rtol=1e-5)
    assert fitted.ordinality_ == ordinality(fitted.prototypes_)


def test_two_ranks_have_one_decision_value(make_classifier, shades):
    X, y = shades[0][:20], shades[1][:20] > 2
    classifier = make_classifier().fit(X, y)
    values = classifier.decision_function(X)
    assert values.shape == (20,)
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[(values > 0).astype(int)])


def test_score_is_accuracy(fitted, shades):
    y = fitted.ranks_[shades[1]]
    assert fitted.score(shades[0], y) == np.mean(fitted.predict(shades[0]) == y)
    weight = np.arange(len(y)) % 3
    assert fitted.score(shades[0], y, weight) == np.average(fitted.predict(shades[0]) == y, weights=weight)
    with pytest.raises(ValueError, match="inconsistent numbers of samples: 40 images in X and 3 labels"):
        fitted.score(shades[0], y[:3])


def test_labels_come_back_as_they_were(make_classifier, shades):
    X = shades[0][:10]
    for labels, ranks in (
        ([0.5, 1.5] * 5, [0.5, 1.0, 1.5]),
        (np.array([3, 8] * 5, np.uint8), None),
        (np.array(["3", "8"] * 5), ["8", "3"]),
        ([True, False] * 5, None),
    ):
        classifier = make_classifier(ranks=ranks).fit(X, labels)
        predicted = classifier.predict(X)
        assert predicted.dtype.kind == np.asarray(labels).dtype.kind
        assert set(predicted.tolist()) <= set(classifier.classes_.tolist())


def test_ordered_categorical_labels(make_classifier, shades):
    names = ["void", "dim", "mild", "light", "blank"]
    y = pd.Series(pd.Categorical.from_codes(shades[1], names, ordered=True))
    classifier = make_classifier().fit(shades[0], y)
    assert classifier.ranks_.tolist() == names
    assert 0 <= classifier.score(shades[0], y) <= 1


def test_ordered_categories_without_images_are_ranks_with_one_warning(make_classifier, shades):
    names = ["void", "dim", "mild", "light", "blank", "white"]
    y = pd.Series(pd.Categorical.from_codes(shades[1], names, ordered=True))
    with pytest.warns(UserWarning, match=r"no image shows: \['white'\].*remove_unused_categories") as caught:
        classifier = make_classifier(prompt_epochs=1).fit(shades[0], y)
    assert [str(warning.message) for warning in caught if "Categorical" in str(warning.message)] == [
        str(caught[0].message)
    ]
    assert caught[0].filename == __file__
    assert classifier.ranks_.tolist() == names
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make_classifier(prompt_epochs=1, ranks=names).fit(shades[0], y)
        make_classifier(prompt_epochs=1).fit(shades[0], y.cat.remove_categories("white"))


def test_intervals_of_numbers_are_ranks_and_come_back_as_words(make_classifier, shades, tmp_path):
    ages = np.array([2, 14, 33, 47, 80])[shades[1]]
    y = pd.Series(pd.cut(ages, [0, 9, 20, 40, 60, 100]))
    words = ["(0, 9]", "(9, 20]", "(20, 40]", "(40, 60]", "(60, 100]"]
    for labels in (y, y.to_numpy(), y.astype(str).astype(pd.CategoricalDtype(words, ordered=True))):
        classifier = make_classifier(prompt_epochs=1).fit(shades[0], labels)
        assert classifier.ranks_.tolist() == words
        assert set(classifier.predict(shades[0])) <= set(words)
        assert classifier.score(shades[0], y) == np.mean(classifier.predict(shades[0]) == y.astype(str))
        assert mean_absolute_rank_error(y, classifier.predict(shades[0])) < 2
    classifier.save(tmp_path / "model")
    assert L2RCLIPClassifier.load(tmp_path / "model").ranks_.tolist() == words


@pytest.mark.parametrize("kind", [np.float32, np.float16, Decimal])
def test_numbers_of_other_types_match_the_ranks_that_print_alike(make_classifier, shades, kind):
    ranks = [0.1, 0.2, 0.3, 0.4, 0.5]
    y = [kind(str(ranks[k])) for k in shades[1]]
    settings = {"ranks": ranks, "prompt_epochs": 1, "class_weight": dict.fromkeys(y, 1.0), "decision": "argmax"}
    classifier = make_classifier(**settings).fit(shades[0], y)
    assert classifier.classes_.tolist() == ranks
    predicted = classifier.predict(shades[0])
    assert classifier.score(shades[0], y) == np.mean(predicted == np.array(ranks)[shades[1]]) > 0


@pytest.mark.parametrize(
    ("labels", "others", "message"),
    [
        ([0, 1], ["a", "b"], r"y holds strings \(\['a', 'b'\]\) and the labels of the fit numbers \(\[0, 1\]\)"),
        (["bad", "good"], [0, 1], "y holds numbers .* and the labels of the fit strings"),
        (["bad", "good"], [True, False], "y holds booleans .* and the labels of the fit strings"),
        ([False, True], ["no", "yes"], "y holds strings .* and the labels of the fit booleans"),
        ([0, 1], ["0", "1"], "Make those of y numbers"),
        ([0, 1], [b"0", b"1"], "bytes"),
        ([0, 1], [None, 1], r"index 0"),
        ([0, 1], [0, pd.NA], r"index 1"),
    ],
)
def test_score_compares_words_with_words_and_numbers_with_numbers(make_classifier, shades, labels, others, message):
    ranks = labels if isinstance(labels[0], str) else None
    classifier = make_classifier(prompt_epochs=1, ranks=ranks).fit(shades[0][:2], labels)
    with pytest.raises(ValueError, match=message):
        classifier.score(shades[0][:2], others)
    assert 0 <= classifier.score(shades[0][:2], labels) <= 1


def test_words_ask_for_an_order_and_propose_one(make_classifier, shades):
    words = np.array(["none", "mild", "moderate", "severe", "very severe"])
    with pytest.raises(ValueError, match=r"ranks=\['none', 'mild', 'moderate', 'severe', 'very severe'\]"):
        make_classifier().fit(shades[0], words[shades[1]])
    with pytest.raises(ValueError, match=r"ranks=\['none', 'mild', 'moderate', 'severe', 'very severe'\]"):
        make_classifier().partial_fit(shades[0], words[shades[1]], classes=words)


def test_names_by_a_function_are_kept_as_words_where_the_model_travels(make_classifier, shades):
    name = lambda year: f"{year}s"  # noqa: E731
    classifier = make_classifier(rank_names=name, prompt_epochs=1)
    fitted = clone(classifier).fit(*shades)
    words = {k: f"{k}s" for k in range(5)}
    assert fitted.rank_names_ == words
    assert fitted.rank_names is fitted.get_params()["rank_names"] is clone(fitted).rank_names is name
    for travelled in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert travelled.rank_names == travelled.rank_names_ == words
        np.testing.assert_array_equal(travelled.predict_proba(shades[0]), fitted.predict_proba(shades[0]))
        again = clone(travelled).fit(*shades)
        np.testing.assert_array_equal(again.predict_proba(shades[0]), fitted.predict_proba(shades[0]))
    assert fitted.rank_names is name  # what travels is a copy
    # before the fit, and where it contradicts what was learned, nothing stands in for the function
    assert copy.deepcopy(classifier).rank_names is name
    for other in (str.upper, lambda year: f"about {year}"):
        assert copy.deepcopy(copy.copy(fitted).set_params(rank_names=other)).rank_names is other


def test_predictions_do_not_depend_on_batches_or_company(fitted, shades):
    together = fitted.predict_proba(shades[0])
    fitted.set_params(batch_size=3)
    alone = np.concatenate([fitted.predict_proba(shades[0][i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)


def test_precomputed_embeddings_equal_the_frozen_tower(make_classifier, shades, tiny):
    embeddings = CLIPImageEncoder(tiny, device="cpu").fit_transform(shades[0])
    frozen = make_classifier(image_tower="frozen").fit(*shades)
    precomputed = make_classifier(image_tower="precomputed").fit(embeddings, shades[1])
    np.testing.assert_allclose(precomputed.prototypes_, frozen.prototypes_, atol=1e-5)
    np.testing.assert_allclose(precomputed.predict_proba(embeddings), frozen.predict_proba(shades[0]), atol=1e-5)
    assert precomputed.n_features_in_ == 24
    named = pd.DataFrame(embeddings, columns=CLIPImageEncoder(tiny).fit().get_feature_names_out())
    assert make_classifier(image_tower="precomputed").fit(named, shades[1]).feature_names_in_[0] == "clipimageencoder0"
    with pytest.raises(ValueError, match="X has 23 features, but L2RCLIPClassifier is expecting 24"):
        precomputed.predict(embeddings[:, :23])
    with pytest.raises(
        ValueError, match=r"X has 5 features, but embeddings of .* have 24: make X with CLIPImageEncoder"
    ):
        make_classifier(image_tower="precomputed").fit(embeddings[:, :5], shades[1])


# ------------------------------------------------------------------ soft targets


def test_hard_targets_take_the_former_way(make_classifier, shades):
    former = {"rank_targets": "hard", "image_adapter": "linear", "pairwise_weight": 1.0, "tightness_weight": 1.0}
    fitted = make_classifier(**former, batch_size=64).fit(*shades)
    assert not hasattr(fitted, "label_noise_")
    assert fitted.history_[0]["contrastive"] > 0.5  # a cross-entropy
    assert set(fitted._state.arrays["adapter"]) == {"residual.weight", "residual.bias"}
    assert all("cross_fitted_rps" not in entry for entry in fitted.history_)


def test_what_was_measured_is_told_in_the_unit_of_the_labels(make_classifier, shades):
    ranks, decades = (make_classifier().fit(shades[0], y) for y in (shades[1], 1930 + 10 * shades[1]))
    assert decades.label_noise_ == pytest.approx(10 * ranks.label_noise_)
    assert decades.label_trust_ == pytest.approx(ranks.label_trust_)
    assert 0 < ranks.label_noise_ < 1
    assert 0.5 < ranks.label_trust_ < 1


def test_weight_two_equals_the_image_twice_for_soft_targets(make_classifier, shades):
    X, y = shades
    weight = np.where(np.arange(40) % 4 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(40), weight.astype(int))
    weighted = make_classifier(prompt_epochs=1).fit(X, y, sample_weight=weight)
    repeated = make_classifier(prompt_epochs=1).fit(X[twice], y[twice])
    assert weighted.label_noise_ == pytest.approx(repeated.label_noise_, rel=1e-4)
    assert weighted.label_trust_ == pytest.approx(repeated.label_trust_, rel=1e-4)


def test_groups_are_left_out_together_and_held_out_whole(make_classifier, shades):
    X, y = shades
    groups = np.array([f"plant {i % 10}" for i in range(40)])
    alone, grouped = make_classifier().fit(X, y), make_classifier().fit(X, y, groups=groups)
    assert alone.label_noise_ != grouped.label_noise_
    stopped = make_classifier(early_stopping=True, validation_fraction=0.25).fit(X, y, groups=groups)
    assert "validation_rps" in stopped.history_[0]
    with pytest.raises(ValueError, match=r"groups has the shape \(39,\), expected \(40,\)"):
        make_classifier().fit(X, y, groups=groups[1:])
    with pytest.raises(ValueError, match="groups has a missing value at index 2"):
        make_classifier().fit(X, y, groups=["a", "b", None, *["c"] * 37])
    with pytest.raises(ValueError, match="groups has a missing value at index 3"):
        make_classifier().fit(X, y, groups=np.ma.array(groups, mask=np.arange(40) == 3))
    with pytest.raises(ValueError, match=r"groups must hold words or numbers, got \{'plant': 3\} at index 0"):
        make_classifier().fit(X, y, groups=[{"plant": 3}] * 40)
    with pytest.raises(ValueError, match="sample_weight has a NaN or infinity at index 5"):
        make_classifier().fit(X, y, np.ma.array(np.ones(40), mask=np.arange(40) == 5))


def test_cross_fitting_may_keep_the_start(make_classifier, shades):
    settings = {"prompt_epochs": 6, "learning_rate": 30.0}
    with_it = make_classifier(**settings).fit(*shades)
    looks = [entry["cross_fitted_rps"] for entry in with_it.history_]
    assert len(looks) == 6
    assert np.abs(with_it.predict_expectation(shades[0]) - shades[1]).mean() < 0.5  # as ridge regression has it


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_a_handful_of_images_will_do(make_classifier, shades, n):
    fitted = make_classifier(ranks=range(5)).fit(shades[0][:n], shades[1][:n])
    assert np.isfinite(fitted.predict_proba(shades[0])).all()
    assert np.array_equal(fitted.predict(shades[0][:n]), shades[1][:n]) or n > 3


@pytest.mark.parametrize("values", [[1, 10, 100, 1000], [1, 2, 5, 10, 20]])
def test_uneven_ranks_of_plain_pictures_are_told_apart(make_classifier, values):
    y = np.repeat(np.arange(len(values)), 8)
    X, unseen = shaded_images(y * 4 / y.max()), shaded_images(y * 4 / y.max(), seed=5)
    labels = np.array(values)[y]
    soft = make_classifier(prompt_epochs="auto").fit(X, labels)
    former = {"rank_targets": "hard", "image_adapter": "linear", "pairwise_weight": 1.0, "tightness_weight": 1.0}
    hard = make_classifier(prompt_epochs=100, **former).fit(X, labels)
    assert soft.score(unseen, labels) >= hard.score(unseen, labels)


def test_intervals_are_labels_in_rank_order_and_hold_their_coverage(make_classifier, shades):
    names = np.array(["void", "dim", "mild", "light", "blank"])
    fitted = make_classifier(ranks=list(names)).fit(shades[0], names[shades[1]])
    p = fitted.predict_proba(shades[0])[:, np.argsort(np.argsort(names))]  # in rank order
    for coverage in (0.5, 0.8, 0.95):
        intervals = fitted.predict_interval(shades[0], coverage=coverage)
        assert intervals.shape == (40, 2)
        assert intervals.dtype == fitted.classes_.dtype
        low, high = (np.array([list(names).index(name) for name in side]) for side in intervals.T)
        inside = [row[a : b + 1].sum() for row, a, b in zip(p, low, high, strict=True)]
        assert min(inside) >= coverage - 1e-9
        median = np.array([list(names).index(name) for name in fitted.set_params(decision="median").predict(shades[0])])
        assert ((low <= median) & (median <= high)).all()
    with pytest.raises(InvalidParameterError, match=r"coverage must be in \(0, 1\), got 1"):
        fitted.predict_interval(shades[0], coverage=1)


def test_partial_fit_measures_on_what_it_has_not_learned_yet(make_classifier, shades):
    X, y = shades
    classifier = make_classifier().partial_fit(X[:20], y[:20], classes=range(5))
    untrained = make_classifier(prompt_epochs=0, ranks=range(5)).fit(X[:20], y[:20])
    error = untrained.predict_expectation(X[:20]) - y[:20]
    assert classifier.label_noise_ == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    second = classifier.predict_expectation(X[20:]) - y[20:]
    both = np.sqrt((0.5 * np.mean(error**2) + np.mean(second**2)) / 1.5)  # what is older counts half
    assert classifier.partial_fit(X[20:], y[20:]).label_noise_ == pytest.approx(both, rel=1e-4)


def test_partial_fit_learns_whatever_it_began_with(make_classifier, shades):
    """Labels are believed, however little a model that has learned nothing knows of them."""
    X, y = shades[0], shades[1] * 1
    classifier = make_classifier(learning_rate=1e-2)
    for _ in range(60):
        classifier.partial_fit(X, y[::-1], classes=range(5))  # against what the backbone would say
    assert np.abs(classifier.predict(X) - y[::-1]).mean() < 0.5  # the best constant: 1.2


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
@pytest.mark.parametrize("rank_targets", ["soft", "hard"])
def test_large_labels_keep_their_distances(make_classifier, shades, image_tower, rank_targets):
    names = [f"day {k}" for k in range(5)]
    settings = {"image_tower": image_tower, "rank_targets": rank_targets, "rank_names": names, "early_stopping": True}
    small = make_classifier(**settings).fit(*shades)
    for offset in (20240101, 1_700_000_000, 2**52):
        large = make_classifier(**settings).fit(shades[0], shades[1] + offset)
        np.testing.assert_allclose(large.prototypes_, small.prototypes_, atol=1e-4)
        for ours, theirs in zip(large.history_, small.history_, strict=True):
            assert ours["validation_mae"] == pytest.approx(theirs["validation_mae"])


@pytest.mark.parametrize("steps", [[0, 1, 2, 3, 4], [0, 1, 2, 7, 30]])
@pytest.mark.parametrize(
    "settings",
    [
        {"image_adapter": "linear", "text_ordering_weight": 0.5},
        {"decision": "mean", "early_stopping": True},
        {"rank_targets": "hard"},
    ],
)
def test_large_labels_equal_small_ones_on_embeddings(steps, settings):
    rng, k = np.random.default_rng(0), np.tile(steps, 6)
    X = rng.normal(size=(30, 128)) + k[:, None] / max(steps) * rng.normal(size=128)

    def fitted(y):
        classifier = L2RCLIPClassifier(
            "skl2rclip-tiny", image_tower="precomputed", prompt_epochs=2, n_context_tokens=4, rank_names=list("abcde"),
            random_state=0, device="cpu", **settings,
        )  # fmt: skip
        return classifier.fit(X, y).partial_fit(X, y)

    small = fitted(k)
    for offset in (20240101, 10**9, 10**12, 1e12, 2**52):
        large = fitted(k + offset)
        np.testing.assert_allclose(large.prototypes_, small.prototypes_, atol=1e-6)
        np.testing.assert_allclose(large.predict_proba(X), small.predict_proba(X), atol=1e-6)
        np.testing.assert_array_equal(large.predict(X) - offset, small.predict(X))
        if "rank_targets" not in settings:
            assert large.label_noise_ == pytest.approx(small.label_noise_)


def test_small_and_large_weights_are_weights(make_classifier, shades):
    weight = np.where(shades[1] > 2, 1.0, 2.0)
    plain = make_classifier().fit(*shades, sample_weight=weight).predict_proba(shades[0])
    for factor in (1e-50, 1e-42, 1e39, 1e300):
        scaled = make_classifier().fit(*shades, sample_weight=factor * weight)
        np.testing.assert_allclose(scaled.predict_proba(shades[0]), plain, atol=1e-4)


def test_small_units_of_labels_change_nothing(make_classifier, shades):
    names = list("abcde")
    ranks = np.array([0, 1, 4, 9, 16.0])
    fits = []
    for scale in (1, 1e-10):
        classifier = make_classifier(rank_names=names, ranks=(scale * ranks).tolist())
        fits.append(classifier.fit(shades[0], (scale * ranks)[shades[1]]))
    assert fits[1].label_noise_ == pytest.approx(1e-10 * fits[0].label_noise_)


def test_where_nothing_can_be_held_out_a_warning_says_so(make_classifier, shades):
    with pytest.warns(UserWarning, match="no image can be held out without taking a rank's last"):
        make_classifier(early_stopping=True).fit(shades[0][:5], shades[1][:5])


def test_copies_are_held_out_together(make_classifier, tiny, shades):
    Z = CLIPImageEncoder(tiny, device="cpu").fit_transform(shades[0])
    three = np.repeat(np.arange(40), 3)
    settings = {"image_tower": "precomputed", "early_stopping": True, "prompt_epochs": 5, "validation_fraction": 0.2}
    copied = make_classifier(**settings).fit(Z[three], shades[1][three])
    named = make_classifier(**settings).fit(Z[three], shades[1][three], groups=three)
    assert copied.history_ == named.history_


@pytest.mark.parametrize("kind", ["content", "object"])
def test_images_in_memory_that_come_several_times_are_taken_for_one(make_classifier, shade_paths, shades, kind):
    three = np.repeat(np.arange(0, 40, 2), 3)
    files = [shade_paths[i] for i in three]
    pictures = {path: Path(path).read_bytes() if kind == "content" else Image.open(path) for path in set(files)}
    settings = {"early_stopping": True, "prompt_epochs": 2}
    from_files = make_classifier(**settings).fit(files, shades[1][three])
    in_memory = make_classifier(**settings).fit([pictures[path] for path in files], shades[1][three])
    assert [entry.keys() for entry in in_memory.history_] == [entry.keys() for entry in from_files.history_]
    np.testing.assert_allclose(in_memory.prototypes_, from_files.prototypes_, atol=1e-5)
    assert in_memory.label_noise_ == pytest.approx(from_files.label_noise_)


def test_images_where_embeddings_are_wanted_are_named(make_classifier, shades, shade_paths):
    for X in (shades[0], shade_paths):
        with pytest.raises(ValueError, match="image_tower='precomputed' takes a table of embeddings"):
            make_classifier(image_tower="precomputed").fit(X, shades[1])


def test_partial_fit_refuses_other_ranks(make_classifier, shades):
    classifier = make_classifier(ranks=range(5)).partial_fit(*shades)
    with pytest.raises(ValueError, match=r"ranks=.* contradicts"):
        classifier.set_params(ranks=range(12)).partial_fit(*shades)


def test_damage_behind_headers_is_named_with_the_rest(make_classifier, shade_paths, shades, tmp_path):
    paths = list(shade_paths)
    paths[3] = str(tmp_path / "cut.png")
    with open(shade_paths[3], "rb") as whole, open(paths[3], "wb") as part:
        part.write(whole.read()[:-3000])
    paths[5] = str(tmp_path / "none.png")
    for image_tower in ("frozen", "finetune"):
        with pytest.raises(UnreadableImagesError, match="2 images of 40") as caught:
            make_classifier(image_tower=image_tower).fit(paths, shades[1])
        assert list(caught.value.failures) == [3, 5]
    with pytest.warns(UserWarning, match="2 images of 40") as caught:
        make_classifier(on_bad_image="skip").fit(paths, shades[1])
    assert len(caught) == 1


def test_warm_start_goes_on_from_where_it_was(make_classifier, shades):
    classifier = make_classifier(warm_start=True, prompt_epochs=5, learning_rate=1e-6).fit(*shades)
    before = classifier.predict_proba(shades[0])
    classifier.fit(*shades)
    assert classifier.n_iter_ == 10
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), before, atol=1e-2)


# ------------------------------------------------- parameters set after the fit


@pytest.mark.parametrize(
    ("fitted_with", "change", "message"),
    [
        (FINETUNE, {"image_tower": "precomputed"}, "image_tower='precomputed' contradicts the fitted model"),
        (FINETUNE, {"image_tower": "frozen"}, "image_tower='frozen' contradicts"),
        ({}, {"image_tower": "finetune"}, "image_tower='finetune' contradicts"),
        ({}, {"image_adapter": None}, "image_adapter=None contradicts"),
        ({}, {"ranks": [4, 3, 2, 1, 0]}, r"ranks=\[4, 3, 2, 1, 0\] contradicts"),
        ({}, {"rank_names": list("abcde")}, r"rank_names=\['a', "),
        ({}, {"decision": "Median"}, "decision must be one of 'argmax', 'mean', 'median', got 'Median'"),
        ({}, {"n_jobs": 0}, "n_jobs must be"),
    ],
)
def test_what_contradicts_the_fit_is_refused_at_prediction(make_classifier, shades, fitted_with, change, message):
    fitted = make_classifier(**fitted_with).fit(*shades)
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
        ({"decision": "Median"}, "decision must be one of 'argmax', 'mean', 'median', got 'Median'"),
        ({"decision": None}, "decision must be one of"),
        ({"decision": ["median"]}, "decision must be one of"),
        ({"batch_size": "8"}, "batch_size must be"),
        ({"batch_size": 2.0}, "batch_size must be"),
        ({"device": 0}, "device must be a string"),
        ({"device": "abacus"}, "device"),
        ({"precision": "half"}, "precision must be one of"),
        ({"max_memory": -1}, "max_memory must be"),
        ({"embedding_cache": 5}, "embedding_cache must be"),
        ({"n_jobs": 1.5}, "n_jobs must be"),
        ({"on_bad_image": True}, "on_bad_image must be one of"),
        ({"image_tower": "Frozen"}, "image_tower must be one of"),
        ({"image_adapter": 1}, "image_adapter must be one of"),
        ({"model_name": None}, "model_name must be a string"),
        ({"ranks": "01234"}, "ranks must be a list"),
        ({"ranks": list("01234")}, r"ranks=\['0', .* contradicts"),
        ({"rank_names": 5}, "rank_names must be a mapping"),
        ({"rank_names": str.upper}, "rank_names"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"verbose": None}, "verbose must be"),
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


def test_what_does_not_contradict_the_fit_takes_effect(make_classifier, shades, tiny):
    fitted = make_classifier().fit(*shades)
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


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"blend_ratio": 1.5}, r"blend_ratio must be in \[0, 1\], got 1.5"),
        ({"blend_ratio": "0.1"}, r"blend_ratio must be in \[0, 1\], got '0.1'"),
        ({"pairwise_weight": -1}, r"pairwise_weight must be in \[0, inf\), got -1"),
        ({"contrastive_weight": np.nan}, "contrastive_weight"),
        ({"tightness_weight": np.inf}, "tightness_weight"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, inf\), got 0.0"),
        ({"image_learning_rate": True}, "image_learning_rate"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \(0, 1\), got 1.0"),
        ({"n_context_tokens": -1}, "n_context_tokens must be an integer of at least 0, got -1"),
        ({"n_context_tokens": 4.0}, "n_context_tokens must be an integer"),
        ({"rankformer_layers": -1}, "rankformer_layers"),
        ({"prompt_epochs": 1.5}, "prompt_epochs"),
        ({"prompt_epochs": "all"}, "prompt_epochs must be an integer of at least 0, or 'auto', got 'all'"),
        ({"rank_targets": "smooth"}, "rank_targets must be one of 'soft', 'hard', got 'smooth'"),
        ({"text_ordering_weight": -1}, "text_ordering_weight"),
        ({"image_epochs": -1}, "image_epochs"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
        ({"image_tower": "tuned"}, "image_tower must be one of 'finetune', 'frozen', 'precomputed', got 'tuned'"),
        ({"image_adapter": "conv"}, "image_adapter must be one of 'linear', 'mlp', None, got 'conv'"),
        ({"rank_position": "end"}, "rank_position"),
        ({"decision": "mode"}, "decision must be one of 'argmax', 'mean', 'median', got 'mode'"),
        ({"precision": "float16"}, "precision"),
        ({"on_bad_image": "ignore"}, "on_bad_image"),
        ({"tune_ranks": 1}, "tune_ranks must be True or False, got 1"),
        ({"augment": "yes"}, "augment"),
        ({"early_stopping": None}, "early_stopping"),
        ({"warm_start": 0}, "warm_start"),
        ({"compile": "auto"}, "compile"),
        ({"prompt": None}, "prompt must be a string, got None"),
        ({"model_name": 3}, "model_name must be a string"),
        ({"model_name": "ViT-B-15"}, "model_name must be a name from open_clip"),
        ({"model_name": "ViT-B-16", "pretrained": "nowhere"}, "pretrained must be a tag of ViT-B-16"),
        ({"pretrained": 1}, "pretrained must be"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu'"),
        ({"device": 0}, "device must be a string, or a list of strings, got 0"),
        ({"device": ["cpu", 1]}, "device: each entry of a list must be a string, got 1"),
        ({"max_memory": "lots"}, "max_memory must be None, a positive number of bytes"),
        ({"max_memory": 0}, "max_memory"),
        ({"max_memory": 1.5}, "max_memory"),
        ({"checkpoint_dir": 5}, "checkpoint_dir must be None or a folder"),
        ({"n_jobs": 0}, "n_jobs must be None or a non-zero integer"),
        ({"random_state": "seed"}, "random_state must be None, an integer"),
        ({"verbose": -1}, "verbose"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict"),
        ({"class_weight": {9: 1.0}}, "class_weight names 9, which is not a label"),
        ({"class_weight": {1: -2.0}}, r"class_weight\[1\] must be in"),
        ({"ranks": [1, 2, 1]}, "ranks must not repeat a label"),
        ({"rank_names": ["one"]}, "rank_names must hold one name for each of the 5 ranks"),
        ({"n_context_tokens": 75}, r"longest prompt has 78 tokens: 1 start of text \+ 75 context tokens"),
    ],
)
def test_bad_parameters_are_named_before_any_long_work(make_classifier, shades, monkeypatch, parameters, message):
    monkeypatch.setattr("skl2rclip._training.trainer.load_backbone", lambda source: pytest.fail("too late"))
    with pytest.raises(InvalidParameterError, match=message):
        make_classifier(**parameters).fit(*shades)


def test_parameters_are_only_stored_before_fit():
    parameters = {name: object() for name in inspect.signature(L2RCLIPClassifier).parameters}
    assert len(parameters) == 40
    classifier = L2RCLIPClassifier(**parameters)
    assert vars(classifier) == parameters


def test_lengths_must_agree(make_classifier, shades):
    with pytest.raises(ValueError, match="inconsistent numbers of samples: 40 images in X and 39 labels in y"):
        make_classifier().fit(shades[0], shades[1][1:])


@pytest.mark.parametrize("missing", [None, np.nan, np.inf])
def test_missing_labels_are_refused(make_classifier, shades, missing):
    y = [missing, *shades[1][1:].tolist()]
    with pytest.raises(ValueError, match=r"Input y contains NaN or (None|infinity) \(index 0\)"):
        make_classifier().fit(shades[0], y)


@pytest.fixture
def partly_bad(shade_paths, tmp_path):
    """Forty paths of which three cannot be read."""
    paths = list(shade_paths)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("words")
    paths[4], paths[9], paths[17] = str(tmp_path / "none.png"), str(tmp_path / "empty.png"), str(tmp_path / "text.png")
    return paths


def test_unreadable_images_stop_fit_before_any_long_work(make_classifier, partly_bad, shades, monkeypatch):
    monkeypatch.setattr("skl2rclip._training.trainer.load_backbone", lambda source: pytest.fail("too late"))
    with pytest.raises(UnreadableImagesError, match="3 images of 40 cannot be read") as caught:
        make_classifier().fit(partly_bad, shades[1])
    assert list(caught.value.failures) == [4, 9, 17]
    assert f"X[9] ({partly_bad[9]}): the file is empty" in str(caught.value)


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_pictures_that_are_cut_off_are_all_named_and_can_be_skipped(
    make_classifier, shade_paths, shades, tmp_path, image_tower
):
    paths = list(shade_paths)
    for i in (3, 30):  # their headers are fine
        paths[i] = str(tmp_path / f"{i}.png")
        with open(shade_paths[i], "rb") as whole, open(paths[i], "wb") as part:
            part.write(whole.read()[:-3000])
    with pytest.raises(UnreadableImagesError, match="2 images of 40 cannot be read") as caught:
        make_classifier(image_tower=image_tower).fit(paths, shades[1])
    assert list(caught.value.failures) == [3, 30]
    with pytest.warns(UserWarning, match="2 images of 40"):
        skipped = make_classifier(image_tower=image_tower, on_bad_image="skip").fit(paths, shades[1])
    good = np.setdiff1d(np.arange(40), [3, 30])
    without = make_classifier(image_tower=image_tower).fit([paths[i] for i in good], shades[1][good])
    np.testing.assert_allclose(skipped.prototypes_, without.prototypes_, atol=1e-6)


def test_nothing_is_believed_of_images_that_no_stage_reads(zero_shot, partly_bad, shades):
    with pytest.raises(UnreadableImagesError, match="3 images of 40"):
        zero_shot().fit(partly_bad, shades[1])


def test_bad_images_can_be_skipped_with_one_warning(make_classifier, partly_bad, shades):
    good = np.setdiff1d(np.arange(40), [4, 9, 17])
    with pytest.warns(UserWarning, match="leaves images out: 3 images of 40 cannot be read") as caught:
        skipped = make_classifier(on_bad_image="skip").fit(partly_bad, shades[1])
    assert len(caught) == 1
    without = make_classifier().fit([partly_bad[i] for i in good], shades[1][good])
    np.testing.assert_array_equal(skipped.prototypes_, without.prototypes_)
    with pytest.raises(UnreadableImagesError):  # no label can be made up for what cannot be read
        skipped.predict(partly_bad)
    with pytest.raises(UnreadableImagesError, match="2 images of 2"):
        make_classifier(on_bad_image="skip").fit([partly_bad[4], partly_bad[9]], [0, 1])


def test_indices_of_bad_images_count_those_of_weight_zero(make_classifier, partly_bad, shades):
    weight = np.ones(40)
    weight[:5] = 0  # of which the bad image 4 is then no matter
    with pytest.raises(UnreadableImagesError, match=r"X\[9\]") as caught:
        make_classifier().fit(partly_bad, shades[1], sample_weight=weight)
    assert list(caught.value.failures) == [9, 17]


def test_an_infinite_loss_names_epoch_term_and_learning_rate(make_classifier, shades):
    classifier = make_classifier(learning_rate=1e30, image_adapter=None, rank_targets="hard")
    with pytest.raises(NonFiniteLossError, match=r"in epoch 2 \(stage 'prompts'\): the contrastive .*1e\+30.*Lower"):
        classifier.fit(*shades)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_fit_leaves_the_fitted_estimator_as_it_was(make_classifier, shades, monkeypatch, error):
    classifier = make_classifier(image_tower="finetune").fit(*shades)
    before, attributes = classifier.predict_proba(shades[0]), copy.deepcopy(vars(classifier))

    def interrupted(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("skl2rclip._training.candidates.EarlyStopping.update", interrupted)
        with pytest.raises(error):
            classifier.set_params(early_stopping=True).fit(shades[0], 4 - shades[1])
    classifier.set_params(early_stopping=False)
    assert set(vars(classifier)) == set(attributes)
    np.testing.assert_array_equal(classifier.predict_proba(shades[0]), before)
    unfitted = make_classifier(early_stopping=True)
    with monkeypatch.context() as patch:
        patch.setattr("skl2rclip._training.candidates.EarlyStopping.update", interrupted)
        with pytest.raises(error):
            unfitted.fit(*shades)
    for predict in (unfitted.predict, unfitted.predict_interval, unfitted.predict_expectation):
        with pytest.raises(NotFittedError):
            predict(shades[0])


def test_random_weights_are_warned_about_once_and_seeded(tmp_path, make_classifier, shades):
    name = write_model(tmp_path / "m", CONFIGS["clip"], weights=False)
    with pytest.warns(UserWarning, match="random weights: nothing that CLIP has learned") as caught:
        first = make_classifier(model_name=name, pretrained=None).fit(*shades)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="random weights"):
        second = make_classifier(model_name=name, pretrained=None, random_state=1).fit(*shades)
    assert not np.array_equal(first.prototypes_, second.prototypes_)


def test_warnings_point_at_the_callers_line():
    with pytest.warns(UserWarning, match="look here") as caught:
        warn_user("look here")
    assert caught[0].filename == __file__


def test_checkpoints_are_models_that_load(make_classifier, shades, tmp_path):
    classifier = make_classifier(checkpoint_dir=tmp_path / "runs").fit(*shades)
    make_classifier(checkpoint_dir=str(tmp_path / "runs"), prompt_epochs=1).fit(*shades)
    folders = sorted(os.listdir(tmp_path / "runs"))
    assert len(folders) == 2  # one for each fit: they do not collide
    by_length = {loaded.n_iter_: loaded for loaded in map(L2RCLIPClassifier.load, (tmp_path / "runs").iterdir())}
    np.testing.assert_array_equal(by_length[3].predict_proba(shades[0]), classifier.predict_proba(shades[0]))


def test_many_fits_do_not_pile_up_memory(make_classifier, shades):
    def modules_alive():
        gc.collect()
        return sum(issubclass(type(thing), torch.nn.Module) for thing in gc.get_objects())

    classifier = make_classifier(image_tower="finetune", prompt_epochs=1, image_epochs=1)
    classifier.fit(*shades)
    before = modules_alive()
    for _ in range(8):
        classifier.fit(*shades)
    assert modules_alive() <= before


# ------------------------------------------- text towers of other families


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
