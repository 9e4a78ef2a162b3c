"""Interrupts fits at each line of the package that they execute, and counts what comes of it.

What is promised after a Ctrl-C, wherever it comes: the estimator has every attribute that it had before, the very same
objects, or is fully fitted and predicts as if nothing had happened; nothing stays behind in the process (locks, claims,
numbers of threads, torch's modes and generators, open folders, temporary files); and the same fit, made again, gives
what the undisturbed one gives. ``python tools/interrupt_fits.py --every 20`` prints a row for each module; it exits
with 1 where the promise was broken. A line that several kinds of fits execute is interrupted in the first of them, and
in all with ``--again``. Without ``--every`` each line is interrupted, which takes hours.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import gc
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from threadpoolctl import ThreadpoolController

import skl2rclip
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip import backbone
from skl2rclip._embedding import cache, locks
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.pixel_store import account
from skl2rclip._training import initialization
from skl2rclip._utils import forks, threads

PACKAGE = str(Path(skl2rclip.__file__).parent) + os.sep
NOP = dis.opmap["NOP"]
# that the same fit takes longer, made again, for it waits for nobody
WAIT_SECONDS = 20.0
Line = tuple[str, int]
LIBRARIES = ThreadpoolController()


@dataclass
class Scene:
    """A kind of fit, made again and again in a folder that is emptied before."""

    name: str
    X: Any
    y: np.ndarray
    parameters: dict[str, Any]
    folders: tuple[str, ...] = ()

    def estimator(self, root: Path) -> L2RCLIPClassifier:
        own = {name: str(root / name) for name in self.folders}
        return L2RCLIPClassifier("skl2rclip-tiny", **self.parameters, **own)


def scenes(root: Path) -> Iterator[Scene]:
    y = np.tile(np.arange(3), 6)
    rng, paths = np.random.default_rng(0), []
    for i, k in enumerate(y):
        paths.append(str(root / f"{i}.png"))
        Image.fromarray((rng.integers(0, 40, (40, 40, 3)) + 70 * k).astype(np.uint8)).save(paths[-1])
    table = CLIPImageEncoder("skl2rclip-tiny", device="cpu").fit_transform(paths)
    base = {"random_state": 0, "n_context_tokens": 3, "prompt_epochs": 1, "image_epochs": 1, "device": "cpu"}
    stopped = {**base, "early_stopping": True, "validation_fraction": 0.34}
    tuned = {"image_tower": "finetune", "batch_size": 8}
    yield Scene("table", table, y, {**base, "image_tower": "precomputed"})
    yield Scene("frozen", paths, y, {**stopped, "n_views": 2})
    yield Scene("frozen with a cache", paths, y, base, ("embedding_cache",))
    yield Scene("fine-tuned", paths, y, {**base, **tuned})
    yield Scene("fine-tuned, watched", paths, y, {**stopped, **tuned}, ("embedding_cache",))
    yield Scene("fine-tuned with checkpoints", paths, y, {**stopped, **tuned}, ("checkpoint_dir",))


# ------------------------------------------------------- where it interrupts


def lines_of(run: Callable[[], object]) -> list[Line]:
    """Every line of the package that the main thread executes, in the order in which each is first reached.

    A line such as ``try:`` does nothing, and the interpreter looks for no signal there: to raise there would be to jump
    out of a ``with`` that no Ctrl-C jumps out of.
    """
    seen: dict[Line, None] = {}

    def local(frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_code.co_code[frame.f_lasti] != NOP:
            seen.setdefault((frame.f_code.co_filename, frame.f_lineno))
        return local

    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename.startswith(PACKAGE) else None)
    try:
        run()
    finally:
        sys.settrace(None)
    return list(seen)


def interrupted_at(line: Line, run: Callable[[], object]) -> BaseException | None:
    """Run with a Ctrl-C where a line is first reached; return what came of it."""
    file, number = line
    has_come = False

    def local(frame: Any, event: str, argument: Any) -> Any:
        nonlocal has_come
        if event == "line" and frame.f_lineno == number and not has_come:
            has_come = True
            signal.raise_signal(signal.SIGINT)
        return local

    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename == file else None)
    try:
        run()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(None)
    return None


def interrupted_after(seconds: float, run: Callable[[], object]) -> BaseException | None:
    """Run with a Ctrl-C after a time; return what came of it, None where it did not come before the end."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        run()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return None


# ------------------------------------------------------------ what may stay


def in_new_thread(function: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(function()))
    thread.start()
    thread.join()
    return answers[0] if answers else None


