import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from skl2rclip._ordinal.ridge import Scatter
from skl2rclip._training.initialization import order_prompts, start
from skl2rclip.metrics import ordinality
from tests.support.learners import N_IMAGES

pytestmark = pytest.mark.full_ordering


def ridge_onto_prototypes(learner, measured, distributions, seen):
    """Unit rows of scikit-learn's ridge regression onto the mean of the prototypes."""
    aims = distributions @ learner.prototypes().detach().numpy().astype(np.float64)
    aims = aims / np.linalg.norm(aims, axis=1, keepdims=True)
    X, rows = measured.features[slice(None)], seen > 0
    model = Ridge(alpha=measured.targets.penalty * seen.mean())
    expected = model.fit(X[rows], aims[rows], sample_weight=seen[rows]).predict(X)
    return expected / np.linalg.norm(expected, axis=1, keepdims=True)


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


def test_every_adapter_starts_as_a_ridge_regression_without_what_it_misses(learner, data, measured, whole):
    selection = start(learner, data, measured, every=1, seed=0)
    adapted = selection.adapters.all(data.images.features).detach().numpy()
    assert len(adapted) == 3 * 5
    fold, targets = selection.fold.numpy(), measured.targets
    assert np.bincount(fold).tolist() == [15, 15, 15, 15]
    for number in range(5):
        seen = np.where(fold == number - 1, 0, measured.weight)
        fitted = targets.refitted(measured.features, Scatter(measured.features, seen)) if number else targets.fitted
        candidates = [targets.around_fit(fitted), targets.around_labels(), targets.around_labels(0.5)]
        for candidate, distributions in enumerate(candidates):
            expected = ridge_onto_prototypes(learner, measured, distributions, seen)
            np.testing.assert_allclose(adapted[5 * candidate + number], expected, atol=2e-3)
            kept = selection.distributions(whole)[candidate, number]
            np.testing.assert_array_equal(kept, distributions)


def test_a_fold_is_no_part_of_its_own_centres(learner, data, measured, whole):
    candidates = start(learner, data, measured, every=1, seed=0)
    missed = candidates.fold.numpy() == 0
    seen = np.where(missed, 0, measured.weight)
    measured.targets.target[missed] = 0  # other labels, which a fit without them cannot know
    again = measured.targets.refitted(measured.features, Scatter(measured.features, seen))
    np.testing.assert_allclose(candidates.distributions(whole)[0, 1], measured.targets.around_fit(again), atol=1e-6)


def test_few_images_start_without_candidates(learner, data, measured, monkeypatch):
    monkeypatch.setattr("skl2rclip._training.initialization._MAX_COMPARED", N_IMAGES - 1)
    assert start(learner, data, measured, every=1, seed=0) is None
    expected = ridge_onto_prototypes(learner, measured, measured.targets.around_labels(), measured.weight)
    np.testing.assert_allclose(learner.adapt(data.images.features).detach().numpy(), expected, atol=2e-3)
