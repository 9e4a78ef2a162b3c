"""Code in README and docs: what evaluates measures errors in ranks, and each block runs as it is printed."""

import ast
import importlib.util
import inspect
import logging
import os
import re
from pathlib import Path

import pytest
import sklearn

from skl2rclip import L2RCLIPClassifier
from tests.support.pages import PAGES, ROOT, blocks, given_names, page_block, write_data_sets

AS_PRINTED = "**words, random_state=0)"
# blocks that run on what another test has made, by a word of theirs; that test asks for them by `page_block`
ELSEWHERE = {
    ("README.md", "load_image_folder"): "project/test_code_blocks.py",
    ("scaling.md", "Client("): "test_cluster.py",
    ("scaling.md", "client.scatter"): "test_cluster.py",
    ("putting-to-work.md", "export_onnx"): "deploy/test_onnx_file.py",
    ("putting-to-work.md", "push_to_hub"): "deploy/test_hub.py",
    ("putting-to-work.md", "from_pretrained"): "deploy/test_hub.py",
}
# what takes long, and what is the same with less of it
LESS = {
    r'"(ViT-B-32", "laion2b_s34b_b79k|skl2rclip-tiny|skl2rclip-photo)"': "{tiny}",
    r"\bcv=\d+": "cv=2",
    r"KFold\(5": "KFold(2",
    r"n_jobs=\d+": "n_jobs=1",
    r"n_repeats=10": "n_repeats=1",
    r"make_graded_photographs\(\d+": "make_graded_photographs(20",
    r"n_draws=\d+": "n_draws=20",
}
QUICKER = '**words, random_state=0, prompt_epochs=1, image_features="embedding")'
EVALUATING = {"GridSearchCV", "RandomizedSearchCV", "cross_validate", "cross_val_score", "learning_curve"}
ERRORS = {"mean_absolute_error", "mean_absolute_rank_error"}


BLOCKS = [(f"{page}-{number}", block) for page in PAGES for number, block in enumerate(blocks(page))]
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
    exec(page_block("first-hour.md", "make_graded_photographs(400").replace("400", "100"), {})
    os.chdir(before)
    return folder


def test_the_quick_start_runs_as_it_is_printed(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    block = page_block("README.md", "load_image_folder")
    assert AS_PRINTED in block
    exec(block.replace(AS_PRINTED, QUICKER), {})
    error, accuracy, words = capsys.readouterr().out.split("\n")[:3]
    assert float(error) < 1  # 1.2 has who always says the middle one
    assert float(accuracy) > 0.3
    assert set(ast.literal_eval(words)) <= {"bad", "poor", "fair", "good", "excellent"}


def test_the_first_hour_runs_as_it_is_printed(folder, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(folder)
    code = "\n".join(blocks("first-hour.md")[1:])
    assert AS_PRINTED in code
    exec(code.replace(AS_PRINTED, QUICKER), {})
    printed = capsys.readouterr().out
    errors = {name: float(error) for name, error in re.findall(r"^(L2RCLIP|ridge probe) (\S+)", printed, re.MULTILINE)}
    assert set(errors) == {"L2RCLIP", "ridge probe"}
    assert max(errors.values()) < 1
    for name in ("probe.png", "errors.png", "confusion.png", "quality/model.json"):
        assert (folder / name).is_file()


# ------------------------------------------------------- the other pages


@pytest.fixture
def quick_defaults(tiny, monkeypatch):
    """Let a classifier of which a page says no more learn from a small model, in next to no time."""
    made = L2RCLIPClassifier.__init__
    names = inspect.signature(made).parameters
    assert list(names)[1:3] == ["model_name", "pretrained"]
    quick = {"device": "cpu", "prompt_epochs": 0, "image_epochs": 1, "image_features": "embedding"}
    monkeypatch.setattr(made, "__defaults__", (tiny, None))
    monkeypatch.setattr(made, "__kwdefaults__", {**made.__kwdefaults__, **quick})


def runs_elsewhere(page, block):
    return any(page == of_page and word in block for of_page, word in ELSEWHERE)


def with_less(block, tiny):
    for pattern, less in LESS.items():
        block = re.sub(pattern, lambda _, less=less: less.format(tiny=repr(tiny)), block)
    return block


@pytest.fixture
def settings_as_they_were():
    """Take back what pages set for the whole process."""
    root, ours = logging.getLogger(), logging.getLogger("skl2rclip")
    before = list(root.handlers), ours.level
    with sklearn.config_context():
        yield
    root.handlers[:] = before[0]
    ours.setLevel(before[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("quick_defaults", "settings_as_they_were")
@pytest.mark.parametrize("page", [page for page in PAGES if page != "first-hour.md" and blocks(page)])
def test_each_block_of_a_page_runs_after_those_before_it(page, tiny, fitted_classifier, tmp_path, monkeypatch):
    for module in ("captum", "matplotlib", "pandas"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", **given_names(tmp_path, fitted_classifier())}
    if page == "datasets.md":
        write_data_sets(tmp_path)
    if page in ("keeping-models.md", "where-it-looked.md"):  # a callback waits for an epoch, and scores for images
        monkeypatch.setitem(L2RCLIPClassifier.__init__.__kwdefaults__, "prompt_epochs", 1)
    for number, block in enumerate(blocks(page)):
        if "sklearn.callback" in block and importlib.util.find_spec("sklearn.callback") is None:
            continue  # the page says of which version it is
        if not runs_elsewhere(page, block):
            code = compile(with_less(block, tiny), f"{page}, block {number}", "exec")
            exec(code, names)


@pytest.mark.parametrize(("page", "word"), ELSEWHERE)
def test_what_does_not_run_here_runs_where_it_is_said_to(page, word):
    text = (ROOT / "tests" / ELSEWHERE[page, word]).read_text(encoding="utf-8")
    assert page_block(page, word)
    assert f'page_block("{page}", "{word}")' in text
