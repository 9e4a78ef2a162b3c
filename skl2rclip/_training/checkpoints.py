"""What a fit keeps on disk to go on from, so that the same call goes on where the process that made it before died.

A fit has a folder that is named after all that decides its result. In it lies the model as it would be if the fit ended
now, and beside that, in ``progress``, what the optimisation needs to go on: records, each under the digest of its
content, of which the last two are kept, and a description of the fit. What is in a record, the stages know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from skl2rclip._model.save import PROGRESS_FOLDER
from skl2rclip._model.state import FittedState
from skl2rclip._training.identity import what_decides
from skl2rclip._training.request import FitRequest
from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.devices import is_out_of_memory
from skl2rclip._utils.scratch import (
    held_unless_taken,
    put_in_place,
    remove_leftovers,
    scratch_folder,
    sync,
)
from skl2rclip.errors import InvalidParameterError

_log = logging.getLogger(__name__)
# to be raised where a record is another than before
_FORMAT = 1
_DESCRIPTION, _EMBEDDINGS, _SCRATCH = "fit.json", "embeddings", "new"
_RECORD = re.compile(r"([0-9]{8})-([0-9a-f]{64})\.pt")
_N_RECORDS = 2
_N_DIGITS = 16

Record = dict[str, Any]  # of tensors, numbers, words, lists and dictionaries


class RecordDoesNotFit(Exception):  # noqa: N818  nobody but the fit that has read it is told
    """A record is whole, and still not of the fit that would go on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """The folder of one fit, which the process that opened it holds until the fit ends."""

    folder: Path
    request: FitRequest  # with the seed that the fit began with
    what: dict[str, str]  # decides the result
    has_ended: bool  # before
    write_model: Callable[[Path, FittedState], None]

    @property
    def _progress(self) -> Path:
        return self.folder / PROGRESS_FOLDER

    def latest(self) -> Record | None:
        """Read the last record that is whole; None where there is none."""
        return _latest(self._progress)

    def keep(self, record: Record, state: FittedState | None) -> None:
        """Write a record, and the model where it is given, each whole or not at all; where that fails, go on."""
        try:
            _write(self._progress, {"format": _FORMAT, "seed": self.request.seed, **record})
            if state is not None:
                self.write_model(self.folder, state)
        except (OSError, MemoryError, RuntimeError) as error:
            if not isinstance(error, OSError) and not is_out_of_memory(error):
                raise
            warn_user(f"checkpoint_dir: what the fit could go on from was not written, and the fit goes on: {error}")

    def discard(self) -> None:
        """Forget how far the fit was."""
        _remove_records(self._progress)

    def begin_anew(self) -> None:
        """Note that the fit has not ended after all."""
        _describe(self._progress, self.request.seed, self.what, has_ended=False)

    def end(self, state: FittedState) -> None:
        """Keep the whole model, note that it is complete, and remove what only going on needs."""
        try:
            self._progress.stat()  # who has removed it does not want another
            self.write_model(self.folder, state)
            _describe(self._progress, self.request.seed, self.what, has_ended=True)
        except OSError as error:
            warn_user(f"checkpoint_dir: the fit has ended well, and its model was not written there: {error}")
            return
        _tidy(self._progress)


@contextlib.contextmanager
def opened_checkpoint(
    request: FitRequest, *, is_seeded: bool, write_model: Callable[[Path, FittedState], None]
) -> Iterator[Checkpoint]:
    """Hold the folder of a fit in `checkpoint_dir`, the first that no other process holds.

    Where the seed is not the user's, it is that of a fit that has not ended; one that has was another. Without a cache
    of embeddings the fit keeps them in its folder until it ends.
    """
    settings = request.settings
    assert settings.checkpoint_dir is not None
    parent, what = Path(settings.checkpoint_dir), what_decides(request, is_seeded=is_seeded)
    name = f"fit-{_checksum(what)[:_N_DIGITS]}"
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        progress = folder / PROGRESS_FOLDER
        with _explained(parent):
            progress.mkdir(parents=True, exist_ok=True)
        with held_unless_taken(progress) as is_held:
            if not is_held:
                _log.info("Another process is at the same fit in %s.", folder)
                continue
            description = _described(progress)
            has_ended = description.get("has_ended", False)
            if has_ended:
                _tidy(progress)  # where the process died that was about to
            if has_ended and not is_seeded:
                continue
            if "seed" not in description:
                record = _latest(progress)  # of a fit whose description is damaged
                if record is None:
                    _log.info("A fit begins in %s%s.", folder, _what_differs(parent, folder, what))
                description["seed"] = request.seed if record is None else record["seed"]
                with _explained(parent):
                    _describe(progress, description["seed"], what, has_ended=False)
            cache = settings.embedding_cache or str(progress / _EMBEDDINGS)
            own = replace(request.with_seed(description["seed"]), settings=replace(settings, embedding_cache=cache))
            yield Checkpoint(folder, own, what, has_ended, write_model)
            return


