import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from skl2rclip import L2RCLIPClassifier
from skl2rclip._ordinal.decisions import READ_OUTS, central_interval, expected_value, read_out
from skl2rclip._settings import DECISIONS
from skl2rclip.errors import InvalidParameterError

probability_rows = hnp.arrays(float, st.tuples(st.integers(1, 6), st.integers(2, 9)), elements=st.floats(0.001, 1)).map(
    lambda rows: rows / rows.sum(axis=1, keepdims=True)
)


@pytest.mark.parametrize(
    ("n_ranks", "low", "high"), [(3, 97, 99), (5, 95, 97), (11, 90, 93), (21, 86, 89), (101, 81, 82)]
)
def test_intervals_of_right_probabilities_hold_what_the_documentation_says(n_ranks, low, high):
    """Of Gaussians on the ranks, as soft targets are, for labels of whose variance images explain 90 to 30 %."""
    ranks, centre = np.arange(n_ranks), np.linspace(-0.5, n_ranks - 0.5, 4001)[:, None]
    held = []
    for explained in (0.3, 0.6, 0.9):
        exponent = -((centre - ranks) ** 2) / (2 * (1 - explained) * (n_ranks**2 - 1) / 12)
        probabilities = softmax(exponent, axis=1)
        lowest, highest = central_interval(probabilities, 0.8).T
        inside = (lowest[:, None] <= ranks) & (ranks <= highest[:, None])
        held.append(100 * (probabilities * inside).sum(axis=1).mean())
    assert low <= round(min(held))
    assert round(max(held)) <= high
    documented = L2RCLIPClassifier.predict_interval.__doc__
    assert f"{low} to {high} %" in documented


@settings(deadline=None)
@given(probability_rows, st.data())
def test_read_outs_minimise_the_loss_that_they_stand_for(rows, data):
    steps = data.draw(st.lists(st.integers(1, 9), min_size=rows.shape[1], max_size=rows.shape[1]))
    values = np.cumsum(steps).astype(float) * data.draw(st.sampled_from([-1, 1]))
    losses = {
        "argmax": 1.0 - np.eye(len(values)),
        "mean": (values[:, None] - values) ** 2,
        "median": np.abs(values[:, None] - values),
    }
    assert losses.keys() == READ_OUTS.keys()
    for decision, loss in losses.items():
        expected = rows @ loss  # (n, K): expected loss of each choice
        chosen = expected[np.arange(len(rows)), read_out(rows, values, decision)]
        np.testing.assert_allclose(chosen, expected.min(axis=1), atol=1e-7 * np.abs(values).max() ** 2)


@settings(deadline=None)
@given(probability_rows)
def test_reversing_the_ranks_reverses_the_mean(rows):
    values = np.arange(rows.shape[1], dtype=float)
    np.testing.assert_allclose(expected_value(rows[:, ::-1], values), rows.shape[1] - 1 - expected_value(rows, values))


def test_median_of_an_exact_half_is_the_first_rank():
    assert read_out(np.array([[0.1, 0.2, 0.2, 0.5]]), np.arange(4.0), "median").tolist() == [2]


def test_each_read_out_has_a_name_that_the_parameter_takes_and_documents():
    assert set(DECISIONS) == set(READ_OUTS)
    documented = inspect.getdoc(L2RCLIPClassifier).split("\ndecision : ")[1].split("default=")[0]
    assert {name for name in READ_OUTS if f'"{name}"' in documented} == set(READ_OUTS)


@pytest.mark.parametrize("unknown", ["Median", "mode", None, ["median"]])
def test_an_unknown_read_out_is_refused_with_those_that_there_are(unknown):
    with pytest.raises(InvalidParameterError, match=r"decision must be one of 'argmax', 'mean', 'median'.*, got"):
        read_out(np.array([[0.5, 0.5]]), np.arange(2.0), unknown)


@given(
    p=st.lists(st.floats(0, 1), min_size=2, max_size=12).filter(lambda p: sum(p) > 0.1),
    coverage=st.floats(0.05, 0.99),
)
def test_central_intervals_hold_their_coverage_and_no_tail_is_too_large(p, coverage):
    p = np.array(p) / np.sum(p)
    [[low, high]] = central_interval(p[None], coverage)
    assert low <= high
    assert p[low : high + 1].sum() >= coverage - 1e-9
    assert p[:low].sum() <= (1 - coverage) / 2 + 1e-9
    assert p[high + 1 :].sum() <= (1 - coverage) / 2 + 1e-9
    # nor could it be shorter at either end
    assert p[: low + 1].sum() > (1 - coverage) / 2
    assert p[high:].sum() > (1 - coverage) / 2
