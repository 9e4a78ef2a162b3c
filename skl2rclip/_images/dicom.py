"""DICOM files as images of Pillow's kind: the header when one is opened, and pixels, by pydicom, when it is decoded.

Grey values become what a viewer shows at first: rescaled, through the first window or table of the file, inverted where
0 is white. Where the file has neither, its values stay, with the number of bits that it says. What is not one plain
image is refused by its header.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from skl2rclip._images.formats import FORMATS, RefusedFormatError

_INSTALL = 'pip install "skl2rclip[dicom]", also in each worker process'
_GREY, _COLOURS = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_FIRST_BYTES = 2048  # which hold the transfer syntax
_BAND_PIXELS = 2**18
_FAR = 1e30
# of a file whose frames have groups of their own, though it has one frame: where a rescale and a window stand
_OF_FRAMES = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


class DicomImage(ImageFile.ImageFile):
    """A DICOM file that was opened."""

    format = "DICOM"
    format_description = "Digital Imaging and Communications in Medicine"

    def __init__(self, file: IO[bytes]):
        self._pydicom = _module()
        super().__init__(file)

    def _open(self) -> None:
        self.fp: Any
        _refuse_deflated(self.fp)
        self._data = data = self._pydicom.dcmread(self.fp, stop_before_pixels=True)
        _check(data)
        _check_compression(data, self._pydicom)
        _take_from_frames(data)
        self._size = int(data.Columns), int(data.Rows)
        self._mode = _mode_of(data)
        self.info.update(bits_stored=int(data.BitsStored), white_is_zero=_is_inverted(data))
        if self._mode == "RGB" and data.get("ICCProfile"):
            self.info["icc_profile"] = bytes(data.ICCProfile)
        self.tile = [("dicom", (0, 0, *self._size), 0, None)]  # type: ignore[list-item]  # of what Pillow would decode

    def load(self) -> Any:
        """Decode it, once."""
        if self.tile:
            self.fp.seek(0)
            values = self._pydicom.pixels.pixel_array(self.fp)
            self.im = Image.fromarray(_shown(values, self._data, self._mode, self._pydicom)).im
            self.tile = []
        return Image.Image.load(self)


def is_dicom(prefix: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of a DICOM file."""
    begins = FORMATS[DicomImage.format].begins
    return begins is not None and begins(prefix)


def _module() -> Any:
    try:
        importlib.import_module("pydicom.pixels")
    except ImportError as error:
        raise RefusedFormatError(f"a DICOM file, which is read with pydicom: {_INSTALL}") from error
    return importlib.import_module("pydicom")


# -------------------------------------------------------------------- header


def _refuse_deflated(file: IO[bytes]) -> None:
    file.seek(0)
    beginning = file.read(_FIRST_BYTES)
    file.seek(0)
    if _DEFLATED in beginning:  # its header would be inflated with all that follows, whatever that takes
        raise RefusedFormatError("a DICOM file that is deflated as a whole: save it with another transfer syntax")


def _check(data: Any) -> None:
    """Refuse what is not one image of a kind that is known here."""
    if not data.get("Rows") or not data.get("Columns"):
        kind = data.get("Modality") or data.get("MediaStorageSOPClassUID") or "unknown"
        raise RefusedFormatError(f"a DICOM file without an image (its modality is {kind})")
    n_frames = int(data.get("NumberOfFrames") or 1)
    if n_frames > 1:
        raise RefusedFormatError(f"a DICOM file of {n_frames} frames: save the one that is meant by itself")
    photometric, bits = data.get("PhotometricInterpretation"), data.get("BitsStored")
    n_samples = 3 if photometric in _COLOURS else 1
    if photometric not in (*_GREY, *_COLOURS, _PALETTE) or data.get("SamplesPerPixel", 1) != n_samples:
        raise RefusedFormatError(
            f"a DICOM file of {data.get('SamplesPerPixel', 1)} x {photometric}, which is not read: save it as grey "
            "(MONOCHROME2) or RGB"
        )
    if not bits or not 0 < bits <= data.get("BitsAllocated", 0):
        raise RefusedFormatError("a DICOM file that does not say of how many bits its integers are")
    plain = "its values become grey by no window (WindowCenter and WindowWidth) and no table: store one, or give arrays"
    if photometric in _GREY and not _has_window(data) and not data.get("ModalityLUTSequence"):
        if data.get("PixelRepresentation"):
            raise RefusedFormatError(f"a DICOM file of signed integers, and {plain}")
        if bits > 16:
            raise RefusedFormatError(f"a DICOM file of {bits} bits, and {plain}")


