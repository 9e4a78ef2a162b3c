import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from skl2rclip import _targets
from skl2rclip._targets import (
    Features,
    RunningErrors,
    blocks_of,
    folds,
    leave_one_out,
    measure_targets,
    ridge_map,
    targets_of_predictions,
)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(50, 6))
    y = Z @ rng.normal(size=(6, 2)) + 3 + rng.normal(size=(50, 2))
    return Z, y


def by_hand(Z, y, weight, penalty, left_out):
    """What a fit without some rows says of them."""
    rest = ~left_out
    model = Ridge(alpha=penalty).fit(Z[rest], y[rest], sample_weight=weight[rest])
    return model.predict(Z[left_out])


def alone(n):
    return np.arange(n)


def test_it_is_scikit_learns_where_that_does_the_same(data):
    Z, y = data
    ours = leave_one_out(Z, y[:, 0], np.ones(50), alone(50))
    theirs = RidgeCV([ours.penalty], store_cv_results=True).fit(Z, y[:, 0])
    np.testing.assert_allclose(((y[:, :1] - ours.predicted) ** 2), theirs.cv_results_, rtol=1e-8)
    np.testing.assert_allclose(ours.fitted[:, 0], theirs.predict(Z))
    scatter = np.linalg.eigvalsh(np.cov(Z.T, ddof=0) * 50).mean()
    chosen = RidgeCV(_targets._PENALTIES * scatter).fit(Z, y[:, 0]).alpha_
    assert ours.penalty == pytest.approx(chosen)


@pytest.mark.parametrize("m", [1, 2])
def test_weights_and_groups_are_as_in_fits_without_the_rows(data, m):
    Z, y = data[0], data[1][:, :m]
    rng = np.random.default_rng(1)
    weight, groups = rng.uniform(0.1, 3, 50), rng.integers(0, 12, 50)
    groups[:20] = 3  # more than there are dimensions
    result = leave_one_out(Z, y, weight, groups)
    for group in np.unique(groups):
        left_out = groups == group
        expected = by_hand(Z, y, weight, result.penalty, left_out).reshape(-1, m)
        np.testing.assert_allclose(result.predicted[left_out], expected)


def test_a_weight_of_two_equals_the_image_twice(data):
    Z, y = data[0].astype(np.float32), data[1]
    twice = np.arange(50) % 3 == 0
    weighted = leave_one_out(Z, y, 1.0 + twice, blocks_of(Z, None))
    ZZ = np.concatenate([Z, Z[twice]])
    repeated = leave_one_out(ZZ, np.concatenate([y, y[twice]]), np.ones(len(ZZ)), blocks_of(ZZ, None))
    np.testing.assert_allclose(repeated.predicted[:50], weighted.predicted, atol=1e-5)
    np.testing.assert_allclose(repeated.fitted[:50], weighted.fitted, atol=1e-5)
    assert repeated.penalty == pytest.approx(weighted.penalty)


def test_copies_are_not_believed():
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(21, 64)).astype(np.float32), np.arange(21.0)
    once = leave_one_out(Z, y, np.ones(21), blocks_of(Z, None))
    ZZ = np.repeat(Z, 2, axis=0)
    copied = leave_one_out(ZZ, np.repeat(y, 2), np.ones(42), blocks_of(ZZ, None))
    assert np.sqrt(np.mean((once.predicted[:, 0] - y) ** 2)) > 5
    np.testing.assert_allclose(copied.predicted[::2], once.predicted, atol=1e-5)


