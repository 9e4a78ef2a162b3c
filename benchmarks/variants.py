"""Variants of RankFormer that the ablation measures against the library's own, which has one way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn

from skl2rclip import _fit
from skl2rclip._modules import RankFormer


class WithoutRankEncoding(RankFormer):
    """Equivariant to a permutation of the ranks: order can only come from the words."""

    def encoding(self, rank_tokens: Tensor, present: Tensor) -> Tensor:
        return torch.zeros_like(rank_tokens[:, :1])


class WithinPrompt(RankFormer):
    """Attends to the other tokens of the same name instead of to the same token of the other ranks."""

    def forward(self, rank_tokens: Tensor, present: Tensor | None = None) -> Tensor:
        if present is None:
            present = torch.ones(rank_tokens.shape[:2], dtype=torch.bool, device=rank_tokens.device)
        hidden = rank_tokens + self.encoding(rank_tokens, present)  # (K, n, d)
        for block in self.blocks:
            hidden = block(hidden, ~present)
        return (1 - self.blend_ratio) * rank_tokens + self.blend_ratio * hidden


class WithoutInnerResiduals(RankFormer):
    """``R' = (1 - a) R + a FFN(MSA(LN(R)))``; weights of zero would let nothing pass, so they are drawn."""

    def __init__(self, width: int, layers: int = 1, blend_ratio: float = 0.1):
        super().__init__(width, layers, blend_ratio)
        for block in self.blocks:
            for projection in (block.attention.out_proj, block.feed_forward[-1]):
                projection.reset_parameters()
                nn.init.zeros_(projection.bias)

    def forward(self, rank_tokens: Tensor, present: Tensor | None = None) -> Tensor:
        if present is None:
            present = torch.ones(rank_tokens.shape[:2], dtype=torch.bool, device=rank_tokens.device)
        hidden = (rank_tokens + self.encoding(rank_tokens, present)).transpose(0, 1)  # (n, K, d)
        for block in self.blocks:
            hidden = block.feed_forward(block.attend(hidden, ~present.T))
        return (1 - self.blend_ratio) * rank_tokens + self.blend_ratio * hidden.transpose(0, 1)


class LearnedBlendRatio(RankFormer):
    """The blend ratio is a parameter, which starts at 0.01."""

    def __init__(self, width: int, layers: int = 1, blend_ratio: float = 0.01):
        super().__init__(width, layers, 0.01)
        del self.blend_ratio
        self.blend_ratio = nn.Parameter(torch.tensor(0.01))


@contextlib.contextmanager
def fitted_with(variant: type[RankFormer]) -> Iterator[None]:
    """Fit with a variant, which the estimator does not offer."""
    with mock.patch.object(_fit, "RankFormer", variant):
        yield
