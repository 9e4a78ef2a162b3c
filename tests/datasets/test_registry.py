"""The table of readers: public names, type checkers and documentation have what it has."""

import ast
import inspect
from pathlib import Path

import pytest

from skl2rclip import datasets
from skl2rclip.datasets import _registry
from skl2rclip.datasets._registry import READERS
from tests.support import stand_ins

DOCS = Path(__file__).parents[2] / "docs/datasets.md"


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_each_reader_is_public_and_documented(reader):
    function = getattr(datasets, reader.name)
    assert function.__module__ == f"skl2rclip.datasets.{reader.module}"
    assert "return_X_y" in inspect.signature(function).parameters
    assert f"`{reader.name}(" in DOCS.read_text(encoding="utf-8") or f"import {reader.name}\n" in DOCS.read_text(
        encoding="utf-8"
    )
    assert reader.reads


def test_no_reader_is_missing():
    assert {reader.name for reader in READERS} == {
        name for name in datasets.__all__ if name.startswith(("load_", "read_"))
    }
    defined = {
        node.name
        for path in Path(_registry.__file__).parent.glob("_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith(("load_", "read_"))
        and any(argument.arg == "return_X_y" for argument in node.args.kwonlyargs + node.args.args)
    }
    assert defined == {reader.name for reader in READERS}


def test_type_checkers_see_the_same_readers():
    [block] = [node for node in ast.parse(inspect.getsource(_registry)).body if isinstance(node, ast.If)]
    seen = {(node.module, name.asname) for node in block.body for name in node.names}
    assert seen == {(f"skl2rclip.datasets.{reader.module}", reader.name) for reader in READERS}


def test_each_benchmark_has_a_stand_in():
    names = {reader.name.removeprefix("load_") for reader in READERS if reader.benchmark}
    assert {name for name in names if not hasattr(stand_ins, name)} == set()
