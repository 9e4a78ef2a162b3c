"""Tables of images: kinds of tables, what spreadsheets do to cells, and what is said of rows that are left out."""

import base64
import csv
import enum
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from skl2rclip.datasets import read_image_table

pytestmark = pytest.mark.filterwarnings("error")

EMPTY_ARCHIVE = b"PK\x05\x06" + bytes(18)
COLUMNS = {
    "file": ["a.png", "b.png", "inner/c.png", "d.png"],
    "grade": ["good", "poor", "fair", "good"],
    "person": [7, 7, 8, 9],
}


def with_images(folder):
    (folder / "inner").mkdir()
    for name in COLUMNS["file"]:
        Image.new("RGB", (4, 4), "green").save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path):
    return with_images(tmp_path)


def written(folder, text, name="table.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def delimited(folder, delimiter, name, encoding="utf-8"):
    with open(folder / name, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*COLUMNS.values(), strict=True))
    return folder / name


def excel(folder):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (list(COLUMNS), *map(list, zip(*COLUMNS.values(), strict=True))):
        book.active.append(row)
    book.save(folder / "table.xlsx")
    return folder / "table.xlsx"


def parquet(folder):
    pytest.importorskip("pyarrow.parquet").write_table(arrow(folder), folder / "table.parquet")
    return folder / "table.parquet"


def arrow(folder):
    return pytest.importorskip("pyarrow").table(COLUMNS)


def dask(folder):
    return pytest.importorskip("dask.dataframe").from_pandas(pytest.importorskip("pandas").DataFrame(COLUMNS), 2)


def speaking(protocol):
    """Frame of a library that knows this protocol alone."""
    table = arrow(None)
    return type("Frame", (), {protocol: lambda self, *args, **named: getattr(table, protocol)(*args, **named)})()


KINDS = {
    "csv": lambda folder: delimited(folder, ",", "table.csv"),
    "csv of a continental spreadsheet": lambda folder: delimited(folder, ";", "table.csv", "utf-8-sig"),
    "tsv": lambda folder: delimited(folder, "\t", "table.tsv"),
    "text of a spreadsheet": lambda folder: delimited(folder, "\t", "table.txt", "utf-16"),
    "excel": excel,
    "parquet": parquet,
    "pandas": lambda folder: pytest.importorskip("pandas").DataFrame(COLUMNS),
    "polars": lambda folder: pytest.importorskip("polars").DataFrame(COLUMNS),
    "arrow": arrow,
    "hugging face": lambda folder: pytest.importorskip("datasets").Dataset.from_dict(COLUMNS),
    "dask": dask,
    "dataframe interchange": lambda folder: speaking("__dataframe__"),
    "arrow stream": lambda folder: speaking("__arrow_c_stream__"),
    "mapping": lambda folder: COLUMNS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same(folder, kind):
    table = KINDS[kind](folder)
    read = read_image_table(table, image="file", rank="grade", group="person", root=folder)
    assert read.data.tolist() == [str(folder / name) for name in COLUMNS["file"]]
    assert (read.rank_names, read.ranks) == (["poor", "fair", "good"], [0, 1, 2])
    assert read.target.tolist() == [2, 0, 1, 2]
    assert read.rows.tolist() == [0, 1, 2, 3]
    assert read.groups.astype(str).tolist() == ["7", "7", "8", "9"]


def test_relative_paths_start_from_the_folder_of_the_table(folder, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    X, y = read_image_table(KINDS["csv"](folder), image="file", rank="grade", return_X_y=True)
    assert X.tolist() == [str(folder / name) for name in COLUMNS["file"]]
    assert y.tolist() == [2, 0, 1, 2]


def test_paths_of_a_frame_start_from_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_image_table(COLUMNS, image="file", rank="grade").data.tolist() == COLUMNS["file"]


def test_an_absolute_path_is_taken_as_it_is(folder):
    table = written(folder, f"path,rank\n{folder / 'a.png'},1\nb.png,2\n")
    assert read_image_table(table).data.tolist() == [str(folder / "a.png"), str(folder / "b.png")]


def test_blanks_backslashes_and_marks_do_no_harm(folder):
    table = written(folder, "\ufeff path , rank\n a.png , 2 \n inner\\c.png,10\n./b.png\xa0, 3\n")
    read = read_image_table(table)
    assert read.data.tolist() == [str(folder / name) for name in ("a.png", "inner/c.png", "b.png")]
    assert (read.target.tolist(), read.ranks) == ([2, 10, 3], [2, 3, 10])


def test_what_is_left_out_is_counted_in_one_warning(folder):
    (folder / "notes.png").write_text("not an image")
    table = written(
        folder, "path,rank\na.png,1\n,\n\n,\nb.png,\n,2\nB.png,3\na.png,1\n./a.png,1\nnotes.png,2\ninner/c.png,2\n"
    )
    with pytest.warns(UserWarning, match="not everything was taken") as caught:
        read = read_image_table(table)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [line.strip() for line in str(caught[0].message).splitlines()[1:]] == [
        "empty rows: 2",
        "rows without an image: 1, namely row 4, counted from 0 below the header",
        "rows without a rank: 1, namely b.png",
        "files that are not there: 1, namely B.png (the folder has b.png, which differs only in letter case)",
        "rows that repeat another: 2, namely a.png; ./a.png",
        "files that cannot be opened as images: 1, namely notes.png (not an image, or of a format that Pillow cannot "
        "read)",
    ]
    assert read.data.tolist() == [str(folder / "a.png"), str(folder / "inner/c.png")]
    assert read.rows.tolist() == [0, 9]
    assert pytest.importorskip("pandas").read_csv(table).iloc[9].tolist() == ["inner/c.png", 2]
    assert str(caught[0].message).splitlines()[-1].strip() in read.DESCR


def test_many_absent_files_are_counted_and_the_first_named(folder):
    table = {"path": ["a.png", *(f"{i}.png" for i in range(20))], "rank": [1, *range(20)]}
    with pytest.warns(UserWarning, match=r"files that are not there: 20, such as 0.png; 1.png; 2.png$"):
        read_image_table(table, root=folder)


def test_missing_cells_of_a_frame_are_missing(folder):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"path": ["a.png", "b.png", None, None], "rank": [3.0, np.nan, 4.0, np.nan]})
    with pytest.warns(UserWarning, match=r"empty rows: 1\n.*without an image: 1.*\n.*without a rank: 1, namely b.png"):
        read = read_image_table(table, root=folder)
    assert read.target.tolist() == [3]
    assert "1 image of 1 rank, lowest first" in read.DESCR
    assert read.target.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "group", "said"),
    [
        (
            "path,rank\na.png,1\nb.png,2\n./a.png,2\n",
            None,
            "more than one rank to 1 of its .*: a.png '1' and '2'. Decide",
        ),
        ("path,rank\ninner/c.png,1\ninner/c.png,2\n", None, "the first of them: inner/c.png '1' and '2'"),
        ("path,rank,who\na.png,1,x\na.png,1,y\n", "who", "more than one group to 1 of its .*: a.png 'x' and 'y'"),
    ],
)
def test_an_image_of_two_ranks_or_groups_is_refused(folder, text, group, said):
    with pytest.raises(ValueError, match=said):
        read_image_table(written(folder, text), group=group)


