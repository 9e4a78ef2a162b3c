"""What an image tower holds before its embedding: the state that the projection reads, and statistics of its tokens.

Each family of towers has a function that runs it once and returns what it held on the way. No tower is changed, and
nothing is kept of a pass, so that several threads may use one tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._ordinal.features import EMBEDDING, FeatureBlocks
from skl2rclip.errors import InvalidParameterError

# of the layers of a tower, rounded up
_DEPTHS = (1 / 4, 1 / 2, 3 / 4, 1)
# by which the embedding of such a pass may differ from the tower's own, of unit rows
_TOLERANCE = 1e-4
_MIN_VARIANCE = 1e-12


@dataclass(frozen=True)
class _States:
    """What a tower held while n images passed it."""

    embedding: Tensor  # (n, D), not normalised
    pooled: Tensor | None  # (n, V), what the projection reads; None without a projection
    tokens: dict[int, Tensor]  # by depth, counted from 1: (n, positions, width), without class tokens


class FeatureTower(nn.Module):
    """An image tower that returns its embedding and, behind it, what it held before.

    Its rows are the embedding as the tower itself returns it; ``pooled``, the state that the projection reads, where
    there is a projection; and for some depths ``mean_<depth>`` and ``deviation_<depth>``, mean and standard deviation
    over the patches, or over the positions of a convolutional tower's feature map. Where the tower ends in a layer
    norm, each patch passes it first, or one without weights where it is of another width; maps of other towers are
    taken as they are, for their size says something.
    """

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower = tower
        self._read = _reader_of(tower)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rows (n, W), float32, of normalised pixels (n, 3, H, W)."""
        return torch.cat([block for _, block in self.blocks(pixels)], dim=1)

    def blocks(self, pixels: Tensor) -> list[tuple[str, Tensor]]:
        """Return the parts of the rows by name, each (n, width), float32."""
        states, norm = self._read(self.tower, pixels), _last_norm(self.tower)
        blocks = [(EMBEDDING, states.embedding.float())]
        if states.pooled is not None:
            blocks.append(("pooled", states.pooled.float()))
        for depth, tokens in states.tokens.items():
            mean, deviation = _statistics(_normalized(tokens.float(), norm))
            blocks += [(f"mean_{depth}", mean), (f"deviation_{depth}", deviation)]
        return blocks

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them, as the tower itself does it."""
        tower: Any = self.tower
        tower.set_grad_checkpointing(enable)


def layout_of(tower: nn.Module, size: tuple[int, int], embedding_width: int, model_name: str) -> FeatureBlocks:
    """Pass one image through a tower in both ways, compare the embeddings, and say what the rows consist of.

    Parameters
    ----------
    tower : module
        On the CPU, in evaluation mode.
    size : tuple of int
        Height and width of its images.
    embedding_width : int
        Number D of columns of its embeddings.
    model_name : str
        For the message.

    Raises
    ------
    InvalidParameterError
        If the states of the tower cannot be read, whatever the reason.
    """
    noise = 0.1 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            blocks = FeatureTower(tower).blocks(noise)
            expected = tower(noise)
        if expected.shape != (1, embedding_width) or blocks[0][1].shape != expected.shape:
            raise ValueError(f"it does not return rows of {embedding_width} columns")
        difference = float((F.normalize(blocks[0][1], dim=-1) - F.normalize(expected.float(), dim=-1)).norm())
        if not difference <= _TOLERANCE:
            raise ValueError(f"the embedding computed beside them differs by {difference:.1e}")
        return FeatureBlocks(tuple((name, block.shape[1]) for name, block in blocks), 0)
    except Exception as error:  # torch, timm and open_clip raise whatever they like
        raise InvalidParameterError(
            f"model_name={model_name!r}: what its image tower, {_described(tower)}, holds before the embedding cannot "
            f"be read: {type(error).__name__}: {error}. image_features='embedding' takes any tower."
        ) from error


def _described(tower: nn.Module) -> str:
    trunk = f" of {type(tower.trunk).__name__}" if isinstance(tower, TimmModel) else ""
    return type(tower).__name__ + trunk


def _depths(n_layers: int) -> list[int]:
    """Depths that are read, in order and each once, counted from 1."""
    return sorted({math.ceil(share * n_layers) for share in _DEPTHS})


def _normalized(tokens: Tensor, norm: nn.LayerNorm | None) -> Tensor:
    """Bring each token (n, positions, width) to one scale, by the tower's last norm where it fits."""
    if norm is None:
        return tokens
    shape = tokens.shape[-1:]
    if tuple(norm.normalized_shape) != tuple(shape):
        return F.layer_norm(tokens, shape)
    # whatever precision the tower is in
    weight, bias = (None if each is None else each.to(tokens.dtype) for each in (norm.weight, norm.bias))
    return F.layer_norm(tokens, shape, weight, bias, norm.eps)


