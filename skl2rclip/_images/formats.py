"""From a file to an opened picture: which formats are read, and up to which size.

Only the header is read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import IO, Any

from PIL import IcoImagePlugin, Image, ImageFile

from skl2rclip._images.levels import check_samples

# what reading them would do beyond decoding pixels
_REFUSED = {
    "EPS": "it would be drawn by another program, Ghostscript",
    "IPTC": "it would be opened as whatever file lies within",
    "WMF": "it would be drawn by the operating system",
}
# what follows "ftyp" in files of HEIF whose pixels are not AV1
# of either byte order, and with addresses of 64 bits
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# of Windows, whose own are of 256 x 256 pixels at most
_MOST_ICON_PIXELS = 2**20

_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _DNG_VERSION = 254, 255, 50706  # tags of TIFF
_DEVELOP = "is not read: develop it first, to a TIFF, PNG or JPEG"


class RefusedFormatError(ValueError):
    """A format that Pillow knows and that is not read here."""


def opened_picture(file: IO[bytes], name: str = "", frame: int | None = None) -> Image.Image:
    """Open a picture for its header, as `PIL.Image.open` does.

    Pillow warns of pictures above `PIL.Image.MAX_IMAGE_PIXELS` and refuses them above twice as many. Here nobody is
    warned, because memory is bounded otherwise, and warnings cannot be silenced in one thread alone.

    Parameters
    ----------
    file : binary file
        Which the picture reads from when it is decoded, and never closes.
    name : str, default=""
        Of the file, where it has one: Pillow maps uncompressed pixels into memory.
    frame : int or None
        Which of several; None for the first, and of a TIFF for the first that is no thumbnail.

    Returns
    -------
    PIL image

    Raises
    ------
    UnidentifiedImageError
        If it is of no format that Pillow knows.
    RefusedFormatError, DecompressionBombError
    """
    prefix = file.read(16)
    Image.preinit()
    usual = tuple(Image.ID)
    picture = _opened_as(usual, prefix, file, name)
    if picture is None:
        Image.init()
        picture = _opened_as((each for each in tuple(Image.ID) if each not in usual), prefix, file, name)
    if picture is None:
        raise Image.UnidentifiedImageError(_why_unknown(prefix))
    _check_size(*picture.size)
    if frame is not None:
        picture.seek(frame)
        _check_size(*picture.size)
    if picture.format == "TIFF":
        if frame is None:
            _go_to_full_page(picture, prefix)
        check_samples(picture)
    return picture


def _why_unknown(prefix: bytes) -> str:
    """Say which plugin reads it, where the first bytes tell."""
    name, plugin = "", ""
    if prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS:
        name, plugin = "HEIC", "pillow-heif and call pillow_heif.register_heif_opener()"
    elif prefix[4:8] == b"ftyp" and prefix[8:12] in (b"avif", b"avis"):
        name, plugin = "AVIF", "a newer Pillow, or pillow-avif-plugin and import pillow_avif"
    elif prefix.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        name, plugin = "JPEG XL", "pillow-jxl-plugin and import pillow_jxl"
    if name:
        return f"{name}, which Pillow reads with a plugin: install {plugin}, also in each worker process"
    if prefix.startswith(_TIFF_BEGINNINGS):
        return (
            "damaged, or a TIFF of a kind that Pillow cannot read: give the array of tifffile.imread(name), inverted "
            "where its 0 is white, or save it as PNG"
        )
    return "not an image, or of a format that Pillow cannot read"


def _opened_as(formats: Iterable[str], prefix: bytes, file: IO[bytes], name: str) -> ImageFile.ImageFile | None:
    for format_name in formats:
        factory, accept = Image.OPEN[format_name]
        try:
            if accept is not None:
                answer = accept(prefix)
                if not answer or isinstance(answer, str):  # a string says why not
                    continue
                check_format(format_name)
            file.seek(0)
            if format_name == "ICO":
                _check_icon(file)
            picture: Any = factory(file, name)
        except (SyntaxError, IndexError, TypeError, struct.error):  # how plugins say that this is another format
            continue
        check_format(picture.format)
        return picture
    return None


def check_format(format_name: str | None) -> None:
    """Refuse formats whose pixels are not in the file, but in what another program makes of it.

    Raises
    ------
    RefusedFormatError
    """
    if format_name in _REFUSED:
        raise RefusedFormatError(f"{format_name} files are not read: {_REFUSED[format_name]}")


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
            _check_size(*picture.size)
            return
    raise RefusedFormatError(f"a thumbnail without a full picture that Pillow reads, as in camera raw, {_DEVELOP}")


def _is_reduced(tags: Any) -> bool:
    """Whether a page of a TIFF is a smaller version of another, or a mask of one."""
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 0b101) or tags.get(_OLD_SUBFILE_TYPE) == 2


def halve_transparency(picture: Any) -> None:
    """Give the transparent colour of a PNG of 3 x 16 bits the eight bits that Pillow gives to its pixels."""
    colour = picture.info.get("transparency")
    is_deep = any(tile[3] == "RGB;16B" for tile in getattr(picture, "tile", ()))
    if isinstance(colour, tuple) and (is_deep or max(colour) > 255):  # what has been decoded has no tiles any more
        picture.info["transparency"] = tuple(value >> 8 for value in colour)


def check_decoded_page(picture: Any) -> None:
    """Refuse a TIFF that others have decoded where it would not have been opened here.

    Raises
    ------
    RefusedFormatError, ValueError
    """
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return
    if _DNG_VERSION in tags:
        raise RefusedFormatError(f"camera raw {_DEVELOP}")
    if picture.tell() == 0 and _is_reduced(tags):
        raise RefusedFormatError(
            "it was decoded at a page that the file calls a thumbnail: give its path, or seek to the full page first"
        )
    check_samples(picture)


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


def _check_size(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise Image.DecompressionBombError(
            f"it has {width} x {height} pixels, more than the {2 * limit:,} that Pillow lets through; "
            "a higher PIL.Image.MAX_IMAGE_PIXELS allows it"
        )