def test_an_ordered_categorical_brings_its_order(folder):
    pandas = pytest.importorskip("pandas")
    grade = pandas.Categorical(["cat", "dog", "cat"], categories=["dog", "eel", "cat"], ordered=True)
    read = read_image_table(pandas.DataFrame({"path": COLUMNS["file"][:3], "rank": grade}), root=folder)
    assert (read.rank_names, read.target.tolist()) == (["dog", "eel", "cat"], [2, 0, 2])


def test_an_enum_of_polars_brings_its_order(folder):
    polars = pytest.importorskip("polars")
    grade = polars.Series(["cat", "dog", "cat"], dtype=polars.Enum(["dog", "cat"]))
    read = read_image_table(polars.DataFrame({"path": COLUMNS["file"][:3], "rank": grade}), root=folder)
    assert (read.rank_names, read.target.tolist()) == (["dog", "cat"], [1, 0, 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,rank\na.png,1\n", r"has no column 'path'; it has \['file', 'rank'\]. Name the right one with image="),
        ("path,grade\na.png,1\n", r"has no column 'rank'; it has \['path', 'grade'\]. Name the right one with rank="),
        ("path,rank, path\na.png,1,b.png\n", "has 2 columns 'path': rename one of them"),
        ("", "is empty; a header row"),
        ("path,rank\na.png,1,2\n", "Line 2 of .* has 3 cells where the header has 2"),
        ("path,rank\n,\n", r"lists no image with a rank.\n  empty rows: 1"),
        ("path,rank\na.png,cat\nb.png,dog\n", "words and their order is not known"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(folder, text, said):
    with pytest.raises(ValueError, match=said):
        read_image_table(written(folder, text))


def test_decimal_commas_are_those_of_numbers(folder):
    found = read_image_table(written(folder, "path;rank\na.png;2,5\nb.png;10\nd.png;-1\n"))
    assert (found.ranks, found.target.tolist(), found.rank_names) == ([-1, 2.5, 10], [2.5, 10, -1], ["-1", "2.5", "10"])
    listed = read_image_table(folder / "table.csv", ranks=[-1, 0, 2.5, 10])
    assert (listed.ranks, listed.target.tolist()) == ([-1, 0, 2.5, 10], [2.5, 10, -1])


def test_what_may_be_a_thousand_or_a_fraction_is_asked_for_and_taken_as_the_ranks_have_it(folder):
    table = written(folder, "path;rank\na.png;1,500\nb.png;10\n")
    with pytest.raises(ValueError, match=r"'1,500'\]: say which with ranks=\[10, 1500\] or ranks=\[1.5, 10\]"):
        read_image_table(table)
    assert read_image_table(table, ranks=[10, 1500]).target.tolist() == [1500, 10]
    assert read_image_table(table, ranks=[1.5, 10]).target.tolist() == [1.5, 10]
    assert read_image_table(table, ranks=["10", "1,500"]).rank_names == ["10", "1,500"]


def test_words_for_nothing_are_missing_among_numbers_and_words_among_words(folder):
    table = written(folder, "path,rank\na.png,1\nb.png,NA\ninner/c.png,nan\nd.png,2\n")
    with pytest.warns(UserWarning, match="rows without a rank: 2, namely b.png; inner/c.png"):
        assert read_image_table(table).target.tolist() == [1, 2]
    named = read_image_table(table, ranks=["nan", "NA", "1", "2"])
    assert named.target.tolist() == [2, 1, 0, 3]
    words = read_image_table(written(folder, "path,rank\na.png,mild\nb.png,None\nd.png,severe\n"))
    assert words.rank_names == ["None", "mild", "severe"]


def test_delimiters_within_quotes_divide_nothing(folder):
    table = written(folder, 'path;"rank, of two, of three"\na.png;1\nb.png;2\n')
    assert read_image_table(table, rank="rank, of two, of three").target.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (['"b.png,2', *["c.png,3"] * 16], 3),
        (['"b.png,2', *["c.png,3"] * 20_000], 3),  # of which the reader gives up before the end
        (["b.png,2", 'inner/c.png,"3', "d.png,4"], 4),
        (["b.png,2", '"inner/c.png,3', '"d.png,4'], 4),
        (["b.png,2", 'inner/c.png,"3', 'd.png,"4'], 4),
        (["b.png,2", 'inner/c.png,"3', 'd.png,4"'], 4),
        (["b.png,2", "", '"inner/c.png,3', "d.png,4", 'e.png",5'], 5),
    ],
)
def test_a_quote_that_swallows_rows_is_told_by_its_line(folder, rows, line):
    table = written(folder, "\n".join(["path,rank", "a.png,1", *rows, ""]))
    with pytest.raises(ValueError, match=f"^A quote in line {line} of .*table.csv .*double it where it belongs"):
        read_image_table(table)


@pytest.mark.parametrize(
    "rows",
    [
        ['a.png,1,"5,,', "b.png,2,6,,", "c.png,3,7,,", 'd.png,4,8",,'],  # delimiters at the end, as Excel writes them
        ["", 'a.png,1,"5', "", "b.png,2,6", "", 'c.png,3,7"', ""],  # every other line is blank
        ['a.png,1,"5', "b.png,2", "c.png,3", 'd.png,4,8"'],  # rows that are short
        ['a.png,1,"5', 'b.png,2,6, or 7"'],  # and one that holds the delimiter
    ],
)
def test_rows_between_two_stray_quotes_are_not_lost(folder, rows):
    table = written(folder, "\n".join(["path,rank,size" + ",remark" * (",," in rows[0]), *rows, "e.png,5,9", ""]))
    with pytest.raises(ValueError, match=r"^A quote in line [23] of .*table.csv makes one row of lines"):
        read_image_table(table)


def test_lines_and_quotes_within_a_cell_are_left_alone(folder):
    text = 'path,rank,note\na.png,1,"sharp,\nbut ""dark"""\n"b.png",2,15" wide\n"d.png",3,"\n1"\n'
    assert read_image_table(written(folder, text), group="note").groups.tolist() == [
        'sharp,\nbut "dark"',
        '15" wide',
        "1",
    ]


# ------------------------------------------------------- orders and codes


ORDER = ["low", "high"]  # against the alphabet


def ordered_frame():
    pandas = pytest.importorskip("pandas")
    grade = pandas.Categorical(["high", "low"], ORDER, ordered=True)
    return pandas.DataFrame({"path": ["a.png", "b.png"], "rank": grade})


def ordered_arrow(folder=None):
    pyarrow = pytest.importorskip("pyarrow")
    grade = pyarrow.DictionaryArray.from_arrays(pyarrow.array([1, 0]), pyarrow.array(ORDER), ordered=True)
    return pyarrow.table({"path": ["a.png", "b.png"], "rank": grade})


def ordered_polars(folder=None):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(
        {"path": ["a.png", "b.png"], "rank": ["high", "low"]}, schema_overrides={"rank": polars.Enum(ORDER)}
    )


def through_parquet(write):
    def path(folder):
        write(folder)
        return folder / "table.parquet"

    return path


def arrow_parquet(folder):
    pytest.importorskip("pyarrow.parquet").write_table(ordered_arrow(), folder / "table.parquet")


def pandas_in_arrow(folder):
    arrow_parquet(folder)
    return pytest.importorskip("pandas").read_parquet(folder / "table.parquet", dtype_backend="pyarrow")


def speaking_of_order(protocol):
    table = ordered_arrow()
    return type("Frame", (), {protocol: lambda self, *args, **named: getattr(table, protocol)(*args, **named)})()


CARRIERS = {
    "pandas": lambda folder: ordered_frame(),
    "pandas in nullable types": lambda folder: ordered_frame().convert_dtypes(),
    "pandas in Arrow": pandas_in_arrow,
    "Arrow": ordered_arrow,
    "column of Arrow": lambda folder: {"path": ["a.png", "b.png"], "rank": ordered_arrow()["rank"]},
    "polars": ordered_polars,
    "column of polars": lambda folder: {"path": ["a.png", "b.png"], "rank": ordered_polars()["rank"]},
    "Parquet of pandas": through_parquet(lambda folder: ordered_frame().to_parquet(folder / "table.parquet")),
    "Parquet of Arrow": through_parquet(arrow_parquet),
    "Parquet of polars": through_parquet(lambda folder: ordered_polars().write_parquet(folder / "table.parquet")),
    "dataframe interchange": lambda folder: speaking_of_order("__dataframe__"),
    "arrow stream": lambda folder: speaking_of_order("__arrow_c_stream__"),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_order_that_a_column_carries_is_kept(folder, carrier):
    found = read_image_table(CARRIERS[carrier](folder), root=folder)
    assert (found.rank_names, found.target.tolist()) == (ORDER, [1, 0])


def test_an_order_of_numbers_is_kept(folder):
    pandas = pytest.importorskip("pandas")
    grade = pandas.Categorical([1, 2], [3, 2, 1], ordered=True)
    found = read_image_table(pandas.DataFrame({"path": ["a.png", "b.png"], "rank": grade}), root=folder)
    assert (found.ranks, found.target.tolist()) == ([3, 2, 1], [1, 2])


def data_set():
    datasets = pytest.importorskip("datasets", minversion="4")
    label = datasets.ClassLabel(names=["mild", "moderate", "none", "severe"])  # in alphabetical order
    features = datasets.Features({"path": datasets.Value("string"), "rank": label})
    columns = {"path": ["a.png", "b.png", "inner/c.png"], "rank": [2, 3, 0]}
    return datasets.Dataset.from_dict(columns, features=features)


CODED = {
    "data set": lambda folder: data_set(),
    "streamed": lambda folder: data_set().to_iterable_dataset(),
    "column": lambda folder: {"path": data_set()["path"], "rank": data_set()["rank"]},
    "Arrow": lambda folder: data_set().with_format("arrow")[:],
    "Parquet": through_parquet(
        lambda folder: pytest.importorskip("pyarrow.parquet").write_table(
            data_set().data.table, folder / "table.parquet"
        )
    ),
}


@pytest.mark.parametrize("kind", CODED)
def test_codes_are_the_names_that_they_stand_for(folder, kind):
    found = read_image_table(CODED[kind](folder), root=folder)
    assert found.rank_names == ["none", "mild", "moderate", "severe"]  # those without an image too
    assert found.target.tolist() == [0, 3, 1]
    named = read_image_table(CODED[kind](folder), root=folder, ranks=["severe", "mild", "none"])
    assert named.target.tolist() == [2, 0, 1]


def test_a_data_set_of_several_parts_is_asked_which(folder):
    datasets = pytest.importorskip("datasets")
    for parts in (datasets.DatasetDict({"train": data_set()}), {"train": ordered_frame(), "test": ordered_frame()}):
        with pytest.raises(
            ValueError, match=r"table holds tables, \['train'.*\]: choose one, .* table=table\['train'\]"
        ):
            read_image_table(parts, root=folder)


def test_members_of_an_enumeration_are_the_words_that_they_equal(folder):
    grade = enum.Enum("Grade", {"NONE": "none", "MILD": "mild"}, type=str)
    table = {"path": ["a.png", "b.png"], "rank": [grade.MILD, grade.NONE]}
    for ranks in (None, list(grade)):
        found = read_image_table(table, root=folder, ranks=ranks)
        assert (found.rank_names, found.target.tolist()) == (["none", "mild"], [1, 0])


# -------------------------------------------------------- missing, repeated


def test_what_stands_for_nothing_can_be_said(folder):
    table = written(folder, "path,rank,who\na.png,1,x\nb.png,unknown,x\nd.png,2,?\n?,2,y\ninner/c.png,-1,y\n")
    with pytest.warns(
        UserWarning, match="without an image: 1.*\n.*without a rank: 2.*\n.*without a group: 1"
    ) as caught:
        found = read_image_table(table, group="who", missing=["unknown", "?", -1])
    assert found.target.tolist() == [1]
    assert "namely b.png; inner/c.png" in str(caught[0].message)


def test_a_missing_cell_is_no_word(folder):
    table = written(folder, "path,rank\na.png,None\nb.png,mild\nd.png,severe\n")
    assert read_image_table(table, missing=[None, np.nan]).rank_names == ["None", "mild", "severe"]


def test_nothing_stands_for_nothing_where_that_is_said(folder):
    table = written(folder, "path,rank\na.png,1\nb.png,NA\nd.png,2\n")
    with pytest.raises(ValueError, match=r"order is not known.*'1', '2', 'NA'"):
        read_image_table(table, missing=[])
    with pytest.raises(TypeError, match=r"missing must be a list .*such as \['unknown'\], got 'NA'"):
        read_image_table(table, missing="NA")


def test_a_category_that_is_declared_is_a_rank_whatever_its_name(folder):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"path": COLUMNS["file"][:3], "rank": ["1", "none", "2"]})
    with pytest.warns(UserWarning, match=r"rows without a rank: 1, namely b.png \(where a word such as None is a rank"):
        read_image_table(table, root=folder)
    table["rank"] = table["rank"].astype(pandas.CategoricalDtype(["none", "1", "2"], ordered=True))
    assert read_image_table(table, root=folder).target.tolist() == [1, 0, 2]


