"""What a user could fit on the same embeddings: L2RCLIP, other prompt learners, probes, and methods from ``peers``.

Each method is a function of a task, the drawn training images and a seed, and returns probabilities for any embeddings
(ridge: values). Its keyword arguments are what was tuned on validation images, see ``evidence.py --tune``. Those of
`FEW_SHOTS` choose what they can on the drawn images alone, as a user would.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from folds import folds_of
from peers.clap import clap
from peers.lp_plus_plus import lp_plus_plus
from peers.prolip import OfPooled, has_pooled, prolip
from peers.tabpfn import is_installed, tabpfn
from peers.tip_adapter import tip_adapter_f
from scipy.special import softmax
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import Part, Task
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._model.prompts import RankPrompts, tokenize_prompts
from skl2rclip._ordinal.decisions import READ_OUTS, ranked_scores, read_out

Predictor = Callable[[np.ndarray], np.ndarray]
CPU = torch.device("cpu")
N_CONTEXT = 8
# of every prompt learner: the text tower is what a step costs, however many embeddings the batch holds
EPOCHS, BATCH_SIZE = 200, 256
# of the tuning: the paper's objective
FORMER = {
    "rank_targets": "hard",
    "image_adapter": "linear",
    "pairwise_weight": 1.0,
    "tightness_weight": 1.0,
    "batch_size": 64,
}


@dataclass(frozen=True)
class Fitted:
    """A fitted classifier as a function, which still shows the classifier."""

    model: L2RCLIPClassifier
    reads_features: bool = False  # all that the tower gives, else embeddings alone

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(X)


def _classifier(task: Task, seed: int, **parameters) -> L2RCLIPClassifier:
    settings = {
        "ranks": list(range(task.n_ranks)),
        "rank_names": list(task.names),
        "prompt": task.prompt,
        "n_context_tokens": N_CONTEXT,
        "random_state": seed,
        "device": "cpu",
        **parameters,
    }
    return L2RCLIPClassifier(task.backbone, **settings)


def l2rclip(task: Task, drawn: np.ndarray, seed: int, **parameters) -> Predictor:
    """The library itself with the paper's objective."""
    settings = {**FORMER, "prompt_epochs": EPOCHS, "batch_size": BATCH_SIZE, **parameters}
    model = _classifier(task, seed, image_tower="precomputed", **settings)
    model.fit(task.train.Z[drawn], task.train.target[drawn])
    return Fitted(model)


# ------------------------------------------------------ other prompt learners


class InterpolatedRankPrompts(RankPrompts):
    """Rank tokens as linear interpolations of a few learned ones, as OrdinalCLIP has them."""

    def __init__(self, *arguments, n_base: int = 3, **options):
        super().__init__(*arguments, rankformer=None, tune_ranks=False, **options)
        n_ranks, width = self.rank_tokens.shape  # one token a rank
        places = torch.linspace(0, n_base - 1, n_ranks)
        self.register_buffer("share", (1 - (places[:, None] - torch.arange(n_base)).abs()).clamp(min=0))  # (K, base)
        generator = options["generator"]
        self.base = nn.Parameter(self.rank_tokens.std() * torch.randn(n_base, width, generator=generator))

    def blended_rank_tokens(self) -> Tensor:
        return self.share @ self.base


