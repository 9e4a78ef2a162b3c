"""How many threads compute, so that a fit beside other work takes its share of the processors and no more time.

An operation that is divided among threads ends when the last of them has done its part, and until then OpenMP and BLAS
let the others spin. Beside other work the last one may not be running at all, so that thousands of small operations a
second wait for the scheduler as many times. Hence small steps take one thread (`one_thread`), large work is divided
into parts that run side by side and wait once (`side_by_side`), and where single operations are large enough for all
threads these sleep instead of spinning as soon as there is other work (`LoadWatch`).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]
from threadpoolctl import ThreadpoolController

from skl2rclip._utils.forks import in_forked_child
from skl2rclip._utils.interrupts import undone_by

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")
# more of them wait for the interpreter; where there are more cores, each computes with several
_MAX_CONCURRENT = 8
# products of a step of fewer are done before a second thread is of use
_LARGE_STEP = 10**8
# between two checks of the load, and the times a second that other work takes the processor from an operation
_LOOK_SECONDS, _OFTEN = 0.25, 20.0


class _OfThread(threading.local):
    """What belongs to the thread that asks: how many threads torch gave it before it took one, and whose it is."""

    n_before: int | None = None
    is_worker = False


class _BlasLimit:
    """One thread for NumPy's and SciPy's BLAS, whose number is the process's: the last to leave puts it back.

    threadpoolctl lets only the thread that has set OpenBLAS's number put it back, so that a thread does both for all.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget who is inside, as a forked process has to."""
        self._lock = threading.Lock()
        self._inside: set[object] = set()
        self._keeper = ThreadPoolExecutor(1, "skl2rclip-blas")
        self._limits = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the limit for the block."""
        somebody = object()
        with undone_by(partial(self._leave, somebody)):
            self._enter(somebody)
            yield

    def _enter(self, somebody: object) -> None:
        with self._lock:
            is_first = not self._inside
            self._inside.add(somebody)
            if is_first:
                self._keep(lambda: self._limits.enter_context(_libraries("blas").limit(limits=1)))

    def _leave(self, somebody: object) -> None:
        with self._lock:
            if self._inside == {somebody}:  # in a forked child nobody is inside
                self._keep(self._limits.close)
            self._inside.discard(somebody)

    def _keep(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the interpreter is about to end, and lets no thread begin
            self._keeper.submit(function).result()


_of_thread = _OfThread()
_blas_limit = _BlasLimit()


@cache
def _libraries(user_api: str) -> ThreadpoolController:
    return ThreadpoolController().select(user_api=user_api)


@cache
def _workers(n: int, n_threads_each: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, "skl2rclip", initializer=_begin_worker, initargs=(n_threads_each,))


def _begin_worker(n_threads: int) -> None:
    _of_thread.is_worker = True
    _set_own_number(n_threads, n_threads)


def _forget_threads() -> None:
    """Begin anew in a forked process, which inherits no thread, locks in any state, and computes with one thread."""
    _blas_limit.begin_anew()
    _of_thread.n_before = None
    _workers.cache_clear()


in_forked_child(_forget_threads)


def _set_own_number(n: int, n_of_mkl: int) -> int:
    """Set how many threads torch takes when this thread computes, by OpenMP and in its MKL; return what MKL had.

    ``torch.set_num_threads`` would also say it to threads that have not computed yet, of this fit or of the user.
    """
    torch.get_num_threads()  # a thread that has not computed yet would take the process's number when it does
    for library in _libraries("openmp").lib_controllers:
        library.set_num_threads(n)
    return _mkl_setter()(n_of_mkl)


@cache
def _mkl_setter() -> Callable[[int], int]:
    """Return the function that sets how many threads torch's MKL takes in the present thread, 0 for the process's.

    MKL goes by OpenMP's number only until somebody calls ``torch.set_num_threads``. Where torch has no MKL, or hides
    it, the function that is returned does nothing.

    References
    ----------
    mkl_set_num_threads_local in the developer reference of oneMKL.
    """
    for file in Path(torch.__file__).parent.glob("lib/*torch_cpu.*"):
        with suppress(OSError, AttributeError):
            return ctypes.CDLL(str(file)).MKL_Set_Num_Threads_Local
    return lambda n: 0


def thread_count() -> int:
    """Return how many threads the present thread may compute with, also within `one_thread`."""
    return torch.get_num_threads() if _of_thread.n_before is None else _of_thread.n_before


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: torch for this thread, BLAS for the process while anybody asks for it.

    Both are put back, also after an error. `side_by_side` still has all threads.
    """
    if _of_thread.n_before is not None:
        yield
        return
    n_before, n_of_mkl = torch.get_num_threads(), 0

    def put_back() -> None:
        if _of_thread.n_before is None:  # a child that was forked meanwhile stays with one
            return
        if n_before > 1:
            _set_own_number(n_before, n_of_mkl)
        _of_thread.n_before = None

    with undone_by(put_back):
        _of_thread.n_before = n_before
        if n_before > 1:
            n_of_mkl = _set_own_number(1, 1)
        with _blas_limit.held():
            yield


