"""What learns beside the prompts: RankFormer, among the ranks' words, and the image adapter, on embeddings.

L2RCLIP's abstract names token-level attention and residual-style prompt blending and publishes no equation; the layer
below is this library's choice.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MAX_HEADS = 8
# units of the adapter's hidden layer with soft targets
N_HIDDEN = 256


def head_count(width: int) -> int:
    """Choose the number of attention heads for word embeddings of `width` d: eight, as CLIP, or what divides d."""
    return next(heads for heads in range(_MAX_HEADS, 0, -1) if width % heads == 0)


@cache
def sinusoidal_encoding(n_positions: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the position at geometrically falling frequencies, tensor of shape (n_positions, width).

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.
    """
    half = (width + 1) // 2
    with torch.inference_mode(False):  # it is kept: copying it in each step would wait for the device
        frequency = torch.exp(-math.log(10_000.0) * torch.arange(half) / half)
        angle = torch.arange(n_positions)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width].to(device)


class RankFormerBlock(nn.Module):
    """One pre-norm transformer layer whose two residual branches start at zero."""

    def __init__(self, width: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, head_count(width), batch_first=True)
        self.feed_forward_norm = nn.LayerNorm(width)
        last = nn.Linear(4 * width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), last)
        for projection in (self.attention.out_proj, last):
            nn.init.zeros_(projection.weight)
            nn.init.zeros_(projection.bias)

    def attend(self, tokens: Tensor, absent: Tensor) -> Tensor:
        """Attention's branch along the second axis of ``tokens`` (batch, length, width); ``absent`` is padding."""
        normed = self.attention_norm(tokens)
        return self.attention(normed, normed, normed, key_padding_mask=absent, need_weights=False)[0]

    def forward(self, tokens: Tensor, absent: Tensor) -> Tensor:
        """Pass ``tokens`` (batch, length, width) through both branches; ``absent`` (batch, length) is padding."""
        tokens = tokens + self.attend(tokens, absent)
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))


