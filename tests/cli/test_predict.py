import csv
import json
import os
import shutil

import numpy as np
import pytest

from skl2rclip import ImageCrop, L2RCLIPClassifier
from tests.cli.conftest import WORDS, images_in


def test_rows_say_what_the_model_predicts_in_the_order_of_the_images(run, saved, model, graded):
    said = run("predict", saved, graded, "--coverage", 0.6, "--proba")
    assert (said.status, said.err) == (0, "")
    paths = images_in(graded)  # more than the first chunk has
    assert [row["path"] for row in said.rows] == paths
    labels, ends = model.predict(paths), model.predict_interval(paths, 0.6)
    assert [int(row["label"]) for row in said.rows] == labels.tolist()
    assert [row["prediction"] for row in said.rows] == [WORDS[label] for label in labels]
    assert [(row["lower"], row["upper"]) for row in said.rows] == [(WORDS[low], WORDS[high]) for low, high in ends]
    numbers = [[float(row[name]) for name in ("expectation", *(f"p_{word}" for word in WORDS))] for row in said.rows]
    expected = np.column_stack([model.predict_expectation(paths), model.predict_proba(paths)])
    np.testing.assert_allclose(numbers, expected, rtol=1e-4, atol=1e-6)


def test_a_column_says_how_usual_each_image_is_and_is_empty_where_the_model_does_not_know(
    run, saved, model, graded, tmp_path
):
    paths = images_in(graded / "bad")
    rows = run("predict", saved, graded / "bad").rows
    expected = model.score_samples(paths) - model.offset_
    np.testing.assert_allclose([float(row["usualness"]) for row in rows], expected, rtol=1e-3, atol=1e-4)
    L2RCLIPClassifier("skl2rclip-tiny", ranks=range(3), device="cpu").fit_zero_shot().save(tmp_path / "words")
    assert [row["usualness"] for row in run("predict", tmp_path / "words", paths[0]).rows] == [""]


def test_columns_are_in_rank_order_where_labels_sort_otherwise(run, make_classifier, shades, shade_paths, tmp_path):
    words = ["low", "high", "extreme", "bare", "none"]
    clf = make_classifier(ranks=words, prompt_epochs=1).fit(shade_paths, np.array(words)[shades[1]])
    clf.save(tmp_path / "m")
    [row] = run("predict", tmp_path / "m", shade_paths[0], "--proba").rows
    assert [name for name in row if name.startswith("p_")] == [f"p_{word}" for word in words]
    proba = dict(zip(clf.classes_, clf.predict_proba(shade_paths[:1])[0], strict=True))
    np.testing.assert_allclose([float(row[f"p_{word}"]) for word in words], [proba[word] for word in words], rtol=1e-4)


def test_numbers_have_no_other_words(run, make_classifier, shades, shade_paths, tmp_path):
    make_classifier(ranks=[1.5, 2, 4, 8, 1234567.5], prompt_epochs=1).fit(
        shade_paths, np.array([1.5, 2, 4, 8, 1234567.5])[shades[1]]
    ).save(tmp_path / "m")
    rows = run("predict", tmp_path / "m", *shade_paths[:10], "--decision", "argmax").rows
    assert {row["label"] for row in rows} <= {"1.5", "2.0", "4.0", "8.0", "1234567.5"}
    assert {row["prediction"] for row in rows} <= {"1.5", "2", "4", "8", "1234567.5"}


@pytest.mark.filterwarnings("ignore:Some ranks have names of the same tokens")
def test_ranks_of_one_word_have_columns_of_their_labels(run, make_classifier, shades, shade_paths, tmp_path):
    clf = make_classifier(rank_names=["low", "low", "mild", "high", "high"], prompt_epochs=1)
    clf.fit(shade_paths, shades[1]).save(tmp_path / "m")
    [row] = run("predict", tmp_path / "m", shade_paths[0], "--proba").rows
    assert list(row)[5:] == [f"p_{label}" for label in range(5)]


