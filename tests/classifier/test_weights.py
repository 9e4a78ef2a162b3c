"""Weights of images and classes stand for images that come several times, or not at all."""

import numpy as np
import pytest


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
        ([-1.0] + [1.0] * 39, "must not be negative, infinite or missing, got -1.0 at index 0"),
        ([0.0] * 40, "at least one non-zero"),
    ],
)
def test_unusable_weights_are_named(make_classifier, shades, weight, message):
    with pytest.raises(ValueError, match=message):
        make_classifier().fit(*shades, sample_weight=weight)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_unit_of_weights_does_not_count_and_their_range_may_be_wide(make_classifier):
    rng, y = np.random.default_rng(0), np.tile(np.arange(4), 6)
    X, weight = rng.normal(size=(24, 24)) + y[:, None] * np.eye(24)[0], rng.uniform(0.5, 2, 24)
    classifier = make_classifier(image_tower="precomputed", prompt_epochs=1)
    expected = classifier.fit(X, y, sample_weight=weight).predict_proba(X)
    for factor in (1e-12, 1e12):
        again = classifier.fit(X, y, sample_weight=factor * weight).predict_proba(X)
        np.testing.assert_allclose(again, expected, atol=1e-6)
    heavy = np.where(y == 3, 1e12, 1e-12)
    assert (classifier.fit(X, y, sample_weight=heavy).predict(X) == 3).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("rank_targets", ["soft", "hard"])
def test_images_that_are_all_the_same_are_predicted_as_their_weighted_median(make_classifier, rank_targets):
    y, weight = np.repeat(np.arange(4), [3, 10, 20, 5]), np.ones(38)
    classifier = make_classifier(image_tower="precomputed", prompt_epochs=20, rank_targets=rank_targets)
    X = np.ones((38, 24), np.float32)
    assert classifier.fit(X, y).predict(X[:1]) == [2]
    weight[y == 1] = 10
    assert classifier.fit(X, y, sample_weight=weight).predict(X[:1]) == [1]
