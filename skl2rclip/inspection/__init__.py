"""Displays: plots of fitted classifiers and of their predictions, in the manner of scikit-learn's.

Each display has ``from_estimator(estimator, X, y, ...)``, or ``from_estimators`` where it compares several, and
``plot(ax=None)``; most have ``from_predictions``. What is drawn are its attributes, and after drawing it has ``ax_``
and ``figure_``. They take any fitted classifier of scikit-learn's kind, in pipelines and searches too; only prototypes,
history and attributions are those of `L2RCLIPClassifier`. They show the words of the ranks where the classifier knows
them (`rank_names_`). They draw with matplotlib (``pip install "skl2rclip[plot]"``), which is imported when a plot is
drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skl2rclip._utils.lazy import lazily

if TYPE_CHECKING:
    from skl2rclip.inspection._at_least import AtLeastRankDisplay as AtLeastRankDisplay
    from skl2rclip.inspection._attribution import AttributionDisplay as AttributionDisplay
    from skl2rclip.inspection._calibration import RankCalibrationDisplay as RankCalibrationDisplay
    from skl2rclip.inspection._confusion import OrdinalConfusionDisplay as OrdinalConfusionDisplay
    from skl2rclip.inspection._distribution import RankDistributionDisplay as RankDistributionDisplay
    from skl2rclip.inspection._duplicates import DuplicateImagesDisplay as DuplicateImagesDisplay
    from skl2rclip.inspection._history import TrainingHistoryDisplay as TrainingHistoryDisplay
    from skl2rclip.inspection._largest_errors import LargestErrorsDisplay as LargestErrorsDisplay
    from skl2rclip.inspection._paired_errors import PairedErrorsDisplay as PairedErrorsDisplay
    from skl2rclip.inspection._predictions import RankPredictionDisplay as RankPredictionDisplay
    from skl2rclip.inspection._prototypes import PrototypeSimilarityDisplay as PrototypeSimilarityDisplay
    from skl2rclip.inspection._sorted_images import SortedPicturesDisplay as SortedPicturesDisplay

# those with images decode as the estimators do, which takes torch along
_HOME = {
    "AtLeastRankDisplay": "skl2rclip.inspection._at_least",
    "AttributionDisplay": "skl2rclip.inspection._attribution",
    "DuplicateImagesDisplay": "skl2rclip.inspection._duplicates",
    "LargestErrorsDisplay": "skl2rclip.inspection._largest_errors",
    "OrdinalConfusionDisplay": "skl2rclip.inspection._confusion",
    "PairedErrorsDisplay": "skl2rclip.inspection._paired_errors",
    "PrototypeSimilarityDisplay": "skl2rclip.inspection._prototypes",
    "RankCalibrationDisplay": "skl2rclip.inspection._calibration",
    "RankDistributionDisplay": "skl2rclip.inspection._distribution",
    "RankPredictionDisplay": "skl2rclip.inspection._predictions",
    "SortedPicturesDisplay": "skl2rclip.inspection._sorted_images",
    "TrainingHistoryDisplay": "skl2rclip.inspection._history",
}
__all__ = list(_HOME)
__getattr__, __dir__ = lazily(__name__, _HOME)
