"""Geometry and normalisation: from an RGB image to the pixels that a tower takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from PIL import Image

from skl2rclip._utils.devices import to_device

# wider than this, the part of an image that the centre crop discards is cut off before resizing: a strip of
# 1 x 10,000 pixels would otherwise be enlarged to gigabytes
_MAX_ASPECT_RATIO = 16
# a thinner strip is first shrunk along its long side, by averaging, to at least so many times the tower's input:
# Pillow enlarges the short side before it shrinks the long one
_MAX_STRIP = 16


@dataclass(frozen=True)
class Preprocessing:
    """How a tower wants its images, from the model's own configuration.

    Attributes
    ----------
    size : tuple of int
        Height and width in pixels.
    mean, std : tuple of float
        Per channel, for pixels scaled to [0, 1].
    interpolation : {"bicubic", "bilinear"}
    resize_mode : {"shortest", "longest", "squash"}
        Resize the shorter side and crop the centre; resize the longer side and pad; or ignore the aspect ratio.
    fill_color : int
        Padding of "longest".
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preprocessing:
        """Read open_clip's ``preprocess_cfg``."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
        return cls(
            size=(height, width),
            mean=tuple(float(value) for value in config["mean"]),
            std=tuple(float(value) for value in config["std"]),
            interpolation=config.get("interpolation") or "bicubic",
            resize_mode=config.get("resize_mode") or "shortest",
            fill_color=config.get("fill_color") or 0,
        )

    def to_config(self) -> dict[str, Any]:
        """Inverse of `from_config`, as plain JSON types."""
        config = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}

    def enlarged(self, numerator: int, denominator: int) -> Preprocessing:
        """Return the same, at ``numerator / denominator`` of the size (rounded)."""
        height, width = (round(side * numerator / denominator) for side in self.size)
        return replace(self, size=(height, width))

    def shrinkage(self, size: tuple[int, int]) -> float:
        """Return how many times smaller an image of this width and height is made; below 1 it is enlarged."""
        ratios = size[0] / self.size[1], size[1] / self.size[0]
        return max(ratios) if self.resize_mode == "longest" else min(ratios)

    def box_of(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return what the tower sees of an image of this width and height: left, top, right and bottom in its pixels.

        Of "longest" it ends beyond the image, where that is padded.
        """
        width, height = size
        if self.resize_mode == "squash":
            return 0.0, 0.0, float(width), float(height)
        factor = self.shrinkage(size)
        across, down = factor * self.size[1], factor * self.size[0]
        return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2

    def resizer(self) -> Callable[[Image.Image], Image.Image]:
        """Geometric part of open_clip's own evaluation transform: resize, then crop or pad."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        height, width = self.size
        config = PreprocessCfg(
            size=height if height == width else self.size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            resize_mode=self.resize_mode,
            fill_color=self.fill_color,
        )
        # the last three steps convert to RGB, to a tensor, and normalise: the first is done before, the others on
        # the device
        steps = image_transform_v2(config, is_train=False).transforms[:-3]

        def resize(image: Image.Image) -> Image.Image:
            if self.resize_mode == "shortest":
                image = _without_far_ends(image)
            else:
                image = _of_bounded_length(image, max(self.size))
            if self.resize_mode == "longest":
                image = _wide_enough(image, min(self.size))
            for step in steps:
                image = step(image)
            return image

        return resize


def _without_far_ends(image: Image.Image) -> Image.Image:
    width, height = image.size
    short, long = sorted((width, height))
    if long <= _MAX_ASPECT_RATIO * short:
        return image
    excess = (long - _MAX_ASPECT_RATIO * short) // 2
    left, top = (excess, 0) if width > height else (0, excess)
    kept = (width - 2 * left, height - 2 * top)
    # as `crop`, which would warn of large images
    return image.transform(kept, Image.Transform.EXTENT, (left, top, width - left, height - top))


def _of_bounded_length(image: Image.Image, side: int) -> Image.Image:
    shorter, longer = sorted(image.size)
    factor = longer // (_MAX_STRIP * side)
    if factor < 2 or longer <= _MAX_ASPECT_RATIO * shorter:
        return image
    return image.reduce((factor, 1) if image.width > image.height else (1, factor))


def _wide_enough(image: Image.Image, side: int) -> Image.Image:
    """Widen a strip so thin that nothing would be left of it once its long side has `side` pixels."""
    short = -(-max(image.size) // side)
    if min(image.size) >= short:
        return image
    return image.resize((max(image.width, short), max(image.height, short)), Image.Resampling.NEAREST)


def normalize(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Scale uint8 pixels to [0, 1], subtract the mean, divide by the standard deviation.

    Parameters
    ----------
    pixels : tensor of shape (n, H, W, 3), uint8
    preprocessing : Preprocessing

    Returns
    -------
    tensor of shape (n, 3, H, W), float32
        On the device of `pixels`.
    """
    mean, std = _mean_and_std(preprocessing, pixels.device)
    # channels last in memory, as the pixels come: what convolutions prefer, and no copy
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


@cache
def _mean_and_std(preprocessing: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale the constants to uint8 pixels, once for each device: copying them in each step would wait for it."""
    with torch.inference_mode(False):
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        return (255 * mean).to(device), (255 * std).to(device)


def augment(pixels: torch.Tensor, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Cut a random window out of each image and mirror half of them, as OrdinalCLIP's training does.

    Parameters
    ----------
    pixels : tensor of shape (n, H', W', 3), uint8
        Resized to 8/7 of the tower's input.
    size : tuple of int
        Height and width (H, W) of the window, at most (H', W').
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    tensor of shape (n, H, W, 3), uint8
    """
    n, full_height, full_width, _ = pixels.shape
    height, width = size
    chosen = torch.stack(
        [
            torch.randint(full_height - height + 1, (n,), generator=generator),
            torch.randint(full_width - width + 1, (n,), generator=generator),
            (torch.rand(n, generator=generator) < 0.5).long(),
        ]
    )
    top, left, mirrored = to_device(chosen, pixels.device)
    rows = top[:, None] + torch.arange(height, device=pixels.device)  # (n, H)
    columns = torch.arange(width, device=pixels.device).expand(n, width)
    columns = left[:, None] + torch.where(mirrored[:, None] > 0, columns.flip(1), columns)  # (n, W)
    each = torch.arange(n, device=pixels.device)
    return pixels[each[:, None, None], rows[:, :, None], columns[:, None, :]]


def shrink(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize what was made larger for `augment` to the tower's input, whole and unmirrored.

    Parameters
    ----------
    pixels : tensor of shape (n, H', W', 3), uint8
    size : tuple of int
        Height and width (H, W), at most (H', W').

    Returns
    -------
    tensor of shape (n, H, W, 3), uint8
    """
    if pixels.shape[1:3] == size:
        return pixels
    # not every kind of device can do it
    place = pixels if pixels.device.type == "cuda" else pixels.cpu()
    images = place.permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(images, size, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).byte().permute(0, 2, 3, 1).to(pixels.device)