def test_words_for_nothing_are_missing_among_groups_that_are_numbers(folder):
    table = written(folder, "path,rank,who\na.png,1,7\nb.png,2,NA\nd.png,2,8\n")
    with pytest.warns(UserWarning, match="rows without a group: 1, namely b.png"):
        assert read_image_table(table, group="who").groups.tolist() == ["7", "8"]


def test_groups_that_an_array_makes_the_same_are_refused(folder):
    with pytest.raises(ValueError, match="Column 'who' has 7 and '7', which would become the same"):
        read_image_table({"path": ["a.png", "b.png"], "rank": [1, 2], "who": [7, "7"]}, group="who", root=folder)


RATED = "path,rank,who\na.png,1,x\nb.png,2,y\na.png,4,x\n./a.png,2,x\nd.png,5,z\na.png,7,x\nd.png,5,z\n"


def test_several_ranks_of_an_image_are_their_lower_median(folder):
    table = written(folder, RATED)
    with pytest.raises(ValueError, match=r"'1' and '4'.*\(rows 0 and 2, counted .*; repeated=\"median\" takes the one"):
        read_image_table(table)
    found = read_image_table(table, group="who", repeated="median")
    assert found.data.tolist() == [str(folder / name) for name in ("a.png", "b.png", "d.png")]
    assert (found.target.tolist(), found.ranks) == ([2, 2, 5], [1, 2, 4, 5, 7])
    assert (found.rows.tolist(), found.groups.tolist()) == ([0, 1, 4], ["x", "y", "z"])
    spread = np.std([1, 2, 4, 7])
    np.testing.assert_allclose(found.label_std, [spread, np.sqrt(spread**2 / 2), 0])  # of the single rating that of all
    assert "3 images of 5 ranks" in found.DESCR


