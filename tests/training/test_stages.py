import numpy as np
import pytest

from skl2rclip._model.modules import ImageAdapter, RidgeAdapter
from skl2rclip._training.stages import PromptStage, TowerStage, run_stage
from skl2rclip.errors import NonFiniteLossError
from tests.support.learners import hard_settings_of, learner_of_two_ranks, two_ranks

SETTINGS = hard_settings_of()


def test_the_loop_lets_rates_fall_along_a_cosine_and_keeps_a_record_of_each_epoch():
    stage, seen = PromptStage(learner_of_two_ranks(), SETTINGS), []
    run_stage(
        stage, two_ranks(), n_epochs=4, batch_size=2, on_epoch_end=lambda: seen.append(len(stage.learner.history))
    )
    history = stage.learner.history
    assert seen == [1, 2, 3, 4]
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    rates = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert [entry["learning_rate"] for entry in history] == pytest.approx(rates.tolist())
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(entry["loss"] == pytest.approx(entry["contrastive"]) for entry in history)
    assert [entry["kept"] for entry in history] == [0, 0, 0, 1]  # nobody has chosen another than the last


def test_without_decay_the_rate_stays_and_the_optimiser_goes_on():
    stage = PromptStage(learner_of_two_ranks(), SETTINGS)
    optimizer = run_stage(stage, two_ranks(), n_epochs=2, batch_size=6, decay=False)
    assert run_stage(stage, two_ranks(), n_epochs=1, batch_size=6, decay=False, optimizer=optimizer) is optimizer
    assert [entry["learning_rate"] for entry in stage.learner.history] == [0.1, 0.1, 0.1]
    assert optimizer.state[stage.learner.prompts.context]["step"] == 3


def test_nothing_to_train_makes_no_epochs():
    stage = PromptStage(learner_of_two_ranks(), SETTINGS)
    stage.learner.prompts.requires_grad_(False)
    assert run_stage(stage, two_ranks(), n_epochs=3, batch_size=2) is None
    assert stage.learner.history == []


def test_a_loss_that_is_not_finite_names_stage_term_and_parameter():
    stage, data = PromptStage(learner_of_two_ranks(), SETTINGS), two_ranks()
    data.images.features[0] = np.nan
    with pytest.raises(NonFiniteLossError, match=r"epoch 1 \(stage 'prompts'\).*contrastive.*Lower learning_rate"):
        run_stage(stage, data, n_epochs=1, batch_size=6)
    assert TowerStage.rates == "learning_rate or image_learning_rate"


def test_the_adapter_learns_at_a_share_of_the_prompts_rate_with_soft_targets():
    rates = {}
    for kind, adapter in (("hard", ImageAdapter(2)), ("soft", RidgeAdapter(2))):
        with_adapter = learner_of_two_ranks()
        with_adapter.adapter = adapter
        groups = PromptStage(with_adapter, hard_settings_of(rank_targets=kind)).parameter_groups()
        rates[kind] = [group["lr"] for group in groups]
    assert rates["hard"] == [0.1]
    assert rates["soft"] == pytest.approx([0.1, 0.1 / 3])
