"""What is learned of how the training images look, so that a model can say how usual a new one is.

The leverages themselves are in ``_ordinal.leverage``.
"""

from __future__ import annotations

import numpy as np
import torch

from skl2rclip._images.preprocessing import shrink
from skl2rclip._ordinal.leverage import Leverage, fit_leverage
from skl2rclip._ordinal.splits import blocks_of
from skl2rclip._training.learner import EncodedImages, Learner, TrainingData
from skl2rclip._utils.threads import one_thread

# that pass a trained tower once more, evenly along their order
_MAX_PASSED = 2_000


def of_encoded(
    images: EncodedImages, weight: np.ndarray, groups: np.ndarray | None, left_out_together: np.ndarray | None
) -> Leverage | None:
    """Learn from what a frozen tower, or a table, gives of the training images: embeddings, or features without them.

    Parameters
    ----------
    images : EncodedImages
        Of several views the first, which is the image itself, counts.
    weight : ndarray of shape (n,)
    groups : ndarray of shape (n,), optional
    left_out_together : ndarray of shape (n,), int, optional
        `blocks_of` these images, where it is known.
    """
    read = images.features if images.embeddings is None else images.embeddings
    rows = read[:: images.views.n].cpu().numpy()
    together = blocks_of(rows, groups) if left_out_together is None else left_out_together
    with one_thread():
        return fit_leverage(rows, weight, together)


@torch.no_grad()
def of_trained_tower(
    learner: Learner, data: TrainingData, weight: np.ndarray, groups: np.ndarray | None, batch_size: int
) -> Leverage | None:
    """Learn from what a trained tower gives of some of the training images, which pass it once more.

    `weight` and `groups` are of the training images; of a group of processes each passes its share.
    """
    assert data.pixels is not None
    assert learner.tower is not None
    n, width = len(data.target), learner.prototypes_width
    mine = np.arange(n) if data.share is None else data.share.numpy()
    wanted = np.unique(np.linspace(0, n - 1, min(n, _MAX_PASSED)).astype(np.int64))
    places = np.flatnonzero(np.isin(mine, wanted))
    embeddings, size = np.zeros((n, width), np.float32), learner.preprocessing.size
    batches = list(torch.from_numpy(places).split(batch_size))
    for own, pixels in zip(batches, data.pixels.batches(batches), strict=True):
        passed = learner.embed_pixels(shrink(pixels, size), augmented=False)
        embeddings[mine[own.numpy()]] = passed[:, :width].cpu().numpy()
    embeddings = learner.group.all_reduce(embeddings)[wanted]
    together = blocks_of(embeddings, None if groups is None else groups[wanted])
    with one_thread():
        return fit_leverage(embeddings, weight[wanted], together)