def is_free(lock: Any) -> bool:
    """Whether another thread gets a lock."""

    def take() -> bool:
        got = lock.acquire(timeout=0.5)
        if got:
            lock.release()
        return got

    return bool(in_new_thread(take))


def state_of_process() -> dict[str, Any]:
    """What a fit must leave as it found it."""
    gc.collect()
    return {
        "backbones are locked": not is_free(backbone._lock),
        "embeddings are locked": not is_free(cache._memory._lock),
        "pixels are locked": not is_free(account._lock),
        "forks wait": not is_free(forks._forking),
        "BLAS is locked": not is_free(threads._blas_limit._lock),
        "inside the BLAS limit": len(threads._blas_limit._inside),
        "BLAS's threads": [each["num_threads"] for each in LIBRARIES.info() if each["user_api"] == "blas"],
        "torch's threads": (torch.get_num_threads(), threads._of_thread.n_before),
        "torch's threads elsewhere": in_new_thread(torch.get_num_threads),
        "torch's modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "torch's generator": torch.default_generator.get_state().numpy().tobytes(),
        "NumPy's generator": np.random.get_state()[1].tobytes(),  # noqa: NPY002 - the one that all share
        "claims": dict(cache._memory._computing),
        "locks of owners": set(locks._held),
        "filters of warnings": list(warnings.filters),
        "handlers of the root logger": list(logging.getLogger().handlers),
        "what follows SIGINT": signal.getsignal(signal.SIGINT),
    }


def leftovers(root: Path) -> list[str]:
    """Temporary files and folders, and what the process still has open there."""
    there = [str(path.relative_to(root)) for path in root.rglob("*") if "scratch" in path.name or "owner-" in path.name]
    there += [f"temporary {path.name}" for path in Path(tempfile.gettempdir()).iterdir()]
    with contextlib.suppress(OSError):
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                place = os.readlink(f"/proc/self/fd/{descriptor}")
                if place.startswith((str(root), tempfile.gettempdir())):
                    there.append(f"open {Path(place).name}")
    return there


# ------------------------------------------------------------------ a trial


@dataclass
class Outcome:
    """What came of the interrupts in one module."""

    as_before: int = 0
    fitted: int = 0
    not_reached: int = 0
    problems: list[str] = field(default_factory=list)


class Trials:
    """The fits of a scene, undisturbed and disturbed."""

    def __init__(self, scene: Scene, root: Path):
        self.scene, self.root = scene, root
        self._begin()
        since = time.monotonic()
        self.expected = self._fit(scene.estimator(root)).predict_proba(scene.X)
        self.seconds = time.monotonic() - since
        self.earlier = self._fit(scene.estimator(root / "earlier"), 2 - scene.y)
        self._begin()
        self.lines = lines_of(partial(self._fit, scene.estimator(root)))

    def _fit(self, estimator: L2RCLIPClassifier, y: np.ndarray | None = None) -> L2RCLIPClassifier:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return estimator.fit(self.scene.X, self.scene.y if y is None else y)

    def _begin(self) -> None:
        """Forget what earlier fits have left on purpose."""
        forget_embeddings()
        cache._memory._files.clear()
        cache._memory._computing.clear()
        for folder in ("embedding_cache", "checkpoint_dir"):
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def trial(
        self, interrupted: Callable[[Callable[[], object]], BaseException | None], *, is_refit: bool
    ) -> tuple[str, list[str]]:
        """Interrupt a fit; what has become of the estimator, and what is wrong."""
        self._begin()
        estimator = self.scene.estimator(self.root)
        if is_refit:
            estimator.__dict__ |= {name: it for name, it in vars(self.earlier).items() if name.endswith("_")}
            estimator.__dict__["_state"] = self.earlier._state
        before, process, there = dict(vars(estimator)), state_of_process(), set(leftovers(self.root))
        n_bytes = account.n_bytes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # kept with its traceback up to the end, as notebooks do
                interrupt = interrupted(lambda: estimator.fit(self.scene.X, self.scene.y))
            except BaseException as error:
                return "neither", [f"another error: {error!r} {traceback.format_exc()[-600:]}"]
        problems = [f"{what}: {process[what]} before, {now} now" if len(str(now)) < 200 else what
                    for what, now in state_of_process().items() if now != process[what]]  # fmt: skip
        problems += [f"left: {what}" for what in leftovers(self.root) if what not in there]
        after, fate = vars(estimator), "neither"
        if after.keys() == before.keys() and all(after[name] is before[name] for name in before):
            fate = "as before"
        elif np.array_equal(estimator.predict_proba(self.scene.X), self.expected):
            fate = "fitted"
        else:
            problems.append("neither as before nor fitted")
        answers: list[np.ndarray] = []
        try:
            if interrupted_after(
                WAIT_SECONDS + 5 * self.seconds,
                lambda: answers.append(self._fit(self.scene.estimator(self.root)).predict_proba(self.scene.X)),
            ):
                return fate, [*problems, "the next fit waits"]
        except BaseException as error:
            return fate, [*problems, f"the next fit: {error!r}"]
        if not np.array_equal(answers[0], self.expected):
            problems.append("the next fit is another")
        problems += [f"left by the next fit: {what}" for what in leftovers(self.root) if what not in there]
        has_come, interrupt = interrupt is not None, None
        gc.collect()
        if account.n_bytes != n_bytes:
            problems.append(f"{account.n_bytes} bytes of pixels, {n_bytes} before")
        return (fate if has_come or fate == "neither" else "not reached"), problems


