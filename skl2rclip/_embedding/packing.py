"""How an embedding and the features behind it are kept: float32 as it is, and numbers of half precision.

A packed row is an array of float32 again, for whoever keeps rows: two halves share a column, and only its bytes count.
"""

from __future__ import annotations

import numpy as np

_UNIT_TOLERANCE = 1e-3


def pack(row: np.ndarray, width: int) -> np.ndarray:
    """Pack a row (W,) of an embedding of so many columns and features that have been rounded to half precision."""
    halves = row[width:].astype(np.float16)
    if len(halves) % 2:
        halves = np.append(halves, np.float16(0))
    return np.concatenate([row[:width].astype(np.float32, copy=False), halves.view(np.float32)])


def unpack(packed: np.ndarray, width: int, n_halves: int) -> np.ndarray:
    """Undo `pack`: a row (W,), float32, with `n_halves` features."""
    return np.concatenate([packed[:width], _halves(packed, width)[:n_halves].astype(np.float32)])


def is_sound(packed: np.ndarray, width: int, n_halves: int = 0) -> bool:
    """Whether this is an embedding of such a width and unit length, and as many finite features behind it."""
    if len(packed) != width + (n_halves + 1) // 2:
        return False
    embedding = packed[:width]
    # the length of what is not finite is no number near one
    is_unit = abs(float(embedding @ embedding) - 1) < _UNIT_TOLERANCE
    return is_unit and (not n_halves or bool(np.isfinite(_halves(packed, width)).all()))


def _halves(packed: np.ndarray, width: int) -> np.ndarray:
    return packed[width:].view(np.float16)
