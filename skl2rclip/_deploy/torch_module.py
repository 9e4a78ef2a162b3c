"""A fitted model as one `torch.nn.Module`: from pixels, or rows of a table, to probabilities in the order of classes.

What it holds is its own: changing, moving or training it changes no estimator. How an image comes to the size of the
tower is told by ``_deploy.pixels``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._clip.features import FeatureTower
from skl2rclip._deploy.description import describe
from skl2rclip._embedding.encoding import rounded
from skl2rclip._model.modules import FeatureProjection
from skl2rclip._model.state import FittedState, load_module
from skl2rclip._ordinal.features import column_order
from skl2rclip._settings import Settings


class RankHead(nn.Module):
    """What a fitted model makes of rows: projection, adapter, prototypes, and zero-shot's share beside them."""

    def __init__(self, state: FittedState):
        super().__init__()
        self.prototypes: Tensor
        self.name_prototypes: Tensor
        arrays, order = state.arrays, state.scale.class_order
        self.embedding_columns = state.blocks.embedding_columns
        self.logit_scale, self.share = state.logit_scale, state.zero_shot_share
        self.projection = None
        if state.projection is not None:
            self.projection = FeatureProjection(*state.projection.weight.shape)
            load_module(self.projection, arrays["projection"])
        self.adapter = state.adapter()
        self.register_buffer("prototypes", torch.tensor(state.prototypes[order]))  # (K, D)
        names = torch.tensor(arrays["zero_shot"]["prototypes"][order]) if self.share else torch.zeros(0)
        self.register_buffer("name_prototypes", names)  # (K, D)
        self.requires_grad_(False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return probabilities (n, K) of rows (n, W), whose embeddings are of unit length."""
        embeddings = rows if self.embedding_columns is None else rows[:, self.embedding_columns]
        adapted = embeddings if self.projection is None else self.projection(rows)
        if self.adapter is not None:
            adapted = self.adapter(adapted)
        similarities = adapted @ self.prototypes.T
        if self.share:
            similarities = (1 - self.share) * similarities + self.share * (embeddings @ self.name_prototypes.T)
        return (self.logit_scale * similarities).softmax(dim=1)


class RankModule(nn.Module):
    """What both kinds of modules have: the head, and what is known of the model beside its weights."""

    def __init__(self, state: FittedState, settings: Settings):
        super().__init__()
        self.description = describe(state, settings)
        self.head = RankHead(state)

    @property
    def classes(self) -> list[Any]:
        """Labels of the columns."""
        return self.description["classes"]

    def example(self, n_rows: int) -> Tensor:
        """Made input of so many rows, of the kind that the module takes; always the same."""
        raise NotImplementedError


class ImageModule(RankModule):
    """Probabilities (n, K) of images (n, H, W, 3), in the order of `classes`.

    Parameters
    ----------
    state : FittedState
    settings : Settings
        With the source of the backbone, and `mirror`.
    """

    def __init__(self, state: FittedState, settings: Settings):
        super().__init__(state, settings)
        self.mean: Tensor
        self.std: Tensor
        preprocessing, tower = state.record.preprocessing, state.tower_copy(settings)
        self.size, self.mirror = preprocessing.size, settings.mirror
        self.embedding_width = state.record.embedding_width
        self.tower = tower if state.projection is None else FeatureTower(tower)
        # of uint8 pixels
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean))
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities (n, K) of uint8 images (n, H, W, 3), or of floating ones from 0 to 255."""
        self._check(images)
        if not images.shape[0]:  # towers cannot tell the sizes of nothing; gradients pass all the same
            return self(torch.cat([images, images.new_zeros(1, *images.shape[1:])]))[:0]
        images = images.to(self.mean.dtype)
        if not self.mirror:
            return self.head(self.rows(images))
        both = self.head(self.rows(torch.cat([images, images.flip(2)])))
        return both.unflatten(0, (2, -1)).mean(dim=0)

    def rows(self, images: Tensor) -> Tensor:
        """Return what is read of the tower, (n, W), of floating images (n, H, W, 3) from 0 to 255."""
        pixels = ((images - self.mean) / self.std).permute(0, 3, 1, 2)
        rows = self.tower(pixels).to(self.mean.dtype)
        embeddings = F.normalize(rows[:, : self.embedding_width], dim=-1)
        if self.head.projection is None:
            return embeddings
        return torch.cat([embeddings, _rounded(rows[:, self.embedding_width :])], dim=-1)

    def example(self, n_rows: int) -> Tensor:
        """Return made images from dark to bright and from flat to rich in contrast: fields of colour, and noise."""
        generator = torch.Generator().manual_seed(0)
        level, contrast, noise = torch.rand(3, n_rows, 1, 1, 1, generator=generator)
        images = torch.zeros(n_rows, 3, *self.size)
        for side, strength in ((1, 10), (2, 60), (5, 40), (16, 20)):
            field = torch.randn(n_rows, 3, side, side, generator=generator)
            images += strength * F.interpolate(field, self.size, mode="bilinear")
        grain = torch.randn(images.shape, generator=generator)
        images = 20 + 215 * level + contrast**2 * images + 50 * noise**2 * grain
        return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()

    def _check(self, images: Tensor) -> None:
        expected = (*self.size, 3)
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor, got {type(images).__name__}: torch.from_numpy makes one.")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise TypeError(f"images must be uint8, or floating from 0 to 255, got {images.dtype}.")
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images must have the shape (n, {', '.join(map(str, expected))}), channels last, got "
                f"{tuple(images.shape)}: skl2rclip.input_pixels brings images to it."
            )


class TableModule(RankModule):
    """Probabilities (n, K) of rows (n, W) of a table, its columns as in the fit, in the order of `classes`.

    Parameters
    ----------
    state : FittedState
    settings : Settings
    """

    def __init__(self, state: FittedState, settings: Settings):
        super().__init__(state, settings)
        order = column_order(state.column_names)
        self.n_columns = state.blocks.width
        self.column_order: Tensor | None
        self.register_buffer("column_order", None if order is None else torch.from_numpy(order), persistent=False)
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        """Return probabilities (n, K) of floating rows (n, W)."""
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            raise TypeError("rows must be a floating tensor: this model reads a table (image_tower='precomputed').")
        if rows.ndim != 2 or rows.shape[1] != self.n_columns:
            raise ValueError(f"rows must have the shape (n, {self.n_columns}), got {tuple(rows.shape)}.")
        rows = rows.to(self.head.prototypes.dtype)
        if self.column_order is not None:
            rows = rows[:, self.column_order]
        columns = self.head.embedding_columns
        if columns is not None:
            embeddings = F.normalize(rows[:, columns], dim=-1)
            rows = torch.cat([rows[:, : columns.start], embeddings, rows[:, columns.stop :]], dim=1)
        return self.head(rows)

    def example(self, n_rows: int) -> Tensor:
        """Return made rows."""
        return torch.randn(n_rows, self.n_columns, generator=torch.Generator().manual_seed(0))


def _rounded(features: Tensor) -> Tensor:
    """Round as predictions do; gradients pass as if nothing were rounded, where half precision would lose them."""
    if not features.requires_grad:
        return rounded(features).to(features.dtype)
    near = rounded(features.detach())
    return features + (near - features.detach())


def torch_module(state: FittedState, settings: Settings) -> ImageModule | TableModule:
    """Make the module that goes with what the parameters say X is: images, or rows of a table."""
    with torch.inference_mode(False):  # a caller's mode would make weights that have no gradients with them
        if settings.is_precomputed:
            return TableModule(state, settings)
        state.check_reads_images(settings)
        return ImageModule(state, settings)
