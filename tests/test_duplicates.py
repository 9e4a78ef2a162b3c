import io
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from skl2rclip import ImageCrop, _duplicates, find_duplicates, group_duplicates
from skl2rclip._images.likeness import appearance_of, differing_bits
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

COLUMNS = ["set", "index", "distance", "kind"]


def content(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def scenes():
    """Images without anything in common: patches of colour."""
    patches = np.random.default_rng(0).integers(0, 220, (6, 9, 12, 3), np.uint8)
    return [Image.fromarray(each).resize((192, 144), Image.Resampling.BICUBIC) for each in patches]


def indices_of_sets(frame):
    return [members["index"].tolist() for _, members in frame.groupby("set")]


def test_without_copies_there_are_the_columns_and_no_row(scenes):
    frame = find_duplicates(scenes)
    assert (list(frame.columns), len(frame)) == (COLUMNS, 0)
    frame = find_duplicates(scenes[:1], y=["a"], groups=[0])
    assert (list(frame.columns), len(frame)) == ([*COLUMNS, "contradicts", "crosses_groups"], 0)
    assert frame["contradicts"].dtype == bool


def test_the_same_pixels_are_exact_whatever_the_name_the_container_or_exif(scenes, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = scenes[0].transpose(Image.Transpose.ROTATE_90)
    (tmp_path / "a.png").write_bytes(content(scenes[0], "PNG"))
    (tmp_path / "b.jpg").write_bytes(content(scenes[0], "BMP"))
    (tmp_path / "c.png").write_bytes(content(turned, "PNG", exif=exif))
    same = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png", np.asarray(scenes[0]), tmp_path / "a.png"]
    frame = find_duplicates([scenes[1], *same, scenes[2]])
    assert indices_of_sets(frame) == [[1, 2, 3, 4, 5]]
    assert set(frame["kind"]) == {"exact"}
    assert set(frame["distance"]) == {0.0}


def test_near_copies_are_found_in_one_set_each(scenes):
    a, b, c, d, e, f = scenes
    changed = [
        content(a, quality=50),
        b.resize((100, 75)),
        c.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        d.crop((9, 0, 186, 140)),
        e.point(lambda value: value * 1.1),
        f.point(lambda value: value * 0.9),
    ]
    frame = find_duplicates([*scenes, *changed])
    assert indices_of_sets(frame) == [[row, row + 6] for row in range(6)]
    assert set(frame["kind"]) == {"near"}
    assert frame["distance"].between(0, 0.1).all()


def test_copies_without_contrast_are_found_and_others_that_are_as_smooth_are_not(scenes):
    smooth = [scene.filter(ImageFilter.GaussianBlur(12)).point(lambda value: 100 + value // 3) for scene in scenes]
    images = [*smooth, *[content(scene, quality=70) for scene in smooth]]
    seen = [appearance_of(Image.open(io.BytesIO(content(scene, "PNG")))) for scene in smooth]
    again = [appearance_of(Image.open(io.BytesIO(image)).convert("RGB")) for image in images[6:]]
    bits = [differing_bits(a["hashes"][None], b["hashes"][None])[0] for a, b in zip(seen, again, strict=True)]
    assert max(bits) > 0.1  # noise decides many
    assert indices_of_sets(find_duplicates(images)) == [[row, row + 6] for row in range(6)]


def test_what_the_tower_takes_for_the_same_is_told_apart_by_its_pixels(scenes, monkeypatch):
    alike = lambda images, plain: np.full((len(images), 2, 4), 0.5, np.float32)  # noqa: E731
    monkeypatch.setattr(_duplicates, "_embeddings", alike)
    assert indices_of_sets(find_duplicates([*scenes, content(scenes[3])])) == [[3, 6]]


def test_structure_without_the_colours_is_no_copy(scenes):
    red, green, blue = scenes[0].split()
    flat = [np.full((50, 50, 3), shade, np.uint8) for shade in (0, 120, 250)]
    assert find_duplicates([scenes[0], Image.merge("RGB", (blue, red, green)), *flat]).empty


def test_more_exact_copies_than_neighbours_are_one_set(scenes):
    frame = find_duplicates([*scenes, *[np.asarray(scenes[0])] * 30, content(scenes[0])])
    assert indices_of_sets(frame) == [[0, *range(6, 37)]]
    assert frame["kind"].tolist() == ["exact"] * 31 + ["near"]


def test_contradicting_labels_and_crossed_groups_are_said_of_whole_sets(scenes):
    images = [scenes[0], scenes[1], content(scenes[0], quality=80), scenes[0].copy(), content(scenes[1])]
    frame = find_duplicates(images, y=["mild", "bad", "mild", "bad", "bad"], groups=[1, 2, 1, 1, 3])
    assert frame["set"].tolist() == [0, 0, 0, 1, 1]
    assert frame["index"].tolist() == [0, 2, 3, 1, 4]
    assert frame["contradicts"].tolist() == [True] * 3 + [False] * 2
    assert frame["crosses_groups"].tolist() == [False] * 3 + [True] * 2


def test_threshold_bounds_the_distance_of_near_copies_alone(scenes):
    images = [*scenes, content(scenes[0], quality=20), scenes[1].copy(), scenes[2].crop((9, 0, 186, 140))]
    assert indices_of_sets(find_duplicates(images, threshold=0.0))[-1] == [1, 7]
    assert indices_of_sets(find_duplicates(images)) == [[0, 6], [1, 7], [2, 8]]


def test_parts_of_one_file_are_images_of_their_own(scenes, tmp_path):
    scenes[0].save(tmp_path / "a.png")
    left, right = (ImageCrop(tmp_path / "a.png", (x, 0, 90, 144)) for x in (0, 100))
    assert indices_of_sets(find_duplicates([left, right, left])) == [[0, 2]]


def test_the_cache_is_that_of_the_encoder(scenes, tmp_path, monkeypatch):
    first = find_duplicates([*scenes, content(scenes[0])], embedding_cache=tmp_path)
    monkeypatch.setattr("skl2rclip._embedding.encoding.ImageEncoding.of_pixels", None)
    assert find_duplicates([*scenes, content(scenes[0])], embedding_cache=tmp_path).equals(first)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"threshold": 0.6}, "threshold must be in"),
        ({"threshold": "low"}, "threshold must be in"),
        ({"device": ["cpu"]}, "device must be a string"),
        ({"y": [1, 2]}, "y has the shape"),
        ({"groups": ["a", None, *"bcde"]}, "groups has a missing value at index 1"),
        ({"n_jobs": 0}, "n_jobs must be"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_embedded(scenes, more, said, monkeypatch):
    monkeypatch.setattr(_duplicates, "_embeddings", None)
    with pytest.raises(ValueError, match=said) as raised:
        find_duplicates(scenes, **more)
    assert isinstance(raised.value, InvalidParameterError) == (not more.keys() & {"y", "groups"})


def test_images_that_cannot_be_read_are_named(scenes, tmp_path):
    with pytest.raises(UnreadableImagesError, match=r"X\[1\].*no such file"):
        find_duplicates([scenes[0], tmp_path / "absent.png"])


@pytest.mark.parametrize("package", ["imagehash", "pandas"])
def test_what_is_not_installed_is_named_with_its_extra(scenes, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"skl2rclip\[duplicates\]"):
        find_duplicates(scenes)


# --------------------------------------------------------------------- groups


def sets_of(*sets):
    rows = [(number, row) for number, members in enumerate(sets) for row in members]
    return pd.DataFrame(rows, columns=["set", "index"])


def test_images_without_a_copy_are_groups_of_their_own():
    assert group_duplicates(sets_of([1, 4], [0, 3, 5]), 7).tolist() == [0, 1, 2, 0, 1, 0, 3]
    assert group_duplicates(sets_of(), 3).tolist() == [0, 1, 2]


def test_groups_that_copies_join_become_one_by_chains_too():
    patients = ["a", "a", "b", "b", "c", "c", "d"]
    assert group_duplicates(sets_of([1, 2]), 7, patients).tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert group_duplicates(sets_of([0, 2], [3, 5]), 7, patients).tolist() == [0] * 6 + [1]
    assert group_duplicates(sets_of(), 7, patients).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_groups_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        patients = rng.integers(0, 9, 20)
        sets = [rng.choice(20, 2, replace=False) for _ in range(4)]
        expected = patients.copy()
        for one, other in sets * 4:
            expected[expected == expected[one]] = expected[other]
        found = group_duplicates(sets_of(*sets), 20, patients)
        np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_rows_that_nobody_believes_can_be_left_out_of_the_frame():
    copies = sets_of([0, 1], [2, 3])
    assert group_duplicates(copies[copies["set"] == 1], 5).tolist() == [0, 1, 2, 2, 3]


def test_no_copy_is_on_both_sides_of_a_split(scenes):
    from sklearn.model_selection import GroupKFold

    images = [*scenes, *[content(scene, quality=70) for scene in scenes[:3]]]
    groups = group_duplicates(find_duplicates(images), len(images))
    assert groups.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    for train, test in GroupKFold(3).split(images, groups=groups):
        assert not set(train % 6) & set(test % 6)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([0, 0, 1], 3), TypeError, "copies must be a frame .* no column 'index'; got list"),
        ((sets_of([0, 1]).drop(columns="set"), 3), TypeError, "no column 'set'"),
        ((sets_of([0, 5]), 5), ValueError, "indices from 0 to 5, and n_images is 5"),
        ((sets_of([0, -1]), 5), ValueError, "indices from -1 to 0"),
        ((sets_of([0, 1]).astype({"index": float}), 5), ValueError, "a column 'index' of float64, and those of"),
        ((sets_of([0, 1]), 3, ["a", "b"]), ValueError, "groups has the shape"),
        ((sets_of([0, 1]), 3, ["a", None, "b"]), ValueError, "groups has a missing value at index 1"),
        ((sets_of([0, 1]), 0), InvalidParameterError, "n_images must be an integer of at least 1"),
    ],
)
def test_what_makes_no_groups_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        group_duplicates(*arguments)
