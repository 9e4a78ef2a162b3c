"""L2RCLIPClassifier: its parameters, the order of the checks in ``fit``, and the read-out.

The mathematics is in ``prompts``, ``rankformer``, ``losses`` and ``training``, what runs between the checks and the
fitted state in ``fitting``; images are the business of ``images`` and ``encoder``.
"""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skl2rclip._backbone import Backbone, BackboneSource, check_text_config, model_config, warn_if_random
from skl2rclip._device_group import check_devices
from skl2rclip._devices import resolve_device
from skl2rclip._embedder import ImageEncoding, cache_of, encode_chunks, find_unreadable_unknown
from skl2rclip._embedding_cache import EmbeddingCache
from skl2rclip._fit import FitRequest, FitResult, fitted_adapter, fitted_encoding, train, train_on_devices, unit_rows
from skl2rclip._images import as_image_list
from skl2rclip._model import FittedState, load_model, save_model
from skl2rclip._prompts import tokenize_prompts
from skl2rclip._ranks import RankScale, check_labels, expected_value, rank_scale, read_out
from skl2rclip._text_tower import PromptTokenizer
from skl2rclip._validation import check_parameters, check_sample_weight, class_weights_of, seed_from, warn_user
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from skl2rclip.metrics import ordinality

# what decides shapes and meaning of the learned arrays: training can go on only with the same
_STRUCTURE = (
    "image_tower",
    "image_adapter",
    "prompt",
    "n_context_tokens",
    "rank_position",
    "tune_ranks",
    "rankformer_layers",
    "rankformer_heads",
)


def _save_epoch(model: L2RCLIPClassifier, folder: Path, result: FitResult) -> None:
    model._adopt(result, None)
    model.save(folder)


