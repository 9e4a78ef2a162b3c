"""Several images of one case."""

import numpy as np
import pandas as pd
import pytest

from skl2rclip.metrics import labels_from_probabilities, pool_probabilities

PROBA = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
CASES = ["b", "b", "a", "c"]


@pytest.mark.parametrize(
    ("how", "of_b"),
    [
        ("mean", [0.25, 0.5, 0.25]),
        ("geometric", [0, 1, 0]),  # all that neither excludes
        ("max", [0, 0.5, 0.5]),  # the second is at least the middle rank, and at the highest half of the time
    ],
)
def test_images_of_a_case_have_one_distribution(how, of_b):
    cases, pooled = pool_probabilities(PROBA, CASES, how)
    assert cases.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(pooled, [PROBA[2], of_b, PROBA[3]], atol=1e-12)
    order = [3, 1, 2, 0]
    again = pool_probabilities(
        pd.DataFrame(PROBA[order]), pd.Series(CASES, index=[7, 8, 9, 7])[0:4].to_numpy()[order], how
    )
    np.testing.assert_allclose(again[1], pooled)


def test_the_worst_of_independent_images_is_the_highest():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(4), 3)
    drawn = np.stack([rng.choice(4, 200_000, p=row) for row in proba]).max(axis=0)
    _, [pooled] = pool_probabilities(proba, [5, 5, 5], "max")
    np.testing.assert_allclose(pooled, np.bincount(drawn, minlength=4) / len(drawn), atol=5e-3)


def test_ranks_say_which_column_is_the_worst():
    # columns are those of the sorted words: bad, fair, good
    _, pooled = pool_probabilities(PROBA[:2], [0, 0], "max", ranks=["good", "fair", "bad"])
    np.testing.assert_allclose(pooled, [[0.5, 0.5, 0]], atol=1e-12)


def test_certain_images_that_contradict_each_other_still_have_a_distribution():
    for how in ("mean", "geometric", "max"):
        _, pooled = pool_probabilities([[1, 0, 0], [0, 0, 1]], ["x", "x"], how)
        assert pooled.sum() == pytest.approx(1)
        assert (pooled >= 0).all()


def test_one_image_excludes_a_rank_however_many_there_are():
    proba = np.tile([0.4, 0.4, 0.2], (1000, 1))
    proba[7] = [0.0, 0.5, 0.5]
    _, [pooled] = pool_probabilities(proba, np.zeros(1000), "geometric")
    assert pooled[0] == 0
    np.testing.assert_allclose(pooled[1:], [2 / 3, 1 / 3], atol=1e-3)
    _, contradicting = pool_probabilities([[1, 0, 0], [0, 0, 1]], ["x", "x"], "geometric")
    assert contradicting.tolist() == [[0.5, 0, 0.5]]


def test_what_rounded_rows_lack_is_no_highest_rank():
    _, [pooled] = pool_probabilities(np.tile([0.999, 0.0, 0.0], (100, 1)), np.zeros(100), "max")
    assert pooled.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((PROBA, CASES[:3]), r"cases has the shape \(3,\), expected \(4,\)"),
        ((PROBA, ["a", None, "b", "c"]), "cases has a missing value at index 1"),
        ((PROBA[0], CASES), r"y_proba must have the shape \(n, K\)"),
        ((2 * PROBA, CASES), "sum to one"),
        (
            ([["low", "high"]] * 4, CASES),
            "y_proba must hold rows of as many numbers as there are ranks",
        ),
        (([[0.5, 0.5], [1.0]] * 2, CASES), "y_proba must hold rows of as many numbers as there are ranks"),
        ((iter(PROBA), CASES), "y_proba must hold rows of as many numbers as there are ranks"),
        ((np.ma.masked_array(PROBA, PROBA == 0.2), CASES), "y_proba must hold probabilities, got .* NaN"),
        ((PROBA, CASES, "median"), "how must be"),
        ((PROBA, [1, "1", 2, 1]), "cases holds words beside numbers, such as '1' and 1: make all of them words"),
        ((PROBA, np.array([1, "a", 2, 1], dtype=object)), "cases holds words beside numbers"),
    ],
)
def test_what_cannot_be_pooled_is_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        pool_probabilities(*arguments)


def test_ranks_must_fit_the_columns():
    with pytest.raises(ValueError, match="y_proba has 3 columns, but ranks lists 2"):
        pool_probabilities(PROBA, CASES, "max", ranks=[1, 2])


@pytest.mark.parametrize("decision", ["median", "argmax", "mean"])
def test_labels_are_those_that_a_classifier_predicts(fitted_classifier, shades, decision):
    words = ["low", "high", "extreme", "bare", "none"]
    clf = fitted_classifier(words=words, ranks=words, prompt_epochs=1).set_params(decision=decision)
    proba = clf.predict_proba(shades[0])
    said = labels_from_probabilities(pd.DataFrame(proba), decision, ranks=clf.ranks_)
    np.testing.assert_array_equal(said, clf.predict(shades[0]))
    _, pooled = pool_probabilities(proba, np.arange(len(proba)))
    np.testing.assert_array_equal(labels_from_probabilities(pooled, decision, ranks=clf.ranks_), said)


def test_labels_without_ranks_are_numbered():
    assert labels_from_probabilities(PROBA).tolist() == [0, 1, 0, 1]
    assert labels_from_probabilities(PROBA, ranks=[5, 3, 1]).tolist() == [3, 5, 1, 5]
    with pytest.raises(ValueError, match="y_proba has 3 columns, but ranks lists 2"):
        labels_from_probabilities(PROBA, ranks=[1, 2])
