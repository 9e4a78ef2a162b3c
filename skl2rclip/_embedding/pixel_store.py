"""Decoded training images where the steps of the second stage find them soonest, and the account of what they take.

On the device where they fit, else in memory, else in a temporary file; from there the next batch is copied while the
present one trains.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile

import numpy as np
import torch
from torch import Tensor

from skl2rclip._utils.devices import to_device
from skl2rclip._utils.forks import in_forked_child

# of the device's free memory; the rest is for weights, gradients, moments and activations
_SHARE_OF_DEVICE = 0.5


class _Account:
    """The bytes that decoded pixels take in this process, all threads together.

    `before_pixels` is called with the bytes that pixels leave to whatever else counts towards a bound, which is to drop
    the rest.
    """

    def __init__(self) -> None:
        self._shares: dict[object, int] = {}  # bytes of each store that is there
        self.before_pixels: Callable[[int], object] = lambda n_bytes: None
        # re-entrant: a store may be collected, and give its bytes back, at any moment
        self._lock = threading.RLock()

    @property
    def n_bytes(self) -> int:
        """What all stores take together."""
        return sum(list(self._shares.values()))

    def take(self, store: object, n_bytes: int, max_memory: int | None) -> bool:
        """Take bytes for as long as a store is there, and say whether they fit beside the other pixels.

        What is kept of embeddings is dropped for them.
        """
        with self._lock:
            if n_bytes > 0 and max_memory is not None and self.n_bytes + n_bytes > max_memory:
                return False
            share = object()
            # before they are taken: an interrupt between the two leaves nothing that is never given back
            weakref.finalize(store, self._shares.pop, share, None)
            self._shares[share] = n_bytes
        if max_memory is not None:
            self.before_pixels(max_memory - self.n_bytes)
        return True

    def after_fork(self) -> None:
        """Let go of a lock that another thread of the parent held."""
        self._lock = threading.RLock()


account = _Account()
in_forked_child(account.after_fork)


class PixelStore:
    """Uint8 images of a shape (n, H, W, 3) that are written once and read in batches on a device.

    Beside the pixels that are held already they take at most `max_memory` bytes; else they go to a temporary file,
    which has no name and vanishes with the store. `place` says where they are: "device", "memory" or "file".
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, max_memory: int | None):
        self.device = device
        n_bytes = int(np.prod(shape, dtype=np.int64))
        if not account.take(self, n_bytes, max_memory):
            self.place = "file"
            with TemporaryFile() as file:
                self._pixels = torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=shape))
            return
        if _fits(n_bytes, device):
            self.place = "device"
            self._pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        else:
            self.place = "memory"
            self._pixels = torch.empty(shape, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def write(self, rows: np.ndarray, pixels: np.ndarray) -> None:
        """Put images into their places, `rows` of int."""
        if len(rows):
            self._pixels[torch.from_numpy(rows).to(self._pixels.device)] = torch.from_numpy(pixels).to(
                self._pixels.device
            )

    def batches(self, batches: Iterator[Tensor] | list[Tensor]) -> Iterator[Tensor]:
        """Read batches (batch, H, W, 3) onto the device; their rows are on the CPU."""
        if self.place == "device":
            for rows in batches:
                yield self._pixels.index_select(0, to_device(rows, self.device))
            return
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for rows in batches:
                following = pool.submit(self._copy, rows, stream)
                if waiting is not None:
                    yield _received(*waiting.result())
                waiting = following
            if waiting is not None:
                yield _received(*waiting.result())

    def _copy(self, rows: Tensor, stream: torch.cuda.Stream | None) -> tuple[Tensor, torch.cuda.Event | None]:
        batch = self._pixels.index_select(0, rows)
        if stream is None:
            return to_device(batch, self.device), None
        with torch.cuda.stream(stream):
            return to_device(batch, self.device), stream.record_event()


def _received(batch: Tensor, copied: torch.cuda.Event | None) -> Tensor:
    """Let the device's present work wait for the copy, and keep the memory until that work is done."""
    if copied is not None:
        present = torch.cuda.current_stream(batch.device)
        present.wait_event(copied)
        batch.record_stream(present)
    return batch


def _fits(n_bytes: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return n_bytes <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]
    return device.type == "cpu"