def _statistics(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (n, width) over tokens (n, positions, width); ``torch.std`` takes ten times as long."""
    mean = tokens.mean(dim=1, keepdim=True)
    variance = (tokens - mean).square().mean(dim=1)
    # one position has none, where the root has no derivative
    return mean[:, 0], (variance + _MIN_VARIANCE).sqrt()


def _last_norm(tower: nn.Module) -> nn.LayerNorm | None:
    """Layer norm at the end of a tower, of tokens or of what is pooled from them; None where there is none."""
    trunk = getattr(tower, "trunk", None)
    candidates = (
        getattr(tower, "ln_post", None),
        getattr(trunk, "norm", None),
        getattr(trunk, "fc_norm", None),
        getattr(getattr(trunk, "head", None), "norm", None),
    )
    for norm in candidates:  # torch before 2.10 compiles no ``next`` of a generator
        if isinstance(norm, nn.LayerNorm):
            return norm
    return None


# ------------------------------------------------------- how each family is run


def _states_of_transformer(tower: VisionTransformer, pixels: Tensor) -> _States:
    """As ``VisionTransformer.forward``: its class token stands before the patches."""
    depths = _depths(tower.transformer.layers)
    x, states = tower.transformer.forward_intermediates(tower._embeds(pixels), indices=[depth - 1 for depth in depths])
    pooled, _ = tower._pool(x)
    tokens = {depth: state[:, 1:] for depth, state in zip(depths, states, strict=True)}
    if tower.proj is None:
        return _States(pooled, None, tokens)
    return _States(pooled @ tower.proj, pooled, tokens)


def _states_of_resnet(tower: ModifiedResNet, pixels: Tensor) -> _States:
    """As ``ModifiedResNet.forward``: four layers behind the stem, and attention over the map."""
    layers = [tower.layer1, tower.layer2, tower.layer3, tower.layer4]
    depths, tokens = _depths(len(layers)), {}
    x = tower.stem(pixels)
    for depth, layer in enumerate(layers, start=1):
        x = layer(x)
        if depth in depths:
            tokens[depth] = _positions(x)
    pooled = _attention_pooled(tower.attnpool, x)
    return _States(tower.attnpool.c_proj(pooled), pooled, tokens)


def _attention_pooled(pool: AttentionPool2d, x: Tensor) -> Tensor:
    """State (n, C) that ``c_proj`` reads in ``AttentionPool2d.forward``, whose only query that counts is the mean."""
    x = _positions(x)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # (n, 1 + positions, C)
    x = x + pool.positional_embedding.to(x.dtype)

    def heads(states: Tensor) -> Tensor:
        return states.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)  # (n, heads, length, C / heads)

    query, key, value = pool.q_proj(x[:, :1]), pool.k_proj(x), pool.v_proj(x)
    return F.scaled_dot_product_attention(heads(query), heads(key), heads(value)).transpose(1, 2).flatten(1)


def _states_of_timm(tower: TimmModel, pixels: Tensor) -> _States:
    """As ``TimmModel.forward``: the projection is in open_clip's head, or the trunk's own classifier, or nowhere."""
    trunk = tower.trunk
    depths = _depths(len(trunk.feature_info))
    # as maps, which every trunk returns, and without the tokens before the patches
    x, maps = trunk.forward_intermediates(pixels, indices=[depth - 1 for depth in depths], output_fmt="NCHW")
    tokens = {depth: _positions(each) for depth, each in zip(depths, maps, strict=True)}
    if not len(tower.head):
        pooled, classifier = trunk.forward_head(x, pre_logits=True), trunk.get_classifier()
        if isinstance(classifier, nn.Identity):
            return _States(pooled, None, tokens)
        return _States(classifier(pooled), pooled, tokens)
    x, projected = trunk.forward_head(x), None
    for name, module in tower.head.named_children():
        if name in ("proj", "mlp"):
            projected = x
        x = module(x)
    return _States(x, projected, tokens)


def _positions(maps: Tensor) -> Tensor:
    """Turn a feature map (n, C, H, W) into tokens (n, H W, C)."""
    return maps.flatten(2).transpose(1, 2)


def _reader_of(tower: nn.Module) -> Callable[[nn.Module, Tensor], _States]:
    readers: tuple[tuple[type, Callable[..., _States]], ...] = (
        (VisionTransformer, _states_of_transformer),
        (ModifiedResNet, _states_of_resnet),
        (TimmModel, _states_of_timm),
    )
    for kind, reader in readers:
        if isinstance(tower, kind):
            return reader
    raise TypeError(f"{type(tower).__name__} is of no family that is known here")
