from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._images.preprocessing import shrink
from skl2rclip._training import epoch_selection, trainer
from skl2rclip._training.epoch_selection import NOTHING_GAINED, EpochSelection
from skl2rclip._training.stages import TowerStage
from tests.support.small_images import barred_images

RATE = {"image_learning_rate": 1e-3}
FINETUNE = {"image_tower": "finetune", **RATE}


def selected(better, n=40, blocks=None, target=None, epochs=(3, 6)):
    """Selection among five evaluations at two ranks: `better` says how much likelier the right one becomes at each."""
    target = np.arange(n) % 2 if target is None else target
    right = 0.5 + np.vstack([np.zeros(n), better])
    probabilities = np.where(
        (target == 0)[None, :, None], np.stack([right, 1 - right], 2), np.stack([1 - right, right], 2)
    )
    data = SimpleNamespace(target=torch.from_numpy(target), weight=None)
    blocks = np.arange(n) if blocks is None else blocks
    measured = SimpleNamespace(blocks=blocks, targets=SimpleNamespace(scale=np.arange(2.0)))
    return epoch_selection._selected(probabilities, np.arange(n), np.array(epochs), data, measured)


def gains(*means, spread=0.05, n=40):
    return np.array(means)[:, None] + spread * np.random.default_rng(0).normal(size=(len(means), n))


def test_the_evaluation_with_the_least_score_is_taken():
    selection = selected(gains(0.05, 0.1, 0.2, 0.3))
    assert (selection.last_epoch, selection.share) == (6, 1.0)
    assert selection.narrowing == pytest.approx(0.2 / 0.5, abs=0.05)
    selection = selected(gains(0.05, 0.1, 0.3, 0.2))
    assert (selection.last_epoch, selection.share) == (6, 0.5)
    assert selected(gains(0.05, 0.3, 0.1, 0.2)).last_epoch == 3


def test_a_gain_that_may_be_chance_is_none():
    assert selected(gains(-0.2, -0.1, -0.1, -0.3)) == NOTHING_GAINED
    assert selected(gains(0.02, 0.02, 0.02, 0.02, spread=0.2)) == NOTHING_GAINED
    # of two evaluations the better one may be chance while the other is not
    rng = np.random.default_rng(0)
    chance, sure = 0.06 + 0.3 * rng.normal(size=40).clip(-1, 1), np.full(40, 0.03)
    assert selected(np.stack([chance, sure, sure / 2, sure / 2])).last_epoch == 3
    assert selected(np.stack([chance, sure, sure / 2, sure / 2])).share == 1.0


def test_images_that_are_left_out_together_count_as_one():
    better = np.tile(np.repeat([0.15, -0.05, 0.12, 0.02], 20), (4, 1))
    blocks, target = np.repeat(np.arange(4), 20), np.repeat([0, 1, 0, 1], 20)
    assert selected(better, 80, target=target).last_epoch
    assert selected(better, 80, blocks, target) == NOTHING_GAINED


@pytest.fixture
def caught(make_classifier, shades, monkeypatch):
    """What a fit hands over to its epoch selection."""

    def catch(*arguments, **numbers):
        kept.update(arguments=arguments, **numbers)
        return NOTHING_GAINED

    kept = {}
    monkeypatch.setattr(trainer, "select_epochs", catch)
    make_classifier(**FINETUNE, batch_size=16).fit(*shades)
    return kept


