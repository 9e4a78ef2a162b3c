"""RankFormer: attention among the rank tokens in word-embedding space, blended back into them.

L2RCLIP's abstract names token-level attention and residual-style prompt blending and publishes no equation; the layer
below and its variants are this library's choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoidal_encoding(n_positions: int, width: int) -> Tensor:
    """Sines and cosines of the position at geometrically falling frequencies, tensor of shape (n_positions, width).

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.
    """
    half = (width + 1) // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half) / half)
    angle = torch.arange(n_positions)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]


class RankFormerBlock(nn.Module):
    """One pre-norm transformer layer whose two residual branches start at zero."""

    def __init__(self, width: int, heads: int, residual: bool = True):
        super().__init__()
        self.residual = residual
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward_norm = nn.LayerNorm(width)
        last = nn.Linear(4 * width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), last)
        if residual:  # without the inner residuals nothing would pass a block of zeros
            nn.init.zeros_(self.attention.out_proj.weight)
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.attention.out_proj.bias)
        nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor, absent: Tensor) -> Tensor:
        """Attend along the second axis of ``tokens`` (batch, length, width); ``absent`` (batch, length) is padding."""
        normed = self.attention_norm(tokens)
        attended = self.attention(normed, normed, normed, key_padding_mask=absent, need_weights=False)[0]
        if not self.residual:
            return self.feed_forward(attended)
        tokens = tokens + attended
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))


class RankFormer(nn.Module):
    """Let the rank tokens see each other, and blend what comes out into them.

    ``H = R + PE``, then per layer ``H = H + MSA(LN(H)); H = H + FFN(LN(H))``, and last ``R' = (1 - a) R + a H``. The
    attention runs across the K ranks, separately at each token position; ``PE`` is a sinusoidal encoding of the rank
    index, scaled to the root mean square of the rank tokens so that training starts near the words.

    Parameters
    ----------
    width : int
        Width d of the word embeddings, divisible by `heads`.
    layers : int, default=1
    heads : int, default=8
    blend_ratio : float, default=0.1
        ``a`` in [0, 1]; 0 leaves the tokens as they are.
    attend : {"ranks", "tokens"}, default="ranks"
        "tokens" attends within each prompt instead of across ranks. A variant for comparison, as are the rest:
    rank_encoding : bool, default=True
        Without it the module is equivariant to a permutation of the ranks.
    inner_residuals : bool, default=True
        Without them ``R' = (1 - a) R + a FFN(MSA(LN(R)))``.
    learn_blend_ratio : bool, default=False
        Make ``a`` a parameter that starts at `blend_ratio`.
    """

    def __init__(
        self,
        width: int,
        layers: int = 1,
        heads: int = 8,
        blend_ratio: float = 0.1,
        *,
        attend: str = "ranks",
        rank_encoding: bool = True,
        inner_residuals: bool = True,
        learn_blend_ratio: bool = False,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(RankFormerBlock(width, heads, inner_residuals) for _ in range(layers))
        self.attend = attend
        self.rank_encoding = rank_encoding
        self.blend_ratio: nn.Parameter | float = blend_ratio
        if learn_blend_ratio:
            self.blend_ratio = nn.Parameter(torch.tensor(float(blend_ratio)))

    def forward(self, rank_tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Blend the rank tokens.

        Parameters
        ----------
        rank_tokens : tensor of shape (K, n, d)
            Word embeddings of the names, padded to n tokens.
        present : tensor of shape (K, n), bool, optional
            False at padding, which no token attends to.

        Returns
        -------
        tensor of shape (K, n, d)
            Arbitrary where not `present`.
        """
        n_ranks, n_tokens, width = rank_tokens.shape
        if present is None:
            present = torch.ones(n_ranks, n_tokens, dtype=torch.bool, device=rank_tokens.device)
        hidden = rank_tokens
        if self.rank_encoding:
            mean_square = (rank_tokens.detach().square() * present[..., None]).sum() / (present.sum() * width)
            encoding = sinusoidal_encoding(n_ranks, width).to(hidden)
            # sines and cosines have a mean square of one half
            hidden = hidden + (2 * mean_square).sqrt() * encoding[:, None]
        across = self.attend == "ranks"
        absent = ~(present.T if across else present)
        hidden = hidden.transpose(0, 1) if across else hidden  # (n, K, d) or (K, n, d)
        for block in self.blocks:
            hidden = block(hidden, absent)
        hidden = hidden.transpose(0, 1) if across else hidden  # (K, n, d)
        return (1 - self.blend_ratio) * rank_tokens + self.blend_ratio * hidden


class ImageAdapter(nn.Module):
    """Adapt unit embeddings: ``z = normalize(f + A(f))`` with ``A(f) = 0`` at the start.

    Parameters
    ----------
    width : int
        Embedding width D.
    kind : {"linear", "mlp"}
        ``A`` is one linear map, or two with a GELU between them and a hidden layer of D units.

    References
    ----------
    CLIP-Adapter (Gao et al., IJCV 2024); the optimiser of raywang335/L2RCLIP names a projection beside the image tower
    without showing it. The form and its initial values are this library's choice.
    """

    def __init__(self, width: int, kind: str = "linear"):
        super().__init__()
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.residual = last if kind == "linear" else nn.Sequential(nn.Linear(width, width), nn.GELU(), last)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Adapt unit rows of shape (n, D) to unit rows of shape (n, D)."""
        return F.normalize(embeddings + self.residual(embeddings), dim=-1)
