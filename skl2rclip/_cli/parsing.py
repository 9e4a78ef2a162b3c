"""Parsers of command lines, on argparse, and options that are made of an estimator's signature and documentation."""

from __future__ import annotations

import argparse
import ast
import csv
import inspect
import os
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

# a negative number, or several, in the place of a value, which argparse takes for an option
_NEGATIVE = re.compile(r"-[\d.][\d.,eE+-]*")
_OPTION = re.compile(r"--[a-z][\w-]*")
_BOOLEAN = "True|False"
_ENTRY = re.compile(r"(\w+(?:, \w+)*) : (.+)")


class _Help(argparse.HelpFormatter):
    """Descriptions keep their paragraphs."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(super(_Help, self)._fill_text(paragraph, width, indent) for paragraph in paragraphs)


class CommandParser(argparse.ArgumentParser):
    """Parser of one command: an error is one line.

    Parameters
    ----------
    command : str
        As it is typed.
    description : str
    """

    def __init__(self, command: str, description: str):
        text = description.replace("``", "").replace("`", "")
        super().__init__(prog=command, description=text, formatter_class=_Help, allow_abbrev=False)
        self.add_argument("--traceback", action="store_true", help="Show where an error is raised.")

    def error(self, message: str) -> NoReturn:
        """End with one line, which says what is wrong and where help is."""
        found = re.fullmatch(r"argument (--[\w-]+).*: expected (one|at least one) argument", message)
        if found:
            is_flag = any(found[1] in each.option_strings and each.metavar == _BOOLEAN for each in self._actions)
            hint = ", True or False" if is_flag else f"; one that begins with - is written {found[1]}=-..."
            message = f"{found[1]} needs a value{hint}"
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


class TopParser(argparse.ArgumentParser):
    """Parser of a command line without a command, which knows what `commands` there are."""

    def __init__(self, commands: Mapping[str, str]):
        width = max(map(len, commands))
        lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in commands.items())
        super().__init__(
            prog="skl2rclip",
            usage="skl2rclip COMMAND ... [--help]",
            description="Ordinal image classification with CLIP.",
            epilog=f"commands:\n{lines}\n\nskl2rclip COMMAND --help says what a command takes.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )


def with_values_joined(arguments: Iterable[str]) -> list[str]:
    """Join an option with the negative numbers that follow it: ``--ranks -1,0,1`` becomes ``--ranks=-1,0,1``."""
    joined: list[str] = []
    plain = False
    for argument in arguments:
        if not plain and joined and _OPTION.fullmatch(joined[-1]) and _NEGATIVE.fullmatch(argument):
            joined[-1] += f"={argument}"
            continue
        plain = plain or argument == "--"
        joined.append(argument)
    return joined


def user_path(text: str) -> str:
    """Take a path as it is typed, with the home folder for a ~ that no shell has seen."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return os.path.expanduser(text)


def listed(text: str) -> list[Any]:
    """Read a list: ``A,B,C`` with quotes around what holds a comma, or as Python writes it; numbers where all are."""
    if text.strip().startswith("["):
        try:
            return list(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, TypeError) as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no list as Python writes it") from error
    words = [word.strip() for word in next(csv.reader([text], skipinitialspace=True), [])]
    numbers = [_number(word) for word in words]
    return words if None in numbers else numbers


def words_listed(text: str) -> list[str]:
    """Read a list of words, ``A,B,C`` with quotes around what holds a comma; numbers are words too."""
    words = [word.strip() for word in next(csv.reader([text], skipinitialspace=True), [])]
    if not words or "" in words:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of words such as A,B,C")
    return words


def columns(text: str) -> str | list[str]:
    """Read the name of a column, or several."""
    names = words_listed(text)
    return names if len(names) > 1 else names[0]


def box_columns(text: str) -> str | list[str]:
    """Read the column of boxes, or the four columns of their numbers."""
    names = words_listed(text)
    if len(names) not in (1, 4):
        raise argparse.ArgumentTypeError(f"a box has one column or four, x,y,width,height, got {len(names)}")
    return columns(text)


# ------------------------------------------------------- parameters as options


def add_parameters(
    parser: Any, estimator: type, names: Collection[str] | None = None, texts: Mapping[str, str] | None = None
) -> None:
    """Add an option for each parameter of an estimator, with its documentation as the help.

    Where `names` are given they are those alone, of a model that has values already, so that defaults are not said;
    `texts` are told instead of the documentation.
    """
    known = _texts_of(estimator)
    for name, parameter in inspect.signature(estimator).parameters.items():
        if names is None or name in names:
            kind, text = known.get(name, ("", ""))
            kind = kind if names is None else kind.partition(", default=")[0]
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"{_PREFIX}{name}",
                type=_reader_of(str(parameter.annotation)),
                default=argparse.SUPPRESS,
                metavar=_BOOLEAN if parameter.annotation == "bool" else "VALUE",
                help=_escaped(f"{kind}. {(texts or {}).get(name, text)}"),
            )


_PREFIX = "parameter_"


def parameters_of(options: argparse.Namespace) -> dict[str, Any]:
    """Parameters of the estimator that were given."""
    return {name.removeprefix(_PREFIX): value for name, value in vars(options).items() if name.startswith(_PREFIX)}


def _texts_of(estimator: type) -> dict[str, tuple[str, str]]:
    """Type and text of each parameter, of documentation in the form of numpydoc."""
    _, _, rest = (inspect.getdoc(estimator) or "").partition("Parameters\n----------\n")
    section = re.split(r"\n\n\w[\w ]*\n---", rest, maxsplit=1)[0]
    texts: dict[str, tuple[str, str]] = {}
    for part in re.split(r"\n(?=\w)", section):
        head, _, text = part.partition("\n")
        if entry := _ENTRY.fullmatch(head):
            plain = " ".join(textwrap.dedent(text).split())
            texts |= dict.fromkeys(entry[1].split(", "), (entry[2], plain))
    return texts


def _escaped(text: str) -> str:
    return text.replace("``", "").replace("`", "").replace("%", "%%")


def _reader_of(annotation: str) -> Any:
    """Make the function that reads a value, by what the signature says that it may be.

    None, True, False and numbers are read as such where the signature has them, else as words, which the estimator
    itself refuses. What may be anything may be a list or a dictionary, too.
    """
    kinds = {kind.strip() for kind in annotation.split("|")}
    anything = "Any" in kinds

    def value(text: str) -> Any:
        word = text.strip().casefold()
        if word == "none" and (anything or "None" in kinds):
            return None
        if word in ("true", "false") and (anything or "bool" in kinds):
            return word == "true"
        number = _number(text) if anything or kinds & {"int", "float"} else None
        if number is not None:
            return number
        if anything:
            return _anything(text)
        return user_path(text) if "os.PathLike" in kinds else text

    value.__name__ = "value"
    return value


def _anything(text: str) -> Any:
    if text.strip().startswith("{"):
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError) as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no dictionary as Python writes it") from error
    return listed(text) if "," in text or text.strip().startswith("[") else text


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
