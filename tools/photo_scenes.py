"""More images for skl2rclip-photo to learn from: graded scenes on photographs, and images without any level.

What `rendering` draws on plain grounds stands here on photographs: dots to count, a shape of some size, a worn surface.
Beside them a leaf shows how much of it is damaged. `collage` shows nothing that has a level: its kind is there so that
the projection keeps what the image network tells apart, also where no caption asks for it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from rendering import PHOTOGRAPH_PROPERTIES, PROPERTIES, SIDE, crop, dots, photographs, shape, surface, with_effects

Generator = np.random.Generator


def varied_image(rng: Generator, side: int) -> tuple[np.ndarray, dict[str, int]]:
    """Image of another scene than those that are measured, and its level by property; none that is held out."""
    name, scene = _SCENES[int(rng.integers(len(_SCENES)))]
    captioned = PROPERTIES[name].captioned
    level = int(captioned[rng.integers(len(captioned))])
    pixels = np.asarray(scene(level, rng, side), np.float32)
    pixels = pixels + rng.normal(0, rng.uniform(0, 5), pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8), {name: level}


def _ground(rng: Generator, side: int) -> Image.Image:
    return Image.fromarray((255 * crop(rng, side)).astype(np.uint8))


def dots_on_photograph(level: int, rng: Generator, side: int) -> Image.Image:
    return _on(_ground(rng, side), dots(level, rng, side))


def shape_on_photograph(level: int, rng: Generator, side: int) -> Image.Image:
    return _on(_ground(rng, side), shape(level, rng, side))


def _on(ground: Image.Image, drawn: Image.Image) -> Image.Image:
    """What is drawn, cut out of its plain ground and laid on another."""
    difference = np.abs(np.asarray(drawn, np.int16) - np.asarray(_plain(drawn), np.int16)).sum(axis=2)
    mask = Image.fromarray(np.where(difference > 60, 255, 0).astype(np.uint8))
    return Image.composite(drawn, ground, mask)


def _plain(drawn: Image.Image) -> Image.Image:
    """The ground of a drawn scene: the same colour along each row."""
    pixels = np.asarray(drawn)
    corners = pixels[:, [0, -1]].astype(np.int16)
    return Image.fromarray(np.repeat(np.median(corners, axis=1)[:, None], drawn.width, axis=1).astype(np.uint8))


def worn_photograph(level: int, rng: Generator, side: int) -> Image.Image:
    """A photographed surface with the scratches of a drawn one."""
    ground = np.asarray(_ground(rng, side), np.int16)
    state = rng.bit_generator.state
    worn = np.asarray(surface(level, rng, side), np.int16)
    rng.bit_generator.state = state
    whole = np.asarray(surface(0, rng, side), np.int16)  # the same ground, since scratches are drawn last
    return Image.fromarray((ground + worn - whole).clip(0, 255).astype(np.uint8))


def leaf(level: int, rng: Generator, side: int) -> Image.Image:
    """A leaf of which spots cover a share, from none (0) to half (20)."""
    scale = side / SIDE
    image = _ground(rng, side) if rng.random() < 0.5 else Image.new("RGB", (side, side), _grey(rng))
    outline = _leaf_shape(rng, side)
    green = np.array([rng.integers(30, 120), rng.integers(90, 200), rng.integers(20, 90)])
    image.paste(tuple(int(value) for value in green), mask=outline)
    spots = Image.new("L", (side, side))
    draw = ImageDraw.Draw(spots)
    area, places = np.asarray(outline) > 127, np.argwhere(np.asarray(outline) > 127)
    wanted = 0.5 * (level + rng.uniform(-0.2, 0.2)) / 20 if level else 0.0
    size = rng.uniform(1.0, 4.0)
    while (np.asarray(spots)[area] > 127).mean() < wanted:
        for _ in range(3):
            y, x = places[rng.integers(len(places))]
            radius = scale * size * rng.uniform(0.5, 1.5)
            draw.ellipse([x - radius, y - radius, x + radius, y + 0.8 * radius], fill=255)
    spots = Image.fromarray(np.where(area, np.asarray(spots), 0).astype(np.uint8))
    brown = (int(rng.integers(70, 180)), int(rng.integers(45, 120)), int(rng.integers(15, 60)))
    image.paste(brown, mask=spots.filter(ImageFilter.GaussianBlur(scale * rng.uniform(0, 0.6))))
    return image


def _leaf_shape(rng: Generator, side: int) -> Image.Image:
    """Mask of a pointed oval, turned at random."""
    length, width, turn = rng.uniform(24, 30), rng.uniform(9, 17), rng.uniform(0, math.pi)
    t = np.linspace(0, 2 * math.pi, 80)
    along, across = length * np.cos(t), width * np.sin(t) * np.abs(np.sin(t)) ** 0.4
    x = SIDE / 2 + along * math.cos(turn) - across * math.sin(turn)
    y = SIDE / 2 + along * math.sin(turn) + across * math.cos(turn)
    mask = Image.new("L", (side, side))
    points = [(float(a), float(b)) for a, b in zip(x * side / SIDE, y * side / SIDE, strict=True)]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return mask


def _grey(rng: Generator) -> tuple[int, int, int]:
    value = int(rng.integers(120, 256))
    return value, value, value


_SCENES = (
    ("count", dots_on_photograph),
    ("size", shape_on_photograph),
    ("wear", worn_photograph),
    ("wear", leaf),
)


def other_photograph(rng: Generator, side: int) -> tuple[np.ndarray, dict[str, int]]:
    """Image like a photograph of something else, with effects at levels that captions name.

    Thirteen photographs are few, and their effects are soon known by heart.
    """
    names = rng.choice(PHOTOGRAPH_PROPERTIES, 1 if rng.random() < 0.7 else 2, replace=False)
    captioned = {str(name): PROPERTIES[name].captioned for name in names}
    levels = {name: int(of[rng.integers(len(of))]) for name, of in captioned.items()}
    while True:
        pixels = (_mixed(rng, side, smallest=side) / 255).astype(np.float32)
        if pixels.mean(axis=2).std() > 0.06:
            return with_effects(pixels, levels, rng), levels


def collage(rng: Generator, side: int) -> np.ndarray:
    """Crops of two photographs, turned, recoloured and mixed or laid beside each other, with shapes on top."""
    image = Image.fromarray(_mixed(rng, side, smallest=side // 3).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 12)) if rng.random() < 0.5 else 0):
        x, y = rng.uniform(0, side, 2)
        width, height = rng.uniform(0.03, 0.3, 2) * side
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)([x, y, x + width, y + height], fill=colour)
    return np.asarray(image)


def _mixed(rng: Generator, side: int, smallest: int) -> np.ndarray:
    """Two turned and recoloured crops, mixed or laid beside each other, float in [0, 255]."""
    first, second = (_recoloured(_turned(rng, side, smallest), rng) for _ in range(2))
    share: np.ndarray | float = rng.uniform(0.5, 1)
    if rng.random() < 0.5:  # beside each other, along an edge of any direction
        across = np.linspace(-1, 1, side)
        angle = rng.uniform(0, math.pi)
        edge = math.cos(angle) * across[:, None] + math.sin(angle) * across[None]
        share = 1 / (1 + np.exp(-(edge - rng.uniform(-0.5, 0.5)) * rng.uniform(4, 60)))[..., None]
    return (share * first + (1 - share) * second).clip(0, 255)


def _turned(rng: Generator, side: int, smallest: int) -> np.ndarray:
    """A crop of any direction and of any size from `smallest`, float in [0, 255]."""
    arrays = photographs()
    photograph = arrays[rng.integers(len(arrays))]
    cut = int(rng.integers(smallest, min(photograph.shape[:2])))
    top, left = (int(rng.integers(length - cut + 1)) for length in photograph.shape[:2])
    part = Image.fromarray(photograph[top : top + cut, left : left + cut]).resize((side, side))
    part = part.rotate(int(rng.integers(4)) * 90)
    return np.asarray(part, np.float32)


def _recoloured(pixels: np.ndarray, rng: Generator) -> np.ndarray:
    """Channels mixed at random, and another contrast."""
    mixing = np.eye(3) + rng.normal(0, 0.35, (3, 3))
    mixing /= mixing.sum(axis=0).clip(0.3)
    mixed = pixels @ mixing.astype(np.float32)
    return ((mixed - 128) * rng.uniform(0.4, 1.4) + 128 + rng.uniform(-40, 40)).clip(0, 255)
