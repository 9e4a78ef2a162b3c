"""The command `skl2rclip`: which commands there are, and how each of them ends.

A command is a module of this folder, which is imported when it is asked for: ``add_options(parser)`` says what it
takes, and ``run(options, console)`` returns 0, or 1 where some of the data are bad. Nothing heavy is imported here.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from skl2rclip import __version__
from skl2rclip._cli.console import Console, UsageError, one_line
from skl2rclip._cli.parsing import CommandParser, TopParser, with_values_joined
from skl2rclip.errors import InvalidParameterError, visible

# by name: what its line in the help says
COMMANDS = {
    "fit": "learn the ranks of the images of a table or folder, and save the model",
    "predict": "predict the ranks of images, as CSV or JSON",
    "evaluate": "score a model on images whose ranks are known, and plot how it errs",
    "embed": "write the embeddings of images",
    "check": "look at images and ranks before a fit",
    "info": "say what a saved model is",
    "export": "write a model as a file of ONNX",
    "push": "upload a model to the Hugging Face Hub",
}

BAD_DATA, USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141  # the last two as shells count signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return its exit status."""
    console = Console("skl2rclip")
    if arguments is None and not console.shows_bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # those of downloads
    try:
        console.arguments = typed = list(sys.argv[1:] if arguments is None else arguments)
        with console.warnings():
            status = _run(typed, console)
        _flush()
        return status
    except SystemExit as stop:  # of argparse, which has said why
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _end_quietly()
    except (UsageError, InvalidParameterError) as error:
        return _fail(console, error, USAGE)
    except Exception as error:  # one sentence for whatever it is
        if os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL and not error.filename:
            return _end_quietly()  # so Windows says that a pipe is closed
        return _fail(console, error, BAD_DATA)


def _run(arguments: list[str], console: Console) -> int:
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        console.command = f"skl2rclip {name}"
        module = importlib.import_module(f"skl2rclip._cli.{name}")
        parser = CommandParser(console.command, module.__doc__ or "")
        module.add_options(parser)
        options = parser.parse_intermixed_args(with_values_joined(arguments[1:]))
        console.shows_traceback = options.traceback
        return module.run(options, console)
    top = TopParser(COMMANDS)
    top.add_argument("-V", "--version", action="version", version=f"skl2rclip {__version__}")
    if name in ("-h", "--help", "-V", "--version"):
        top.parse_args([name])  # which ends here
    if not name:
        top.print_help(sys.stderr)
        return USAGE
    near = get_close_matches(name, COMMANDS, 1)
    meant = f", perhaps {near[0]}" if near else ""
    raise UsageError(f"there is no command {name!r}{meant}; skl2rclip --help lists them")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _end_quietly() -> int:
    """End as who writes into a pipe does when who reads has enough."""
    _write_no_more()
    return PIPE_CLOSED


def _write_no_more() -> None:
    """Lead the standard output nowhere, so that Python does not complain at its end of what it cannot write."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # it is no file
        pass


def _fail(console: Console, error: Exception, status: int) -> int:
    """Say an error in one sentence, with its traceback where that is asked for."""
    if console.shows_traceback:
        import traceback

        traceback.print_exception(error)
    console.note(f"error: {one_line(console.in_options(sentence_of(error)))}")
    if isinstance(error, OSError):  # which may have been the standard output's, of a full disk say
        try:
            _flush()
        except OSError:
            _write_no_more()
    return status


def sentence_of(error: Exception) -> str:
    """Say an error of the library or of the system as it does itself, and any other with its kind."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        is_named = isinstance(error.filename, str | bytes | os.PathLike)
        return f"{visible(os.fsdecode(error.filename))}: {error.strerror}" if is_named else error.strerror
    if isinstance(error, MemoryError) and not str(error):
        return "there is not enough memory; lower --batch-size or --max-memory"
    told = isinstance(error, ValueError | TypeError | OSError | ImportError | RuntimeError | MemoryError | UsageError)
    if told and str(error):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; --traceback shows where"