def n_side_by_side() -> int:
    """Return how many calls `side_by_side` runs at a time."""
    return 1 if _of_thread.is_worker else min(thread_count(), _MAX_CONCURRENT)


def side_by_side(function: Callable[[_Part], _Result], parts: Sequence[_Part]) -> list[_Result]:
    """Call a function of each part in threads of their own, which share the cores, and return the results in order.

    What torch has set for this thread (gradients, inference mode, autocast) holds in them too. Where there is one
    thread or one part, the function is called here.
    """
    n = n_side_by_side()
    if min(n, len(parts)) < 2:
        return [function(part) for part in parts]
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    casts, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def as_here(part: _Part) -> _Result:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype=dtype, enabled=casts),
        ):
            return function(part)

    workers = _workers(n, thread_count() // n)
    with _blas_limit.held():
        try:
            results = workers.map(as_here, parts)
        except RuntimeError:  # the interpreter is about to end, and lets no thread begin
            return [function(part) for part in parts]
        return list(results)


class LoadWatch:
    """Let the threads of torch sleep while they wait for each other, from when other work takes the processors.

    GCC's OpenMP lets threads that wait spin for milliseconds, unless the process has more of them than there are
    processors. Threads that have computed once, and wait for the end, make them more. How many compute stays as it is,
    and with it every result. Other systems' OpenMP is left as it comes.

    References
    ----------
    GOMP_SPINCOUNT in the manual of GNU libgomp.
    """

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._since, self._n_before = time.monotonic(), _n_preempted()

    def step(self) -> None:
        """Look at the load, if it is time to; to be called between steps."""
        now = time.monotonic()
        if self._end is not None or now - self._since < _LOOK_SECONDS:
            return
        n = _n_preempted()
        if n - self._n_before > _OFTEN * (now - self._since) and torch.get_num_threads() > 1:
            self._end = _more_threads_than_processors()
        self._since, self._n_before = now, n

    def end(self) -> None:
        """Let threads that wait for the end go."""
        if self._end is not None:
            self._end.set()


def _n_preempted() -> int:
    """Count how often this thread had to leave the processor to others, 0 where the system does not say it."""
    who = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if who is None else resource.getrusage(who).ru_nivcsw


def _more_threads_than_processors() -> threading.Event:
    """Begin threads that compute once with all that torch gives them, and wait for the event that is returned."""
    end = threading.Event()

    def wait() -> None:
        torch.ones(2**20).add_(1)  # long enough for torch to divide it
        end.wait()

    for _ in range((os.cpu_count() or 1) // torch.get_num_threads()):
        with suppress(RuntimeError):  # where the system allows no more threads, they spin
            threading.Thread(target=wait, name="skl2rclip-waits", daemon=True).start()
    return end


@contextmanager
def threads_for(n_products: int | None) -> Iterator[LoadWatch]:
    """Compute steps of so many products, one after the other, with one thread or with all; None for very many.

    Yields what is to be called between them.
    """
    if n_products is None or n_products >= _LARGE_STEP:
        watch = LoadWatch()
        with undone_by(watch.end):
            yield watch
    else:
        with one_thread():
            yield LoadWatch()
