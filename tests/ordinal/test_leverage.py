"""Leverages against slow refits, and the share of new rows that lies beyond those of the training."""

import numpy as np
import pytest

from skl2rclip._ordinal import leverage
from skl2rclip._ordinal.leverage import Leverage, fit_leverage


def rows_of(n, width=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) * np.linspace(2, 0.3, width) + 1


def refitted(rows, weight, left_out, penalty):
    """Leverages of some rows in the normal equations of all others."""
    kept = np.setdiff1d(np.arange(len(rows)), left_out)
    mean = np.average(rows[kept], axis=0, weights=weight[kept])
    x, new = rows[kept] - mean, rows[left_out] - mean
    normal = x.T @ (weight[kept, None] * x) + penalty * np.eye(rows.shape[1])
    return 1 / weight[kept].sum() + np.einsum("ij,ij->i", new @ np.linalg.inv(normal), new)


def penalty_of(rows, weight):
    x = rows - np.average(rows, axis=0, weights=weight)
    return 0.1 * np.trace(x.T @ (weight[:, None] * x)) / rows.shape[1]


@pytest.mark.parametrize("largest", [1, 3, 12])
def test_each_row_is_scored_as_by_a_fit_without_its_block(largest, monkeypatch):
    rows, rng = rows_of(40), np.random.default_rng(1)
    weight = rng.uniform(0.5, 2, 40)
    weight /= weight.mean()
    blocks = np.arange(40) // largest
    expected = np.empty(40)
    for block in np.unique(blocks):
        own = np.flatnonzero(blocks == block)
        expected[own] = -np.log(refitted(rows, weight, own, penalty_of(rows, weight)))
    for share in (0.97, 0.5, 0):
        monkeypatch.setattr(leverage, "SHARE_BEYOND", share)
        found = fit_leverage(rows, weight, blocks)
        place = max(0, int(share * 41) - 1)
        assert found.offset == pytest.approx(np.sort(expected)[place], rel=1e-6)


def test_scores_are_leverages_in_the_fit_of_all():
    rows, weight = rows_of(30), np.ones(30)
    x = rows - rows.mean(axis=0)
    normal = x.T @ x + penalty_of(rows, weight) * np.eye(6)
    new = rows_of(5, seed=3) * 4
    expected = 1 / 30 + np.einsum(
        "ij,ij->i", (new - rows.mean(axis=0)) @ np.linalg.inv(normal), new - rows.mean(axis=0)
    )
    np.testing.assert_allclose(fit_leverage(rows, weight, np.arange(30)).scores(new), -np.log(expected), rtol=1e-5)


def test_few_axes_keep_what_matters(monkeypatch):
    rows = rows_of(200, 40)
    whole = fit_leverage(rows, np.ones(200), np.arange(200))
    monkeypatch.setattr(leverage, "MAX_AXES", 25)
    few = fit_leverage(rows, np.ones(200), np.arange(200))
    assert few.axes.shape == (40, 25)
    new = rows_of(300, 40, seed=1)
    assert np.corrcoef(whole.scores(new), few.scores(new))[0, 1] > 0.98
    assert abs((few.scores(new) < few.offset).mean() - (whole.scores(new) < whole.offset).mean()) < 0.02


@pytest.mark.parametrize(("n", "width"), [(300, 20), (60, 200)])
def test_about_a_hundredth_of_new_rows_lies_beyond_the_trainings(n, width):
    shares = []
    for seed in range(5):
        own = fit_leverage(rows_of(n, width, seed), np.ones(n), np.arange(n))
        shares.append((own.scores(rows_of(400, width, 50 + seed)) < own.offset).mean())
        assert (own.scores(rows_of(50, width, 9) + 5) < own.offset).all()
    assert np.mean(shares) < 0.03


def test_groups_are_left_out_together_so_that_new_groups_are_as_usual_as_old_ones():
    rng = np.random.default_rng(0)

    def of_groups(n_groups):
        return np.repeat(rng.normal(size=(n_groups, 30)), 8, axis=0) + 0.05 * rng.normal(size=(8 * n_groups, 30))

    rows, groups = of_groups(40), np.repeat(np.arange(40), 8)
    new = of_groups(100)
    with_groups, without = (fit_leverage(rows, np.ones(320), each) for each in (groups, np.arange(320)))
    assert (without.scores(new) < without.offset).mean() > 0.1
    assert (with_groups.scores(new) < with_groups.offset).mean() < 0.05


def test_a_weight_of_zero_is_leaving_a_row_out_and_scale_of_weights_is_nothing():
    rows, blocks = rows_of(30), np.arange(30)
    weight = np.ones(30)
    weight[10:] = 0
    some, few = fit_leverage(rows, 7 * weight, blocks), fit_leverage(rows[:10], np.ones(10), blocks[:10])
    assert some.offset == few.offset
    np.testing.assert_array_equal(some.scores(rows), few.scores(rows))


def test_what_says_nothing_is_none_and_what_does_not_vary_is_no_division_by_zero():
    assert fit_leverage(rows_of(1), np.ones(1), np.zeros(1, int)) is None
    assert fit_leverage(rows_of(9), np.ones(9), np.zeros(9, int)) is None
    assert fit_leverage(np.empty((9, 0)), np.ones(9), np.arange(9)) is None
    for value in (0.0, 1.0):
        same = fit_leverage(np.full((9, 4), value), np.ones(9), np.arange(9))
        assert np.isfinite(same.offset)
        assert (same.scores(np.full((2, 4), value)) >= same.offset).all()
        assert (same.scores(np.full((2, 4), value + 1)) < same.offset).all()


def test_it_comes_back_from_arrays_and_numbers():
    own = fit_leverage(rows_of(30), np.ones(30), np.arange(30))
    again = Leverage.from_parts(own.to_json(), own.to_arrays())
    np.testing.assert_array_equal(again.scores(rows_of(5)), own.scores(rows_of(5)))
    damaged = {**own.to_arrays(), "inverse": -own.inverse}
    with pytest.raises(ValueError, match=r"leverage\.inverse holds numbers that are not positive"):
        Leverage.from_parts(own.to_json(), damaged)
