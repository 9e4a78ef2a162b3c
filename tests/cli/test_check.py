import shutil
import sys

from tests.cli.conftest import WORDS


def test_ranks_are_counted_in_their_order(run, graded):
    said = run("check", graded)
    assert (said.status, said.err) == (0, "")
    assert said.rows == [{"rank": word, "label": str(place), "images": "8"} for place, word in enumerate(WORDS)]


def test_groups_of_a_table_are_counted(run, graded, table):
    columns = ["--image", "file", "--rank", "grade", "--root", graded]
    said = run("check", table, *columns, "--group", "plant")
    assert said.status == 0
    assert [row["groups"] for row in said.rows] == ["8"] * 5


def test_damage_is_found_behind_headers_and_named(run, graded, damaged, tmp_path):
    shutil.copytree(graded, tmp_path / "photos")
    shutil.copy(damaged, tmp_path / "photos" / "good" / "cut.png")
    said = run("check", tmp_path / "photos")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "cut.png: " in said.err
    assert [row["images"] for row in said.rows] == ["8"] * 5


def written(folder, graded, lines):
    table = folder / "t.csv"
    table.write_text("\n".join(["path,rank,group", *(line.format(graded) for line in lines)]))
    return table


GOOD = ["{}/bad/00.png,1,a", "{}/poor/01.png,2,b"]


def test_what_a_reader_leaves_out_is_to_be_looked_at(run, graded, tmp_path):
    assert run("check", written(tmp_path, graded, GOOD)).status == 0
    for line in ("absent.png,1,a", "{}/fair/02.png,,a"):
        said = run("check", written(tmp_path, graded, [*GOOD, line]))
        assert (said.status, said.err.count("\n")) == (1, 1)
        assert "t.csv not taken: " in said.err


def test_two_ranks_of_an_image_are_refused_with_what_the_command_line_can_do(run, graded, tmp_path):
    image = next(graded.rglob("*.png"))
    (tmp_path / "t.csv").write_text(f"path,rank\n{image},1\n{image},2\n")
    said = run("check", tmp_path / "t.csv")
    assert said.status == 1
    assert said.err.endswith('counted from 0 below the header); --repeated "median" takes the one in the middle.\n')
    (tmp_path / "u.csv").write_text(f"path,rank\n{image},1\n{image},2\n{image},2\n")
    said = run("check", tmp_path / "u.csv", "--repeated", "median")
    assert [(row["rank"], row["images"]) for row in said.rows] == [("1", "0"), ("2", "1")]


def test_what_nobody_misses_is_said_and_no_problem(run, graded, tmp_path):
    said = run("check", written(tmp_path, graded, [*GOOD, GOOD[0], ",,"]))
    assert (said.status, said.err.count("\n")) == (0, 2)


def test_what_a_fit_could_not_learn_from_is_said(run, graded, tmp_path):
    said = run("check", written(tmp_path, graded, GOOD[:1]))
    assert said.status == 1
    assert "images of 1 rank can be read, and a fit needs two" in said.err
    same = [line.replace(",b", ",a") for line in GOOD]
    said = run("check", written(tmp_path, graded, same), "--group", "group")
    assert said.status == 1
    assert "all images are of one group" in said.err


def test_how_images_are_decoded_is_that_of_the_fit(run, graded, monkeypatch):
    said = run("check", graded, "--max-memory", "lots")
    assert (said.status, said.err.count("\n")) == (2, 1)
    asked = {}
    monkeypatch.setattr("skl2rclip._cli.check.find_unreadable", lambda X, **given: asked.update(given) or {})
    assert run("check", graded, "--max-memory", "2GB", "--white-level", 4095, "--n-jobs", 1).status == 0
    assert asked == {"max_memory": "2GB", "white_level": 4095, "n_jobs": 1}


def test_copies_are_listed_with_ranks_that_contradict(run, graded, tmp_path):
    shutil.copytree(graded, tmp_path / "photos")
    shutil.copy(tmp_path / "photos" / "bad" / "00.png", tmp_path / "photos" / "good" / "again.png")
    said = run("check", tmp_path / "photos", "--duplicates")
    assert said.status == 1
    assert "2 images are copies of one another, in 1 set, of which 1 with different ranks" in said.err
    assert [(row["path"][-12:], row["rank"]) for row in said.rows] == [
        ("s/bad/00.png", "bad"),
        ("od/again.png", "good"),
    ]
    assert [(row["kind"], row["contradicts"]) for row in said.rows] == [("exact", "True")] * 2


def test_without_copies_there_is_the_header_alone(run, graded, table):
    columns = ["--image", "file", "--rank", "grade", "--root", graded, "--group", "plant"]
    said = run("check", table, *columns, "--duplicates")
    assert (said.status, said.err) == (0, "")
    assert said.out == "set,path,rank,distance,kind,contradicts,crosses_groups\n"


def test_copies_across_groups_are_said(run, graded, tmp_path):
    shutil.copy(graded / "bad" / "00.png", tmp_path / "again.png")
    lines = [*GOOD, f"{tmp_path / 'again.png'},1,c"]
    said = run("check", written(tmp_path, graded, lines), "--group", "group", "--duplicates", "--format", "json")
    assert [row["crosses_groups"] for row in said.json] == [True, True]
    assert "1 of the sets lie in several groups" in said.err


def test_what_copies_are_found_with_is_asked_for_before_images_are_decoded(run, graded, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    monkeypatch.setattr("skl2rclip._cli.check._decoded", None)
    said = run("check", graded, "--duplicates")
    assert said.status != 0
    assert "skl2rclip[duplicates]" in said.err
