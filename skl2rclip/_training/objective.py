"""The terms of the objective: pure functions on tensors, one per term, with nothing of training or models in them.

Notation: n images, K ranks, embedding width D. Embeddings ``z_i`` (..., n, D) and prototypes ``t_k`` (K, D) are unit
rows, logits ``s_ik`` (..., n, K) their scaled similarities, distributions ``q_i`` (..., n, K) rows that sum to one,
targets (n,) indices of ranks, whose values are ``v_k`` (K,). Weights (..., n) are not negative, and one of them is
positive: an image of weight zero equals leaving it out, one of weight two having it twice. A term has the shape (...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def _weighted_mean(per_image: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over the last axis."""
    if weight is None:
        return per_image.mean(dim=-1)
    weight = weight.to(per_image.dtype)
    return (weight * per_image).sum(dim=-1) / weight.sum(dim=-1)


def contrastive_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Contrast images with ranks and ranks with images, many images to one rank.

    The mean of two directions. Image to text is the cross-entropy of each image's ranks. Text to image is, for each
    rank that the batch shows, the mean over its images of ``-log softmax`` along the batch, averaged over those ranks;
    a rank without an image has no positive and does not count.

    References
    ----------
    ``loss/supcontrast.py`` of raywang335/L2RCLIP; CLIP-ReID (Li et al., AAAI 2023), equations 2 and 3. How weights
    enter is this library's choice.
    """
    image_to_text = _weighted_mean(F.cross_entropy(logits, target, reduction="none"), weight)
    if weight is None:
        weight = torch.ones(len(logits), device=logits.device)
    weight = weight.to(logits.dtype)
    # an image of weight w stands for w images: it counts w times in the sum over the batch and among the positives
    total = torch.logsumexp(logits + weight.log()[:, None], dim=0)  # (K,)
    # not F.one_hot, which looks at the values of target: the host would wait for the device
    is_positive = target[:, None] == torch.arange(logits.shape[1], device=logits.device)
    positives = is_positive * weight[:, None]  # (n, K)
    mass = positives.sum(dim=0)  # (K,)
    summed = (positives * (total - logits)).sum(dim=0)  # (K,)
    present = mass > 0
    per_rank = torch.where(present, summed / torch.where(present, mass, 1.0), 0.0)
    text_to_image = per_rank.sum() / present.sum()
    return (image_to_text + text_to_image) / 2


def ordering_loss(
    image_embeddings: Tensor,
    prototypes: Tensor,
    target: Tensor,
    rank_values: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Push each image away from the other ranks, the further apart the labels the more.

    ``-mean_ik w_ik |z_i - t_k|_2`` with ``w_ik = |v_{y_i} - v_k|`` divided by its maximum over the batch and all ranks.
    An image of weight zero does not enter the maximum either.

    References
    ----------
    ``loss/ordinal_ce.py`` of raywang335/L2RCLIP, after Ordinal Entropy (Zhang et al., ICLR 2023).
    """
    gap = (rank_values[target][:, None] - rank_values).abs()  # (n, K)
    largest = gap.max() if weight is None else torch.where(weight[..., None] > 0, gap, 0.0).amax((-2, -1))
    # the exact form: the one through a matrix product loses digits where an image is close to a prototype
    distance = torch.cdist(image_embeddings, prototypes, compute_mode="donot_use_mm_for_euclid_dist")  # (..., n, K)
    return -_weighted_mean((gap * distance).mean(dim=-1) / largest[..., None], weight)


