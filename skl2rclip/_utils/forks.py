"""What a forked child must not inherit: locks that other threads held at that moment, and unfinished work.

A fork copies one thread and the memory of all. A lock that another thread held stays held in the child for ever, and
SQLite goes on believing in file locks that a child does not have.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# a fork is not held up for longer by what is under way
_PATIENCE_SECONDS = 5.0
# re-entrant: what is under way may itself fork
_forking = threading.RLock()
_holds = threading.local()
_is_child = False


def in_forked_child(function: Callable[[], object]) -> None:
    """Call `function` in every forked child, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def is_forked_child() -> bool:
    """Whether this process was forked from one that had imported this package."""
    return _is_child


@contextmanager
def no_fork() -> Iterator[None]:
    """Let no other thread fork while the block runs; to be used for what takes milliseconds."""
    with _forking:
        yield


def _before() -> None:
    _holds.forking = _forking.acquire(timeout=_PATIENCE_SECONDS)


def _after_in_parent() -> None:
    if _holds.forking:
        _forking.release()


def _after_in_child() -> None:
    global _forking, _is_child
    _forking = threading.RLock()
    _is_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
