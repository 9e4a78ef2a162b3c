"""What differs by the format of an image: one table, `FORMATS`, with a record each.

It tells what decoding takes, which page is read, what is refused, and which plugin reads it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# tags of TIFF
_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _BITS, _COMPRESSION, _SAMPLES = 254, 255, 258, 259, 277
_ROWS_PER_STRIP, _PLANES, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT, _DNG_VERSION = 278, 284, 322, 323, 339, 50706
# values of tags: of compression, of planes, of the sample format
_RAW, _SEPARATE, _SIGNED = 1, 2, 2
# what follows "ftyp" in files of HEIF whose pixels are not AV1
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_DEVELOP = "is not read: develop it first, to a TIFF, PNG or JPEG"


class RefusedFormatError(ValueError):
    """A format that Pillow knows and that is not read here."""


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class ImageFormat:
    """What is to be known of a format beyond Pillow's plugin for it."""

    # what decoding a pixel and converting it to upright RGB takes at the peak, in the worst mode of the format, as
    # tools/measure_decoding.py measures it
    bytes_per_pixel: float = 14.0
    # of an image: bytes that its decoder takes beyond that, and that do not shrink with a reduction
    buffered: Callable[[Any], int] = lambda _: 0
    is_reducible: bool = False  # it can be decoded at a fraction of its sides
    # goes to the page that is read, given an image and the first bytes of its file; by default it is the first
    go_to_page: Callable[[Any, bytes], None] = _nothing
    # refuses a page that Pillow would misread, also where others have decoded it
    check_page: Callable[[Any], None] = _nothing
    refused: str = ""  # why it is not read, where it is not
    title: str = ""  # what messages call it, where a plugin reads it
    plugin: str = ""  # what to install for it
    # tells it by the first bytes of a file, where that plugin is missing or opening it is too much already
    begins: Callable[[bytes], bool] | None = None


# ---------------------------------------------------------------------- TIFF


def bits_of(tags: Any) -> int:
    """Return how many bits the largest sample of a TIFF has."""
    return max(tags.get(_BITS, (8,)))


def is_signed(tags: Any) -> bool:
    """Whether a TIFF holds signed integers."""
    return _SIGNED in tags.get(_SAMPLE_FORMAT, ())


def _is_reduced(tags: Any) -> bool:
    """Whether a page of a TIFF is a smaller version of another, or a mask of one."""
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 0b101) or tags.get(_OLD_SUBFILE_TYPE) == 2


def _go_to_full_page(image: Any, prefix: bytes) -> None:
    """Go to the first page that is no thumbnail, and refuse files that hold a sensor's values instead of an image."""
    if prefix[8:10] == b"CR":
        raise RefusedFormatError(f"camera raw {_DEVELOP}")
    page = 0
    while _is_reduced(image.tag_v2) and _DNG_VERSION not in image.tag_v2:
        page += 1
        if page == image.n_frames:
            raise RefusedFormatError(
                f"a thumbnail without a full image that Pillow reads, as in camera raw, {_DEVELOP}"
            )
        image.seek(page)
    _check_tiff(image)


