"""Damaged images of all formats, read as the library reads them: nothing may crash, hang, or fill the memory.

python tools/fuzz_images.py --count 30000 --seed 0
"""

from __future__ import annotations

import argparse
import io
import json
import os
import select
import signal
import struct
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

try:
    import resource
except ImportError:  # Windows
    resource = None

import numpy as np
from PIL import Image, ImageCms

from skl2rclip._images.decoding import Decoder, find_unreadable
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip.errors import UnreadableImagesError

SIZES = [
    Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3, resize_mode=mode) for mode in ("shortest", "longest", "squash")
]
# one process reads so many files
_BATCH = 500
_MAX_SECONDS = 60


@dataclass
class Tally:
    """What became of the files of one format."""

    files: int = 0
    read: int = 0
    refused: int = 0
    exceptions: int = 0
    crashes: int = 0
    slowest: float = 0.0
    most_bytes: int = 0


# ------------------------------------------------------------------- images


def whole_images(rng: np.random.Generator) -> list[tuple[str, bytes]]:
    """Small images of every format, mode and option that Pillow can write: name of the format, content."""
    Image.init()
    found = []
    for width, height in ((1, 1), (7, 40), (33, 20)):
        for image in _modes(rng, width, height):
            for kind in sorted(set(Image.SAVE) - {"PDF", "PALM"}):
                for options in _options(kind, image):
                    file = io.BytesIO()
                    try:
                        image.save(file, kind, **options)
                    except Exception:  # noqa: S112 - of this mode it cannot be
                        continue
                    found.append((kind, file.getvalue()))
    grey = np.arange(64, dtype=np.uint8).tobytes()
    found += [("FITS", _fits(zipped=False)), ("FITS", _fits(zipped=True)), ("PSD", _psd(grey)), ("XPM", _XPM)]
    return found


