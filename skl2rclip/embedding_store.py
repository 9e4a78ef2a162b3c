"""Embeddings of images that have passed a frozen tower: in memory for the process, in a folder for all processes.

On disk SQLite keeps them: it survives a process killed in the middle of a write, lets several processes in at once, and
comes with Python. Whatever goes wrong with the disk costs a warning and computing the embedding, never a fit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from skl2rclip.images import ImageLike, Preprocessing, open_image, thread_count
from skl2rclip.validation import parse_bytes, warn_user

_FILE = "embeddings.sqlite"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, row BLOB, digest BLOB, day INTEGER)",
    "CREATE INDEX IF NOT EXISTS embeddings_by_day ON embeddings (day)",
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT, digest BLOB, day INTEGER)",
    "CREATE INDEX IF NOT EXISTS files_by_day ON files (day)",
    "CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner TEXT)",
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value INTEGER)",
)
_DEFAULT_MAX_SIZE = 10 * 10**9
_DEFAULT_MEMORY = 500 * 10**6
_MAX_KNOWN_FILES = 500_000
_SQL_VARIABLES = 500
_LOCK_SECONDS = 60
# a file changed this recently may change again without another time stamp
_RACY_SECONDS = 2.0
_complained: set[Path] = set()


# -------------------------------------------------------------------- on disk


class EmbeddingStore:
    """A folder that keeps embeddings for all processes that are given it.

    Estimators make one from their parameter ``embedding_cache``; by itself it tells the folder's size, bounds it, and
    clears it.

    Parameters
    ----------
    folder : path
        Made when the first embedding is written.
    max_size : int or str, optional
        Bound of the folder's size, bytes or a string such as "20GB", remembered in the folder; 10 GB where none was
        ever given. Beyond it, what was not used for the longest time is dropped.

    Examples
    --------
    >>> from skl2rclip.embedding_store import EmbeddingStore
    >>> store = EmbeddingStore("embeddings", max_size="20GB")  # doctest: +SKIP
    >>> len(store), store.size_in_bytes  # doctest: +SKIP
    (26500, 58720256)
    >>> store.clear()  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike, max_size: int | str | None = None):
        self.folder = Path(os.path.abspath(folder))
        if max_size is not None:
            n_bytes = parse_bytes("max_size", max_size)

            def bound(db: sqlite3.Connection) -> None:
                db.execute("INSERT OR REPLACE INTO settings VALUES ('max_size', ?)", (n_bytes,))
                _drop_oldest(db)

            self._write(bound)

    def __len__(self) -> int:
        return self._read(lambda db: db.execute("SELECT count(*) FROM embeddings").fetchone()[0], 0)

    @property
    def size_in_bytes(self) -> int:
        """Bytes in use."""
        return self._read(_bytes_in_use, 0)

    def clear(self) -> None:
        """Forget everything but the bound, and give the space back."""

        def delete(db: sqlite3.Connection) -> None:
            for table in ("embeddings", "files", "claims"):
                db.execute(f"DELETE FROM {table}")

        if self._file.is_file():
            self._write(delete)
            self._read(lambda db: db.execute("VACUUM"), None)

    def lookup(self, keys: Collection[bytes]) -> dict[bytes, np.ndarray]:
        """Return the rows that are there and sound, float32, by key."""
        rows = self._read(lambda db: _sound_rows(db, keys), {})
        today = _today()
        # once a day, so that what is in use is not dropped as the oldest
        unmarked = [(today, key) for key, (_, day) in rows.items() if day != today]
        if unmarked:
            self._write(lambda db: db.executemany("UPDATE embeddings SET day = ? WHERE key = ?", unmarked))
        return {key: row for key, (row, _) in rows.items()}

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Write rows, all or none, withdraw the claims on them, and drop the oldest ones beyond the bound."""
        entries = []
        for key, row in rows.items():
            data = np.ascontiguousarray(row, np.float32).tobytes()
            entries.append((key, data, _digest(key + data), _today()))

        def insert(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", entries)
            db.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in rows])
            _drop_oldest(db)

        self._write(insert)

    def claim(self, keys: Sequence[bytes], owner: str) -> list[bytes]:
        """Say that `owner` computes these rows; return the keys of those that are not there, nor claimed by others.

        The claims of processes that have died do not count. Where the folder cannot be written, nothing is claimed and
        every key is returned.
        """

        def insert(db: sqlite3.Connection) -> list[bytes]:
            claims = dict(_select(db, "SELECT key, owner FROM claims WHERE key IN", keys))
            for other in set(claims.values()) - {owner}:
                if not self._is_alive(other):
                    db.execute("DELETE FROM claims WHERE owner = ?", (other,))
                    claims = {key: claimer for key, claimer in claims.items() if claimer != other}
            done = _sound_rows(db, keys)  # another may have written them since the lookup
            free = [key for key in keys if key not in done and claims.get(key, owner) == owner]
            db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, owner) for key in free])
            return free

        return self._write(insert, list(keys))

    def withdraw(self, owner: str) -> None:
        """Withdraw all claims of `owner`."""
        self._write(lambda db: db.execute("DELETE FROM claims WHERE owner = ?", (owner,)))

    @contextlib.contextmanager
    def owner(self) -> Iterator[str]:
        """Name an owner of claims, who is seen to be alive until the end of the block or of the process."""
        name = uuid.uuid4().hex
        lock = None
        try:
            # a folder that cannot be written has no claims either
            with contextlib.suppress(OSError, NotImplementedError, Timeout):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._lock_file(name), timeout=0)
                lock.acquire()  # the operating system lets go of it when the process dies
            yield name
        finally:
            if lock is not None:
                self.withdraw(name)
                lock.release()
                self._lock_file(name).unlink(missing_ok=True)

    def _lock_file(self, owner: str) -> Path:
        return self.folder / f"owner-{owner}.lock"

    def _is_alive(self, owner: str) -> bool:
        path = self._lock_file(owner)
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return False
        path.unlink(missing_ok=True)
        return False

    def digests_of(self, stamps: Mapping[str, str]) -> dict[str, bytes]:
        """Content digests, by path, of the files that still bear the stamp that they were read with."""
        found = self._read(
            lambda db: _select(db, "SELECT path, stamp, digest FROM files WHERE path IN", list(stamps)), []
        )
        return {path: digest for path, stamp, digest in found if stamps[path] == stamp}

    def remember_files(self, files: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep path, stamp and content digest of files that could be decoded."""
        entries = [(*file, _today()) for file in files]
        self._write(lambda db: db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", entries))

    @property
    def _file(self) -> Path:
        return self.folder / _FILE

    def _read(self, operation: Callable[[sqlite3.Connection], Any], otherwise: Any) -> Any:
        """Run `operation`; return `otherwise` where there is no database, or it cannot be read."""
        if not self._file.is_file():
            return otherwise
        try:
            with contextlib.closing(self._connect("rw" if os.access(self._file, os.W_OK) else "ro")) as db:
                return operation(db)
        except sqlite3.Error as error:
            self._complain(error)
            return otherwise

    def _write(self, operation: Callable[[sqlite3.Connection], Any], otherwise: Any = None) -> Any:
        """Run `operation` in a transaction; where that is impossible, warn once and return `otherwise`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._connect("rwc")) as db:
                db.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    db.execute(statement)
                result = operation(db)
                db.execute("COMMIT")
                return result
        except (sqlite3.Error, OSError) as error:
            self._complain(error)
            return otherwise

    def _connect(self, mode: str) -> sqlite3.Connection:
        # one for each operation: none is carried into a forked process or another thread
        uri = f"{self._file.as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)

    def _complain(self, error: Exception) -> None:
        """Warn, once for each folder; put a damaged database aside, so that the next write begins a new one."""
        if type(error) is sqlite3.DatabaseError:  # its subclasses mean other things than damage
            aside = self.folder / f"damaged-{uuid.uuid4().hex[:8]}.sqlite"
            with contextlib.suppress(OSError):
                self._file.rename(aside)
                self._file.with_name(f"{_FILE}-journal").unlink(missing_ok=True)
                warn_user(
                    f"embedding_cache: the file in {self.folder} is damaged ({error}). It is called {aside.name} now, "
                    "may be removed, and a new one is begun."
                )
                return
        if self.folder not in _complained:
            _complained.add(self.folder)
            warn_user(
                f"embedding_cache: {self.folder} cannot be used ({error}); embeddings are computed and not kept there. "
                "Check its permissions, and the space on its disk."
            )


def _select(db: sqlite3.Connection, statement: str, values: Collection[Any]) -> list[tuple]:
    """Rows of ``statement (values)``, in portions that SQLite takes."""
    given = list(values)
    rows: list[tuple] = []
    for start in range(0, len(given), _SQL_VARIABLES):
        portion = given[start : start + _SQL_VARIABLES]
        rows += db.execute(f"{statement} ({','.join('?' * len(portion))})", portion).fetchall()
    return rows


def _sound_rows(db: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, tuple[np.ndarray, int]]:
    """Rows and the days they were used on; one whose bytes are not those that were written counts as missing."""
    found = _select(db, "SELECT key, row, digest, day FROM embeddings WHERE key IN", keys)
    return {
        key: (np.frombuffer(row, np.float32), day)
        for key, row, digest, day in found
        if isinstance(row, bytes) and len(row) % 4 == 0 and _digest(key + row) == digest
    }


def _bytes_in_use(db: sqlite3.Connection) -> int:
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _drop_oldest(db: sqlite3.Connection) -> None:
    """Keep the database within its bound, and drop a tenth more than needed, lest every write has to drop again."""
    limit = db.execute("SELECT value FROM settings WHERE name = 'max_size'").fetchone()
    max_size, used = limit[0] if limit else _DEFAULT_MAX_SIZE, _bytes_in_use(db)
    if used <= max_size:
        return
    share = 1 - 0.9 * max_size / used
    for table in ("embeddings", "files"):
        count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        oldest = f"SELECT rowid FROM {table} ORDER BY day, rowid LIMIT ?"
        db.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})", (int(np.ceil(share * count)),))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _today() -> int:
    return int(time.time() // 86_400)


# ------------------------------------------------------------------- in memory


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
        stamps = {os.path.abspath(image): _stamp(image) for image in images if isinstance(image, str | os.PathLike)}
        stamps = {path: stamp for path, stamp in stamps.items() if stamp}
        known = _digests_of_known_files(stamps, self._store)

        def key_of(image: ImageLike) -> bytes:
            path = os.path.abspath(image) if isinstance(image, str | os.PathLike) else None
            try:
                digest = known[path] if path in known else _content_digest(image)
            except Exception:  # decoding will say what is wrong with it
                return os.urandom(16)
            key = _digest(self._context + digest)
            if path is not None and path not in known and _is_settled(stamp := stamps.get(path, "")):
                self._unrecorded[key] = (path, stamp, digest)
            return key

        if len(known) == len(images):
            return [key_of(image) for image in images]
        with ThreadPoolExecutor(thread_count(n_jobs)) as pool:
            return list(pool.map(key_of, images))

    def take(self, keys: Sequence[bytes]) -> tuple[dict[bytes, np.ndarray], list[bytes]]:
        """Look rows up, and claim what is missing.

        Parameters
        ----------
        keys : sequence of bytes

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
        claimed = _memory.claim([key for key in wanted if key not in rows], self._owner)
        if self._store is not None and claimed:
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
        with _known_files_lock:
            for path, stamp, digest in files:
                _known_files[path, stamp] = digest
            while len(_known_files) > _MAX_KNOWN_FILES:
                _known_files.popitem(last=False)
        if self._store is not None:
            self._store.remember_files(files)


def known_files(images: Sequence[ImageLike], folder: str | os.PathLike | None) -> np.ndarray:
    """Tell which images are files that have not changed since they were decoded, by this process or with this folder.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    paths = [os.path.abspath(image) if isinstance(image, str | os.PathLike) else None for image in images]
    stamps = {path: stamp for path in paths if path is not None and (stamp := _stamp(path))}
    known = _digests_of_known_files(stamps, None if folder is None else EmbeddingStore(folder))
    return np.array([path in known for path in paths])


def _digests_of_known_files(stamps: dict[str, str], store: EmbeddingStore | None) -> dict[str, bytes]:
    with _known_files_lock:
        known = {path: _known_files[path, stamp] for path, stamp in stamps.items() if (path, stamp) in _known_files}
    rest = {path: stamp for path, stamp in stamps.items() if path not in known}
    return known if store is None or not rest else known | store.digests_of(rest)


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
        return _digest(Path(image).read_bytes())
    pixels = np.asarray(open_image(image))
    return _digest(repr(pixels.shape).encode() + pixels.tobytes())
