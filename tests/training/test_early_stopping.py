import numpy as np
import pytest
import torch

from skl2rclip._training.early_stopping import EarlyStopping
from skl2rclip._training.stages import PromptStage, run_stage
from tests.support.learners import hard_settings_of, learner_of_two_ranks, two_ranks

SETTINGS = hard_settings_of()


def test_a_stage_ends_without_improvement_and_the_best_weights_come_back():
    stage = PromptStage(learner_of_two_ranks(), SETTINGS)
    others = two_ranks()
    others.target = 1 - others.target  # the better the fit, the worse the score
    stopping = EarlyStopping(others, SETTINGS, np.arange(2.0))
    start = stage.learner.prompts.context.detach().clone()
    run_stage(stage, two_ranks(), n_epochs=9, batch_size=6, stopping=stopping)
    assert len(stage.learner.history) == 3  # the first is the best
    assert [entry["kept"] for entry in stage.learner.history] == [1, 0, 0]
    moved = (stage.learner.prompts.context - start).abs().item()
    assert 0 < moved < 0.11  # by one step


@pytest.mark.parametrize(("kind", "by"), [("hard", ["mae", "loss"]), ("soft", ["rps"])])
def test_early_stopping_monitors(kind, by):
    data = two_ranks()
    data.distributions = torch.nn.functional.one_hot(data.target, 2).float() if kind == "soft" else None
    settings = hard_settings_of(rank_targets=kind, n_iter_no_change=100, learning_rate=0.5)
    stage = PromptStage(learner_of_two_ranks(), settings)
    stopping = EarlyStopping(two_ranks(4), settings, np.arange(2.0))
    run_stage(stage, data, n_epochs=6, batch_size=6, stopping=stopping)
    scores = [tuple(entry[f"validation_{name}"] for name in by) for entry in stage.learner.history]
    assert stopping._best == min(scores)
