"""Images with a graded property, rendered on the fly: what our small CLIPs learn from, and what they are tested on.

An image shows a scene (crops of real photographs, dots, a glass, a face, ...) at a known level of one or more
properties; everything else about it varies at random. Photographs are those that ship with scikit-image, handwritten
digits those of scikit-learn; scikit-learn's two photographs are never used, so that they stay unseen. An image has
64 pixels a side, or as many as `side` says: the scene is the same then, and effects are in proportion.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# lengths in scenes are in pixels of an image of this side
SIDE = 64
N_TRAINING_DIGITS = 900
_PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "ihc", "motorcycle_left",
    "retina", "rocket", "hubble_deep_field",
)  # fmt: skip

Generator = np.random.Generator


@dataclass(frozen=True)
class Property:
    """A graded property.

    Attributes
    ----------
    name : str
    levels : tuple of int
        In order; what captions say.
    scene : str
        "photograph" for those that are applied to photographs and combine with each other, else the name of a scene of
        its own.
    held_out : tuple of int
        Levels that training never captions.
    """

    name: str
    levels: tuple[int, ...]
    scene: str
    held_out: tuple[int, ...]

    @property
    def captioned(self) -> tuple[int, ...]:
        """Levels that training shows."""
        return tuple(level for level in self.levels if level not in self.held_out)


_TWENTY = tuple(range(21))
PROPERTIES = {
    spec.name: spec
    for spec in (
        Property("blur", _TWENTY, "photograph", (5, 12, 17)),
        Property("noise", _TWENTY, "photograph", (3, 9, 16)),
        Property("compression", _TWENTY, "photograph", (6, 13, 18)),
        Property("brightness", _TWENTY, "photograph", (4, 11, 15)),
        Property("saturation", _TWENTY, "photograph", (2, 8, 14)),
        Property("contrast", _TWENTY, "photograph", (7, 10, 16)),
        Property("warmth", _TWENTY, "photograph", (3, 12, 18)),
        Property("decade", tuple(range(1900, 2030, 10)), "old photograph", (1930, 1970, 2000)),
        Property("count", (*range(21), *range(25, 101, 5)), "dots", (6, 13, 17, 40, 75)),
        Property("size", _TWENTY, "shape", (4, 9, 15)),
        Property("fill", _TWENTY, "glass", (5, 11, 18)),
        Property("distance", _TWENTY, "landscape", (2, 8, 14)),
        Property("wear", _TWENTY, "surface", (7, 12, 16)),
        Property("age", tuple(range(0, 95, 5)), "face", (15, 40, 65)),
        Property("digit", tuple(range(10)), "digit", ()),
    )
}
PHOTOGRAPH_PROPERTIES = tuple(name for name, spec in PROPERTIES.items() if spec.scene == "photograph")
# not part of the training: for measuring how well a new property is learned
NEW_PROPERTIES = {
    spec.name: spec
    for spec in (
        Property("tilt", _TWENTY, "line", ()),
        Property("ripeness", _TWENTY, "fruit", ()),
    )
}


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """Real photographs, uint8 RGB; those of scikit-image's own wheel."""
    from skimage import data

    arrays = []
    for name in _PHOTOGRAPHS:
        extension = "jpg" if name in ("retina", "rocket", "hubble_deep_field") else "png"
        image = Image.open(f"{data.data_dir}/{name}.{extension}")
        arrays.append(np.asarray(image.convert("RGB")))
    return tuple(arrays)


