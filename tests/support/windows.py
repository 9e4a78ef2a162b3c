"""What Windows does otherwise with files, imitated on Linux: so far as it can be known without it.

Nothing that somebody has open or mapped can be renamed, replaced or removed, no folder can be opened or locked, only
what is open for writing is flushed, nothing is renamed over what exists, links need a right that few have, and there
is no fork. What the system's documentation calls it is named beside each.
"""

import contextlib
import errno
import os
import shutil
import stat
import types
from pathlib import Path

from skl2rclip._utils import file_locks

try:
    import fcntl
except ImportError:
    fcntl = None

_OPEN_FOR_WRITING = (os.O_WRONLY, os.O_RDWR)
MISSING = ("fork", "mkfifo", "killpg")  # pytest itself asks for the user


def error_of_windows(kind, number, code, path):
    """Make an error with the code that Windows adds."""
    error = kind(number, os.strerror(number), str(path))
    error.winerror = code
    return error


def open_paths():
    """Paths that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    return found | {line.split(maxsplit=5)[5] for line in mapped.splitlines() if line.count("/")}


def refuse_open(path, *, below=False):
    """Raise where a file is open, or one below a folder: ERROR_SHARING_VIOLATION."""
    real = os.path.realpath(path)
    # the streams that pytest has put in the place of its own have no name that matters
    if any(each == real or (below and each.startswith(real + os.sep)) for each in open_paths()):
        raise error_of_windows(PermissionError, errno.EACCES, 32, path)


class Msvcrt(types.ModuleType):
    """The locks of the C runtime (_locking): on a byte of an open file, exclusive, refused with EACCES."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        super().__init__("msvcrt")

    def locking(self, descriptor, mode, n_bytes):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise AssertionError("Windows locks no folder")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN if mode == self.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None


def imitate(monkeypatch):
    """Let the functions of `os` refuse what they would refuse on Windows, until the patches are undone."""
    given = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "unlink", "rmdir", "symlink")}

    def opened(path, flags, *arguments, **keywords):  # CreateFile without FILE_FLAG_BACKUP_SEMANTICS
        if not isinstance(path, int) and os.path.isdir(path):
            raise error_of_windows(PermissionError, errno.EACCES, 5, path)
        return given["open"](path, flags, *arguments, **keywords)

    def flushed(descriptor):  # FlushFileBuffers asks for GENERIC_WRITE
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE not in _OPEN_FOR_WRITING:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        given["fsync"](descriptor)

    def replaced(source, target):  # MoveFileEx with MOVEFILE_REPLACE_EXISTING replaces no folder
        refuse_open(source, below=True)
        if os.path.isdir(target):
            raise error_of_windows(PermissionError, errno.EACCES, 5, target)
        refuse_open(target)
        given["replace"](source, target)

    def renamed(source, target):
        refuse_open(source, below=True)
        if os.path.lexists(target):  # ERROR_ALREADY_EXISTS
            raise error_of_windows(FileExistsError, errno.EEXIST, 183, target)
        given["rename"](source, target)

    def removed(path):
        refuse_open(path)
        given["unlink"](path)

    def folder_removed(path):
        refuse_open(path, below=True)
        given["rmdir"](path)

    def linked(source, target, target_is_directory=False):  # ERROR_PRIVILEGE_NOT_HELD
        raise error_of_windows(OSError, errno.EINVAL, 1314, target)

    for name, function in {
        "open": opened, "fsync": flushed, "replace": replaced, "rename": renamed, "unlink": removed, "remove": removed,
        "rmdir": folder_removed, "symlink": linked,
    }.items():  # fmt: skip
        monkeypatch.setattr(os, name, function)
    for name in MISSING:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    monkeypatch.setattr(file_locks, "fcntl", None)
    monkeypatch.setattr(file_locks, "msvcrt", Msvcrt())