def test_the_median_of_words_is_one_along_their_order(folder):
    rows = [("a.png", word) for word in ("good", "poor", "fair", "excellent")] + [("b.png", "poor"), ("b.png", "good")]
    table = {"path": [path for path, _ in rows], "rank": [word for _, word in rows]}
    found = read_image_table(table, root=folder, repeated="median")
    assert [found.rank_names[rank] for rank in found.target] == ["fair", "poor"]
    np.testing.assert_allclose(found.label_std, [np.std([0, 1, 2, 3]), 1])
    reversed_ranks = read_image_table(table, root=folder, repeated="median", ranks=found.rank_names[::-1])
    assert [reversed_ranks.rank_names[rank] for rank in reversed_ranks.target] == ["good", "good"]


def test_a_single_rating_each_has_no_spread(folder):
    found = read_image_table(written(folder, "path,rank\na.png,1\nb.png,2\n"), repeated="median")
    assert found.label_std.tolist() == [0, 0]
    assert "label_std" not in read_image_table(folder / "table.csv")


def test_groups_of_an_image_must_agree_whatever_its_ranks_become(folder):
    table = written(folder, "path,rank,who\na.png,1,x\na.png,2,y\n")
    with pytest.raises(ValueError, match="more than one group to 1 of its images"):
        read_image_table(table, group="who", repeated="median")
    with pytest.raises(ValueError, match="repeated must be one of 'error', 'median', got 'mean'"):
        read_image_table(table, repeated="mean")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_file_is_one_image_however_its_path_is_written(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.symlink(folder / "a.png", folder / "link.png")
    for other in (str(folder / "a.png"), "inner/../a.png", "link.png"):
        with pytest.raises(ValueError, match="more than one rank to 1 of its images"):
            read_image_table({"path": ["a.png", other], "rank": [1, 2]})
        with pytest.warns(UserWarning, match="rows that repeat another: 1"):
            assert read_image_table({"path": ["a.png", other], "rank": [1, 1]}).data.tolist() == ["a.png"]


# ------------------------------------------------------------ names of files


def test_names_that_became_numbers_are_told_how_to_be_names_again(folder):
    pandas = pytest.importorskip("pandas")
    for name in ("007.png", "008.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    table = written(folder, "path,rank\n007,1\n008,2\n")
    for frame in (pandas.read_csv(table), pandas.read_csv(table).astype(float)):
        with pytest.raises(
            FileNotFoundError, match=r"became numbers, .* pandas.read_csv\(..., dtype=\{'path': str\}\)"
        ):
            read_image_table(frame, root=folder)
    frame = pandas.read_csv(table, dtype={"path": str})
    with pytest.raises(FileNotFoundError, match=r"The folder has 007.png: .* add the ending") as error:
        read_image_table(frame, root=folder)
    exec(str(error.value).split("its names, ")[1].rstrip("."), {"table": frame})
    assert read_image_table(frame, root=folder).target.tolist() == [1, 2]


def test_numbers_that_name_files_are_names(folder):
    for name in ("7", "8"):
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    assert read_image_table({"path": [7.0, 8], "rank": [1, 2]}, root=folder).target.tolist() == [1, 2]
    with pytest.warns(UserWarning, match="not there: 1, namely 9 .Names in column 'path' became numbers"):
        read_image_table({"path": [7, 8, 9], "rank": [1, 2, 2]}, root=folder)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="such names are the same file there")
@pytest.mark.parametrize(("there", "asked"), [("caf\u00e9.png", "cafe\u0301.png"), ("cafe\u0301.png", "caf\u00e9.png")])
def test_accents_may_stand_apart_in_names_of_files_and_columns(folder, there, asked):
    Image.new("RGB", (4, 4)).save(folder / there)
    table = written(folder, f"{asked},se\u0301v\n{asked},1\n")
    assert read_image_table(table, image=there, rank="s\u00e9v").data.tolist() == [str(folder / there)]


def test_the_users_own_folder_may_be_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert read_image_table({"path": ["~/a.png"], "rank": [1]}).data.tolist() == [str(folder / "a.png")]


def test_a_column_that_differs_only_in_letter_case_is_named(folder):
    with pytest.raises(ValueError, match=r"no column 'path'; .* Path differs from path only in letter case\. Name the"):
        read_image_table(written(folder, "Path,rank\na.png,1\n"))


def test_addresses_are_not_fetched(folder):
    with pytest.raises(FileNotFoundError, match=r"the first is an address, 'https://x/a.png', and nothing is fetched"):
        read_image_table({"path": ["https://x/a.png"], "rank": [1]}, root=folder)


def test_images_in_base64_are_no_paths(folder):
    text = base64.b64encode((folder / "a.png").read_bytes()).decode()
    with pytest.raises(FileNotFoundError, match="text of an image in base64: fit takes such images as X=") as error:
        read_image_table({"path": [text], "rank": [1]}, root=folder)
    code = str(error.value).split("X=")[1].rstrip(".")
    assert eval(code, {"base64": base64, "column": [text]}) == [(folder / "a.png").read_bytes()]  # noqa: S307


def test_columns_of_two_lengths_are_named(folder):
    with pytest.raises(ValueError, match="'path' has 2 rows, 'rank' has 1"):
        read_image_table({"path": ["a.png", "b.png"], "rank": [1]}, root=folder)


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_the_line_by_which_excel_tells_the_delimiter_is_no_header(folder, delimiter):
    text = "\r\n".join(["sep=,", "path,rank", "a.png,1", "b.png,2", ""]).replace(",", delimiter)
    assert read_image_table(written(folder, text)).target.tolist() == [1, 2]


def test_columns_that_pandas_numbers_are_chosen_by_number(folder):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["a.png", 1, "x"], ["b.png", 2, "y"]])
    found = read_image_table(frame, image=0, rank=1, group=2, root=folder)
    assert (found.target.tolist(), found.groups.tolist()) == ([1, 2], ["x", "y"])


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
def test_fractions_in_single_precision_are_the_numbers_that_they_print_as(folder, library):
    module = pytest.importorskip(library)
    single = np.array([0.1, 2.5], dtype=np.float32)
    columns = {"path": ["a.png", "b.png"], "rank": single}
    make = {"numpy": dict, "pandas": getattr(module, "DataFrame", None), "polars": getattr(module, "DataFrame", None)}
    found = read_image_table(make[library](columns) if library in make else module.table(columns), root=folder)
    assert (found.ranks, found.rank_names) == ([0.1, 2.5], ["0.1", "2.5"])


