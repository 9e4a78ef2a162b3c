from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from skl2rclip import L2RCLIPClassifier
from skl2rclip._model.modules import RidgeAdapter
from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.ridge import Scatter
from skl2rclip._settings import Settings
from skl2rclip._training.initialization import measure, order_prompts, start
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.objective import Objective
from skl2rclip._training.stages import PromptStage, run_stage
from skl2rclip.metrics import ordinality

pytestmark = pytest.mark.full_ordering
K, D, N = 5, 12, 60


class Points(torch.nn.Module):
    """Prompts that are their prototypes."""

    n_products = 0

    def __init__(self):
        super().__init__()
        self.context = torch.nn.Parameter(torch.randn(K, D, generator=torch.Generator().manual_seed(0)))

    def forward(self):
        return torch.nn.functional.normalize(self.context, dim=1)


@pytest.fixture(params=["linear", "mlp"])
def kind(request):
    return request.param


@pytest.fixture
def learner(kind):
    return Learner(
        prompts=Points(),
        adapter=RidgeAdapter(D, kind),
        tower=None,
        preprocessing=None,
        objective=Objective((1.0, 0.1, 0.1, 0.0), 10.0, torch.arange(float(K))),
        autocast=torch.autocast("cpu", enabled=False),
        generator=torch.Generator().manual_seed(0),
    )


WEIGHT = np.linspace(0.5, 1.5, N)


@pytest.fixture
def measured(kind):
    """What embeddings say that show the rank, with noise."""
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(K), N // K)
    Z = rng.normal(size=(N, D))
    Z[:, 0] += 1.5 * target
    Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)
    return measure(Z, target, np.arange(float(K)), WEIGHT, None, has_hidden=kind == "mlp", seed=0)


@pytest.fixture
def data(measured):
    targets = measured.targets
    return TrainingData(
        torch.from_numpy(targets.target),
        torch.from_numpy(WEIGHT).float(),
        torch.from_numpy(measured.features.embeddings),
        distributions=torch.from_numpy(targets.around_labels()),
    )


def settings_of(**changes):
    return Settings.of({**L2RCLIPClassifier().get_params(deep=False), **changes})


def ridge_onto_prototypes(learner, measured, distributions, seen):
    """Unit rows of scikit-learn's ridge regression onto the mean of the prototypes."""
    aims = distributions @ learner.prototypes().detach().numpy().astype(np.float64)
    aims = aims / np.linalg.norm(aims, axis=1, keepdims=True)
    X, rows = measured.features[slice(None)], seen > 0
    model = Ridge(alpha=measured.targets.penalty * seen.mean())
    expected = model.fit(X[rows], aims[rows], sample_weight=seen[rows]).predict(X)
    return expected / np.linalg.norm(expected, axis=1, keepdims=True)


def whole(data):
    return data.batch(data.embeddings, torch.arange(N))


def test_prompts_come_into_order_without_an_image(learner, measured):
    before = ordinality(learner.prototypes().detach())
    for _ in range(40):  # of forty steps each: points that start anywhere have a longer way than words
        order_prompts(learner, measured.targets.of_ranks())
    assert before < 0.75
    assert ordinality(learner.prototypes().detach()) >= 0.9


def test_fixed_prompts_stay(learner, measured):
    learner.prompts.requires_grad_(False)
    before = learner.prototypes()
    order_prompts(learner, measured.targets.of_ranks())
    assert torch.equal(learner.prototypes(), before)


