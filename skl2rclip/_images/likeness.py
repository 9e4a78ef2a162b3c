"""How alike two images are to look at, whatever their files are: digests of their pixels, and perceptual hashes.

The hashes are those of ImageHash. Which images are worth comparing is not known here.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import product

import numpy as np
import scipy.fft
from PIL import Image

from skl2rclip._images.levels import bands_of

# bits along a side of a hash: 256 of them tell leaves apart that differ little in 64
_HASH_SIDE = 16
# how many times as many pixels along a side are transformed
_HIGHFREQ_FACTOR = 2
_GREY_SIDE, _TEXTURE_SIDE, _COLOUR_SIDE = 64, 16, 8
_HASH_BYTES = _HASH_SIDE**2 // 8
# shares of the sides that a copy may have lost, from all four alike, and from each by itself
_ALIKE = (0.0, 0.025, 0.05)
# from the beginning and the end of one side
_ENDS = tuple(product(_ALIKE, repeat=2))
# a brighter or darker copy is not further from the other than this factor
_MAX_GAIN = 1.25
# mean square root of what colours may differ by, of 1
_MAX_COLOUR = 0.1
# angle between the low frequencies of two images that counts as one tenth of the bits
_ANGLE_SCALE = 0.1 / np.arccos(0.99)
# a mirror image has each second frequency along x with the other sign
_MIRRORING = np.where(np.arange(_HASH_SIDE) % 2, np.float32(-1), np.float32(1))
# how many bits are set in each number of sixteen
_N_ONES = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint8)

# what is kept of an image to compare it with others, 4.5 kB
APPEARANCE = np.dtype(
    [
        ("digest", np.uint8, (16,)),  # of size and pixels: equal where every pixel is
        ("grey", np.uint8, (_GREY_SIDE, _GREY_SIDE)),
        ("colour", np.uint8, (_COLOUR_SIDE, _COLOUR_SIDE, 3)),
        ("hashes", np.uint8, (2, len(_ALIKE), _HASH_BYTES)),  # as it is and mirrored, cropped by `_ALIKE`
    ]
)
# to be raised where an image looks otherwise than before
VERSION = "appearance 1"


def appearance_of(image: Image.Image) -> np.ndarray:
    """Look at an RGB image, which is left as it is: ndarray of shape (), `APPEARANCE`."""
    digest = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
    for band in bands_of(image.size):
        digest.update(image.crop(band).tobytes())
    small = image.resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    appearance = np.zeros((), APPEARANCE)
    appearance["digest"] = np.frombuffer(digest.digest(), np.uint8)
    appearance["grey"] = np.asarray(small.convert("L"))
    appearance["colour"] = np.asarray(small.reduce(_GREY_SIDE // _COLOUR_SIDE))
    appearance["hashes"] = _hashes(appearance["grey"])
    return appearance


def _hashes(grey: np.ndarray) -> np.ndarray:
    """Hash an image, and its mirror image, without the same share of each side: (2, crops, 32), uint8."""
    from imagehash import phash  # of an extra

    side = _HASH_SIDE * _HIGHFREQ_FACTOR
    views = (Image.fromarray(grey), Image.fromarray(grey[:, ::-1].copy()))
    hashes = []
    for view, share in product(views, _ALIKE):
        low, high = share * _GREY_SIDE, (1 - share) * _GREY_SIDE
        part = view.resize((side, side), Image.Resampling.LANCZOS, box=(low, low, high, high))
        hashes.append(phash(part, _HASH_SIDE, _HIGHFREQ_FACTOR).hash.ravel())
    return np.packbits(hashes, axis=-1).reshape(2, len(_ALIKE), _HASH_BYTES)


def hashes_of_crops(grey: np.ndarray) -> np.ndarray:
    """Hash images under every crop that is tried: ndarray of shape (n, 2, 81, 32), uint8.

    These are the bits of ImageHash, but for what it loses where it rounds pixels. Resizing and the cosine transform are
    linear, so that both are one product with a matrix from each side; mirrored, the two ends have changed places.

    Parameters
    ----------
    grey : ndarray of shape (n, 64, 64), uint8
    """
    transforms = _transforms()  # (9, 16, 64)
    rows = np.einsum("vfy,nyx->nvfx", transforms, grey.astype(np.float32), optimize=True)
    plain = np.einsum("nvfx,hgx->nvhfg", rows, transforms, optimize=True)  # (n, 9, 9, 16, 16)
    swapped = [_ENDS.index((end, start)) for start, end in _ENDS]
    views = np.stack([plain, plain[:, :, swapped] * _MIRRORING], axis=1)
    flat = views.reshape(len(grey), 2, len(_ENDS) ** 2, _HASH_SIDE**2)
    return np.packbits(flat > np.median(flat, axis=-1, keepdims=True), axis=-1)


@cache
def _transforms() -> np.ndarray:
    """Matrices from a side's pixels to the low frequencies of what `_ENDS` leave of it: (9, 16, 64), float32."""
    side = _HASH_SIDE * _HIGHFREQ_FACTOR
    resizings = [_resizing(side, start, end) for start, end in _ENDS]
    return np.stack([scipy.fft.dct(each, axis=0)[:_HASH_SIDE] for each in resizings])