def run_scene(scene: Scene, root: Path, done: set[Line], options: argparse.Namespace) -> Counter[str]:
    """Interrupt a scene at lines that have not been, and print what came of it by module."""
    trials, outcomes = Trials(scene, root), defaultdict[str, Outcome](Outcome)
    lines = [line for line in trials.lines if line not in done and re.search(options.modules, line[0])]
    print(f"\n{scene.name}: {len(trials.lines)} lines, {len(lines)} of them to be interrupted; a fit takes "
          f"{trials.seconds:.2f} s", flush=True)  # fmt: skip
    if not options.again:
        done.update(lines)
    rng = random.Random(options.seed)  # noqa: S311 - no secret
    gc.freeze()

    def count(module: str, place: str, fate: str, problems: list[str]) -> None:
        outcome = outcomes[module]
        outcome.as_before += fate == "as before"
        outcome.fitted += fate == "fitted"
        outcome.not_reached += fate == "not reached"
        if problems:
            outcome.problems.append(place)
            print(f"  {place}: {'; '.join(problems)}", flush=True)

    for number, line in enumerate(lines[rng.randrange(options.every) :: options.every]):
        module = line[0].removeprefix(PACKAGE)
        both = module == "_classifier.py"
        for is_refit in (False, True) if both else (bool(number % 2),):
            fate, problems = trials.trial(lambda run, line=line: interrupted_at(line, run), is_refit=is_refit)
            count(module, f"{module}:{line[1]}", fate, problems)
    for number in range(options.random):
        seconds = rng.uniform(0, trials.seconds)
        fate, problems = trials.trial(
            lambda run, seconds=seconds: interrupted_after(seconds, run), is_refit=bool(number % 2)
        )
        count("at any time", f"after {seconds:.3f} s", fate, problems)
    print(f"{'module':40} {'interrupted':>11} {'as before':>9} {'fitted':>6} {'ended before':>12} {'wrong':>5}")
    total = Counter[str]()
    for module, outcome in sorted(outcomes.items()):
        n = outcome.as_before + outcome.fitted
        row = {"interrupted": n, "as before": outcome.as_before, "fitted": outcome.fitted,
               "ended before": outcome.not_reached, "wrong": len(outcome.problems)}  # fmt: skip
        total.update(row)
        print(f"{module:40} {n:11} {row['as before']:9} {row['fitted']:6} {row['ended before']:12} {row['wrong']:5}")
    print(f"{'all':40} " + " ".join(f"{total[name]:{width}}" for name, width in
          zip(("interrupted", "as before", "fitted", "ended before", "wrong"), (11, 9, 6, 12, 5), strict=True)),
          flush=True)  # fmt: skip
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="interrupt each so-manieth line only")
    parser.add_argument("--random", type=int, default=0, help="interrupts at random times, for each kind of fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="interrupt a line in each kind of fit that reaches it")
    parser.add_argument("--modules", default="", help="a regular expression that the modules match")
    parser.add_argument("--only", default="", help="kinds of fits whose names hold this")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what they start behind them ignore it
    initialization._ORDERING_STEPS = 2  # its lines are the same ones
    logging.getLogger().setLevel(logging.ERROR)
    is_broken, done = False, set[Line]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("images", "fits", "temporary"):
            (root / name).mkdir()
        tempfile.tempdir = str(root / "temporary")
        try:
            for scene in scenes(root / "images"):
                if options.only in scene.name:
                    total = run_scene(scene, root / "fits", done, options)
                    is_broken |= total["wrong"] > 0
        finally:
            tempfile.tempdir = None
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
