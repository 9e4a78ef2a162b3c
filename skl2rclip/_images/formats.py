"""What differs by the format of a picture: one table, `FORMATS`, with a record each.

It tells what decoding costs, which page is read, where EXIF stands, what is refused, and which plugin reads it.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from PIL import IcoImagePlugin, Image, Jpeg2KImagePlugin

# what follows "ftyp" in files of HEIF whose pixels are not AV1
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# icons of Windows, whose own are of 256 x 256 pixels at most
_MOST_ICON_PIXELS = 2**20
# of PNG
_MOST_CHUNKS = 100_000
_XMP, _RAW_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type exif"

_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _DNG_VERSION = 254, 255, 50706  # tags of TIFF
_COMPRESSION = 259
_ROWS_PER_STRIP, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 278, 258, 277, 322, 323
_DEVELOP = "is not read: develop it first, to a TIFF, PNG or JPEG"


class RefusedFormatError(ValueError):
    """A format that Pillow knows and that is not read here."""


def check_size(width: int, height: int) -> None:
    """Refuse more pixels than Pillow lets through.

    Raises
    ------
    DecompressionBombError
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise Image.DecompressionBombError(
            f"it has {width} x {height} pixels, more than the {2 * limit:,} that Pillow lets through; "
            "a higher PIL.Image.MAX_IMAGE_PIXELS allows it"
        )


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class ImageFormat:
    """What is to be known of a format beyond Pillow's plugin for it.

    Attributes
    ----------
    beside : float or callable of the image, default=10.0
        Bytes a pixel that its decoder takes beside the pixels that Pillow keeps, at the peak, as
        ``tools/measure_decoding.py`` measures them. Some decode in Python, by way of copies of the bytes.
    buffered : callable of the image
        Bytes that its decoder takes and that do not shrink with a reduction; none by default.
    sizes_within : callable of the image
        Width and height of pictures within it, where its header does not tell; none by default.
    is_reducible : bool, default=False
        Whether it can be decoded at a fraction of its sides.
    is_turned_by_decoder : bool, default=False
        Whether Pillow turns it as EXIF says when it is decoded.
    ends_with_exif : callable of the image, optional
        Tells whether EXIF may stand behind its pixels, where Pillow would decode these to look for it.
    check_file : callable of the file
        Refuses it before it is opened.
    go_to_page : callable of the image and the first bytes of its file
        Goes to the page that is read; by default it is the first.
    check_decoded : callable of the image
        Refuses what others have decoded at another page.
    refused : str, default=""
        Why it is not read, where it is not.
    title : str, default=""
        What messages call it, where a plugin reads it.
    plugin : str, default=""
        What to install for it.
    begins : callable of the first bytes of a file, optional
        Tells it where that plugin is missing.
    """

    beside: float | Callable[[Any], float] = 10.0
    buffered: Callable[[Any], int] = lambda _: 0
    sizes_within: Callable[[Any], list[tuple[int, int]]] = lambda _: []
    is_reducible: bool = False
    is_turned_by_decoder: bool = False
    ends_with_exif: Callable[[Any], bool] | None = None
    check_file: Callable[[IO[bytes]], None] = _nothing
    go_to_page: Callable[[Any, bytes], None] = _nothing
    check_decoded: Callable[[Any], None] = _nothing
    refused: str = ""
    title: str = ""
    plugin: str = ""
    begins: Callable[[bytes], bool] | None = None


def _go_to_full_page(picture: Any, prefix: bytes) -> None:
    """Go to the first page that is no thumbnail, and refuse files that hold a sensor's values instead of a picture.

    Raises
    ------
    RefusedFormatError
    """
    if _DNG_VERSION in picture.tag_v2 or prefix[8:10] == b"CR":
        raise RefusedFormatError(f"camera raw {_DEVELOP}")
    if not _is_reduced(picture.tag_v2):
        return
    for page in range(1, picture.n_frames):
        picture.seek(page)
        if not _is_reduced(picture.tag_v2):
            check_size(*picture.size)
            return
    raise RefusedFormatError(f"a thumbnail without a full picture that Pillow reads, as in camera raw, {_DEVELOP}")


def _check_decoded_tiff(picture: Any) -> None:
    """Refuse camera raw, and a thumbnail, that others have decoded.

    Raises
    ------
    RefusedFormatError
    """
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return
    if _DNG_VERSION in tags:
        raise RefusedFormatError(f"camera raw {_DEVELOP}")
    if picture.tell() == 0 and _is_reduced(tags):
        raise RefusedFormatError(
            "it was decoded at a page that the file calls a thumbnail: give its path, or seek to the full page first"
        )


def _is_reduced(tags: Any) -> bool:
    """Whether a page of a TIFF is a smaller version of another, or a mask of one."""
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 0b101) or tags.get(_OLD_SUBFILE_TYPE) == 2


def _check_icon(file: IO[bytes]) -> None:
    """Refuse a Windows icon that holds a large picture: Pillow decodes it when the file is opened.

    Raises
    ------
    RefusedFormatError
    """
    entry = IcoImagePlugin.IcoFile(file).entry[0]
    file.seek(entry.offset)
    header = file.read(24)
    is_png = header.startswith(b"\x89PNG")  # else a bitmap without its file header
    size = struct.unpack(">II", header[16:24]) if is_png else struct.unpack("<ii", header[4:12])
    if abs(size[0] * size[1]) > _MOST_ICON_PIXELS:
        raise RefusedFormatError(f"an icon with a picture of {size[0]} x {size[1]} pixels in it is not read")
    file.seek(0)


