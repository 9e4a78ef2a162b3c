"""Metrics of intervals."""

import numpy as np
import pandas as pd
import pytest

from skl2rclip.metrics import (
    interval_coverage,
    mean_interval_width,
)

GRADES = ["bad", "fair", "good"]


def test_coverage_and_width_of_intervals():
    intervals = [[20, 30], [25, 25], [40, 60]]
    assert interval_coverage([30, 24, 40], intervals) == pytest.approx(2 / 3)
    assert interval_coverage([30, 24, 40], np.array(intervals), sample_weight=[0, 3, 1]) == 0.25
    assert mean_interval_width([30, 24, 40], pd.DataFrame(intervals)) == 10
    assert mean_interval_width([30, 24, 40], intervals, ranks=[20, 24, 25, 30, 40, 60], in_ranks=True) == 4 / 3
    assert interval_coverage([30.5], [[30.25, 30.75]]) == 1


def test_intervals_of_words_know_their_order():
    intervals = [["bad", "fair"], ["fair", "good"]]
    assert interval_coverage(["good", "good"], intervals, ranks=GRADES) == 0.5
    assert mean_interval_width(["good", "good"], intervals, ranks=GRADES) == 1
    true = pd.Categorical(["good", "good"], GRADES, ordered=True)
    assert interval_coverage(true, intervals) == 0.5
    # ranks that fall: the interval begins at the first of them
    assert interval_coverage([3, 1], [[3, 2], [3, 2]], ranks=[3, 2, 1]) == 0.5
    assert mean_interval_width([3, 1], [[3, 2], [3, 1]], ranks=[3, 2, 1]) == 1.5


@pytest.mark.parametrize("metric", [interval_coverage, mean_interval_width])
@pytest.mark.parametrize(
    ("true", "intervals", "options", "message"),
    [
        ([1], [1, 2], {}, r"shape \(n, 2\).*got the shape \(2,\)"),
        ([1], [[1, 2, 3]], {}, r"got the shape \(1, 3\)"),
        ([1, 2], [[1, 2]], {}, "y_true and y_interval must have the same length, got 2 and 1"),
        ([1, 2], [[1, 2], [3, 2]], {}, r"y_interval\[1\] ends before it begins: \[3, 2\]"),
        (["bad"], [["good", "bad"]], {"ranks": GRADES}, r"y_interval\[0\] ends before"),
        (["bad"], [["bad", "good"]], {}, "order is not known"),
        (["bad"], [[0, 1]], {}, "y_true holds strings .* y_interval numbers"),
        ([1], [[1, "2"]], {}, "y_interval|numbers or all strings"),
        ([1], [[1, np.nan]], {}, "y_interval contains NaN"),
        (["bad"], [["bad", "best"]], {"ranks": GRADES}, r"y_interval contains labels .*\['best'\]"),
        ([], np.zeros((0, 2)), {}, "empty"),
    ],
)
def test_what_is_no_interval_is_named(metric, true, intervals, options, message):
    with pytest.raises(ValueError, match=message):
        metric(true, intervals, **options)


def test_coverage_of_a_classifiers_own_intervals(make_classifier, shades):
    X, y = shades
    classifier = make_classifier(prompt_epochs=1).fit(X, y)
    intervals = classifier.predict_interval(X, coverage=0.9)
    inside = [low <= label <= high for label, (low, high) in zip(y, intervals, strict=True)]
    assert interval_coverage(y, intervals) == np.mean(inside)
    assert mean_interval_width(y, intervals) == np.mean(np.diff(intervals, axis=1))
