"""Tables of images: kinds of tables, what spreadsheets do to cells, and what is said of rows that are left out."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from skl2rclip.datasets import read_image_table

pytestmark = pytest.mark.filterwarnings("error")

COLUMNS = {
    "file": ["a.png", "b.png", "inner/c.png", "d.png"],
    "grade": ["good", "poor", "fair", "good"],
    "person": [7, 7, 8, 9],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in COLUMNS["file"]:
        Image.new("RGB", (4, 4), "green").save(tmp_path / name)
    return tmp_path


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
        "files that are not there: 1, namely B.png (the folder has b.png)",
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


def test_a_comma_that_may_be_that_of_thousands_makes_no_number(folder):
    found = read_image_table(written(folder, "path;rank\na.png;1,500\nb.png;10\n"))
    assert found.rank_names == ["10", "1,500"]


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
        ({"path": [np.zeros((2, 2))], "rank": [1]}, TypeError, "must hold paths, got ndarray.*give the column to fit"),
    ],
)
def test_what_is_no_table_is_refused(table, kind, said):
    with pytest.raises(kind, match=said):
        read_image_table(table)


@pytest.mark.parametrize(
    ("table", "absent", "said"),
    [
        ("'table.csv'", "pandas", "Tables are read with pandas, which is not installed: "),
        ("'table.xlsx'", "openpyxl", "Excel files are read with openpyxl, which is not installed: "),
        ("'table.parquet'", "pyarrow", "Parquet files are read with pyarrow, which is not installed: "),
        ("__import__('polars').DataFrame(COLUMNS)", "pandas", "Frames of polars are read with pandas, which is not"),
        ("'table.csv'", "openpyxl pyarrow polars datasets torch", ""),
        ("COLUMNS", "pandas openpyxl pyarrow polars datasets torch", ""),
    ],
)
def test_a_library_is_asked_for_only_where_a_table_needs_it(folder, table, absent, said):
    if "polars" in table:
        pytest.importorskip("polars")
    for name in ("table.csv", "table.xlsx", "table.parquet"):
        delimited(folder, ",", name)
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(name, *rest):\n"
        f"        if name in {absent.split()}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent)\n"
        "from skl2rclip.datasets import load_image_folder, load_lara2018, read_image_table\n"
        f"COLUMNS = {COLUMNS}\n"
        "try:\n"
        f"    print(len(read_image_table({table}, image='file', rank='grade').data))\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith(said) if said else done.stdout.strip() == "4"
    assert not said or 'pip install "skl2rclip[tables]"' in done.stdout
