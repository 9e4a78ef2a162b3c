"""How usual images are beside those of the fit."""

import dataclasses
import json

import joblib
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from tests.support.small_images import shaded_images


@pytest.fixture(scope="module")
def new():
    """Images of the same origin as the forty shades, and noise."""
    noise = np.random.default_rng(2).integers(0, 256, (12, 36, 44, 3), dtype=np.uint8)
    return shaded_images(np.tile(np.arange(5), 20), seed=7), noise


def test_new_images_of_the_same_origin_are_usual_and_others_are_not(fitted_classifier, new):
    clf, (same, noise) = fitted_classifier(), new
    scores = clf.score_samples(same)
    assert scores.shape == (100,)
    assert scores.dtype == np.float64
    assert (scores < clf.offset_).mean() <= 0.1  # of forty images the least usual is the bound
    assert (clf.score_samples(noise) < clf.offset_).all()


def test_training_images_are_scored_without_themselves(fitted_classifier, shades):
    clf = fitted_classifier()
    assert (clf.score_samples(shades[0]) > clf.offset_).all()


def test_scores_are_the_leverages_of_a_ridge_regression_on_the_embeddings(make_classifier, shades, new, tiny):
    clf = make_classifier(prompt_epochs=1).fit(*shades)
    encoder = CLIPImageEncoder(tiny, None).fit()
    rows, others = (np.asarray(encoder.transform(X), float) for X in (shades[0], new[1]))
    x = rows - rows.mean(axis=0)
    penalty = 0.1 * np.trace(x.T @ x) / np.linalg.matrix_rank(x.T @ x)
    y = others - rows.mean(axis=0)
    leverage = 1 / 40 + np.einsum("ij,ij->i", y @ np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1])), y)
    np.testing.assert_allclose(clf.score_samples(new[1]), -np.log(leverage), atol=1e-3)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rank_targets": "hard"},
        {"image_features": "both"},
        {"mirror": True},
        {"n_views": 2},
        {"image_tower": "finetune", "rank_targets": "hard"},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_every_kind_of_fit_has_scores_that_are_saved_with_it(parameters, make_classifier, shades, new, tmp_path):
    clf = make_classifier(**{"prompt_epochs": 1, "image_epochs": 1, **parameters}).fit(*shades)
    scores = clf.score_samples(new[1])
    assert (scores < clf.offset_).all()
    clf.save(tmp_path / "model")
    joblib.dump(clf, tmp_path / "model.joblib")
    for again in (L2RCLIPClassifier.load(tmp_path / "model"), joblib.load(tmp_path / "model.joblib")):
        assert again.offset_ == clf.offset_
        np.testing.assert_array_equal(again.score_samples(new[1]), scores)


def test_a_tower_that_may_be_trained_and_is_not_has_the_scores_of_a_frozen_one(make_classifier, shades, new):
    untrained = make_classifier(image_tower="finetune", prompt_epochs=1, image_epochs=0).fit(*shades)
    frozen = make_classifier(prompt_epochs=1).fit(*shades)
    assert untrained.offset_ == pytest.approx(frozen.offset_, abs=1e-4)
    np.testing.assert_allclose(untrained.score_samples(new[1]), frozen.score_samples(new[1]), atol=1e-4)


def test_logits_and_scores_come_of_one_pass(fitted_classifier, new, through_tower):
    for parameters in ({"mirror": True}, {}):
        clf = fitted_classifier(**parameters)
        scores = np.empty(12)
        logits = clf._logits(new[1], scores)
        np.testing.assert_array_equal(logits, clf._logits(new[1]))
        np.testing.assert_allclose(scores, clf.score_samples(new[1]), atol=1e-3)


