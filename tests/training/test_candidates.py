import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skl2rclip._training.candidates import split_off_validation


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
