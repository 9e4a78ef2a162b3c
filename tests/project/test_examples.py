"""The main job of the README, and the other examples, at a smaller size."""

import builtins
import importlib
import itertools
import re
import sys
from functools import partial
from pathlib import Path

import graded_photographs as example
import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.metrics import mean_absolute_error

from skl2rclip import L2RCLIPClassifier
from skl2rclip.metrics import mean_absolute_rank_error
from tests.support.processes import output_of

ROOT = Path(__file__).parents[2]


def test_the_fitted_model_beats_both_baselines_on_an_unseen_photograph(tmp_path):
    rng = np.random.default_rng(0)
    train = example.write_crops("temple", tmp_path / "train", 400, rng)
    test = example.write_crops("flower", tmp_path / "test", 200, rng)
    constant = DummyClassifier(strategy="most_frequent").fit(*train).predict(test[0])
    model = example.classifier(device="cpu").fit(*train)
    error, constant_error, ridge_error = (
        mean_absolute_rank_error(test[1], predicted, ranks=example.GRADES)
        for predicted in (model.predict(test[0]), constant, example.ridge_on_statistics(train, test))
    )
    assert error < constant_error - 0.5
    assert error < ridge_error - 0.1


def test_the_script_runs_from_an_empty_folder(tmp_path):
    arguments = [str(ROOT / "examples" / "graded_photographs.py"), "--n-train", "60", "--n-test", "40"]
    run_it = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = output_of(run_it, *arguments, cwd=tmp_path)
    for expected in ("most frequent rank", "ridge on colour and gradient statistics", "zero-shot", "L2RCLIPClassifier",
                     "A second process loads it", "on the scale of 1 to 5"):  # fmt: skip
        assert expected in printed
    for name in ("model.joblib", "overview.png", "largest-errors.png"):
        assert (tmp_path / "graded-photographs" / name).is_file()


def test_without_matplotlib_the_script_says_what_to_install(monkeypatch, capsys, tmp_path):
    original = builtins.__import__

    def without_matplotlib(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    assert example.draw(None, [], [], tmp_path) == []
    assert "pip install matplotlib" in capsys.readouterr().out


def run_main(monkeypatch, capsys, name, folder, *arguments):
    """Run an example in this process as its own script would, and return what it printed."""
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--folder", str(folder), *arguments])
    module.main()
    return capsys.readouterr().out


def test_learning_curves_are_drawn_for_both_tasks(monkeypatch, capsys, tmp_path):
    smaller = ("--per-rank", "2", "3", "--n-repeats", "1", "--n-jobs", "1")
    printed = run_main(monkeypatch, capsys, "how_many_images", tmp_path, *smaller)
    for task in ("photographs by quality", "handwritten digits by value"):
        assert len(re.findall(rf"{task} +(L2RCLIP|ridge|logistic regression) +\d\.\d\d ± 0\.00", printed)) == 3
    assert Image.open(tmp_path / "learning-curves.png").size == (1000, 440)


def test_columns_stand_beside_images_in_one_pipeline(monkeypatch, capsys, tmp_path):
    printed = run_main(monkeypatch, capsys, "images_beside_columns", tmp_path, "--n", "40", "--n-test", "100")
    errors = dict(re.findall(r"^(images|measurements|both|ridge on both) +(\d\.\d{3})$", printed, flags=re.MULTILINE))
    assert len(errors) == 4
    assert float(errors["both"]) < min(float(errors["images"]), float(errors["ridge on both"]))


def test_training_images_of_learning_curves_are_even_along_the_ranks():
    import how_many_images

    y = np.repeat(np.arange(4), [5, 9, 7, 6])
    order = how_many_images.evenly(y, np.random.default_rng(0))
    assert len(set(order)) == len(order) == 20
    for n in range(1, 6):
        assert np.bincount(y[order[: 4 * n]]).tolist() == [n] * 4
    rounded = how_many_images.error_in_ranks(np.array([0, 1, 2]), np.array([-3.0, 1.4, 1.2]))
    assert rounded == mean_absolute_error([0, 1, 2], [0, 1, 1])


def test_most_suspect_images_are_those_whose_label_was_swapped(monkeypatch, capsys, tmp_path):
    pytest.importorskip("cleanlab")
    smaller = ("--n-images", "120", "--n-swapped", "12", "--n-folds", "3")
    printed = run_main(monkeypatch, capsys, "mislabelled", tmp_path, *smaller)
    found = int(re.search(r"L2RCLIP: among the 12 most suspect images are (\d+) of", printed)[1])
    assert found >= 4  # by chance it would be one
    assert (tmp_path / "suspects.png").is_file()


def test_conformal_intervals_hold_what_they_promise_where_their_images_are_of_the_same_origin(
    monkeypatch, capsys, tmp_path
):
    pytest.importorskip("mapie")
    smaller = ("--n-images", "200", "--n-labelled", "80", "--n-draws", "24")
    printed = run_main(monkeypatch, capsys, "intervals_with_a_guarantee", tmp_path, *smaller)
    of_the_flower = re.search(r"with crops of the flower +(.*)", printed)[1]
    covered = [float(each) for each in re.findall(r"([\d.]+)%", of_the_flower)]
    assert len(covered) == 6
    assert (np.array(covered) > np.array([50, 60, 70, 80, 90, 95]) - 4).all()
    assert (tmp_path / "coverage.png").is_file()


def test_sets_with_holes_become_intervals_and_empty_ones_the_likeliest_rank(monkeypatch):
    pytest.importorskip("mapie")
    import intervals_with_a_guarantee

    sets = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]], dtype=bool)[:, :, None]

    class Sets:
        def __init__(self, model, **settings): ...
        def conformalize(self, Z, y):
            return self

        def predict_set(self, Z):
            return None, sets

    class Model:
        def predict_proba(self, Z):
            return np.eye(4)[[0, 3, 1]]

    monkeypatch.setattr(intervals_with_a_guarantee, "SplitConformalClassifier", Sets)
    found = intervals_with_a_guarantee.conformal_intervals(Model(), (None, None), None)
    assert found[:, :, 0].tolist() == [[0, 2], [3, 3], [1, 2]]


