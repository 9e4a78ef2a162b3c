"""How long work will take, told from its first steps, and said where that is long: with what would be quicker.

What the steps are, the caller knows. The first one, which holds what is done only once, is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import LongWorkWarning

# what takes longer altogether is told of, unless less than that is left
_LONG_SECONDS = 60.0
_SHORT_SECONDS = 30.0
# steps are measured for so long at least
_MEASURED_SECONDS = 2.0
_MIN_STEPS = 2

_clock: Callable[[], float] = time.monotonic
Mark = tuple[float, int]


def seconds_left(first: Mark, last: Mark, total: int) -> float | None:
    """Estimate the rest of some work from the mean of the steps between two marks; None where there were none.

    A mark is the seconds since the work began and what was done by then.
    """
    done = last[1] - first[1]
    return None if done <= 0 else max(0, total - last[1]) * (last[0] - first[0]) / done


def in_words(seconds: float) -> str:
    """Write a time in the unit that suits it, as in "about 3 hours"."""
    unit, size = "day", 86400.0
    if seconds < 90 * 60:
        unit, size = "minute", 60.0
    elif seconds < 48 * 3600:
        unit, size = "hour", 3600.0
    number = max(1, round(seconds / size))
    return f"about {number} {unit}{'' if number == 1 else 's'}"


class ProgressMonitor:
    """Tracks the progress of some work, and warns once where it will take longer than a minute."""

    def __init__(self, work: str, total: int, unit: str, quicker: Sequence[str]):
        self._work, self._total, self._unit, self._quicker = work, total, unit, quicker
        self._began = _clock()
        self._first: Mark | None = None
        self._n_steps = self._n_done = 0
        self.has_warned = False

    def done(self, n: int) -> None:
        """Record that so much is done by now."""
        if self.has_warned:
            return
        last = (_clock() - self._began, n)
        first = self._measured_from(last)
        left = None if first is None else seconds_left(first, last, self._total)
        if left is not None and left > _SHORT_SECONDS and last[0] + left > _LONG_SECONDS:
            self._say(left, last)

    def _measured_from(self, last: Mark) -> Mark | None:
        """Where the steps that are measured begin; None as long as they are too few."""
        if self._first is None:
            self._first = last
            # a first step as long as that is told of by itself
            return (0.0, 0) if last[0] > _LONG_SECONDS else None
        self._n_steps += 1
        is_measured = self._n_steps >= _MIN_STEPS and last[0] - self._first[0] >= _MEASURED_SECONDS
        return self._first if is_measured else None

    def step(self) -> None:
        """Record that one more is done."""
        self._n_done += 1
        self.done(self._n_done)

    def _say(self, left: float, last: Mark) -> None:
        self.has_warned = True
        each = left / (self._total - last[1])
        speed = f"{each:.2g} s each" if each > 0.1 else f"{1 / each:.0f} a second"
        warn_user(
            f"{self._work} will take {in_words(left)} from now on: {self._total - last[1]} of {self._total} "
            f"{self._unit}s are left, {speed}, as measured on the first ones. Quicker: {'; '.join(self._quicker)}. "
            "verbose=1 shows how far it is.",
            LongWorkWarning,
        )


def quicker_device(device: torch.device) -> list[str]:
    """Say which device would be quicker than the CPU; nothing where it is another one already."""
    if device.type != "cpu":
        return []
    there = [name for name, is_there in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if is_there.is_available()]
    return [f"device={there[0]!r}" if there else "a GPU (none is usable on this machine)"]
