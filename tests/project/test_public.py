"""What is public: all of it stands in a file, which nobody changes by accident, and all else has an underscore."""

import difflib
import importlib
import inspect
from pathlib import Path

import list_public

import skl2rclip
from skl2rclip import errors

PACKAGE = Path(skl2rclip.__file__).parent


def test_the_public_surface_is_the_one_that_is_written_down():
    written, found = list_public.FILE.read_text(encoding="utf-8").splitlines(), list_public.surface().splitlines()
    differences = list(difflib.unified_diff(written, found, "written", "found", lineterm="", n=2))
    assert not differences, "If this is meant, run python tools/list_public.py.\n" + "\n".join(differences)


def test_a_renamed_parameter_another_default_and_a_new_method_are_seen(monkeypatch):
    def changed(X, groups=None, *, threshold=0.2): ...

    changed.__module__ = "skl2rclip._duplicates"
    monkeypatch.setattr("skl2rclip._duplicates.find_duplicates", changed)
    monkeypatch.setattr(skl2rclip.ImageCrop, "more", changed, raising=False)
    lines = list(list_public.lines_of("skl2rclip"))
    start = lines.index("skl2rclip.find_duplicates: function")
    assert lines[start + 1 : start + 5] == ["    X", "    groups=None", "    by keyword only:", "    threshold=0.2"]
    assert "skl2rclip.ImageCrop.more: method" in lines


def test_every_module_without_an_underscore_is_a_public_one():
    modules = {path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")}
    named = {".".join(path.parts).removesuffix(".__init__") for path in modules}
    private = {name for name in named if any(part.startswith("_") for part in name.split("."))}
    assert named - private == set(list_public.MODULES)


def test_every_exception_of_the_library_is_named_among_the_public_ones():
    kinds = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert kinds == set(errors.__all__)


def test_what_modules_name_as_public_is_there_and_has_its_documentation():
    for name in list_public.MODULES:
        module = importlib.import_module(name)
        assert len(set(module.__all__)) == len(module.__all__)
        assert set(module.__all__) <= set(dir(module))
        undocumented = [each for each in module.__all__ if not inspect.getdoc(getattr(module, each))]
        assert undocumented == [], name
