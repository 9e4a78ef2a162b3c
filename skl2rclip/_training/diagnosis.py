"""Whether a fit has learned anything, by images that are left out, and what to say where it has not.

Nothing is trained here, and nothing is measured that the fit does not know already.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import softmax

from skl2rclip._ordinal.comparison import surely_best
from skl2rclip._ordinal.decisions import ranked_scores
from skl2rclip._ordinal.soft_targets import Measurement
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.request import FitRequest
from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import NothingLearnedWarning

# of the labels' variance, below which a regression explains next to nothing of it
_MIN_TRUST = 0.05
# with fewer, or fewer groups of them, chance hides what images show: in one of five fits with twelve, and with a few
# images beside one frequent rank
_MIN_BLOCKS = 20
_MIN_OTHERS = 8


def warn_of_nothing_learned(
    request: FitRequest, learner: Learner, data: TrainingData, measured: Measurement | None, *, has_tower_learned: bool
) -> None:
    """Warn once where neither the images nor the words say anything of the ranks; where that is not known, do not.

    Parameters
    ----------
    request : FitRequest
    learner : Learner
        As the fit ends.
    data : TrainingData
    measured : Measurement or None
        What the regression says of images that it has not seen; None where nothing was measured.
    has_tower_learned : bool
        Whether the image tower was trained beyond what the regression has read.
    """
    if measured is None or measured.targets.scores is None or not request.is_new or has_tower_learned:
        return
    if measured.targets.trust >= _MIN_TRUST or not _has_enough_to_tell(measured):
        return
    if learner.group.rank > 0 or _say_words_more_than_chance(learner, data, measured):
        return
    warn_user(_message(request, measured.targets.trust), NothingLearnedWarning)


def _has_enough_to_tell(measured: Measurement) -> bool:
    """Whether images that show the ranks would have been seen to do so."""
    target, blocks = measured.targets.target, measured.blocks
    others = blocks[target != np.bincount(target).argmax()]
    return len(np.unique(blocks)) >= _MIN_BLOCKS and len(np.unique(others)) >= _MIN_OTHERS


def _message(request: FitRequest, trust: float) -> str:
    remedies = ["another backbone (model_name)", "more images", "names and a prompt that CLIP has read in captions"]
    if request.settings.image_tower == "frozen":
        remedies.append("image_tower='finetune'")
    return (
        "The fit has learned next to nothing: for images that are left out, a regression on what is read of them "
        f"explains {100 * trust:.0f} % of the labels' variance (label_trust_), and the words do not tell the ranks "
        "either. Look first whether each label belongs to its image, and whether the ranks are in order. Otherwise try "
        f"{', '.join(remedies[:-1])}, or {remedies[-1]}."
    )


@torch.no_grad()
def _say_words_more_than_chance(learner: Learner, data: TrainingData, measured: Measurement) -> bool:
    """Whether zero-shot CLIP, where the model keeps it, is surely better than the frequencies of the ranks."""
    zero_shot, target = learner.zero_shot, measured.targets.target
    images = None if data.images is None else data.images.predicted
    if zero_shot is None or images is None or images.embeddings is None:
        return False
    if learner.adapter is not None and not float(zero_shot.share):
        return False
    logits = learner.objective.logits(images.embeddings, zero_shot.prototypes).cpu().double().numpy()
    frequencies = np.bincount(target, measured.weight, logits.shape[1]) / measured.weight.sum()
    by_chance = np.tile(frequencies, (len(target), 1))
    by_words = images.views.of_prediction(softmax(logits, axis=1))
    scores = np.stack([ranked_scores(each, target) for each in (by_chance, by_words)])
    return surely_best(scores, measured.weight, measured.blocks) == 1