@cache
def handwritten_digits(training: bool) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, 8 x 8 in [0, 16], and what they show; the first 900 are for training."""
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    part = slice(None, N_TRAINING_DIGITS) if training else slice(N_TRAINING_DIGITS, None)
    return images.reshape(-1, 8, 8)[part], target[part]


# --------------------------------------------------------------- photographs


def crop(rng: Generator, side: int = SIDE) -> np.ndarray:
    """Random crop of a photograph, not a blank one and never enlarged, float RGB in [0, 1] of shape (side, side, 3)."""
    arrays = photographs()
    image = arrays[rng.integers(len(arrays))]
    while True:
        cut = int(rng.integers(side, min(round(220 * side / SIDE), *image.shape[:2])))
        top, left = (int(rng.integers(length - cut + 1)) for length in image.shape[:2])
        part = Image.fromarray(image[top : top + cut, left : left + cut])
        pixels = _as_float(part.resize((side, side), Image.Resampling.BICUBIC))
        if _grey(pixels).std() > 0.04:
            break
    pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    if rng.random() < 0.3:  # grey photographs would otherwise tell themselves apart by their lack of colour
        pixels = (pixels * rng.uniform(0.6, 1.2, 3).astype(np.float32)).clip(0, 1)
    return pixels


def _grey(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def _with_spread(pixels: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    grey = _grey(pixels)
    return ((pixels - grey.mean()) * (deviation / max(float(grey.std()), 0.02)) + mean).clip(0, 1)


def _coloured(pixels: np.ndarray, rng: Generator) -> np.ndarray:
    """Give a grey crop colours, so that there is something to desaturate."""
    colour = pixels - _grey(pixels)[..., None]
    if np.abs(colour).mean() < 0.04:
        tint = rng.uniform(-0.2, 0.2, (2, 3)).astype(np.float32)
        ramp = np.linspace(0, 1, len(pixels), dtype=np.float32)[:, None, None]
        pixels = (pixels + tint[0] * ramp + tint[1] * (1 - ramp)).clip(0, 1)
        colour = pixels - _grey(pixels)[..., None]
    return _grey(pixels)[..., None] + colour * (0.09 / max(float(np.abs(colour).mean()), 0.01))


def _brightness(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    return (_with_spread(pixels, 0.5, 0.18) ** 2.2 * 2.0 ** (-4 + 6 * t)).clip(0, 1) ** (1 / 2.2)


def _contrast(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    return _with_spread(pixels, float(rng.uniform(0.42, 0.58)), 0.015 * 18**t)


def _saturation(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    grey = _grey(pixels)[..., None]
    return (grey + (_coloured(pixels, rng) - grey) * 2.5 * t).clip(0, 1)


def _warmth(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    pixels = _grey(pixels)[..., None] + 0.5 * (pixels - _grey(pixels)[..., None])
    shift = 1.2 * (t - 0.5)
    return (pixels * np.exp(np.array([shift, 0.1 * shift, -shift], np.float32))).clip(0, 1)


def _blur(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    radius = 4.5 * t**1.3 * len(pixels) / SIDE
    return _as_float(_as_image(pixels).filter(ImageFilter.GaussianBlur(radius))) if t > 0 else pixels


def _noise(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    noise = rng.normal(0, 0.32 * t**1.5 + 1e-6, pixels.shape).astype(np.float32)
    return (pixels + noise).clip(0, 1)


def _compression(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    file = io.BytesIO()
    _as_image(pixels).save(file, "JPEG", quality=max(1, round(95 * (1 / 48) ** t)))
    return _as_float(Image.open(file).convert("RGB"))


def _decade(pixels: np.ndarray, t: float, rng: Generator) -> np.ndarray:
    """From a bordered, faded, grainy sepia print to a plain colour image."""
    age, scale = 1 - t, len(pixels) / SIDE
    grey = _grey(pixels)[..., None]
    colour = np.clip((t - 0.3) / 0.5, 0, 1)
    pixels = grey + (pixels - grey) * colour
    sepia = grey * np.array([1.07, 0.92, 0.68], np.float32) + 0.05
    pixels = pixels + (sepia - pixels) * np.clip(1.6 * age - 0.5, 0, 1)
    pixels = 0.5 + (pixels - 0.5) * (1 - 0.5 * age) + 0.08 * age  # faded
    pixels = pixels + rng.normal(0, 0.09 * age, pixels.shape[:2])[..., None]
    pixels = _as_float(_as_image(pixels.clip(0, 1)).filter(ImageFilter.GaussianBlur(0.9 * age * scale)))
    width = round((6 * age + float(rng.uniform(-0.3, 0.3))) * scale)
    if width > 0:
        frame = np.ones(grey.shape[:2], bool)
        frame[width:-width, width:-width] = False
        pixels[frame] = np.array([0.93, 0.9, 0.82]) * (0.9 + 0.1 * t)
    return pixels.astype(np.float32)


_PHOTOGRAPH_EFFECTS: dict[str, Callable[[np.ndarray, float, Generator], np.ndarray]] = {
    # in the order in which they are applied
    "saturation": _saturation,
    "warmth": _warmth,
    "contrast": _contrast,
    "brightness": _brightness,
    "blur": _blur,
    "noise": _noise,
    "compression": _compression,
}


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((255 * pixels).round().astype(np.uint8))


def _as_float(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


# -------------------------------------------------------------------- scenes


def _colour(rng: Generator, low: int = 0, high: int = 256) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(low, high, 3))


def _two_colours(rng: Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Background and foreground that can be told apart."""
    while True:
        first, second = _colour(rng), _colour(rng)
        if sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 200:
            return first, second


