"""What a picture takes in memory while it is decoded, told from its header, and the turns that decoding threads take.

Nothing is decoded here, and no path is known.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from io import BytesIO
from types import TracebackType
from typing import Any

from PIL import ExifTags, Image, Jpeg2KImagePlugin

from skl2rclip._images.color import conversion_of

# what the pictures under way may take together where no bound is given
_DEFAULT_BOUND = 10**9
# a picture of so few bytes is always let through
_ALWAYS = 10**6
# Pillow keeps every other mode in four bytes a pixel
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# by plugin: bytes a pixel beside the pixels that Pillow keeps, at the peak (tools/measure_decoding.py)
_BESIDE = {
    "AVIF": 12.0,  # planes of up to ten bits, and the interleaved copy
    "BMP": 0.1,
    "DIB": 0.1,
    "GIF": 1.0,
    "ICNS": 12.0,
    "IM": 0.1,
    "JPEG": 0.1,
    "MPO": 0.1,
    "PCX": 0.1,
    "PNG": 0.1,
    "PPM": 0.0,
    "SGI": 0.1,
    "TGA": 0.1,
    "TIFF": 0.1,
    "WEBP": 17.0,  # two canvases of the decoder of animations, and the copy that it hands out
}
# some of the others decode in Python, by way of copies of the bytes
_BESIDE_OTHERS = 10.0
# what is converted by way of several copies is converted so many pixels at a time, with so many bytes for each
BAND_PIXELS = 2**16
_BYTES_OF_BAND, _BYTES_OF_GREY_BAND = 24, 80
# of these the whole file is in memory while it is decoded
_READ_AS_A_WHOLE = {"AVIF", "JPEG2000", "SGI", "TIFF", "WEBP"}
# formats that can be decoded at a fraction of their sides
REDUCIBLE = ("JPEG", "MPO")
MOST_REDUCED = 8
_MAX_ASPECT_RATIO = 16  # wider pictures may be cropped before they are resized
_COMPRESSION = 259
_ROWS_PER_STRIP, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 278, 258, 277, 322, 323  # tags of TIFF


# of PNG
_MOST_CHUNKS = 100_000
_XMP, _RAW_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type exif"


class TooLargeError(ValueError):
    """A picture takes more memory decoded than it may."""


def decoding_bound(max_memory: int | None) -> int:
    """Bytes that the pictures under way may take together, where `max_memory` is the parameter, in bytes."""
    return _DEFAULT_BOUND if max_memory is None else max(max_memory, _ALWAYS)


def is_waiting(image: Image.Image) -> bool:
    """Whether an image has been opened and its pixels are still to be decoded."""
    core = image.__dict__.get("_im", image.__dict__.get("im"))
    return core is None or bool(getattr(image, "tile", None))


def orientation_of(image: Image.Image) -> int:
    """Tell how EXIF says that an image lies, from 1 to 8; 1 where it is upright."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF makes Pillow raise anything, and costs nothing but itself
        return 1
    return orientation if orientation in tuple(range(1, 9)) else 1  # whatever a damaged header holds


def decoding_bytes(image: Image.Image, reduction: int = 1, is_turned: bool | None = None) -> int:
    """Tell what decoding a picture takes at its peak, with its conversion to upright RGB, from its header.

    What the file itself takes is not counted, except where the decoder holds a copy of it; nor are the resized copies.

    Parameters
    ----------
    image : PIL image
        Opened. Where it has been decoded already, only the conversion counts.
    reduction : {1, 2, 4, 8}
        Of a JPEG that is decoded at a fraction of its sides.
    is_turned : bool or None
        Whether it lies otherwise than EXIF says; None looks.

    Returns
    -------
    int
        Bytes.
    """
    width, height = (math.ceil(side / reduction) for side in _size_within(image))
    n_pixels = width * height
    bytes_of_pixel = _BYTES_OF_MODE.get(image.mode, 4)
    # Pillow keeps a pointer to each row beside the pixels: most of what a thin strip takes
    source, result, turned = (
        n_pixels * bytes_of_pixel + 8 * height,
        4 * n_pixels + 8 * height,
        4 * n_pixels + 8 * width,
    )
    if not (_may_be_turned(image) if is_turned is None else is_turned):
        turned = 0
    converted = 0
    if image.mode != "RGB" or "transparency" in image.info or conversion_of(image).transform is not None:
        bytes_of_band = _BYTES_OF_GREY_BAND if image.mode[0] in "IF" else _BYTES_OF_BAND
        converted = result + bytes_of_band * min(n_pixels, BAND_PIXELS)
    if not is_waiting(image):
        return max(1, converted + turned)
    beside, buffered = math.ceil(n_pixels * _beside(image)), _buffered(image)
    shorter, longer = sorted((width, height))
    cropped = 4 * _MAX_ASPECT_RATIO * shorter**2 if longer > _MAX_ASPECT_RATIO * shorter else 0
    return max(
        source + beside + buffered,
        source + converted + buffered // 2,  # not all that is free goes back to the system at once
        result + (turned and turned + n_pixels * (bytes_of_pixel % 4)),
        result + cropped,
    )


