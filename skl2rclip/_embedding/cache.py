"""Embeddings of images that have passed a frozen tower: those of this process, and those of a folder for all.

What an image is called here depends on its content, the backbone, the preprocessing and the precision. Files whose
stamp has not changed since they were read are not read again. No tower is known here.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType

import numpy as np
from PIL import Image
from PIL import ImageFile as PillowFile

from skl2rclip._embedding.packing import pack, unpack
from skl2rclip._embedding.pixel_store import account
from skl2rclip._embedding.store import digest_of, digest_of_array
from skl2rclip._embedding.stores import Store, opened_store
from skl2rclip._images.color import can_convert
from skl2rclip._images.crops import edges_of
from skl2rclip._images.decoding import open_image
from skl2rclip._images.files import ImageFile, ImageLike
from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._images.memory import MemoryTicket
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._images.views import VERSION as _VIEWS
from skl2rclip._utils.forks import in_forked_child

_DEFAULT_MEMORY = 500 * 10**6
_MAX_KNOWN_FILES = 500_000
# to be raised where the same file is decoded to other pixels than before
_DECODING = "decoding 4"
# to be raised where the same tower is read as other features than before
_READING = "features 1"
_N_SUFFIX = 8


class _Memory:
    """What this process knows: rows by key, claims on keys by the threads that compute them, and digests of files.

    The least recently used rows are dropped first.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._n_bytes = 0
        self._computing: dict[bytes, str] = {}
        self._files: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._stored: dict[Hashable, set[bytes]] = {}

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        found = {}
        with self._lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
                    found[key] = self._rows[key]
        return found

    def put(self, rows: Mapping[bytes, np.ndarray], max_memory: int | None) -> None:
        with self._lock:
            for key, row in rows.items():
                if key not in self._rows:
                    kept = np.array(row, np.float32)  # not a view that keeps a whole batch alive
                    self._rows[key] = kept
                    self._n_bytes += kept.nbytes
                self._computing.pop(key, None)
            # asked for under the lock: pixels that come later shrink what is here then
            self.shrink(_DEFAULT_MEMORY if max_memory is None else max_memory - account.n_bytes)

    def shrink(self, n_bytes: int) -> None:
        """Drop the oldest rows until no more than this is left of them."""
        with self._lock:
            while self._rows and self._n_bytes > n_bytes:
                self._n_bytes -= self._rows.popitem(last=False)[1].nbytes

    def claim(self, keys: Iterable[bytes], owner: str) -> list[bytes]:
        with self._lock:
            free = [key for key in keys if key not in self._rows and key not in self._computing]
            self._computing.update(dict.fromkeys(free, owner))
        return free

    def withdraw(self, owner: str, keys: Collection[bytes] | None = None) -> None:
        with self._lock:
            for key in [key for key, other in self._computing.items() if other == owner]:
                if keys is None or key in keys:
                    del self._computing[key]

    def digests_of(self, stamps: Mapping[str, str]) -> dict[str, bytes]:
        """Content digests, by path, of files that still bear the stamp that they were read with."""
        with self._lock:
            return {stamp[0]: self._files[stamp] for stamp in stamps.items() if stamp in self._files}

    def remember_files(self, digests: Mapping[tuple[str, str], bytes]) -> None:
        """Keep content digests by path and stamp."""
        with self._lock:
            self._files.update(digests)
            while len(self._files) > _MAX_KNOWN_FILES:
                self._files.popitem(last=False)

    def stored_in(self, store: Store) -> set[bytes]:
        """Keys of rows that this process has seen or put in a store."""
        keys = self._stored.setdefault(store.identity, set())
        if len(keys) > _MAX_KNOWN_FILES:
            keys.clear()
        return keys

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()
            self._stored.clear()
            self._n_bytes = 0

    def after_fork(self) -> None:
        """Keep what is known, and nothing that other threads of the parent were about to do."""
        self._lock = threading.RLock()
        self._computing.clear()  # the threads that compute it are not in this process
        self._n_bytes = sum(row.nbytes for row in self._rows.values())  # the fork may have come between two lines


_memory = _Memory()
account.before_pixels = _memory.shrink
in_forked_child(_memory.after_fork)


def forget_embeddings() -> None:
    """Drop the embeddings that this process keeps in memory; those in folders stay."""
    _memory.clear()


def known_digests(images: Sequence[ImageLike], folder: str | os.PathLike | None) -> dict[str, bytes]:
    """Digests, by location, of the files that are as this process, or one with this folder, has decoded them."""
    return _known_digests(images, opened_store(folder))


