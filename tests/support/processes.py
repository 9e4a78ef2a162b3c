"""Processes that tests start soon, and a limit for tests that wait for them, so that one which hangs fails and says so."""

import multiprocessing
import signal
from contextlib import contextmanager

# what this library needs of others, whose import takes several seconds; nothing of our own
_IMPORTED_BEFOREHAND = """
torch torch._dynamo torchvision.ops open_clip transformers huggingface_hub sklearn.model_selection sklearn.linear_model
scipy.optimize scipy.stats joblib jsonschema lightning_fabric lightning_fabric.fabric
""".split()


def prepared_context():
    """Return the way to start processes that begin within a second, where the system can fork; else they take several.

    They are forked from one that has imported what this library needs, but not the library: for it they are as if
    they had been started anew. The environment is that of when the first of them was started.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_BEFOREHAND)
    return context


@contextmanager
def time_limit(seconds):
    """Raise TimeoutError in whatever the main thread is waiting for after `seconds`, and end the processes it began."""

    def give_up(*_):
        children = multiprocessing.active_children()
        for child in children:  # else the interpreter would wait for them at its end
            child.kill()
        raise TimeoutError(
            f"The test has not come to its end in {seconds} seconds; {len(children)} processes that it waited for were "
            "killed. Starting a process anew takes a quarter of a minute of one core, for its imports."
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