def _may_be_turned(image: Image.Image) -> bool:
    if image.format == "PNG" and is_waiting(image) and "exif" not in image.info:
        return _ends_with_exif(image)  # Pillow would decode the pixels to look for it
    return orientation_of(image) != 1


def _ends_with_exif(image: Any) -> bool:
    """Whether a PNG has, or may have, a chunk behind its pixels that tells how it lies."""
    file, here, place = image.fp, image.fp.tell(), 8
    try:
        for _ in range(_MOST_CHUNKS):
            file.seek(place)
            header = file.read(8 + len(_RAW_PROFILE))
            name, content = header[4:8], header[8:]
            if len(name) < 4 or name == b"IEND":
                return False
            if name == b"eXIf" or (name in (b"iTXt", b"tEXt", b"zTXt") and content.startswith((_XMP, _RAW_PROFILE))):
                return True
            place += 12 + int.from_bytes(header[:4], "big")
        return True
    finally:
        file.seek(here)


def _beside(image: Any) -> float:
    """Bytes a pixel that a decoder takes beside the pixels that Pillow keeps."""
    if image.format == "JPEG2000":
        return 6.0 * len(image.getbands()) + 2 * (image.mode == "I;16")  # four bytes a sample, and packed ones
    beside = _BESIDE.get(image.format or "", _BESIDE_OTHERS)
    if image.format in ("BMP", "DIB") and [tile[0] for tile in image.tile] == ["bmp_rle"]:
        beside += 3  # decoded in Python
    if image.format == "TIFF" and orientation_of(image) != 1:
        beside += _BYTES_OF_MODE.get(image.mode, 4)  # Pillow turns it when it is decoded
    return beside


def _buffered(image: Any) -> int:
    """Bytes that a decoder takes and that do not shrink with a reduction: coefficients, strips, a copy of the file."""
    if image.format == "TIFF" and image.tag_v2.get(_COMPRESSION, 1) == 1:
        return 0  # read row by row, and not by libtiff
    n_bytes = _file_size(image) if image.format in _READ_AS_A_WHOLE else 0
    if image.format in REDUCIBLE and not _is_one_scan(image):
        n_bytes += _coefficient_bytes(image)
    if image.format == "TIFF":
        n_bytes += _strip_bytes(image)
    return n_bytes


def _is_one_scan(image: Any) -> bool:
    """Whether a JPEG holds all of its components in one sequential scan, which is decoded row by row."""
    if "progressive" in image.info:
        return False
    # the file stands behind the header of the first scan, which tells the number of its components
    length = 6 + 2 * image.layers
    here = image.fp.tell()
    image.fp.seek(max(0, here - length - 2))
    header = image.fp.read(5)
    image.fp.seek(here)
    return header == bytes([0xFF, 0xDA, 0, length, image.layers])


def _coefficient_bytes(image: Any) -> int:
    width, height = (math.ceil(side / 8) * 8 for side in image.size)
    horizontal, vertical = (max((layer[i] for layer in image.layer), default=1) for i in (1, 2))
    share = sum(layer[1] * layer[2] for layer in image.layer) / max(1, horizontal * vertical)
    return math.ceil(2 * width * height * share)


def _strip_bytes(image: Any) -> int:
    """Bytes of the longest strip or tile of a TIFF, which libtiff decodes as a whole."""
    tags, (width, height) = image.tag_v2, image.size
    bits = tags.get(_BITS, (8,))
    width = tags.get(_TILE_WIDTH, width)
    rows = tags.get(_TILE_LENGTH, min(height, tags.get(_ROWS_PER_STRIP, height)))
    return math.ceil(width * rows * tags.get(_SAMPLES, 1) * max(bits) / 8)


def _file_size(image: Any) -> int:
    here = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(here)
    return size


