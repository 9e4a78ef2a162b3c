import numpy as np
import pytest

from skl2rclip._ordinal.comparison import mean_and_error, surely_best


def test_the_error_is_that_of_the_mean_of_blocks():
    rng = np.random.default_rng(0)
    values, weight, blocks = rng.normal(size=(2, 9)), rng.uniform(0.5, 2, 9), np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    mean, error = mean_and_error(values, weight, blocks)
    share = weight / weight.sum()
    for row in range(2):
        assert mean[row] == pytest.approx(np.average(values[row], weights=weight))
        sums = [share[blocks == b] @ (values[row, blocks == b] - mean[row]) for b in range(6)]
        assert error[row] == pytest.approx(np.sqrt(np.square(sums).sum() * 6 / 5))
    plain_mean, plain_error = mean_and_error(values[0], np.ones(9), np.arange(9))
    assert (plain_mean, plain_error) == (pytest.approx(values[0].mean()), pytest.approx(values[0].std(ddof=1) / 3))


def test_the_first_stays_unless_another_is_better_by_more_than_a_standard_error():
    scores = np.ones((3, 8))
    scores[1] = np.tile([0.0, 1.9], 4)  # better on average, by less than its error
    ones, blocks = np.ones(8), np.arange(8)
    assert surely_best(scores, ones, blocks) == 0
    scores[2] = 0.9
    assert surely_best(scores, ones, blocks) == 2
    assert surely_best(scores[[2, 0, 1]], ones, blocks) == 0
    scores[1] = np.tile([0.0, 0.2], 4)
    assert surely_best(scores, ones, blocks) == 1
    assert surely_best(scores, ones, np.zeros(8, int)) == 1  # one block tells no error
