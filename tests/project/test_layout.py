"""How the package is laid out. Which folder may import which is in the contracts of pyproject.toml."""

from pathlib import Path

import skl2rclip

PACKAGE = Path(skl2rclip.__file__).parent


def test_private_folders_run_nothing_when_they_are_imported():
    folders = [
        path for path in PACKAGE.iterdir() if path.is_dir() and path.name.startswith("_") and any(path.glob("*.py"))
    ]
    assert len(folders) > 5
    assert {folder.name: (folder / "__init__.py").read_text(encoding="utf-8") for folder in folders} == {
        f.name: "" for f in folders
    }


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_few_modules_stand_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= 14


def test_no_module_has_more_than_800_lines():
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: n for path, n in lines.items() if n > 800} == {}
