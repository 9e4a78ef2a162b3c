"""Lock files that tell whether their owner is alive: the operating system lets go of them when the process dies.

A forked child lets go of what it inherited, or the lock would outlive the parent in it.
"""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path

from skl2rclip._utils.file_locks import lock
from skl2rclip._utils.forks import in_forked_child, no_fork

_held: set[FileIO] = set()


def _forget_inherited() -> None:
    for file in _held:  # closed and not unlocked: the parent's own descriptor keeps the lock
        with contextlib.suppress(OSError):
            file.close()
    _held.clear()


in_forked_child(_forget_inherited)


class OwnerLock:
    """A new lock file, held until `release` or the end of the process."""

    def __init__(self, path: Path):
        self._path, self._process = path, os.getpid()
        self._file: FileIO | None = None
        try:
            with no_fork():
                self._file = FileIO(path, "x")
                _held.add(self._file)
                lock(self._file.fileno())
        except BaseException:  # an interrupt too
            self.release()
            raise

    def release(self) -> None:
        """Let go of the lock, and remove its file; a forked child does neither to its parent's.

        After an interrupt in the middle it can be called again.
        """
        if self._file is not None and self._process == os.getpid():
            self._file.close()
            remove(self._path)
            _held.discard(self._file)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file; one that is missing or cannot be read counts as not held."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return False
    try:
        # a shared lock: two who ask at the same time do not take each other for the owner
        lock(descriptor, is_shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def remove(path: Path) -> None:
    """Remove a lock file, where that is possible."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