def test_json_is_one_array(run, saved, graded):
    said = run("predict", saved, graded / "fair", "--format", "json")
    assert [row["path"] for row in said.json] == images_in(graded / "fair")
    assert set(said.json[0]) == {"path", "prediction", "label", "expectation", "usualness"}


def test_files_tables_and_folders_come_in_one_call(run, saved, graded, table):
    first = graded / "bad" / "00.png"
    said = run("predict", saved, first, table, graded / "good", "--image", "file", "--root", graded)
    listed = [path.removeprefix(f"{graded}/") for path in images_in(graded)]
    assert [row["path"] for row in said.rows] == [str(first), *listed, *images_in(graded / "good")]


def test_ranks_and_groups_of_a_table_stand_beside_the_predictions(run, saved, graded, table):
    columns = ["--image", "file", "--rank", "grade", "--group", "plant", "--root", graded]
    rows = run("predict", saved, table, graded / "bad" / "00.png", *columns).rows
    assert list(rows[0])[:4] == ["path", "rank", "group", "prediction"]
    assert [row["rank"] for row in rows] == [*(row["path"].split("/")[0] for row in rows[:-1]), ""]
    assert {row["group"] for row in rows} == {*map(str, range(10)), ""}
    said = run("predict", saved, table, *columns[:2], "--rank", "grades")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "Name the right one with --rank COL" in said.err


def test_boxes_of_a_table_are_predicted(run, saved, model, graded, tmp_path):
    image = str(graded / "bad" / "00.png")
    (tmp_path / "t.csv").write_text(
        f"path,x,y,w,h\n{image},0,0,8,8\n{image},2,1.5,8,8\n{image},1,,8,8\n{image},1,1,0,8\n"
    )
    said = run("predict", saved, tmp_path / "t.csv", image, "--box", "x,y,w,h", "--proba")
    assert said.status == 1
    assert [(row["path"], row["box"]) for row in said.rows] == [
        (image, "[0, 0, 8, 8]"),
        (image, "[2, 1.5, 8, 8]"),
        (image, ""),
    ]
    proba = model.predict_proba([ImageCrop(image, (0, 0, 8, 8)), ImageCrop(image, (2, 1.5, 8, 8)), image])
    found = [[float(row[f"p_{word}"]) for word in WORDS] for row in said.rows]
    np.testing.assert_allclose(found, proba, rtol=1e-4, atol=1e-6)
    assert "its row has no box" in said.err
    assert "with sides of a pixel or more" in said.err


def test_what_cannot_be_read_has_a_line_and_no_row(run, saved, graded, damaged, tmp_path):
    good = graded / "bad" / "00.png"
    shutil.copy(good, tmp_path / "good.png")
    with open(tmp_path / "t.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["path"], ["good.png"], ["absent.png"], [""], ["damaged.png"], ["https://a.b/c.png"], ["good.png"]]
        )
    said = run("predict", saved, tmp_path / "t.csv", good)
    assert said.status == 1
    assert [row["path"] for row in said.rows] == ["good.png", "good.png", str(good)]
    absent, empty, cut, address = said.err.splitlines()
    assert absent == "skl2rclip predict: absent.png: no such file"
    assert empty.endswith(f"row 2 of {tmp_path / 't.csv'}: no image is named")
    assert cut.startswith("skl2rclip predict: damaged.png: ")
    assert "this is an address" in address


def test_files_of_a_folder_that_are_no_images_are_passed_over(run, saved, graded, damaged, tmp_path):
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "labels.csv").write_text("a")
    shutil.copy(graded / "bad" / "00.png", folder / "without_an_ending")
    said = run("predict", saved, folder)
    assert (said.status, len(said.rows)) == (0, 1)
    assert said.err.count("\n") == 1
    assert "passed over: 1" in said.err
    shutil.copy(damaged, folder)
    assert run("predict", saved, folder).status == 1