def test_an_infinite_rank_is_refused(folder):
    with pytest.raises(ValueError, match="has infinite ranks"):
        read_image_table({"path": ["a.png", "b.png"], "rank": [1, np.inf]}, root=folder)


def test_ranks_are_checked_beside_words_for_nothing(folder):
    with pytest.raises(ValueError, match="ranks must be a list of all labels, lowest first, got 5"):
        read_image_table({"path": ["a.png", "b.png"], "rank": ["1", "NA"]}, root=folder, ranks=5)


@pytest.mark.parametrize("kind", ["csv", "excel", "parquet", "polars", "arrow"])
def test_text_that_looks_like_a_number_or_like_nothing_stays_text(folder, kind):
    for name in ("007", "1.0", "NA"):
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    columns = {"path": ["007", "1.0", "NA"], "rank": ["01", "none", "NA"], "who": ["007", "7", "7.0"]}
    libraries = {"excel": "openpyxl", "parquet": "polars"}
    module = pytest.importorskip(libraries.get(kind, kind.replace("csv", "pandas").replace("arrow", "pyarrow")))
    if kind == "csv":
        table = written(folder, "path,rank,who\n007,01,007\n1.0,none,7\nNA,NA,7.0\n")
    elif kind == "excel":
        book, table = module.Workbook(), folder / "table.xlsx"
        for row in (columns, *zip(*columns.values(), strict=True)):
            book.active.append(list(row))
        book.save(table)
    elif kind == "parquet":
        table = folder / "table.parquet"
        module.DataFrame(columns).write_parquet(table)
    else:
        table = (module.DataFrame if kind == "polars" else module.table)(columns)
    read = read_image_table(table, group="who", root=folder, ranks=["none", "01", "NA"])
    assert read.data.tolist() == [str(folder / name) for name in columns["path"]]
    assert (read.target.tolist(), read.groups.tolist()) == ([1, 0, 2], columns["who"])