def _modes(rng: np.random.Generator, width: int, height: int) -> Iterator[Image.Image]:
    pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    yield from (colour.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA"))
    yield from (colour.convert("RGB").convert(mode) for mode in ("CMYK", "YCbCr"))
    yield colour.convert("RGB").quantize(16)
    grey = pixels[..., 0]
    yield from (Image.fromarray(grey.astype(dtype)) for dtype in (np.uint16, np.int32, np.float32))


def _options(kind: str, image: Image.Image) -> list[dict]:
    turned = Image.Exif()
    turned[0x0112] = 6
    # a profile that is not sRGB: the primaries are not where they should be
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    options: dict[str, list[dict]] = {
        "JPEG": [{"progressive": True}, {"exif": turned}, {"icc_profile": profile}],
        "PNG": [
            {"exif": turned},
            {"icc_profile": profile},
            {"transparency": 0},
            {"save_all": True, "append_images": [image]},
        ],
        "GIF": [{"transparency": 0}, {"interlace": 1}, {"save_all": True, "append_images": [image.rotate(90)]}],
        "WEBP": [
            {"lossless": True},
            {"exif": turned},
            {"lossless": True, "icc_profile": profile},
            {"save_all": True, "append_images": [image.rotate(90)]},
        ],
        "TIFF": [
            *({"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
            # of other modes libtiff refuses these, before Pillow 13 by writing beyond its memory
            *([{"compression": "group4"}] if image.mode == "1" else []),
            *([{"compression": "jpeg"}] if image.mode in ("L", "RGB", "CMYK", "YCbCr") else []),
            {"exif": turned},
            {"icc_profile": profile},
            {"tiffinfo": {322: 16, 323: 16}, "compression": "tiff_lzw"},
        ],
        "JPEG2000": [{"tile_size": (16, 16)}, {"irreversible": True}],
        "AVIF": [{"speed": 10}],
        "TGA": [{"compression": "tga_rle"}],
        "BLP": [{"blp_version": "BLP1"}],
        "DDS": [{"pixel_format": name} for name in ("DXT1", "DXT5", "BC5")],
    }
    return [{"speed": 10}] if kind == "AVIF" else [{}, *options.get(kind, [])]


def _fits(zipped: bool) -> bytes:
    import gzip

    cards = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 8", "NAXIS2  = 8"]
    header = "".join(card.ljust(80) for card in [*cards, "END"]).ljust(2880).encode()
    if not zipped:
        return header + bytes(64)
    cards = ["XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 8", "NAXIS2  = 8"]
    cards += ["ZIMAGE  = T", "ZCMPTYPE= 'GZIP_1  '", "ZBITPIX = 8", "ZNAXIS  = 2", "ZNAXIS1 = 8", "ZNAXIS2 = 8", "END"]
    table = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    empty = (
        "".join(card.ljust(80) for card in ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0", "END"]).ljust(2880).encode()
    )
    return empty + table + bytes(64) + gzip.compress(bytes(256))


def _psd(grey: bytes) -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 1, 8, 8, 8, 1) + bytes(12) + struct.pack(">H", 0) + grey


_XPM = b'/* XPM */\nstatic char *a[] = {\n"4 2 2 1",\n"a c #000000",\n"b c #ffffff",\n"abab",\n"baba"\n};\n'


# ------------------------------------------------------------------- mutation


def damaged(whole: list[tuple[str, bytes]], rng: np.random.Generator) -> tuple[str, bytes]:
    """One of the images, changed in one to three ways."""
    kind, content = whole[rng.integers(len(whole))]
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        change = rng.choice(["flip", "cut", "double", "inflate", "splice"], p=[0.35, 0.1, 0.1, 0.35, 0.1])
        changed = _CHANGES[change](changed, rng, whole)
    if kind == "PNG" and rng.random() < 0.7:  # else every change ends at a check sum
        _mend_check_sums(changed)
    return kind, bytes(changed)


def _flip(content: bytearray, rng: np.random.Generator, _: object) -> bytearray:
    for place in rng.integers(0, max(1, len(content)), rng.integers(1, 10)) if content else ():
        content[place] = rng.integers(256)
    return content


def _cut(content: bytearray, rng: np.random.Generator, _: object) -> bytearray:
    return content[: rng.integers(len(content) + 1)]


def _double(content: bytearray, rng: np.random.Generator, _: object) -> bytearray:
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _inflate(content: bytearray, rng: np.random.Generator, _: object) -> bytearray:
    """Put a large number into the header, as a width or a length may stand there."""
    number = int(rng.choice([255, 4096, 13_000, 30_000, 65_535, 100_000, 10**7, 2**31 - 1, 2**32 - 1]))
    form = str(rng.choice(["<H", ">H", "<I", ">I"]))
    size = struct.calcsize(form)
    if len(content) > size:
        place = int(rng.integers(0, min(len(content) - size, 200)))
        content[place : place + size] = struct.pack(form, min(number, 256**size - 1))
    return content


def _splice(content: bytearray, rng: np.random.Generator, whole: list[tuple[str, bytes]]) -> bytearray:
    other = whole[rng.integers(len(whole))][1]
    return content[: rng.integers(len(content) + 1)] + other[rng.integers(len(other) + 1) :]


_CHANGES = {"flip": _flip, "cut": _cut, "double": _double, "inflate": _inflate, "splice": _splice}


def _mend_check_sums(content: bytearray) -> None:
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(content):
            return
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4


# -------------------------------------------------------------------- reading


def read(path: Path, max_memory: int) -> str:
    """Put one file through the library's own path: "read", "refused: ..." with the reason, or "exception: ..."."""
    try:
        images = stamped([path])
        failures = find_unreadable(images, n_jobs=1, max_memory=max_memory)
        if not failures:
            with ThreadPoolExecutor(1) as pool:
                decoder = Decoder(images, SIZES, pool, max_memory, WhiteLevel(65535))
                decoder.start([0])()
            failures = decoder.failures
        if failures:
            raise UnreadableImagesError(failures, images, 1)
    except UnreadableImagesError as error:
        return "refused: " + error.failures[0]
    except BaseException as error:
        return f"exception: {type(error).__name__}: {error}"
    return "read"


def _read_in_child(files: list[bytes], folder: Path, max_memory: int, address_space: int) -> Iterator[tuple]:
    """Read files in a process of its own, whose end ends nothing else: outcome, seconds and bytes of each."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(files, folder, max_memory, address_space, writer)
    os.close(writer)
    outcome = "crash"
    with os.fdopen(reader) as pipe:
        while True:
            if not select.select([pipe], [], [], _MAX_SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
                outcome = f"crash: not done after {_MAX_SECONDS} s"
                break
            line = pipe.readline()
            if not line:
                break
            yield tuple(json.loads(line))
    status = os.waitpid(child, 0)[1]
    if status:
        yield f"{outcome} (status {status})", 0.0, 0


def _work(files: list[bytes], folder: Path, max_memory: int, address_space: int, writer: int) -> None:
    try:
        warnings.simplefilter("ignore")
        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + address_space,) * 2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # what libtiff says of damaged files
        for content in files:
            path = folder / "image"
            path.write_bytes(content)
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            before, start = _kilobytes("VmRSS"), time.perf_counter()
            outcome = read(path, max_memory)
            seconds, grown = time.perf_counter() - start, 1024 * (_kilobytes("VmHWM") - before)
            os.write(writer, (json.dumps([outcome[:300], seconds, grown]) + "\n").encode())
    except BaseException:
        os._exit(1)
    os._exit(0)


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def fuzz(
    count: int, seed: int, max_memory: int = 10**8, address_space: int = 3 * 10**9, keep: Path | None = None
) -> tuple[dict[str, Tally], list[str]]:
    """Read damaged images.

    Returns
    -------
    tallies : dict of str to Tally
        By format.
    remarks : list of str
        What was no plain reading or refusal: exceptions, crashes.
    """
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = whole_images(rng)
    SIZES[0].resizer()  # what this imports is not to be imported by each child
    tallies: dict[str, Tally] = defaultdict(Tally)
    remarks: list[str] = []
    with TemporaryDirectory() as folder:
        for start in range(0, count, _BATCH):
            batch = [damaged(whole, rng) for _ in range(min(_BATCH, count - start))]
            done = 0
            while done < len(batch):
                rest = [content for _, content in batch[done:]]
                for outcome, seconds, grown in _read_in_child(rest, Path(folder), max_memory, address_space):
                    kind, content = batch[done]
                    done += 1
                    _count(tallies[kind], outcome, seconds, grown)
                    is_plain = outcome == "read" or outcome.startswith("refused")
                    if not is_plain:
                        remarks.append(f"{kind}, file {start + done - 1} of seed {seed}: {outcome}")
                    if keep is not None and (not is_plain or seconds > 5 or grown > 1.2 * max_memory):
                        (keep / f"{seed}-{start + done - 1}.{kind.lower()}").write_bytes(content)
    return dict(sorted(tallies.items())), remarks


def _count(tally: Tally, outcome: str, seconds: float, grown: int) -> None:
    tally.files += 1
    tally.read += outcome == "read"
    tally.refused += outcome.startswith("refused")
    tally.exceptions += outcome.startswith("exception")
    tally.crashes += outcome.startswith("crash")
    tally.slowest = max(tally.slowest, seconds)
    tally.most_bytes = max(tally.most_bytes, grown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-memory", type=int, default=10**8, help="bytes that an image may take decoded")
    parser.add_argument("--keep", type=Path, help="folder for the files that crash, take 5 s, or more than the bound")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    tallies, remarks = fuzz(arguments.count, arguments.seed, arguments.max_memory, keep=arguments.keep)
    print(
        f"{'format':9} {'files':>6} {'read':>6} {'refused':>7} {'other':>5} {'crash':>5} {'slowest':>9} {'memory':>11}"
    )
    for kind, tally in tallies.items():
        print(
            f"{kind:9} {tally.files:6} {tally.read:6} {tally.refused:7} {tally.exceptions:5} {tally.crashes:5} "
            f"{tally.slowest:7.2f} s {tally.most_bytes / 1e6:8.1f} MB"
        )
    print(f"{arguments.count / (time.perf_counter() - begun) * 60:.0f} files a minute")
    print(*remarks, sep="\n")


if __name__ == "__main__":
    main()
