"""DICOM files that are made on the spot."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def dicom_of(values, syntax=ExplicitVRLittleEndian, **tags):
    """A data set of one image: unsigned or signed integers, grey or RGB; an attribute of None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bits = 8 * values.dtype.itemsize
    attributes = {
        "Modality": "OT",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": values.shape[2] if values.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if values.ndim == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": (tags.get("BitsStored") or bits) - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "PixelData": values.tobytes() + b"\0" * (values.nbytes % 2),
        **({"PlanarConfiguration": 0} if values.ndim == 3 else {}),
        **tags,
    }
    for name, value in attributes.items():
        if value is not None:
            setattr(data, name, value)
    return data


def write_dicom(path, values, *arguments, **tags):
    """Write a file, and return its path."""
    dicom_of(values, *arguments, **tags).save_as(path, enforce_file_format=True)
    return str(path)
