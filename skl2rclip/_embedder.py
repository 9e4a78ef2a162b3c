"""From images to embeddings: the function that all fits share, and a transformer over it for pipelines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skl2rclip._backbone import Backbone, BackboneRecord
from skl2rclip._devices import autocast_for, explain_out_of_memory, resolve_precision, to_device
from skl2rclip._embedding_cache import EmbeddingCache, known_files
from skl2rclip._images import ImageLike, decode_chunks, find_unreadable, split_rows
from skl2rclip._preprocessing import Preprocessing, normalize
from skl2rclip._validation import (
    parse_max_memory,
)
from skl2rclip.errors import UnreadableImagesError

Tower = Callable[[Tensor], Tensor]
# of batch_size="auto"
LARGEST_AUTO_BATCH = 64
_POLL_SECONDS = 0.05
# another process that has stopped without dying may not keep this one from its work for ever
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class ImageEncoding:
    """How images become embeddings.

    Attributes
    ----------
    tower : callable
        An image tower.
    preprocessing : Preprocessing
    width : int
        Number D of columns of the embeddings.
    device : torch.device
    precision : str
        "auto", "float32" or "bfloat16".
    batch_size : int or "auto"
    """

    tower: Tower
    preprocessing: Preprocessing
    width: int
    device: torch.device
    precision: str
    batch_size: int | str

    @torch.inference_mode()
    def of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Embed uint8 pixels of shape (n, H, W, 3) at the tower's resolution: unit rows (n, D), float32."""
        is_auto = self.batch_size == "auto"
        size = LARGEST_AUTO_BATCH if is_auto else int(self.batch_size)
        while True:
            try:
                return self._of_pixels(pixels, size)
            except torch.OutOfMemoryError:
                if not is_auto or size == 1:
                    raise
            size //= 2

    def _of_pixels(self, pixels: np.ndarray, batch_size: int) -> np.ndarray:
        parts = []
        for start in range(0, len(pixels), batch_size):
            batch = to_device(torch.from_numpy(pixels[start : start + batch_size]), self.device)
            with autocast_for(self.precision, self.device):
                embeddings = self.tower(normalize(batch, self.preprocessing))
            parts.append(F.normalize(embeddings.float(), dim=-1))
        # one copy to the host: the device works through the batches without waiting for it
        return torch.cat(parts).cpu().numpy() if parts else np.empty((0, self.width), np.float32)


