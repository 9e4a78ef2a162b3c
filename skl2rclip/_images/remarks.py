"""What is to be said of images that were read all the same, once for all images of a kind."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.names import IN_ORDER, EntryNames
from skl2rclip.errors import shown_entry

_log = logging.getLogger(__name__)
_MAX_LOGGED = 1000


def warn_of(
    remarks: Mapping[int, Sequence[str]],
    images: Mapping[int, Any] | Sequence[Any],
    copies: Mapping[int, Sequence[int]],
    names: EntryNames = IN_ORDER,
) -> None:
    """Warn once for each kind of remark, with the first image and the number of the others.

    Parameters
    ----------
    remarks : mapping of int to sequence of str
        By row. Numbers in them do not make another kind.
    images : sequence or mapping
        By row; paths are named.
    copies : mapping of int to sequence of int
        All rows that hold the same image as one that was decoded for them. Rows that are not in it are left out.
    names : EntryNames, optional
        What the user calls each row, where that is not its index in X.
    """
    rows_of: dict[str, list[int]] = {}
    text_of: dict[str, str] = {}
    for row in sorted(remarks.keys() & copies.keys()):
        for text in remarks[row]:
            kind = re.sub(r"\d+", "0", text)
            text_of.setdefault(kind, text)
            rows_of.setdefault(kind, []).extend(copies[row])
    for kind, rows in rows_of.items():
        first, *rest = sorted(rows)
        others = {0: "", 1: " and 1 other"}.get(len(rest), f" and {len(rest)} others")
        if rest:
            _log.info("%s: %s", text_of[kind], ", ".join(names[row] for row in [first, *rest][:_MAX_LOGGED]))
        warn_user(f"{shown_entry(names[first], images[first])}{others}: {text_of[kind]}")
