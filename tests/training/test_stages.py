import numpy as np
import pytest
import torch

from skl2rclip import L2RCLIPClassifier
from skl2rclip._model.modules import ImageAdapter, RidgeAdapter
from skl2rclip._settings import Settings
from skl2rclip._training.candidates import EarlyStopping
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.objective import Objective
from skl2rclip._training.stages import PromptStage, TowerStage, run_stage
from skl2rclip.errors import NonFiniteLossError


class OneNumber(torch.nn.Module):
    """Prompts that are a single number, whose prototypes are two unit vectors that it turns."""

    n_products = 0

    def __init__(self):
        super().__init__()
        self.context = torch.nn.Parameter(torch.tensor([-0.5]))

    def forward(self):
        angle = torch.cat([self.context, -self.context])
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def learner(**changes):
    return Learner(
        prompts=OneNumber(),
        adapter=None,
        tower=None,
        preprocessing=None,
        objective=Objective((1.0, 0.0, 0.0, 0.0), 10.0, torch.arange(2.0)),
        autocast=torch.autocast("cpu", enabled=False),
        generator=torch.Generator().manual_seed(0),
        **changes,
    )


def settings_of(**changes):
    given = {"rank_targets": "hard", "learning_rate": 0.1, "weight_decay": 0.0, "n_iter_no_change": 2, **changes}
    return Settings.of({**L2RCLIPClassifier().get_params(deep=False), **given})


SETTINGS = settings_of()


def two_ranks(n=6):
    target = torch.arange(n) % 2
    angle = torch.where(target == 0, 1.0, -1.0) + torch.linspace(-0.1, 0.1, n)
    return TrainingData(target, None, torch.stack([angle.cos(), angle.sin()], dim=1))


def test_the_loop_lets_rates_fall_along_a_cosine_and_keeps_a_record_of_each_epoch():
    stage, seen = PromptStage(learner(), SETTINGS), []
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


def test_without_decay_the_rate_stays_and_the_optimiser_goes_on():
    stage = PromptStage(learner(), SETTINGS)
    optimizer = run_stage(stage, two_ranks(), n_epochs=2, batch_size=6, decay=False)
    assert run_stage(stage, two_ranks(), n_epochs=1, batch_size=6, decay=False, optimizer=optimizer) is optimizer
    assert [entry["learning_rate"] for entry in stage.learner.history] == [0.1, 0.1, 0.1]
    assert optimizer.state[stage.learner.prompts.context]["step"] == 3


def test_nothing_to_train_makes_no_epochs():
    stage = PromptStage(learner(), SETTINGS)
    stage.learner.prompts.requires_grad_(False)
    assert run_stage(stage, two_ranks(), n_epochs=3, batch_size=2) is None
    assert stage.learner.history == []


def test_a_stage_ends_without_improvement_and_the_best_weights_come_back():
    stage = PromptStage(learner(), SETTINGS)
    others = two_ranks()
    others.target = 1 - others.target  # the better the fit, the worse the score
    stopping = EarlyStopping(others, SETTINGS, np.arange(2.0))
    start = stage.learner.prompts.context.detach().clone()
    run_stage(stage, two_ranks(), n_epochs=9, batch_size=6, stopping=stopping)
    assert len(stage.learner.history) == 3  # the first is the best
    moved = (stage.learner.prompts.context - start).abs().item()
    assert 0 < moved < 0.11  # by one step


def test_a_loss_that_is_not_finite_names_stage_term_and_parameter():
    stage, data = PromptStage(learner(), SETTINGS), two_ranks()
    data.embeddings[0] = np.nan
    with pytest.raises(NonFiniteLossError, match=r"epoch 1 \(stage 'prompts'\).*contrastive.*Lower learning_rate"):
        run_stage(stage, data, n_epochs=1, batch_size=6)
    assert TowerStage.rates == "learning_rate or image_learning_rate"


def test_the_adapter_learns_at_a_share_of_the_prompts_rate_with_soft_targets():
    rates = {}
    for kind, adapter in (("hard", ImageAdapter(2)), ("soft", RidgeAdapter(2))):
        with_adapter = learner()
        with_adapter.adapter = adapter
        groups = PromptStage(with_adapter, settings_of(rank_targets=kind)).parameter_groups()
        rates[kind] = [group["lr"] for group in groups]
    assert rates["hard"] == [0.1]
    assert rates["soft"] == pytest.approx([0.1, 0.1 / 3])


@pytest.mark.parametrize(("kind", "by"), [("hard", ["mae", "loss"]), ("soft", ["rps"])])
def test_early_stopping_judges_by(kind, by):
    data = two_ranks()
    data.distributions = torch.nn.functional.one_hot(data.target, 2).float() if kind == "soft" else None
    settings = settings_of(rank_targets=kind, n_iter_no_change=100, learning_rate=0.5)
    stage, stopping = PromptStage(learner(), settings), EarlyStopping(two_ranks(4), settings, np.arange(2.0))
    run_stage(stage, data, n_epochs=6, batch_size=6, stopping=stopping)
    scores = [tuple(entry[f"validation_{name}"] for name in by) for entry in stage.learner.history]
    assert stopping._best == min(scores)
