"""Few shots, unseen ranks and distribution shift: what is drawn, what is left for the test, and what is refused."""

import doctest

import numpy as np
import pytest
import sklearn
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GroupKFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)

import skl2rclip.datasets._splitters
from skl2rclip.datasets import DistributionShiftSplit, FewShotSplit

Y = np.repeat([3, 1, 2, 7], [20, 5, 12, 9])
FOLDS = PredefinedSplit(np.arange(len(Y)) % 3)


def counts(rows):
    return {rank: int(np.sum(Y[rows] == rank)) for rank in (1, 2, 3, 7)}


def splits_of(splitter, y=Y, groups=None):
    return list(splitter.split(None, y, groups))


def test_each_rank_gives_as_many_and_the_rest_is_the_test():
    splits = splits_of(FewShotSplit(4, 3, random_state=0))
    assert len(splits) == FewShotSplit(4, 3).get_n_splits() == 3
    for train, test in splits:
        assert counts(train) == {1: 4, 2: 4, 3: 4, 7: 4}
        assert sorted([*train, *test]) == list(range(len(Y)))
    assert len({tuple(sorted(train)) for train, _ in splits}) == 3


def test_with_folds_the_test_is_theirs_and_images_come_from_their_training_part():
    cv = FewShotSplit(2, 2, cv=FOLDS, random_state=0)
    assert cv.get_n_splits(None, Y) == 6
    for (train, test), (pool, whole) in zip(splits_of(cv), [*FOLDS.split(), *FOLDS.split()], strict=True):
        np.testing.assert_array_equal(test, whole)
        assert set(train) <= set(pool)
        assert counts(train) == {1: 2, 2: 2, 3: 2, 7: 2}


def test_fewer_shots_are_among_more_of_them():
    for (few, _), (more, _) in zip(
        splits_of(FewShotSplit(1, 4, random_state=5)), splits_of(FewShotSplit(5, 4, random_state=5)), strict=True
    ):
        assert set(few) < set(more)


def test_draws_are_the_same_for_the_same_seed_only():
    def drawn(seed):
        return [train.tolist() for train, _ in splits_of(FewShotSplit(2, 2, random_state=seed))]

    assert drawn(1) == drawn(1) != drawn(2)


