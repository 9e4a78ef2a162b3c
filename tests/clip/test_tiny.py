"""skl2rclip-tiny, and the claims of the method on it, at a size that takes seconds."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rendering
from sklearn.linear_model import LogisticRegression, RidgeCV

import skl2rclip
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from tests.support.embedded_models import assert_is_an_ordinary_open_clip_model, assert_needs_no_network

pytestmark = pytest.mark.full_ordering
TINY = "skl2rclip-tiny"
FOLDER = Path(skl2rclip.__file__).parent / "_clip" / "skl2rclip-tiny"


@cache
def rendered(name, per_level, seed):
    """Images of a property, their embeddings and their levels."""
    spec = {**rendering.PROPERTIES, **rendering.NEW_PROPERTIES}[name]
    rng = np.random.default_rng(seed)
    y = np.tile(spec.levels, per_level)
    X = np.stack([rendering.render(name, int(level), rng, training=False) for level in y])
    return X, CLIPImageEncoder(TINY, device="cpu").fit().transform(X), y


def classifier(**parameters):
    settings = {"image_tower": "precomputed", "random_state": 0, "device": "cpu", "decision": "median"}
    return L2RCLIPClassifier(TINY, **{**settings, **parameters})


def mae(model, X, y):
    return np.abs(model.predict(X) - y).mean()


def draw(y, shots, seed):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(y == level))[:shots] for level in np.unique(y)])


# ------------------------------------------------------------------- the model


def test_the_model_is_small_and_needs_no_network():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8e6
    assert_needs_no_network(TINY, 128)


def test_it_is_an_ordinary_open_clip_model():
    assert_is_an_ordinary_open_clip_model(TINY, 128)


def test_saved_with_its_backbone_it_is_a_folder_of_open_clip(tmp_path):
    X, _, y = rendered("size", 1, 0)
    fitted = classifier(image_tower="frozen", prompt_epochs=1).fit(X, y)
    fitted.save(tmp_path / "model", include_backbone=True)
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(X), fitted.predict_proba(X), atol=1e-5)
    folder = f"local-dir:{tmp_path / 'model' / 'backbone'}"
    np.testing.assert_allclose(
        CLIPImageEncoder(folder).fit().transform(X), CLIPImageEncoder(TINY).fit().transform(X), atol=1e-5
    )


def test_unknown_words_are_distinct():
    table = load_backbone(BackboneSource(TINY)).model.token_embedding.weight
    assert len(table) == 49408
    assert len(table.unique(dim=0)) == 49408


ZERO_SHOT = {
    "size": ("a picture with size level", "please note how much size you see :"),
    "count": ("how many dots :", "please note how much count you see :"),
    "distance": ("a picture with distance level", "please note how much distance you see :"),
    "wear": ("a picture with wear level", "please note how much wear you see :"),
    "age": ("a face aged", "please note how much age you see :"),
}


@pytest.mark.parametrize("name", list(ZERO_SHOT))
def test_zero_shot_reads_graded_language(name):
    """MAE at most a quarter of the best constant's, with a phrasing that training never showed at most half."""
    _, Z, y = rendered(name, 8, 1)
    constant = np.abs(y - np.median(y)).mean()
    for prompt, limit in zip(ZERO_SHOT[name], (1 / 4, 1 / 2), strict=True):
        m = len(load_backbone(BackboneSource(TINY)).tokenizer().words(prompt))
        model = classifier(prompt=prompt, n_context_tokens=m, prompt_epochs=0, blend_ratio=0.0)
        model.fit(Z[: len(np.unique(y))], y[: len(np.unique(y))])
        assert mae(model, Z, y) <= limit * constant


# -------------------------------------------------------- claims of the method


FORMER = {"rank_targets": "hard", "image_adapter": "linear", "pairwise_weight": 1.0, "tightness_weight": 1.0}


