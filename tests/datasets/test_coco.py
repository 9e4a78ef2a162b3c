"""Annotations in COCO's format: which become entries, what their ranks are, and what is said of the others."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from skl2rclip import ImageCrop, find_unreadable
from skl2rclip.datasets import read_coco_annotations

pytestmark = pytest.mark.filterwarnings("error")
CONTENT = {
    "info": {"year": 2026},
    "images": [
        {"id": 5, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 3, "file_name": "inner/b.jpg", "width": 40, "height": 60},
    ],
    "categories": [{"id": 1, "name": "ripe"}, {"id": 2, "name": "unripe"}, {"id": 9, "name": "overripe"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1.5, 2, 30, 40], "attributes": {"severity": 3}},
        {"id": 2, "image_id": 5, "category_id": 2, "bbox": [0, 0, 20, 20], "attributes": {"severity": 1}},
        {"id": 3, "image_id": 5, "category_id": 1, "bbox": [20, 0, 40, 40], "severity": 2, "attributes": {}},
    ],
}
ORDER = ["unripe", "ripe", "overripe"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    pixels.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown as 40 x 60
    pixels.save(tmp_path / "inner/b.jpg", exif=exif)
    (tmp_path / "coco.json").write_text(json.dumps(CONTENT))
    return tmp_path


@pytest.fixture
def content():
    return copy.deepcopy(CONTENT)


def test_each_annotation_is_the_crop_of_its_box(folder):
    expected = [
        ImageCrop(str(folder / "inner/b.jpg"), (1.5, 2, 30, 40)),
        ImageCrop(str(folder / "a.png"), (0, 0, 20, 20)),
        ImageCrop(str(folder / "a.png"), (20, 0, 40, 40)),
    ]
    read = read_coco_annotations(folder / "coco.json", ranks=ORDER)
    assert list(read.data) == expected
    assert read.target.tolist() == [2, 0, 1]
    assert (read.ranks, read.rank_names) == ([0, 1, 2], ORDER)
    assert read.groups.tolist() == [crop.path for crop in expected]
    assert read.rows.tolist() == [0, 1, 2]
    assert find_unreadable(read.data) == {}
    data, target = read_coco_annotations(CONTENT, root=folder, ranks=ORDER, return_X_y=True)
    assert (list(data), target.tolist()) == (expected, [2, 0, 1])


def test_ranks_are_categories_fields_or_attributes(folder, content):
    assert read_coco_annotations(content, root=folder, rank="severity").target.tolist() == [3, 1, 2]
    found = read_coco_annotations(content, root=folder)  # by their names, and not by their numbers
    assert [found.rank_names[rank] for rank in found.target] == ["overripe", "unripe", "ripe"]
    assert found.rank_names == ORDER
    content["categories"] = [{"id": number, "name": name} for number, name in ((1, "x"), (2, "y"), (9, "z"))]
    with pytest.raises(ValueError, match=r"their order is not known.*ranks=\['x', 'y', 'z'\]"):
        read_coco_annotations(content, root=folder)
    with pytest.raises(ValueError, match=r"has the field 'grade'; they have \[.*'severity'.*rank='category'"):
        read_coco_annotations(content, root=folder, rank="grade")


def test_what_cannot_be_an_entry_is_counted_in_one_warning(folder, content):
    content["annotations"] += [
        {"image_id": 5, "category_id": 2, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        {"image_id": 5, "category_id": 2},
        {"image_id": 5, "category_id": 77, "bbox": [0, 0, 5, 5]},
        {"image_id": 77, "category_id": 2, "bbox": [0, 0, 5, 5]},
        {"image_id": 5, "category_id": 2, "bbox": [0, 0, 0, 5]},
        {"image_id": 5, "category_id": 2, "bbox": [50, 0, 50, 5]},
    ]
    with pytest.warns(UserWarning, match="not everything was taken") as shown:
        read = read_coco_annotations(content, root=folder, ranks=ORDER)
    assert read.rows.tolist() == [0, 1, 2]
    [said] = [str(each.message) for each in shown]
    for line in (
        "rows without an image: 1, namely row 6, counted from 0 among the annotations",
        "rows without a rank: 1, namely a.png",
        "rows without a box: 2, namely a.png; a.png (1 of them of crowds)",
        "boxes that are none: 1, namely row 7",
        "boxes beyond them: 1, namely a.png, box (50, 0, 50, 5)",
    ):
        assert line in said


def test_boxes_of_an_image_that_was_resized_or_turned_since_are_left_out(folder, content):
    content["images"][1] |= {"width": 60, "height": 40}  # as the file lies, and not as it is shown
    with pytest.warns(UserWarning, match=r"of another size: 1, .*b\.jpg \(upright it has 40 x 60 pixels, and its ann"):
        assert read_coco_annotations(content, root=folder, ranks=ORDER).rows.tolist() == [1, 2]
    content["images"][0] |= {"width": 600, "height": 400}
    with pytest.raises(ValueError, match=r"(?s)lists no image with a rank.*of another size: 3"):
        read_coco_annotations(content, root=folder, ranks=ORDER)
    for image in content["images"]:
        del image["width"]  # which says nothing then
    assert len(read_coco_annotations(content, root=folder, ranks=ORDER).data) == 3


def test_a_box_of_two_ranks_is_an_error_that_names_the_annotations(folder, content):
    content["annotations"].append({**content["annotations"][1], "category_id": 1})
    with pytest.raises(
        ValueError, match=r"more than one rank .*\(rows 1 and 3, counted from 0 among the annotations\)"
    ):
        read_coco_annotations(content, root=folder, ranks=ORDER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON file"),
        ("[]", "must hold an object with images and annotations, got a list"),
        ('{"images": []}', r"has no images|must hold a list"),
        ('{"images": [{"id": 1}]}', r"must hold a list of objects 'annotations', as COCO has it; it has \['images'\]"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "images of the same id: 2 of them with 1 ids"),
        ('{"images": [{"id": 1}], "annotations": [{}]}', "must hold a list of objects 'categories'"),
    ],
)
def test_what_is_not_of_this_format_is_refused(folder, text, said):
    (folder / "other.json").write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        read_coco_annotations(folder / "other.json")
    assert "other.json" in str(raised.value)


def test_files_that_are_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r"no file .*COCO\.json; the folder has coco\.json"):
        read_coco_annotations(folder / "COCO.json")
    with pytest.raises(FileNotFoundError, match=r"None of the 3 files that .*Give the folder .* with root="):
        read_coco_annotations(folder / "coco.json", root=folder / "inner")
    with pytest.raises(TypeError, match="annotations must be a JSON file or what it holds, got int"):
        read_coco_annotations(3)