class RankFormer(nn.Module):
    """Let the rank tokens see each other, and blend what comes out into them.

    ``H = R + PE``, then per layer ``H = H + MSA(LN(H)); H = H + FFN(LN(H))``, and last ``R' = (1 - a) R + a H`` with
    the blend ratio a. The attention runs across the K ranks, separately at each token position; ``PE`` is a sinusoidal
    encoding of the rank index, scaled to the root mean square of the rank tokens so that training starts near the
    words.
    """

    def __init__(self, width: int, layers: int = 1, blend_ratio: float = 0.1):
        super().__init__()
        self.blocks = nn.ModuleList(RankFormerBlock(width) for _ in range(layers))
        self.blend_ratio = blend_ratio

    def forward(self, rank_tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Blend rank tokens (K, n, d); where not `present` (K, n) is padding, and the result arbitrary."""
        if present is None:
            present = torch.ones(rank_tokens.shape[:2], dtype=torch.bool, device=rank_tokens.device)
        hidden = (rank_tokens + self.encoding(rank_tokens, present)).transpose(0, 1)  # (n, K, d)
        for block in self.blocks:
            hidden = block(hidden, ~present.T)
        return (1 - self.blend_ratio) * rank_tokens + self.blend_ratio * hidden.transpose(0, 1)

    def encoding(self, rank_tokens: Tensor, present: Tensor) -> Tensor:
        """Encode the rank index at the scale of the words, tensor of shape (K, 1, d)."""
        n_ranks, _, width = rank_tokens.shape
        mean_square = (rank_tokens.detach().square() * present[..., None]).sum() / (present.sum() * width)
        # sines and cosines have a mean square of one half
        return (2 * mean_square).sqrt() * sinusoidal_encoding(n_ranks, width, rank_tokens.device)[:, None]


class ImageAdapter(nn.Module):
    """Adapt unit embeddings: ``z = normalize(f + A(f))`` with ``A(f) = 0`` at the start.

    ``A`` is one linear map, or with ``kind="mlp"`` two with a GELU between them and a hidden layer of D units.

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


class FeatureProjection(nn.Module):
    """Map of a tower's features, or of a table's, to what the adapter reads: ``x = (f - mean) weight``.

    It brings blocks of features to one size, and turns them to their principal components; it does not learn.
    """

    def __init__(self, n_columns: int, n_components: int):
        super().__init__()
        self.mean: Tensor
        self.weight: Tensor
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("weight", torch.zeros(n_columns, n_components))

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows of shape (n, W) to rows of shape (n, P)."""
        return (rows - self.mean) @ self.weight


class RidgeAdapter(nn.Module):
    """Map features of P columns to unit rows of the text's width D, by M maps with weights of their own.

    ``z = normalize(x L + b + sqrt(P / H) gelu(x W1 + b1) W2)`` with ``x = (f - mean) / spread``; ``kind="linear"``
    leaves the hidden layer of H units out. Of unit embeddings it is the identity at first; training starts where a
    ridge regression is.

    References
    ----------
    CLIP-Adapter (Gao et al., IJCV 2024) for a hidden layer on the embeddings; form and start are this library's own.
    """

    def __init__(self, width: int, kind: str = "mlp", n_copies: int = 1, n_features: int | None = None):
        super().__init__()
        n_hidden, n_features = N_HIDDEN if kind == "mlp" else 0, width if n_features is None else n_features
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(()))
        self.linear = nn.Parameter(torch.eye(n_features, width).repeat(n_copies, 1, 1))  # (M, P, D)
        self.bias = nn.Parameter(torch.zeros(n_copies, 1, width))
        self.hidden_weight = nn.Parameter(torch.zeros(n_copies, n_features, n_hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(n_copies, 1, n_hidden))
        self.output = nn.Parameter(torch.zeros(n_copies, n_hidden, width))

    @property
    def kind(self) -> str:
        """Whether there is a hidden layer."""
        return "mlp" if self.output.shape[1] else "linear"

    def all(self, features: Tensor, maps: slice | None = None) -> Tensor:
        """Map rows of shape (n, P) by each map, or by some, tensor of shape (M, n, D), unit rows."""
        weights = (self.linear, self.bias, self.hidden_weight, self.hidden_bias, self.output)
        # the gradient of a slice is as large as the whole
        linear, bias, hidden_weight, hidden_bias, output = weights if maps is None else [w[maps] for w in weights]
        x = ((features - self.mean) / self.spread).expand(len(linear), *features.shape)
        adapted = torch.baddbmm(bias, x, linear)
        n_hidden = output.shape[1]
        if n_hidden:
            hidden = F.gelu(torch.baddbmm(hidden_bias, x, hidden_weight))
            adapted = adapted + (len(self.mean) / n_hidden) ** 0.5 * torch.bmm(hidden, output)
        return F.normalize(adapted, dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Map rows of shape (n, P) to unit rows of shape (n, D), by the first map."""
        return self.all(features)[0]

    @torch.no_grad()
    def copy_of(self, place: int) -> RidgeAdapter:
        """Return one of the maps as an adapter of its own."""
        n_features, width = self.linear.shape[1:]
        alone = RidgeAdapter(width, self.kind, n_features=n_features).to(self.mean.device)
        weights = {name: tensor[place : place + 1] for name, tensor in self.named_parameters()}
        alone.load_state_dict({**weights, "mean": self.mean, "spread": self.spread})
        return alone


class ZeroShot(nn.Module):
    """What CLIP says of the ranks by their names alone, and how much of it a model keeps.

    ``s_ik = (1 - w) s z_i . t_k + w s f_i . u_k`` with the zero-shot prototypes u, embeddings f_i as the tower has them
    and the share w. A prediction is still one softmax, whose log-probabilities are those two mixed.

    References
    ----------
    Zero-shot predictions beside what is learned from few images: Tip-Adapter (Zhang et al., ECCV 2022), and the
    residual ratio of CLIP-Adapter (Gao et al., IJCV 2024). That the share is measured is this library's own.
    """

    def __init__(self, n_ranks: int, width: int):
        super().__init__()
        self.prototypes: Tensor  # (K, D), unit rows
        self.share: Tensor  # (), in [0, 1]
        self.register_buffer("prototypes", torch.zeros(n_ranks, width))
        self.register_buffer("share", torch.zeros(()))
        self.is_measured = False  # whether training is to find the share

    def forward(self, logits: Tensor, similarities: Tensor) -> Tensor:
        """Mix logits of shape (..., n, K) with those of the names' similarities, of shape (n, K)."""
        return torch.lerp(logits, similarities, self.share)


def image_adapter(
    width: int, kind: str, rank_targets: str, n_features: int | None = None
) -> ImageAdapter | RidgeAdapter:
    """Build the adapter that goes with the kind of targets, of embeddings or, where their number is given, features."""
    if rank_targets == "soft":
        return RidgeAdapter(width, kind, n_features=n_features)
    return ImageAdapter(width, kind)
