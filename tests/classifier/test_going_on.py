"""Early stopping, warm starts and single passes."""

import copy

import numpy as np
import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip._ordinal.splits import split_off_validation
from skl2rclip.errors import InvalidParameterError
from tests.support.parameters import FINETUNE


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
    with pytest.raises(InvalidParameterError, match=r"n_context_tokens must stay the same .* it was 4, got 'auto'"):
        classifier.set_params(n_context_tokens="auto").fit(*shades)
    classifier.set_params(n_context_tokens=4)
    with pytest.raises(ValueError, match=r"ranks must stay the same .*\[0, 1, 2, 3, 4\], got \[0, 1\]"):
        classifier.fit(shades[0][:2], shades[1][:2])
    with pytest.raises(InvalidParameterError, match=r"rank_names must stay the same .* it was \['0', .* got \['a', "):
        classifier.set_params(rank_names=list("abcde")).fit(*shades)


def test_a_fit_goes_on_with_the_length_that_auto_has_taken(make_classifier, shades, tmp_path):
    classifier = make_classifier(warm_start=True, n_context_tokens="auto", prompt_epochs=1).fit(*shades)
    assert classifier.prompt_ == "a photo of {}"
    classifier.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert loaded.n_context_tokens == "auto"
    np.testing.assert_array_equal(loaded.predict_proba(shades[0]), classifier.predict_proba(shades[0]))
    for model in (classifier, loaded):
        assert model.set_params(n_context_tokens=3).fit(*shades).n_iter_ == 2
        assert model.set_params(n_context_tokens="auto").fit(*shades).n_iter_ == 3
    with pytest.raises(InvalidParameterError, match=r"n_context_tokens must stay the same .* it was 'auto', got 4"):
        classifier.set_params(n_context_tokens=4).fit(*shades)


def test_a_prompt_without_words_trains_the_names_alone(make_classifier, shades):
    classifier = make_classifier(prompt="", n_context_tokens="auto").fit(*shades)
    assert classifier.prompt_ == "{}"
    assert classifier.n_iter_ == 3


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


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_labels_keep_their_type_when_training_goes_on(make_classifier, dtype):
    table, y = np.random.default_rng(0).normal(size=(12, 32)).astype(np.float32), np.tile([1, 2, 3], 4)
    classifier = make_classifier(image_tower="precomputed").fit(table, y.astype(dtype))
    assert classifier.partial_fit(table, y).classes_.dtype == dtype
    assert classifier.predict(table).dtype == dtype
    assert classifier.set_params(warm_start=True).fit(table, y).classes_.dtype == dtype
