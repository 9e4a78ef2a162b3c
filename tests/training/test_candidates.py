from dataclasses import replace

import numpy as np
import pytest
import torch

from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._training.initialization import start
from skl2rclip._training.stages import PromptStage, run_stage
from tests.support.learners import N_IMAGES, N_RANKS, WEIGHT, settings_of

pytestmark = pytest.mark.full_ordering


def test_adapters_of_folds_neither_see_their_fold_nor_move_the_prompts(learner, data, measured, whole):
    candidates = start(learner, data, measured, every=1, seed=0)
    learner.prompts.zero_grad()
    candidates.step(learner, whole)
    gradient = candidates.adapters.linear.grad.clone()
    of_prompts = learner.prompts.context.grad.clone()
    changed = data.images.features.clone()
    changed[candidates.fold == 2] = changed[candidates.fold == 2].roll(1, dims=0)
    candidates.adapters.zero_grad()
    candidates.step(learner, data.batch(changed, torch.arange(N_IMAGES)))
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(gradient, candidates.adapters.linear.grad, strict=True)]
    assert [place for place, is_same in enumerate(same) if is_same] == [3, 8, 13]
    # the prompts learn from the adapters that see everything
    learner.prompts.zero_grad()
    loss = 0
    for place in (0, 5, 10):
        part = replace(whole, distributions=candidates.distributions(whole)[place // 5, 0])
        loss = loss + learner.loss(candidates.adapters.all(whole.inputs)[place], learner.prototypes(), part)[0] / 3
    loss.backward()
    torch.testing.assert_close(of_prompts, learner.prompts.context.grad, rtol=1e-4, atol=1e-6)


def test_a_batch_teaches_nothing_to_the_adapters_that_miss_all_of_it(learner, data, measured):
    candidates = start(learner, data, measured, every=1, seed=0)
    rows = torch.nonzero(candidates.fold == 2)[:3, 0]
    candidates.step(learner, data.batch(data.images.features[rows], rows))
    learns = candidates.adapters.linear.grad.flatten(1).abs().sum(1) > 0
    assert (~learns).nonzero()[:, 0].tolist() == [3, 8, 13]


def test_a_batch_has_the_targets_of_its_own_rows(learner, data, measured, whole):
    candidates, rows = start(learner, data, measured, every=1, seed=0), torch.tensor([31, 2, 59, 2])
    of_all = candidates.distributions(whole)
    assert of_all.shape == (3, 5, N_IMAGES, N_RANKS)
    assert torch.equal(candidates.distributions(data.batch(data.images.features[rows], rows)), of_all[:, :, rows])


def test_what_grows_with_the_images_is_kept_for_one_candidate_alone(learner, data, measured):
    candidates = start(learner, data, measured, every=1, seed=0)
    kept = [tensor.numel() for tensor in vars(candidates).values() if isinstance(tensor, torch.Tensor)]
    assert sum(kept) == 5 * N_IMAGES * N_RANKS + 2 * N_RANKS * N_RANKS + N_IMAGES


def test_a_look_scores_each_image_by_the_adapters_that_miss_it(learner, data, measured):
    candidates = start(learner, data, measured, every=1, seed=0)
    with torch.no_grad():
        for parameter in candidates.adapters.parameters():  # no map like another
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        adapted, prototypes = candidates.adapters.all(data.images.features).numpy(), learner.prototypes().numpy()
    scores = np.zeros(3)
    for candidate in range(3):
        for image, fold in enumerate(candidates.fold.tolist()):
            exponentials = np.exp(10.0 * prototypes @ adapted[5 * candidate + 1 + fold, image].astype(np.float64))
            score = ranked_scores(exponentials[None] / exponentials.sum(), measured.targets.target[image : image + 1])
            scores[candidate] += WEIGHT[image] * score[0] / WEIGHT.sum()
    assert candidates.evaluate(learner)["cross_fitted_rps"] == pytest.approx(scores.min(), rel=1e-5)
    best = adapted[5 * scores.argmin()]
    np.testing.assert_allclose(learner.adapt(data.images.features).detach(), best, atol=1e-6)


def test_the_state_that_predicts_best_is_kept(learner, data, measured):
    candidates = start(learner, data, measured, every=2, seed=0)
    stage, states = PromptStage(learner, settings_of(learning_rate=0.02), candidates), []
    start_score = candidates._best[0]
    run_stage(
        stage,
        data,
        n_epochs=12,
        batch_size=N_IMAGES,
        on_epoch_end=lambda: states.append(
            (learner.prototypes().detach(), learner.adapt(data.images.features).detach())
        ),
    )
    evaluations = {e["epoch"]: e["cross_fitted_rps"] for e in learner.history if "cross_fitted_rps" in e}
    assert list(evaluations) == [2, 4, 6, 8, 10, 12]
    best = min(evaluations, key=evaluations.get)
    assert evaluations[best] < start_score
    assert [entry["epoch"] for entry in learner.history if entry["kept"]] == [best]
    torch.testing.assert_close(learner.prototypes(), states[best - 1][0])
    torch.testing.assert_close(learner.adapt(data.images.features), states[best - 1][1])


def test_training_that_only_harms_is_undone(learner, data, measured):
    candidates = start(learner, data, measured, every=1, seed=0)
    before = learner.prototypes().detach(), learner.adapt(data.images.features).detach()
    run_stage(PromptStage(learner, settings_of(learning_rate=30.0), candidates), data, n_epochs=3, batch_size=N_IMAGES)
    assert [entry["kept"] for entry in learner.history] == [0, 0, 0]
    torch.testing.assert_close(learner.prototypes(), before[0])
    torch.testing.assert_close(learner.adapt(data.images.features), before[1])
