"""Folders for work in progress, each held by the process that made it, so that those of the dead can be removed.

A process holds its folder through a lock of the operating system, which ends with the process however that ends. Where
folders cannot be locked, as on Windows, it locks a file that is named after the folder, which other machines do not
see; where nothing can be locked, only age tells the dead from the living.

What was written there takes its place in one step (`put_in_place`), once it is on the disk (`sync`).
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from skl2rclip._utils import file_locks
from skl2rclip._utils.interrupts import undone_by

_SUFFIX = ".skl2rclip-scratch"
# of a folder that cannot be locked, until it counts as left behind
_OLD_SECONDS = 24 * 3600.0
# ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION: somebody has the file open
_IN_USE = {5, 32, 33}
# readers and virus scanners are soon done
_PATIENCE_SECONDS = 2.0


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None, name: str = "") -> Iterator[Path]:
    """Make a folder that vanishes at the end of the block, and remove what dead processes left of its name."""
    where, name = Path(tempfile.gettempdir()) if parent is None else parent, name[:100]
    remove_leftovers(where, name)
    new = _NewFolder(where, name)
    with undone_by(new.remove):
        yield new.make()


@contextlib.contextmanager
def only_holder(folder: Path) -> Iterator[None]:
    """Hold a folder for the block, and wait until nobody else does; where folders cannot be locked, hold nothing."""
    lock = _FolderLock(folder)
    with undone_by(lock.release):
        lock.take(wait=True)
        yield


@contextlib.contextmanager
def held_unless_taken(folder: Path) -> Iterator[bool]:
    """Hold a folder for the block unless somebody does, and say whether; where folders have no locks, nobody does."""
    lock = _FolderLock(folder)
    with undone_by(lock.release):
        try:
            lock.take(wait=False)
        except BlockingIOError:
            is_free = False
        else:
            is_free = True
        yield is_free


def sync(path: Path) -> None:
    """See a file or folder to the disk."""
    opened: list[int] = []

    def close() -> None:
        while opened:
            os.close(opened.pop())

    with undone_by(close):  # which an interrupt between opening and the next line does not keep from it
        try:
            opened.append(os.open(path, os.O_RDWR))  # Windows flushes only what is open for writing
        except OSError:  # a folder, or a file that is only to be read
            try:
                opened.append(os.open(path, os.O_RDONLY))
            except PermissionError:  # Windows does not open folders
                return
        try:
            os.fsync(opened[0])
        except OSError as error:
            if error.errno != errno.EBADF:  # so Windows says that it is only open for reading
                raise


def put_in_place(source: Path, target: Path) -> None:
    """Give a file or folder another name in one step; a file takes the place of what has that name.

    On Windows that fails while somebody has either open, which is waited for a little.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            if source.is_dir():
                os.rename(source, target)  # nothing but an empty folder is replaced, and on Windows not even that
            else:
                os.replace(source, target)
            return
        except OSError as error:
            if not is_in_use(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def is_in_use(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, is how Windows says that another process has the file open."""
    code = getattr(error, "winerror", None)
    return code in _IN_USE or (error.__cause__ is not None and is_in_use(error.__cause__))


def is_scratch(name: str) -> bool:
    """Whether a folder of this name is one of these."""
    return name.endswith(_SUFFIX)


class _FolderLock:
    """A lock on a folder, which nobody but this process can let go of; what is forked from it has none."""

    def __init__(self, folder: Path):
        self._folder, self._process = folder, os.getpid()
        self._file = None if file_locks.knows_folders() else _lock_file(folder)  # what is locked for the folder
        self._held: list[int] = []  # the descriptor that holds the folder until it is closed; none where that cannot be

    @property
    def is_held(self) -> bool:
        """Whether something holds the folder."""
        return bool(self._held)

    def take(self, *, wait: bool) -> None:
        """Lock the folder, where that is possible; a BlockingIOError where somebody else holds it."""
        try:
            if self._file is None:
                self._held.append(os.open(self._folder, os.O_RDONLY))
            else:
                self._held.append(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError:
            return
        try:
            file_locks.lock(self._held[0], wait=wait)
        except BlockingIOError:
            self._close()
            raise
        except OSError:  # some network drives know no locks
            self.release()

    def is_of(self, folder: Path) -> bool:
        """Whether the folder is still there, and the one that is held."""
        try:
            status = os.stat(folder)
        except FileNotFoundError:
            return False
        return not self._held or self._file is not None or os.path.samestat(status, os.fstat(self._held[0]))

    def release(self) -> None:
        """Let go of the lock, at once or, after an interrupt in the middle, when this is called again."""
        if not self._held:
            return
        if self._process == os.getpid():  # to close it does not let go of it where a child has been forked meanwhile
            with contextlib.suppress(OSError):
                file_locks.unlock(self._held[0])
        self._close()
        if self._file is not None:
            with contextlib.suppress(OSError):  # who waits for it has it open, and removes it then
                os.unlink(self._file)

    def _close(self) -> None:
        os.close(self._held.pop())


def _lock_file(folder: Path) -> str:
    """Name the file that is locked in the place of a folder."""
    name = os.path.normcase(os.path.realpath(folder))
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return os.path.join(tempfile.gettempdir(), f"skl2rclip-{digest}.lock")


class _NewFolder:
    """A scratch folder, from before it is made."""

    def __init__(self, parent: Path, name: str):
        self._parent, self._name, self._process = parent, name, os.getpid()
        self._folder: Path | None = None
        self._lock: _FolderLock | None = None

    def make(self) -> Path:
        """Make and hold the folder."""
        while True:
            self._folder = self._parent / f".{self._name}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
            self._lock = _FolderLock(self._folder)
            try:
                self._folder.mkdir(mode=0o700)
            except PermissionError as error:
                reason = "no permission to write into this folder"
                raise PermissionError(error.errno, reason, str(self._parent)) from error
            self._lock.take(wait=True)
            if self._lock.is_of(self._folder):
                return self._folder
            self._lock.release()  # another process has taken it for a leftover before it was locked

    def remove(self) -> None:
        """Remove what has been made of it; a forked child removes nothing of its parent's."""
        if self._folder is not None and self._process == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()


def remove_leftovers(parent: Path, name: str) -> None:
    """Remove this user's folders of a name that nobody holds any more."""
    name = name[:100]
    with contextlib.suppress(OSError):
        for folder in parent.glob(f".{glob.escape(name)}-????????????{_SUFFIX}"):
            with contextlib.suppress(OSError):
                _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return
    lock = _FolderLock(folder)
    with undone_by(lock.release):
        lock.take(wait=False)
        if lock.is_held or time.time() - status.st_mtime >= _OLD_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
