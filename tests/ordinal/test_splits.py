import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skl2rclip._ordinal.splits import blocks_of, folds, split_off_validation


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=10).filter(any),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_validation_images_are_spread_along_the_ranks_and_leave_one_of_each(counts, fraction, seed):
    target = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(seed).shuffle(target)
    held_out = split_off_validation(target, fraction, np.random.default_rng(seed))
    spare = len(target) - np.count_nonzero(counts)
    assert held_out.sum() == min(max(1, round(fraction * len(target))), spare)
    assert set(target[~held_out]) == set(target)
    if spare:
        share = held_out.sum() / spare
        for rank, count in enumerate(counts):
            assert abs(held_out[target == rank].sum() - share * max(count - 1, 0)) <= 1 + 1e-9


def test_validation_images_follow_the_seed():
    target = np.repeat(np.arange(5), 20)
    first, again, other = (split_off_validation(target, 0.2, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_whole_groups_are_held_out_and_no_rank_is_left_without_images():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 30, 200)
    target = (groups // 6 + rng.integers(0, 2, 200)).clip(0, 5)
    for seed in range(5):
        held_out = split_off_validation(target, 0.2, np.random.default_rng(seed), groups)
        assert not set(groups[held_out]) & set(groups[~held_out])
        assert set(target[~held_out]) == set(target)
        assert 0.2 <= held_out.mean() < 0.3
        assert len(set(target[held_out])) >= 4
    large = np.repeat([0, 1], [180, 20])  # every rank in both
    for seed in range(6):
        held_out = split_off_validation(np.arange(200) % 5, 0.1, np.random.default_rng(seed), large)
        assert held_out.sum() == 20
    alone = split_off_validation(np.array([0, 0, 1, 1]), 0.5, np.random.default_rng(0), np.array([0, 0, 1, 1]))
    assert not alone.any()


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


def test_folds_do_not_depend_on_the_last_bits_of_embeddings_nor_on_what_is_in_them():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 8)).astype(np.float32)
    Z[41] = Z[3]
    others = [np.nextafter(Z, np.inf, dtype=np.float32), -Z]
    for groups in (None, rng.integers(0, 20, 60)):
        expected = blocks_of(Z, groups)
        for other in others:
            np.testing.assert_array_equal(blocks_of(other, groups), expected)
    assert (np.diff(blocks_of(Z, None)[:41]) == 1).all()
