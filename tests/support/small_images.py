"""Images that are made on the spot, whose rank is plain to see or hidden in noise, and one that no library writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np

NAMES = ["void", "dim", "mild", "light", "blank"]  # of the shades, from dark to bright


def shaded_images(labels, seed=0, size=(36, 44)):
    """Noise that is the brighter the higher the label, from 0 to 4; uint8 (n, H, W, 3)."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    noise = rng.integers(0, 60, (len(labels), *size, 3))
    return (noise + 45 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)


def barred_images(target, seed):
    """Noise with a bar whose place says the rank, which random weights hardly see: (n, 36, 44, 3), uint8."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 220, (len(target), 36, 44, 3), np.uint8)
    for image, rank in zip(images, target, strict=True):
        image[:, 4 + 8 * rank : 10 + 8 * rank] = rng.integers(120, 256, 3)
    return images


def transparent_png(width, height, colour_type, bits, rows, transparent):
    """A PNG with a transparent colour."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
