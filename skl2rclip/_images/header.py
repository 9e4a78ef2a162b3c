"""From a file to an opened picture: of which format it is, and whether it is read.

Only the header is read here. What differs by format is in `formats`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import IO, Any

from PIL import Image, ImageFile

from skl2rclip._images.formats import FORMATS, OTHER_FORMAT, RefusedFormatError, check_size, format_of
from skl2rclip._images.levels import check_samples

# of either byte order, and with addresses of 64 bits
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
    check_size(*picture.size)
    if frame is not None:
        picture.seek(frame)
        check_size(*picture.size)
    if frame is None:
        format_of(picture).go_to_page(picture, prefix)
    if picture.format == "TIFF":
        check_samples(picture)
    return picture


def _why_unknown(prefix: bytes) -> str:
    """Say which plugin reads it, where the first bytes tell."""
    for known in FORMATS.values():
        if known.begins is not None and known.begins(prefix):
            return (
                f"{known.title}, which Pillow reads with a plugin: install {known.plugin}, also in each worker process"
            )
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
            FORMATS.get(format_name, OTHER_FORMAT).check_file(file)
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
    refused = FORMATS.get(format_name or "", OTHER_FORMAT).refused
    if refused:
        raise RefusedFormatError(f"{format_name} files are not read: {refused}")


def halve_transparency(picture: Any) -> None:
    """Give the transparent colour of a PNG of 3 x 16 bits the eight bits that Pillow gives to its pixels."""
    colour = picture.info.get("transparency")
    is_deep = any(tile[3] == "RGB;16B" for tile in getattr(picture, "tile", ()))
    if isinstance(colour, tuple) and (is_deep or max(colour) > 255):  # what has been decoded has no tiles any more
        picture.info["transparency"] = tuple(value >> 8 for value in colour)


def check_decoded_page(picture: Any) -> None:
    """Refuse what others have decoded where it would not have been opened here.

    Raises
    ------
    RefusedFormatError, ValueError
    """
    format_of(picture).check_decoded(picture)
    if picture.format == "TIFF" and hasattr(picture, "tag_v2"):
        check_samples(picture)