def test_every_adapter_starts_as_a_ridge_regression_without_what_it_misses(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    adapted = contest.adapters.all(data.embeddings).detach().numpy()
    assert len(adapted) == 3 * 5
    fold, targets = contest.fold.numpy(), measured.targets
    assert np.bincount(fold).tolist() == [15, 15, 15, 15]
    for number in range(5):
        seen = np.where(fold == number - 1, 0, measured.weight)
        fitted = targets.refitted(measured.features, Scatter(measured.features, seen)) if number else targets.fitted
        candidates = [targets.around_fit(fitted), targets.around_labels(), targets.around_labels(0.5)]
        for candidate, distributions in enumerate(candidates):
            expected = ridge_onto_prototypes(learner, measured, distributions, seen)
            np.testing.assert_allclose(adapted[5 * candidate + number], expected, atol=2e-3)
            kept = contest.distributions(whole(data))[candidate, number]
            np.testing.assert_array_equal(kept, distributions)


def test_a_fold_is_no_part_of_its_own_centres(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    missed = contest.fold.numpy() == 0
    seen = np.where(missed, 0, measured.weight)
    measured.targets.target[missed] = 0  # other labels, which a fit without them cannot know
    again = measured.targets.refitted(measured.features, Scatter(measured.features, seen))
    np.testing.assert_allclose(contest.distributions(whole(data))[0, 1], measured.targets.around_fit(again), atol=1e-6)


def test_few_images_start_without_a_contest(learner, data, measured, monkeypatch):
    monkeypatch.setattr("skl2rclip._training.initialization._MOST_COMPARED", N - 1)
    assert start(learner, data, measured, every=1, seed=0) is None
    expected = ridge_onto_prototypes(learner, measured, measured.targets.around_labels(), measured.weight)
    np.testing.assert_allclose(learner.adapt(data.embeddings).detach().numpy(), expected, atol=2e-3)


def test_adapters_of_folds_neither_see_their_fold_nor_move_the_prompts(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    batch = data.batch(data.embeddings, torch.arange(N))
    learner.prompts.zero_grad()
    contest.step(learner, batch)
    gradient = contest.adapters.linear.grad.clone()
    of_prompts = learner.prompts.context.grad.clone()
    changed = data.embeddings.clone()
    changed[contest.fold == 2] = changed[contest.fold == 2].roll(1, dims=0)
    contest.adapters.zero_grad()
    contest.step(learner, data.batch(changed, torch.arange(N)))
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(gradient, contest.adapters.linear.grad, strict=True)]
    assert [place for place, is_same in enumerate(same) if is_same] == [3, 8, 13]
    # the prompts learn from the adapters that see everything
    learner.prompts.zero_grad()
    loss = 0
    for place in (0, 5, 10):
        part = replace(batch, distributions=contest.distributions(batch)[place // 5, 0])
        loss = loss + learner.loss(contest.adapters.all(batch.inputs)[place], learner.prototypes(), part)[0] / 3
    loss.backward()
    torch.testing.assert_close(of_prompts, learner.prompts.context.grad, rtol=1e-4, atol=1e-6)


def test_a_batch_teaches_nothing_to_the_adapters_that_miss_all_of_it(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    rows = torch.nonzero(contest.fold == 2)[:3, 0]
    contest.step(learner, data.batch(data.embeddings[rows], rows))
    learns = contest.adapters.linear.grad.flatten(1).abs().sum(1) > 0
    assert (~learns).nonzero()[:, 0].tolist() == [3, 8, 13]


def test_a_batch_is_likened_to_the_targets_of_its_own_rows(learner, data, measured):
    contest, rows = start(learner, data, measured, every=1, seed=0), torch.tensor([31, 2, 59, 2])
    of_all = contest.distributions(whole(data))
    assert of_all.shape == (3, 5, N, K)
    assert torch.equal(contest.distributions(data.batch(data.embeddings[rows], rows)), of_all[:, :, rows])


def test_what_grows_with_the_images_is_kept_for_one_candidate_alone(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    kept = [tensor.numel() for tensor in vars(contest).values() if isinstance(tensor, torch.Tensor)]
    assert sum(kept) == 5 * N * K + 2 * K * K + N


def test_a_look_scores_each_image_by_the_adapters_that_miss_it(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    with torch.no_grad():
        for parameter in contest.adapters.parameters():  # no map like another
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        adapted, prototypes = contest.adapters.all(data.embeddings).numpy(), learner.prototypes().numpy()
    scores = np.zeros(3)
    for candidate in range(3):
        for image, fold in enumerate(contest.fold.tolist()):
            exponentials = np.exp(10.0 * prototypes @ adapted[5 * candidate + 1 + fold, image].astype(np.float64))
            score = ranked_scores(exponentials[None] / exponentials.sum(), measured.targets.target[image : image + 1])
            scores[candidate] += WEIGHT[image] * score[0] / WEIGHT.sum()
    assert contest.look(learner)["cross_fitted_rps"] == pytest.approx(scores.min(), rel=1e-5)
    best = adapted[5 * scores.argmin()]
    np.testing.assert_allclose(learner.adapt(data.embeddings).detach(), best, atol=1e-6)


def test_the_state_that_foretells_best_is_kept(learner, data, measured):
    contest = start(learner, data, measured, every=2, seed=0)
    stage, states = PromptStage(learner, settings_of(learning_rate=0.02), contest), []
    start_score = contest._best[0]
    run_stage(
        stage,
        data,
        n_epochs=12,
        batch_size=N,
        on_epoch_end=lambda: states.append((learner.prototypes().detach(), learner.adapt(data.embeddings).detach())),
    )
    looks = {e["epoch"]: e["cross_fitted_rps"] for e in learner.history if "cross_fitted_rps" in e}
    assert list(looks) == [2, 4, 6, 8, 10, 12]
    best = min(looks, key=looks.get)
    assert looks[best] < start_score
    torch.testing.assert_close(learner.prototypes(), states[best - 1][0])
    torch.testing.assert_close(learner.adapt(data.embeddings), states[best - 1][1])


def test_training_that_only_harms_is_undone(learner, data, measured):
    contest = start(learner, data, measured, every=1, seed=0)
    before = learner.prototypes().detach(), learner.adapt(data.embeddings).detach()
    run_stage(PromptStage(learner, settings_of(learning_rate=30.0), contest), data, n_epochs=3, batch_size=N)
    torch.testing.assert_close(learner.prototypes(), before[0])
    torch.testing.assert_close(learner.adapt(data.embeddings), before[1])