class _Pen:
    """Draws on an image of any size in lengths of one with `SIDE` pixels, so that the scene is the same."""

    def __init__(self, image: Image.Image):
        self._draw, self._scale = ImageDraw.Draw(image), image.width / SIDE

    def __getattr__(self, shape: str) -> Callable[..., None]:
        def draw(place: Sequence, *arguments, width: int | None = None, **options) -> None:
            if width is not None:
                options["width"] = max(1, round(self._scale * width))
            getattr(self._draw, shape)(self._scaled(place), *arguments, **options)

        return draw

    def _scaled(self, place: Sequence) -> list:
        return [tuple(self._scaled(each)) if isinstance(each, tuple) else self._scale * each for each in place]


def _canvas(background: tuple[int, ...], rng: Generator, side: int) -> Image.Image:
    """Background of one colour, with a light gradient."""
    ramp = np.linspace(-1, 1, side)[:, None, None] * rng.uniform(-20, 20)
    pixels = np.broadcast_to(np.array(background), (side, side, 3)) + ramp
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _draw_shape(draw: _Pen, kind: int, x: float, y: float, radius: float, fill: tuple) -> None:
    if kind == 0:
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
    elif kind == 1:
        half = 0.886 * radius  # of the same area as the circle
        draw.rectangle([x - half, y - half, x + half, y + half], fill=fill)
    else:
        points = {2: 3, 3: 5, 4: 6}[kind]
        draw.regular_polygon((x, y, 1.15 * radius), points, fill=fill)


