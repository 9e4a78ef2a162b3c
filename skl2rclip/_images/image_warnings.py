"""Warnings that pictures cause: kept by picture while they are decoded, and said once for all pictures of a kind.

Pillow warns in the middle of decoding, in one of many threads, and does not know the picture. What a user has set for
warnings is asked when they are said, so that it holds for the words of Pillow, and in the thread of the caller.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.forks import in_forked_child
from skl2rclip._utils.names import IN_ORDER, EntryNames
from skl2rclip.errors import shown_entry

_log = logging.getLogger(__name__)
_MOST_LOGGED = 1000


@dataclass(frozen=True, slots=True)
class _Noted:
    """A warning: what it says, and where it was given, which filters may ask for."""

    text: str
    category: type[Warning]
    module: str
    line: int


class PictureWarnings:
    """What was warned of while pictures were decoded, by their rows."""

    def __init__(self) -> None:
        # by category and words, in which numbers do not count
        self._noted: dict[tuple[type[Warning], str], dict[int, _Noted]] = {}

    @contextmanager
    def of(self, row: int) -> Iterator[None]:
        """Keep what this thread is warned of in the block, for a row, instead of showing it."""
        before = getattr(_here, "book", None)
        _here.book = self, row
        _noting.begin()
        try:
            yield
        finally:
            _noting.end()
            _here.book = before

    def rows(self) -> set[int]:
        """Rows that anything was noted of."""
        return {row for by_row in self._noted.values() for row in by_row}

    def _note(self, row: int, noted: _Noted) -> None:
        kind = noted.category, re.sub(r"\d+", "0", noted.text)
        self._noted.setdefault(kind, {}).setdefault(row, noted)  # each is atomic, and a row has one thread

    def warn(
        self,
        images: Mapping[int, Any] | Sequence[Any],
        copies: Mapping[int, Sequence[int]] | None = None,
        names: EntryNames = IN_ORDER,
    ) -> None:
        """Warn once for each kind, with the first picture and the number of the others.

        Parameters
        ----------
        images : sequence or mapping
            By row; paths are named.
        copies : mapping of int to sequence of int, optional
            All rows that hold the same picture as one that was decoded for them. Rows that are not in it are left out.
        names : EntryNames, optional
            What the user calls each row, where that is not its index in X.

        Raises
        ------
        Warning
            Of the category in question, where the user has set "error" for it.
        """
        for (category, _), by_row in sorted(self._noted.items(), key=lambda kind: min(kind[1])):
            heeded = [row for row in sorted(by_row) if copies is None or row in copies]
            actions = {row: _action_for(by_row[row]) for row in heeded}
            heeded = [row for row in heeded if actions[row] != "ignore"]
            if not heeded:
                continue
            rows = sorted({copy for row in heeded for copy in (copies[row] if copies else [row])})
            others = {0: "", 1: " and 1 other"}.get(len(rows) - 1, f" and {len(rows) - 1} others")
            text = by_row[heeded[0]].text
            message = f"{shown_entry(names[rows[0]], images[rows[0]])}{others}: {text}"
            if len(rows) > 1:
                _log.info("%s: %s", text, ", ".join(names[row] for row in rows[:_MOST_LOGGED]))
            if "error" in actions.values():
                raise category(message)
            warn_user(message, category)


_here = threading.local()


class _Noting:
    """Stands in for `warnings.warn` as long as any picture is being decoded; for all other threads it is the same."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._n_open, self._plain = 0, warnings.warn

    def begin(self) -> None:
        with self._lock:
            if self._n_open == 0:
                self._plain = warnings.warn
                warnings.warn = self._warn
            self._n_open += 1

    def end(self) -> None:
        with self._lock:
            self._n_open -= 1
            if self._n_open == 0 and warnings.warn == self._warn:
                warnings.warn = self._plain

    def after_fork(self) -> None:
        """Let go in a child, which has none of the threads that decode."""
        if warnings.warn == self._warn:
            warnings.warn = self._plain
        self.begin_anew()

    def _warn(
        self, message: Any, category: type[Warning] | None = None, stacklevel: int = 1, source: Any = None, **more: Any
    ) -> None:
        if getattr(_here, "book", None) is None:
            self._plain(message, category, stacklevel + 1, source, **more)
            return
        book, row = _here.book
        frame = sys._getframe(1)
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        text = " ".join(f"{message}".split())
        book._note(row, _Noted(text, kind, frame.f_globals.get("__name__", ""), frame.f_lineno))


_noting = _Noting()
in_forked_child(_noting.after_fork)


def _action_for(noted: _Noted) -> str:
    """Find what the user has set for a warning: the action of the first filter that fits, as Python does."""
    filters: Any = getattr(warnings, "_get_filters", lambda: warnings.filters)()
    for action, words, category, module, line in filters:
        if (
            issubclass(noted.category, category)
            and _fits(words, noted.text)
            and _fits(module, noted.module)
            and line in (0, noted.line)
        ):
            return str(action)
    return "default"


def _fits(pattern: Any, text: str) -> bool:
    if pattern is None or isinstance(pattern, str):  # Python's own filters hold plain words
        return pattern is None or pattern == text
    return pattern.match(text) is not None
