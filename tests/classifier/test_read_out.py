"""The predict family, and labels that come back as they were."""

import copy
import pickle
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._ordinal.decisions import expected_value, read_out
from skl2rclip.metrics import mean_absolute_rank_error, ordinality
from tests.support.small_images import NAMES


@pytest.fixture
def fitted(fitted_classifier):
    return fitted_classifier(words=NAMES, ranks=NAMES)


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
    frozen = make_classifier(image_tower="frozen", image_features="embedding").fit(*shades)
    precomputed = make_classifier(image_tower="precomputed").fit(embeddings, shades[1])
    np.testing.assert_allclose(precomputed.prototypes_, frozen.prototypes_, atol=1e-5)
    np.testing.assert_allclose(precomputed.predict_proba(embeddings), frozen.predict_proba(shades[0]), atol=1e-5)
    assert precomputed.n_features_in_ == 24
    named = pd.DataFrame(embeddings, columns=CLIPImageEncoder(tiny).fit().get_feature_names_out())
    assert make_classifier(image_tower="precomputed").fit(named, shades[1]).feature_names_in_[0] == "embedding__0"
    with pytest.raises(ValueError, match="X has 23 features, but L2RCLIPClassifier is expecting 24"):
        precomputed.predict(embeddings[:, :23])
    with pytest.raises(ValueError, match="image_adapter=None reads the embedding alone, and X holds no embeddings of"):
        make_classifier(image_tower="precomputed", image_adapter=None).fit(embeddings[:, :5], shades[1])


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "predict_log_proba", "predict_expectation", "predict_interval", "decision_function"],
)
def test_a_prediction_during_a_fit_is_that_of_one_model(zero_shot, shades, monkeypatch, method):
    """Another thread may fit the same estimator to other ranks between any two lines."""
    X = shades[0][:4]
    estimator = zero_shot(ranks=["void", "dim", "mild", "light"]).fit_zero_shot()
    other = zero_shot(ranks=[3, 4]).fit_zero_shot()
    before, logits = getattr(estimator, method)(X), type(other._state).logits

    def fitted_meanwhile(state, *args):
        result = logits(state, *args)
        estimator._adopt(other._state)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(type(other._state), "logits", fitted_meanwhile)
        np.testing.assert_array_equal(getattr(estimator, method)(X), before)
    assert estimator.ranks_.tolist() == [3, 4]
