"""What is shown and told of work under way: bars, and who wants to know of stages and epochs.

Bars go to the standard error, or into the notebook. What is logged goes through the loggers of the modules;
scikit-learn's callbacks are in ``_utils.callbacks``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

from tqdm.auto import tqdm

_Chunk = TypeVar("_Chunk", bound=tuple)


def progress_bar(verbose: int, description: str, total: int | None, unit: str) -> tqdm:
    """Return a bar to be used in a with statement; without `verbose` it shows nothing."""
    return tqdm(total=total, desc=description, unit=unit, disable=not verbose)


def counted(
    chunks: Generator[_Chunk], n_rows: int, verbose: int, description: str = "embedding", unit: str = "image"
) -> Generator[_Chunk]:
    """Hand chunks on, of which the first entry tells the rows, and show how many of them are done.

    To be closed by whoever leaves it, with `contextlib.closing`: the traceback of an error keeps generators alive, in
    a notebook up to the next error, and with them what they hold.
    """
    with progress_bar(verbose, description, n_rows, unit) as bar, closing(chunks):
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk[0]))


class FitListener:
    """Is told how far a fit is; this one does not care."""

    def stage_begins(self, name: str, n_epochs: int) -> None:
        """Note that a stage is to run, for at most so many epochs."""

    def epoch_begins(self) -> None:
        """Note that the next epoch of the stage is to run."""

    def epoch_ends(self, collect: Callable[[], Any]) -> bool:
        """Return whether the stage is to end here; `collect` returns what has been learned so far."""
        return False

    def stage_ends(self, collect: Callable[[], Any]) -> bool:
        """Return whether the fit is to end here; `collect` returns what has been learned so far."""
        return False

    def fit_ends(self) -> None:
        """Note that the estimator is fitted."""
