import csv
import io
import json
import os
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from skl2rclip._cli.console import UsageError
from skl2rclip._cli.output import Rows, check_file, check_folder, rows_out, whole_file, write_object

COLUMNS = ["path", "value"]
ROWS = [['grün,\n"x".png', np.float64(0.5)], ["b", np.nan], ["c", np.int64(2)]]


def written(form, rows=ROWS):
    stream = io.StringIO()
    out = Rows(stream, COLUMNS, form)
    for row in rows:
        out.write([row])
    out.end()
    return stream.getvalue()


def test_json_is_one_array_without_nan():
    read = json.loads(written("json"), parse_constant=pytest.fail)
    assert read == [
        {"path": 'grün,\n"x".png', "value": 0.5},
        {"path": "b", "value": None},
        {"path": "c", "value": 2},
    ]
    assert json.loads(written("json", [])) == []


def test_csv_is_read_back():
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert [row["value"] for row in rows] == ["0.5", "", "2"]
    assert rows[0]["path"] == 'grün,\n"x".png'


@pytest.mark.parametrize("name", ["a\rb.png", "a\r\nb.png", "\r", "end\r", '"\r"', " a "])
def test_csv_keeps_returns_in_names_and_ends_lines_with_a_line_feed(name):
    text = written("csv", [[name, 1], ["b", 2]])
    assert [row[0] for row in csv.reader(io.StringIO(text, newline=""))] == ["path", name, "b"]
    assert pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False)["path"].tolist() == [name, "b"]
    assert text.startswith("path,value\n")
    assert text.endswith(",1\nb,2\n")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_names_that_are_no_text_are_kept(form, tmp_path):
    name = os.fsdecode(b"a\xff.png")
    file = tmp_path / f"rows.{form}"
    with rows_out(str(file), COLUMNS, None) as rows:
        rows.write([[name, 1]])
    if form == "csv":
        assert b"a\xff.png" in file.read_bytes()
    else:
        assert json.loads(file.read_text(encoding="utf-8"))[0]["path"] == name


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("earlier")
    with suppress(KeyboardInterrupt), rows_out(str(file), COLUMNS, "csv") as rows:
        rows.write(ROWS)
        raise KeyboardInterrupt
    assert file.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["x.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a right to make links")
def test_a_link_stays_and_where_it_leads_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "x.csv"
    link.symlink_to(tmp_path / "there" / "y.csv")
    with whole_file(str(link)) as path:
        path.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "y.csv").read_text() == "new"


def test_devices_are_written_to_and_not_replaced():
    assert check_file("--output", os.devnull, False) == os.devnull
    with whole_file(os.devnull) as path:
        assert str(path) == os.devnull


def test_the_standard_output_has_no_file():
    assert check_file("--output", None, False) is None
    assert check_file("--output", "-", False) is None


def test_what_is_in_the_way_of_a_file_is_refused(tmp_path):
    file = tmp_path / "x.csv"
    file.touch()
    with pytest.raises(UsageError, match="exists; --overwrite"):
        check_file("--output", str(file), False)
    assert check_file("--output", str(file), True) == str(file)
    with pytest.raises(UsageError, match="is a folder"):
        check_file("--output", str(tmp_path), True)
    with pytest.raises(UsageError, match="no folder that exists"):
        check_file("--output", str(tmp_path / "no" / "x.csv"), False)


def test_what_is_in_the_way_of_a_folder_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    check_folder("--out", str(tmp_path / "a" / "b"))
    assert sorted(os.listdir(tmp_path)) == ["file"]
    with pytest.raises(UsageError, match="is a file"):
        check_folder("--out", str(file))
    with pytest.raises(UsageError, match="is a file"):
        check_folder("--out", str(file / "below"))


@pytest.mark.parametrize("check", [check_file, lambda option, path, _: check_folder(option, path)])
def test_a_folder_that_cannot_be_written_is_refused(check, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("skl2rclip._cli.output.scratch_folder", refuse)
    with pytest.raises(UsageError, match=r"nothing can be written into .*Permission denied"):
        check("--output", str(tmp_path / "x"), False)


def test_an_object_is_a_line_a_field_in_csv(tmp_path):
    fields = {"a": [1, "x"], "b": None, "c": {"d": True, "e": 2.5}}
    for name in ("o.csv", "o.json"):
        write_object(str(tmp_path / name), fields, None)
    lines = list(csv.reader((tmp_path / "o.csv").read_text().splitlines()))
    assert lines == [["field", "value"], ["a", '[1, "x"]'], ["b", ""], ["c.d", "true"], ["c.e", "2.5"]]
    assert json.loads((tmp_path / "o.json").read_text()) == fields