def _check_tiff(image: Any) -> None:
    """Refuse camera raw, a page that is a thumbnail, and samples that Pillow misreads."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # it is a copy
        return
    if _DNG_VERSION in tags:
        raise RefusedFormatError(f"camera raw {_DEVELOP}")
    if _is_reduced(tags):
        raise RefusedFormatError(
            "it stands at a page that the file calls a thumbnail: give its path, or seek to the full page first"
        )
    is_raw = tags.get(_COMPRESSION, _RAW) == _RAW
    if tags.get(_PLANES) == _SEPARATE and bits_of(tags) > 8 and is_raw:
        raise ValueError(
            f"its planes of {bits_of(tags)} bits are stored one behind the other, which Pillow misreads: save it "
            "interleaved (PlanarConfiguration 1)"
        )
    if not is_raw and tags.prefix == b"MM" and image.mode in ("I", "F"):
        raise ValueError(
            "its signed integers or floats are compressed with the highest byte first, which Pillow misreads: give the "
            "array of tifffile.imread(name), or save it without compression"
        )
    if is_signed(tags) and image.mode[0] not in "IF":
        raise ValueError(f"it holds signed integers of {bits_of(tags)} bits, which Pillow misreads: save uint8")


def _tiff_bytes(image: Any) -> int:
    """Bytes of a compressed TIFF and of its longest strip or tile, which libtiff decodes as a whole."""
    tags, (width, height) = image.tag_v2, image.size
    if tags.get(_COMPRESSION, _RAW) == _RAW:
        return 0  # read row by row, and not by libtiff
    width = tags.get(_TILE_WIDTH, width)
    rows = tags.get(_TILE_LENGTH, min(height, tags.get(_ROWS_PER_STRIP, height)))
    return _file_size(image) + math.ceil(width * rows * tags.get(_SAMPLES, 1) * bits_of(tags) / 8)


# -------------------------------------------------------------------- others


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
    """Bytes of the coefficients of a JPEG, two for each pixel and component, which several scans keep."""
    if _is_one_scan(image):
        return 0
    width, height = (math.ceil(side / 32) * 32 for side in image.size)  # whole blocks of the coarsest component
    return int(2 * image.layers * width * height)


def _file_size(image: Any) -> int:
    """Bytes of a file that is in memory as a whole while it is decoded."""
    if image.fp is None:  # nothing is read from it any more
        return 0
    here = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(here)
    return int(size)


def _dicom_bytes(image: Any) -> int:
    """Bytes of a DICOM file, and of its colours as floats, from which pydicom makes those of RGB."""
    return _file_size(image) + (32 * image.width * image.height if image.mode == "RGB" else 0)


# an image of up to four bytes a pixel, the same in RGB or turned, and what the system has not taken back
_SIMPLE = 10.0
_JPEG = ImageFormat(bytes_per_pixel=9.0, buffered=_coefficient_bytes, is_reducible=True)
_ICON = "an icon is decoded when it is opened, whatever it takes; save it as PNG"
OTHER_FORMAT = ImageFormat()
# by Pillow's name
FORMATS: dict[str, ImageFormat] = {
    "AVIF": ImageFormat(
        bytes_per_pixel=16.0,  # planes of up to ten bits, and the interleaved copy
        buffered=_file_size,
        title="AVIF",
        plugin="a newer Pillow, or pillow-avif-plugin and import pillow_avif",
        begins=lambda prefix: prefix[4:12] in (b"ftypavif", b"ftypavis"),
    ),
    "BMP": ImageFormat(_SIMPLE),
    "DIB": ImageFormat(_SIMPLE),
    "DICOM": ImageFormat(
        bytes_per_pixel=16.0,
        buffered=_dicom_bytes,
        title="DICOM",
        plugin='pydicom, by pip install "skl2rclip[dicom]"',
        begins=lambda prefix: prefix[128:132] == b"DICM",
    ),
    "EPS": ImageFormat(refused="they would be drawn by another program, Ghostscript"),
    "GIF": ImageFormat(_SIMPLE),
    "HEIF": ImageFormat(
        title="HEIC",
        plugin="pillow-heif and call pillow_heif.register_heif_opener()",
        begins=lambda prefix: prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS,
    ),
    "ICNS": ImageFormat(refused=_ICON, begins=lambda prefix: prefix.startswith(b"icns")),
    "ICO": ImageFormat(refused=_ICON, begins=lambda prefix: prefix.startswith(b"\0\0\1\0")),
    "IM": ImageFormat(_SIMPLE),
    "IPTC": ImageFormat(refused="they would be opened as whatever file lies within"),
    "JPEG": _JPEG,
    "JPEG2000": ImageFormat(bytes_per_pixel=28.0, buffered=_file_size),  # four bytes a sample, and packed ones
    "JXL": ImageFormat(
        title="JPEG XL",
        plugin="pillow-jxl-plugin and import pillow_jxl",
        begins=lambda prefix: prefix.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ),
    "MPO": _JPEG,
    "PCX": ImageFormat(_SIMPLE),
    "PNG": ImageFormat(_SIMPLE),
    "PPM": ImageFormat(_SIMPLE),
    "SGI": ImageFormat(_SIMPLE, buffered=_file_size),
    "TGA": ImageFormat(_SIMPLE),
    "TIFF": ImageFormat(_SIMPLE, buffered=_tiff_bytes, go_to_page=_go_to_full_page, check_page=_check_tiff),
    "WEBP": ImageFormat(
        bytes_per_pixel=21.0,  # two canvases of the decoder of animations, and the copy that it hands out
        buffered=_file_size,
    ),
    "WMF": ImageFormat(refused="they would be drawn by the operating system"),
}


def format_of(image: Any) -> ImageFormat:
    """Look up what is known of the format of an opened image."""
    return FORMATS.get(image.format or "", OTHER_FORMAT)


def check_format(format_name: str | None) -> None:
    """Refuse formats whose pixels are not plainly in the file."""
    refused = FORMATS.get(format_name or "", OTHER_FORMAT).refused
    if refused:
        raise RefusedFormatError(f"{format_name} files are not read: {refused}")
