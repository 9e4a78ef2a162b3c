"""Variants of RankFormer and of the prompts that the ablation measures against the library's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from skl2rclip._model.modules import RankFormer, head_count
from skl2rclip._model.prompts import RankPrompts
from skl2rclip._training import learner


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


class DistanceBias(RankFormer):
    """Attention falls with the distance of the ranks: ``-s |i - j|`` on its logits, each head's ``s`` learned from 1.

    References
    ----------
    ALiBi (Press et al., ICLR 2022), whose slopes are fixed.
    """

    def __init__(self, width: int, layers: int = 1, blend_ratio: float = 0.1):
        super().__init__(width, layers, blend_ratio)
        self.slopes = nn.Parameter(torch.ones(layers, head_count(width)))

    def forward(self, rank_tokens: Tensor, present: Tensor | None = None) -> Tensor:
        if present is None:
            present = torch.ones(rank_tokens.shape[:2], dtype=torch.bool, device=rank_tokens.device)
        place = torch.arange(len(rank_tokens), device=rank_tokens.device)
        distance = (place[:, None] - place).abs()  # (K, K)
        padding = torch.zeros(present.T.shape, device=present.device).masked_fill(~present.T, -torch.inf)  # (n, K)
        hidden = (rank_tokens + self.encoding(rank_tokens, present)).transpose(0, 1)  # (n, K, d)
        for block, slopes in zip(self.blocks, self.slopes, strict=True):
            bias = (-slopes[:, None, None] * distance).repeat(len(hidden), 1, 1)  # (n * heads, K, K)
            normed = block.attention_norm(hidden)
            attended = block.attention(
                normed, normed, normed, key_padding_mask=padding, attn_mask=bias, need_weights=False
            )
            hidden = hidden + attended[0]
            hidden = hidden + block.feed_forward(block.feed_forward_norm(hidden))
        return (1 - self.blend_ratio) * rank_tokens + self.blend_ratio * hidden.transpose(0, 1)


class _TenTimes(nn.Module):
    """The weight is ten times what is learned."""

    def forward(self, learned: Tensor) -> Tensor:
        return 10 * learned

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 10


class TenTimesFaster(RankFormer):
    """RankFormer whose weights change ten times as fast as the prompts.

    A step of Adam is as long as the rate, whatever the gradient's scale, so that learning a tenth of each weight is a
    parameter group with ten times the rate, in the ordering of the prompts and in the training alike.
    """

    def __init__(self, width: int, layers: int = 1, blend_ratio: float = 0.1):
        super().__init__(width, layers, blend_ratio)
        for module in list(self.modules()):
            for name, _ in list(module.named_parameters(recurse=False)):
                register_parametrization(module, name, _TenTimes())


class FixedContext(RankPrompts):
    """The context tokens stay what the prompt's words are."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.context.requires_grad_(False)


@contextlib.contextmanager
def fitted_with(variant: type[RankFormer] | type[RankPrompts]) -> Iterator[None]:
    """Fit with a variant, which the estimator does not offer."""
    replaced = "RankPrompts" if issubclass(variant, RankPrompts) else "RankFormer"
    with mock.patch.object(learner, replaced, variant):
        yield
