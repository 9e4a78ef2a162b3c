"""The image adapter: a residual map of image embeddings that starts as the identity, for use with a frozen tower."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


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