def test_where_nothing_can_be_read_there_is_an_error_and_no_file(run, saved, tmp_path):
    out = tmp_path / "x.csv"
    said = run("predict", saved, tmp_path / "absent.png", "--output", out)
    assert said.status == 1
    assert said.err.endswith("error: no image could be read\n")
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_odd_names(run, saved, graded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["-x.png", "grün, \U0001f34f.png", os.fsdecode(b"\xff.png"), "line\nbreak.png"]
    for name in names:
        shutil.copy(graded / "bad" / "00.png", name)
    said = run("predict", saved, "--output", "rows.json", "--", *names)
    assert (said.status, said.out, said.err) == (0, "", "")
    text = (tmp_path / "rows.json").read_text(encoding="utf-8")
    assert [row["path"] for row in json.loads(text)] == names
    assert '"path": "grün, \U0001f34f.png"' in text
    (tmp_path / names[-1]).write_bytes(b"")
    names.pop(2)  # whose bytes this process cannot take as text
    said = run("predict", saved, "--", *names)
    assert [row["path"] for row in said.rows] == names[:2]
    assert said.err == "skl2rclip predict: 'line\\nbreak.png': the file is empty\n"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--coverage", "2"], 2, "coverage must be in (0, 1), got 2.0."),
        (["--coverage", "most"], 2, "invalid float value: 'most'"),
        (["--decision", "mode"], 2, "decision must be one of"),
        (["--n-jobs", "0"], 2, "n_jobs must be None or a non-zero integer"),
        (["--output", "exists"], 2, "exists; --overwrite replaces it"),
        (["--format", "xml"], 2, "invalid choice: 'xml'"),
    ],
)
def test_a_wrong_use_is_refused_before_the_model_is_loaded(
    run, saved, graded, tmp_path, monkeypatch, options, status, words
):
    (tmp_path / "exists").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(L2RCLIPClassifier, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    said = run("predict", saved, graded, *options)
    assert (said.status, said.out, said.err.count("\n")) == (status, "", 1)
    assert words in said.err


def test_an_interrupt_leaves_no_file(run, saved, graded, tmp_path, monkeypatch):
    original, calls = L2RCLIPClassifier._logits, []

    def once(self, X, *others):
        calls.append(len(X))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, X, *others)

    monkeypatch.setattr(L2RCLIPClassifier, "_logits", once)
    said = run("predict", saved, graded, "--output", tmp_path / "x.csv")
    assert (said.status, said.err) == (130, "skl2rclip predict: interrupted\n")
    assert os.listdir(tmp_path) == []


def test_no_model_and_no_images_are_one_line(run, graded, tmp_path):
    for said in (run("predict", tmp_path, graded), run("predict", tmp_path / "none", graded)):
        assert (said.status, said.err.count("\n")) == (1, 1)
        assert "is not a saved model" in said.err
    said = run("predict", tmp_path)
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_a_model_of_a_table_of_features_is_refused(run, make_classifier, graded, tmp_path):
    y = np.arange(20) % 2
    X = np.eye(24, dtype=np.float32)[y] + np.random.default_rng(0).normal(0, 0.1, (20, 24)).astype(np.float32)
    make_classifier(image_tower="precomputed", prompt_epochs=1).fit(X, y).save(tmp_path / "m")
    said = run("predict", tmp_path / "m", graded)
    assert said.status == 2
    assert "was fitted on a table of features" in said.err


def test_bars_are_for_terminals(run, saved, graded, monkeypatch, tmp_path):
    image = graded / "bad" / "00.png"
    assert "image/s" not in run("predict", saved, image).err
    monkeypatch.setattr("skl2rclip._cli.console._is_terminal", lambda stream: True)
    assert "image/s" not in run("predict", saved, image).err  # rows are on it
    assert "predicting: 100%" in run("predict", saved, image, "--output", tmp_path / "x.csv").err