def test_an_epoch_selection_changes_nothing_and_learns_nothing_from_what_it_leaves_out(caught):
    learner, data, _, settings, candidates = caught["arguments"]
    before = {name: tensor.clone() for name, tensor in learner.modules().state_dict().items()}
    history, adapter = list(learner.history), learner.adapter
    epoch_selection.select_epochs(*caught["arguments"], n_epochs=2, batch_size=16, seed=0)
    assert learner.history == history
    assert learner.adapter is adapter
    for name, tensor in learner.modules().state_dict().items():
        assert torch.equal(tensor, before[name])

    left_out = np.flatnonzero(candidates.fold.numpy() == 1)
    flipped, evaluations = data.distributions.clone(), []
    flipped[left_out] = flipped[left_out].flip(1)
    for distributions in (data.distributions, flipped):
        trial = replace(learner, history=[], generator=torch.Generator().manual_seed(0))
        stage = TowerStage(trial, settings)
        part = replace(data, distributions=distributions)
        evaluations.append(epoch_selection._Fold(stage, part, left_out, np.array([1, 2]), None).run(2, 16, None))
        learner.modules().load_state_dict(before)
    assert evaluations[0].shape == (1 + 2 * 2, len(left_out), data.distributions.shape[1])
    np.testing.assert_allclose(evaluations[0], evaluations[1], atol=1e-6)
    assert np.abs(evaluations[0][2] - evaluations[0][0]).max() > 1e-4  # it did learn
    # half of the way lies between
    assert np.abs(evaluations[0][1] - evaluations[0][0]).mean() < np.abs(evaluations[0][2] - evaluations[0][0]).mean()


