"""Several views of each image, in fits and in predictions."""

import json
import logging

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skl2rclip import L2RCLIPClassifier
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._training import prepare, request
from skl2rclip.errors import InvalidParameterError


@pytest.fixture
def make(make_classifier):
    return lambda **parameters: make_classifier(rank_targets="soft", prompt_epochs=2, **parameters)


@pytest.fixture
def sided():
    """Images that are brighter on the left or on the right, whatever their rank, in a pattern that noise hides."""
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 10)
    images = rng.normal(110, 40, (40, 32, 32, 3))
    images[:, :, :16] += 20 * y[:, None, None, None] * (np.arange(40) % 8 < 4)[:, None, None, None]
    images[:, :, 16:] += 20 * y[:, None, None, None] * (np.arange(40) % 8 >= 4)[:, None, None, None]
    return images.clip(0, 255).astype(np.uint8), y


def test_predictions_with_mirror_are_the_mean_of_both_images(make, sided, tmp_path):
    X, y = sided
    fitted = make().fit(X, y)
    both = (fitted.predict_proba(X) + fitted.predict_proba(X[:, :, ::-1])) / 2
    fitted.set_params(mirror=True)
    np.testing.assert_allclose(fitted.predict_proba(X), both, atol=1e-5)
    np.testing.assert_allclose(fitted.decision_function(X), np.log(both), atol=1e-3)
    np.testing.assert_allclose(fitted.predict_proba(X[:, :, ::-1]), both, atol=1e-5)
    fitted.save(tmp_path / "model")
    np.testing.assert_allclose(L2RCLIPClassifier.load(tmp_path / "model").predict_proba(X), both, atol=1e-5)


def test_targets_are_measured_on_what_predictions_see(make, sided):
    X, y = sided
    plain, mirrored = make().fit(X, y), make(mirror=True).fit(X, y)
    assert plain.n_views_ == mirrored.n_views_ == 1
    assert plain.label_noise_ != mirrored.label_noise_
    again = make(mirror=True).fit(X[:, :, ::-1], y)
    for name in ("prototypes_", "label_noise_"):  # what is learned from is another image
        assert np.abs(getattr(again, name) - getattr(mirrored, name)).max() > 0


@pytest.mark.parametrize("parameters", [{}, {"mirror": True}, {"rank_targets": "hard"}, {"image_adapter": None}])
def test_views_that_are_asked_for_are_learned_from(make_classifier, shades, parameters, tmp_path):
    settings = {"rank_targets": "soft", "prompt_epochs": 2, **parameters}
    one, three = (make_classifier(n_views=n, **settings).fit(*shades) for n in (1, 3))
    assert (one.n_views_, three.n_views_) == (1, 3)
    assert np.abs(one.predict_proba(shades[0]) - three.predict_proba(shades[0])).max() > 1e-6
    three.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert (loaded.n_views, loaded.n_views_) == (3, 3)
    assert json.loads((tmp_path / "model" / "model.json").read_text())["state"]["n_views"] == 3
    np.testing.assert_array_equal(loaded.predict_proba(shades[0]), three.predict_proba(shades[0]))


@pytest.mark.parametrize(("noise", "expected"), [(0.5, 8), (0.0, 1)])
def test_automatic_views_are_taken_where_they_surely_help(make, shades, monkeypatch, caplog, noise, expected):
    caplog.set_level(logging.INFO, logger="skl2rclip")
    y = np.tile(np.arange(5), 8)

    def rows_that_say_the_same_with_noise(images, encoding, *rest):
        n_views = int(np.max(rest[-1]))
        rng = np.random.default_rng(0)
        rows = rng.normal(0, 0.1, (40, 1, encoding.n_columns)) + noise * rng.normal(size=(40, n_views, 24))
        rows[..., 0] += y[:, None]
        return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).reshape(-1, 24).astype(np.float32)

    monkeypatch.setattr(prepare, "embed_images", rows_that_say_the_same_with_noise)
    fitted = make(n_views="auto", image_features="embedding").fit(*shades)
    assert fitted.n_views_ == expected
    assert f"{expected} views" in caplog.text.rpartition("taken: ")[2]


