"""What images take in memory while they are decoded, measured, beside the bound that `decoding_bytes` puts on it.

python tools/measure_decoding.py --side 2048
"""

from __future__ import annotations

import argparse
import ctypes
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from skl2rclip._images.decoding import open_image
from skl2rclip._images.header import open_header
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.memory import decoding_bytes

# what libraries allocate once
_SLACK = 4_000_000


def in_child(work: Callable[[], object]) -> str:
    """Run something in a process of its own; return what it returns, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(work()).encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}"[:200].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that the resident memory of this process grows by at most, while something is done another time."""
    work()  # what it needs of libraries is in memory from then on
    ctypes.CDLL(None).malloc_trim(0)  # what is free is not to be taken for what is needed
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _kilobytes("VmRSS")
    result = work()
    peak = _kilobytes("VmHWM")
    del result
    return 1024 * (peak - before)


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def images(side: int) -> dict[str, Image.Image]:
    """One image of each mode: colours in patches, with some noise."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (side // 16 + 1, side // 16 + 1, 4), dtype=np.uint8)
    pixels = patches.repeat(16, axis=0).repeat(16, axis=1)[:side, :side]
    pixels = (pixels // 2 + rng.integers(0, 64, pixels.shape, dtype=np.uint8)).astype(np.uint8)
    colour, grey = Image.fromarray(pixels), pixels[..., 0]
    palette = colour.convert("RGB").quantize(64)
    return {
        **{mode: colour.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA")},
        "P": palette,
        "CMYK": colour.convert("RGB").convert("CMYK"),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
        "I": Image.fromarray(grey.astype(np.int32) * 257),
        "F": Image.fromarray(grey.astype(np.float32)),
    }


def variants() -> Iterator[tuple[str, str, dict]]:
    """Name, format and options of everything that is measured."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("PNG", "BMP", "GIF", "JPEG2000", "PPM", "TGA", "SGI", "PCX", "IM", "DDS", "QOI", "SPIDER"):
        yield name, name, {}
    yield "PNG turned", "PNG", {"exif": turned}
    for chroma in ("4:4:4", "4:2:0"):
        yield f"JPEG {chroma}", "JPEG", {"subsampling": chroma}
        yield f"JPEG {chroma} progressive", "JPEG", {"subsampling": chroma, "progressive": True}
        yield f"AVIF {chroma}", "AVIF", {"subsampling": chroma, "speed": 10}
    yield "JPEG turned", "JPEG", {"exif": turned}
    yield "JPEG turned progressive", "JPEG", {"exif": turned, "progressive": True, "subsampling": "4:4:4"}
    yield "WEBP", "WEBP", {"method": 0}
    yield "WEBP lossless", "WEBP", {"lossless": True, "method": 0}
    yield "WEBP turned", "WEBP", {"method": 0, "exif": turned}
    yield "WEBP animated", "WEBP", {"method": 0, "save_all": True, "append_images": [Image.new("RGB", (9, 9))]}
    yield "PNG transparent", "PNG", {"transparency": 0}
    yield "JPEG2000 in tiles", "JPEG2000", {"tile_size": (256, 256)}
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        yield f"TIFF {compression}", "TIFF", {"compression": compression}
    yield "TIFF in one strip", "TIFF", {"compression": "tiff_lzw", "strip_size": 2**31}
    yield "DICOM", "DICOM", {}
    yield "DICOM with a window", "DICOM", {"WindowCenter": 2048, "WindowWidth": 4096}
    yield "TIFF turned", "TIFF", {"compression": "tiff_lzw", "exif": turned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="pixels of width and height")
    parser.add_argument("--only", default="", help="what the name starts with")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    n_pixels = arguments.side**2
    with TemporaryDirectory() as folder:
        path = Path(folder, "image")
        in_child(
            lambda: [image.save(Path(folder, mode + ".mode"), "TIFF") for mode, image in images(arguments.side).items()]
        )
        print(f"{'format':28} {'mode':5} {'file':>6} {'bound':>6} {'measured':>8}  bytes a pixel")
        for name, kind, options in variants():
            for given in sorted(Path(folder).glob("*.mode")) if name.startswith(arguments.only) else ():
                saved = in_child(lambda given=given, kind=kind, options=options: _save(given, path, kind, options))
                if saved != "written":
                    continue
                content = path.read_bytes()
                opened = open_header(io.BytesIO(content)).image
                bound = decoding_bytes(opened)
                measured = in_child(lambda: peak_of(lambda: open_image(path, white=WhiteLevel(65535))))
                row = f"{name:28} {opened.mode:5} {len(content) / n_pixels:6.2f} {bound / n_pixels:6.2f}"
                if measured.isdigit():
                    remark = "TOO LOW" if bound + _SLACK < int(measured) else ""
                    measured = f"{int(measured) / n_pixels:8.2f}  {remark}"
                print(f"{row} {measured}", flush=True)


def _save(given: Path, path: Path, kind: str, options: dict) -> str:
    image = Image.open(given)
    if kind == "DICOM":
        _save_dicom(image, path, options)
    else:
        image.save(path, kind, **options)
    return "written"


def _save_dicom(image: Image.Image, path: Path, attributes: dict) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

    if image.mode not in ("L", "I;16", "RGB"):
        raise ValueError(f"no DICOM file of mode {image.mode}")
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    values = np.asarray(image)
    photometric = "YBR_FULL" if image.mode == "RGB" else "MONOCHROME2"
    data.set_pixel_data(values, photometric, 8 * values.dtype.itemsize)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)


if __name__ == "__main__":
    main()
