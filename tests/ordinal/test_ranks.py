import ast
import json
import re
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skl2rclip._ordinal.ranks import default_name, given_ranks, names_of, rank_scale
from skl2rclip.errors import InvalidParameterError

GRADES = ["bad", "poor", "fair", "good", "excellent"]


def test_numbers_sort_and_keep_their_values():
    scale, target = rank_scale([30, 2, 2, 11])
    assert scale.ranks.tolist() == scale.classes.tolist() == [2, 11, 30]
    assert scale.values.tolist() == [2.0, 11.0, 30.0]
    assert scale.names == ("2", "11", "30")
    assert target.tolist() == [2, 0, 0, 1]


def test_words_take_their_order_from_ranks_and_classes_stay_sorted():
    scale, target = rank_scale(["good", "bad", "good"], GRADES)
    assert scale.ranks.tolist() == GRADES
    assert scale.classes.tolist() == sorted(GRADES)
    assert scale.ranks[scale.class_order].tolist() == sorted(GRADES)
    assert scale.values.tolist() == [1, 2, 3, 4, 5]
    assert target.tolist() == [3, 0, 3]


@pytest.mark.filterwarnings("ignore:y is an ordered Categorical")
@pytest.mark.parametrize("wrap", [lambda c: c, pd.Series])
def test_an_ordered_categorical_brings_its_order(wrap):
    y = wrap(pd.Categorical(["good", "bad", "good"], categories=GRADES, ordered=True))
    scale, target = rank_scale(y)
    assert scale.ranks.tolist() == GRADES
    assert target.tolist() == [3, 0, 3]


def test_an_unordered_categorical_has_no_order():
    with pytest.raises(ValueError, match="order is not known"):
        rank_scale(pd.Categorical(["good", "bad"]))


def test_words_without_an_order_are_refused_with_the_list_to_write():
    with pytest.raises(ValueError, match=r"ranks=\['cat', 'dog', 'eel'\] put into the right order"):
        rank_scale(["dog", "cat", "eel"])


@pytest.mark.parametrize(
    ("y", "proposed"),
    [
        (["good", "bad", "fair"], ["bad", "fair", "good"]),
        (np.array(["60+", "0-2", "4-6"], dtype=object), ["0-2", "4-6", "60+"]),
        (pd.Series(["grade 10", "grade 1", "grade 2"], dtype="string"), ["grade 1", "grade 2", "grade 10"]),
        ([f"{year}s" for year in range(2010, 100, -10)], [f"{year}s" for year in range(110, 2020, 10)]),
    ],
)
def test_a_plain_order_is_proposed_ready_to_paste_and_never_taken(y, proposed):
    with pytest.raises(ValueError, match="It looks like ranks=") as error:
        rank_scale(y)
    pasted = str(error.value).split("ranks=")[1].split(", lowest first")[0]
    assert ast.literal_eval(pasted) == proposed
    assert rank_scale(y, ast.literal_eval(pasted))[0].ranks.tolist() == proposed


def test_ordered_categories_without_images_stay_ranks_with_one_warning():
    y = pd.Series(pd.Categorical(["good", "bad"], categories=GRADES, ordered=True))
    with pytest.warns(UserWarning, match=r"no image shows: \['poor', 'fair', 'excellent'\].*remove_unused") as caught:
        assert rank_scale(y)[0].ranks.tolist() == GRADES
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rank_scale(y, ranks=GRADES)[0].ranks.tolist() == GRADES
        assert rank_scale(y.cat.remove_unused_categories())[0].ranks.tolist() == ["bad", "good"]


@pytest.mark.parametrize("wrap", [lambda c: c, pd.Series, np.asarray, lambda c: pd.Series(c).astype(object), list])
def test_intervals_have_their_order_and_become_the_words_that_they_print_as(wrap):
    y = pd.cut([15, 1, 9, 1], [0, 2, 10, 100])
    scale, target = rank_scale(wrap(y))
    assert scale.ranks.tolist() == list(scale.names) == ["(0, 2]", "(2, 10]", "(10, 100]"]
    assert target.tolist() == [2, 0, 1, 0]
    assert rank_scale(wrap(y), list(y.categories))[1].tolist() == [2, 0, 1, 0]
    assert rank_scale(wrap(y), None, dict(zip(y.categories, "abc", strict=True)))[0].names == ("a", "b", "c")


