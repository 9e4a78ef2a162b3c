"""Boxes of tables: which columns they are, what becomes of each row, and what goes along with it."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, ImageCrop
from skl2rclip.datasets import read_image_table

pytestmark = pytest.mark.filterwarnings("error")
BOX = ("x", "y", "width", "height")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "path": ["a.png", "a.png", "b.png", "b.png"],
            "rank": [2, 1, 3, 1],
            "x": [0, 10.5, 0, 20],
            "y": [0, 0, 5, 5],
            "width": [10, 20, 30, 40],
            "height": [10, 20.25, 30, 35],
            "weight": [0.1, 0.2, 0.3, 0.4],
            "tree": [7, 7, 8, 8],
        }
    )


def crops_of(folder, table):
    return [
        ImageCrop(f"{folder}/{path}", box) for path, *box in table[["path", *BOX]].itertuples(index=False, name=None)
    ]


def in_one_column(table):
    return table.assign(bbox=table[list(BOX)].to_numpy().tolist()).drop(columns=list(BOX))


@pytest.mark.parametrize("kind", ["frame", "csv", "polars", "mapping", "lists", "arrays", "text", "spaces"])
def test_boxes_come_from_columns_of_any_kind(folder, table, kind):
    box, root = BOX, folder
    expected = crops_of(folder, table)
    if kind == "csv":
        table.to_csv(folder / "table.csv", index=False)
        table, root = folder / "table.csv", None
    elif kind == "polars":
        table = pytest.importorskip("polars").DataFrame(table.to_dict("list"))
    elif kind == "mapping":
        table = table.to_dict("list")
    elif kind != "frame":
        box, table = "bbox", in_one_column(table)
        make = {"lists": list, "arrays": np.array, "text": str, "spaces": lambda each: " ".join(map(str, each))}[kind]
        table["bbox"] = table["bbox"].map(make)
        if kind == "text":
            table.to_csv(folder / "table.csv", index=False)
            table, root = folder / "table.csv", None
    read = read_image_table(table, box=box, root=root)
    assert list(read.data) == expected
    assert (read.data.dtype, read.data.shape) == (object, (4,))
    assert read.target.tolist() == [2, 1, 3, 1]
    assert read.rows.tolist() == [0, 1, 2, 3]
    assert read.groups.tolist() == [crop.path for crop in expected]


def test_what_a_table_has_beside_its_boxes_stays_with_them(folder, table, tiny):
    table = pd.concat([table.assign(width=99).iloc[:1], table.iloc[::-1]])
    with pytest.warns(UserWarning, match="boxes beyond them: 1, namely a.png, box"):
        read = read_image_table(table, box=BOX, group="tree", root=folder)
    assert read.rows.tolist() == [1, 2, 3, 4]
    kept = table.iloc[read.rows]
    assert list(read.data) == crops_of(folder, kept)
    assert read.groups.tolist() == kept["tree"].tolist() == [8, 8, 7, 7]
    pipeline = make_pipeline(CLIPImageEncoder(tiny), LogisticRegression())
    pipeline.fit(read.data, read.target, logisticregression__sample_weight=kept["weight"])
    assert pipeline.predict(read.data).shape == (4,)


def test_rows_whose_box_is_none_are_named_in_one_warning(folder, table):
    worse = {
        "rank": [1] * 5,
        "x": [0, 0, np.nan, np.inf, 50],
        "y": [0, 0, 0, 0, 0],
        "width": [0, -5, 5, 5, 30],
        "height": 5,
    }
    table = pd.concat([table, pd.DataFrame({"path": "a.png", **worse})])
    with pytest.warns(UserWarning, match="not everything was taken") as shown:
        read = read_image_table(table, box=BOX, root=folder)
    assert read.rows.tolist() == [0, 1, 2, 3]
    said = str(shown[0].message)
    assert "rows without a box: 1, namely a.png" in said
    assert f"boxes that are none: 3, namely row 4, {folder}/a.png (box of {folder}/a.png must be (x, y, width" in said
    assert "files that cannot be opened as images, or boxes beyond them: 1, namely a.png, box (50, 0, 30, 5)" in said
    assert len(shown) == 1


def test_where_no_box_is_right_the_error_says_why(folder, table):
    corners = table.assign(x=[20, 30, 40, 50], width=[50, 55, 58, 60], y=10, height=[39, 40, 38, 40])
    with pytest.raises(ValueError, match=r"(?s)lists no image with a rank.*x2 - x1, y2 - y1"):
        read_image_table(corners, box=BOX, root=folder)


def test_a_box_is_repeated_and_an_image_is_not(folder, table):
    again = pd.concat([table, table.iloc[:1]])
    with pytest.warns(UserWarning, match=r"rows that repeat another: 1, namely a\.png"):
        assert len(read_image_table(again, box=BOX, root=folder).data) == 4
    other = pd.concat([table, table.iloc[:1].assign(rank=1)])
    with pytest.raises(ValueError, match=r"more than one rank to 1 of its images.*rows 0 and 4"):
        read_image_table(other, box=BOX, root=folder)
    rated = read_image_table(other, box=BOX, root=folder, repeated="median")
    assert rated.target.tolist() == [1, 1, 3, 1]
    assert rated.label_std.tolist() == [0.5] * 4


def test_columns_of_boxes_that_are_not_there(folder, table):
    with pytest.raises(ValueError, match=r"no column 'w'; .* Name the right one with box\[2\]=\.\.\."):
        read_image_table(table, box=("x", "y", "w", "h"), root=folder)
    for box in (("x", "y"), 3.5, ["x", "y", "width", None]):
        with pytest.raises(ValueError, match="box must be the names of four columns"):
            read_image_table(table, box=box, root=folder)
    short = {**table.to_dict("list"), "width": [1, 2]}
    with pytest.raises(ValueError, match="differ in length"):
        read_image_table(short, box=BOX, root=folder)