@pytest.mark.parametrize("kind", ["polars", "arrow", "parquet", "column of polars"])
def test_long_numbers_stay_apart_beside_an_empty_cell(folder, kind):
    polars = pytest.importorskip("polars")
    columns = {"path": COLUMNS["file"], "rank": [1, 2, 3, 4], "who": [2**60, 2**60 + 1, None, 2**60]}
    table = polars.DataFrame(columns)
    if kind == "arrow":
        table = pytest.importorskip("pyarrow").table(columns)
    elif kind == "parquet":
        table.write_parquet(folder / "table.parquet")
        table = folder / "table.parquet"
    elif kind == "column of polars":
        table = {**columns, "who": table["who"]}
    with pytest.warns(UserWarning, match="rows without a group: 1"):
        assert read_image_table(table, group="who", root=folder).groups.tolist() == [2**60, 2**60 + 1, 2**60]


def test_parquet_keeps_the_order_of_a_categorical_and_the_column_that_was_an_index(folder):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    grade = pandas.Categorical(["cat", "dog", "cat"], categories=["dog", "cat"], ordered=True)
    frame = pandas.DataFrame({"path": COLUMNS["file"][:3], "rank": grade}).set_index("path")
    frame.to_parquet(folder / "table.parquet")
    read = read_image_table(folder / "table.parquet")
    assert (read.rank_names, read.target.tolist(), len(read.data)) == (["dog", "cat"], [1, 0, 1], 3)