def _resizing(side: int, start: float, end: float) -> np.ndarray:
    """Matrix by which Pillow resizes columns of pixels without shares of their ends, ndarray of shape (side, 64)."""
    box = (0, start * _GREY_SIDE, _GREY_SIDE, (1 - end) * _GREY_SIDE)
    unit = Image.fromarray(np.eye(_GREY_SIDE, dtype=np.float32))
    return np.asarray(unit.resize((_GREY_SIDE, side), Image.Resampling.LANCZOS, box=box))


def frequencies_of(grey: np.ndarray) -> np.ndarray:
    """Low frequencies of images without the same share of each side, and mirrored: (n, 2, 3, 255), float32, unit rows.

    Their signs make the hash, but for the median. Without the mean, so that brightness does not count.

    Parameters
    ----------
    grey : ndarray of shape (n, 64, 64), uint8
    """
    even = _transforms()[[_ENDS.index((share, share)) for share in _ALIKE]]
    plain = np.einsum("cfy,nyx,cgx->ncfg", even, grey.astype(np.float32), even, optimize=True)
    views = np.stack([plain, plain * _MIRRORING], axis=1).reshape(len(grey), 2, len(_ALIKE), -1)[..., 1:]
    return views / np.maximum(np.linalg.norm(views, axis=-1, keepdims=True), 1e-3)


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least angle between frequencies of pairs of images, on the scale of `differing_bits`: (pairs,).

    Of two normal variables of correlation r, the share arccos(r) / pi of signs differ. Bits count all frequencies
    alike, and angles the low ones, which different images share more often: a correlation of 0.99 is a tenth.

    Parameters
    ----------
    a, b : ndarray of shape (pairs, 2, crops, 255), float32
        As `frequencies_of` returns them.
    """
    beside = np.concatenate(
        [np.einsum("pvcf,pf->pvc", a, b[:, 0, 0]), np.einsum("pvf,pcf->pvc", a[:, :, 0], b[:, 0])], axis=1
    )
    return _ANGLE_SCALE * np.arccos(np.clip(beside.max(axis=(1, 2)), -1, 1))


def textures_of(grey: np.ndarray) -> np.ndarray:
    """Small images without brightness and contrast: whole, a little cropped, and both mirrored, (n, 4, 256), float32.

    Parameters
    ----------
    grey : ndarray of shape (n, 64, 64), uint8
    """
    matrices = np.stack([_resizing(_TEXTURE_SIDE, share, share) for share in _ALIKE[:2]])
    small = np.einsum("cay,nyx,cbx->ncab", matrices, grey.astype(np.float32), matrices, optimize=True)
    parts = np.concatenate([small, small[..., ::-1]], axis=1).reshape(len(grey), 4, _TEXTURE_SIDE**2)
    centred = parts - parts.mean(axis=-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1.0)


def differing_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least share of bits in which hashes of pairs of images differ, ndarray of shape (pairs,).

    Either may be the mirror image of the other, and a cropped part of it.

    Parameters
    ----------
    a, b : ndarray of shape (pairs, 2, crops, 32), uint8
        As `hashes_of_crops` returns them.
    """
    # each crop of a, as it is and mirrored, beside the whole of b, and the whole of a beside each crop of b
    beside = np.concatenate([a ^ b[:, :1, :1], a[:, :, :1] ^ b[:, :1]], axis=1)
    ones = _N_ONES[np.ascontiguousarray(beside).view(np.uint16)]
    return ones.sum(axis=-1, dtype=np.uint16).min(axis=(1, 2)) / _HASH_SIDE**2


def have_like_colours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether colours agree but for brightness, which hashes do not see, in any of the two directions: (pairs,), bool.

    Parameters
    ----------
    a, b : ndarray of shape (pairs, 8, 8, 3), uint8
    """
    one, other = (each.astype(np.float32) / 255 for each in (a, b))
    return np.minimum(_colour_distance(one, other), _colour_distance(one[:, :, ::-1], other)) <= _MAX_COLOUR


def _colour_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    axes = (1, 2, 3)
    gain = (a * b).sum(axis=axes, keepdims=True) / np.maximum((b * b).sum(axis=axes, keepdims=True), 1e-6)
    return np.sqrt(np.mean((a - np.clip(gain, 1 / _MAX_GAIN, _MAX_GAIN) * b) ** 2, axis=axes))
