import numpy as np
import pytest

from skl2rclip._ordinal import soft_targets
from skl2rclip._ordinal.ridge import Scatter, leave_one_out
from skl2rclip._ordinal.soft_targets import (
    RunningErrors,
    measure,
    measure_targets,
    reliability,
    targets_of_predictions,
)
from skl2rclip._ordinal.splits import blocks_of


def embeddings_of(position, noise=0.0, seed=0):
    """Unit rows that show a position by an angle, among other things."""
    rng = np.random.default_rng(seed)
    angle = np.asarray(position) / 3
    Z = np.column_stack([np.cos(angle), np.sin(angle), rng.normal(size=(len(angle), 3)) * noise])
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


def measured(Z, target, values=None, weight=None, groups=None):
    values = np.arange(target.max() + 1.0) if values is None else np.array(values, float)
    weight = np.ones(len(target)) if weight is None else weight
    return measure_targets(Z, target, values, weight, blocks_of(Z, groups))


@pytest.mark.parametrize("is_cumulative", [False, True])
def test_width_and_centre_are_those_of_the_formula(is_cumulative):
    rng = np.random.default_rng(0)
    target, scale = np.repeat(np.arange(5), 8), np.arange(5.0)
    Z, weight = embeddings_of(target + rng.normal(size=40), noise=0.3), rng.uniform(0.5, 2, 40)
    score, left_out, targets = soft_targets._probe(Z, target, scale, Scatter(Z, weight), np.arange(40), is_cumulative)
    outputs = (target[:, None] <= np.arange(4)) if is_cumulative else target[:, None]
    ridge = leave_one_out(Z, outputs.astype(float), weight, np.arange(40))
    if not is_cumulative:
        np.testing.assert_allclose(left_out, ridge.predicted[:, 0])
    square = np.average((target - left_out) ** 2, weights=weight) * 40 / 38
    r2 = 1 - square / np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    assert (targets.sigma, targets.trust) == (pytest.approx(np.sqrt(square)), pytest.approx(r2))

    def gaussian(centre, width):
        q = np.exp(-((np.asarray(centre)[:, None] - scale) ** 2) / (2 * width**2))
        return q / q.sum(axis=1, keepdims=True)

    sigma = targets.sigma
    np.testing.assert_allclose(targets.around_labels(0.5), gaussian(target, sigma / 2), atol=1e-6)
    np.testing.assert_allclose(targets.around_fit(), gaussian(targets.fitted, sigma), atol=1e-6)
    np.testing.assert_allclose(targets.of_ranks(), gaussian(scale, sigma), atol=1e-6)
    each = ((gaussian(left_out, sigma).cumsum(1) - (target[:, None] <= scale)) ** 2)[:, :-1].sum(1)
    assert score == pytest.approx(np.average(each, weights=weight), rel=1e-5)
    refitted = targets.refitted(Z, Scatter(Z, weight))
    np.testing.assert_allclose(refitted, targets.fitted, atol=1e-6 if weight.mean() == 1 else 0.2)


def test_the_regression_that_predicts_better_is_taken():
    target = np.repeat(np.arange(6), 12)
    Z = np.eye(6)[np.array([3, 0, 5, 1, 4, 2])[target]] + 0.05 * np.random.default_rng(0).normal(size=(72, 6))
    by_class = measured(Z.astype(np.float32), target)  # ranks in no order along any line, but each plain to see
    scatter = Scatter(Z, np.ones(72))
    probes = [soft_targets._probe(Z, target, np.arange(6.0), scatter, np.arange(72), each)[0] for each in (False, True)]
    assert by_class.is_cumulative == (probes[1] < probes[0])
    assert by_class.trust > 0.9


def test_places_of_cumulated_probabilities_are_medians():
    scale = np.array([0.0, 1, 2, 3])
    cumulated = np.array([[0.5, 1, 1], [0, 0.5, 1], [0, 0, 0], [1, 1, 1], [0.2, 0.8, 1], [0.7, 0.3, 1.2]])
    places = soft_targets._centres(cumulated, scale, True)
    np.testing.assert_allclose(places, [0.5, 1.5, 3, 0, 1, 1 - 0.5 + (0.5 - 0.3) / 0.4], atol=1e-6)
    np.testing.assert_allclose(soft_targets._centres(cumulated[:1], scale * 10, True), [5.0], atol=1e-6)


@pytest.mark.parametrize(
    "values", [[1, 10, 100, 1000], [1000, 100, 10, 1], [1, 2, 5, 10, 20], [20240101, 20240102, 20240103]]
)
def test_uneven_ranks_do_not_merge_where_images_tell_them_apart(values):
    target = np.repeat(np.arange(len(values)), 6)
    targets = measured(embeddings_of(target, noise=0.02), target, values)
    for q in (targets.around_labels(), targets.around_fit()):
        assert (q.argmax(axis=1) == target).all()
        assert q.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert targets.around_labels().max(axis=1).min() > 0.8


def test_separable_images_have_narrow_targets_that_are_not_a_point():
    target = np.repeat(np.arange(4), 10)
    Z = np.eye(4, dtype=np.float32)[target] + np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) * 1e-3
    own = measured(Z, target).around_labels()[np.arange(40), target]
    assert own.min() > 0.98
    assert own.max() < 1


