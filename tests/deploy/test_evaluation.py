"""Figures of a card against scikit-learn, the metrics of this library, and slow loops."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error

from skl2rclip._deploy.evaluation import evaluate
from skl2rclip._ordinal.ranks import scale_of
from skl2rclip.metrics import interval_coverage, quadratic_weighted_kappa, ranked_probability_score

RANKS = np.array([1, 2, 4, 8])


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 60)  # no image of the highest rank
    probabilities = rng.dirichlet(np.full(4, 0.3), 60) + 0.3 * np.eye(4)[true]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return true, probabilities.argmax(axis=1), probabilities


def scores_of(evaluation):
    return {score.key: score for score in evaluation.scores}


def test_scores_are_those_of_the_metrics(made):
    from skl2rclip._ordinal.decisions import central_interval

    true, predicted, probabilities = made
    found = {key: score.value for key, score in scores_of(evaluate(scale_of(RANKS), *made, None)).items()}
    y, said = RANKS[true], RANKS[predicted]
    assert found == pytest.approx(
        {
            "mae": mean_absolute_error(y, said),
            "accuracy": accuracy_score(y, said),
            "within_one_rank": np.mean(np.abs(true - predicted) <= 1),
            "rps": ranked_probability_score(y, probabilities, ranks=RANKS),
            "interval_coverage": interval_coverage(y, RANKS[central_interval(probabilities, 0.8)], ranks=RANKS),
            "quadratic_weighted_kappa": quadratic_weighted_kappa(y, said, ranks=RANKS),
        }
    )


def test_ranks_are_told_apart_and_those_without_images_have_no_figures(made):
    true, predicted, _ = made
    evaluation = evaluate(scale_of(RANKS), *made, None)
    assert evaluation.n_images.tolist() == [*np.bincount(true), 0]
    assert np.isnan([evaluation.errors[3], evaluation.held[3]]).all()
    for rank in range(3):
        errors = [abs(RANKS[t] - RANKS[p]) for t, p in zip(true, predicted, strict=True) if t == rank]
        assert evaluation.errors[rank] == pytest.approx(np.mean(errors))
    constants = [np.mean([abs(answer - RANKS[t]) for t in true]) for answer in RANKS]
    assert evaluation.constant_error == pytest.approx(min(constants))


def test_bounds_hold_the_score_and_are_wider_where_groups_are_drawn(made):
    true, predicted, probabilities = (np.repeat(part, 4, axis=0) for part in made)
    alone = evaluate(scale_of(RANKS), true, predicted, probabilities, None)
    together = evaluate(scale_of(RANKS), true, predicted, probabilities, np.repeat(np.arange(60), 4))
    assert together.n_groups == 60
    assert alone.n_groups is None
    for one, other in zip(alone.scores[:2], together.scores[:2], strict=True):
        assert one.bounds[0] <= one.value <= one.bounds[1]
        assert other.value == one.value
        # every group is one image four times over
        assert 1.5 < np.ptp(other.bounds) / np.ptp(one.bounds) < 2.5


def test_few_images_have_no_bounds(made):
    few = [part[:9] for part in made]
    assert scores_of(evaluate(scale_of(RANKS), *few, None))["mae"].bounds is None
