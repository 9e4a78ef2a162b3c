"""Each 'at least this rank' as a decision of its own."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from skl2rclip.metrics import at_least_rank_scores

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 60)
PROBA = RNG.dirichlet(np.ones(4), 60)


def test_decisions_are_scored_as_scikit_learn_scores_them():
    weight = RNG.uniform(size=60)
    scores = at_least_rank_scores(Y, PROBA, threshold=0.3, sample_weight=weight)
    assert scores.rank.tolist() == [1, 2, 3]
    for k in (1, 2, 3):
        probability, is_so = PROBA[:, k:].sum(axis=1), k <= Y
        taken = probability >= 0.3
        assert scores.roc_auc[k - 1] == pytest.approx(roc_auc_score(is_so, probability, sample_weight=weight))
        assert scores.sensitivity[k - 1] == pytest.approx(recall_score(is_so, taken, sample_weight=weight))
        assert scores.specificity[k - 1] == pytest.approx(recall_score(~is_so, ~taken, sample_weight=weight))
        assert scores.prevalence[k - 1] == pytest.approx(np.average(is_so, weights=weight))


def test_words_are_in_the_order_of_their_ranks():
    ranks = ["none", "mild", "severe"]
    y = pd.Categorical(["none", "mild", "severe"], ranks, ordered=True)
    proba = pd.DataFrame([[0, 1, 0], [1, 0, 0], [0, 0, 1]])  # columns mild, none, severe
    scores = at_least_rank_scores(y, proba)
    assert scores.rank.tolist() == ["mild", "severe"]
    for name in ("roc_auc", "sensitivity", "specificity"):
        assert scores[name].tolist() == [1, 1]


def test_what_no_image_tells_is_nan():
    scores = at_least_rank_scores([0, 1, 1], np.eye(3)[[0, 1, 1]])
    np.testing.assert_array_equal(scores.roc_auc, [1, np.nan])
    np.testing.assert_array_equal(scores.sensitivity, [1, np.nan])
    np.testing.assert_array_equal(scores.specificity, [1, 1])


def test_rounding_decides_nothing():
    rng = np.random.default_rng(0)
    y, neighbors = rng.integers(0, 5, 300), rng.multinomial(10, np.full(5, 0.2), 300)
    for threshold in (0.3, 0.6, 0.9, 1.0):
        scores = at_least_rank_scores(y, neighbors / 10, threshold=threshold)
        for k in range(1, 5):
            n, is_so = neighbors[:, k:].sum(axis=1), k <= y
            assert scores.roc_auc[k - 1] == pytest.approx(roc_auc_score(is_so, n))
            assert scores.sensitivity[k - 1] == pytest.approx(recall_score(is_so, n >= round(10 * threshold)))
    tiny = np.array([1e-30, 1e-20, 1e-10])
    assert at_least_rank_scores([0, 1, 1], np.stack([1 - tiny, tiny], axis=1)).roc_auc.tolist() == [1]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="y_proba has a single column"):
        at_least_rank_scores([0, 0], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="threshold must be in"):
        at_least_rank_scores(Y, PROBA, threshold=2)
    with pytest.raises(ValueError, match="sum to one"):
        at_least_rank_scores(Y, 2 * PROBA)
