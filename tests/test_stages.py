import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skl2rclip._modules import ImageAdapter
from skl2rclip._objective import Objective
from skl2rclip._stages import split_off_validation


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


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_image_adapter_starts_as_the_identity_and_returns_unit_rows(kind):
    adapter = ImageAdapter(6, kind)
    rows = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    torch.testing.assert_close(adapter(rows), rows)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    moved = adapter(rows)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(5))
    assert not torch.allclose(moved, rows)
    assert len(list(adapter.parameters())) == {"linear": 2, "mlp": 4}[kind]


def test_a_term_of_weight_zero_does_not_enter_even_where_it_is_infinite():
    terms = torch.tensor([1.0, float("inf"), 2.0])
    objective = Objective((1.0, 0.0, 0.5), 1.0, torch.arange(3.0))
    assert float(objective.total(terms)) == 2.0
