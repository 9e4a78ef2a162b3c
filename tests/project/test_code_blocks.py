"""Code in README and docs: what evaluates measures errors in ranks, and the first steps run as they are printed."""

import ast
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
AS_PRINTED = "**words, random_state=0)"
QUICKER = '**words, random_state=0, prompt_epochs=1, image_features="embedding")'
EVALUATING = {"GridSearchCV", "RandomizedSearchCV", "cross_validate", "cross_val_score", "learning_curve"}
ERRORS = {"mean_absolute_error", "mean_absolute_rank_error"}


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def block_with(page, word):
    [block] = [block for block in blocks(page) if word in block]
    return block


BLOCKS = [(f"{page.name}-{number}", block) for page in PAGES for number, block in enumerate(blocks(page))]
# code in docstrings, as far as it evaluates anything
for path in sorted((ROOT / "skl2rclip").rglob("*.py")):
    lines = re.findall(r"^ +(?:>>>|\.\.\.) ?(.*)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    BLOCKS += [(path.stem, "\n".join(lines))] if lines else []
BLOCKS += [(path.stem, path.read_text(encoding="utf-8")) for path in sorted((ROOT / "examples").glob("*.py"))]


def called(block):
    """Calls in a block by the name of the function or method."""
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    return [(getattr(call.func, "attr", getattr(call.func, "id", None)), call) for call in calls]


def without_errors(block):
    """What of a block evaluates and says nothing of errors in ranks."""
    calls = called(block)
    found = [
        name for name, call in calls if name in EVALUATING and "scoring" not in {word.arg for word in call.keywords}
    ]
    hits = {"score", "accuracy_score"} & {name for name, _ in calls}
    return found + (sorted(hits) if not ERRORS & {name for name, _ in calls} else [])


@pytest.mark.parametrize("block", [block for _, block in BLOCKS], ids=[name for name, _ in BLOCKS])
def test_code_that_evaluates_measures_errors_in_ranks(block):
    assert without_errors(block) == []


def test_code_that_says_nothing_of_errors_is_found():
    assert without_errors("clf.fit(X, y).score(X, y)") == ["score"]
    assert without_errors("GridSearchCV(clf, grid, cv=5).fit(X, y)") == ["GridSearchCV"]
    assert without_errors("clf.score(X, y); mean_absolute_error(y, clf.predict(X))") == []


@pytest.mark.parametrize("page", ["README.md", "docs/first-hour.md"])
def test_score_is_said_to_be_the_accuracy_of_the_median(page):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert re.search(r"score`? (\S+ ){0,12}is the accuracy of `?predict.{0,60}median", text)
    assert 'scoring="neg_mean_absolute_error"' in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run the lines of the first hour that write images, for fewer of them, and return where they are."""
    folder, before = tmp_path_factory.mktemp("hour"), Path.cwd()
    os.chdir(folder)
    exec(block_with(ROOT / "docs" / "first-hour.md", "make_graded_photographs(400").replace("400", "100"), {})
    os.chdir(before)
    return folder


def test_the_quick_start_runs_as_it_is_printed(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    block = block_with(ROOT / "README.md", "load_image_folder")
    assert AS_PRINTED in block
    exec(block.replace(AS_PRINTED, QUICKER), {})
    error, accuracy, words = capsys.readouterr().out.split("\n")[:3]
    assert float(error) < 1  # 1.2 has who always says the middle one
    assert float(accuracy) > 0.3
    assert set(ast.literal_eval(words)) <= {"bad", "poor", "fair", "good", "excellent"}


def test_the_first_hour_runs_as_it_is_printed(folder, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(folder)
    code = "\n".join(blocks(ROOT / "docs" / "first-hour.md")[1:])
    assert AS_PRINTED in code
    exec(code.replace(AS_PRINTED, QUICKER), {})
    printed = capsys.readouterr().out
    errors = {name: float(error) for name, error in re.findall(r"^(L2RCLIP|ridge probe) (\S+)", printed, re.MULTILINE)}
    assert set(errors) == {"L2RCLIP", "ridge probe"}
    assert max(errors.values()) < 1
    for name in ("probe.png", "errors.png", "confusion.png", "quality/model.json"):
        assert (folder / name).is_file()
