"""Write down the public surface: names, signatures with defaults, fitted attributes, and options of the command line.

    python tools/list_public.py

writes ``tests/project/public.txt``, which a test compares with what there is. So whoever changes something that users
can have written into their code changes a line of that file, too, and sees in the difference what it is.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]  # the checkout that this file is in, and no other that is installed

FILE = ROOT / "tests" / "project" / "public.txt"
MODULES = (
    "skl2rclip",
    "skl2rclip.datasets",
    "skl2rclip.embedding_store",
    "skl2rclip.errors",
    "skl2rclip.inspection",
    "skl2rclip.metrics",
)
_KINDS = {classmethod: "class method", staticmethod: "static method"}
_ATTRIBUTES = re.compile(r"^Attributes\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", flags=re.MULTILINE | re.DOTALL)


def surface() -> str:
    """Return all of it, a line for each thing."""
    return "\n".join([*(line for name in MODULES for line in lines_of(name)), *_of_command_line()]) + "\n"


def lines_of(name: str) -> Iterator[str]:
    """What a module has, by the names that it says are public."""
    module = importlib.import_module(name)
    for public in sorted(module.__all__):
        value, full = getattr(module, public), f"{name}.{public}"
        if inspect.isclass(value):
            yield from _of_class(full, value)
        elif inspect.isfunction(value):
            yield from _callable(full, value)
        else:
            yield f"{full}: {type(value).__name__}"


def _of_class(full: str, value: type) -> Iterator[str]:
    # what can be caught as; the classes of scikit-learn are its own, and differ from release to release
    known = [base.__name__ for base in value.__mro__[1:-1] if base.__module__ == "builtins"]
    yield f"{full}: class, also a {', '.join(known)}" if known else f"{full}: class"
    if _is_ours(inspect.getattr_static(value, "__init__")):
        yield from _parameters(value)
    yield from (f"{full}.{name}: attribute" for name in sorted(_attributes(value)))
    for name in sorted(dir(value)):
        found = inspect.getattr_static(value, name)
        member = getattr(found, "__func__", getattr(found, "fget", found))
        if name.startswith("_") or not _is_ours(member):
            continue
        if isinstance(found, property):
            yield f"{full}.{name}: property"
        else:
            yield from _callable(f"{full}.{name}", getattr(value, name), _KINDS.get(type(found), "method"))


def _attributes(value: type) -> list[str]:
    """Names under "Attributes" in the documentation of a class, where several may share an entry."""
    section = _ATTRIBUTES.search(inspect.getdoc(value) or "")
    entries = re.findall(r"^(\w+(?:, \w+)*)(?: :|$)", section[1], flags=re.MULTILINE) if section else []
    return [name for entry in entries for name in entry.split(", ")]


def _is_ours(value: object) -> bool:
    return (getattr(value, "__module__", None) or "").partition(".")[0] == "skl2rclip"


def _callable(full: str, value: Any, kind: str = "function") -> Iterator[str]:
    yield f"{full}: {kind}"
    yield from _parameters(value)


def _parameters(value: Any) -> Iterator[str]:
    """What is called with what, a line for each parameter, so that a difference shows the one that has changed."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    was_positional = True
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and was_positional:
            was_positional = False
            yield "    by keyword only:"
        default = "" if parameter.default is parameter.empty else f"={_shown(parameter.default)}"
        yield f"    {stars.get(parameter.kind, '')}{parameter.name}{default}"


def _shown(default: object) -> str:
    return default.__name__ if inspect.isroutine(default) or inspect.isclass(default) else repr(default)


def _of_command_line() -> Iterator[str]:
    from skl2rclip._cli.main import COMMANDS

    for name in COMMANDS:
        parser = argparse.ArgumentParser(f"skl2rclip {name}")
        importlib.import_module(f"skl2rclip._cli.{name}").add_options(parser)
        yield f"skl2rclip {name}: command"
        yield from (f"    {' '.join(action.option_strings) or action.dest}" for action in parser._actions)


if __name__ == "__main__":
    FILE.write_text(surface(), encoding="utf-8", newline="\n")
    print(f"{FILE.relative_to(ROOT).as_posix()}: {len(FILE.read_text(encoding='utf-8').splitlines())} lines")