def test_intervals_within_each_other_have_no_order():
    with pytest.raises(ValueError, match="order is not known"):
        rank_scale([pd.Interval(0, 10), pd.Interval(2, 3)])


TENTHS = [Decimal("0.1"), Decimal("0.2")], [Fraction(1, 10), Fraction(1, 5)], np.array([0.1, 0.2], np.float32)


@pytest.mark.parametrize("y", [*TENTHS, np.array([0.1, 0.2], np.float16), [np.float32(0.1), 0.2]])
def test_numbers_match_ranks_of_the_same_printed_value(y):
    for ranks in ([0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3], np.float32), [Decimal("0.1"), Decimal("0.2")]):
        assert rank_scale(y, ranks)[1].tolist() == [0, 1]
    scale, _ = rank_scale(y, [0.1, 0.2], dict(zip(y, ["little", "more"], strict=True)))
    assert scale.names == ("little", "more")


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.float32, np.float16, bool])
def test_whole_numbers_keep_their_type(kind):
    assert rank_scale(np.array([0, 1], kind))[0].ranks.dtype == kind


@pytest.mark.parametrize(
    ("y", "ranks", "message"),
    [
        (["a", "b"], [1, 2], r"y holds strings \(\['a', 'b'\]\) and the ranks numbers .*such as ranks=\['a', 'b'\]"),
        (["10", "9"], [9, 10], r"y holds strings .*make those of y numbers.*ranks=\['9', '10'\]"),
        (
            [9, 10],
            ["9", "10"],
            r"y holds numbers .*and the ranks strings.*make those of the ranks numbers.*ranks=\[9, 10",
        ),
        ([True, False], ["no", "yes"], r"y holds booleans .*and the ranks strings"),
        (["no", "yes"], [False, True], r"y holds strings .*and the ranks booleans"),
    ],
)
def test_words_and_numbers_are_never_compared(y, ranks, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        rank_scale(y, ranks)


@pytest.mark.parametrize(
    ("y", "ranks", "end"),
    [
        (["b", "c", "a"], [0, 1, 2], "L.* such as ranks=['a', 'b', 'c'] put into the right order."),
        (["low", "high"], [0, 1], "L.* such as ranks=['low', 'high']."),
        ([0, 1], ["low", "high"], "Where nobody has numbered them, l.* such as ranks=[0, 1]."),
    ],
)
def test_labels_of_another_kind_are_proposed_in_an_order_only_where_it_is_known(y, ranks, end):
    start, rest = end.split(".*")
    with pytest.raises(ValueError, match=f" {start}ist the labels as they are in y, lowest first,{re.escape(rest)}$"):
        rank_scale(y, ranks)


def test_ranks_may_hold_labels_that_no_image_shows():
    scale, target = rank_scale([3, 1], ranks=range(5))
    assert len(scale.ranks) == 5
    assert target.tolist() == [3, 1]


def test_numeric_ranks_may_descend():
    scale, target = rank_scale([1, 3], ranks=[3, 2, 1])
    assert scale.ranks.tolist() == [3, 2, 1]
    assert scale.classes.tolist() == [1, 2, 3]
    assert target.tolist() == [2, 0]


@pytest.mark.parametrize("ranks", [np.array([1, 2, 3]), (1, 2, 3), pd.Series([1, 2, 3]), range(1, 4), [1.0, 2.0, 3.0]])
def test_ranks_in_any_sequence(ranks):
    assert rank_scale([1, 2], ranks)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ("bad", "must be a list of all labels"),
        ({1: 2}, "must be a list of all labels"),
        ({1, 2}, "must be a list of all labels"),
        (3, "must be a list of all labels"),
        ([], r"must be a list of all labels, lowest first, got \[\]"),
        ([1, 2, 2], r"must not repeat a label, got \[2\]"),
        ([1, 3, 2], "must ascend or descend"),
        ([1, "two"], "numbers only or strings only"),
        ([1.0, float("nan")], "numbers only or strings only"),
        ([None, "a"], "numbers only or strings only"),
    ],
)
def test_unusable_ranks_are_named(ranks, message):
    with pytest.raises(InvalidParameterError, match=message):
        rank_scale([1, 2], ranks)


