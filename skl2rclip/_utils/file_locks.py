"""Locks of the operating system on an open file, which end with the process however that ends.

Unix locks folders as well as files; Windows locks bytes of a file, and opens no folder.
"""

from __future__ import annotations

import errno
import time
from types import ModuleType

fcntl: ModuleType | None
msvcrt: ModuleType | None
try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

# Windows does not wait for a lock, or gives up after ten seconds
_LOOK_SECONDS = 0.02


def knows_folders() -> bool:
    """Whether the system locks folders."""
    return fcntl is not None


def lock(descriptor: int, *, is_shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed; where the system knows no shared locks, the lock is exclusive.

    Without waiting there is a BlockingIOError where somebody else holds it; another OSError says that the file system,
    or the system, has no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        return
    if msvcrt is None:
        raise OSError(errno.ENOLCK, "this system has no locks on files")
    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return
        except PermissionError as error:  # so Windows says that somebody else holds it
            if not wait:
                raise BlockingIOError(error.errno, "somebody else holds the lock") from error
        time.sleep(_LOOK_SECONDS)


def unlock(descriptor: int) -> None:
    """Let go of a lock, also where a forked child has the file open, too."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    elif msvcrt is not None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
