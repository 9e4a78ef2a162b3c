import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skl2rclip.metrics import (
    cumulative_score,
    mean_absolute_rank_error,
    neg_mean_absolute_rank_error_scorer,
    ordinality,
    quadratic_weighted_kappa,
    quadratic_weighted_kappa_scorer,
    ranked_probability_score,
)

GRADES = ["bad", "fair", "good"]
TRUE, PREDICTED = ["bad", "good", "fair", "good"], ["good", "good", "bad", "fair"]


def test_error_of_numbers_is_in_their_unit_and_equals_scikit_learns():
    true, predicted = [20, 35, 50], [35, 35, 20]
    assert mean_absolute_rank_error(true, predicted) == mean_absolute_error(true, predicted) == 15
    assert mean_absolute_rank_error(true, predicted, in_ranks=True) == 1
    assert mean_absolute_rank_error(true, predicted, sample_weight=[0, 1, 1]) == 15


def test_error_of_words_counts_steps():
    assert mean_absolute_rank_error(TRUE, PREDICTED, ranks=GRADES) == 1.0
    with pytest.raises(ValueError, match="order is not known"):
        mean_absolute_rank_error(TRUE, PREDICTED)


def test_cumulative_score():
    assert cumulative_score([20, 30, 40], [25, 36, 40]) == pytest.approx(2 / 3)
    assert cumulative_score(TRUE, PREDICTED, tolerance=1, ranks=GRADES) == 0.75


def test_kappa_equals_scikit_learns_on_rank_positions():
    expected = cohen_kappa_score([0, 2, 1, 2], [2, 2, 0, 1], weights="quadratic")
    assert quadratic_weighted_kappa(TRUE, PREDICTED, ranks=GRADES) == pytest.approx(expected)
    assert quadratic_weighted_kappa([1, 2, 3], [1, 2, 3]) == 1
    assert quadratic_weighted_kappa([2, 2], [2, 2]) == 0


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="same length, got 2 and 3"):
        mean_absolute_rank_error([1, 2], [1, 2, 3])


def test_ordinality_of_an_arc_is_perfect_and_of_noise_one_half():
    angle = np.linspace(0, 3, 9)
    assert ordinality(np.stack([np.cos(angle), np.sin(angle)], axis=1)) == 1
    noise = np.random.default_rng(0).normal(size=(200, 50))
    assert ordinality(noise / np.linalg.norm(noise, axis=1, keepdims=True)) == pytest.approx(0.5, abs=0.02)


def test_ordinality_counts_the_steps_in_order():
    rows = np.array([[1, 0], [0, 1], [0.8, 0.6]])  # similarities 0 (1 to 2), 0.8 (1 to 3), 0.6 (2 to 3)
    # from 1: self > 0, not 0 > 0.8; from 2: both neighbours; from 3: self > 0.6, not 0.6 > 0.8
    assert ordinality(rows) == pytest.approx(4 / 6)


@pytest.mark.parametrize("scorer", [neg_mean_absolute_rank_error_scorer, quadratic_weighted_kappa_scorer])
def test_scorers_know_the_ranks_of_what_they_score(make_classifier, shades, scorer):
    X, y = shades
    names = np.array(["void", "dim", "mild", "light", "blank"])
    classifier = make_classifier(ranks=list(names))
    scores = cross_val_score(classifier, X, names[y], cv=2, scoring=scorer, error_score="raise")
    assert np.isfinite(scores).all()
    pipeline = make_pipeline(FunctionTransformer(), classifier)
    search = GridSearchCV(
        pipeline, {"l2rclipclassifier__blend_ratio": [0.1]}, scoring=scorer, cv=2, error_score="raise"
    )
    search.fit(X, names[y])
    assert search.best_score_ == pytest.approx(scores.mean())
    metric = {
        neg_mean_absolute_rank_error_scorer: lambda *args: -mean_absolute_rank_error(*args, ranks=names),
        quadratic_weighted_kappa_scorer: lambda *args: quadratic_weighted_kappa(*args, ranks=names),
    }[scorer]
    assert scorer(search, X, names[y]) == pytest.approx(metric(names[y], search.predict(X)))


# ------------------------------------------------------ ranked probability score


def test_ranked_probability_score_is_the_sum_of_brier_scores_of_the_thresholds():
    rng = np.random.default_rng(0)
    y, p, w = rng.integers(0, 4, 50), rng.dirichlet(np.ones(4), 50), rng.uniform(0.1, 2, 50)
    expected = sum(brier_score_loss(y <= k, p[:, : k + 1].sum(1).clip(0, 1), sample_weight=w) for k in range(3))
    assert ranked_probability_score(y, p, sample_weight=w) == pytest.approx(expected)


def test_ranked_probability_score_knows_the_order_of_words_and_perfection():
    words, ranks = np.array(["bad", "fair", "good"]), ["good", "fair", "bad"]  # sorted: bad, fair, good
    certain = np.eye(3)
    assert ranked_probability_score(words, certain, ranks=ranks) == 0
    assert ranked_probability_score(["bad"], [[0, 0, 1.0]], ranks=ranks) == 2
    assert ranked_probability_score(["bad"], [[0, 1.0, 0]], ranks=ranks) == 1


@pytest.mark.parametrize(
    ("y", "p", "options", "message"),
    [
        ([0, 1], [[1.0, 0.0]], {}, r"a row for each of the 2 labels, got the shape \(1, 2\)"),
        ([0], [0.5, 0.5], {}, "a row for each"),
        ([0], [[0.5, 0.4]], {}, "rows that sum to one"),
        ([0], [[1.5, -0.5]], {}, "negative or infinite"),
        ([0], [[np.nan, 1.0]], {}, "NaN"),
        ([2], [[0.5, 0.5]], {}, r"not among the ranks: \[2\]"),
        (["a"], [[0.5, 0.5]], {}, "not among the ranks"),
        (["a"], [[0.5, 0.5]], {"ranks": ["a", "b", "c"]}, "2 columns, but ranks lists 3"),
    ],
)
def test_distributions_that_are_none_are_named(y, p, options, message):
    with pytest.raises(ValueError, match=message):
        ranked_probability_score(y, p, **options)