def test_labels_outside_the_ranks_are_listed():
    with pytest.raises(ValueError, match=r"not among the ranks: \[7, 9\]"):
        rank_scale([1, 9, 7, 9], ranks=[1, 2])


META_ESTIMATORS = [
    "cross_val_predict",
    "VotingClassifier",
    "BaggingClassifier",
    "StackingClassifier",
    "OneVsRestClassifier",
    "CalibratedClassifierCV",
]

AGES = {3: "three", 20: "twenty", 25: "twenty five", 60: "sixty", 90: "ninety"}


@pytest.mark.parametrize(
    ("y", "settings"),
    [
        (range(5), {"ranks": GRADES}),
        ([1, 3], {"ranks": GRADES}),  # a fold that lacks a rank
        (np.arange(5.0), {"ranks": GRADES}),
        ([1, 2, 9], {"ranks": GRADES}),
        (range(5), {"ranks": list(AGES)}),
        (range(5), {"ranks": list(AGES)[::-1]}),
        ([1, 2, 99], {"ranks": [1, 2]}),
        (range(5), {"rank_names": AGES}),
        (range(5), {"rank_names": dict.fromkeys(GRADES, "word")}),
    ],
)
def test_numbers_in_the_place_of_labels_name_who_numbers_and_what_to_do(y, settings):
    with pytest.raises(ValueError, match=r"numbers 0, 1, \.\.\. in sorted order.*neither words nor ranks") as error:
        rank_scale(y, **settings)
    for part in ("make y the numbers 0, 1, ... in rank order", "rank_names={0: ..., 1: ...}", *META_ESTIMATORS):
        assert part in str(error.value)


def test_what_the_advice_says_is_accepted():
    scale, target = rank_scale([0, 2, 1], rank_names=dict(enumerate(GRADES)))
    assert scale.names == ("bad", "poor", "fair")
    assert target.tolist() == [0, 2, 1]


@pytest.mark.parametrize(("y", "ranks"), [(["a", "x"], ["a", "b"]), (["a", "x"], [1, 2])])
def test_words_that_are_no_ranks_are_no_numbering(y, ranks):
    with pytest.raises(ValueError, match=r"not among the ranks: \[.*'x'\]") as error:
        rank_scale(y, ranks)
    assert "cross_val_predict" not in str(error.value)
    assert ("Add what is missing to ranks" in str(error.value)) == (ranks == ["a", "b"])


def test_the_caller_does_not_matter():
    """A frame that looks like scikit-learn's own, with its variables, changes nothing."""
    frame = {"__name__": "sklearn.model_selection._validation", "rank_scale": rank_scale, "GRADES": GRADES}
    code = "def _fit_and_predict(y, method='predict_proba'):\n    return rank_scale(y, GRADES)"
    exec(code, frame)
    assert frame["_fit_and_predict"](GRADES)[0].ranks.tolist() == GRADES
    with pytest.raises(ValueError, match="numbers 0, 1"):
        frame["_fit_and_predict"]([0, 1, 2, 3, 4])


@pytest.mark.parametrize("y", [[4, 4, 4], ["a"] * 3])
def test_one_rank_is_too_few(y):
    with pytest.raises(ValueError, match=r"at least 2 ranks.*only one class"):
        rank_scale(y)


def test_continuous_labels_need_rounding_or_a_list():
    with pytest.raises(ValueError, match="round them, or list them"):
        rank_scale(np.linspace(0, 1, 30))
    assert rank_scale([0.5, 1.5], ranks=[0.5, 1.0, 1.5])[0].values.tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize("y", [[True, False], np.array([1, 2], np.uint8), pd.Series([1, 2], dtype="Int64"), [2.0, 1.0]])
def test_all_kinds_of_numbers_are_labels(y):
    assert len(rank_scale(y)[0].ranks) == 2


