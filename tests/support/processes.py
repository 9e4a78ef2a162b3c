"""Processes that begin soon, and a limit for tests that wait for others, so that one which hangs fails and says so."""

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

# what this library needs of others, whose import takes several seconds; nothing of our own
_IMPORTED_BEFOREHAND = """
torch torch._dynamo torchvision.ops open_clip transformers huggingface_hub sklearn.model_selection sklearn.linear_model
scipy.optimize scipy.stats joblib jsonschema lightning_fabric lightning_fabric.fabric distributed
""".split()
# a test may put this module's contexts in the place of those
_get_context = multiprocessing.get_context


def prepared_context():
    """Return the way to start processes that begin within a second, where the system can fork; else they take several.

    They are forked from one that has imported what this library needs, but not the library: for it they are as if
    they had been started anew. The environment is that of when the first of them was started. With
    ``SKL2RCLIP_TESTS_START=spawn`` they are started as on Windows and macOS.
    """
    method = os.environ.get("SKL2RCLIP_TESTS_START", "forkserver")
    if method not in ("forkserver", "spawn"):
        raise ValueError(f"SKL2RCLIP_TESTS_START must be forkserver or spawn, got {method!r}.")
    if method == "spawn" or "forkserver" not in multiprocessing.get_all_start_methods():
        return _get_context("spawn")
    context = _get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED_BEFOREHAND)
    from multiprocessing import forkserver  # not on Windows

    forkserver.ensure_running()  # Dask would tell it to import other modules
    return context


def begun(code, out, *arguments, cwd=".", **environment):
    """Start a process that runs code as ``python -c`` would, and return it; a folder `out` takes what it writes."""
    process = prepared_context().Process(target=_run, args=(code, out, arguments, cwd, environment))
    process.start()
    return process


def output_of(code, *arguments, cwd=".", timeout=120, **environment):
    """Return what code prints that a process runs as ``python -c`` would, and fail where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        process = begun(code, folder, *arguments, cwd=cwd, **environment)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutError(f"The process has not ended in {timeout} seconds.")
        out, error = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("out", "error"))
    assert process.exitcode == 0, error
    return out


def set_environment(environment):
    """Set variables of the environment, also for the hub's client where it was imported beforehand."""
    os.environ.update(environment)
    if "huggingface_hub.constants" in sys.modules:
        importlib.reload(sys.modules["huggingface_hub.constants"])


def _run(code, folder, arguments, cwd, environment):
    for number, name in enumerate(("out", "error"), 1):
        with open(Path(folder) / name, "wb") as file:
            os.dup2(file.fileno(), number)
    set_environment(environment)
    os.chdir(cwd)
    sys.argv = ["-c", *map(str, arguments)]
    sys.path.insert(0, "")
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


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
