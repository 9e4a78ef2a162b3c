"""Files that hold a table: which row is the header, which sheet, and that all rows come or an error says why not."""

import re
import zipfile

import pandas
import pytest
from PIL import Image

from skl2rclip.datasets import read_image_table
from skl2rclip.datasets._table_files import read_file

pytestmark = pytest.mark.filterwarnings("error")

NAMES = [f"{letter}.png" for letter in "abcdefghijkl"]
GRADES = [i % 3 for i in range(12)]
ROWS = [["path", "rank"], *map(list, zip(NAMES, GRADES, strict=True))]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        Image.new("RGB", (4, 4), "green").save(folder / name)
    return folder


@pytest.fixture
def read(images, tmp_path):
    """Read a table of this text, or whatever writes one to a path."""

    def reading(content, name="table.csv", **how):
        path = tmp_path / name
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_image_table(path, root=images, **how)

    return reading


def text_of(rows, delimiter=","):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


# ---------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "above",
    [
        ["Leaves of 2024"],
        ["Leaves of 2024", ""],
        ["Leaves, of, 2024", "", 'it has a " in it', "path"],
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_header_is_the_row_that_holds_the_names_and_what_is_above_is_told(read, above, delimiter):
    said = [line for line in above if line]
    with pytest.warns(UserWarning, match=f"lines above the header: {len(said)}, namely {re.escape('; '.join(said))}"):
        found = read("\n".join(above) + "\n" + text_of(ROWS, delimiter))
    assert (found.target.tolist(), found.rows.tolist()) == (GRADES, list(range(12)))


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "sep=;\t"])
def test_the_line_by_which_excel_tells_the_delimiter_is_none_of_the_table(read, line):
    assert read(f"{line}\n" + text_of(ROWS, ";")).target.tolist() == GRADES


def test_a_quote_after_blanks_is_a_quote(read):
    found = read('path, note, rank\na.png, "dark, wet", "1"\n"b.png", "dry", "2"\n', group="note")
    assert (found.target.tolist(), found.groups.tolist()) == ([1, 2], ["dark, wet", "dry"])


@pytest.mark.parametrize("blank", ['""', '"  "', "", "  "])
@pytest.mark.parametrize("columns", [["path"], ["path", "rank"]])
@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.tsv", "\t")])
def test_rows_of_nothing_are_counted_as_pandas_counts_them(tmp_path, blank, columns, name, delimiter):
    lines = [delimiter.join(columns), delimiter.join("ab"[: len(columns)]), blank, delimiter * (len(columns) - 1), ""]
    (tmp_path / name).write_text("\n".join(lines))
    frame = pandas.read_csv(tmp_path / name, sep=delimiter, dtype=str, na_filter=False)
    assert len(read_file(tmp_path / name, columns, name).frame) == len(frame)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("path,rank\na.png,1\nb.png,2\0\n", 3),
        ("path,rank\na.png,1\nb\0.png,2\n", 3),
        (text_of(ROWS).encode("utf-16-le"), 1),
        (text_of([*ROWS, ["ä.png", 1]]).encode("utf-16-be"), 1),
        ("path,rank\na.png,1\nb.png,2\0\n".encode("utf-16"), 3),
    ],
)
def test_null_characters_are_named_before_they_cut_cells(read, content, line):
    with pytest.raises(ValueError, match=rf"holds null characters \(line {line}\), (as UTF-16 does|which cut cells)"):
        read(content)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_text_without_its_mark_is_read_as_the_error_says(read, tmp_path, images, encoding):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="as UTF-16 does without its mark") as error:
        read(text_of(ROWS).encode(encoding))
    assert re.search("encoding='(.*)'", str(error.value))[1] == encoding
    frame = pandas.read_csv(tmp_path / "table.csv", encoding=encoding)
    assert read_image_table(frame, root=images).target.tolist() == GRADES


@pytest.mark.parametrize("name", ["table.csv", "table.tsv"])
def test_a_cell_that_is_too_long_is_not_called_an_unclosed_quote(read, name):
    delimiter = "," if name.endswith("csv") else "\t"
    rows = [[*row, "remark"] for row in ROWS]
    rows[4][2] = "x" * 140_000
    with pytest.raises(ValueError, match=r"Line 5 of .* has a cell of more than 131072 characters: take such columns"):
        read(text_of(rows, delimiter), name)


def test_a_long_line_hides_no_missing_column(read):
    wide = [["path", "rank", *range(150)], ["a.png", 1, *["x" * 1000] * 150]]
    with pytest.raises(ValueError, match=r"has no column 'grade'; it has \['path', 'rank', '0', "):
        read(text_of(wide, ";"), rank="grade")


def test_rows_that_pandas_would_not_count_are_an_error(read, monkeypatch):
    pandas = pytest.importorskip("pandas")
    honest = pandas.read_csv
    monkeypatch.setattr(pandas, "read_csv", lambda *args, **named: honest(*args, **named)[:4])
    with pytest.raises(ValueError, match="has 13 rows as Python counts them and 4 as pandas does"):
        read(text_of(ROWS))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_those_that_pandas_counts(read, tmp_path, end):
    pandas = pytest.importorskip("pandas")
    lines = ["path,rank,n", "a.png,1,0", "", "   ", '"b.png","2","of\ntwo lines"', "", "\t", "c.png,3,5"]
    found = read(end.join([*lines, ""]))
    frame = pandas.read_csv(tmp_path / "table.csv")
    assert frame.iloc[found.rows]["path"].tolist() == ["a.png", "b.png", "c.png"]