def _ends_with_exif(image: Any) -> bool:
    """Whether a PNG has, or may have, a chunk behind its pixels that tells how it lies.

    Pillow would decode the pixels to look for it.
    """
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
    """Bytes of the coefficients of a JPEG, which several scans keep, and which do not shrink with a reduction."""
    if _is_one_scan(image):
        return 0
    width, height = (math.ceil(side / 8) * 8 for side in image.size)
    horizontal, vertical = (max((layer[i] for layer in image.layer), default=1) for i in (1, 2))
    share = sum(layer[1] * layer[2] for layer in image.layer) / max(1, horizontal * vertical)
    return math.ceil(2 * width * height * share)


def _tiff_bytes(image: Any) -> int:
    """Bytes of a compressed TIFF and of its longest strip or tile, which libtiff decodes as a whole."""
    if image.tag_v2.get(_COMPRESSION, 1) == 1:
        return 0  # read row by row, and not by libtiff
    tags, (width, height) = image.tag_v2, image.size
    bits = tags.get(_BITS, (8,))
    width = tags.get(_TILE_WIDTH, width)
    rows = tags.get(_TILE_LENGTH, min(height, tags.get(_ROWS_PER_STRIP, height)))
    return _file_size(image) + math.ceil(width * rows * tags.get(_SAMPLES, 1) * max(bits) / 8)


def _file_size(image: Any) -> int:
    """Bytes of a file that is in memory as a whole while it is decoded."""
    here = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(here)
    return size


def _jpeg2000_beside(image: Any) -> float:
    return 6.0 * len(image.getbands()) + 2 * (image.mode == "I;16")  # four bytes a sample, and packed ones


def _bmp_beside(image: Any) -> float:
    return 3.1 if [tile[0] for tile in image.tile] == ["bmp_rle"] else 0.1  # decoded in Python


def _icon_sizes(image: Any) -> list[tuple[int, int]]:
    """Width and height of what lies within an icon of macOS, which may be a picture of any size."""
    codes = dict(image.icns.SIZES[image.best_size])
    places = [image.icns.dct[code] for code in codes if code in image.icns.dct]
    return [_size_of_icon(image.icns.fobj, *place) for place in places]


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


_JPEG = ImageFormat(beside=0.1, buffered=_coefficient_bytes, is_reducible=True)
OTHER_FORMAT = ImageFormat()
# by Pillow's name
FORMATS: dict[str, ImageFormat] = {
    "AVIF": ImageFormat(
        beside=12.0,  # planes of up to ten bits, and the interleaved copy
        buffered=_file_size,
        title="AVIF",
        plugin="a newer Pillow, or pillow-avif-plugin and import pillow_avif",
        begins=lambda prefix: prefix[4:12] in (b"ftypavif", b"ftypavis"),
    ),
    "BMP": ImageFormat(beside=_bmp_beside),
    "DIB": ImageFormat(beside=_bmp_beside),
    "EPS": ImageFormat(refused="it would be drawn by another program, Ghostscript"),
    "GIF": ImageFormat(beside=1.0),
    "HEIF": ImageFormat(
        title="HEIC",
        plugin="pillow-heif and call pillow_heif.register_heif_opener()",
        begins=lambda prefix: prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS,
    ),
    "ICNS": ImageFormat(beside=12.0, sizes_within=_icon_sizes),
    "ICO": ImageFormat(check_file=_check_icon),
    "IM": ImageFormat(beside=0.1),
    "IPTC": ImageFormat(refused="it would be opened as whatever file lies within"),
    "JPEG": _JPEG,
    "JPEG2000": ImageFormat(beside=_jpeg2000_beside, buffered=_file_size),
    "JXL": ImageFormat(
        title="JPEG XL",
        plugin="pillow-jxl-plugin and import pillow_jxl",
        begins=lambda prefix: prefix.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    ),
    "MPO": _JPEG,
    "PCX": ImageFormat(beside=0.1),
    "PNG": ImageFormat(beside=0.1, ends_with_exif=_ends_with_exif),
    "PPM": ImageFormat(beside=0.0),
    "SGI": ImageFormat(beside=0.1, buffered=_file_size),
    "TGA": ImageFormat(beside=0.1),
    "TIFF": ImageFormat(
        beside=0.1,
        buffered=_tiff_bytes,
        is_turned_by_decoder=True,
        go_to_page=_go_to_full_page,
        check_decoded=_check_decoded_tiff,
    ),
    "WEBP": ImageFormat(
        beside=17.0,  # two canvases of the decoder of animations, and the copy that it hands out
        buffered=_file_size,
    ),
    "WMF": ImageFormat(refused="it would be drawn by the operating system"),
}


def format_of(image: Any) -> ImageFormat:
    """Look up what is known of the format of an opened image."""
    return FORMATS.get(image.format or "", OTHER_FORMAT)
