"""The first step of an image: from a file to what its header says.

Nothing is decoded here. What differs by format is in `formats`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO, Any

from PIL import ExifTags, Image

from skl2rclip._images.crops import Box, edges_within, lies_within
from skl2rclip._images.dicom import DicomImage, is_dicom
from skl2rclip._images.formats import FORMATS, check_format, format_of
from skl2rclip._images.levels import is_cut_to_eight_bits, white_of_file

# of either byte order, and with addresses of 64 bits
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# a data element of the first groups of DICOM
_WITHOUT_PREAMBLE = re.compile(rb"[\x02\x08]\0.\0|\0[\x02\x08]\0.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Header:
    """An image that was opened, the first step, with what decoding would forget."""

    image: Image.Image
    white: float | None  # which value its file says is white
    is_cut: bool  # Pillow will keep the upper eight of its sixteen bits

    @classmethod
    def of(cls, image: Image.Image) -> Header:
        """Look at an opened image; of one that was decoded, less is known."""
        return cls(image, white_of_file(image), is_cut_to_eight_bits(image))


def open_header(file: IO[bytes]) -> Header:
    """Open an image at the page that is read; it reads from the file when it is decoded, and never closes it."""
    prefix = file.read(132)
    for name, known in FORMATS.items():
        if known.begins is not None and known.begins(prefix):
            check_format(name)
    try:
        image = DicomImage(file) if is_dicom(prefix) else Image.open(file)
    except Image.UnidentifiedImageError as error:
        raise Image.UnidentifiedImageError(_why_unknown(prefix)) from error
    except Image.DecompressionBombError as error:
        raise Image.DecompressionBombError(f"{error} A higher PIL.Image.MAX_IMAGE_PIXELS allows it.") from error
    check_format(image.format)
    format_of(image).go_to_page(image, prefix)
    return Header.of(image)


def _why_unknown(prefix: bytes) -> str:
    """Say which plugin reads it, where the first bytes tell."""
    for name, known in FORMATS.items():
        if known.plugin and known.begins is not None and known.begins(prefix):
            accept: Any = Image.OPEN[name][1] if name in Image.ID else None
            if accept is not None and accept(prefix) is True:  # it is a str where Pillow was built without the decoder
                return f"a damaged {known.title}"
            return (
                f"{known.title}, which Pillow reads with a plugin: install {known.plugin}, also in each worker process"
            )
    if prefix.startswith(_TIFF_BEGINNINGS):
        return (
            "damaged, or a TIFF of a kind that Pillow cannot read: give the array of tifffile.imread(name), inverted "
            "where its 0 is white, or save it as PNG"
        )
    if _WITHOUT_PREAMBLE.match(prefix):
        return "not an image, or a DICOM file without the preamble that it should begin with: save it anew by pydicom"
    return "not an image, or of a format that Pillow cannot read"


def orientation_of(image: Any) -> int:
    """Tell how EXIF says that an image lies, from 1 to 8; 1 where it is upright. A PNG is decoded for it."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF makes Pillow raise anything, and costs nothing but itself
        return 1
    return orientation if orientation in tuple(range(1, 9)) else 1  # whatever a damaged header holds


def upright_size(image: Any) -> tuple[int, int]:
    """Width and height of an image as it is shown, as far as its header says how it lies; see `check_box`."""
    width, height = image.size
    is_turned = not _turns_later(image) and orientation_of(image) > 4
    return (height, width) if is_turned else (width, height)


def _turns_later(image: Any) -> bool:
    """Whether decoding may turn it: a PNG may say behind its pixels how it lies, and Pillow turns a TIFF itself."""
    return image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info)


def check_box(image: Any, box: Box) -> None:
    """Raise a ValueError where a box lies outside of an opened image, which is decoded only if turning it may help."""
    size = upright_size(image)
    if not lies_within(box, size) and lies_within(box, size[::-1]) and _turns_later(image):
        image.load()
        size = image.size[::-1] if orientation_of(image) > 4 else image.size
    edges_within(box, size)