def test_labels_that_nothing_explains_are_not_believed():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 6, 60)
    targets = measured(embeddings_of(rng.normal(size=60), noise=1.0), target)
    assert targets.trust < 0.1
    assert targets.noise == pytest.approx(target.std(), rel=0.2)


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ([2, 2, 2, 2], None),
        ([0, 1, 2, 3, 3], [0, 0, 0, 1, 2]),
        ([0, 1, 2, 3], [7, 7, 7, 7]),
    ],
)
def test_where_nothing_can_be_measured_labels_are_believed(target, groups):
    target = np.array(target)
    Z = np.random.default_rng(0).normal(size=(len(target), 8)).astype(np.float32)
    targets = measured(Z, target, np.arange(4), groups=None if groups is None else np.array(groups))
    for q in (targets.around_labels(), targets.around_fit()):
        assert (q.argmax(axis=1) == target).all()
        assert q.max(axis=1).min() > 0.98
    assert (targets.noise, targets.trust) == (0, 1)
    assert np.isfinite(targets.penalty)


@pytest.mark.parametrize("target", [[0, 1], [0, 1, 2], [3, 0, 0]])
def test_of_too_few_images_to_measure_targets_are_wide(target):
    Z = np.random.default_rng(0).normal(size=(len(target), 8)).astype(np.float32)
    targets = measured(Z, np.array(target), np.array([0, 10, 20, 50]))
    assert (targets.around_labels().argmax(axis=1) == target).all()
    assert (targets.around_labels().max(axis=1) < 0.8).all()
    assert targets.noise == pytest.approx(0.7 * np.std([0, 10, 20, 50]))
    assert targets.trust == pytest.approx(0.51)


def test_a_group_of_images_does_not_fake_certainty():
    rng = np.random.default_rng(0)
    patients, per_patient = 24, 6
    label = rng.integers(0, 5, patients)
    Z = rng.normal(size=(patients, 32))  # which says nothing of the label
    groups = np.repeat(np.arange(patients), per_patient)
    frames = (Z[groups] + 0.05 * rng.normal(size=(len(groups), 32))).astype(np.float32)
    assert measured(frames, label[groups]).trust > 0.9
    assert measured(frames, label[groups], groups=groups).trust < 0.3


def test_errors_run_on_from_batch_to_batch_and_are_forgotten_by_half():
    rng = np.random.default_rng(0)
    p, y, w = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, 30), rng.uniform(0.5, 2, 30)
    values = np.array([0, 10, 20, 30.0])
    _, first = targets_of_predictions(p[:11], y[:11], values, w[:11], RunningErrors())
    rest, _ = targets_of_predictions(p[11:], y[11:], values, w[11:], first)
    error = p @ values - values[y]
    counts = np.where(np.arange(30) < 11, 0.5, 1.0)
    assert rest.noise == pytest.approx(np.sqrt(np.average(error**2, weights=counts * w)))
    assert (rest.around_labels().argmax(axis=1) == y[11:]).all()


def line(n=400, width=8, noise=0.0, seed=0):
    """Unit rows along which labels of 0 to 20 rise, and these labels before and after some raters were off by 3."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 21, n)
    Z = np.ones((n, width)) + 0.01 * rng.standard_normal((n, width))
    Z[:, 0] += 0.1 * (truth + noise * rng.standard_normal(n))
    std = np.where(rng.random(n) < 0.5, 0.0, 3.0)
    marked = np.clip(np.rint(truth + std * rng.standard_normal(n)), 0, 20).astype(int)
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), truth, marked, std


def test_the_measured_width_is_that_of_the_error_without_the_labels_own():
    Z, truth, marked, std = line(noise=1.0)
    values, ones = np.arange(21.0), np.ones(len(Z))

    def noise(target, std=None):
        return measure(Z, target, values, ones, blocks_of(Z, None), std, n_hidden=0, seed=0).targets.noise

    of_truth, ignored, known = noise(truth), noise(marked), noise(marked, std)
    assert ignored > 1.7 * of_truth
    assert known == pytest.approx(of_truth, rel=0.2)


def test_an_image_counts_by_its_share_of_the_variance():
    np.testing.assert_allclose(reliability(np.array([0.0, 1.0, 3.0]), 1.0), [1, 0.5, 0.1])
    np.testing.assert_array_equal(reliability(np.array([0.0, 5.0]), 0.0), [1, 1])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[0, 1, 2, 3, 4], [0, 1, 5, 6, 20], [0, 5e-324, 1e-200, 1, 2]])
def test_neither_the_unit_nor_the_zero_of_the_labels_counts(values):
    rng = np.random.default_rng(0)
    target, values = np.tile(np.arange(5), 8), np.array(values, float)
    Z = embeddings_of(target + rng.normal(size=40), noise=0.3)
    expected = measured(Z, target, values)
    assert np.isfinite(expected.around_labels()).all()
    if values[1] < 1e-300:
        return
    for factor, offset in ((1e-6, 0), (1e-140, 0), (1e140, 0), (1, 1e9), (-1, -1e9)):
        moved = measured(Z, target, values * factor + offset)
        np.testing.assert_allclose(moved.around_labels(), expected.around_labels(), atol=1e-5)
        np.testing.assert_allclose(moved.around_fit(), expected.around_fit(), atol=1e-5)
        assert moved.noise == pytest.approx(expected.noise * abs(factor), rel=1e-4)