def encode_chunks(
    images: Sequence[ImageLike],
    encoding: ImageEncoding,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decode and embed images chunk by chunk, decoding the next ones while the tower works on the present ones.

    Parameters
    ----------
    images : list of length n
        As `skl2rclip.images.as_image_list` returns it.
    encoding : ImageEncoding
    cache : EmbeddingCache or None
        What it knows is not computed again, and what is computed goes there; None for a tower that nobody shares.
    n_jobs : int or None
        Decoding threads.

    Yields
    ------
    rows : ndarray of int
        Indices in `images`.
    embeddings : ndarray of shape (chunk, D), float32
        Unit rows.

    Raises
    ------
    UnreadableImagesError
    MemoryError
    """
    unreadable = find_unreadable_unknown(images, None if cache is None else cache.folder, n_jobs, thorough=False)
    if unreadable:
        raise UnreadableImagesError(unreadable, images, len(images))
    with explain_out_of_memory(encoding.batch_size):
        if cache is not None:
            with cache:
                yield from _encode_unknown(images, encoding, cache, n_jobs)
            return
        for rows, [pixels] in decode_chunks(images, [encoding.preprocessing], n_jobs=n_jobs):
            yield rows, encoding.of_pixels(pixels)


def find_unreadable_unknown(
    images: Sequence[ImageLike], folder: str | os.PathLike | None, n_jobs: int | None, *, thorough: bool
) -> dict[int, str]:
    """As `find_unreadable`, without looking again at files that have been decoded before."""
    rest = np.flatnonzero(~known_files(images, folder)).tolist()
    found = find_unreadable([images[i] for i in rest], n_jobs=n_jobs, thorough=thorough)
    return {rest[i]: reason for i, reason in found.items()}


def _encode_unknown(
    images: Sequence[ImageLike], encoding: ImageEncoding, cache: EmbeddingCache, n_jobs: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what the cache knows, embed what it does not, and wait for what others are embedding at the moment."""
    waiting, since = split_rows(len(images)), time.monotonic()
    while waiting:
        search = _Search(images, cache, n_jobs, waiting, is_impatient=time.monotonic() - since > _PATIENCE_SECONDS)
        for rows, [pixels] in decode_chunks(images, [encoding.preprocessing], n_jobs=n_jobs, chunks=search):
            yield from search.found()
            if len(rows):
                embeddings = encoding.of_pixels(pixels)
                cache.put({search.key_of[i]: row for i, row in zip(rows.tolist(), embeddings, strict=True)})
                yield rows, embeddings
        yield from search.found()
        if search.made_progress:
            since = time.monotonic()
        else:
            time.sleep(_POLL_SECONDS)
        waiting = search.left


class _Search:
    """Chunks of the images that the cache does not know, looked up when they are asked for."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        cache: EmbeddingCache,
        n_jobs: int | None,
        chunks: list[np.ndarray],
        is_impatient: bool,
    ):
        self._images, self._cache, self._n_jobs, self._chunks = images, cache, n_jobs, chunks
        self._is_impatient = is_impatient
        self.made_progress = False
        self._found: list[tuple[np.ndarray, np.ndarray]] = []
        self.key_of: dict[int, bytes] = {}
        self.left: list[np.ndarray] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for rows in self._chunks:
            keys = self._cache.keys([self._images[i] for i in rows], self._n_jobs)
            known, claimed = self._cache.take(keys, despite_claims=self._is_impatient)
            self.made_progress |= bool(known or claimed)
            first = {key: i for i, key in zip(reversed(rows.tolist()), reversed(keys), strict=True)}
            mine = [first[key] for key in claimed]
            self.key_of |= {first[key]: key for key in claimed}
            is_known = np.array([key in known for key in keys])
            if is_known.any():
                embeddings = np.stack([known[key] for key in keys if key in known])
                self._found.append((rows[is_known], embeddings))
            left = np.setdiff1d(rows[~is_known], mine)
            if len(left):
                self.left.append(left)
            yield np.array(mine, dtype=int)  # an empty one too, so that what was found is handed on

    def found(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Hand on, once, the rows and embeddings that the cache knew."""
        while self._found:
            yield self._found.pop(0)


def encode_images(
    images: Sequence[ImageLike],
    encoding: ImageEncoding,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
) -> np.ndarray:
    """Embeddings of all images together, ndarray of shape (n, D), float32; otherwise as `encode_chunks`."""
    result = np.empty((len(images), encoding.width), np.float32)
    for rows, embeddings in encode_chunks(images, encoding, cache, n_jobs):
        result[rows] = embeddings
    return result


def encode_decoded(
    images: Sequence[ImageLike],
    pixels: np.ndarray,
    encoding: ImageEncoding,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
) -> np.ndarray:
    """Embed images whose pixels are there already, those that the cache does not know: (n, D), float32."""
    if cache is None:
        return encoding.of_pixels(pixels)
    keys = cache.keys(images, n_jobs)
    rows: dict[bytes, np.ndarray] = {}
    since = time.monotonic()
    while len(missing := set(keys) - set(rows)) > 0:
        is_impatient = time.monotonic() - since > _PATIENCE_SECONDS
        known, claimed = cache.take([key for key in keys if key in missing], despite_claims=is_impatient)
        rows |= known
        if claimed:
            embeddings = encoding.of_pixels(pixels[[keys.index(key) for key in claimed]])
            computed = dict(zip(claimed, embeddings, strict=True))
            cache.put(computed)
            rows |= computed
        elif not known:  # another thread or process is at it
            time.sleep(_POLL_SECONDS)
    return np.stack([rows[key] for key in keys])


def shared_encoding(
    backbone: Backbone, device: torch.device, precision: str, batch_size: int | str, compiled: bool = False
) -> ImageEncoding:
    """Return the encoding by the backbone's own image tower, which all estimators share."""
    tower: Any = backbone.image_tower(device)
    return ImageEncoding(
        torch.compile(tower) if compiled else tower,
        backbone.preprocessing,
        backbone.embedding_width,
        device,
        precision,
        batch_size,
    )


def cache_of(
    backbone: Backbone | BackboneRecord,
    device: torch.device,
    precision: str,
    folder: str | os.PathLike | None,
    max_memory: int | str | None,
) -> EmbeddingCache:
    """Cache of what the backbone's own image tower makes of images."""
    return EmbeddingCache(
        backbone.fingerprint,
        backbone.preprocessing,
        resolve_precision(precision, device),
        folder=folder,
        max_memory=parse_max_memory(max_memory),
    )
