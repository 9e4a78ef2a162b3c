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
    folder, held = _new_folder(where, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def only_holder(folder: Path) -> Iterator[None]:
    """Hold a folder for the block, and wait until nobody else does; where folders cannot be locked, hold nothing."""
    held = _lock(folder, wait=True)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def held_unless_taken(folder: Path) -> Iterator[bool]:
    """Hold a folder for the block unless somebody does, and say whether; where folders have no locks, nobody does."""
    try:
        held = _lock(folder, wait=False)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        if held is not None:
            os.close(held)


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


def _new_folder(parent: Path, name: str) -> tuple[Path, int | None]:
    while True:
        folder = parent / f".{name}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
        try:
            folder.mkdir(mode=0o700)
        except PermissionError as error:
            raise PermissionError(error.errno, "no permission to write into this folder", str(parent)) from error
        held = _lock(folder, wait=True)
        if _is_same(folder, held):  # another process may have taken it for a leftover before it was locked
            return folder, held
        if held is not None:
            os.close(held)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Descriptor that holds the folder until it is closed; None where it cannot be locked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # some network drives know no locks
        os.close(descriptor)
        return None
    return descriptor


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
    held = _lock(folder, wait=False)
    if held is None and time.time() - status.st_mtime < _OLD_SECONDS:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if held is not None:
        os.close(held)
