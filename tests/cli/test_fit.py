import shutil

import numpy as np
import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip.datasets import load_image_folder, read_image_table
from tests.cli.conftest import QUICK, WORDS


@pytest.fixture
def asked(monkeypatch):
    """Parameters of the estimator and arguments of `fit`, which fits nothing."""
    calls = {}

    def fit(self, X, y, **more):
        calls.update(self.get_params(), X=X, y=y, **more)

    monkeypatch.setattr(L2RCLIPClassifier, "fit", fit)
    monkeypatch.setattr(L2RCLIPClassifier, "save", lambda self, path, **more: calls.update(saved=path, **more))
    return calls


def test_a_model_is_that_of_the_estimator(graded, tiny, saved):
    read = load_image_folder(graded)
    settings = {"prompt_epochs": 1, "image_features": "embedding", "random_state": 0, "device": "cpu"}
    words = {"ranks": read.ranks, "rank_names": read.rank_names}
    fitted = L2RCLIPClassifier(tiny, **words, **settings).fit(read.data, read.target)
    loaded = L2RCLIPClassifier.load(saved)
    np.testing.assert_array_equal(loaded.predict_proba(read.data[:9]), fitted.predict_proba(read.data[:9]))
    assert list(loaded.rank_names_.values()) == WORDS


def test_a_table_gives_ranks_and_groups(run, asked, table, graded, tmp_path):
    columns = {"image": "file", "rank": "grade", "group": "plant"}
    options = [each for name, column in columns.items() for each in (f"--{name}", column)]
    said = run("fit", table, "--out", tmp_path / "m", *options, "--root", graded, "--ranks", ",".join(WORDS))
    assert (said.status, said.out) == (0, "")
    assert "5 ranks learned from 40 images" in said.err
    read = read_image_table(table, **columns, root=graded, ranks=WORDS)
    np.testing.assert_array_equal(asked["X"], read.data)
    np.testing.assert_array_equal(asked["y"], read.target)
    np.testing.assert_array_equal(asked["groups"], read.groups)
    assert asked["rank_names"] == WORDS
    assert asked["saved"] == str(tmp_path / "m")


def test_several_raters_make_one_label_and_say_how_far_it_may_be_off(run, asked, graded, tmp_path):
    rng = np.random.default_rng(0)
    lines = ['path,ann,bob,"eva, late"']
    for path in sorted(graded.rglob("*.png")):
        said = np.clip(WORDS.index(path.parent.name) + rng.integers(-1, 2, 3), 0, 4)
        lines.append(",".join([str(path), *(WORDS[each] for each in said[:2]), "?"]))
    (tmp_path / "t.csv").write_text("\n".join(lines))
    columns = 'ann,bob,"eva, late"'
    given = ["--ranks", ",".join(WORDS), "--missing", "?,x"]
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", "--rank", columns, *given).status == 0
    read = read_image_table(tmp_path / "t.csv", rank=["ann", "bob"], ranks=WORDS)
    np.testing.assert_array_equal(asked["y"], read.target)
    np.testing.assert_array_equal(asked["label_std"], read.label_std)
    hard = ["--rank", columns, "--rank-targets", "hard"]
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", *hard, *given).status == 0
    assert asked["label_std"] is None
    said = run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", "--rank", "ann,joe")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "has no column 'joe'" in said.err
    assert "Name the right one with --rank COL" in said.err


def test_boxes_of_a_table_are_learned_from(run, asked, graded, tmp_path):
    lines = [f"{path},{path.parent.name},{i % 3} 0 8 8" for i, path in enumerate(sorted(graded.rglob("*.png")))]
    (tmp_path / "t.csv").write_text("\n".join(["path,rank,box", *lines]))
    assert run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", "--box", "box").status == 0
    assert asked["X"].tolist() == read_image_table(tmp_path / "t.csv", box="box").data.tolist()
    said = run("fit", tmp_path / "t.csv", "--out", tmp_path / "m", "--box", "box,box")
    assert (said.status, "a box has one column or four" in said.err) == (2, True)


def test_words_may_stand_for_the_labels(run, asked, graded, tmp_path):
    names, weights = {word: f"very {word}" for word in WORDS}, dict.fromkeys(WORDS, 1.0)
    given = ["--rank-names", repr(names), "--class-weight", repr(weights), "--include-backbone"]
    assert run("fit", graded, "--out", tmp_path / "m", *given).status == 0
    assert asked["rank_names"] == {place: f"very {word}" for place, word in enumerate(WORDS)}
    assert asked["class_weight"] == dict.fromkeys(range(5), 1.0)
    assert asked["include_backbone"] is True


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--learning-rate", "x", "learning_rate must be in (0, inf), got 'x'."),
        ("--tune-ranks", "maybe", "tune_ranks must be True or False, got 'maybe'."),
        ("--decision", "mode", "decision must be one of 'argmax', 'mean', 'median', got 'mode'."),
        ("--image-tower", "precomputed", "--image-tower precomputed learns from a table of features"),
    ],
)
def test_a_wrong_value_is_refused_in_the_words_of_the_estimator(run, graded, tmp_path, option, value, sentence):
    said = run("fit", graded, "--out", tmp_path / "m", option, value)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"skl2rclip fit: error: {sentence}")