def _known_digests(images: Sequence[ImageLike], store: Store | None) -> dict[str, bytes]:
    stamps = {image.location: image.stamp for image in images if isinstance(image, ImageFile) and image.stamp}
    digests = _memory.digests_of(stamps)
    rest = {path: stamp for path, stamp in stamps.items() if path not in digests}
    if store is not None and rest:
        stored = store.digests_of(rest)
        _memory.remember_files({(path, rest[path]): digest for path, digest in stored.items()})
        digests |= stored
    return digests


class EmbeddingCache:
    """The embeddings of one frozen tower: those of this process, and those in a folder where one is given.

    To be used in a ``with`` block, which ends the claims on what was not computed after all. Where the `width` D is
    given, a stored row that is not of this width, or not of unit length, is computed again. `max_memory` bounds
    embeddings in this process together with the pixels that are held there; by default they are 500 MB, whatever the
    pixels take. What is decoded with another white level has other keys.

    With `blocks`, names and widths of features, a row is an embedding with these behind it. Such rows have keys of
    their own; their features are kept in half precision, to which they are to be rounded before; and the embedding is
    kept by itself too, for whoever wants no more of the image: `embeddings_alone` says that the caller does not, and
    takes embeddings, though it puts whole rows.
    """

    def __init__(
        self,
        function: str,
        preprocessing: Preprocessing,
        precision: str,
        *,
        folder: str | os.PathLike | None = None,
        store: Store | None = None,
        width: int | None = None,
        max_memory: int | None = None,
        white: WhiteLevel = FULL_RANGE,
        blocks: Sequence[tuple[str, int]] = (),
        embeddings_alone: bool = False,
    ):
        context: list[object] = [function, asdict(preprocessing), precision, _DECODING]
        if PillowFile.LOAD_TRUNCATED_IMAGES:
            context.append("truncated images too")  # what is made of half an image is not for those who refuse it
        if not can_convert():
            context.append("all colours taken for sRGB")
        if white.value is not None:
            context.append(f"white level {float(white.value)!r}")
        self._white = white
        self._context = json.dumps(context, sort_keys=True).encode()
        # what makes the key of an embedding that of the row with these features
        self._suffix = digest_of(json.dumps([_READING, *blocks]).encode())[:_N_SUFFIX] if blocks else b""
        self._n_features = sum(n_columns for _, n_columns in blocks)
        # of what is looked up, which is what is put unless embeddings alone are wanted
        self._own_suffix, self._n_halves = (b"", 0) if embeddings_alone else (self._suffix, self._n_features)
        self.folder = folder
        self._store = opened_store(folder) if store is None else store
        self._width, self._max_memory = width, max_memory
        self._exit = contextlib.ExitStack()
        self._owner = ""
        # files by the key of their content, until that is known to be an image
        self._unrecorded: dict[bytes, list[tuple[str, str, bytes]]] = {}

    def __enter__(self) -> EmbeddingCache:
        self._owner = uuid.uuid4().hex if self._store is None else self._exit.enter_context(self._store.owner())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the claims on what was not computed after all, in memory and in the folder."""
        _memory.withdraw(self._owner)
        self._exit.close()

    def known_keys(self, images: Sequence[ImageLike], digests: Mapping[str, bytes] | None = None) -> dict[int, bytes]:
        """Keys, by index, of the files that have not changed since they were decoded, by `known_digests`."""
        if digests is None:
            digests = _known_digests(images, self._store)
        return {
            row: self._key_of(digests[image.location], image)
            for row, image in enumerate(images)
            if isinstance(image, ImageFile) and image.location in digests
        }

    def read(self, image: ImageLike) -> tuple[bytes, bytes | None]:
        """Read an image once: the key of its content, and the bytes to decode where it is a file.

        An image that cannot be read has a key of its own.
        """
        try:
            return self._read(image)
        except Exception:  # decoding will say what is wrong with it
            return os.urandom(16) + self._own_suffix, None

    def _read(self, image: ImageLike) -> tuple[bytes, bytes | None]:
        if isinstance(image, bytes):
            return self._key_of(digest_of(image)), None  # as of a file with this content
        if isinstance(image, Image.Image):
            with MemoryTicket(self._max_memory) as ticket:
                return self._read(np.asarray(open_image(image, None, ticket, white=self._white)))
        if isinstance(image, np.ndarray):
            return self._key_of(digest_of_array(image)), None
        if not isinstance(image, ImageFile) or image.problem is not None:
            raise ValueError("it cannot be read")
        is_stable = image.is_stable()  # before it is read: what changes meanwhile must show in the stamp
        content = image.read()
        digest = digest_of(content)
        key = self._key_of(digest, image)
        if is_stable:
            self._unrecorded.setdefault(key, []).append((image.location, image.stamp, digest))
        return key, content

    def _key_of(self, digest: bytes, image: ImageLike | None = None) -> bytes:
        """Key of a content, or of the part of it within a box."""
        box = image.box if isinstance(image, ImageFile) else None
        part = b"" if box is None else f"box {edges_of(box)}".encode()
        return digest_of(self._context + digest + part) + self._own_suffix

    def key_of_view(self, key: bytes, view: int) -> bytes:
        """Key of a view of an image, whose own is that of view 0."""
        if view == 0:
            return key
        own = key.removesuffix(self._own_suffix)
        return digest_of(own + f"view {view}, {_VIEWS}".encode()) + self._own_suffix

    def take(
        self, keys: Sequence[bytes], *, despite_claims: bool = False
    ) -> tuple[dict[bytes, np.ndarray], list[bytes]]:
        """Look rows up, and claim what is missing, which the caller is to compute and `put`.

        Others are computing the rest. With `despite_claims` what others have claimed is claimed too.
        """
        wanted = list(dict.fromkeys(keys))
        rows = _memory.lookup(wanted)
        if self._store is not None:
            self._write_through(rows)
            missing = [key for key in wanted if key not in rows]
            stored = self._store.lookup(missing, self._width, self._n_halves) if missing else {}
            _memory.put(stored, self._max_memory)
            _memory.stored_in(self._store).update(stored)
            rows |= stored
        missing = [key for key in wanted if key not in rows]
        claimed = missing if despite_claims else _memory.claim(missing, self._owner)
        if self._store is not None and claimed and not despite_claims:
            free = self._store.claim(claimed, self._owner, self._width, self._n_halves)
            _memory.withdraw(self._owner, set(claimed) - set(free))
            claimed = free
        self._record_files(rows)
        return self._unpacked(rows), claimed

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Keep rows that were claimed."""
        whole = {key.removesuffix(self._own_suffix) + self._suffix: row for key, row in rows.items()}
        packed = self._with_embeddings(self._packed(whole))
        if self._store is not None and self._store.put(packed):
            _memory.stored_in(self._store).update(packed)
        _memory.put(packed, self._max_memory)
        self._record_files(rows)

    def _packed(self, rows: Mapping[bytes, np.ndarray]) -> Mapping[bytes, np.ndarray]:
        if self._width is None or not self._n_features:
            return rows
        return {key: pack(row, self._width) for key, row in rows.items()}

    def _unpacked(self, rows: dict[bytes, np.ndarray]) -> dict[bytes, np.ndarray]:
        if self._width is None or not self._n_halves:
            return rows
        return {key: unpack(row, self._width, self._n_halves) for key, row in rows.items()}

    def _with_embeddings(self, packed: Mapping[bytes, np.ndarray]) -> Mapping[bytes, np.ndarray]:
        """Put the embeddings by themselves in front of rows with features; they are the first to be dropped."""
        if not self._n_features:
            return packed
        return {**{key.removesuffix(self._suffix): row[: self._width] for key, row in packed.items()}, **packed}

    def leave(self, keys: Collection[bytes]) -> None:
        """End the claims on rows that were computed and are not to be kept."""
        _memory.withdraw(self._owner, keys)
        if self._store is not None:
            self._store.withdraw(self._owner)

    def _write_through(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Write what the process knew before it was given this folder."""
        assert self._store is not None
        stored = _memory.stored_in(self._store)
        unsure = [key for key in rows if key not in stored]
        if unsure:
            there = self._store.lookup(unsure, self._width, self._n_halves)
            absent: Mapping[bytes, np.ndarray] = {key: rows[key] for key in unsure if key not in there}
            absent = self._with_embeddings(absent) if self._n_halves else absent
            # what could not be written is tried again by the next call
            stored.update([*unsure, *absent] if not absent or self._store.put(absent) else there)

    def _record_files(self, keys: Iterable[bytes]) -> None:
        """Remember the content of files that are known to be images."""
        files = [file for key in keys for file in self._unrecorded.pop(key, [])]
        if not files:
            return
        _memory.remember_files({(path, stamp): digest for path, stamp, digest in files})
        if self._store is not None:
            self._store.remember_files(files)
