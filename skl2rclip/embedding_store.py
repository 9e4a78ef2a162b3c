"""Embeddings in a folder, for all processes that are given it.

SQLite keeps them: it survives a process killed in the middle of a write, lets several processes in at once, and
comes with Python. Whatever goes wrong with the disk costs a warning and computing the embedding, never a fit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from skl2rclip._validation import parse_bytes, warn_user

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
_SQL_VARIABLES = 500
_LOCK_SECONDS = 60
_complained: set[Path] = set()


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
        """Bytes that the folder's embeddings and claims take."""
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
            entries.append((key, data, digest_of(key + data), _today()))

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
            if "no such table" not in str(error):  # another process is about to make them
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
        if isinstance(row, bytes) and len(row) % 4 == 0 and digest_of(key + row) == digest
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


def digest_of(data: bytes) -> bytes:
    """Digest of 16 bytes, the same in every process and for ever."""
    return blake2b(data, digest_size=16).digest()


def _today() -> int:
    return int(time.time() // 86_400)
