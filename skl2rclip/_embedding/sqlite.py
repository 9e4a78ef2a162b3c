"""One SQLite file that may fail in every way, and whose user goes on without it.

Waiting, recognising whose file it is, putting a damaged one aside, and the one warning are done here; what the tables
mean is not known.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.forks import in_forked_child, no_fork

# "RCLP" in the header tells our files from those of others
APPLICATION_ID = 0x52434C50
_IDENTITY = ("application_id", "user_version")
_LOCK_SECONDS = 20.0
# SQLite waits within an operation, and a fork has to wait for that; the rest is waited between attempts
_SQLITE_SECONDS = 0.5
# bytes of a value: a damaged length must not make SQLite ask for a gigabyte
_MAX_VALUE_BYTES = 2**24

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_ERROR,  # a table or column of our own format is not there
}
# ValueError: a path with a null byte; the others: values that no file of ours holds
_FAILURES = (sqlite3.Error, OSError, MemoryError, OverflowError, ValueError, TypeError)

_complained: set[tuple[Path, str]] = set()
_waited_in_vain: set[tuple[Path, bool]] = set()


def address_of(file: PurePath) -> str:
    """Write a path as the address that SQLite opens; a host, as of a network share of Windows, is part of the path."""
    address = file.as_uri()
    return address if address.startswith("file:///") else address.replace("file://", "file:////", 1)


class ForeignFileError(sqlite3.Error):
    """The file belongs to another program, or to another version of this one."""


class Database:
    """A file of our own format, opened for each operation and closed after it.

    After a failure other than damage nothing is tried again: what failed to be written is not written any more, and
    what failed to be read is not read any more. Another instance tries anew. A file of another version is left alone.
    """

    def __init__(self, file: Path, schema: Sequence[str], version: int):
        self.file, self._schema, self._version = file, schema, version
        self._may_read = self._may_write = True
        self._is_identified = self._was_put_aside = False
        self._seen: tuple[int, int] | None = None

    def exists(self) -> bool:
        """Whether there is such a file, as far as can be seen."""
        return os.path.isfile(self.file)

    def is_writable(self) -> bool:
        """Whether the file and its folder look as if they could be written, and have not failed to be."""
        return self._may_write and os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)

    def read(self, operation: Callable[[sqlite3.Connection], Any], otherwise: Any) -> Any:
        """Run `operation`; return `otherwise` where there is no file, or it cannot be read."""

        def attempt() -> Any:
            with self._connection("rw" if os.access(self.file, os.W_OK) else "ro") as db:
                db.execute("BEGIN")
                return operation(db) if self._is_filled(db) else otherwise

        if not (self._may_read and self.exists()):
            return otherwise
        return self._attempt(attempt, otherwise, is_reading=True)

    def write(self, operation: Callable[[sqlite3.Connection], Any], otherwise: Any = None) -> Any:
        """Run `operation` in a transaction; where that is impossible, warn once and return `otherwise`."""

        def attempt() -> Any:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._connection("rwc") as db:
                db.execute("BEGIN IMMEDIATE")
                if not self._is_filled(db):
                    for statement in self._schema:
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {self._version}")
                result = operation(db)
                db.execute("COMMIT")
                return result

        return self._attempt(attempt, otherwise) if self._may_write else otherwise

    def compact(self) -> None:
        """Give free space back to the disk."""

        def attempt() -> None:
            with self._connection("rw") as db:
                if self._is_filled(db):
                    db.execute("VACUUM")

        if self._may_write and self.exists():
            self._attempt(attempt, None)

    def _is_filled(self, db: sqlite3.Connection) -> bool:
        """Whether the file has our tables, False where it is new; a ForeignFileError where it is none of ours."""
        application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in _IDENTITY)
        if (application, version) == (APPLICATION_ID, self._version):
            return True
        if application == APPLICATION_ID:
            raise ForeignFileError(
                f"{self.file.name} was written by another version of skl2rclip: its format is {version}, not "
                f"{self._version}"
            )
        if application or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ForeignFileError(f"{self.file.name} is a database of something else")
        return False

    @contextlib.contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        # one for each operation: none is carried into a forked process or another thread
        with no_fork():
            self._refuse_special()
            self._seen = self._inode()
            if not self._is_identified and self._seen is not None:
                self._identify()
            with contextlib.closing(self._connect(mode)) as db:
                yield db

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{address_of(self.file)}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=_SQLITE_SECONDS, isolation_level=None)
        try:
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            db.text_factory = bytes  # text that is not UTF-8 is then no error
            return db
        except BaseException:  # an interrupt
            db.close()
            raise

    def _identify(self) -> None:
        """Look at a file once in a way that cannot change it: even closing a file of others might."""
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(self._connect("ro")) as db:
            self._is_filled(db)
        self._is_identified = True

    def _refuse_special(self) -> None:
        """Raise for what is no file: a pipe would be waited for."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(self.file).st_mode):
                raise ForeignFileError(f"{self.file.name} is not a regular file")

    def _inode(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.file)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _attempt(self, run: Callable[[], Any], otherwise: Any, *, is_reading: bool = False) -> Any:
        for is_last in (False, True):
            try:
                return self._patiently(run, is_reading)
            except _FAILURES as error:
                if not _is_damage(error):
                    self._give_up(error, is_reading=is_reading or isinstance(error, ForeignFileError))
                    break
                if is_last:  # where locks do not work, what another is writing looks damaged at first, too
                    self._put_aside(error)
        return otherwise

    def _patiently(self, run: Callable[[], Any], is_reading: bool) -> Any:
        """Try again while others hold the lock; who has waited in vain does not wait again until it has been free."""
        lock = (self.file, is_reading)  # who holds the lock for writing may let others read
        patience = 0.0 if lock in _waited_in_vain else _LOCK_SECONDS
        deadline = time.monotonic() + patience
        while True:
            try:
                result = run()
            except sqlite3.OperationalError as error:
                if _code(error) not in _LOCKED:
                    raise
                if time.monotonic() >= deadline:
                    _waited_in_vain.add(lock)
                    raise
            else:
                _waited_in_vain.discard(lock)
                return result
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - whoever waits must only not wait in step

    def _put_aside(self, error: Exception) -> None:
        """Rename a damaged file, so that the next write begins a new one; once, since a disk may damage every file."""
        if self._seen != self._inode():
            return  # another process has done so
        aside = self.file.parent / f"damaged-{uuid.uuid4().hex[:8]}.sqlite"
        try:
            if self._was_put_aside:
                raise OSError("it is damaged again")
            self.file.rename(aside)
            self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)
        except OSError as failure:
            self._give_up(sqlite3.DatabaseError(f"{error}; {failure}"), is_reading=True)
            return
        self._was_put_aside = True
        _warn_once(
            self.file.parent,
            "damaged",
            f"embedding_cache: the file in {self.file.parent} is damaged ({error}). It is called {aside.name} now, may "
            "be removed, and a new one is begun.",
        )

    def _give_up(self, error: Exception, *, is_reading: bool) -> None:
        self._may_write = False
        self._may_read &= not is_reading
        still_read = "; what it holds is still read" if self._may_read and self.exists() else ""
        reason = str(error) or type(error).__name__
        _warn_once(
            self.file.parent,
            "unusable",
            f"embedding_cache: {self.file.parent} cannot be used ({reason}); embeddings are computed and not kept "
            f"there{still_read}. {_advice(error)}",
        )


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code, None for what does not come from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_damage(error: Exception) -> bool:
    if isinstance(error, ForeignFileError):
        return False
    # errors that Python's module raises by itself have no code, and say by their class what they mean
    return _code(error) in _DAMAGED or type(error) is sqlite3.DatabaseError


def _advice(error: Exception) -> str:
    """Say what the user can do about it."""
    if isinstance(error, ForeignFileError):
        return "Name another folder, or move that file away."
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "Name a folder: there is a file in its place."
    if _code(error) in _LOCKED:
        return "Another process has held its lock for long: end it, or name a folder on a local disk."
    return "Check its permissions, and its disk."


def _warn_once(folder: Path, kind: str, message: str) -> None:
    """Warn, once in a process for each folder and kind of trouble."""
    with no_fork():  # a lock at hand: of two threads one warns
        is_new = (folder, kind) not in _complained
        _complained.add((folder, kind))
    if is_new:
        warn_user(message)


# a child may meet another state of the folder, and has not waited for its lock
in_forked_child(_waited_in_vain.clear)
