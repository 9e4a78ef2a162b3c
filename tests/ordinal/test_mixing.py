import numpy as np
import pytest

from skl2rclip._ordinal.mixing import mixed_share

RANKS = np.arange(5)


def logits_around(centre, sharpness=2.0):
    return -sharpness * (np.asarray(centre, float)[:, None, None] - RANKS) ** 2


def drawn(n, seed=0):
    """Targets, logits that know them nearly, and logits that know nothing of them."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 5, n)
    return target, logits_around(target + rng.normal(0, 0.4, n), 0.5), logits_around(rng.uniform(0, 4, n))


def test_of_many_images_the_better_one_is_kept():
    target, knows, knows_not = drawn(200)
    assert mixed_share(knows_not, knows, target, None, np.arange(200)) > 0.9
    assert mixed_share(knows, knows_not, target, None, np.arange(200)) < 0.1


def test_what_errs_independently_is_mixed():
    target, one, _ = drawn(300)
    other = logits_around(target + np.random.default_rng(1).normal(0, 0.4, 300), 0.5)
    assert 0.3 < mixed_share(one, other, target, None, np.arange(300)) < 0.7


def test_equal_ones_lean_to_the_first():
    target, one, _ = drawn(20)
    share = mixed_share(one, one, target, None, np.arange(20))
    weights = np.exp(-4 * np.linspace(0, 1, 11))
    assert share == pytest.approx(weights @ np.linspace(0, 1, 11) / weights.sum())


def test_images_of_one_set_count_as_one():
    target, knows, knows_not = drawn(40)
    alone = mixed_share(knows, knows_not, target, None, np.arange(40))
    together = mixed_share(knows, knows_not, target, None, np.arange(40) // 20)
    assert alone < together < 0.5


def test_an_image_of_no_weight_does_not_count():
    target, knows, knows_not = drawn(30)
    weight = np.repeat([1.0, 0.0], 15)
    whole = mixed_share(knows, knows_not, target, weight, np.arange(30) % 15)
    assert whole == pytest.approx(mixed_share(knows[:15], knows_not[:15], target[:15], None, np.arange(15)))


def test_images_of_nearly_no_weight_hardly_count():
    target, knows, knows_not = drawn(24)
    few = mixed_share(knows[:4], knows_not[:4], target[:4], None, np.arange(4))
    weight = np.repeat([1.0, 1e-9], [4, 20])
    assert mixed_share(knows, knows_not, target, weight, np.arange(24)) == pytest.approx(few, abs=1e-4)


def test_of_several_views_it_is_the_mean_that_is_scored():
    target, knows, knows_not = drawn(200)
    flat = np.zeros_like(knows)
    for first in (knows, knows_not):  # neither order nor number of the views matters
        both = np.concatenate([first, flat], axis=1)
        share = mixed_share(both, both[:, ::-1], target, None, np.arange(200))
        assert share == pytest.approx(mixed_share(both[:, ::-1], both, target, None, np.arange(200)))
    twice = mixed_share(np.repeat(knows, 2, axis=1), np.repeat(knows_not, 2, axis=1), target, None, np.arange(200))
    assert twice == pytest.approx(mixed_share(knows, knows_not, target, None, np.arange(200)))
