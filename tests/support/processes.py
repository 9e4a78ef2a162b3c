"""A limit for tests that wait for other processes, so that one which hangs fails and says so."""

import multiprocessing
import signal
from contextlib import contextmanager


@contextmanager
def time_limit(seconds):
    """Raise TimeoutError in whatever the main thread is waiting for after `seconds`, and end the processes it began."""

    def give_up(*_):
        children = multiprocessing.active_children()
        for child in children:  # else the interpreter would wait for them at its end
            child.kill()
        raise TimeoutError(
            f"The test has not come to its end in {seconds} seconds; {len(children)} processes that it waited for were "
            "killed. Starting a process takes a quarter of a minute of one core, for its imports."
        )

    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