def test_every_image_is_drawn_as_often_as_any_other_of_its_rank():
    drawn = np.concatenate([train for train, _ in splits_of(FewShotSplit(3, 4000, random_state=0))])
    share = np.bincount(drawn, minlength=len(Y)) / 4000
    expected = 3 / np.array([np.sum(rank == Y) for rank in Y])
    # five standard errors of a share of 4000 draws
    assert (np.abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_unseen_ranks_are_tested_and_not_trained():
    for train, test in splits_of(FewShotSplit(2, 2, cv=FOLDS, unseen_ranks=[3, 7], random_state=0)):
        assert counts(train) == {1: 2, 2: 2, 3: 0, 7: 0}
        assert counts(test)[3] > 0
        assert counts(test)[7] > 0


def test_numbers_by_rank_are_taken_as_given():
    (train, _), *_ = splits_of(FewShotSplit({1: 5, 2: 0, 3: 9, 7: 1}))
    assert counts(train) == {1: 5, 2: 0, 3: 9, 7: 1}


def test_groups_of_drawn_images_are_not_tested():
    groups = np.arange(len(Y)) // 2
    for train, test in splits_of(FewShotSplit(2, 5, random_state=0), groups=groups):
        assert not set(groups[train]) & set(groups[test])
        left = set(range(len(Y))) - set(train.tolist()) - set(test.tolist())
        assert all(groups[row] in groups[train] for row in left)


@pytest.mark.parametrize("cv", [GroupKFold(3), 3])
def test_folds_keep_groups_together(cv):
    groups = np.arange(len(Y)) % 9
    for train, test in splits_of(FewShotSplit(1, 2, cv=cv, random_state=0), groups=groups):
        assert not set(groups[train]) & set(groups[test])


def test_ranks_that_have_fewer_are_named_or_give_what_they_have():
    with pytest.raises(ValueError, match=r"rank 1 has 5 of 10, 7 has 9 of 10. Lower .* allow_fewer=True"):
        splits_of(FewShotSplit(10))
    (train, _), *_ = splits_of(FewShotSplit(10, allow_fewer=True))
    assert counts(train) == {1: 5, 2: 10, 3: 10, 7: 9}


def test_the_most_frequent_ranks_keep_their_share_and_the_others_all():
    cv = DistributionShiftSplit(2, 0.25, cv=FOLDS, random_state=0)
    for (train, test), (pool, whole) in zip(splits_of(cv), FOLDS.split(), strict=True):
        np.testing.assert_array_equal(test, whole)
        before, after = counts(pool), counts(train)
        assert {rank: after[rank] for rank in (1, 7)} == {rank: before[rank] for rank in (1, 7)}
        assert {rank: after[rank] for rank in (2, 3)} == {rank: round(0.25 * before[rank]) for rank in (2, 3)}


def test_ranks_drawn_at_random_differ_and_keep_at_least_one_image():
    thinned = set()
    for train, _ in splits_of(
        DistributionShiftSplit(1, 0.01, cv=[(np.arange(len(Y)), [0])], which="random", n_repeats=40)
    ):
        (rank,) = [rank for rank, count in counts(train).items() if count < np.sum(rank == Y)]
        assert counts(train)[rank] == 1
        thinned.add(rank)
    assert thinned == {1, 2, 3, 7}


def test_a_share_of_zero_makes_unseen_ranks_and_one_leaves_all():
    (train, _), *_ = splits_of(DistributionShiftSplit(3, 0.0, cv=FOLDS))
    assert sorted(counts(train).values())[:3] == [0, 0, 0]
    for (train, _), (pool, _) in zip(splits_of(DistributionShiftSplit(4, 1.0, cv=FOLDS)), FOLDS.split(), strict=True):
        assert set(train) == set(pool)


@pytest.mark.parametrize("step", [1, 0.5, 1.5])
def test_without_folds_of_ones_own_they_are_stratified(step):
    expected = [test.tolist() for _, test in StratifiedKFold(5).split(Y, Y)]
    assert [test.tolist() for _, test in DistributionShiftSplit(1).split(None, step * Y)] == expected
    groups = np.arange(len(Y)) // 2
    expected = [test.tolist() for _, test in StratifiedGroupKFold(5).split(Y, Y, groups)]
    assert [test.tolist() for _, test in DistributionShiftSplit(1).split(None, step * Y, groups)] == expected


@pytest.mark.parametrize("cv", [FewShotSplit(2, 3, random_state=0), DistributionShiftSplit(2, cv=3, random_state=0)])
def test_scikit_learn_takes_them_with_and_without_routing_of_groups(cv):
    X, groups = np.zeros((len(Y), 1)), np.arange(len(Y))
    scores = cross_val_score(DummyClassifier(), X, Y, cv=cv, error_score="raise")
    expected = [DummyClassifier().fit(X[train], Y[train]).score(X[test], Y[test]) for train, test in cv.split(X, Y)]
    np.testing.assert_array_equal(scores, expected)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(DummyClassifier(), X, Y, cv=cv, params={"groups": groups}, error_score="raise")
    np.testing.assert_array_equal(routed["test_score"], expected)
    assert repr(cv).startswith(type(cv).__name__ + "(")


def test_stratified_folds_take_ranks_that_are_fractions():
    for cv in (3, StratifiedKFold(3)):
        splits = (
            splits_of(FewShotSplit(1, cv=cv, random_state=0)),
            list(FewShotSplit(1, cv=cv, random_state=0).split(None, Y / 4)),
        )
        for (train, test), (again, tested) in zip(*splits, strict=True):
            np.testing.assert_array_equal([*train, *test], [*again, *tested])


@pytest.mark.parametrize("cv", [None, 3])
def test_missing_groups_are_named(cv):
    with pytest.raises(ValueError, match="groups has a missing value at index 2"):
        list(FewShotSplit(1, cv=cv).split(None, Y, [0, 1, np.nan, *range(len(Y) - 3)]))


def test_words_are_drawn_by_as_well():
    y = np.array(["poor", "fair", "good"] * 4)
    (train, _), *_ = FewShotSplit(2, unseen_ranks=["fair"]).split(y, y)
    assert sorted(y[train]) == ["good", "good", "poor", "poor"]


@pytest.mark.parametrize(
    ("splitter", "said"),
    [
        (FewShotSplit(0), "n_per_rank must be"),
        (FewShotSplit({1: 1, 2: 1, 3: -1, 7: 1}), r"n_per_rank\[3\] must be"),
        (FewShotSplit({1: 1}), r"n_per_rank has no number for the ranks \[2, 3, 7\]"),
        (FewShotSplit(1, 0), "n_repeats must be"),
        (FewShotSplit(1, unseen_ranks=[4]), r"ranks that y does not hold: \[4\]"),
        (FewShotSplit(1, unseen_ranks=3), "unseen_ranks must be a list of ranks, got 3"),
        (FewShotSplit(1, unseen_ranks="bad"), "unseen_ranks must be a list of ranks, got 'bad'"),
        (FewShotSplit(1, unseen_ranks=[1, 2, 3, 7]), "Nothing is drawn"),
        (FewShotSplit({1: 5, 2: 12, 3: 20, 7: 9}), "none is left to test"),
        (FewShotSplit(1, cv=iter([])), "make it a list"),
        (DistributionShiftSplit(5), "n_ranks=5 ranks cannot lose images: the training part has 4 ranks"),
        (DistributionShiftSplit(4, 0), "with keep=0 one must be left"),
        (DistributionShiftSplit(1, 1.5), "keep must be"),
        (DistributionShiftSplit(1, which="rare"), "which must be one of"),
        (DistributionShiftSplit(1, cv=None), "cv must say"),
    ],
)
def test_what_cannot_be_drawn_is_refused(splitter, said):
    with pytest.raises(ValueError, match=said):
        splits_of(splitter)


def test_labels_are_needed():
    with pytest.raises(ValueError, match="FewShotSplit draws by rank and needs y"):
        list(FewShotSplit().split([1, 2]))


def test_examples_of_the_documentation_hold():
    assert doctest.testmod(skl2rclip.datasets._splitters).failed == 0