def test_automatic_views_are_for_some_thousands_of_images(make, shades, monkeypatch):
    monkeypatch.setattr(request, "_MAX_VIEWED", 39)
    embedded, embed_images = [], prepare.embed_images
    monkeypatch.setattr(
        prepare, "embed_images", lambda *given: embedded.append(np.max(given[-1])) or embed_images(*given)
    )
    make(n_views="auto").fit(*shades)
    make(n_views="auto").fit(shades[0][1:], shades[1][1:])
    assert embedded == [1, 8]


@pytest.mark.parametrize(
    "parameters",
    [{"augment": False}, {"image_tower": "finetune", "image_epochs": 1}, {"rank_targets": "hard"}],
)
def test_there_are_no_views_where_they_are_not_wanted(make_classifier, shades, parameters):
    settings = {"rank_targets": "soft", "prompt_epochs": 1, "n_views": "auto", **parameters}
    assert make_classifier(**settings).fit(*shades).n_views_ == 1


def test_tables_have_no_views(make_classifier, shades):
    table = np.random.default_rng(0).normal(size=(40, 24))
    fitted = make_classifier(image_tower="precomputed", n_views=4, mirror=True, prompt_epochs=1).fit(table, shades[1])
    assert fitted.n_views_ == 1
    plain = clone(fitted).set_params(n_views=1, mirror=False).fit(table, shades[1])
    np.testing.assert_array_equal(fitted.predict_proba(table), plain.predict_proba(table))


def test_a_search_over_views_passes_each_view_once(make, shade_paths, shades, tmp_path, monkeypatch):
    forget_embeddings()
    passed, of_pixels = [], ImageEncoding.of_pixels
    monkeypatch.setattr(
        ImageEncoding, "of_pixels", lambda self, pixels: passed.append(len(pixels)) or of_pixels(self, pixels)
    )
    grid = {"n_views": [1, 3], "mirror": [False, True]}
    search = GridSearchCV(make(embedding_cache=tmp_path / "cache"), grid, cv=2, refit=False)
    scores = search.fit(np.array(shade_paths), shades[1]).cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert sum(passed) == 40 * 3


def test_views_are_used_again_by_partial_fit_and_warm_start(make, shades):
    fitted = make(n_views=3, warm_start=True).fit(*shades)
    assert fitted.fit(*shades).n_views_ == 3
    assert fitted.partial_fit(*shades).n_views_ == 1


def test_held_out_images_are_watched_as_predictions_see_them(make, sided):
    X, y = sided
    fitted = make(n_views=3, mirror=True, early_stopping=True, validation_fraction=0.3).fit(X, y)
    scores = [epoch["validation_rps"] for epoch in fitted.history_]
    assert np.isfinite(scores).all()
    watched = make(n_views=3, mirror=True, early_stopping=True).fit(X, y, X_val=X[:8], y_val=y[:8])
    other = make(n_views=3, mirror=True, early_stopping=True).fit(X, y, X_val=X[:8, :, ::-1], y_val=y[:8])
    for one, same in zip(watched.history_, other.history_, strict=True):
        assert one["validation_rps"] == pytest.approx(same["validation_rps"], abs=1e-5)


def test_images_that_are_held_out_pass_as_predictions_see_them(make, shades, monkeypatch):
    forget_embeddings()
    passed, of_pixels = [], ImageEncoding.of_pixels
    monkeypatch.setattr(
        ImageEncoding, "of_pixels", lambda self, pixels: passed.append(len(pixels)) or of_pixels(self, pixels)
    )
    X, y = np.random.default_rng(3).integers(0, 255, (40, 20, 20, 3), dtype=np.uint8), shades[1]
    make(n_views=4, mirror=True, early_stopping=True).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    assert sum(passed) == 30 * 4 + 10 * 2


@pytest.mark.parametrize("n_views", [0, 2.5, "many", None, True, 101, 10**30])
def test_a_number_of_views_that_is_none_is_refused(make, shades, n_views):
    with pytest.raises(InvalidParameterError, match="n_views must be"):
        make(n_views=n_views).fit(*shades)
