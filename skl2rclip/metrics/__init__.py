"""Ordinal metrics, and scorers for cross-validation that know the ranks of the estimator they score.

Labels are numbers, or words whose order `ranks` or an ordered Categorical gives. Metrics raise a ValueError where the
order of words is not known, a label is not a rank, or there are none.
"""

from skl2rclip.metrics._at_least import at_least_rank_scores
from skl2rclip.metrics._bootstrap import bootstrap_scores
from skl2rclip.metrics._cases import labels_from_probabilities, pool_probabilities
from skl2rclip.metrics._distributions import mean_absolute_expectation_error, ordinality, ranked_probability_score
from skl2rclip.metrics._intervals import interval_coverage, mean_interval_width
from skl2rclip.metrics._points import (
    average_mean_absolute_rank_error,
    cumulative_score,
    kendall_correlation,
    maximum_mean_absolute_rank_error,
    mean_absolute_rank_error,
    quadratic_weighted_kappa,
    spearman_correlation,
)
from skl2rclip.metrics._scorers import (
    neg_average_mean_absolute_rank_error_scorer,
    neg_mean_absolute_expectation_error_scorer,
    neg_mean_absolute_rank_error_scorer,
    neg_ranked_probability_score_scorer,
    quadratic_weighted_kappa_scorer,
    spearman_correlation_scorer,
)

__all__ = [
    "at_least_rank_scores",
    "average_mean_absolute_rank_error",
    "bootstrap_scores",
    "cumulative_score",
    "interval_coverage",
    "kendall_correlation",
    "labels_from_probabilities",
    "maximum_mean_absolute_rank_error",
    "mean_absolute_expectation_error",
    "mean_absolute_rank_error",
    "mean_interval_width",
    "neg_average_mean_absolute_rank_error_scorer",
    "neg_mean_absolute_expectation_error_scorer",
    "neg_mean_absolute_rank_error_scorer",
    "neg_ranked_probability_score_scorer",
    "ordinality",
    "pool_probabilities",
    "quadratic_weighted_kappa",
    "quadratic_weighted_kappa_scorer",
    "ranked_probability_score",
    "spearman_correlation",
    "spearman_correlation_scorer",
]
