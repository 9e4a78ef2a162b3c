"""What a store of embeddings must do, and which store a value of `embedding_cache` names.

A store keeps rows for several processes, in whatever place. A new kind is a class with these methods and a line in
`opened_store`; `tests/embedding/test_stores.py` says what holds of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from skl2rclip._embedding.store import EmbeddingStore


class Store(Protocol):
    """What `EmbeddingCache` asks of a store.

    Whatever goes wrong with its place costs a warning and computing the embeddings, never a fit: no method raises for
    it. What is read back is what was written, or missing.
    """

    @property
    def identity(self) -> Hashable:
        """What two objects for the same place share, and no others."""
        ...

    def lookup(self, keys: Collection[bytes], width: int | None = None, n_halves: int = 0) -> dict[bytes, np.ndarray]:
        """Return the rows that are there, float32, by key; with `width`, only those that `is_sound` confirms."""
        ...

    def put(self, rows: Mapping[bytes, np.ndarray]) -> bool:
        """Write rows of float32, all or none, and withdraw the claims on them; return whether they were written."""
        ...

    def owner(self) -> AbstractContextManager[str]:
        """Name an owner of claims, who counts as alive until the end of the block or of the process."""
        ...

    def claim(self, keys: Sequence[bytes], owner: str, width: int | None = None, n_halves: int = 0) -> list[bytes]:
        """Say that `owner` computes these rows; return the keys that are neither there nor claimed by the living."""
        ...

    def withdraw(self, owner: str) -> None:
        """Withdraw all claims of `owner`."""
        ...

    def digests_of(self, stamps: Mapping[str, str]) -> dict[str, bytes]:
        """Content digests, by path, of the files that still bear the stamp that they were read with."""
        ...

    def remember_files(self, files: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep path, stamp and content digest of files that could be decoded."""
        ...


def opened_store(place: str | os.PathLike | None) -> Store | None:
    """Make the store that a value of `embedding_cache` names; None for none."""
    return None if place is None else EmbeddingStore(place)
