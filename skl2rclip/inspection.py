"""Displays: plots of fitted classifiers and of their predictions, in the manner of scikit-learn's.

Each display has ``from_estimator(estimator, X, y, ...)`` and ``plot(ax=None)``, most have ``from_predictions``; what is
drawn are its attributes, and after drawing it has ``ax_`` and ``figure_``. They take any fitted classifier of
scikit-learn's kind, in pipelines and searches too; only prototypes and history are those of `L2RCLIPClassifier`. They
draw with matplotlib (``pip install "skl2rclip[plot]"``), which is imported when a plot is drawn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skl2rclip._displays_of_calibration import RankCalibrationDisplay as RankCalibrationDisplay
    from skl2rclip._displays_of_pictures import LargestErrorsDisplay as LargestErrorsDisplay
    from skl2rclip._displays_of_pictures import RankDistributionDisplay as RankDistributionDisplay
    from skl2rclip._displays_of_pictures import SortedPicturesDisplay as SortedPicturesDisplay
    from skl2rclip._displays_of_ranks import OrdinalConfusionDisplay as OrdinalConfusionDisplay
    from skl2rclip._displays_of_ranks import RankPredictionDisplay as RankPredictionDisplay
    from skl2rclip._displays_of_training import PrototypeSimilarityDisplay as PrototypeSimilarityDisplay
    from skl2rclip._displays_of_training import TrainingHistoryDisplay as TrainingHistoryDisplay

# those with pictures decode as the estimators do, which takes torch along
_HOME = {
    "LargestErrorsDisplay": "skl2rclip._displays_of_pictures",
    "OrdinalConfusionDisplay": "skl2rclip._displays_of_ranks",
    "PrototypeSimilarityDisplay": "skl2rclip._displays_of_training",
    "RankCalibrationDisplay": "skl2rclip._displays_of_calibration",
    "RankDistributionDisplay": "skl2rclip._displays_of_pictures",
    "RankPredictionDisplay": "skl2rclip._displays_of_ranks",
    "SortedPicturesDisplay": "skl2rclip._displays_of_pictures",
    "TrainingHistoryDisplay": "skl2rclip._displays_of_training",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'skl2rclip.inspection' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
