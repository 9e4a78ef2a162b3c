"""Ordinal metrics, and scorers for cross-validation that know the ranks of the estimator they score.

Metrics are functions of labels, or of prototypes; scorers are made of them.
"""

from skl2rclip.metrics._metrics import average_mean_absolute_rank_error as average_mean_absolute_rank_error
from skl2rclip.metrics._metrics import cumulative_score as cumulative_score
from skl2rclip.metrics._metrics import interval_coverage as interval_coverage
from skl2rclip.metrics._metrics import kendall_correlation as kendall_correlation
from skl2rclip.metrics._metrics import maximum_mean_absolute_rank_error as maximum_mean_absolute_rank_error
from skl2rclip.metrics._metrics import mean_absolute_expectation_error as mean_absolute_expectation_error
from skl2rclip.metrics._metrics import mean_absolute_rank_error as mean_absolute_rank_error
from skl2rclip.metrics._metrics import mean_interval_width as mean_interval_width
from skl2rclip.metrics._metrics import (
    neg_average_mean_absolute_rank_error_scorer as neg_average_mean_absolute_rank_error_scorer,
)
from skl2rclip.metrics._metrics import (
    neg_mean_absolute_expectation_error_scorer as neg_mean_absolute_expectation_error_scorer,
)
from skl2rclip.metrics._metrics import neg_mean_absolute_rank_error_scorer as neg_mean_absolute_rank_error_scorer
from skl2rclip.metrics._metrics import neg_ranked_probability_score_scorer as neg_ranked_probability_score_scorer
from skl2rclip.metrics._metrics import ordinality as ordinality
from skl2rclip.metrics._metrics import quadratic_weighted_kappa as quadratic_weighted_kappa
from skl2rclip.metrics._metrics import quadratic_weighted_kappa_scorer as quadratic_weighted_kappa_scorer
from skl2rclip.metrics._metrics import ranked_probability_score as ranked_probability_score
from skl2rclip.metrics._metrics import spearman_correlation as spearman_correlation
from skl2rclip.metrics._metrics import spearman_correlation_scorer as spearman_correlation_scorer

__all__ = [
    "average_mean_absolute_rank_error",
    "cumulative_score",
    "interval_coverage",
    "kendall_correlation",
    "maximum_mean_absolute_rank_error",
    "mean_absolute_expectation_error",
    "mean_absolute_rank_error",
    "mean_interval_width",
    "neg_average_mean_absolute_rank_error_scorer",
    "neg_mean_absolute_expectation_error_scorer",
    "neg_mean_absolute_rank_error_scorer",
    "neg_ranked_probability_score_scorer",
    "ordinality",
    "quadratic_weighted_kappa",
    "quadratic_weighted_kappa_scorer",
    "ranked_probability_score",
    "spearman_correlation",
    "spearman_correlation_scorer",
]
