"""ICC profiles made from their definitions, and what they mean by the closed form: an oracle for conversions.

The layout is that of ICC.1:2010; primaries and curves are those of Display P3 and Adobe RGB (1998).
"""

from __future__ import annotations

import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = np.array([0.3127, 0.3290])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256


def _xyz(xy):
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def to_xyz(primaries):
    """Matrix from linear RGB to XYZ under D50, by Bradford's adaptation from D65."""
    columns = np.stack([_xyz(xy) for xy in primaries], axis=1)
    matrix = columns * np.linalg.solve(columns, _xyz(_D65))
    cones = (_BRADFORD @ D50) / (_BRADFORD @ _xyz(_D65))
    return np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ matrix


def srgb_decoded(values):
    """Linear light of values from 0 to 1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_encoded(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def in_srgb(pixels, primaries, gamma=None):
    """What colours of other primaries are in sRGB: uint8 in, float of 0 to 255 out; without gamma, sRGB's curve."""
    values = np.asarray(pixels) / 255
    light = srgb_decoded(values) if gamma is None else values**gamma
    light = light @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T
    return 255 * srgb_encoded(light)


def lab_in_srgb(lab):
    """What colours of L* a* b* (D50) are in sRGB, float of 0 to 255."""
    lab = np.asarray(lab, float)
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return 255 * srgb_encoded(xyz @ np.linalg.inv(to_xyz(SRGB)).T)


def _fixed(value):
    return struct.pack(">i", round(value * 65536))


def _xyz_tag(xyz):
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, xyz))


def _curve(gamma):
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, parameters))


def _profile(kind, space, connection, tags):
    text = "made by a test".encode("utf-16-be")
    words = b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text
    tags = {b"desc": words, b"cprt": words, b"wtpt": _xyz_tag(D50), **tags}
    place, entries, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        entries += struct.pack(">4sII", name, place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI12s4s",
        *(place + len(body), b"test", 0x04200000, kind, space, connection, 2026, 1, 1, 0, 0, 0),
        *(b"acsp", b"APPL", 0, b"test", b"test", 0, 0, b"".join(map(_fixed, D50)), b"test"),
    )
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + body


def matrix_profile(primaries, gamma=None):
    """Profile of a display with these primaries; without gamma, with sRGB's curve."""
    columns = to_xyz(primaries).T
    tags = {name + b"XYZ": _xyz_tag(column) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {name + b"TRC": _curve(gamma) for name in (b"r", b"g", b"b")})


def grey_profile(gamma=None):
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def ink_profile(lab):
    """Profile of a printer of four inks; `lab`, of shape (2, 2, 2, 2, 3), is what their 16 overprints look like."""
    lab = np.asarray(lab, float).reshape(16, 3)
    nodes = np.stack([lab[:, 0] * 255 / 100, lab[:, 1] + 128, lab[:, 2] + 128], -1).round().astype(np.uint8).tobytes()
    ramp = bytes(range(256))
    header = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + b"".join(map(_fixed, np.eye(3).ravel()))
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": header + 4 * ramp + nodes + 3 * ramp})