def test_tables_have_scores_with_and_without_an_embedding(make_classifier, shades, new, tiny):
    encoder = CLIPImageEncoder(tiny, None).set_output(transform="pandas").fit()
    table, other = encoder.transform(shades[0]), encoder.transform(new[1])
    clf = make_classifier(image_tower="precomputed", prompt_epochs=1).fit(table, shades[1])
    own = make_classifier(prompt_epochs=1).fit(*shades)
    np.testing.assert_allclose(clf.score_samples(other), own.score_samples(new[1]), atol=1e-3)
    clf.set_params(image_tower="frozen")
    np.testing.assert_allclose(clf.score_samples(new[1]), own.score_samples(new[1]), atol=1e-3)
    plain = make_classifier(image_tower="precomputed", prompt_epochs=1).fit(table.to_numpy()[:, :10], shades[1])
    assert (plain.score_samples(3 * table.to_numpy()[:, :10]) < plain.offset_).mean() > 0.9


def test_groups_are_left_out_together(make_classifier, shades):
    X, y = shades
    groups = np.arange(40) // 5
    alone = make_classifier(prompt_epochs=1).fit(X, y)
    together = make_classifier(prompt_epochs=1).fit(X, y, groups=groups)
    assert together.offset_ < alone.offset_
    for same, groups in ((X, np.zeros(40)), ([X[0]] * 40, None)):
        with pytest.raises(NotFittedError, match=r"a single image or group \(copies of one image"):
            make_classifier(rank_targets="hard", prompt_epochs=1).fit(same, y, groups=groups).score_samples(X)


def test_partial_fit_keeps_what_a_fit_has_seen_and_has_nothing_of_its_own(make_classifier, shades, new):
    X, y = shades
    clf = make_classifier(prompt_epochs=1).fit(X, y)
    before = clf.score_samples(new[1])
    clf.partial_fit(new[0][:5], np.arange(5))
    np.testing.assert_array_equal(clf.score_samples(new[1]), before)
    with pytest.raises(NotFittedError, match="partial_fit alone"):
        make_classifier().partial_fit(X, y, classes=range(5)).score_samples(X)
    again = clf.set_params(warm_start=True).fit(new[0], np.tile(np.arange(5), 20))
    assert not np.allclose(again.score_samples(new[1]), before)
    tuned = make_classifier(image_tower="finetune", rank_targets="hard", prompt_epochs=1, image_epochs=1).fit(X, y)
    with pytest.raises(NotFittedError, match=r"partial_fit .*image_tower='finetune'.*fit again"):
        tuned.partial_fit(X[:5], y[:5]).score_samples(X)


def test_models_without_scores_say_so_before_any_work(make_classifier, fitted_classifier, shades, tmp_path):
    words = make_classifier(ranks=range(5)).fit_zero_shot()
    for clf in (words, make_classifier(), make_classifier(prompt_epochs=0).fit(*shades)):
        with pytest.raises(NotFittedError):
            clf.score_samples(["none.png"])
    assert not hasattr(words, "offset_")
    fitted = fitted_classifier()
    fitted._adopt(dataclasses.replace(fitted._state, leverage=None))
    fitted.save(tmp_path / "earlier")
    loaded = L2RCLIPClassifier.load(tmp_path / "earlier")
    with pytest.raises(NotFittedError, match="saved before models had scores: fit again"):
        loaded.score_samples(["none.png"])


def test_a_model_at_the_end_of_a_pipeline_scores_and_searches_are_as_they_were(fitted_classifier, shades, new, tiny):
    clf = fitted_classifier()
    pipeline = make_pipeline("passthrough", clf)
    np.testing.assert_array_equal(pipeline.score_samples(new[1]), clf.score_samples(new[1]))
    assert len(cross_val_score(clf, *shades, cv=2)) == 2


def test_the_description_of_an_earlier_model_loads(fitted_classifier, tmp_path):
    from skl2rclip._model.schema import check_description

    fitted_classifier().save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    del description["state"]["leverage"]
    check_description(description)
    description["state"]["leverage"] = {"n_axes": 3, "rest": -1, "total": 1, "offset": 0}
    with pytest.raises(ValueError, match="rest"):
        check_description(description)
