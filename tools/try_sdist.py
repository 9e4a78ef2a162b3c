"""Build what is released, and run the tests of the source distribution where nothing else is installed.

    pip install build twine
    python tools/try_sdist.py                         # the whole suite
    python tools/try_sdist.py tests/project -k serve  # what follows goes to pytest

Warnings of the build and of twine are errors. The wheel is built from the source distribution, and the tests run in its
unpacked folder, in a new virtual environment with the extra ``test``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(folder: Path) -> tuple[Path, Path]:
    """Build a source distribution, and a wheel from it, without a warning; return their paths."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    # else the build says that it compiles nothing
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    warned = [line for line in (done.stdout + done.stderr).splitlines() if "warning" in line.lower()]
    if done.returncode or warned:
        raise SystemExit("\n".join([*warned, done.stderr if done.returncode else "", "The build is not clean."]))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, folder.iterdir())], check=True)
    [source], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def run_tests(source: Path, scratch: Path, arguments: list[str]) -> int:
    """Unpack a source distribution, install it into a new environment, and return the status of its tests."""
    with tarfile.open(source) as archive:
        archive.extractall(scratch, filter="data")
    folder = scratch / source.name.removesuffix(".tar.gz")
    venv.create(scratch / "environment", with_pip=True)
    python = scratch / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    run = [str(python), "-m"]
    subprocess.run([*run, "pip", "install", "--quiet", ".[test]"], cwd=folder, env=environment, check=True)
    return subprocess.run([*run, "pytest", *arguments], cwd=folder, env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for what is built")
    parser.add_argument("--version", help="which the build must have, that of the tag")
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # as folders are that people unpack into: some tests become another user
        source, wheel = build(options.keep or scratch / "dist")
        if options.version not in (None, source.name.removesuffix(".tar.gz").partition("-")[2]):
            raise SystemExit(f"{source.name} is not of version {options.version}: tag the commit that is checked out.")
        print(f"{source.name}, {source.stat().st_size:,} bytes; {wheel.name}, {wheel.stat().st_size:,} bytes")
        return run_tests(source, scratch, arguments)


if __name__ == "__main__":
    sys.exit(main())
