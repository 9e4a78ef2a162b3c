import io
import os
import sys
from argparse import Namespace

import pytest

from skl2rclip._cli.console import DataError
from skl2rclip._cli.inputs import in_chunks, may_be_image, named_images
from tests.cli.conftest import images_in


def names(*images, image=None, root=None):
    return [(each.name, each.path) for each in named_images(Namespace(images=list(images), image=image, root=root))]


def test_a_table_keeps_its_rows_and_how_it_writes_them(tmp_path):
    (tmp_path / "a.png").touch()
    table = tmp_path / "t.csv"
    table.write_text("image,note\nb.png,x\na.png,y\n,z\n a.png ,\n", encoding="utf-8")
    found = names(table.as_posix(), image="image")
    absent, there = str(tmp_path / "b.png"), str(tmp_path / "a.png")
    assert found == [("b.png", absent), ("a.png", there), (f"row 2 of {table.as_posix()}", ""), ("a.png", there)]


def test_a_table_of_paths_alone_may_have_an_empty_cell(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text('path\na.png\n""\nb.png\n\n')
    assert [path for _, path in names(str(table))] == [str(tmp_path / "a.png"), "", str(tmp_path / "b.png")]


def test_other_columns_of_a_table_come_along(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,grade,plant\na.png,3,x\nb.png,,\n")
    options = Namespace(images=[str(table), "c.png"], image=None, root=None, rank="grade", group="plant")
    assert [each.cells for each in named_images(options)] == [("3", "x"), (None, None), ()]


def test_paths_of_a_table_start_from_the_root(graded, table):
    assert [path for _, path in names(str(table), image="file", root=str(graded))] == images_in(graded)


def test_a_folder_gives_its_files_at_any_depth(graded):
    assert [path for _, path in names(str(graded))] == images_in(graded)


def test_a_pattern_that_the_shell_has_left_as_it_is_names_what_is_there(tmp_path):
    for name in ("b.png", "a.png", "c.jpg", "x[1].png"):
        (tmp_path / name).touch()
    inside = [str(tmp_path / name) for name in ("a.png", "b.png", "x[1].png")]
    assert [path for _, path in names(str(tmp_path / "*.png"))] == inside
    assert [path for _, path in names(str(tmp_path / "x[1].png"))] == inside[2:]  # the very name comes first
    assert [path for _, path in names(str(tmp_path / "*.tif"))] == [str(tmp_path / "*.tif")]


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="no files in"):
        names(str(tmp_path))


@pytest.mark.parametrize("listed", [b"a.png\nb \xff.png\r\n\n", b"a.png\0b \xff.png\0"])
def test_paths_come_on_the_standard_input(listed, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed), encoding="utf-8"))
    assert [name for name, _ in names("x.png", "-")] == ["x.png", "a.png", os.fsdecode(b"b \xff.png")]


def test_the_first_chunk_is_small_and_none_is_lost():
    chunks = list(in_chunks(range(700)))
    assert [len(chunk) for chunk in chunks] == [16, 32, 64, 128, 256, 204]
    assert [each for chunk in chunks for each in chunk] == list(range(700))


@pytest.mark.parametrize(("name", "said"), [("a.JPG", True), ("a.dcm", True), ("notes.md", False), ("Thumbs", False)])
def test_what_may_be_an_image_by_its_name(name, said):
    assert may_be_image(name) is said