def _size_within(image: Any) -> tuple[int, int]:
    """Width and height of the pixels, which the header of an icon need not tell: a picture of any size lies within."""
    width, height = image.size
    if image.format != "ICNS" or not is_waiting(image):
        return width, height
    codes = dict(image.icns.SIZES[image.best_size])
    places = [image.icns.dct[code] for code in codes if code in image.icns.dct]
    sizes = [(width, height), *(_size_of_icon(image.icns.fobj, *place) for place in places)]
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def _size_of_icon(file: Any, start: int, length: int) -> tuple[int, int]:
    header = _read_at(file, start, 24)
    if header.startswith(b"\x89PNG"):
        return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if not header.startswith((b"\xff\x4f\xff\x51", b"\x0d\x0a\x87\x0a", b"\x00\x00\x00\x0cjP")):
        return 0, 0
    return Jpeg2KImagePlugin.Jpeg2KImageFile(BytesIO(_read_at(file, start, length))).size


def _read_at(file: Any, start: int, length: int) -> bytes:
    here = file.tell()
    file.seek(start)
    content = file.read(length)
    file.seek(here)
    return content


class _UnderWay:
    """The pictures that are being decoded in this process, all threads together.

    Who came first goes first, so that a large picture is not kept waiting by small ones for ever.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything; for a forked child, which has none of its parent's threads."""
        self.n_bytes = 0
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    def take(self, n_bytes: int, bound: int) -> None:
        """Wait until this fits beside what is under way, or nothing is under way."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or (self.n_bytes and self.n_bytes + n_bytes > bound):
                    self._changed.wait()
                self.n_bytes += n_bytes
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def give_back(self, n_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self.n_bytes = max(0, self.n_bytes - n_bytes)
            self._changed.notify_all()


under_way = _UnderWay()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=under_way.begin_anew)


class Turn:
    """One picture's turn to be decoded; in a ``with`` block, at whose end its bytes are given back.

    Parameters
    ----------
    max_memory : int or None
        Bytes that the pictures under way may take together. None stands for 1 GB, and less than 1 MB for 1 MB.

    Attributes
    ----------
    bound : int
        What `max_memory` stands for.
    has_reduced : bool
        Whether the picture was decoded at smaller sides because it would not fit.
    doubt : str or None
        Why it may hold fewer bits than its type, so that it is decoded too dark.
    """

    def __init__(self, max_memory: int | None = None):
        self.bound = decoding_bound(max_memory)
        self.has_reduced = False
        self.doubt: str | None = None
        self._n_bytes = 0

    def wait(self, n_bytes: int) -> None:
        """Take bytes, once, and wait for the others' where they are needed; what never fits waits to be alone."""
        under_way.take(n_bytes, self.bound)
        self._n_bytes = n_bytes

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._n_bytes:
            under_way.give_back(self._n_bytes)
        self._n_bytes = 0


def reduction_that_fits(image: Image.Image, bound: int, most: float = MOST_REDUCED) -> int:
    """Decide at which fraction of its sides a picture is decoded, from its header and the bound alone.

    Parameters
    ----------
    image : PIL image
        Opened and not yet decoded.
    bound : int
        Bytes.
    most : float, default=8
        How many times smaller its sides may become.

    Returns
    -------
    {1, 2, 4, 8}
        More than 1 only for a JPEG that does not fit otherwise.

    Raises
    ------
    TooLargeError
    """
    if decoding_bytes(image, is_turned=True) <= bound:
        return 1  # however it lies, for which a PNG would have to be gone through
    for reduction in (1, 2, 4, MOST_REDUCED) if image.format in REDUCIBLE else (1,):
        if reduction <= max(1, most) and decoding_bytes(image, reduction) <= bound:
            return reduction
    n_bytes = decoding_bytes(image)
    width, height = _size_within(image)
    raise TooLargeError(
        f"decoding its {width} x {height} pixels takes {in_words(n_bytes)}, more than the {in_words(bound)} that "
        f"pictures may take at a time; max_memory='{in_words(n_bytes, gap='')}' allows it"
    )


def in_words(n_bytes: int, gap: str = " ") -> str:
    """Bytes as a number of at most three digits, rounded up, with its unit."""
    unit = next((unit for unit in ("GB", "MB", "KB") if n_bytes >= 10 ** {"GB": 9, "MB": 6, "KB": 3}[unit]), "B")
    factor = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}[unit]
    number = math.ceil(n_bytes * 10 / factor) / 10
    return f"{number:.3g}{gap}{unit}" if number < 100 else f"{math.ceil(n_bytes / factor)}{gap}{unit}"
