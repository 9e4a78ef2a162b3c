"""Folders for work in progress, each held by the process that made it, so that those of the dead can be removed.

A process holds its folder through a lock of the operating system, which ends with the process however that ends. Where
folders cannot be locked, only age tells the dead from the living.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from skl2rclip._utils.interrupts import undone_by

try:
    import fcntl
except ImportError:  # Windows has no locks on folders
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".skl2rclip-scratch"
# of a folder that cannot be locked, until it counts as left behind
_OLD_SECONDS = 24 * 3600.0


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
    with contextlib.suppress(PermissionError):  # Windows does not open folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_scratch(name: str) -> bool:
    """Whether a folder of this name is one of these."""
    return name.endswith(_SUFFIX)


class _FolderLock:
    """A lock on a folder, which nobody but this process can let go of; what is forked from it has none."""

    def __init__(self, folder: Path):
        self._folder, self._process = folder, os.getpid()
        self._held: list[int] = []  # the descriptor that holds the folder until it is closed; none where that cannot be

    @property
    def descriptor(self) -> int | None:
        """What holds the folder, where something does."""
        return self._held[0] if self._held else None

    def take(self, *, wait: bool) -> None:
        """Lock the folder, where that is possible; a BlockingIOError where somebody else holds it."""
        if fcntl is None:
            return
        try:
            self._held.append(os.open(self._folder, os.O_RDONLY))
        except OSError:
            return
        try:
            fcntl.flock(self._held[0], fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.release()
            raise
        except OSError:  # some network drives know no locks
            self.release()

    def release(self) -> None:
        """Let go of the lock, at once or, after an interrupt in the middle, when this is called again."""
        if not self._held:
            return
        if self._process == os.getpid():  # to close it does not let go of it where a child has been forked meanwhile
            with contextlib.suppress(OSError):
                fcntl.flock(self._held[0], fcntl.LOCK_UN)
        os.close(self._held.pop())


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
            if _is_same(self._folder, self._lock.descriptor):
                return self._folder
            self._lock.release()  # another process has taken it for a leftover before it was locked

    def remove(self) -> None:
        """Remove what has been made of it; a forked child removes nothing of its parent's."""
        if self._folder is not None and self._process == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()


def _is_same(folder: Path, descriptor: int | None) -> bool:
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return False
    return descriptor is None or os.path.samestat(status, os.fstat(descriptor))


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
        if lock.descriptor is not None or time.time() - status.st_mtime >= _OLD_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
