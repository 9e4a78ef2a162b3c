"""From images to embeddings: the function that all fits share, and a transformer over it for pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F

from skl2rclip.backbone import BackboneRecord, BackboneSource, load_backbone, warn_if_random
from skl2rclip.devices import autocast_for, explain_out_of_memory, resolve_device
from skl2rclip.images import (
    ImageLike,
    Preprocessing,
    UnreadableImagesError,
    as_image_list,
    decode_chunks,
    find_unreadable,
    normalize,
)
from skl2rclip.validation import check_choice, check_integer, check_string, check_thread_count, seed_from

Tower = Callable[[Tensor], Tensor]


@torch.inference_mode()
def encode_pixels(
    tower: Tower,
    pixels: np.ndarray,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    autocast: torch.autocast,
    batch_size: int,
) -> np.ndarray:
    """Embed uint8 pixels.

    Parameters
    ----------
    tower : callable
        An image tower.
    pixels : ndarray of shape (n, H, W, 3), uint8
        At the tower's resolution.
    preprocessing : Preprocessing
    device : torch.device
    autocast : torch.autocast
    batch_size : int

    Returns
    -------
    ndarray of shape (n, D), float32
        Unit rows.
    """
    parts = []
    for start in range(0, len(pixels), batch_size):
        batch = torch.from_numpy(pixels[start : start + batch_size]).to(device)
        with autocast:
            embeddings = tower(normalize(batch, preprocessing))
        parts.append(F.normalize(embeddings.float(), dim=-1).cpu())
    return torch.cat(parts).numpy()


def encode_images(
    tower: Tower,
    images: Sequence[ImageLike],
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    autocast: torch.autocast,
    batch_size: int,
    n_jobs: int | None,
) -> np.ndarray:
    """Decode and embed images, decoding the next ones while the tower works on the present ones.

    Parameters
    ----------
    tower : callable
        An image tower.
    images : list of length n
        As `skl2rclip.images.as_image_list` returns it.
    preprocessing : Preprocessing
    device : torch.device
    autocast : torch.autocast
    batch_size : int
    n_jobs : int or None
        Decoding threads.

    Returns
    -------
    ndarray of shape (n, D), float32
        Unit rows.

    Raises
    ------
    UnreadableImagesError
    """
    unreadable = find_unreadable(images, n_jobs=n_jobs, thorough=False)
    if unreadable:
        raise UnreadableImagesError(unreadable, images, len(images))
    with explain_out_of_memory(batch_size):
        parts = [
            encode_pixels(tower, pixels, preprocessing, device=device, autocast=autocast, batch_size=batch_size)
            for _, [pixels] in decode_chunks(images, [preprocessing], n_jobs=n_jobs)
        ]
    return np.concatenate(parts)


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
    batch_size : int, default=64
        Images that pass the tower at once.
    device : str, default="auto"
        "auto" takes CUDA where there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "auto" is bfloat16 on CUDA devices from Ampere on, else float32.
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
        batch_size: int = 64,
        device: str = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
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
        check_integer("batch_size", self.batch_size, 1)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
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
        return encode_images(
            self._record.load().image_tower(device),
            images,
            self._record.preprocessing,
            device=device,
            autocast=autocast_for(self.precision, device),
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
        )

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
