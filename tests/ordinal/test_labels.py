"""What labels may be."""

import enum
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from skl2rclip._ordinal.labels import array_of, check_labels
from skl2rclip._ordinal.ranks import rank_scale


def test_large_integers_are_numbers_or_refused_by_name():
    assert check_labels([2**63, 1]).tolist() == [2**63, 1]
    assert check_labels(np.array([2**63, 1], dtype=object)).dtype == np.uint64
    for y in ([2**70, 1], [2**63, -1], np.array([10**4000, 0], dtype=object)):
        with pytest.raises(ValueError, match="y holds numbers that 64 bits do not hold"):
            check_labels(y)
    for y, ranks in (([10**18, 10**18 + 1], None), ([2**60], [2**60, 2**60 + 1])):
        with pytest.raises(ValueError, match="the same number in double precision"):
            rank_scale(y, ranks)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is None"),
        ([1.0, np.nan], r"NaN or infinity \(index 1\)"),
        ([np.inf, 1.0], "infinity"),
        ([1, None], "NaN or None"),
        (["a", None], "NaN or None"),
        (["a", float("nan")], "NaN or None"),
        (["a", 1], "all numbers or all strings"),
        ([[1, 2], [3, 4]], "1d array"),
        (np.array([1, 2], dtype=complex), "Complex data not supported"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "numbers or strings"),
        (pd.Series(pd.to_datetime(["2020-01-01", None])), r"NaT \(index 1\)"),
        (np.ma.masked_equal([1, 2, 3], 2), r"masked labels \(index 1\)"),
        (["a", pd.NaT], r"NaN or None \(index 1\)"),
        ([pd.NA, "a"], r"NaN or None \(index 0\)"),
        (pd.Series([1, 2, pd.NA], dtype="Int64"), r"index 2"),
        (pd.Series(["a", pd.NA], dtype="string"), r"index 1"),
        (pd.Categorical(["a", None]), r"index 1"),
        (pd.cut([1, 99], [0, 2, 3]), r"index 1"),
        ([Decimal("1"), Decimal("NaN")], r"index 1"),
        ([Decimal("1"), Decimal("sNaN")], r"index 1"),
        ([b"a", b"b"], r"label\.decode"),
        (np.array([b"a", b"b"]), "got bytes; decode them"),
        (["a", b"b"], "all numbers or all strings, got bytes, str"),
        ([True, "a"], "all numbers or all strings, got bool, str"),
        ({"a.png": 1}, r"got dict: give its values, y=y\.values\(\)"),
        ({1, 2}, "got set, which has no order"),
        ((label for label in "ab"), r"got generator, which has no length: make it a list first, y=list\(y\)"),
        (np.eye(3, dtype=int), r"a 1d array, got an array of shape \(3, 3\) .*columns: y=np.asarray\(y\).argmax"),
        (np.eye(3).tolist(), r"of shape \(3, 3\) .*they are ranks only where the columns are in rank order"),
        (pd.get_dummies(["low", "high"]), r"of shape \(2, 2\) .*names of the columns: y=y.idxmax\(axis=1\)"),
        (enum.Enum("grade", "low high"), r"try y=\[label.value for label in y\]"),
        (pd.Series(["mild", None]), r"index 1\).* such as the grade None, pandas .*keep_default_na=False"),
    ],
)
def test_unusable_labels_are_named(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(list(y) if isinstance(y, type) else y)


@pytest.mark.parametrize("labels", [["a", "a\0"], [7, "7"], [2**53 + 1, 2**53, 0.5]])
def test_labels_that_an_array_makes_the_same_are_named(labels):
    with pytest.raises(ValueError, match=r"which has .* and .*, which would become the same: write them differently"):
        array_of(labels, "which")
    assert array_of([labels[0]] * 2, "which").tolist() == [labels[0]] * 2
