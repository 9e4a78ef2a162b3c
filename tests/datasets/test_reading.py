"""Labels as folders and tables write them: which are numbers, and which words are the same."""

import numpy as np
import pytest

from skl2rclip.datasets._reading import numbers_in, put_in_order


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["2", "10"], [2, 10]),
        (["2,5", "10"], [2.5, 10]),
        (["1e1", "5", ".5", "5."], [10, 5, 0.5, 5]),
        (["1,000,000", "500"], [1_000_000, 500]),
        (["1.000.000", "500"], [1_000_000, 500]),
        (["1.234,5", "500"], [1234.5, 500]),
        (["1,234.5", "500"], [1234.5, 500]),
        (["1.000", "0.5"], [1, 0.5]),  # no continental fraction
        (["1.000", "1.500", "2.000"], [1, 1.5, 2]),
        (["1 000", "500", "2\u202f000"], [1000, 500, 2000]),
        (["1'000", "500"], [1000, 500]),
        (["007", "-3", "+4", "\u22125"], [7, -3, 4, -5]),
        ([str(2**53), str(2**53 + 1)], [2**53, 2**53 + 1]),
        ([2**53 + 1, "7"], [2**53 + 1, 7]),
    ],
)
def test_numbers_are_read_as_they_are_written_everywhere(written, numbers):
    found = numbers_in(written, "t.csv")
    assert found.tolist() == numbers
    assert found.dtype == (np.int64 if all(number == int(number) for number in numbers) else np.float64)


@pytest.mark.parametrize(
    "written", [["low", "1"], ["1.2.3"], ["1.000,000.5", "1"], [".", "1"], ["e5"], ["12 34"], [""]]
)
def test_what_is_no_number_is_none(written):
    assert numbers_in(written, "t.csv") is None


@pytest.mark.parametrize(
    ("written", "one", "other"),
    [
        (["2,500", "10"], [10, 2500], [2.5, 10]),
        (["1.000", "500"], [1, 500], [500, 1000]),
        (["1,500", "2,000"], [1500, 2000], [1.5, 2]),
    ],
)
def test_thousands_that_may_be_fractions_are_refused_with_both(written, one, other):
    with pytest.raises(ValueError, match=r"t.csv has ranks that may be thousands or fractions, \['.*say which"):
        put_in_order(written, None, "t.csv")
    for ranks in (one, other):
        target, found, names = put_in_order(written, ranks, "t.csv")
        assert (sorted(target.tolist()), found) == (ranks, ranks)
        assert names == [f"{rank:g}" for rank in ranks]


def test_a_thousand_beside_a_number_that_is_none_of_text_may_be_a_fraction():
    with pytest.raises(ValueError, match=r"\['1.000'\]: say which with ranks=\[1.0, 500\] or ranks=\[500, 1000\]"):
        put_in_order(["1.000", 500], None, "t.xlsx")
    assert numbers_in(["1.000", 500], "t.xlsx", [500, 1000]).tolist() == [1000, 500]
    assert numbers_in(["0.5", 500], "t.xlsx").tolist() == [0.5, 500]


@pytest.mark.parametrize(
    ("written", "said"), [(["1", "1e999"], "infinite ranks"), ([2**53 + 1, 2**53, 0.5], "the same")]
)
def test_numbers_that_an_array_does_not_hold_are_refused(written, said):
    with pytest.raises(ValueError, match=said):
        put_in_order(written, None, "t.csv")


def test_words_whose_accents_stand_apart_are_the_same_words():
    target, _, names = put_in_order(["faible", "s\u00e9v\u00e8re"], ["faible", "se\u0301ve\u0300re"], "t.csv")
    assert (target.tolist(), names) == ([0, 1], ["faible", "s\u00e9v\u00e8re"])


def test_words_that_differ_only_in_letter_case_are_told():
    with pytest.raises(ValueError, match=r"order is not known\. Mild differs from mild only in letter case\. Give it"):
        put_in_order(["Mild", "mild", "severe"], None, "t.csv")
    with pytest.raises(ValueError, match=r"not in ranks=.*Mild differs from mild only in letter case\. Add them"):
        put_in_order(["Mild", "severe"], ["mild", "severe"], "t.csv")
