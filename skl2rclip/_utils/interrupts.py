"""Undoing what a block has changed in the process although a Ctrl-C may come at any line, that of the undoing too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` at the end of the block however it ends, and once more where `undo` itself is interrupted.

    What `undo` has done before it must not do again, and what has not been changed yet it must leave alone, so that the
    block can begin before the change.
    """
    is_undone = False
    try:
        try:
            yield
        finally:
            undo()
            is_undone = True
    finally:
        if not is_undone:
            undo()
