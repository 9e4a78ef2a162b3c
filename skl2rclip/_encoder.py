"""`CLIPImageEncoder`: images in, embeddings out, as a transformer for pipelines; and texts beside them.

Its parameters and their documentation live here, the work is done in ``_embedding.embedder`` and ``_clip.texts``;
labels and learned prompts are not known. The methods that need torch, which takes seconds to import, import it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skl2rclip._images.collection import as_image_list
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._ordinal.features import EMBEDDING, FeatureBlocks
from skl2rclip._settings import checked
from skl2rclip._utils.arguments import (
    FINGERPRINT_ATTRIBUTE,
    check_choice,
    check_string,
    check_white_level,
    column_count,
    parse_max_memory,
    seed_from,
)
from skl2rclip._utils.callbacks import CallbackSupportMixin, listener_of, with_callbacks
from skl2rclip._utils.snapshots import unfitted
from skl2rclip.errors import InvalidParameterError


class _Embedding(ClassNamePrefixFeaturesOutMixin, CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """What scikit-learn makes of an array of embeddings: the container that ``set_output`` asks for."""

    _embed: Callable[[Any], np.ndarray]

    def transform(self, X: Any) -> Any:
        """Embed images."""
        return self._embed(X)


class CLIPImageEncoder(_Embedding):
    """Turn images into the unit embeddings of a pre-trained CLIP, or into what its image tower holds before them.

    The output feeds any scikit-learn model, and embeddings feed `L2RCLIPClassifier` with
    ``image_tower="precomputed"``. `encode_text` embeds words by the same model, so that images and words can be
    compared.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        Which model: an open_clip name, a ``local-dir:`` folder, an ``hf-hub:`` id, ``skl2rclip-tiny`` or
        ``skl2rclip-photo``. Images need no text tower, which may be of any kind. Larger models tell more apart and
        take longer.
    pretrained : str, path or None, default="openai"
        Which weights: an open_clip tag or a checkpoint file; None draws random ones, for tests. Not used with
        ``skl2rclip-tiny`` and ``skl2rclip-photo``, nor where `model_name` has a prefix.
    image_features : {"embedding", "tower", "both"}, default="embedding"
        Which columns are returned. "embedding" are those that words are compared with. "tower" is what the image tower
        holds before its last projection, which says more of detail and place: the state that the projection reads
        (``pooled``, where there is a projection), and the mean and standard deviation over the patches after a
        quarter, a half, three quarters and all of the layers (``mean_3``, ``deviation_3`` and so on, by the number of
        the layer), each patch normalised before; of convolutional towers over the positions of the feature map.
        "both" is both. It is the same pass and takes no longer, but more columns: of ViT-B-16 512 of the embedding,
        768 of the state, and twice 768 at four depths, 7,424 together.
    batch_size : int or "auto", default=64
        Images, or texts, that pass the tower at once. Higher values use a GPU better and need more of its memory;
        "auto" halves 64 until they fit. The embeddings do not depend on it beyond rounding.
    device : str, default="auto"
        Where to compute, by the name that torch has for it; "auto" takes CUDA where there is one, else MPS, else
        the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        In which precision the towers compute. "bfloat16" is faster where the hardware knows it and rounds more;
        "auto" is "bfloat16" on CUDA devices from Ampere on, else "float32". Image towers with batch norm
        (``skl2rclip-photo``, ResNets) are always in float32.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that the process may keep of embeddings; None stands for 500 MB. Raise it
        where the same images, more than fit, are embedded several times. It also bounds, at 1 GB where it is None, what
        the files being decoded take: threads take turns, a JPEG that takes more alone is decoded at
        smaller sides, and any other is refused. Raise it for images of more than 35 million pixels.
    embedding_cache : str, path or None, default=None
        Folder that keeps embeddings, so that each image passes the tower once, ever; shared by processes. It costs
        disk space: see `skl2rclip.embedding_store.EmbeddingStore`.
    n_jobs : int or None, default=None
        Threads that decode; None and -1 take all cores. Lower it where other work needs the cores.
    white_level : float or None, default=None
        Which value is white in images of more than eight bits, such as 4095 for twelve bits in sixteen, and in arrays
        and files of floating or signed values. None takes the full range of the type, 0 to 1 for floating values:
        `fit_transform` refuses images that use no more than an eighth of it, `transform` warns of them, and signed
        values are refused always. What a file itself says of its bits holds, and images of eight bits do not need it.
    random_state : int, RandomState or None, default=None
        Seed of random weights (``pretrained=None``); without effect otherwise.
    verbose : int, default=0
        Whether `transform` and `encode_text` show a progress bar, on the standard error. Raise it to 1 for many images.

    Attributes
    ----------
    embedding_width_ : int
        Number D of columns of embeddings.
    feature_blocks_ : dict of str to int
        Names of the blocks of columns that are returned, in order, and how many columns each has.
    device_ : str
        The device that was chosen.
    n_features_in_ : int
        1 where X came as one column; absent where it was one-dimensional, or left out.
    feature_names_in_ : ndarray of shape (1,)
        Name of that column, where it has one.

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

    _refuses_dark = False  # in `fit_transform` alone

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike | None = "openai",
        *,
        image_features: str = "embedding",
        batch_size: int | str = 64,
        device: str = "auto",
        precision: str = "auto",
        max_memory: int | str | None = None,
        embedding_cache: str | os.PathLike | None = None,
        n_jobs: int | None = None,
        white_level: float | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.image_features = image_features
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.max_memory = max_memory
        self.embedding_cache = embedding_cache
        self.n_jobs = n_jobs
        self.white_level = white_level
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any = None, y: Any = None) -> CLIPImageEncoder:
        """Load the model; images are not needed.

        Parameters
        ----------
        X : sequence of n images, optional
            Looked at for the name of its column.
        y : ignored
            Here for scikit-learn's pipelines.

        Returns
        -------
        CLIPImageEncoder
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, if there is no such model or device, or if what the image tower holds is
            asked for and cannot be read.
        RuntimeError
            If the weights cannot be fetched or do not fit.
        """
        from skl2rclip._clip.backbone import load_backbone
        from skl2rclip._clip.record import BackboneRecord
        from skl2rclip._clip.source import BackboneSource, warn_if_random
        from skl2rclip._utils.devices import resolve_device

        check_choice("image_features", self.image_features, choices=("embedding", "tower", "both"))  # not "auto"
        plain = checked(self.get_params(deep=False))
        check_string("device", self.device)  # not a list, which the classifier takes
        device = resolve_device(self.device)
        source = BackboneSource(self.model_name, plain["pretrained"], seed_from(self.random_state))
        warn_if_random(source)
        listener = listener_of(self, X, y)
        backbone = load_backbone(source)
        record = BackboneRecord.of(backbone)
        of_embeddings = FeatureBlocks.of_embeddings(record.embedding_width)
        fitted = unfitted(self)
        fitted._blocks = of_embeddings if self.image_features == EMBEDDING else backbone.feature_blocks
        fitted._record, fitted._white_level, fitted._image_features = record, plain["white_level"], self.image_features
        fitted.device_ = str(device)
        fitted.embedding_width_ = record.embedding_width
        fitted.feature_blocks_ = dict(fitted._blocks.blocks)
        if self.image_features == "tower":
            del fitted.feature_blocks_[EMBEDDING]
        if column_count(X) is not None:
            validate_data(fitted, X, skip_check_array=True)
        self.__dict__ = fitted.__dict__
        listener.fit_ends()
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Load the model and embed images, of which a generator is gone through once.

        Parameters
        ----------
        X : sequence of n images
            Images, as `fit` takes them.
        y : ignored
            Here for scikit-learn's pipelines.

        Returns
        -------
        ndarray of shape (n, columns), float32
            As `transform`.
        """
        X = as_image_list(X) if hasattr(X, "__next__") else X
        fitted = unfitted(self, **vars(self.fit(X, y)))
        fitted._refuses_dark = True
        return fitted.transform(X)

    def transform(self, X: Any) -> Any:
        """Embed images.

        Parameters
        ----------
        X : sequence of n images
            Paths, contents of files, PIL images or uint8 arrays, as `L2RCLIPClassifier.fit` takes them.

        Returns
        -------
        ndarray of shape (n, columns), float32
            Unit rows (n, D) where `image_features` is "embedding". Otherwise blocks side by side: the embedding, which
            is of unit length, where it is asked for, and what the tower holds as it holds it, rounded to half
            precision, each block of a size of its own. With ``set_output(transform="pandas")`` a frame that says in its
            `attrs` which weights made it, so that a classifier of another model refuses it.

        Raises
        ------
        UnreadableImagesError
            Naming index, path and reason.
        ValueError
            If X is a column of another name than in `fit`, or `image_features` is not what it was in `fit`.
        """
        embeddings = super().transform(X)
        if hasattr(embeddings, "attrs"):
            embeddings.attrs[FINGERPRINT_ATTRIBUTE] = self._record.fingerprint
        return embeddings

    def encode_text(self, texts: Any) -> np.ndarray:
        """Embed texts by the text tower of the same model.

        ``encoder.transform(images) @ encoder.encode_text(texts).T`` are CLIP's similarities, cosines between -1 and 1.
        Texts are taken whole, as they are: no prompt is put around them.

        Parameters
        ----------
        texts : str or sequence of n str
            Words or sentences; a single string is one text.

        Returns
        -------
        ndarray of shape (n, D), float32
            Unit rows.

        Raises
        ------
        TypeError
            If a text is no string.
        ValueError
            If there is no text, or a text has no token, or more than the text tower takes: none is cut.
        InvalidParameterError
            If the model embeds images only.
        NotFittedError
            If the model is not loaded yet.

        Examples
        --------
        >>> from sklearn.datasets import load_sample_image
        >>> from skl2rclip import CLIPImageEncoder
        >>> photograph = load_sample_image("china.jpg")
        >>> images = [(photograph * factor).astype("uint8") for factor in (0.3, 0.6, 1.0)]
        >>> encoder = CLIPImageEncoder("skl2rclip-tiny").fit()
        >>> words = encoder.encode_text([f"the brightness is {level}" for level in (2, 10, 18)])
        >>> (encoder.transform(images) @ words.T).argmax(axis=1)
        array([0, 1, 2])
        """
        check_is_fitted(self)
        from skl2rclip._clip.texts import as_texts, embed_texts
        from skl2rclip._utils.devices import resolve_device

        plain, entries = checked(self.get_params(deep=False)), as_texts(texts)
        device = resolve_device(self.device, strict=False)
        return embed_texts(
            self._record.load(), entries, device, plain["precision"], plain["batch_size"], plain["verbose"]
        )

    def _present_level(self) -> float | None:
        """Which value is white: that of `fit`, or one set since where there was none."""
        level = check_white_level(self.white_level)
        if self._white_level not in (None, level):
            raise InvalidParameterError(
                f"white_level={level} contradicts the white_level={self._white_level} that was fitted: set it back, or "
                "fit again."
            )
        return level

    def _check_features(self) -> None:
        if self.image_features != self._image_features:
            raise InvalidParameterError(
                f"image_features={self.image_features!r} contradicts the image_features={self._image_features!r} that "
                "was fitted: set it back, or fit again."
            )

    def _embed(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        self._check_features()
        from skl2rclip._embedding.embedder import check_headers, embed_images
        from skl2rclip._embedding.encoding import cache_of, shared_encoding
        from skl2rclip._utils.devices import resolve_device

        if hasattr(self, "n_features_in_") and column_count(X) is not None:
            validate_data(self, X, reset=False, skip_check_array=True)
        images, folder, n_jobs = stamped(as_image_list(X)), self.embedding_cache, self.n_jobs
        max_memory, white = parse_max_memory(self.max_memory), WhiteLevel(self._present_level(), self._refuses_dark)
        known = check_headers(images, folder, n_jobs, max_memory, white)
        device = resolve_device(self.device, strict=False)
        backbone = self._record.load()
        encoding = shared_encoding(backbone, device, self.precision, self.batch_size, blocks=self._blocks)
        cache = cache_of(backbone, device, self.precision, folder, max_memory, white, self._blocks)
        rows = embed_images(images, encoding, cache, n_jobs, max_memory, self.verbose, white=white, known=known)
        return rows[:, self._first_column :]

    @property
    def _first_column(self) -> int:
        return self.embedding_width_ if self._image_features == "tower" else 0

    @property
    def _n_features_out(self) -> int:
        return sum(self.feature_blocks_.values())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: ``embedding__0``, ``pooled__3``, ``mean_6__17``, a block and a number within it.

        Parameters
        ----------
        input_features : array-like of str, optional
            Name of the column of images, where it is to be checked.

        Returns
        -------
        ndarray of str
            A name for each column.
        """
        check_is_fitted(self)
        super().get_feature_names_out(input_features)  # which checks the name, and knows no others for the columns
        return np.array(self._blocks.names[self._first_column :], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