def test_untrained_a_good_prompt_is_better_than_a_wrongly_ordered_one(monkeypatch, capsys, tmp_path):
    smaller = ("--n-train", "10", "--n-test", "100", "--n-fits", "1")
    printed = run_main(monkeypatch, capsys, "what_the_prompt_does", tmp_path, *smaller)
    error = {name: float(value) for name, value in re.findall(r"^(good|wrongly ordered) +([\d.]+)", printed, re.M)}
    assert error["good"] < 0.6
    assert error["wrongly ordered"] > 1.2  # that of the middle one for all
    assert (tmp_path / "prompts.png").is_file()


def test_copies_on_both_sides_of_a_split_make_the_error_smaller_than_it_is(monkeypatch, capsys, tmp_path):
    pytest.importorskip("imagehash")
    printed = run_main(monkeypatch, capsys, "copies_and_leaks", tmp_path, "--n-images", "15", "--n-copies", "2")
    found, true, wrong = map(int, re.search(r"(\d+) of (\d+) pairs of copies are found, and (\d+)", printed).groups())
    assert 0.8 * true < found <= true == 45
    assert wrong == 0
    apart, together = (float(each) for each in re.findall(r"MAE in grades, .*: ([\d.]+)", printed))
    assert apart < together
    assert (tmp_path / "copies.png").is_file()


def test_decisions_at_a_rank_are_scored_with_intervals(monkeypatch, capsys, tmp_path):
    import decisions_at_a_rank

    monkeypatch.setattr(decisions_at_a_rank, "classifier", partial(example.classifier, prompt_epochs=1))
    printed = run_main(monkeypatch, capsys, "decisions_at_a_rank", tmp_path, "--n-train", "60", "--n-test", "40")
    rows = re.findall(r"^(\w+) +([\d.]+) \(([\d.]+) to ([\d.]+)\) +\d", printed, re.MULTILINE)
    assert [name for name, *_ in rows] == ["poor", "fair", "good", "excellent"]
    areas = np.array([row[1:] for row in rows], float)
    assert (areas[:, 1] <= areas[:, 0]).all()
    assert (areas[:, 0] <= areas[:, 2]).all()
    assert areas[0, 0] > 0.8  # by chance it would be one half
    assert re.search(r"from a probability of [\d.]+ on, on the other half", printed)
    assert (tmp_path / "decisions.png").is_file()


def test_cases_of_more_images_are_predicted_better(monkeypatch, capsys, tmp_path):
    smaller = ("--n-train", "60", "--n-test", "160", "--sizes", "1", "8")
    printed = run_main(monkeypatch, capsys, "cases_and_raters", tmp_path, *smaller)
    errors = {name: re.findall(r"([\d.]+) \(", line) for name, line in re.findall(r"^(vote|pooled)(.*)", printed, re.M)}
    assert errors["vote"][0] == errors["pooled"][0]  # of a single image
    assert float(errors["pooled"][1]) < float(errors["pooled"][0])
    labels = {name: float(error) for name, error in re.findall(r"^(majority|mean|combined) +([\d.]+)$", printed, re.M)}
    assert labels["combined"] < labels["mean"] < labels["majority"]
    assert Image.open(tmp_path / "cases-and-raters.png").size == (1300, 400)


def test_the_model_looked_at_the_fruit_and_maps_of_shuffled_weights_or_labels_are_others(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(L2RCLIPClassifier.__init__.__kwdefaults__, "prompt_epochs", 1)
    printed = run_main(monkeypatch, capsys, "where_it_looked", tmp_path, "--n-train", "60", "--n-test", "3")
    area, share, of_weights, of_labels = map(float, re.findall(r" (-?0\.\d\d)$", printed, re.M))
    assert share > 1.5 * area
    assert max(of_weights, of_labels) < 0.5
    assert (tmp_path / "where-it-looked.png").is_file()


def test_images_of_another_kind_are_unusual(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(L2RCLIPClassifier.__init__.__kwdefaults__, "prompt_epochs", 1)
    printed = run_main(monkeypatch, capsys, "unusual_images", tmp_path, "--n-train", "60", "--n-test", "40")
    shares = {what.strip(): float(share) for what, share in re.findall(r"^(.*?) +([\d.]+)% beyond", printed, re.M)}
    assert shares["the same photograph"] <= 10
    assert shares["handwritten digits"] > 60
    assert (tmp_path / "unusual-images.png").is_file()


# the changelog links to pages as they were
LINKING = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")} - {ROOT / "CHANGELOG.md"})


def anchors(file):
    """Names of the headings of a page, as code hosts make them."""
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    plain = (
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("file", LINKING, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_pages_link_to_what_is_there(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("file", LINKING, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_headings_of_a_page_go_down_one_step_at_a_time(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    depths = [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]
    assert depths[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(depths))
    assert depths.count(1) == 1
