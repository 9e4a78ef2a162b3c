"""Embeddings of images that have passed a frozen tower: those of this process, and those of a folder for all.

What an image is called here depends on its content, the backbone, the preprocessing and the precision.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import numpy as np

from skl2rclip._images import ImageLike, open_image, thread_count
from skl2rclip._preprocessing import Preprocessing
from skl2rclip.embedding_store import EmbeddingStore, digest_of

_DEFAULT_MEMORY = 500 * 10**6
_MAX_KNOWN_FILES = 500_000
# a file changed this recently may change again without another time stamp
_RACY_SECONDS = 2.0


class _Memory:
    """Rows of this process by key, the least recently used dropped first, and the keys being computed by a thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.computing: dict[bytes, str] = {}
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._stored: dict[Path, set[bytes]] = {}
        self._n_bytes = 0

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        found = {}
        with self.lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
                    found[key] = self._rows[key]
        return found

    def put(self, rows: Mapping[bytes, np.ndarray], max_bytes: int) -> None:
        with self.lock:
            for key, row in rows.items():
                if key not in self._rows:
                    self._rows[key] = np.array(row, np.float32)  # not a view that keeps a whole batch alive
                    self._n_bytes += row.nbytes
                self.computing.pop(key, None)
            while self._rows and self._n_bytes > max_bytes:
                self._n_bytes -= self._rows.popitem(last=False)[1].nbytes

    def claim(self, keys: Iterable[bytes], owner: str) -> list[bytes]:
        with self.lock:
            free = [key for key in keys if key not in self._rows and key not in self.computing]
            self.computing.update(dict.fromkeys(free, owner))
        return free

    def withdraw(self, owner: str, keys: Collection[bytes] | None = None) -> None:
        with self.lock:
            for key in [key for key, other in self.computing.items() if other == owner]:
                if keys is None or key in keys:
                    del self.computing[key]

    def stored_in(self, folder: Path) -> set[bytes]:
        """Keys of rows that this process has seen or put in a folder."""
        keys = self._stored.setdefault(folder, set())
        if len(keys) > _MAX_KNOWN_FILES:
            keys.clear()
        return keys

    def clear(self) -> None:
        with self.lock:
            self._rows.clear()
            self._stored.clear()
            self._n_bytes = 0


_memory = _Memory()
_known_files: OrderedDict[tuple[str, str], bytes] = OrderedDict()
_known_files_lock = threading.Lock()


def forget_embeddings() -> None:
    """Drop the embeddings that this process keeps in memory; those in folders stay."""
    _memory.clear()