def _check_compression(data: Any, pydicom: Any) -> None:
    """Refuse pixels that are compressed in a way that needs a library which is not here."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise RefusedFormatError("a DICOM file without its transfer syntax, which says how pixels are stored")
    if not syntax.is_compressed:
        return
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError as error:
        raise RefusedFormatError(f"a DICOM file of {syntax.name}, which pydicom does not read") from error
    if not decoder.is_available:
        missing = "; or ".join(decoder.missing_dependencies)
        raise RefusedFormatError(f"a DICOM file of {syntax.name}, for which pydicom needs more: {missing}")


def _take_from_frames(data: Any) -> None:
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for name in _OF_FRAMES:
            for group in list(data.get(groups) or ())[:1]:
                for item in list(group.get(name) or ())[:1]:
                    data.update(item)


def _mode_of(data: Any) -> str:
    if data.PhotometricInterpretation not in _GREY:
        return "RGB"
    is_plain = not _has_window(data) and not data.get("ModalityLUTSequence")
    return "I;16" if is_plain and data.BitsStored > 8 else "L"


def _has_window(data: Any) -> bool:
    window = data.get("WindowCenter"), data.get("WindowWidth")
    return bool(data.get("VOILUTSequence")) or not any(each is None or each == "" for each in window)


def _is_inverted(data: Any) -> bool:
    """Whether the lowest value that is stored is white, where nothing but the number of bits says which is."""
    is_falling = not _has_window(data) and float(data.get("RescaleSlope") or 1) < 0
    return (data.PhotometricInterpretation == "MONOCHROME1") != is_falling


# -------------------------------------------------------------------- pixels


def _shown(values: np.ndarray, data: Any, mode: str, pydicom: Any) -> np.ndarray:
    """Make uint8 of decoded values, or uint16 where nothing says which of them are black and white."""
    if values.shape[:2] != (data.Rows, data.Columns):
        raise ValueError(f"its pixels have the shape {values.shape}, and its header says {data.Rows} x {data.Columns}")
    if data.PhotometricInterpretation == _PALETTE:
        values = pydicom.pixels.apply_color_lut(values, data)
        return values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)
    values = _of_stored_bits(values, data)
    if mode == "I;16":
        return values.astype(np.uint16)
    result = np.empty(values.shape, np.uint8)
    for rows in _bands(values.shape):
        share = _share(values[rows], data, pydicom) if mode == "L" else values[rows] / (2**data.BitsStored - 1)
        result[rows] = np.round(255 * share.clip(0, 1))
    return 255 - result if mode == "L" and _is_inverted(data) else result


def _of_stored_bits(values: np.ndarray, data: Any) -> np.ndarray:
    """Drop the upper bits that are no part of a value, where overlays may stand, and keep its sign."""
    unused = 8 * values.dtype.itemsize - int(data.BitsStored)
    is_whole = values.dtype.kind in "iu" and 0 < unused < 8 * values.dtype.itemsize
    return (values << unused) >> unused if is_whole else values


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    n_rows = max(1, _BAND_PIXELS // shape[1])
    for start in range(0, shape[0], n_rows):
        yield slice(start, start + n_rows)


def _share(values: np.ndarray, data: Any, pydicom: Any) -> np.ndarray:
    """Brightness of grey values, from 0 to 1, as the first table or window of the file has it."""
    is_little = data.file_meta.TransferSyntaxUID.is_little_endian
    top = 2.0 ** int(data.BitsStored) - 1
    if data.get("ModalityLUTSequence"):
        values, top = _through_table(values, data.ModalityLUTSequence[0], is_little)
    elif _has_window(data):
        values = pydicom.pixels.apply_rescale(values, data)
    if data.get("VOILUTSequence"):
        values, top = _through_table(values, data.VOILUTSequence[0], is_little)
    elif _has_window(data):
        with np.errstate(over="ignore"):  # of the exponential of a sigmoid
            black, white = pydicom.pixels.apply_windowing(np.array([-_FAR, _FAR]), data)
            return (pydicom.pixels.apply_windowing(values, data) - black) / (white - black)
    return values / top


def _through_table(values: np.ndarray, item: Any, is_little: bool) -> tuple[np.ndarray, float]:
    """Look values up in a table of the file, the ends of which stand for all beyond; and the largest it may hold.

    pydicom's own look-up wraps indices of tables with eight bits.
    """
    n_entries, first, n_bits = (int(each) for each in item.LUTDescriptor)
    n_entries = n_entries or 2**16
    table = item.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, np.uint8 if len(table) < 2 * n_entries else "<u2" if is_little else ">u2")
    table = np.asarray(table)[:n_entries]
    places = (np.floor(values) - first).clip(0, len(table) - 1).astype(np.int64)
    return table[places], 2.0**n_bits - 1