@pytest.mark.parametrize(("name", "share"), [("ripeness", 0.8), ("tilt", 1.0)])
def test_at_four_images_a_rank_nothing_set_beats_probes_on_the_same_embeddings(name, share):
    """Properties that the backbone was not trained on; mean of two seeds."""
    _, Z, y = rendered(name, 16, 0)
    _, unseen, truth = rendered(name, 12, 1)
    errors = []
    for seed in range(2):
        drawn = draw(y, 4, seed)
        ours = classifier(prompt=f"the {name} is", random_state=seed).fit(Z[drawn], y[drawn])
        probe = LogisticRegression(C=100, max_iter=3000).fit(Z[drawn], y[drawn])
        cumulated = probe.predict_proba(unseen).cumsum(axis=1)
        median = probe.classes_[(cumulated >= 0.5).argmax(axis=1)]
        ridge = RidgeCV(np.logspace(-4, 2, 19)).fit(Z[drawn], y[drawn]).predict(unseen).round().clip(0, 20)
        errors.append([mae(ours, unseen, truth), np.abs(median - truth).mean(), np.abs(ridge - truth).mean()])
    ours, logistic, linear = np.mean(errors, axis=0)
    assert ours < share * min(logistic, linear)


def test_prototypes_are_better_ordered_than_zero_shot_ones_with_four_images_a_rank():
    _, Z, y = rendered("tilt", 4, 0)
    settings = {"prompt": "the tilt is"}
    before = classifier(**settings, n_context_tokens=5, prompt_epochs=0, blend_ratio=0.0).fit(Z, y)
    after = classifier(**settings).fit(Z, y)
    assert before.ordinality_ < 0.8
    assert after.ordinality_ > 0.9


def test_probabilities_mean_what_they_say():
    """Of the truth about four fifths lie within the central four fifths of the predicted probability."""
    _, Z, y = rendered("tilt", 8, 0)
    _, unseen, truth = rendered("tilt", 12, 1)
    fitted = classifier(prompt="the tilt is").fit(Z, y)
    p = fitted.predict_proba(unseen)
    rows = np.arange(len(p))
    u = p.cumsum(axis=1)[rows, truth] - np.random.default_rng(0).random(len(p)) * p[rows, truth]
    assert 0.7 < np.mean((u > 0.1) & (u < 0.9)) < 0.92


def test_ranks_without_an_image_are_predicted_better_than_by_their_neighbours():
    """Ripeness, every third rank unseen: 0.83 to 0.92; the nearest rank with images, if it were known, is 1 off."""
    _, Z, y = rendered("ripeness", 16, 0)
    _, unseen, truth = rendered("ripeness", 12, 1)
    left_out = np.arange(1, 21, 3)
    shown, asked = ~np.isin(y, left_out), np.isin(truth, left_out)
    model = classifier(prompt="the ripeness is", ranks=range(21))
    error = mae(model.fit(Z[shown], y[shown]), unseen[asked], truth[asked])
    constant = np.abs(truth[asked] - np.median(y[shown])).mean()
    assert error < min(1.0, constant)


def test_fine_tuning_beats_the_frozen_tower():
    """Ripeness, twelve images a rank, hard targets: 0.41 to 0.57 ranks off (three seeds), frozen 0.97."""
    X, Z, y = rendered("ripeness", 12, 0)
    images, unseen, truth = rendered("ripeness", 6, 1)
    frozen = classifier(prompt="the ripeness is", learning_rate=3e-3, batch_size=256, prompt_epochs=100, **FORMER)
    frozen.fit(Z, y)
    tuned = classifier(
        **FORMER,
        learning_rate=1e-3,
        batch_size=64,
        prompt="the ripeness is",
        image_tower="finetune",
        image_learning_rate=1e-3,
        augment=False,
        prompt_epochs=5,
        image_epochs=8,
    )
    assert mae(tuned.fit(X, y), images, truth) < 0.7 * mae(frozen, unseen, truth)