class EmbeddingCache:
    """The embeddings of one frozen tower: those of this process, and those in a folder where one is given.

    To be used in a ``with`` block, which ends the claims on what was not computed after all.

    Parameters
    ----------
    fingerprint : str
        Of the backbone.
    preprocessing : Preprocessing
    precision : str
        In which the tower computes.
    folder : path, optional
    max_memory : int, optional
        Bytes that the process keeps; 500 MB by default.
    """

    def __init__(
        self,
        fingerprint: str,
        preprocessing: Preprocessing,
        precision: str,
        *,
        folder: str | os.PathLike | None = None,
        max_memory: int | None = None,
    ):
        context = [fingerprint, asdict(preprocessing), precision]
        self._context = json.dumps(context, sort_keys=True).encode()
        self.folder = folder
        self._store = None if folder is None else EmbeddingStore(folder)
        self._max_memory = _DEFAULT_MEMORY if max_memory is None else max_memory
        self._exit = contextlib.ExitStack()
        self._owner = ""
        self._unrecorded: dict[bytes, tuple[str, str, bytes]] = {}

    def __enter__(self) -> EmbeddingCache:
        self._owner = uuid.uuid4().hex if self._store is None else self._exit.enter_context(self._store.owner())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _memory.withdraw(self._owner)
        self._exit.close()

    def keys(self, images: Sequence[ImageLike], n_jobs: int | None = None) -> list[bytes]:
        """Key of each image, of its content.

        A file is read unless path, size and times are those that it was read with before. A file that cannot be read
        has a key of its own.
        """
        stamps = _stamps(images)
        known = _digests_of_known_files(stamps, self._store)

        def key_of(image: ImageLike) -> bytes:
            path = _path_of(image)
            try:
                digest = known[path] if path in known else _content_digest(image)
            except Exception:  # decoding will say what is wrong with it
                return os.urandom(16)
            key = digest_of(self._context + digest)
            if path is not None and path not in known and _is_settled(stamp := stamps.get(path, "")):
                self._unrecorded[key] = (path, stamp, digest)
            return key

        if len(known) == len(images):
            return [key_of(image) for image in images]
        with ThreadPoolExecutor(thread_count(n_jobs)) as pool:
            return list(pool.map(key_of, images))

    def take(
        self, keys: Sequence[bytes], *, despite_claims: bool = False
    ) -> tuple[dict[bytes, np.ndarray], list[bytes]]:
        """Look rows up, and claim what is missing.

        Parameters
        ----------
        keys : sequence of bytes
        despite_claims : bool, default=False
            Claim what others have claimed, too.

        Returns
        -------
        rows : dict of bytes to ndarray of shape (D,), float32
            What is known.
        claimed : list of bytes
            What the caller is to compute and `put`. The rest is being computed by others.
        """
        wanted = list(dict.fromkeys(keys))
        rows = _memory.lookup(wanted)
        if self._store is not None:
            self._write_through(rows)
            missing = [key for key in wanted if key not in rows]
            stored = self._store.lookup(missing) if missing else {}
            _memory.put(stored, self._max_memory)
            _memory.stored_in(self._store.folder).update(stored)
            rows |= stored
        missing = [key for key in wanted if key not in rows]
        claimed = missing if despite_claims else _memory.claim(missing, self._owner)
        if self._store is not None and claimed and not despite_claims:
            free = self._store.claim(claimed, self._owner)
            _memory.withdraw(self._owner, set(claimed) - set(free))
            claimed = free
        self._record_files(rows)
        return rows, claimed

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Keep rows that were claimed."""
        if self._store is not None:
            self._store.put(rows)
            _memory.stored_in(self._store.folder).update(rows)
        _memory.put(rows, self._max_memory)
        self._record_files(rows)

    def _write_through(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Write what the process knew before it was given this folder."""
        assert self._store is not None
        stored = _memory.stored_in(self._store.folder)
        unsure = [key for key in rows if key not in stored]
        if unsure:
            there = self._store.lookup(unsure)
            absent = {key: rows[key] for key in unsure if key not in there}
            if absent:
                self._store.put(absent)
            stored.update(unsure)

    def _record_files(self, keys: Iterable[bytes]) -> None:
        """Remember the content of files that are known to be images."""
        files = [self._unrecorded.pop(key) for key in keys if key in self._unrecorded]
        if not files:
            return
        _know_files({(path, stamp): digest for path, stamp, digest in files})
        if self._store is not None:
            self._store.remember_files(files)


def known_files(images: Sequence[ImageLike], folder: str | os.PathLike | None) -> np.ndarray:
    """Tell which images are files that have not changed since they were decoded, by this process or with this folder.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    known = _digests_of_known_files(_stamps(images), None if folder is None else EmbeddingStore(folder))
    return np.array([_path_of(image) in known for image in images])


def _know_files(digests: Mapping[tuple[str, str], bytes]) -> None:
    """Remember content digests by path and stamp, in this process."""
    with _known_files_lock:
        _known_files.update(digests)
        while len(_known_files) > _MAX_KNOWN_FILES:
            _known_files.popitem(last=False)


def _digests_of_known_files(stamps: dict[str, str], store: EmbeddingStore | None) -> dict[str, bytes]:
    with _known_files_lock:
        known = {path: _known_files[path, stamp] for path, stamp in stamps.items() if (path, stamp) in _known_files}
    rest = {path: stamp for path, stamp in stamps.items() if path not in known}
    if store is None or not rest:
        return known
    stored = store.digests_of(rest)
    _know_files({(path, rest[path]): digest for path, digest in stored.items()})
    return known | stored


def _path_of(image: ImageLike) -> str | None:
    return os.path.abspath(image) if isinstance(image, str | os.PathLike) else None


def _stamps(images: Sequence[ImageLike]) -> dict[str, str]:
    """Stamps of those images that are files, by path."""
    paths = map(_path_of, images)
    return {path: stamp for path in paths if path is not None and (stamp := _stamp(path))}


def _stamp(path: str | os.PathLike) -> str:
    """Read what changes with a file's content: size, times and place; empty where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _is_settled(stamp: str) -> bool:
    """Whether the file's last change is so long ago that the next one is bound to show in its times."""
    if not stamp:
        return False
    _, changed, status_changed, _ = map(int, stamp.split())
    return time.time() - max(changed, status_changed) / 1e9 > _RACY_SECONDS


def _content_digest(image: ImageLike) -> bytes:
    if isinstance(image, str | os.PathLike):
        return digest_of(Path(image).read_bytes())
    pixels = np.asarray(open_image(image))
    return digest_of(repr(pixels.shape).encode() + pixels.tobytes())
