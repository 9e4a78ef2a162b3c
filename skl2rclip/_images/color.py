"""What the colours of an image mean: an embedded ICC profile that is not sRGB in effect is converted to sRGB.

Towers have learned from images that are sRGB, or were taken for it. The intent is relative colorimetric with black
point compensation: what sRGB can show stays the colour that it is, white stays white and black black, which is what
transparency over white and a dark image need. Of profiles that are three primaries and a curve, as those of cameras,
telephones and displays, every intent gives the same; of those of printers, perceptual would move all colours to make
room for some.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

_MAX_PROFILE_BYTES = 2**24
_MAX_KEPT = 32
# levels of 255 that no colour of a coarse cube moves by in a profile that is sRGB in effect
_MIN_MOVE = 2
_STEPS = np.linspace(0, 255, 9).round().astype(np.uint8)
# modes of what each kind of profile takes; the neutral colours of one of RGB are greys
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_FITTING = {"GRAY": ("L",), "RGB": ("RGB", "L"), "CMYK": ("CMYK",)}
_WITHOUT_MEANING = ("1", "LAB", "HSV")


@dataclass(frozen=True)
class Conversion:
    """What becomes of the colours of an image.

    Attributes
    ----------
    mode : str
        Of the pixels that are converted; empty where none are.
    transform : PIL.ImageCms.ImageCmsTransform or None
    problem : str
        Why its profile is ignored, where it is.
    """

    mode: str = ""
    transform: Any = None
    problem: str = ""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Convert pixels, or leave them where there is nothing to convert; RGBA keeps its alpha."""
        if self.transform is None:
            return image
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        converted = ImageCms.applyTransform(image.convert(self.mode), self.transform)
        assert converted is not None
        if alpha is not None:
            converted.putalpha(alpha)
        return converted


_NONE = Conversion()
# by digest of the profile and mode of the pixels, the last used last
_kept: OrderedDict[tuple[bytes, str], Conversion] = OrderedDict()
_lock = threading.Lock()


def can_convert() -> bool:
    """Whether this Pillow was built with LittleCMS; without it all colours are taken for sRGB."""
    return bool(features.check("littlecms2"))


def conversion_of(image: Image.Image) -> Conversion:
    """Tell what becomes of an image's colours, from its header.

    Each profile is looked at once: images of one camera bring the same.
    """
    profile = image.info.get("icc_profile", b"")
    if profile is None and image.format != "PNG":  # of a PNG, Pillow has found it damaged
        return _NONE
    if profile == b"" or image.mode in _WITHOUT_MEANING or not can_convert():
        return _NONE
    if not isinstance(profile, bytes) or len(profile) > _MAX_PROFILE_BYTES:
        return Conversion(problem="its colour profile is damaged and is ignored")
    pixels = "CMYK" if image.mode == "CMYK" else "L" if image.mode[0] in "LIF" else "RGB"
    key = hashlib.blake2b(profile, digest_size=16).digest(), pixels
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    conversion = _conversion(profile, pixels)
    with _lock:
        _kept[key] = conversion
        while len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    return conversion


def _conversion(profile: bytes, pixels: str) -> Conversion:
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if pixels not in _FITTING.get(space, ()):
            return Conversion(problem=f"its colour profile is of {space}, which its pixels are not, and is ignored")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            _MODES[space],
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        conversion = Conversion(_MODES[space], transform)
        return _NONE if space != "CMYK" and _most_moved(conversion) < _MIN_MOVE else conversion
    except Exception:  # LittleCMS and Pillow raise several kinds of what is no profile
        return Conversion(problem="its colour profile is damaged and is ignored")


def _most_moved(conversion: Conversion) -> int:
    """Levels by which the colour of a cube that moves most does."""
    colours = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), -1).reshape(1, -1, 3)
    if conversion.mode == "L":
        colours = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    moved = np.asarray(conversion(Image.fromarray(colours))).astype(int) - colours
    return int(np.abs(moved).max())