def test_equal_images_join_the_groups_that_they_are_in():
    Z = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    Z[7] = Z[0]  # in another group
    blocks = blocks_of(Z, np.arange(50) // 5)
    assert (blocks[:10] == blocks[0]).all()
    assert not np.isin(blocks[10:], blocks[:10]).any()
    assert len(set(blocks)) == 9


def test_portions_do_not_matter_and_do_not_cut_blocks(data, monkeypatch):
    Z, y = data
    groups = np.random.default_rng(2).integers(0, 9, 50)
    whole = leave_one_out(Z, y, np.ones(50), groups)
    features = Features(Z.astype(np.float32), np.ones(50), 8, np.random.default_rng(0))
    rows = features[np.arange(50)]
    monkeypatch.setattr(_targets, "_ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(leave_one_out(Z, y, np.ones(50), groups).predicted, whole.predicted)
    again = Features(Z.astype(np.float32), np.ones(50), 8, np.random.default_rng(0))
    np.testing.assert_allclose(again[slice(3, 9)], rows[3:9])


def test_features_are_what_the_adapter_computes():
    rng = np.random.default_rng(0)
    Z, weight = rng.normal(size=(9, 5)).astype(np.float32), rng.uniform(0.5, 2, 9)
    features = Features(Z, weight, 7, rng)
    x = (Z - np.average(Z, axis=0, weights=weight)) / features.spread
    assert np.average((x**2).mean(axis=1), weights=weight) == pytest.approx(1)
    hidden = torch.nn.functional.gelu(torch.tensor(x @ features.hidden_weight + features.hidden_bias)).numpy()
    np.testing.assert_allclose(features[slice(None)], np.hstack([x, np.sqrt(5 / 7) * hidden]), atol=1e-6)
    assert features.shape == (9, 12)
    assert Features(Z, weight, 0, rng)[np.array([2])].shape == (1, 5)


# ------------------------------------------------------------------ soft targets


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
    score, left_out, targets = _targets._probe(Z, target, scale, weight, np.arange(40), is_cumulative)
    outputs = (target[:, None] <= np.arange(4)) if is_cumulative else target[:, None]
    ridge = leave_one_out(Z, outputs.astype(float), weight, np.arange(40))
    if not is_cumulative:
        np.testing.assert_allclose(left_out, ridge.predicted[:, 0])
    square = np.average((target - left_out) ** 2, weights=weight)
    r2 = 1 - square / np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    assert (targets.sigma, targets.trust) == (pytest.approx(np.sqrt(square)), pytest.approx(r2))

    def gaussian(centre, width):
        q = np.exp(-((np.asarray(centre)[:, None] - scale) ** 2) / (2 * width**2))
        return q / q.sum(axis=1, keepdims=True)

    sigma = targets.sigma
    np.testing.assert_allclose(targets.around_labels(0.5), gaussian(target, sigma / 2), atol=1e-6)
    np.testing.assert_allclose(targets.around_fit(), gaussian(targets.fitted, sigma), atol=1e-6)
    centre = r2 * target + (1 - r2) * targets.fitted
    np.testing.assert_allclose(targets.between(), gaussian(centre, sigma), atol=1e-6)
    np.testing.assert_allclose(targets.of_ranks(), gaussian(scale, sigma), atol=1e-6)
    each = ((gaussian(left_out, sigma).cumsum(1) - (target[:, None] <= scale)) ** 2)[:, :-1].sum(1)
    assert score == pytest.approx(np.average(each, weights=weight), rel=1e-5)
    refitted = targets.refitted(Z, weight)
    np.testing.assert_allclose(refitted, targets.fitted, atol=1e-6 if weight.mean() == 1 else 0.2)


def test_the_regression_that_foretells_better_is_taken():
    target = np.repeat(np.arange(6), 12)
    Z = np.eye(6)[np.array([3, 0, 5, 1, 4, 2])[target]] + 0.05 * np.random.default_rng(0).normal(size=(72, 6))
    by_class = measured(Z.astype(np.float32), target)  # ranks in no order along any line, but each plain to see
    probes = [_targets._probe(Z, target, np.arange(6.0), np.ones(72), np.arange(72), each)[0] for each in (False, True)]
    assert by_class.is_cumulative == (probes[1] < probes[0])
    assert by_class.trust > 0.9


def test_places_of_cumulated_probabilities_are_medians():
    scale = np.array([0.0, 1, 2, 3])
    cumulated = np.array([[0.5, 1, 1], [0, 0.5, 1], [0, 0, 0], [1, 1, 1], [0.2, 0.8, 1], [0.7, 0.3, 1.2]])
    places = _targets._centres(cumulated, scale, True)
    np.testing.assert_allclose(places, [0.5, 1.5, 3, 0, 1, 1 - 0.5 + (0.5 - 0.3) / 0.4], atol=1e-6)
    np.testing.assert_allclose(_targets._centres(cumulated[:1], scale * 10, True), [5.0], atol=1e-6)


@pytest.mark.parametrize(
    "values", [[1, 10, 100, 1000], [1000, 100, 10, 1], [1, 2, 5, 10, 20], [20240101, 20240102, 20240103]]
)
def test_uneven_ranks_do_not_merge_where_pictures_tell_them_apart(values):
    target = np.repeat(np.arange(len(values)), 6)
    targets = measured(embeddings_of(target, noise=0.02), target, values)
    for q in (targets.around_labels(), targets.around_fit(), targets.between()):
        assert (q.argmax(axis=1) == target).all()
        assert q.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert targets.around_labels().max(axis=1).min() > 0.8


def test_separable_pictures_have_narrow_targets_that_are_not_a_point():
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
    assert targets.noise == pytest.approx(target.std(), rel=0.15)


@pytest.mark.parametrize(
    ("target", "groups"),
    [
        ([2, 2, 2, 2], None),
        ([0, 1], None),
        ([0, 1, 2], None),
        ([0, 1, 2, 3, 3], [0, 0, 0, 1, 2]),
        ([0, 1, 2, 3], [7, 7, 7, 7]),
    ],
)
def test_where_nothing_can_be_measured_labels_are_believed(target, groups):
    target = np.array(target)
    Z = np.random.default_rng(0).normal(size=(len(target), 8)).astype(np.float32)
    targets = measured(Z, target, np.arange(4), groups=None if groups is None else np.array(groups))
    for q in (targets.around_labels(), targets.between(), targets.around_fit()):
        assert (q.argmax(axis=1) == target).all()
        assert q.max(axis=1).min() > 0.98
    assert (targets.noise, targets.trust) == (0, 1)
    assert np.isfinite(targets.penalty)


def test_a_group_of_pictures_does_not_fake_certainty():
    rng = np.random.default_rng(0)
    patients, per_patient = 24, 6
    label = rng.integers(0, 5, patients)
    Z = rng.normal(size=(patients, 32))  # which says nothing of the label
    groups = np.repeat(np.arange(patients), per_patient)
    frames = (Z[groups] + 0.05 * rng.normal(size=(len(groups), 32))).astype(np.float32)
    assert measured(frames, label[groups]).trust > 0.9
    assert measured(frames, label[groups], groups=groups).trust < 0.3


def test_errors_run_on_from_batch_to_batch():
    rng = np.random.default_rng(0)
    p, y, w = rng.dirichlet(np.ones(4), 30), rng.integers(0, 4, 30), rng.uniform(0.5, 2, 30)
    values = np.array([0, 10, 20, 30.0])
    whole, errors = targets_of_predictions(p, y, values, w, RunningErrors())
    _, first = targets_of_predictions(p[:11], y[:11], values, w[:11], RunningErrors())
    rest, both = targets_of_predictions(p[11:], y[11:], values, w[11:], first)
    for name, value in vars(errors).items():
        assert getattr(both, name) == pytest.approx(value)
    np.testing.assert_allclose(rest.between(), whole.between()[11:], rtol=1e-5)
    error = p @ values - values[y]
    assert whole.noise == pytest.approx(np.sqrt(np.average(error**2, weights=w)))


def test_folds_are_even_along_the_ranks_and_keep_together_what_belongs_together():
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(6), 10)
    Z = rng.normal(size=(60, 4)).astype(np.float32)
    Z[33] = Z[2]
    fold = folds(target, blocks_of(Z, None), 5, np.random.default_rng(0))
    assert fold[33] == fold[2]
    counts = np.array([[np.count_nonzero((target == k) & (fold == j)) for j in range(5)] for k in range(6)])
    assert counts.min() >= 1
    assert counts.max() <= 3
    groups = rng.integers(0, 20, 60)
    fold = folds(target, blocks_of(Z, groups), 5, np.random.default_rng(0))
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    assert len(set(folds(target[:3], np.arange(3), 5, np.random.default_rng(0)))) == 3


def test_a_ridge_map_is_ridge_regression(data):
    Z, y = data
    weight = np.random.default_rng(0).uniform(0.1, 2, 50)
    coefficients, intercept = ridge_map(Z, y, weight, 0.7)
    expected = Ridge(alpha=0.7).fit(Z, y, sample_weight=weight).predict(Z)
    np.testing.assert_allclose(Z @ coefficients + intercept, expected)