def test_what_the_fit_itself_refuses_is_a_wrong_use_too(run, graded, tiny, tmp_path):
    said = run("fit", graded, "--out", tmp_path / "m", "--model-name", tiny, *QUICK, "--class-weight", "heavy")
    assert said.status == 2
    assert "class_weight must be None, 'balanced' or a dict" in said.err


def test_where_the_model_cannot_go_is_refused_before_images_are_read(run, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("skl2rclip._cli.fit.labelled_images", lambda *_: pytest.fail("it has begun to read"))
    file, foreign = tmp_path / "file", tmp_path / "foreign"
    file.touch()
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    for out, words in ((saved, "--overwrite replaces it"), (file, "is a file"), (foreign, "is not a saved model")):
        said = run("fit", tmp_path, "--out", out)
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert words in said.err
    assert run("fit", tmp_path, "--out", foreign, "--overwrite").status == 2
    assert (foreign / "thesis.txt").is_file()


@pytest.mark.parametrize("option", ["--checkpoint-dir", "--embedding-cache"])
@pytest.mark.parametrize("inside", ["", "deeper"])
def test_the_fit_itself_may_not_write_where_the_model_goes(run, graded, tmp_path, option, inside):
    said = run("fit", graded, "--out", tmp_path / "new", option, tmp_path / "new" / inside)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert f"{option} must be outside of --out" in said.err
    assert not list(tmp_path.iterdir())


def test_a_saved_model_is_replaced_when_it_is_said(run, asked, graded, saved):
    assert run("fit", graded, "--out", saved, "--overwrite").status == 0
    assert asked["saved"] == str(saved)


def test_an_empty_folder_is_no_hindrance(run, asked, graded, tmp_path):
    assert run("fit", graded, "--out", tmp_path).status == 0


def test_images_that_cannot_be_read_are_said_one_by_one(run, graded, tiny, damaged, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(graded, photos)
    for number in range(7):
        shutil.copy(damaged, photos / "fair" / f"bad{number}.png")
    said = run("fit", photos, "--out", tmp_path / "m", "--model-name", tiny, *QUICK)
    *lines, last = said.err.splitlines()
    assert said.status == 1
    assert len(lines) == 7
    assert all("truncated" in line for line in lines)
    assert last.endswith("7 of 47 images cannot be read; mend them, leave them out, or say --on-bad-image skip")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("nowhere", [], "there is no file or folder"),
        ("table", [], "has no column 'path'; it has ['file', 'grade', 'plant']. Name the right one with --image COL"),
        ("table", ["--image", "file", "--rank", "grade"], "None of the 40 files"),
        ("graded", ["--ranks", "bad,poor"], "ranks that are not in --ranks A,B,C: ['excellent', 'fair', 'good']"),
    ],
)
def test_data_that_cannot_be_used_are_one_line(run, request, tmp_path, source, options, words):
    path = tmp_path / source if source == "nowhere" else request.getfixturevalue(source)
    said = run("fit", path, "--out", tmp_path / "m", *options)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert words in said.err


@pytest.mark.parametrize(
    ("option", "value"), [("group", "plant"), ("box", "b"), ("missing", "?"), ("repeated", "error")]
)
def test_columns_of_a_folder_are_a_wrong_use(run, graded, tmp_path, option, value):
    said = run("fit", graded, "--out", tmp_path / "m", f"--{option}", value)
    assert said.status == 2
    assert f"--{option} is for tables" in said.err


def test_a_folder_without_images_is_passed_over_by_every_command(run, asked, saved, graded, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(graded, photos)
    (photos / "notes").mkdir()
    (photos / ".hidden").mkdir()
    (photos / "texts").mkdir()
    (photos / "texts" / "a.txt").write_text("no image")
    fitted = run("fit", photos, "--out", tmp_path / "m")
    shutil.rmtree(photos / "texts")
    for said in (fitted, run("evaluate", saved, photos), run("check", photos)):
        assert said.status == 0
        assert "not taken: folders without an image, ranks only where --ranks A,B,C lists them: " in said.err
        assert "notes" in said.err