def tightness_loss(
    image_embeddings: Tensor, prototypes: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Pull each image to the prototype of its own rank: ``mean_i |z_i - t_{y_i}|_2^2``.

    References
    ----------
    ``loss/ordinal_ce.py`` of raywang335/L2RCLIP; Boudiaf et al., ECCV 2020, for the bound that it comes from.
    """
    # not prototypes[target], whose gradient torch sums on the CPU in whatever order the threads come
    return _weighted_mean((image_embeddings - F.embedding(target, prototypes)).square().sum(dim=-1), weight)


def distribution_loss(logits: Tensor, distributions: Tensor, weight: Tensor | None = None) -> Tensor:
    """Divergence of each image's ranks from the distribution that is its training target.

    ``mean_i KL(q_i || softmax_k s_ik)``, which stands in the place of `contrastive_loss`, its text-to-image half too; 0
    where the softmax is the distribution.

    References
    ----------
    SORD (Diaz and Marathe, CVPR 2019) and label distribution learning (Gao et al., TIP 2017).
    """
    divergence = torch.special.xlogy(distributions, distributions) - distributions * logits.log_softmax(dim=-1)
    return _weighted_mean(divergence.sum(dim=-1), weight)


def text_ordering_loss(prototypes: Tensor, rank_values: Tensor) -> Tensor:
    """Push the prototypes apart, the further apart the ranks the more.

    ``-mean_{k<l} w_kl |t_k - t_l|_2`` with ``w_kl = |v_k - v_l|`` divided by its maximum.

    References
    ----------
    ``L_center`` in ``loss/ordinal_ce_stage1.py`` of raywang335/L2RCLIP.
    """
    below, above = torch.triu_indices(len(prototypes), len(prototypes), offset=1, device=prototypes.device)
    gap = (F.embedding(below, rank_values[:, None]) - F.embedding(above, rank_values[:, None])).abs()[:, 0]
    distance = (F.embedding(below, prototypes) - F.embedding(above, prototypes)).norm(dim=1)
    return -(gap / gap.max() * distance).mean()


@dataclass(frozen=True)
class TermInputs:
    """What terms are computed from; there may be several embeddings of a batch."""

    logits: Tensor  # (..., n, K)
    embeddings: Tensor  # (..., n, D)
    prototypes: Tensor  # (K, D)
    target: Tensor  # (n,), int64
    rank_values: Tensor  # (K,)
    weight: Tensor | None  # (..., n)
    distributions: Tensor | None  # (..., n, K)


def _contrastive(inputs: TermInputs) -> Tensor:
    """Contrast with the ranks themselves, or divergence from distributions over them."""
    if inputs.distributions is None:
        return contrastive_loss(inputs.logits, inputs.target, inputs.weight)
    return distribution_loss(inputs.logits, inputs.distributions, inputs.weight)


def _text_ordering(inputs: TermInputs) -> Tensor:
    return text_ordering_loss(inputs.prototypes, inputs.rank_values).expand(inputs.embeddings.shape[:-2])


@dataclass(frozen=True)
class Term:
    """A term of the objective, and the parameter of the estimator that weighs it."""

    parameter: str
    # of shape (...)
    value: Callable[[TermInputs], Tensor]
    # left out, and 0 in the history, where it has no weight
    is_optional: bool = False


# by their columns in history_
TERMS = {
    "contrastive": Term("contrastive_weight", _contrastive),
    "ordering": Term(
        "pairwise_weight", lambda x: ordering_loss(x.embeddings, x.prototypes, x.target, x.rank_values, x.weight)
    ),
    "tightness": Term("tightness_weight", lambda x: tightness_loss(x.embeddings, x.prototypes, x.target, x.weight)),
    "text_ordering": Term("text_ordering_weight", _text_ordering, is_optional=True),
}


@dataclass(frozen=True)
class Objective:
    """Weighted sum of the terms; one that `weights`, by the names of `TERMS`, does not name has no weight."""

    weights: Mapping[str, float]
    logit_scale: float  # factor of the similarities
    rank_values: Tensor  # (K,), float32

    def logits(self, embeddings: Tensor, prototypes: Tensor) -> Tensor:
        """Scaled similarities of embeddings (..., n, D) and prototypes (K, D), tensor of shape (..., n, K)."""
        return self.logit_scale * embeddings @ prototypes.T

    def terms(
        self,
        embeddings: Tensor,
        prototypes: Tensor,
        target: Tensor,
        weight: Tensor | None,
        distributions: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms of a batch by name, tensors of shape (...); `distributions` stand for `target` in the first.

        `logits` are those of predictions, where they are not simply the similarities of embeddings and prototypes.

        With distributions there may be several embeddings of the batch, of shape (..., n, D), with weights of shape
        (..., n) and distributions of shape (..., n, K) of their own.
        """
        logits = self.logits(embeddings, prototypes) if logits is None else logits  # (..., n, K)
        inputs = TermInputs(logits, embeddings, prototypes, target, self.rank_values, weight, distributions)
        left_out = {name for name, term in TERMS.items() if term.is_optional and not self.weights.get(name)}
        return {
            name: logits.new_zeros(embeddings.shape[:-2]) if name in left_out else term.value(inputs)
            for name, term in TERMS.items()
        }

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms; one of weight zero does not enter, not even as 0 times infinity."""
        weighted = [weight * terms[name] for name, weight in self.weights.items() if weight > 0]
        return sum(weighted, start=next(iter(terms.values())).new_zeros(()))