def _prompt_learner(task: Task, drawn: np.ndarray, seed: int, prompts: RankPrompts, rate: float) -> Predictor:
    """Cross-entropy of the images' ranks alone, on frozen embeddings."""
    Z, target = torch.from_numpy(task.train.Z[drawn]), torch.from_numpy(task.train.target[drawn])
    scale = load_backbone(BackboneSource(task.backbone)).logit_scale
    parameters = [p for p in prompts.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4)
    n_steps = EPOCHS * math.ceil(len(Z) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / n_steps)))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(Z), generator=generator).split(BATCH_SIZE):
            loss = F.cross_entropy(scale * Z[batch] @ prompts().T, target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        prototypes = prompts().numpy()
    return lambda embeddings: softmax(scale * embeddings @ prototypes.T, axis=1)


def coop(task: Task, drawn: np.ndarray, seed: int, *, rate: float = 3e-3) -> Predictor:
    """CoOp (Zhou et al., IJCV 2022): learned context before fixed words, cross-entropy alone."""
    backbone = load_backbone(BackboneSource(task.backbone))
    tokens = tokenize_prompts(backbone.tokenizer(), task.prompt, task.names, N_CONTEXT, "tail")
    generator = torch.Generator().manual_seed(seed)
    prompts = RankPrompts(tokens, backbone.text_tower(CPU), None, tune_ranks=False, generator=generator)
    return _prompt_learner(task, drawn, seed, prompts, rate)


def ordinal_clip(task: Task, drawn: np.ndarray, seed: int, *, rate: float = 3e-3, n_base: int = 3) -> Predictor:
    """OrdinalCLIP (Li et al., NeurIPS 2022): learned context, interpolated rank embeddings, cross-entropy."""
    backbone = load_backbone(BackboneSource(task.backbone))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some ranks have names of the same tokens")
        tokens = tokenize_prompts(backbone.tokenizer(), task.prompt, ["a"] * task.n_ranks, N_CONTEXT, "tail")
    generator = torch.Generator().manual_seed(seed)
    prompts = InterpolatedRankPrompts(tokens, backbone.text_tower(CPU), n_base=n_base, generator=generator)
    return _prompt_learner(task, drawn, seed, prompts, rate)


# --------------------------------------------------------------------- probes


def logistic(task: Task, drawn: np.ndarray, seed: int, *, C: float = 10.0) -> Predictor:
    model = LogisticRegression(C=C, max_iter=3000).fit(task.train.Z[drawn], task.train.target[drawn])
    return lambda Z: _of_all_ranks(model.predict_proba(Z), model.classes_, task.n_ranks)


def _of_all_ranks(probabilities: np.ndarray, seen: np.ndarray, n_ranks: int) -> np.ndarray:
    """Probabilities of all ranks, which are zero for ranks without an image."""
    of_all = np.zeros((len(probabilities), n_ranks))
    of_all[:, seen] = probabilities
    return of_all


def ridge(task: Task, drawn: np.ndarray, seed: int, *, alpha: float = 0.1) -> Predictor:
    """Values, to be rounded."""
    return Ridge(alpha=alpha).fit(task.train.Z[drawn], task.train.target[drawn]).predict


def corn(task: Task, drawn: np.ndarray, seed: int, *, rate: float = 1e-2) -> Predictor:
    """CORN (Shi et al. 2023) on a linear layer, from coral-pytorch."""
    from coral_pytorch.losses import corn_loss

    Z, target = torch.from_numpy(task.train.Z[drawn]), torch.from_numpy(task.train.target[drawn])
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(Z.shape[1], task.n_ranks - 1)
    nn.init.normal_(head.weight, std=0.01, generator=generator)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(Z), generator=generator).split(BATCH_SIZE):
            # embeddings are unit rows: at their own scale a linear layer learns too slowly
            loss = corn_loss(head(10 * Z[batch]), target[batch], task.n_ranks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def predict(embeddings: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            exceeds = torch.sigmoid(head(10 * torch.from_numpy(embeddings))).cumprod(dim=1)  # P(y > k)
        edges = torch.cat([torch.ones(len(exceeds), 1), exceeds, torch.zeros(len(exceeds), 1)], dim=1)
        return (edges[:, :-1] - edges[:, 1:]).numpy()

    return predict


# ------------------------------------------------- with few shots, nothing set


def _library(task: Task, seed: int, **parameters) -> L2RCLIPClassifier:
    """The library with backbone, prompt, ranks and seed, and nothing else but what is given."""
    return L2RCLIPClassifier(
        task.backbone,
        prompt=task.prompt,
        ranks=list(range(task.n_ranks)),
        rank_names=list(task.names),
        random_state=seed,
        **parameters,
    )


def nothing_set(task: Task, drawn: np.ndarray, seed: int, **parameters) -> Predictor:
    """The library on what the tower gives, with nothing set but what is given."""
    model = _library(task, seed, image_tower="precomputed", **parameters)
    features = task.train.features
    X = task.train.Z[drawn] if features is None else features.iloc[drawn]
    return Fitted(model.fit(X, task.train.target[drawn]), reads_features=features is not None)


def zero_shot(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """The words alone: no image is looked at."""
    return Fitted(_library(task, seed, image_tower="precomputed").fit_zero_shot())


def from_pixels(task: Task, drawn: np.ndarray, seed: int, **parameters) -> Predictor:
    """The library on pixels, with nothing set but what is given."""
    model = _library(task, seed, embedding_cache=None, **parameters)
    return Fitted(model.fit(task.train.pixels[drawn], task.train.target[drawn]))


def ridge_leave_one_out(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """Ridge, its penalty and its error by leave-one-out; a Gaussian as wide as that error around its prediction."""
    model = RidgeCV(alphas=np.logspace(-4, 2, 25)).fit(task.train.Z[drawn], task.train.target[drawn])
    sigma = max(math.sqrt(-model.best_score_), 1e-3)
    edges = np.concatenate([[-np.inf], np.arange(task.n_ranks - 1) + 0.5, [np.inf]])

    def predict(Z: np.ndarray) -> np.ndarray:
        return np.diff(norm.cdf((edges - model.predict(Z)[:, None]) / sigma), axis=1)

    return predict


@dataclass(frozen=True)
class OfFeatures:
    """A predictor that reads all that the tower gives."""

    predictor: Predictor

    def __call__(self, features: pd.DataFrame) -> np.ndarray:
        return self.predictor(features)


def has_features(task: Task) -> bool:
    return task.train.features is not None


def on_features(method: Callable[..., Predictor], task: Task, drawn: np.ndarray, seed: int, **parameters) -> OfFeatures:
    """A probe of all that the tower gives, each column standardised on the drawn images.

    In principal components, all of them, which change no probe with a squared penalty but its cost.
    """
    features = task.train.features
    assert features is not None
    scaler = make_pipeline(StandardScaler(), PCA()).fit(features.iloc[drawn].to_numpy())
    scaled = replace(task.train, Z=scaler.transform(features.to_numpy()).astype(np.float32))
    probe = method(replace(task, train=scaled), drawn, seed, **parameters)
    return OfFeatures(lambda frame: probe(scaler.transform(frame.to_numpy()).astype(np.float32)))


def cross_validated(
    method: Callable[..., Predictor],
    name: str,
    grid: np.ndarray,
    fixed: float,
    task: Task,
    drawn: np.ndarray,
    seed: int,
) -> Predictor:
    """Fit with the value of a parameter that has the best ranked probability score on up to five folds.

    A rank with a single image leaves no folds: then the value is `fixed`.
    """
    target = task.train.target[drawn]
    folds = folds_of(target, seed)
    if not folds:
        return method(task, drawn, seed, **{name: fixed})
    scores = np.zeros(len(grid))
    for train, held_out in folds:
        Z = task.train.Z[drawn[held_out]]
        for i, value in enumerate(grid):
            probabilities = method(task, drawn[train], seed, **{name: value})(Z)
            scores[i] += ranked_scores(probabilities, target[held_out]).sum()
    return method(task, drawn, seed, **{name: grid[scores.argmin()]})


def logistic_cross_validated(task: Task, drawn: np.ndarray, seed: int, *, C: float = 10.0) -> Predictor:
    return cross_validated(logistic, "C", np.logspace(0, 4, 5), C, task, drawn, seed)


def ordinal_logistic(task: Task, drawn: np.ndarray, seed: int, *, alpha: float = 0.1) -> Predictor:
    """All-threshold ordinal logistic regression (Rennie and Srebro 2005), from mord."""
    from mord import LogisticAT

    seen, place = np.unique(task.train.target[drawn], return_inverse=True)  # mord wants classes without gaps
    model = LogisticAT(alpha=alpha).fit(task.train.Z[drawn].astype(float), place)
    return lambda Z: _of_all_ranks(model.predict_proba(Z), seen, task.n_ranks)


def ordinal_logistic_cross_validated(task: Task, drawn: np.ndarray, seed: int, *, alpha: float = 0.1) -> Predictor:
    return cross_validated(ordinal_logistic, "alpha", np.logspace(-3, 1, 5), alpha, task, drawn, seed)


# of the tuning
METHODS: dict[str, Callable[..., Predictor]] = {
    "L2RCLIP": l2rclip,
    "CoOp": coop,
    "OrdinalCLIP": ordinal_clip,
    "logistic regression": logistic,
    "ridge": ridge,
    "CORN": corn,
    "ordinal logistic": ordinal_logistic,
}
FEW_SHOTS: dict[str, Callable[..., Predictor]] = {
    "nothing set": nothing_set,
    "zero-shot CLIP": zero_shot,
    "ridge": ridge_leave_one_out,
    "logistic regression": logistic_cross_validated,
    "ordinal logistic": ordinal_logistic_cross_validated,
    "CORN": corn,
    "CoOp": coop,
    "OrdinalCLIP": ordinal_clip,
    "Tip-Adapter-F": tip_adapter_f,
    "CLAP": clap,
    "LP++": lp_plus_plus,
    "ProLIP": prolip,
    "TabPFN": tabpfn,
    "ridge, features": functools.partial(on_features, ridge_leave_one_out),
    "logistic regression, features": functools.partial(on_features, logistic_cross_validated),
}
# what else than embeddings a method must have: where it has not, it is left out of a run and of its report
NEEDS: dict[str, Callable[[Task], bool]] = {
    "ProLIP": has_pooled,
    "TabPFN": is_installed,
    "ridge, features": has_features,
    "logistic regression, features": has_features,
}


def can_be_fitted(name: str, task: Task) -> bool:
    """Whether a task, and the packages installed, have what a method needs."""
    return name not in NEEDS or NEEDS[name](task)


def inputs_of(predictor: Predictor, part: Part) -> Any:
    """What of a part a predictor is to be given."""
    if isinstance(predictor, OfFeatures) or (isinstance(predictor, Fitted) and predictor.reads_features):
        return part.features
    if isinstance(predictor, OfPooled):
        assert part.pooled is not None
        return part.pooled
    return part.Z


def predictions(output: np.ndarray, n_ranks: int) -> dict[str, np.ndarray]:
    """Rank indices by read-out; those of ridge are rounded, whatever the read-out."""
    values = np.arange(n_ranks, dtype=float)
    if output.ndim == 1:
        rounded = output.round().clip(0, n_ranks - 1).astype(int)
        return dict.fromkeys(READ_OUTS, rounded)
    return {decision: read_out(output, values, decision) for decision in READ_OUTS}