@pytest.mark.parametrize(
    "rank_names", [{1: "one", 2: "two", 9: "unused"}, ["one", "two"], ("one", "two"), {1: "one", 2: "two"}.get]
)
def test_names_by_mapping_list_and_function(rank_names):
    assert rank_scale([1, 2], None, rank_names)[0].names == ("one", "two")


@pytest.mark.parametrize(
    ("rank_names", "message"),
    [
        ({1: "one"}, r"no name for \[2\]"),
        (["one"], "one name for each of the 2 ranks"),
        ("one", "mapping from label to name"),
        ({1: "one", 2: ""}, "non-empty string for 2"),
        (lambda label: label, "non-empty string for 1"),
        (str.upper, "a function that fails for the label 1: TypeError"),
    ],
)
def test_unusable_names_are_named(rank_names, message):
    with pytest.raises(InvalidParameterError, match=message):
        rank_scale([1, 2], None, rank_names)


@pytest.mark.parametrize(("labels", "kind"), [([0, 1], "int"), ([0.5, 1.0], "float")])
def test_names_whose_keys_json_made_words_are_told_how_to_be_numbers_again(labels, kind):
    names = json.loads(json.dumps(dict(zip(labels, "ab", strict=True))))
    with pytest.raises(InvalidParameterError, match="Its keys are words, as JSON makes them of numbers") as error:
        names_of(np.array(labels), names)
    remedy = re.search(r"rank_names=(\{.*\})\.$", str(error.value))[1]
    assert remedy.startswith(f"{{{kind}(label)")
    assert names_of(np.array(labels), eval(remedy, {"rank_names": names})) == ("a", "b")  # noqa: S307


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Mild", "Mild differs from mild only in letter case"),
        ("se\u0301ve\u0300re", r"s.* differs from sévère only in how accents are written"),
        (" mild", "' mild' differs from mild only in blanks"),
    ],
)
def test_a_label_that_is_a_rank_but_for_what_one_hardly_sees_is_told(label, said):
    with pytest.raises(ValueError, match=rf"not among the ranks: .*\. '?.*{said}\. Add what"):
        rank_scale([label, "mild"], ["mild", "sévère"])


def test_parts_of_the_scale_can_be_had_alone():
    scale, _ = rank_scale([3, 90], list(AGES), AGES)
    np.testing.assert_array_equal(given_ranks(list(AGES)), scale.ranks)
    assert names_of(scale.ranks, AGES) == scale.names
    assert names_of(scale.ranks) == ("3", "20", "25", "60", "90")


@pytest.mark.parametrize(("label", "name"), [(21, "21"), (21.0, "21"), (3.5, "3.5"), ("old", "old"), (True, "True")])
def test_default_names(label, name):
    assert default_name(label) == name


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20, unique=True), st.data())
def test_encoding_inverts_the_ranks(labels, data):
    ranks = sorted(labels, reverse=data.draw(st.booleans()))
    y = data.draw(st.lists(st.sampled_from(ranks), min_size=1, max_size=30))
    scale, target = rank_scale(y, ranks)
    assert scale.ranks[target].tolist() == y
    assert (np.diff(scale.classes) > 0).all()
    assert scale.ranks[scale.class_order].tolist() == scale.classes.tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1.7e308, 0.0, 1.7e308], r"lie between -1\.7e\+308 and 1\.7e\+308, .* y=np\.multiply\(y, 1e-200\)"),
        ([0.0, 1e-300], r"lie between 0 and 1e-300, .* y=np\.multiply\(y, 1e\+200\)"),
        ([-1e15, 0.0, 1e-9], r"0\.0 and 1e-09 are equally far from -1e\+15 in double precision, .* make them strings"),
    ],
)
def test_numbers_whose_distances_cannot_be_computed_with_are_refused(labels, message):
    for order in (labels, labels[::-1]):
        with pytest.raises(ValueError, match=message if order is labels else "double precision"):
            rank_scale(labels, ranks=order)
    assert rank_scale([0, 1e-9, 1e15], ranks=[0, 1e-9, 1e15])[0].values[1] == 1e-9
