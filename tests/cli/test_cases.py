"""Several images of one case, from the command line."""

import csv
import re

import numpy as np
import pytest

from skl2rclip.datasets import read_image_table
from skl2rclip.metrics import mean_absolute_rank_error, pool_probabilities
from tests.cli.conftest import WORDS, images_in


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr("skl2rclip._cli.evaluate._N_RESAMPLES", 40)


def table_of(folder, rows, header=("path", "rank", "fruit", "tree")):
    file = folder / "fruit.csv"
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([header, *rows])
    return file


@pytest.fixture
def rows(graded):
    """Four images of each of ten fruits, two of them of each grade and all of one of five trees."""
    paths = images_in(graded)
    return [[path, WORDS[i // 8], f"fruit {9 - i // 4}", f"tree {i // 8}"] for i, path in enumerate(paths)]


@pytest.mark.parametrize("how", ["mean", "geometric", "max"])
def test_a_row_for_each_case_is_what_its_images_say_together(run, saved, model, rows, tmp_path, how):
    said = run(
        "predict", saved, table_of(tmp_path, rows), "--case", "fruit", "--pool", how, "--proba", "--coverage", 0.7
    )
    assert (said.status, said.err) == (0, "")
    assert list(said.rows[0])[:3] == ["case", "images", "prediction"]
    assert [row["case"] for row in said.rows] == [f"fruit {9 - i}" for i in range(10)]  # as they come
    assert {row["images"] for row in said.rows} == {"4"}
    names, pooled = pool_probabilities(model.predict_proba([row[0] for row in rows]), [row[2] for row in rows], how)
    of = dict(zip(names, pooled, strict=True))
    found = [[float(row[f"p_{word}"]) for word in WORDS] for row in said.rows]
    np.testing.assert_allclose(found, [of[row["case"]] for row in said.rows], rtol=1e-3, atol=1e-5)
    for row in said.rows:  # the label is the median
        assert WORDS[int((of[row["case"]].cumsum() >= 0.5).argmax())] == row["prediction"]
        assert WORDS.index(row["lower"]) <= int(row["label"]) <= WORDS.index(row["upper"])


def test_columns_of_the_table_stand_beside_the_cases(run, saved, rows, tmp_path):
    rows[5][1] = ""  # where one image of a case lacks it, the others say it
    table = table_of(tmp_path, rows)
    said = run("predict", saved, table, "--case", "fruit", "--rank", "rank", "--group", "tree", "--format", "json")
    assert [(row["rank"], row["group"]) for row in said.json] == [(WORDS[i // 2], f"tree {i // 2}") for i in range(10)]
    rows[6][1] = "excellent"
    said = run("predict", saved, table_of(tmp_path, rows), "--case", "fruit", "--rank", "rank")
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert "1 of the cases of column 'fruit' have images of several ranks, the first of them: fruit 8" in said.err


def test_an_image_counts_once_in_a_case(run, saved, rows, tmp_path):
    once = run("predict", saved, table_of(tmp_path, rows[:8]), "--case", "fruit", "--pool", "max", "--proba")
    table = table_of(tmp_path, [*rows[:8], *rows[:3]])
    assert run("predict", saved, table, "--case", "fruit", "--pool", "max", "--proba").out == once.out


def test_images_that_cannot_be_read_or_have_no_case_are_said(run, saved, damaged, rows, tmp_path):
    rows[0][0] = rows[9][0] = str(damaged)
    rows[1][2] = rows[2][2] = " "
    rows[3][0] = str(tmp_path / "absent.png")
    said = run("predict", saved, table_of(tmp_path, rows), "--case", "fruit")
    assert said.status == 1
    assert [(row["case"], row["images"]) for row in said.rows[:2]] == [("fruit 8", "4"), ("fruit 7", "3")]
    assert len(said.rows) == 9
    assert said.err.count("\n") == 6
    assert f"{rows[1][0]}: row 1 has no case in column 'fruit'" in said.err
    assert "case fruit 9: none of its images can be read" in said.err
    rows = [[*row[:2], "", row[3]] for row in rows]
    said = run("predict", saved, table_of(tmp_path, rows), "--case", "fruit", "--output", tmp_path / "x.csv")
    assert said.status == 1
    assert said.err.endswith("error: no image could be read\n")
    assert not (tmp_path / "x.csv").exists()


def test_what_has_no_cases_is_a_wrong_use(run, saved, graded, rows, tmp_path, monkeypatch):
    table = table_of(tmp_path, rows)
    monkeypatch.setattr("skl2rclip._cli.predict.loaded_model", lambda *_: pytest.fail("the model is loaded"))
    for source, words in ((graded, "is a folder"), (rows[0][0], "is an image"), ("-", "standard input has paths")):
        said = run("predict", saved, source, "--case", "fruit")
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
        assert "--case is for tables" in said.err
        assert words in said.err
    said = run("predict", saved, table, "--case", "fruits")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "has no column 'fruits'" in said.err
    assert "Name the right one with --case COL" in said.err
    assert run("evaluate", saved, graded, "--case", "fruit").status == 2
    for command in ("predict", "evaluate"):
        said = run(command, saved, table, "--pool", "max")
        assert said.status == 2
        assert "say which these are, by --case COL" in said.err


def test_scores_are_of_cases(run, saved, model, rows, tmp_path):
    table = table_of(tmp_path, rows)
    said = run("evaluate", saved, table, "--case", "fruit", "--pool", "geometric")
    assert (said.status, said.err) == (0, "")
    assert list(said.rows[0]) == ["score", "value", "lower", "upper", "cases", "images"]
    assert {(row["cases"], row["images"]) for row in said.rows} == {("10", "40")}
    read = read_image_table(table, case="fruit")
    cases, pooled = pool_probabilities(model.predict_proba(read.data), read.cases, "geometric")
    truth = [read.target[read.cases == case][0] for case in cases]
    error = mean_absolute_rank_error(truth, (pooled.cumsum(axis=1) >= 0.5).argmax(axis=1), ranks=read.ranks)
    of = {row["score"]: row for row in said.rows}
    assert float(of["mean_absolute_error"]["value"]) == pytest.approx(error, abs=1e-6)
    grouped = run("evaluate", saved, table, "--case", "fruit", "--pool", "geometric", "--group", "tree")
    assert [row["value"] for row in grouped.rows] == [row["value"] for row in said.rows]
    assert [row["upper"] for row in grouped.rows] != [row["upper"] for row in said.rows]


def test_a_case_has_one_rank_and_lies_in_one_group(run, saved, rows, tmp_path, monkeypatch):
    rows[3][1], rows[6][3] = "good", "tree 4"
    table = table_of(tmp_path, rows)
    said = run("evaluate", saved, table, "--case", "fruit")
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert re.search("images of several ranks, the first of them: fruit 9, '(bad' and 'good|good' and 'bad)'", said.err)
    rows[3][1] = "bad"
    said = run("evaluate", saved, table_of(tmp_path, rows), "--case", "fruit", "--group", "tree")
    assert (said.status, said.out) == (1, "")
    assert "images of several groups, the first of them: fruit 8" in said.err


def test_rows_without_a_case_are_left_out_of_scores_and_said(run, saved, rows, tmp_path):
    rows[4][2] = ""
    said = run("evaluate", saved, table_of(tmp_path, rows), "--case", "fruit")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "not taken: rows without a case: 1" in said.err
    assert {(row["cases"], row["images"]) for row in said.rows} == {("10", "39")}


def test_plots_are_of_cases_and_images_are_shown_each_by_itself(run, saved, rows, tmp_path, monkeypatch):
    drawn = {}

    def draw(folder, model, images, of_images, scored, coverage):
        drawn.update(images=len(images), of_images=len(of_images.true), scored=len(scored.said.probabilities))

    monkeypatch.setattr("skl2rclip._cli.evaluate._draw", draw)
    assert (
        run("evaluate", saved, table_of(tmp_path, rows), "--case", "fruit", "--plots", tmp_path / "plots").status == 0
    )
    assert drawn == {"images": 40, "of_images": 40, "scored": 10}