@contextlib.contextmanager
def _explained(parent: Path) -> Iterator[None]:
    """Say before any work where a fit cannot be kept, and what to do."""
    try:
        yield
    except OSError as error:
        raise InvalidParameterError(
            f"checkpoint_dir: nothing can be kept in {str(parent)!r}: {error}. Free space there or allow writing, or "
            "name another folder."
        ) from error


def _describe(progress: Path, seed: int, what: dict[str, str], *, has_ended: bool) -> None:
    """Say which fit this is, for the next process and for people."""
    content = {"format": _FORMAT, "has_ended": has_ended, "seed": seed, "what": what}
    text = json.dumps({**content, "checksum": _checksum(content)}, indent=2)
    with scratch_folder(progress, _SCRATCH) as scratch:
        file = scratch / _DESCRIPTION
        file.write_text(text + "\n", encoding="utf-8")
        _put(file, progress / _DESCRIPTION)


def _described(progress: Path) -> dict[str, Any]:
    """Read what is said of a fit; nothing where it has not begun, or is damaged."""
    try:
        description = json.loads((progress / _DESCRIPTION).read_text(encoding="utf-8"))
        is_whole = description.pop("checksum") == _checksum(description)
        return description if is_whole and description["format"] == _FORMAT else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _what_differs(parent: Path, folder: Path, what: dict[str, str]) -> str:
    """Say in what a new fit differs from that among those that have not ended which is most like it."""
    differences = {}
    for other in sorted(parent.glob("fit-*")):
        description = _described(other / PROGRESS_FOLDER)
        if other == folder or not description or description["has_ended"]:
            continue
        theirs = description["what"]
        differences[other] = [name for name in what if what[name] != theirs.get(name)]
    if not differences:
        return ""
    nearest = min(differences, key=lambda other: len(differences[other]))
    return f", as it differs from the unfinished one in {nearest} in {', '.join(differences[nearest]) or 'nothing'}"


def _records(progress: Path) -> list[tuple[int, Path]]:
    """List records and their numbers, the oldest first."""
    found = [(_RECORD.fullmatch(file.name), file) for file in progress.iterdir()]
    return sorted((int(match[1]), file) for match, file in found if match is not None)


def _latest(progress: Path) -> Record | None:
    """Read the last record that is whole; None where there is none."""
    for number, file in reversed(_records(progress)):
        try:
            return _read(file)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            _log.warning("Record %d of the fit in %s is left out: %s.", number, progress.parent, error)
    return None


def _tidy(progress: Path) -> None:
    """Remove what only going on needs."""
    _remove_records(progress)
    _remove(progress / _EMBEDDINGS)
    remove_leftovers(progress, _SCRATCH)
    remove_leftovers(progress.parent, progress.parent.name)  # of the model


def _remove_records(progress: Path, n_kept: int = 0) -> None:
    """Remove all but the last records."""
    records = _records(progress)
    for _, file in records[: len(records) - n_kept]:
        _remove(file)


def _remove(path: Path) -> None:
    """Remove a file, or whatever stands in its place, as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _read(file: Path) -> Record:
    """Read a record; no code runs that came with it."""
    expected = _RECORD.fullmatch(file.name)
    assert expected is not None
    with open(file, "rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != expected[2]:
            raise ValueError(f"{file} is damaged")
    record = torch.load(file, weights_only=True, map_location="cpu")
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"{file} is of another version")
    return record


def _write(progress: Path, record: Record) -> None:
    """Write a record under its number and digest, and remove all but the last ones."""
    earlier = _records(progress)
    number = earlier[-1][0] + 1 if earlier else 1
    with scratch_folder(progress, _SCRATCH) as scratch:
        file = scratch / "record"
        try:
            torch.save(record, file)
        except RuntimeError as error:  # what a full disk is to torch
            raise OSError(f"{file.parent.parent}: {error}") from error
        with open(file, "rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        _put(file, progress / f"{number:08d}-{digest}.pt")
    _remove_records(progress, _N_RECORDS)


def _put(file: Path, place: Path) -> None:
    """Put a file that is on the disk in its place in one step."""
    sync(file)
    put_in_place(file, place)
    sync(place.parent)
