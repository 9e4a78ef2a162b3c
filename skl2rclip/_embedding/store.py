"""Embeddings in a folder, for all processes that are given it.

SQLite keeps them: it survives a process killed in the middle of a write, lets several processes in at once, and
comes with Python. Whatever goes wrong with the disk costs a warning and computing the embedding, never a fit. No row
is believed that its checksum does not confirm.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from skl2rclip._embedding.locks import OwnerLock, is_held, remove
from skl2rclip._embedding.packing import is_sound
from skl2rclip._embedding.sqlite import Database
from skl2rclip._utils.arguments import parse_bytes
from skl2rclip._utils.interrupts import undone_by
from skl2rclip.errors import InvalidParameterError

# a version that writes another format gives its file another name, so that both can use one folder
_FORMAT = 2
_FILE = f"embeddings-{_FORMAT}.sqlite"
_SCHEMA = (
    "CREATE TABLE embeddings (key BLOB PRIMARY KEY, row BLOB, checksum BLOB, day INTEGER)",
    "CREATE INDEX embeddings_by_day ON embeddings (day)",
    "CREATE TABLE files (path BLOB PRIMARY KEY, stamp BLOB, digest BLOB, checksum BLOB, day INTEGER)",
    "CREATE INDEX files_by_day ON files (day)",
    "CREATE TABLE claims (key BLOB PRIMARY KEY, owner TEXT)",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER)",
)
_DEFAULT_MAX_SIZE = 10 * 10**9
_SQL_VARIABLES = 500
# rows that may be of ours: what is longer is not even read, lest one of a gigabyte end the reading of all
_IS_ROW = "typeof(row) = 'blob' AND length(row) <= 1000000"
_IS_FILE = "typeof(digest) = 'blob' AND length(digest) <= 1000 AND length(stamp) <= 1000 AND length(checksum) = 16"
_IS_OWNER = "typeof(owner) = 'text' AND length(owner) = 32"
# of a lock file before it may count as left behind: its owner makes it first and locks it then
_LEFT_BEHIND_SECONDS = 300
_swept: set[Path] = set()


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
    >>> store = EmbeddingStore("embeddings", max_size="20GB")
    >>> len(store)  # rows
    0
    >>> store.size_in_bytes < 100_000
    True
    >>> store.clear()  # all but the bound
    """

    def __init__(self, folder: str | os.PathLike, max_size: int | str | None = None):
        if not isinstance(folder, str | os.PathLike):
            raise InvalidParameterError(f"folder must be a string or a path, got {folder!r}.")
        self.folder = Path(os.path.abspath(folder))
        self._database = Database(self.folder / _FILE, _SCHEMA, _FORMAT)
        self._owners: set[str] = set()
        if max_size is not None:
            n_bytes = parse_bytes("max_size", max_size)

            def bound(db: sqlite3.Connection) -> None:
                db.execute("INSERT OR REPLACE INTO settings VALUES ('max_size', ?)", (n_bytes,))
                _drop_oldest(db)

            self._database.write(bound)

    def __len__(self) -> int:
        return self._database.read(lambda db: db.execute("SELECT count(*) FROM embeddings").fetchone()[0], 0)

    @property
    def identity(self) -> Path:
        """The folder, which tells one store from another."""
        return self.folder

    @property
    def size_in_bytes(self) -> int:
        """Bytes that the folder's embeddings and claims take."""
        return self._database.read(_bytes_in_use, 0)

    def clear(self) -> None:
        """Forget everything but the bound, and give the space back."""

        def delete(db: sqlite3.Connection) -> None:
            for table in ("embeddings", "files", "claims"):
                db.execute(f"DELETE FROM {table}")

        if self._database.exists():
            self._database.write(delete)
            self._database.compact()

    def lookup(self, keys: Collection[bytes], width: int | None = None, n_halves: int = 0) -> dict[bytes, np.ndarray]:
        """Return the rows that are there and sound, by key.

        With a width only those are that begin with so many columns of unit length and hold, behind them, so many finite
        numbers of half precision, two to a column.

        Parameters
        ----------
        keys : collection of bytes
            Of image and tower, as estimators make them.
        width : int, optional
            Columns of the embedding.
        n_halves : int, default=0
            Numbers of half precision behind it.

        Returns
        -------
        dict of bytes to ndarray
            Rows by their keys; those that are not there are left out.
        """
        rows = self._database.read(lambda db: _sound_rows(db, keys, width, n_halves), {})
        today = _today()
        # once a day, so that what is in use is not dropped as the oldest; a folder for reading only is spared it
        unmarked = [(today, key) for key, (_, day) in rows.items() if day != today]
        if unmarked and self._database.is_writable():
            self._database.write(lambda db: db.executemany("UPDATE embeddings SET day = ? WHERE key = ?", unmarked))
        return {key: row for key, (row, _) in rows.items()}

    def put(self, rows: Mapping[bytes, np.ndarray]) -> bool:
        """Write rows, all or none, end the claims on them, and drop the oldest.

        Parameters
        ----------
        rows : mapping of bytes to ndarray
            Rows by their keys.

        Returns
        -------
        bool
            Whether they were written.
        """
        entries = []
        for key, row in rows.items():
            data = np.ascontiguousarray(row, np.float32).tobytes()
            entries.append((key, data, digest_of(key + data), _today()))

        def insert(db: sqlite3.Connection) -> bool:
            db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", entries)
            db.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in rows])
            _drop_oldest(db)
            return True

        return self._database.write(insert, False)

    def claim(self, keys: Sequence[bytes], owner: str, width: int | None = None, n_halves: int = 0) -> list[bytes]:
        """Say that `owner` computes these rows, as far as they are not there, nor claimed by others.

        The claims of processes that have died do not count. Where the folder cannot be written, nothing is claimed and
        every key is returned.

        Parameters
        ----------
        keys : sequence of bytes
            Of the rows.
        owner : str
            As `owner` names one.
        width : int, optional
            Columns of the embedding, as for `lookup`.
        n_halves : int, default=0
            Numbers of half precision behind it, as for `lookup`.

        Returns
        -------
        list of bytes
            Keys of the rows that are for `owner` to compute.
        """

        def insert(db: sqlite3.Connection) -> list[bytes]:
            claims = {
                key: _owner_of(name)
                for key, name in _select(db, f"SELECT key, owner FROM claims WHERE {_IS_OWNER} AND", keys)
            }
            dead = {other for other in set(claims.values()) - {owner} if not self._is_alive(other)}
            _end_claims(db, dead)
            done = _sound_rows(db, keys, width, n_halves)  # another may have written them since the lookup
            free = [key for key in keys if key not in done and claims.get(key, owner) in {owner, *dead}]
            db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, owner) for key in free])
            return free

        self._owners.add(owner)
        return self._database.write(insert, list(keys))

    def withdraw(self, owner: str) -> None:
        """Withdraw all claims of an owner.

        Parameters
        ----------
        owner : str
            As `owner` names one.
        """
        self._database.write(lambda db: _end_claims(db, {owner}))
        self._owners.discard(owner)

    @contextlib.contextmanager
    def owner(self) -> Iterator[str]:
        """Name an owner of claims, who is seen to be alive until the end of the block or of the process.

        Yields
        ------
        str
            The name.
        """
        name, process = uuid.uuid4().hex, os.getpid()
        lock: OwnerLock | None = None

        def end() -> None:
            if os.getpid() == process:  # a forked child that leaves the block ends nothing of its parent's
                if name in self._owners:  # else nothing has to be written
                    self.withdraw(name)
                if lock is not None:
                    lock.release()

        with undone_by(end):
            # a folder that cannot be written has no claims either
            with contextlib.suppress(OSError, ValueError):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = OwnerLock(self._lock_file(name))
                self._sweep()
            yield name

    def _lock_file(self, owner: str) -> Path:
        return self.folder / f"owner-{owner}.lock"

    def _is_alive(self, owner: str) -> bool:
        """Whether the owner's lock is held; the lock file of a dead one is removed."""
        if not owner:
            return False
        path = self._lock_file(owner)
        if is_held(path):
            return True
        remove(path)
        return False

    def _sweep(self) -> None:
        """Remove what the dead have left, once in a process; damaged files that were put aside are the user's."""
        if self.folder in _swept:
            return
        _swept.add(self.folder)
        for path in self.folder.glob("owner-*.lock"):
            with contextlib.suppress(OSError):  # another process may be sweeping, too
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS and not is_held(path):
                    remove(path)
        statement = f"SELECT DISTINCT owner FROM claims WHERE {_IS_OWNER}"
        owners = self._database.read(lambda db: db.execute(statement).fetchall(), [])
        dead = {_owner_of(name) for (name,) in owners}
        dead = {owner for owner in dead if not self._is_alive(owner)}
        if dead:
            self._database.write(lambda db: _end_claims(db, dead))

    def digests_of(self, stamps: Mapping[str, str]) -> dict[str, bytes]:
        """Look up the content digests of files that still bear the stamp that they were read with.

        Parameters
        ----------
        stamps : mapping of str to str
            Stamps of the files as they are now, by their paths.

        Returns
        -------
        dict of str to bytes
            Digests by path.
        """
        wanted = {_encoded(path): path for path in stamps}
        found = self._database.read(
            lambda db: _select(
                db, f"SELECT path, stamp, digest, checksum FROM files WHERE {_IS_FILE} AND", wanted, "path"
            ),
            [],
        )
        return {
            wanted[path]: digest
            for path, stamp, digest, checksum in found
            if path in wanted
            and stamp == _encoded(stamps[wanted[path]])
            and isinstance(digest, bytes)
            and checksum == _checksum(path, stamp, digest)
        }

    def remember_files(self, files: Iterable[tuple[str, str, bytes]]) -> None:
        """Keep path, stamp and content digest of files that could be decoded.

        Parameters
        ----------
        files : iterable of (str, str, bytes)
            Path, stamp and digest of each.
        """
        today, entries = _today(), []
        for path, stamp, digest in files:
            parts = _encoded(path), _encoded(stamp), digest
            entries.append((*parts, _checksum(*parts), today))
        self._database.write(lambda db: db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", entries))


def _select(db: sqlite3.Connection, statement: str, values: Collection[bytes], column: str = "key") -> list[tuple]:
    """Rows of ``statement`` whose `column` is among `values`, in portions that SQLite takes."""
    given = list(values)
    rows: list[tuple] = []
    for start in range(0, len(given), _SQL_VARIABLES):
        portion = given[start : start + _SQL_VARIABLES]
        rows += db.execute(f"{statement} {column} IN ({','.join('?' * len(portion))})", portion).fetchall()
    return rows


def _sound_rows(
    db: sqlite3.Connection, keys: Collection[bytes], width: int | None, n_halves: int
) -> dict[bytes, tuple[np.ndarray, int]]:
    """Rows and the days they were used on; one whose bytes are not those that were written counts as missing."""
    found = _select(db, f"SELECT key, row, checksum, day FROM embeddings WHERE {_IS_ROW} AND", keys)
    sound = [
        (key, np.frombuffer(row, np.float32), day)
        for key, row, checksum, day in found
        if isinstance(key, bytes) and len(row) % 4 == 0 and digest_of(key + row) == checksum
    ]
    with np.errstate(all="ignore"):
        return {key: (row, day) for key, row, day in sound if width is None or is_sound(row, width, n_halves)}


def _owner_of(name: object) -> str:
    """Owner's name as the store gives it, empty for what is none."""
    return name.decode() if isinstance(name, bytes) and re.fullmatch(rb"[0-9a-f]{32}", name) else ""


def _end_claims(db: sqlite3.Connection, owners: Collection[str]) -> None:
    db.executemany("DELETE FROM claims WHERE owner = ?", [(owner,) for owner in owners])


def _encoded(text: str) -> bytes:
    # a file's name need not be UTF-8: Python has surrogates in the place of such bytes
    return text.encode("utf-8", "surrogatepass")


def _checksum(path: bytes, stamp: bytes, digest: bytes) -> bytes:
    return digest_of(b"%d %d " % (len(path), len(stamp)) + path + stamp + digest)


def _bytes_in_use(db: sqlite3.Connection) -> int:
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _drop_oldest(db: sqlite3.Connection) -> None:
    """Keep the database within its bound, and drop a tenth more than needed, lest every write has to drop again."""
    limit = db.execute("SELECT value FROM settings WHERE name = 'max_size'").fetchone()
    is_valid = limit is not None and isinstance(limit[0], int) and limit[0] > 0
    max_size, used = limit[0] if is_valid else _DEFAULT_MAX_SIZE, _bytes_in_use(db)
    if used <= max_size:
        return
    share = 1 - 0.9 * max_size / used
    for table in ("embeddings", "files"):
        # a day that is yet to come, or none at all, would never be the oldest
        db.execute(f"UPDATE {table} SET day = 0 WHERE day > ?", (_today() + 1,))
        count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        oldest = f"SELECT rowid FROM {table} ORDER BY day, rowid LIMIT ?"
        db.execute(f"DELETE FROM {table} WHERE rowid IN ({oldest})", (int(np.ceil(share * count)),))


def digest_of(data: bytes) -> bytes:
    """Digest of 16 bytes, the same in every process and for ever."""
    return blake2b(data, digest_size=16).digest()


def digest_of_array(array: np.ndarray) -> bytes:
    """Digest of shape, type and content of an array."""
    return digest_of(f"{array.shape} {array.dtype.str}".encode() + array.tobytes())


def _today() -> int:
    return int(time.time() // 86_400)
