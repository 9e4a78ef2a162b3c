"""What a command says beside its output: lines on the standard error, one for each error, warning and bad image."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from skl2rclip.errors import visible

# parameters that messages of the library name, and that are options here
_NAMED = (
    "image|rank|group|case|box|missing|repeated|root|ranks|rank_names|model_name|pretrained|on_bad_image|image_tower|image_features|decision"
    "|batch_size|max_memory|white_level|device|n_jobs|class_weight|prompt|image_adapter|rank_targets|n_context_tokens"
)
# where it is no part of a path, such as rank=3/one.png
_PARAMETER = re.compile(
    rf"(?<![\w./\\-])({_NAMED})(?:\[\d+\])?="
    r"(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|\.\.\.|-?\w+(?:\.\d+)?)(?![\w/\\-]|\.\w)"
)

# what is written in Python, and here
_CALL = re.compile(r"(?:L2RCLIPClassifier\.load\(path, |set_params\()([^)]*)\)")
_SAVE = "save(path, include_backbone=True)"


class UsageError(Exception):
    """The command line asks for what cannot be; nothing has been done."""


class DataError(ValueError):
    """The data of a command cannot be used at all."""


class Console:
    """The standard error of a command.

    Parameters
    ----------
    command : str
        What is run, as lines begin with it.
    """

    def __init__(self, command: str):
        self.command = command
        self.arguments: Sequence[str] = ()  # as they were typed
        self.shows_traceback = False

    @property
    def shows_bars(self) -> bool:
        """Whether a bar is seen, and is not mixed with rows."""
        return _is_terminal(sys.stderr)

    def bars_beside(self, output: str | None) -> bool:
        """Whether bars are shown while rows go to a file, or to the standard output where that is None."""
        return self.shows_bars and not (output is None and _is_terminal(sys.stdout))

    def note(self, text: str) -> None:
        """Write one line."""
        line, bars = f"{self.command}: {one_line(text)}\n", sys.modules.get("tqdm.auto")
        with contextlib.suppress(OSError, AttributeError, ValueError):  # nobody listens
            if bars is not None and self.shows_bars:  # which make way
                bars.tqdm.write(line, file=sys.stderr, end="")
            else:
                sys.stderr.write(line)
            sys.stderr.flush()

    def bad_image(self, name: str, reason: str) -> None:
        """Say why an image is left out."""
        self.note(f"{visible(name)}: {reason}")

    def in_options(self, message: str) -> str:
        """Write parameters in a message of the library as the options that they are here."""
        plain = _CALL.sub(lambda match: match[1].replace(", ", " "), message)
        plain = plain.replace(_SAVE, "fit --include-backbone")
        typed = [name for argument in self.arguments if "=" in (name := _value_of(argument))]
        names = [found.span() for name in typed for found in re.finditer(re.escape(visible(name)), plain)]

        def in_place(match: re.Match[str]) -> str:
            is_name = any(start <= match.start() and match.end() <= end for start, end in names)
            return match[0] if is_name else _as_option(match)

        return _PARAMETER.sub(in_place, plain)

    @contextlib.contextmanager
    def warnings(self) -> Iterator[None]:
        """Write each warning as one line while the block runs."""

        def show(message: Any, *_: Any, **__: Any) -> None:
            self.note(f"warning: {self.in_options(str(message))}")

        with warnings.catch_warnings():
            warnings.showwarning = show
            yield


def one_line(text: str) -> str:
    """Join the lines of a message: what follows a colon with a blank, all else with semicolons."""
    return re.sub(r"([:;.,]?)\s*\n\s*", lambda match: f"{match[1] or ';'} ", text.strip())


def _as_option(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if value == "..." or value == "[...]":
        is_column = name in ("image", "rank", "group", "case", "box")
        value = {"ranks": "A,B,C", "root": "DIR"}.get(name, "COL" if is_column else "VALUE")
    elif value.startswith("["):
        with contextlib.suppress(ValueError, SyntaxError):
            value = shlex.quote(_joined(ast.literal_eval(value)))
        if value.lstrip("'").startswith("-"):  # else it is taken for an option
            return f"--{name.replace('_', '-')}={value}"
    return f"--{name.replace('_', '-')} {value}"


def _joined(values: Iterable[Any]) -> str:
    """Write a list as `listed` reads it, with quotes around what holds a comma."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _value_of(argument: str) -> str:
    """Take what may be a path of an argument, ``--root=here`` too."""
    return argument.partition("=")[2] if argument.startswith("--") else argument


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False
