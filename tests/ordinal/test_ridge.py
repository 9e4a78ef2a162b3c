import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from skl2rclip._ordinal import ridge
from skl2rclip._ordinal.ridge import Features, Scatter, leave_one_out, ridge_map
from skl2rclip._ordinal.splits import blocks_of


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
    chosen = RidgeCV(ridge._PENALTIES * scatter).fit(Z, y[:, 0]).alpha_
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


def test_a_scatter_that_is_known_changes_nothing(data):
    Z, y = data
    weight = np.linspace(0.5, 2, 50)
    scatter = Scatter(Z, weight)
    own = leave_one_out(Z, y, weight, alone(50))
    for _ in range(2):
        ridge_map(Z, y, scatter, 5.0)
        shared = leave_one_out(Z, y, weight, alone(50), scatter)
        np.testing.assert_array_equal(shared.predicted, own.predicted)
        np.testing.assert_array_equal(shared.fitted, own.fitted)
    np.testing.assert_allclose(scatter.matrix, np.cov(Z.T, aweights=weight, ddof=0) * weight.sum())


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
    monkeypatch.setattr(ridge, "_ROWS_PER_CHUNK", 4)
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


def test_a_ridge_map_is_ridge_regression(data):
    Z, y = data
    weight = np.random.default_rng(0).uniform(0.1, 2, 50)
    coefficients, intercept = ridge_map(Z, y, Scatter(Z, weight), 0.7)
    expected = Ridge(alpha=0.7).fit(Z, y, sample_weight=weight).predict(Z)
    np.testing.assert_allclose(Z @ coefficients + intercept, expected)


@pytest.mark.parametrize("heavy", [1.0, 1e12])
def test_rows_are_taken_out_of_a_scatter(data, heavy):
    Z, y = data
    weight = np.linspace(0.5, 2, 50)
    weight[:3] *= heavy
    rows = np.arange(0, 50, 7)
    rest = np.where(np.isin(np.arange(50), rows), 0, weight)
    whole, expected = Scatter(Z, weight), Scatter(Z, rest)
    assert whole.eigen[0].min() > 0
    others = whole.without(Z, rows)
    np.testing.assert_allclose(others.matrix, expected.matrix, rtol=1e-6, atol=1e-9 * np.abs(expected.matrix).max())
    np.testing.assert_allclose(others.mean, expected.mean, rtol=1e-6)
    largest = expected.eigen[0].max()
    np.testing.assert_allclose(others.eigen[0], expected.eigen[0], atol=1e-14 * largest)
    for one, other in zip(ridge_map(Z, y, others, 0.5), ridge_map(Z, y, expected, 0.5), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 if heavy > 1 else 1e-9)
    np.testing.assert_array_equal(whole.weight, weight)


def test_an_image_as_heavy_as_all_others_together_many_times_is_left_out_all_the_same():
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(5.0), 8)
    Z, weight = rng.normal(size=(40, 80)) + y[:, None] * np.eye(80)[0], np.full(40, 1e-8)
    weight[3] = 1
    Z = Features(Z, weight, 0, rng)[:]
    for blocks in (alone(40), np.r_[3, np.arange(1, 40)]):  # by itself, and with a light one
        result = leave_one_out(Z, y, weight, blocks)
        left_out = blocks == 3
        expected = by_hand(Z, y, weight, result.penalty, left_out)
        np.testing.assert_allclose(result.predicted[left_out, 0], expected, rtol=1e-3)


def test_many_outputs_take_no_more_memory_than_few_and_change_nothing(data, monkeypatch):
    Z, y = np.tile(data[0], (8, 1)), np.tile(data[1], (8, 100))
    expected = leave_one_out(Z, y, np.ones(400), alone(400))
    monkeypatch.setattr(ridge, "_MAX_ERRORS", 10**5)
    tracemalloc.start()
    result = leave_one_out(Z, y, np.ones(400), alone(400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(result.predicted, expected.predicted)
    assert peak < 10e6  # at once they would be 12 MB, several times