def test_a_column_of_pandas_may_have_the_name_of_a_method(folder):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"column_names": ["a.png", "b.png"], "to_pandas": [1, 2], "collect": ["x", "y"]})
    read = read_image_table(frame, image="column_names", rank="to_pandas", group="collect", root=folder)
    assert read.target.tolist() == [1, 2]


def test_a_lazy_frame_of_polars_is_a_table(folder):
    polars = pytest.importorskip("polars")
    frame = polars.LazyFrame({"path": ["a.png", "b.png"], "rank": [1, 2]})
    assert read_image_table(frame, root=folder).target.tolist() == [1, 2]


@pytest.mark.parametrize(("name", "package"), [("table.xlsx", "openpyxl"), ("table.parquet", "pyarrow.parquet")])
def test_a_file_that_is_not_what_its_name_says_is_named(folder, name, package):
    pytest.importorskip(package)
    with pytest.raises(ValueError, match=f"{name} cannot be read as .* whatever its name says"):
        read_image_table(written(folder, "path,rank\na.png,1\n", name))


def test_text_of_another_encoding_is_refused(folder):
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(line 2\): save it as UTF-8"):
        read_image_table(written(folder, "path,rank\nfrüh.png,1\n", encoding="latin-1"))


def test_where_no_file_is_there_the_folder_is_asked_for(folder):
    table = written(folder / "inner", "path,rank\na.png,1\nd.png,2\n")
    with pytest.raises(FileNotFoundError, match=r"None of the 2 files .*inner/a.png. Give the folder .* root="):
        read_image_table(table)
    assert len(read_image_table(table, root=folder).data) == 2


