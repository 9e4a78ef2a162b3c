import numpy as np
import pandas as pd
import pytest

from skl2rclip._ordinal.rank_lookup import (
    NamedLabels,
    check_probabilities,
    encoded_pair,
    in_rank_order,
    known_scale,
    scale_of_columns,
)

GRADES = ["bad", "fair", "good"]


def graded(labels, order=GRADES):
    return pd.Categorical(labels, order, ordered=True)


def found(y, *others, **how):
    named = [NamedLabels.of(y, "y"), *(NamedLabels.of(other, f"other {i}") for i, other in enumerate(others))]
    return known_scale(named, **how).ranks.tolist()


def test_given_ranks_come_first_then_what_was_learned_then_a_categorical():
    learned = np.array(["worst", *GRADES])
    assert found(["good"], ranks=GRADES[::-1], learned=[learned]) == GRADES[::-1]
    assert found(graded(["good"]), learned=[learned]) == learned.tolist()
    assert found(graded(["good"])) == GRADES
    assert found(["good"]) == ["good"]


def test_numbers_take_their_own_order_of_all_that_is_known():
    categories = pd.Categorical([2, 4], [2, 3, 4], ordered=True)
    assert found(categories, [9], learned=[np.array([8, 7])]) == [2, 3, 4, 7, 8, 9]


def test_orders_that_were_learned_by_parts_which_disagree_do_not_count():
    disagreeing = [np.array(GRADES), np.array(GRADES[::-1])]
    with pytest.raises(ValueError, match=r"order is not known.* Ask somebody\.$"):
        found(["bad", "good"], learned=disagreeing, advice="Ask somebody.")


@pytest.mark.parametrize(
    ("labels", "how", "message"),
    [
        ((["bad"], [1]), {}, "y holds strings .* and other 0 numbers"),
        ((graded(["bad"]), graded(["bad"], GRADES[::-1])), {}, "y and other 0 are Categoricals in two orders"),
        ((graded(["bad"]),), {"learned": [np.array(GRADES[::-1])]}, "y is a Categorical in the order .*has learned"),
        ((graded(["bad"]), ["great"]), {}, r"other 0 contains labels that are not among the ranks: \['great'\]"),
    ],
)
def test_what_contradicts_itself_is_refused(labels, how, message):
    with pytest.raises(ValueError, match=message):
        found(*labels, **how)


def test_pairs_are_encoded_along_the_ranks_of_both():
    scale, true, predicted = encoded_pair(graded(["good", "bad"]), ["fair", "bad"])
    assert scale.ranks.tolist() == GRADES
    assert [true.tolist(), predicted.tolist()] == [[2, 0], [1, 0]]


def test_columns_are_integers_or_what_ranks_and_categories_say():
    true = NamedLabels.of([0, 2], "y_true")
    assert scale_of_columns(true, 3).ranks.tolist() == [0, 1, 2]
    assert scale_of_columns(NamedLabels.of(graded(["bad"]), "y_true"), 3).ranks.tolist() == GRADES
    tens = NamedLabels.of([10, 20], "y_true")
    assert scale_of_columns(tens, 2, of_labels=True).ranks.tolist() == [10, 20]
    with pytest.raises(ValueError, match="must be the integers 0 to 1"):
        scale_of_columns(tens, 2)
    with pytest.raises(ValueError, match="3 columns, but 2 labels are known"):
        scale_of_columns(tens, 3, of_labels=True)


@pytest.mark.parametrize(
    ("y_proba", "message"),
    [
        ([[0.5, 0.5]], "a row for each of the 2 labels"),
        ([[0.5, 0.6]] * 2, "sum to one"),
        ([[1.5, -0.5]] * 2, "negative or infinite"),
    ],
)
def test_probabilities_are_checked(y_proba, message):
    with pytest.raises(ValueError, match=message):
        check_probabilities([0, 1], y_proba)


def test_ranks_without_a_column_have_no_probability():
    assert in_rank_order([[0.25, 0.75]], np.array([2, 0]), 4).tolist() == [[0.75, 0.0, 0.25, 0.0]]