def dots(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    background, colour = _two_colours(rng)
    image = _canvas(background, rng, side)
    draw = _Pen(image)
    radius = rng.uniform(2.2, 4.2) if level <= 20 else rng.uniform(1.6, 2.4)
    places: list[tuple[float, float]] = []
    tries = 0
    while len(places) < level:
        x, y = rng.uniform(radius, SIDE - radius, 2)
        tries += 1
        if tries > 400:
            radius, tries = 0.9 * radius, 0
        if all((x - a) ** 2 + (y - b) ** 2 > (2.1 * radius + 1) ** 2 for a, b in places):
            places.append((x, y))
    kind = int(rng.integers(5))
    for x, y in places:
        _draw_shape(draw, kind, x, y, radius, colour)
    return image


def shape(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    background, colour = _two_colours(rng)
    image = _canvas(background, rng, side)
    radius = 1.5 + 1.45 * (level + rng.uniform(-0.2, 0.2))
    margin = min(radius, SIDE / 2)
    x, y = rng.uniform(margin, SIDE - margin, 2)
    _draw_shape(_Pen(image), int(rng.integers(5)), x, y, radius, colour)
    return image


def glass(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    background, colour = _two_colours(rng)
    image = _canvas(background, rng, side)
    draw = _Pen(image)
    width, height = rng.uniform(14, 50), rng.uniform(38, 58)
    left, top = rng.uniform(3, SIDE - 3 - width), rng.uniform(3, SIDE - 3 - height)
    t = (level + rng.uniform(-0.15, 0.15)) / 20
    surface = top + height * (1 - t)
    taper = rng.uniform(0, 0.2) * width if rng.random() < 0.5 else 0.0

    def edge(y: float) -> float:
        return taper * (y - top) / height

    if level > 0:
        draw.polygon(
            [
                (left + edge(surface), surface),
                (left + width - edge(surface), surface),
                (left + width - taper, top + height),
                (left + taper, top + height),
            ],
            fill=colour,
        )
    outline = (20, 20, 20) if sum(background) > 380 else (240, 240, 240)
    corners = [(left, top), (left + taper, top + height), (left + width - taper, top + height), (left + width, top)]
    draw.line(corners, fill=outline, width=2)
    return image


def landscape(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    sky, ground = _colour(rng, 150, 256), _colour(rng, 40, 170)
    horizon = int(rng.integers(18, 28))
    pixels, row = np.empty((side, side, 3)), round(horizon * side / SIDE)
    pixels[:row] = sky
    depth = np.linspace(0, 1, side - row)[:, None]
    pixels[row:] = (np.array(sky) * (1 - depth) + np.array(ground) * depth)[:, None]
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = _Pen(image)
    nearness = 1 / (1 + 0.28 * (level + rng.uniform(-0.15, 0.15)))
    foot = horizon + (SIDE - 4 - horizon) * nearness
    height = 44 * nearness
    haze = 0.75 * level / 20
    colour = tuple(int((1 - haze) * a + haze * b) for a, b in zip(_colour(rng, 0, 120), sky, strict=True))
    x = rng.uniform(10, SIDE - 10)
    kind = rng.integers(3)
    if kind == 0:  # a house
        draw.rectangle([x - 0.4 * height, foot - 0.6 * height, x + 0.4 * height, foot], fill=colour)
        draw.polygon(
            [(x - 0.5 * height, foot - 0.6 * height), (x, foot - height), (x + 0.5 * height, foot - 0.6 * height)],
            fill=colour,
        )
    elif kind == 1:  # a tree
        draw.rectangle([x - 0.06 * height, foot - 0.4 * height, x + 0.06 * height, foot], fill=colour)
        draw.ellipse([x - 0.3 * height, foot - height, x + 0.3 * height, foot - 0.35 * height], fill=colour)
    else:  # a person
        draw.ellipse([x - 0.1 * height, foot - height, x + 0.1 * height, foot - 0.78 * height], fill=colour)
        draw.rectangle([x - 0.14 * height, foot - 0.78 * height, x + 0.14 * height, foot], fill=colour)
    return image


def surface(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    base = _colour(rng, 60, 220)
    grain = np.repeat(rng.normal(0, 4, (side, 1, 1)), side, axis=1) + rng.normal(0, 3, (side, side, 1))
    image = Image.fromarray((np.array(base) + grain).clip(0, 255).astype(np.uint8))
    draw = _Pen(image)
    darker = tuple(int(0.55 * value) for value in base)
    lighter = tuple(int(0.5 * value + 120) for value in base)
    for _ in range(round(2.5 * level)):
        x, y = rng.uniform(0, SIDE, 2)
        colour = darker if rng.random() < 0.5 else lighter
        if rng.random() < 0.75:
            angle, length = rng.uniform(0, math.pi), rng.uniform(5, 16)
            draw.line([x, y, x + length * math.cos(angle), y + length * math.sin(angle)], fill=colour, width=1)
        else:
            radius = rng.uniform(1, 2.5)
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return image


def face(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    """A drawn face; `level` is its age in years."""
    years = level + rng.uniform(-1.5, 1.5)
    grown = min(max(years, 0) / 20, 1.0)
    old = float(np.clip((years - 25) / 65, 0, 1))
    image = _canvas(_colour(rng, 60, 256), rng, side)
    draw = _Pen(image)
    skin = np.array([(245, 214, 190), (224, 178, 140), (172, 120, 84), (110, 72, 50)][rng.integers(4)])
    skin = (skin * (1 - 0.12 * old)).astype(int)
    fill = tuple(int(value) for value in skin)
    dark = tuple(int(0.62 * value) for value in skin)
    x, y = 32 + rng.uniform(-4, 4), 34 + rng.uniform(-2, 3)
    width = 15 + 5 * grown + rng.uniform(-1.5, 1.5)
    height = width * (1.02 + 0.28 * grown)
    hair = np.array([(40, 28, 20), (96, 60, 30), (190, 150, 80), (140, 60, 30)][rng.integers(4)])
    grey = float(np.clip((years - 30) / 40, 0, 1))
    hair_colour = tuple(int(value) for value in hair * (1 - grey) + 225 * grey)
    amount = float(np.clip(years / 6, 0.0, 1)) * (1 - 0.55 * old)
    if amount > 0.05:
        lift = 5 * amount
        draw.ellipse(
            [x - width - 2 * amount, y - height - lift, x + width + 2 * amount, y + 0.2 * height], fill=hair_colour
        )
    draw.ellipse([x - width, y - height, x + width, y + height], fill=fill)
    draw.pieslice(
        [x - width, y - height - 1, x + width, y + height], 270 - 65 * amount, 270 + 65 * amount, fill=hair_colour
    ) if amount > 0.3 else None
    draw.ellipse([x - 0.8 * width, y - 0.62 * height, x + 0.8 * width, y + 0.6 * height], fill=fill)
    eye, apart = 4.2 - 2.0 * grown - 0.5 * old, 0.42 * width
    eye_y = y + (0.22 - 0.3 * grown) * height * 0.6
    for eye_x in (x - apart, x + apart):
        draw.ellipse([eye_x - eye, eye_y - eye, eye_x + eye, eye_y + eye], fill=(250, 250, 250))
        iris = 0.62 * eye
        draw.ellipse([eye_x - iris, eye_y - iris, eye_x + iris, eye_y + iris], fill=(40, 40, 60))
    mouth_y, mouth = y + 0.52 * height, (0.25 + 0.15 * grown) * width
    draw.arc([x - mouth, mouth_y - 3, x + mouth, mouth_y + 3], 10, 170, fill=(150, 60, 60), width=2)
    draw.line([x, eye_y + 2, x - 1 - grown, y + 0.28 * height], fill=dark, width=1)
    for i in range(round(10 * old)):  # wrinkles
        sign = 1 if i % 2 else -1
        if i < 4:
            line_y = y - 0.55 * height + 2.2 * i
            draw.line([x - 0.5 * width, line_y, x + 0.5 * width, line_y + rng.uniform(-1, 1)], fill=dark, width=1)
        else:
            start_y = eye_y + 2 + 2.2 * (i // 2)
            draw.line([x + sign * 0.5 * width, start_y, x + sign * 0.85 * width, start_y + 2], fill=dark, width=1)
    return image


def digit(level: int, rng: Generator, side: int = SIDE, training: bool = True) -> Image.Image:
    images, target = handwritten_digits(training)
    choices = np.flatnonzero(target == level)
    return draw_digit(images[choices[rng.integers(len(choices))]], rng, side)


def draw_digit(image: np.ndarray, rng: Generator, side: int = SIDE) -> Image.Image:
    """Put an 8 x 8 digit on a coloured ground at a random size."""
    background, colour = _two_colours(rng)
    height = round(int(rng.integers(44, 62)) * side / SIDE)
    ink = Image.fromarray((image / 16 * 255).astype(np.uint8)).resize((height, height), Image.Resampling.BICUBIC)
    canvas = _canvas(background, rng, side)
    x, y = (int(value) for value in rng.integers(0, side - height + 1, 2))
    canvas.paste(colour, (x, y, x + height, y + height), ink)
    return canvas


def line(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    """A bar that leans from upright (0) to lying (20)."""
    background, colour = _two_colours(rng)
    image = _canvas(background, rng, side)
    angle = math.pi / 2 * (level + rng.uniform(-0.2, 0.2)) / 20
    length, (x, y) = rng.uniform(15, 28), rng.uniform(26, 38, 2)
    sign = -1 if rng.random() < 0.5 else 1
    dx, dy = sign * length * math.sin(angle), length * math.cos(angle)
    _Pen(image).line([x - dx, y + dy, x + dx, y - dy], fill=colour, width=int(rng.integers(3, 8)))
    return image


def fruit(level: int, rng: Generator, side: int = SIDE) -> Image.Image:
    """A fruit that ripens from green through yellow to brown with spots."""
    image = _canvas(_colour(rng, 150, 256), rng, side)
    draw = _Pen(image)
    t = float(np.clip((level + rng.uniform(-0.3, 0.3)) / 20, 0, 1))
    stages = np.array([(70, 150, 50), (150, 190, 60), (240, 215, 70), (200, 140, 50), (90, 60, 35)], float)
    place = t * (len(stages) - 1)
    low = min(int(place), len(stages) - 2)
    colour = (stages[low] * (1 - (place - low)) + stages[low + 1] * (place - low)) * rng.uniform(0.9, 1.08)
    x, y = rng.uniform(27, 37, 2)
    width, height = rng.uniform(13, 25, 2)
    fill = tuple(int(value) for value in colour.clip(0, 255))
    draw.ellipse([x - width, y - height, x + width, y + height], fill=fill)
    for _ in range(round(25 * max(0.0, t - 0.45))):
        angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.75)
        spot_x, spot_y = x + distance * width * math.cos(angle), y + distance * height * math.sin(angle)
        draw.ellipse([spot_x - 1.2, spot_y - 1.2, spot_x + 1.2, spot_y + 1.2], fill=(60, 40, 25))
    draw.line([x, y - height, x + rng.uniform(-3, 3), y - height - 5], fill=(90, 70, 40), width=2)
    return image


_SCENES: dict[str, Callable[..., Image.Image]] = {
    "count": dots,
    "size": shape,
    "fill": glass,
    "distance": landscape,
    "wear": surface,
    "age": face,
    "digit": digit,
    "tilt": line,
    "ripeness": fruit,
}


# ------------------------------------------------------------------ images


def render_photograph(levels: dict[str, int], rng: Generator, side: int = SIDE) -> np.ndarray:
    """Crop of a photograph at the given levels of its properties, uint8 of shape (side, side, 3)."""
    return with_effects(crop(rng, side), levels, rng)


def with_effects(pixels: np.ndarray, levels: dict[str, int], rng: Generator) -> np.ndarray:
    """Image, float RGB in [0, 1], at the given levels of photographs' properties, uint8."""
    for name, effect in _PHOTOGRAPH_EFFECTS.items():
        if name in levels:
            t = (levels[name] + rng.uniform(-0.25, 0.25)) / 20 if levels[name] else 0.0
            pixels = effect(pixels, min(t, 1.0), rng)
    return (255 * pixels).round().clip(0, 255).astype(np.uint8)


def render(name: str, level: int, rng: Generator, *, training: bool = True, side: int = SIDE) -> np.ndarray:
    """Image that shows one property at one level, uint8 of shape (side, side, 3)."""
    if name in PHOTOGRAPH_PROPERTIES:
        return render_photograph({name: level}, rng, side)
    if name == "decade":
        t = (level - 1900) / 120 + rng.uniform(-0.02, 0.02)
        pixels = _decade(crop(rng, side), float(np.clip(t, 0, 1)), rng)
        return (255 * pixels).round().clip(0, 255).astype(np.uint8)
    if name == "digit":
        return np.asarray(digit(level, rng, side, training))
    image = np.asarray(_SCENES[name](level, rng, side), np.float32)
    image += rng.normal(0, rng.uniform(0, 5), image.shape)  # no camera is without noise
    return image.clip(0, 255).astype(np.uint8)


def random_image(
    rng: Generator, shares: dict[str, float] | None = None, side: int = SIDE
) -> tuple[np.ndarray, dict[str, int]]:
    """Training image, and the levels that it shows, by property; levels held out do not occur.

    `shares` says how often each property is shown, relative to one that it does not name; half of the images are of
    photographs whatever it says.
    """
    shares = shares or {}
    if rng.random() < 0.5:
        n_active = rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])
        active = rng.choice(PHOTOGRAPH_PROPERTIES, n_active, replace=False, p=_weights(PHOTOGRAPH_PROPERTIES, shares))
        levels = {str(name): _random_level(str(name), rng) for name in active}
        return render_photograph(levels, rng, side), levels
    others = [name for name in PROPERTIES if name not in PHOTOGRAPH_PROPERTIES]
    name = str(rng.choice(others, p=_weights(others, shares)))
    level = _random_level(name, rng)
    return render(name, level, rng, side=side), {name: level}


def _weights(names: Sequence[str], shares: dict[str, float]) -> np.ndarray:
    weights = np.array([shares.get(name, 1.0) for name in names])
    return weights / weights.sum()


def _random_level(name: str, rng: Generator) -> int:
    captioned = PROPERTIES[name].captioned
    return int(captioned[rng.integers(len(captioned))])