def test_more_images_are_left_out_in_fewer_folds(caught, monkeypatch):
    seen = []

    class Fold:
        def __init__(self, stage, data, rows, *rest):
            seen.append(rows)
            self.run = lambda *_: np.full((3, len(rows), 5), 0.2)

    monkeypatch.setattr(epoch_selection, "_Fold", Fold)
    n = len(caught["arguments"][1].target)
    for enough, n_folds in ((500, 4), (n // 4, 1), (n // 2, 2)):
        seen.clear()
        monkeypatch.setattr(epoch_selection, "_MIN_SCORED", enough)
        epoch_selection.select_epochs(*caught["arguments"], n_epochs=1, batch_size=16, seed=0)
        assert len(seen) == n_folds


@pytest.mark.parametrize("parameters", [{}, {"pairwise_weight": 1.0, "tightness_weight": 1.0}])
def test_batches_of_nothing_but_left_out_images_change_no_loss(make_classifier, shades, caplog, parameters):
    X, y = shades
    classifier = make_classifier(**FINETUNE, **parameters, batch_size=1)
    with caplog.at_level("INFO", logger="skl2rclip"):
        classifier.fit(X[:20], y[:20])
    assert "Stage epoch_selection ended after 2 epochs" in caplog.text
    frozen = make_classifier(**parameters, batch_size=1).fit(X[:20], y[:20])
    np.testing.assert_allclose(classifier.predict_proba(X), frozen.predict_proba(X), atol=1e-5)


def test_groups_are_left_out_until_enough_of_them_are_scored(caught, monkeypatch):
    seen = []

    class Fold:
        def __init__(self, *_):
            seen.append(1)

        def run(self, *_):
            return np.zeros((3, 10, 5))

    monkeypatch.setattr(epoch_selection, "_Fold", Fold)
    monkeypatch.setattr(epoch_selection, "_selected", lambda *_: NOTHING_GAINED)
    learner, data, measured, *rest = caught["arguments"]
    for n_groups, n_folds in ((40, 1), (20, 2), (4, 4)):
        seen.clear()
        monkeypatch.setattr(epoch_selection, "_MIN_SCORED", 10)
        grouped = replace(measured, blocks=np.arange(40) % n_groups)
        epoch_selection.select_epochs(learner, data, grouped, *rest, n_epochs=1, batch_size=16, seed=0)
        assert len(seen) == n_folds


def test_a_tower_that_gains_nothing_predicts_as_the_frozen_one(make_classifier, shades):
    X, y = shades
    y = np.random.default_rng(0).permutation(y)
    frozen, fine_tuned = (make_classifier(image_tower=tower).fit(X, y) for tower in ("frozen", "finetune"))
    assert {entry["stage"] for entry in fine_tuned.history_} == {"prompts"}
    np.testing.assert_allclose(fine_tuned.predict_proba(X), frozen.predict_proba(X), atol=1e-5)


def test_a_tower_that_gains_is_trained_and_is_ahead_of_the_frozen_one(make_classifier):
    y = np.tile(np.arange(5), 16)
    X, unseen = barred_images(y, 0), barred_images(y, 1)
    frozen = make_classifier().fit(X, y)
    fine_tuned = make_classifier(image_tower="finetune", image_epochs=12, augment=False, **RATE).fit(X, y)
    errors = [np.abs(classifier.predict(unseen) - y).mean() for classifier in (frozen, fine_tuned)]
    assert errors[1] < 0.6 * errors[0]


def test_the_tower_is_trained_for_the_selected_epochs(make_classifier, shades, monkeypatch, tiny):
    towers = {}
    for share in (1.0, 0.5):
        monkeypatch.setattr(trainer, "select_epochs", lambda *_, share=share, **__: EpochSelection(2, share, 0.5))
        classifier = make_classifier(**FINETUNE, image_epochs=3).fit(*shades)
        epochs = [entry for entry in classifier.history_ if entry["stage"] == "image_tower"]
        assert len(epochs) == 2
        assert epochs[-1]["learning_rate"] > 0  # the rates are those of three epochs
        towers[share] = classifier._state.arrays["tower"]
    own = load_backbone(BackboneSource(tiny)).image_tower_copy(torch.device("cpu")).state_dict()
    for name, half in towers[0.5].items():
        np.testing.assert_allclose(half, (own[name].numpy() + towers[1.0][name]) / 2, atol=1e-6)
    assert any(np.abs(towers[1.0][name] - own[name].numpy()).max() > 1e-4 for name in own)


@pytest.mark.parametrize(
    "parameters",
    [{"rank_targets": "hard"}, {"image_adapter": None}, {"early_stopping": True, "validation_fraction": 0.2}],
)
def test_without_cross_fitting_no_epochs_are_selected(make_classifier, shades, monkeypatch, parameters):
    monkeypatch.delattr(trainer, "select_epochs")
    classifier = make_classifier(**FINETUNE, **parameters).fit(*shades)
    assert [entry["stage"] for entry in classifier.history_].count("image_tower") == 2


def test_too_few_images_to_leave_any_out_leave_the_tower_as_it_is(make_classifier, shades, monkeypatch):
    monkeypatch.delattr(trainer, "select_epochs")
    X, y = shades
    classifier = make_classifier(**FINETUNE, ranks=range(5)).fit(X[:3], y[:3])
    assert {entry["stage"] for entry in classifier.history_} == {"prompts"}


def test_without_a_first_stage_the_adapter_still_starts_from_the_frozen_embeddings(make_classifier, shades):
    classifier = make_classifier(**FINETUNE, prompt_epochs=0, image_features="embedding").fit(*shades)
    linear = classifier._state.arrays["adapter"]["linear"]
    assert np.abs(linear[0] - np.eye(linear.shape[1])).max() > 1e-2
    assert classifier.score(*shades) > 0.5


def test_shrunk_images_are_those_that_pillow_makes():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(image).copy())[None]
    expected = np.asarray(image.resize((56, 48), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(shrink(pixels, (48, 56))[0].numpy() - expected).max() <= 1
    assert shrink(pixels, (64, 64)) is pixels


def test_the_rate_is_in_proportion_to_the_towers_weights(make_classifier, shades, monkeypatch, tiny):
    stages = []
    monkeypatch.setattr(trainer, "select_epochs", lambda learner, *_, **__: stages.append(learner) or NOTHING_GAINED)
    classifier = make_classifier(image_tower="finetune").fit(*shades)
    rates = [
        TowerStage(stages[0], replace(stages_settings, image_learning_rate=rate)).parameter_groups()[-1]["lr"]
        for stages_settings in [classifier._settings()]
        for rate in ("auto", 3e-4)
    ]
    weights = [p.detach().flatten() for p in stages[0].tower.parameters() if p.ndim > 1]
    assert rates[0] == pytest.approx(2e-3 * torch.cat(weights).square().mean().sqrt().item())
    assert rates[1] == 3e-4
