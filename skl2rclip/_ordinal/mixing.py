"""How much of two ways to predict to mix, measured on images that neither has learned from.

Everything here is NumPy on rows of logits in rank order.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from skl2rclip._ordinal.decisions import ranked_scores

# shares that are compared
_SHARES = np.linspace(0, 1, 11)
# how fast a share loses weight with each image whose score it costs; the whole of the second costs one beforehand
_SHARPNESS = 4.0


def mixed_share(
    logits: np.ndarray, other: np.ndarray, target: np.ndarray, weight: np.ndarray | None, blocks: np.ndarray
) -> float:
    """Share of the second in a mixture of log-probabilities, by the ranked probability score.

    The mean of the shares w that are compared, each with the weight ``exp(-4 (n (S(w) - S) / S + w))``, where S(w) is
    the score of ``(1 - w) logits + w other``, S the least of them and n the number of sets of images, by their
    weights: few images leave it between what they cannot tell apart, many take the best. The w by itself stands for
    what the first gains by the images that it misses here.

    Parameters
    ----------
    logits : ndarray of shape (n, views, K)
        Of each view of each image, whose mean is what is predicted, by what has not learned from it.
    other : ndarray of shape (n, views, K)
    target : ndarray of shape (n,), int
        Index of each image's rank.
    weight : ndarray of shape (n,), or None
    blocks : ndarray of shape (n,), int
        What is left out together, and counts as one.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    n is Kish's effective number. Weights that fall exponentially with the loss: Vovk, "Aggregating strategies", COLT
    1990. That score and sharpness are used is this library's own.
    """
    scores = np.array(
        [
            np.average(ranked_scores(softmax(mixed, axis=-1).mean(axis=1), target), weights=weight)
            for mixed in ((1 - share) * logits + share * other for share in _SHARES)
        ]
    )
    of_blocks = np.bincount(np.unique(blocks, return_inverse=True)[1], weight)
    n = of_blocks.sum() ** 2 / (of_blocks**2).sum()
    return _mean_share(n * (scores - scores.min()) / max(scores.min(), 1e-9))


def unmeasured_share() -> float:
    """Share of the second where too few images are there to leave one out: what `mixed_share` has without any."""
    return _mean_share(np.zeros(len(_SHARES)))


def _mean_share(losses: np.ndarray) -> float:
    """Mean of the shares by what each costs, in images."""
    costs = losses + _SHARES
    weights = np.exp(-_SHARPNESS * (costs - costs.min()))
    return float(weights @ _SHARES / weights.sum())
