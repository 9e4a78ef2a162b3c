"""From images to embeddings: the function that all fits share, and a transformer over it for pipelines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F

from skl2rclip.backbone import Backbone, BackboneRecord, BackboneSource, load_backbone, warn_if_random
from skl2rclip.devices import autocast_for, explain_out_of_memory, resolve_device, resolve_precision, to_device
from skl2rclip.embedding_cache import EmbeddingCache, known_files
from skl2rclip.images import (
    ImageLike,
    Preprocessing,
    UnreadableImagesError,
    as_image_list,
    decode_chunks,
    find_unreadable,
    normalize,
    split_rows,
)
from skl2rclip.validation import (
    check_batch_size,
    check_choice,
    check_folder,
    check_string,
    check_thread_count,
    parse_max_memory,
    seed_from,
)

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


class CLIPImageEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn images into the unit embeddings of a pre-trained CLIP.

    The output feeds any scikit-learn model, and `L2RCLIPClassifier` with ``image_tower="precomputed"``.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        open_clip name, ``local-dir:`` folder, ``hf-hub:`` id or ``skl2rclip-tiny``.
    pretrained : str or None, default="openai"
        open_clip tag or checkpoint file; None for random weights. Not used with ``skl2rclip-tiny``, nor where
        `model_name` has a prefix.
    batch_size : int or "auto", default=64
        Images that pass the tower at once; "auto" halves 64 until they fit the device's memory.
    device : str, default="auto"
        "auto" takes CUDA where there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" is bfloat16 on CUDA devices from Ampere on, else float32.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that the process may keep of embeddings; 500 MB where it is None.
    embedding_cache : str or None, default=None
        Folder that keeps embeddings, so that each image passes the tower once, ever; shared by processes. See
        `skl2rclip.embedding_store.EmbeddingStore` for its size.
    n_jobs : int or None, default=None
        Decoding threads; None and -1 are all cores.
    random_state : int, RandomState or None, default=None
        Seed of random weights (``pretrained=None``); without effect otherwise.

    Attributes
    ----------
    embedding_width_ : int
        Number D of columns of the output.
    device_ : str
        The device that was chosen.

    See Also
    --------
    L2RCLIPClassifier : The ordinal classifier on top of it.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skl2rclip import CLIPImageEncoder
    >>> probe = make_pipeline(CLIPImageEncoder("ViT-B-32", "openai"), LogisticRegression())
    >>> probe.fit(paths, y)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | None = "openai",
        *,
        batch_size: int | str = 64,
        device: str = "auto",
        precision: str = "auto",
        max_memory: int | str | None = None,
        embedding_cache: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.max_memory = max_memory
        self.embedding_cache = embedding_cache
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any = None, y: Any = None) -> CLIPImageEncoder:
        """Load the model; images are not needed.

        Parameters
        ----------
        X, y : ignored

        Returns
        -------
        CLIPImageEncoder
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, or there is no such model or device.
        RuntimeError
            If the weights cannot be fetched or do not fit.
        """
        check_string("model_name", self.model_name)
        if self.pretrained is not None:
            check_string("pretrained", self.pretrained)
        check_batch_size(self.batch_size)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        parse_max_memory(self.max_memory)
        check_folder("embedding_cache", self.embedding_cache)
        check_thread_count("n_jobs", self.n_jobs)
        device = resolve_device(self.device)
        source = BackboneSource(self.model_name, self.pretrained, seed_from(self.random_state))
        warn_if_random(source)
        record = BackboneRecord.of(load_backbone(source))
        self._record = record
        self.device_ = str(device)
        self.embedding_width_ = record.embedding_width
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed images.

        Parameters
        ----------
        X : sequence of n images
            Paths, PIL images or uint8 arrays, as `L2RCLIPClassifier.fit` takes them.

        Returns
        -------
        ndarray of shape (n, D), float32
            Unit rows.

        Raises
        ------
        UnreadableImagesError
            Naming index, path and reason.
        """
        check_is_fitted(self)
        images = as_image_list(X)
        device = resolve_device(self.device, strict=False)
        backbone = self._record.load()
        encoding = shared_encoding(backbone, device, self.precision, self.batch_size)
        cache = cache_of(backbone, device, self.precision, self.embedding_cache, self.max_memory)
        return encode_images(images, encoding, cache, self.n_jobs)

    @property
    def _n_features_out(self) -> int:
        return self.embedding_width_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = True
        return tags