class L2RCLIPClassifier(ClassifierMixin, BaseEstimator):
    """Ordinal image classification with CLIP by learning to rank, L2RCLIP.

    Ranks are words at the end of a learned prompt. RankFormer lets the ranks' words see each other in word-embedding
    space; a cross-modal pairwise loss keeps images and texts aligned in meaning and in order. Prompts are trained
    first, on embeddings of the frozen image tower; then, with ``image_tower="finetune"``, prompts and tower together.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        open_clip name, ``local-dir:`` folder or ``hf-hub:`` id of a CLIP with a causal text tower; or
        ``"skl2rclip-tiny"``, a small CLIP of 64-pixel images that comes with the package.
    pretrained : str or None, default="openai"
        open_clip tag or checkpoint file; None for random weights, with a warning. Not used with ``skl2rclip-tiny``, nor
        where `model_name` has a prefix.
    image_tower : {"finetune", "frozen", "precomputed"}, default="finetune"
        Train a copy of the image tower in the second stage; leave it as it is; or take X as embeddings from
        `CLIPImageEncoder`.
    image_adapter : {"linear", "mlp"} or None, default="linear"
        Residual map of the embeddings, trained with the prompts while the tower is frozen or precomputed; without
        effect with ``"finetune"``.
    ranks : array-like of shape (K,), optional
        All labels, lowest first; may hold labels that no image shows. By default an ordered pandas Categorical gives
        the order, else numbers sort.
    rank_names : mapping, list or callable, optional
        Words for the prompts: by label, in rank order, or computed from a label. By default the label itself.
    prompt : str, default="a photo of"
        Words that the context tokens start from.
    n_context_tokens : int, default=8
        Number m of learned context tokens. A shorter prompt is filled up from N(0, 0.02^2), a longer one is cut with a
        warning.
    rank_position : {"tail", "front", "middle"}, default="tail"
        Where the rank stands: after the context, before it, or after its first m // 2 tokens.
    tune_ranks : bool, default=True
        Learn the word embeddings of the ranks too.
    rankformer_layers : int, default=1
        0 leaves RankFormer out.
    rankformer_heads : int, default=8
        Must divide the width of the word embeddings.
    blend_ratio : float, default=0.1
        Share of RankFormer's output in the rank tokens, in [0, 1].
    contrastive_weight, pairwise_weight, tightness_weight : float, default=1.0
        Weights of the three terms of the objective, not negative.
    class_weight : dict, "balanced" or None, default=None
        Weights of the labels, as in scikit-learn.
    prompt_epochs : int, default=200
        Epochs of the first stage.
    max_epochs : int, default=10
        Epochs of the second stage; without effect unless ``image_tower="finetune"``.
    batch_size : int or "auto", default=64
        Images in a step, and in a pass of the tower; "auto" halves 64 until they fit the device's memory.
    learning_rate : float, default=1e-3
        Of prompts, RankFormer and image adapter, falling along a cosine.
    image_learning_rate : float, default=5e-6
        Of the image tower, falling along a cosine.
    weight_decay : float, default=1e-4
        Of prompts, RankFormer and image adapter; the image tower has 0.01 of it.
    augment : bool, default=True
        Random crops and mirror images in the second stage.
    early_stopping : bool, default=False
        Hold images out, end a stage when they show no improvement, and keep the best weights.
    validation_fraction : float, default=0.1
        Share held out for `early_stopping`, evenly along the ranks, in (0, 1).
    n_iter_no_change : int, default=5
        Epochs without improvement that `early_stopping` waits.
    warm_start : bool, default=False
        Go on from the previous fit.
    decision : {"argmax", "mean", "median"}, default="argmax"
        Read-out of `predict`: the likeliest rank, the one nearest to the expected value (least expected squared error),
        or the median (least expected absolute error).
    device : str, default="auto"
        "auto" takes CUDA where there is one, else the CPU.
    n_devices : int, default=1
        Devices of that type to fit on, a process for each (on the CPU too); needs lightning-fabric. `partial_fit` and
        predictions use one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the towers; "auto" is bfloat16 on CUDA devices from Ampere on, else float32. Losses are in float32.
    compile : bool, default=False
        Compile the image tower with torch.compile; pays for long fits.
    grad_checkpointing : bool, default=False
        Compute the image tower's activations again in the backward pass instead of keeping them: a third more time, a
        fraction of the memory.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that decoded training images may take before they go to a temporary file, and
        that the process may keep of embeddings (500 MB where it is None).
    embedding_cache : str or None, default=None
        Folder that keeps the frozen tower's embeddings, so that each image passes it once, ever; shared by processes.
        See `skl2rclip.embedding_store.EmbeddingStore` for its size.
    checkpoint_dir : str or None, default=None
        Folder in which the state after each epoch is saved, in a subfolder of its own that `load` reads.
    on_bad_image : {"raise", "skip"}, default="raise"
        Whether `fit` leaves images that cannot be read out, with a warning.
    n_jobs : int or None, default=None
        Decoding threads; None and -1 are all cores.
    random_state : int, RandomState or None, default=None
        Seed of everything random; the global generators are not touched.
    verbose : int, default=0
        Show progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels, sorted: the columns of `predict_proba`.
    ranks_ : ndarray of shape (K,)
        Labels in rank order.
    prototypes_ : ndarray of shape (K, D), float32
        Unit text embedding of each rank, in the order of `ranks_`.
    ordinality_ : float
        Share of neighbouring prototype similarities in the right order, see `skl2rclip.metrics.ordinality`.
    history_ : list of dict
        For each epoch ``stage``, ``epoch``, ``learning_rate``, ``loss``, ``contrastive``, ``ordering``, ``tightness``,
        and with `early_stopping` ``validation_mae`` and ``validation_loss``.
    n_iter_ : int
        Number of epochs.
    device_ : str
        Device of the fit.
    n_features_in_ : int
        Width of the embeddings; only with ``image_tower="precomputed"``.

    See Also
    --------
    CLIPImageEncoder : Embeddings for other models, and for ``image_tower="precomputed"``.

    Notes
    -----
    X is a sequence of images: paths, PIL images or uint8 arrays of shape (H, W), (H, W, 3) or (H, W, 4), or one stacked
    array; a pandas Series or a one-column frame of paths will do.

    The authors published no implementation; this one follows the abstract and the fragments of their code, and where
    those are silent OrdinalCLIP, CLIP-ReID and its own choice.

    References
    ----------
    R. Wang, P. Li, H. Huang, C. Cao, R. He, Z. He, "Learning-to-Rank Meets Language: Boosting Language-Driven Ordering
    Alignment for Ordinal Classification", NeurIPS 2023, arXiv:2306.13856.

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> clf = L2RCLIPClassifier(prompt="a photo of a person aged", random_state=0)
    >>> clf.fit(paths, ages).predict(new_paths)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | None = "openai",
        *,
        image_tower: str = "finetune",
        image_adapter: str | None = "linear",
        ranks: Any = None,
        rank_names: Any = None,
        prompt: str = "a photo of",
        n_context_tokens: int = 8,
        rank_position: str = "tail",
        tune_ranks: bool = True,
        rankformer_layers: int = 1,
        rankformer_heads: int = 8,
        blend_ratio: float = 0.1,
        contrastive_weight: float = 1.0,
        pairwise_weight: float = 1.0,
        tightness_weight: float = 1.0,
        class_weight: Any = None,
        prompt_epochs: int = 200,
        max_epochs: int = 10,
        batch_size: int | str = 64,
        learning_rate: float = 1e-3,
        image_learning_rate: float = 5e-6,
        weight_decay: float = 1e-4,
        augment: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        decision: str = "argmax",
        device: str = "auto",
        n_devices: int = 1,
        precision: str = "auto",
        compile: bool = False,
        grad_checkpointing: bool = False,
        max_memory: int | str | None = None,
        embedding_cache: str | None = None,
        checkpoint_dir: str | None = None,
        on_bad_image: str = "raise",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.image_tower = image_tower
        self.image_adapter = image_adapter
        self.ranks = ranks
        self.rank_names = rank_names
        self.prompt = prompt
        self.n_context_tokens = n_context_tokens
        self.rank_position = rank_position
        self.tune_ranks = tune_ranks
        self.rankformer_layers = rankformer_layers
        self.rankformer_heads = rankformer_heads
        self.blend_ratio = blend_ratio
        self.contrastive_weight = contrastive_weight
        self.pairwise_weight = pairwise_weight
        self.tightness_weight = tightness_weight
        self.class_weight = class_weight
        self.prompt_epochs = prompt_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_learning_rate = image_learning_rate
        self.weight_decay = weight_decay
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.decision = decision
        self.device = device
        self.n_devices = n_devices
        self.precision = precision
        self.compile = compile
        self.grad_checkpointing = grad_checkpointing
        self.max_memory = max_memory
        self.embedding_cache = embedding_cache
        self.checkpoint_dir = checkpoint_dir
        self.on_bad_image = on_bad_image
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> L2RCLIPClassifier:
        """Learn prompts, and adapter or image tower, from images with ordered labels.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)
            Paths, PIL images, uint8 arrays, or one stacked uint8 array.
        y : array-like of shape (n,)
            Ordered labels: numbers, an ordered pandas Categorical, or words with `ranks` given.
        sample_weight : array-like of shape (n,), optional
            Weight of each image; zero equals leaving it out.

        Returns
        -------
        L2RCLIPClassifier
            Itself. After an error or an interrupt it is as it was before.

        Raises
        ------
        InvalidParameterError
            If a parameter is of the wrong type or out of range; a ValueError and TypeError.
        UnreadableImagesError
            If images cannot be read; a ValueError that names index, path and reason.
        ValueError
            If labels or weights are unusable.
        NonFiniteLossError
            If the loss becomes infinite or NaN; a ValueError and FloatingPointError.
        MemoryError
            If the device's memory does not suffice.
        RuntimeError
            If the backbone cannot be fetched.
        """
        previous = getattr(self, "_state", None) if self.warm_start is True else None
        request = self._check(X, y, sample_weight, previous=previous)
        settings, checkpointer = self._settings(), self._checkpointer(request)
        if self.n_devices == 1:
            result = train(request, settings, on_epoch_end=checkpointer)
        else:
            result = train_on_devices(request, settings, int(self.n_devices), checkpointer)
        self._adopt(result, X)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> L2RCLIPClassifier:
        """Make one pass over the given images, at constant learning rates.

        The pass trains prompts and image tower together with ``image_tower="finetune"``, else prompts and adapter. The
        optimiser's moments carry over from call to call while the estimator lives in memory.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)
        y : array-like of shape (n,)
        classes : array-like of shape (K,), optional
            All labels that there will be; needed in the first call unless `ranks` lists them.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        L2RCLIPClassifier
            Itself. After an error or an interrupt it is as it was before.

        Raises
        ------
        ValueError
            As `fit`; and if `classes` is missing in the first call, or is not the same in a later one.
        """
        previous = getattr(self, "_state", None)
        ranks = self._ranks_of_partial_fit(classes, previous)
        request = self._check(X, y, sample_weight, previous=previous, ranks=ranks)
        result = train(request, self._settings(), one_pass=True)
        self._adopt(result, X)
        self._runtime["optimizer_state"] = result.optimizer_state
        return self

    def _ranks_of_partial_fit(self, classes: Any, previous: FittedState | None) -> Any:
        known = self.ranks if previous is None else previous.scale.ranks
        if classes is None:
            if known is None:
                raise ValueError("classes must be passed on the first call to partial_fit (or ranks=[...] be set).")
            return known
        given = np.unique(check_labels(classes))
        if known is None:
            return rank_scale(classes)[0].ranks
        if not np.array_equal(given, np.unique(np.asarray(known))):
            raise ValueError(
                f"classes={given.tolist()} is not the same as on the last call to partial_fit, or as ranks: "
                f"{np.unique(np.asarray(known)).tolist()}."
            )
        return known

    def _settings(self) -> SimpleNamespace:
        return SimpleNamespace(**self.get_params(deep=False))

    def _check(
        self, X: Any, y: Any, sample_weight: Any, *, previous: FittedState | None, ranks: Any = None
    ) -> FitRequest:
        """Look for everything that can be wrong, from the cheapest to the dearest, before any long work."""
        check_parameters(self)
        device = resolve_device(self.device)
        check_devices(int(self.n_devices), device)
        labels = check_labels(y)
        data = self._check_images(X, fitted=previous is not None)
        if len(data) != len(labels):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {len(data)} images in X and "
                f"{len(labels)} labels in y."
            )
        weight = check_sample_weight(sample_weight, len(labels))
        scale, target = rank_scale(y, self.ranks if ranks is None else ranks, self.rank_names)
        weight = weight * class_weights_of(self.class_weight, labels, scale.classes, weight > 0)
        if not weight.any():
            raise ValueError("No image is left: sample_weight and class_weight together are zero for all of them.")
        source = self._source(previous, seed := seed_from(self.random_state))
        config = model_config(source)
        check_text_config(source, config)
        self._check_widths(config, data)
        if previous is None:
            names, m, position = scale.names, self.n_context_tokens, self.rank_position
            tokens = tokenize_prompts(PromptTokenizer(source.model_name, config), self.prompt, names, m, position)
        else:
            self._check_same_structure(previous, scale)
            tokens = previous.tokens
        request = FitRequest(
            X=data,
            target=target,
            weight=weight,
            scale=scale,
            tokens=tokens,
            source=source,
            seed=seed,
            device=device,
            structure={name: getattr(self, name) for name in _STRUCTURE},
            previous=previous,
            history=[] if previous is None else copy.deepcopy(self.history_),
            optimizer_state=None if previous is None else self._runtime_of("optimizer_state"),
        )
        request = self._readable(request.keep(weight > 0))
        if previous is None:
            warn_if_random(source)
        return request

    def _check_images(self, X: Any, *, fitted: bool) -> Any:
        """List of images, or table of embeddings with the columns of the fit where there was one."""
        if self.image_tower != "precomputed":
            return as_image_list(X)
        if fitted and hasattr(self, "n_features_in_"):
            return validate_data(self, X, dtype=np.float32, reset=False)
        return check_array(X, dtype=np.float32, input_name="X", estimator=self)

    def _check_widths(self, config: dict[str, Any], data: Any) -> None:
        width = config["text_cfg"].get("width", 512)
        if self.rankformer_layers and width % self.rankformer_heads:
            raise InvalidParameterError(
                f"rankformer_heads must divide the width of the word embeddings of {self.model_name}, {width}, "
                f"got {self.rankformer_heads!r}."
            )
        if self.image_tower == "precomputed" and data.shape[1] != config["embed_dim"]:
            raise ValueError(
                f"X has {data.shape[1]} features, but embeddings of {self.model_name} have {config['embed_dim']}: make "
                "X with CLIPImageEncoder and the same model."
            )

    def _check_same_structure(self, previous: FittedState, scale: RankScale) -> None:
        for name, before in previous.structure.items():
            if getattr(self, name) != before:
                raise InvalidParameterError(
                    f"{name} must stay the same when training goes on (warm_start, partial_fit): it was {before!r}, "
                    f"got {getattr(self, name)!r}. Use warm_start=False, or a clone, to start anew."
                )
        if not np.array_equal(scale.ranks, previous.scale.ranks):
            raise ValueError(
                "The ranks must stay the same when training goes on (warm_start, partial_fit): they were "
                f"{previous.scale.ranks.tolist()}, got {scale.ranks.tolist()}. List all of them with ranks=[...]."
            )

    def _source(self, previous: FittedState | None, seed: int) -> BackboneSource:
        """Where the backbone is: where it came from, unless model_name or pretrained have been set to another place."""
        pretrained = None if self.pretrained is None else os.fspath(self.pretrained)
        if previous is None:
            return BackboneSource(self.model_name, pretrained, seed)
        if [self.model_name, pretrained] == previous.asked_for:
            return previous.record.source
        return BackboneSource(self.model_name, pretrained, previous.record.source.seed)

    def _readable(self, request: FitRequest) -> FitRequest:
        """Open every image; raise for those that cannot be read, or leave them out."""
        if self.image_tower == "precomputed":
            return request
        unreadable = find_unreadable_unknown(request.X, self.embedding_cache, self.n_jobs, thorough=True)
        if not unreadable:
            return request
        original = np.flatnonzero(request.kept) if request.kept is not None else np.arange(len(request.X))
        error = UnreadableImagesError(
            {int(original[i]): reason for i, reason in unreadable.items()},
            {int(original[i]): request.X[i] for i in unreadable},
            len(original),
        )
        if self.on_bad_image == "raise" or len(unreadable) == len(request.X):
            raise error
        warn_user(f"on_bad_image='skip' leaves images out: {error}")
        return request.keep(~np.isin(np.arange(len(request.X)), list(unreadable)))

    def _checkpointer(self, request: FitRequest) -> Any:
        """Return a function that saves the state of an epoch, in a folder that no other fit uses."""
        if self.checkpoint_dir is None:
            return None
        snapshot = copy.copy(self)
        if callable(snapshot.rank_names):  # a function may not be able to go to another process
            snapshot.rank_names = list(request.scale.names)
        return partial(_save_epoch, snapshot, Path(self.checkpoint_dir) / f"fit-{uuid.uuid4().hex[:12]}")

    def _adopt(self, result: FitResult, X: Any) -> None:
        """Become what was learned; nothing of an earlier fit remains."""
        state = result.state
        fitted = {
            "classes_": state.scale.classes,
            "ranks_": state.scale.ranks,
            "prototypes_": result.prototypes,
            "ordinality_": ordinality(result.prototypes),
            "history_": result.history,
            "n_iter_": len(result.history),
            "device_": result.device,
            "_state": state,
            "_runtime": {},
        }
        if state.structure["image_tower"] == "precomputed":
            fitted["n_features_in_"] = state.record.embedding_width
            columns = getattr(X, "columns", None)
            if columns is not None and all(isinstance(name, str) for name in columns):
                fitted["feature_names_in_"] = np.asarray(columns, dtype=object)
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("__")]:
            delattr(self, name)
        self.__dict__.update(fitted)

    # -------------------------------------------------------------- read-out

    def transform(self, X: Any) -> np.ndarray:
        """Embed images as the classifier sees them: through the fitted tower and adapter.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n, D), float32
            Unit rows.

        Raises
        ------
        NotFittedError
            Before `fit`.
        UnreadableImagesError
            If images cannot be read; names index, path and reason.
        MissingBackboneError
            If the backbone cannot be loaded again, or has changed.
        """
        check_is_fitted(self)
        data = self._check_images(X, fitted=True)
        result = np.empty((len(data), self._state.record.embedding_width), np.float32)
        for rows, embeddings in self._embedded(data):
            result[rows] = embeddings
        return result

    def _embedded(self, data: Any) -> Iterator[tuple[Any, np.ndarray]]:
        """Embeddings in chunks, with the rows that they are: what is decoded is not kept."""
        adapter = fitted_adapter(self._state)
        if self.image_tower == "precomputed":
            chunks: Any = [(slice(None), unit_rows(data))]
        else:
            encoding, cache = self._encoding()
            chunks = encode_chunks(data, encoding, cache, self.n_jobs)
        for rows, embeddings in chunks:
            yield rows, embeddings if adapter is None else adapter(embeddings)

    def _encoding(self) -> tuple[ImageEncoding, EmbeddingCache | None]:
        """How images pass the fitted tower, kept for the next call; the cache is for the backbone's own tower."""
        device = resolve_device(self.device, strict=False)
        key = ("encoding", str(device), self.compile)
        if key not in self._runtime:
            self._runtime[key] = fitted_encoding(self._state, self._backbone, self._settings(), device)
        encoding = replace(self._runtime[key], precision=self.precision, batch_size=self.batch_size)
        if "tower" in self._state.arrays:
            return encoding, None
        return encoding, cache_of(self._state.record, device, self.precision, self.embedding_cache, self.max_memory)

    def _backbone(self) -> Backbone:
        return self._state.record.load(self._source(self._state, 0))

    def _runtime_of(self, key: str) -> Any:
        return self._runtime.get(key)

    def _logits(self, X: Any) -> np.ndarray:
        """Scaled similarities to the prototypes, ndarray of shape (n, K) in rank order, float64."""
        check_is_fitted(self)
        data = self._check_images(X, fitted=True)
        prototypes = self.prototypes_.astype(np.float64)
        logits = np.empty((len(data), len(prototypes)))
        for rows, embeddings in self._embedded(data):
            logits[rows] = self._state.logit_scale * embeddings.astype(np.float64) @ prototypes.T
        return logits

    def predict(self, X: Any) -> np.ndarray:
        """Choose a rank for each image, as `decision` says.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n,)
            Labels, of the dtype of `classes_`.
        """
        probabilities = softmax(self._logits(X), axis=1)
        return self.ranks_[read_out(probabilities, self._state.scale.values, self.decision)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label, the softmax of the scaled similarities.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n, K), float64
            Columns in the order of `classes_`.
        """
        return softmax(self._logits(X), axis=1)[:, self._state.scale.class_order]

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, exact where probabilities vanish.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n, K), float64
            Columns in the order of `classes_`.
        """
        return log_softmax(self._logits(X), axis=1)[:, self._state.scale.class_order]

    def decision_function(self, X: Any) -> np.ndarray:
        """Scaled similarities ``s_ik`` of images and ranks.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n, K), or (n,) for two ranks, float64
            Columns in the order of `classes_`. For two ranks the difference of the two, positive for ``classes_[1]``,
            as scikit-learn has it.
        """
        logits = self._logits(X)[:, self._state.scale.class_order]
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_expectation(self, X: Any) -> np.ndarray:
        """Predict the expected value of the rank, ``sum_k p_ik v_k``.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)

        Returns
        -------
        ndarray of shape (n,), float64
            In the unit of numeric labels; for words the position along `ranks_`, from 1 to K.
        """
        return expected_value(softmax(self._logits(X), axis=1), self._state.scale.values)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of `predict`.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, D)
        y : array-like of shape (n,)
            True labels.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        float
            In [0, 1].
        """
        labels = check_labels(y)
        predicted = self.predict(X)
        if len(labels) != len(predicted):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {len(predicted)} images in X and "
                f"{len(labels)} labels in y."
            )
        # not accuracy_score, which refuses ranks such as 2.5
        return float(np.average(predicted == labels, weights=check_sample_weight(sample_weight, len(labels))))

    # ----------------------------------------------------------- persistence

    def save(self, path: str | os.PathLike, *, include_backbone: bool = False) -> None:
        """Write the fitted model as a folder of JSON and safetensors, without pickle.

        Parameters
        ----------
        path : path
            A new folder, or an earlier save, which is replaced.
        include_backbone : bool, default=False
            Write the whole open_clip model too, so that the folder needs nothing else.

        Raises
        ------
        NotFittedError
            Before `fit`.
        FileExistsError
            If `path` is something else than an earlier save.
        MissingBackboneError
            If the backbone is to be included and cannot be loaded.
        """
        check_is_fitted(self)
        backbone = self._backbone() if include_backbone else None
        fitted = {"prototypes": self.prototypes_, "history": self.history_, "device": self.device_}
        save_model(path, self.get_params(deep=False), fitted, self._state, backbone)

    @classmethod
    def load(cls, path: str | os.PathLike) -> L2RCLIPClassifier:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path
            The folder.

        Returns
        -------
        L2RCLIPClassifier
            Fitted. Its backbone is loaded at the first prediction.

        Raises
        ------
        FileNotFoundError
            If there is no saved model.
        ValueError
            If it is damaged, or of an unknown format version.
        """
        params, fitted, state = load_model(path)
        model = cls(**params)
        model._adopt(FitResult(state=state, **fitted), None)
        return model

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_runtime" in state:
            state["_runtime"] = {}  # modules on a device, optimiser: not for other processes
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        precomputed = self.image_tower == "precomputed"
        tags.input_tags.one_d_array = not precomputed
        tags.input_tags.two_d_array = precomputed
        tags.input_tags.string = not precomputed
        return tags
