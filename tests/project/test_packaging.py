"""What is built holds every module and all data, and works where nothing else of the checkout is to be seen."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = (".ci", ".github", "benchmarks", "docs", "examples", "skl2rclip", "tests", "tools")
PAGES = tuple(path.name for path in ROOT.glob("*.md"))
RELEASED = (*FOLDERS, *PAGES, ".gitignore", "CITATION.cff", "LICENSE", "MANIFEST.in", "pyproject.toml")
BUILT = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
FIT = """
import sys
from pathlib import Path
import numpy as np
import skl2rclip
from skl2rclip import L2RCLIPClassifier, datasets, embedding_store, errors, inspection, metrics

X = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
classifier = L2RCLIPClassifier("skl2rclip-tiny", prompt_epochs=1, n_context_tokens=4, random_state=0, device="cpu")
classifier.fit(X, np.arange(8) % 2)
assert classifier.predict_proba(X).shape == (8, 2)
seen = {name: module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "skl2rclip"}
assert len(seen) > 30, seen
assert all(Path(file).is_relative_to(sys.argv[1]) for file in seen.values()), seen
"""


def files_below(folder):
    """All files below a folder of the checkout, as Python keeps them apart from what it makes of them."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy without history, because a build writes beside what it builds."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in RELEASED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    """Paths of what is built, by the hook of the build backend that builds it."""
    folder = tmp_path_factory.mktemp("built")

    def path_of(hook):
        command = [sys.executable, "-c", BUILT, hook, str(folder)]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert not [line for line in done.stderr.splitlines() if "warning: no" in line]  # of what MANIFEST.in names
        return folder / done.stdout.split()[-1]

    return {hook: path_of(hook) for hook in ("build_sdist", "build_wheel")}


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else(built):
    names = set(zipfile.ZipFile(built["build_wheel"]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == files_below("skl2rclip")


def test_the_source_distribution_is_the_checkout(built):
    with tarfile.open(built["build_sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {name for folder in FOLDERS for name in files_below(folder)} | set(RELEASED) - set(FOLDERS)
    assert expected - names == set()
    assert not {name for name in names if "__pycache__" in name}


def test_without_tags_and_history_the_version_is_the_one_that_is_written_down(built):
    pytest.importorskip("setuptools_scm")
    expected = PYPROJECT["tool"]["setuptools_scm"]["fallback_version"]
    assert built["build_sdist"].name == f"skl2rclip-{expected}.tar.gz"
    assert built["build_wheel"].name == f"skl2rclip-{expected}-py3-none-any.whl"


def test_the_installed_wheel_fits_without_the_checkout(built, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*install, "--target", str(target), str(built["build_wheel"])], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", FIT, str(target)]
    done = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
