"""How images pass a frozen tower: from decoded pixels to rows of embeddings, with what the tower holds before them.

Where images come from is not known; what is kept of the rows is said to a cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._clip.backbone import Backbone, is_convolutional, precision_of
from skl2rclip._clip.features import FeatureTower
from skl2rclip._clip.record import BackboneRecord
from skl2rclip._embedding.cache import EmbeddingCache
from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing, normalize
from skl2rclip._ordinal.features import FeatureBlocks
from skl2rclip._utils.devices import autocast_for, in_batches, resolve_precision, to_device
from skl2rclip._utils.threads import n_side_by_side, side_by_side

Tower = Callable[[Tensor], Tensor]
# images of the first batches on the CPU, where a large tower takes seconds for one, and how many come in such batches
SMALL_BATCH, N_SMALL = 4, 12
# maps of a convolutional tower's first layers are as large as its input, and are read again from caches or from memory
_PIXELS_THAT_FIT_CACHES = 4 * 224**2
_MAX_HALF = torch.finfo(torch.half).max


@dataclass(frozen=True)
class ImageEncoding:
    """How images become embeddings, or embeddings with features behind them."""

    tower: Tower  # from normalised pixels (n, 3, H, W) to rows (n, W) that begin with embeddings of any length
    preprocessing: Preprocessing
    width: int  # number W of columns, that of the embeddings where there is nothing behind them
    device: torch.device
    precision: str
    batch_size: int | str  # images that pass the tower at once; "auto" halves 64 until they fit the device's memory
    # told after each batch how many images are done; small ones go first then, so that it is soon known how long all
    # will take
    on_batch: Callable[[int], None] | None = None
    embedding_width: int | None = None  # number D of columns of the embeddings; None where they are all
    embeddings_alone: bool = False  # are handed on, and what is behind them only goes to the cache

    @property
    def n_columns(self) -> int:
        """Number of columns that are handed on."""
        return self.embedding_width if self.embeddings_alone and self.embedding_width else self.width

    @torch.inference_mode()
    def of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Embed uint8 pixels of shape (n, H, W, 3) at the tower's resolution: rows (n, W), float32.

        The embeddings are of unit length, and what is behind them has been rounded to half precision.
        """
        return in_batches(partial(self._of_pixels, pixels), self.batch_size)

    def _of_pixels(self, pixels: np.ndarray, batch_size: int) -> np.ndarray:
        parts = []
        starts = list(range(0, len(pixels), batch_size))
        if self.on_batch is not None and batch_size > SMALL_BATCH and len(pixels) > N_SMALL:
            starts = [*range(0, N_SMALL, SMALL_BATCH), *range(N_SMALL, len(pixels), batch_size)]
        for start, end in pairwise([*starts, len(pixels)]):
            batch = torch.from_numpy(pixels[start:end])
            parts += side_by_side(self._of_batch, batch.tensor_split(self._n_parts(batch)))
            if self.on_batch is not None:
                self.on_batch(end)
        # one copy to the host: the device works through the batches without waiting for it
        return torch.cat(parts).cpu().numpy() if parts else np.empty((0, self.width), np.float32)

    @property
    def is_plain(self) -> bool:
        """Whether the tower runs on the CPU as it is, not compiled."""
        return self.device.type == "cpu" and not hasattr(self.tower, "_orig_mod")

    @cached_property
    def _precision(self) -> str:
        """In which the tower computes; its modules are looked through once, not for each batch."""
        return resolve_precision(precision_of(self.tower, self.precision), self.device)

    def _n_parts(self, batch: Tensor) -> int:
        """Choose how many parts of a batch pass the tower side by side: one for each thread, or more."""
        # elsewhere batches are begun long before they are done; compiling is for one size
        if not self.is_plain or len(batch) < 2:
            return 1
        n_threads = n_side_by_side()
        n_parts = n_threads
        if isinstance(self.tower, nn.Module) and is_convolutional(self.tower):
            n_parts = math.ceil(batch[..., 0].numel() / (n_threads * _PIXELS_THAT_FIT_CACHES)) * n_threads
        return min(n_parts, len(batch))

    def _of_batch(self, batch: Tensor) -> Tensor:
        if self.is_plain and self._precision == "bfloat16" and len(batch) == 1:
            # torch's attention on the CPU rounds one row otherwise than several
            return self._of_batch(batch.expand(2, -1, -1, -1))[:1]
        with autocast_for(self._precision, self.device):
            rows = self.tower(normalize(to_device(batch, self.device), self.preprocessing)).float()
        if self.embedding_width is None:
            return F.normalize(rows, dim=-1)
        embeddings, features = rows[:, : self.embedding_width], rows[:, self.embedding_width :]
        return torch.cat([F.normalize(embeddings, dim=-1), rounded(features)], dim=-1)


def rounded(features: Tensor) -> Tensor:
    """Round as the cache does, so that nothing depends on whether a row was kept there."""
    return features.clamp(-_MAX_HALF, _MAX_HALF).half().float()


def shared_encoding(
    backbone: Backbone,
    device: torch.device,
    precision: str,
    batch_size: int | str,
    compiled: bool = False,
    blocks: FeatureBlocks | None = None,
    embeddings_alone: bool = False,
) -> ImageEncoding:
    """Return the encoding by the backbone's own image tower, which all estimators share.

    With the backbone's `feature_blocks` its rows are these, else embeddings; with `embeddings_alone` the others are
    only kept, for whoever wants them later.
    """
    tower: Any = backbone.image_tower(device)
    reads_more = blocks is not None and not blocks.is_plain
    if reads_more:
        tower = FeatureTower(tower)
    return ImageEncoding(
        torch.compile(tower) if compiled else tower,
        backbone.preprocessing,
        blocks.width if blocks is not None else backbone.embedding_width,
        device,
        precision,
        batch_size,
        embedding_width=backbone.embedding_width if reads_more else None,
        embeddings_alone=embeddings_alone,
    )


def cache_of(
    backbone: Backbone | BackboneRecord,
    device: torch.device,
    precision: str,
    folder: str | os.PathLike | None,
    max_memory: int | None,
    white: WhiteLevel = FULL_RANGE,
    blocks: FeatureBlocks | None = None,
    embeddings_alone: bool = False,
) -> EmbeddingCache:
    """Cache of what the backbone's own image tower makes of images; `max_memory` is in bytes.

    `blocks` and `embeddings_alone` are those that `shared_encoding` was given.
    """
    return EmbeddingCache(
        backbone.function,
        backbone.preprocessing,
        resolve_precision(precision, device),
        folder=folder,
        width=backbone.embedding_width,
        max_memory=max_memory,
        white=white,
        blocks=() if blocks is None else blocks.blocks[1:],
        embeddings_alone=embeddings_alone,
    )