def test_names_without_their_ending_are_told_from_a_wrong_folder(folder):
    with pytest.raises(FileNotFoundError, match=r"None of the 2 files .*The folder has a.png: .*add the ending"):
        read_image_table(written(folder, "path,rank\na,1\nb,2\n"))


@pytest.mark.parametrize(
    ("table", "kind", "said"),
    [
        (3, TypeError, "table must be a path of a .csv.* got int"),
        ([["a.png", 1]], TypeError, "table must be a path of a .csv.* got list"),
        ("absent.csv", FileNotFoundError, "there is no file absent.csv"),
        (".", FileNotFoundError, "is a folder"),
        (__file__, ValueError, "Save it as one of them"),
        ("s3://bucket/t.csv", ValueError, "an address, 's3://bucket/t.csv', .*: .* table=pandas.read_csv"),
        ("file:///data/t.csv", ValueError, "an address, .* give its path, '.data.t.csv'"),
        (
            zipfile.Path(io.BytesIO(EMPTY_ARCHIVE), "t.csv"),
            TypeError,
            "got Path. Read it with pandas, as in table=.*open",
        ),
        ({"path": [np.zeros((2, 2))], "rank": [1]}, TypeError, "must hold paths, got ndarray.*give the column to fit"),
    ],
)
def test_what_is_no_table_is_refused(table, kind, said):
    with pytest.raises(kind, match=said):
        read_image_table(table)


# in an order in which none needs what one before it has done without
TABLES_WITHOUT = [
    ("COLUMNS", "pandas openpyxl pyarrow polars datasets torch", ""),
    ("'table.csv'", "pandas", "Tables are read with pandas, which is not installed: "),
    ("'table.csv'", "openpyxl pyarrow polars datasets torch", ""),
    ("'table.xlsx'", "openpyxl", "Excel files are read with openpyxl, which is not installed: "),
    ("'table.parquet'", "pyarrow", "Parquet files are read with pyarrow, which is not installed: "),
    ("__import__('polars').DataFrame(COLUMNS)", "pandas", "Frames of polars are read with pandas, which is not"),
]
READ_WITHOUT = """
import json, sys
class Absent:
    names = []
    def find_spec(name, *rest):
        if name.partition(".")[0] in Absent.names:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent)
columns, cases = json.loads(sys.argv[1])
for table, absent in cases:
    Absent.names = absent.split()
    for name in list(sys.modules):
        if name.partition(".")[0] in Absent.names:
            del sys.modules[name]
    from skl2rclip.datasets import load_image_folder, load_lara2018, read_image_table
    try:
        print(len(read_image_table(eval(table, {"COLUMNS": columns}), image="file", rank="grade").data))
    except ImportError as error:
        print(error)
    print("===")
"""


@pytest.fixture(scope="module")
def read_without(tmp_path_factory):
    """Return what a fresh process says of each table where libraries are absent: one process for all of them."""
    folder = with_images(tmp_path_factory.mktemp("without"))
    for name in ("table.csv", "table.xlsx", "table.parquet"):
        delimited(folder, ",", name)
    has_polars = importlib.util.find_spec("polars") is not None
    cases = [(table, absent) for table, absent, _ in TABLES_WITHOUT if has_polars or "polars" not in table]
    command = [sys.executable, "-c", READ_WITHOUT, json.dumps([COLUMNS, cases])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    return dict(zip(cases, done.stdout.split("===\n"), strict=False))


@pytest.mark.parametrize(("table", "absent", "said"), TABLES_WITHOUT)
def test_a_library_is_asked_for_only_where_a_table_needs_it(read_without, table, absent, said):
    if "polars" in table:
        pytest.importorskip("polars")
    told = read_without[table, absent]
    assert told.startswith(said) if said else told.strip() == "4"
    assert not said or 'pip install "skl2rclip[tables]"' in told