# --------------------------------------------------------------------- Excel


def book(*sheets, setup=lambda book: None):
    """Write sheets of rows."""

    def write(path):
        openpyxl = pytest.importorskip("openpyxl")
        made = openpyxl.Workbook()
        made.remove(made.active)
        for rows in sheets:
            sheet = made.create_sheet()
            for row in rows:
                sheet.append(row)
        setup(made)
        made.save(path)

    return write


def change_first_sheet(path, change):
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet], before = change(parts[sheet]), parts[sheet]
    assert parts[sheet] != before
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)


@pytest.mark.parametrize("dimension", [b"A1", b"A1:B3", b"A1:A13"])
def test_the_cells_of_a_sheet_are_read_and_not_its_stated_dimension(read, dimension):
    def write(path):
        book(ROWS)(path)
        change_first_sheet(path, lambda xml: re.sub(rb'dimension ref="[^"]*"', b'dimension ref="%s"' % dimension, xml))

    assert read(write, "table.xlsx").target.tolist() == GRADES


def hide(book):
    book.worksheets[0].sheet_state = "hidden"


def test_the_sheet_is_the_visible_one_that_has_the_columns(read):
    assert len(read(book(ROWS[:3], ROWS, setup=hide), "table.xlsx").data) == 12
    assert len(read(book([["Notes"], ["of 2024"]], ROWS), "table.xlsx").data) == 12
    with pytest.raises(ValueError, match=r"has no column 'path'; it has \['Notes'\]"):
        read(book(ROWS, [["Notes"]], setup=hide), "table.xlsx")


def test_two_sheets_with_the_columns_are_asked_about(read, images):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"several sheets with these columns, \['Sheet', 'Sheet1'\]: choose") as error:
        read(book(ROWS[:3], ROWS), "table.xlsx")
    frame = eval(str(error.value).split("table=")[1].rstrip("."), {"pandas": pandas})  # noqa: S307
    assert len(read_image_table(frame, root=images).data) == 2


def test_a_merged_cell_is_the_value_of_all_its_rows(read):
    rows = [["Leaves"], [], ["path", "rank", "plant"], ["a.png", 1, "x"], ["b.png"], ["c.png", 2], ["d.png", 3, "y"]]

    def merge(book):
        book.worksheets[0].merge_cells("A1:C1")
        book.worksheets[0].merge_cells("B4:B5")
        book.worksheets[0].merge_cells("C4:C6")

    with pytest.warns(UserWarning, match="lines above the header: 1, namely Leaves$"):
        found = read(book(rows, setup=merge), "table.xlsx", group="plant")
    assert (found.target.tolist(), found.groups.tolist()) == ([1, 1, 2, 3], ["x", "x", "x", "y"])


def test_rows_of_a_sheet_are_those_that_pandas_counts(read, tmp_path):
    pandas = pytest.importorskip("pandas")
    with pytest.warns(UserWarning, match="empty rows: 1"):
        found = read(book([*ROWS[:3], [], ["e.png", 5]]), "table.xlsx")
    assert pandas.read_excel(tmp_path / "table.xlsx").iloc[found.rows]["path"].tolist() == ["a.png", "b.png", "e.png"]


def test_a_formatted_cell_far_away_costs_nothing(read):
    def far(book):
        openpyxl = pytest.importorskip("openpyxl")
        for place in ("XFD3", "B5000", "XFD5000"):
            book.worksheets[0][place].font = openpyxl.styles.Font(bold=True)
        book.worksheets[0].merge_cells("D2:D3")

    assert read(book(ROWS, setup=far), "table.xlsx").target.tolist() == GRADES


def test_a_damaged_sheet_is_named(read):
    def write(path):
        book(ROWS)(path)
        change_first_sheet(path, lambda xml: xml[:200])

    with pytest.raises(ValueError, match=r"cannot be read as an Excel file .* whatever its name says"):
        read(write, "table.xlsx")


def test_an_empty_book_is_named(read):
    with pytest.raises(ValueError, match="is empty; a header row"):
        read(book([]), "table.xlsx")


# ------------------------------------------------------------------- Parquet


def test_an_order_of_numbers_that_parquet_has_lost_is_asked_for(read):
    pandas = pytest.importorskip("pandas")
    grade = pandas.Categorical([1, 2, 3], [3, 2, 1], ordered=True)
    frame = pandas.DataFrame({"path": NAMES[:3], "rank": grade})
    with pytest.raises(
        ValueError, match=r"ordered Categorical whose order was not kept, .* such as ranks=\[1, 2, 3\] put"
    ):
        read(frame.to_parquet, "table.parquet")
    assert read(frame.to_parquet, "table.parquet", ranks=[3, 2, 1]).ranks == [3, 2, 1]
    assert read(frame.to_parquet, "table.parquet", image="path", rank="path", ranks=NAMES[:3]).target.tolist() == [
        0,
        1,
        2,
    ]
