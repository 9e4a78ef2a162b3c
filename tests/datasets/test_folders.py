"""A folder for each rank: which files are images, in which order the ranks are, and what is said of the rest."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_files
from sklearn.model_selection import KFold, check_cv

from skl2rclip.datasets import load_image_folder

pytestmark = pytest.mark.filterwarnings("error")


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "green").save(path)


@pytest.fixture
def fruit(tmp_path):
    for folder in ("ripe", "unripe", "overripe"):
        for i in range(3):
            draw(tmp_path / "fruit" / folder / f"{i}.png")
    return tmp_path / "fruit"


def test_the_same_files_and_folders_are_found_as_by_scikit_learn(fruit):
    found, expected = load_image_folder(fruit), load_files(fruit, load_content=False)
    of_ours = dict(zip(found.data.tolist(), (found.rank_names[k] for k in found.target), strict=True))
    of_theirs = dict(zip(expected.filenames, (expected.target_names[k] for k in expected.target), strict=True))
    assert of_ours == {str(path): name for path, name in of_theirs.items()}


def test_words_become_places_in_the_order_that_they_show(fruit):
    found = load_image_folder(fruit)
    assert found.rank_names == ["unripe", "ripe", "overripe"]
    assert found.ranks == [0, 1, 2]
    assert found.target.tolist() == [0, 1, 2] * 3
    assert [Path(path).parent.name for path in found.data] == ["unripe", "ripe", "overripe"] * 3
    assert [Path(path).name for path in found.data] == ["0.png"] * 3 + ["1.png"] * 3 + ["2.png"] * 3


def test_numbers_stay_and_sort_as_numbers(tmp_path):
    for folder in ("9", "10", "100"):
        draw(tmp_path / folder / "a.png")
    found = load_image_folder(tmp_path)
    assert (found.target.tolist(), found.ranks, found.rank_names) == ([9, 10, 100], [9, 10, 100], ["9", "10", "100"])
    assert found.target.dtype == np.int64
    draw(tmp_path / "9.5" / "a.png")
    assert load_image_folder(tmp_path).target.tolist() == [9, 9.5, 10, 100]


def test_names_with_decimal_commas_are_numbers(tmp_path):
    for folder in ("2,5", "10", "0,125"):
        draw(tmp_path / folder / "a.png")
    assert load_image_folder(tmp_path).target.tolist() == [0.125, 2.5, 10]
    assert load_image_folder(tmp_path, ranks=["0,125", "2,5", "10"]).target.tolist() == [0, 1, 2]


def test_given_ranks_are_the_order_and_may_have_no_images(fruit):
    found = load_image_folder(fruit, ranks=["seed", "overripe", "ripe", "unripe"])
    assert (found.rank_names, found.ranks) == (["seed", "overripe", "ripe", "unripe"], [0, 1, 2, 3])
    assert [Path(path).parent.name for path in found.data[found.target == 1]] == ["overripe"] * 3


def test_given_numbers_keep_a_rank_without_images(tmp_path):
    for folder in ("1", "3"):
        draw(tmp_path / folder / "a.png")
    found = load_image_folder(tmp_path, ranks=[1, 2, 3])
    assert (found.ranks, found.target.tolist()) == ([1, 2, 3], [1, 3])


def test_an_order_that_is_not_plain_is_asked_for(tmp_path):
    for folder in ("cat", "dog"):
        draw(tmp_path / folder / "a.png")
    with pytest.raises(ValueError, match=r"order is not known.*ranks=\['cat', 'dog'\] put into the right order"):
        load_image_folder(tmp_path)


def test_where_the_ranks_may_lie_deeper_the_error_says_so(tmp_path):
    for folder in ("train/ripe", "train/unripe", "val/ripe"):
        draw(tmp_path / folder / "a.png")
    with pytest.raises(ValueError, match=r"order is not known.* below them, such as 'ripe', .*root='.*train'"):
        load_image_folder(tmp_path)
    draw(tmp_path / "train" / "a.png")
    with pytest.raises(ValueError, match=r"put into the right order\.$"):
        load_image_folder(tmp_path)


def test_a_folder_too_high_is_warned_about(fruit):
    with pytest.warns(UserWarning, match="are of one rank, 'fruit'. root must be the folder whose own folders"):
        assert len(load_image_folder(fruit.parent).ranks) == 1


def test_folders_that_cannot_be_opened_are_counted(fruit, monkeypatch):
    closed, scandir = str(fruit / "ripe" / "closed"), os.scandir
    draw(fruit / "ripe" / "closed" / "b.png")

    def refuse(place):
        if str(place) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match="folders that could not be opened: 1, namely ripe.closed"):
        assert len(load_image_folder(fruit).data) == 9


def test_x_and_y_alone(fruit):
    X, y = load_image_folder(fruit, return_X_y=True)
    found = load_image_folder(fruit)
    np.testing.assert_array_equal(X, found.data)
    np.testing.assert_array_equal(y, found.target)


def test_what_is_no_image_is_left_out_and_counted_in_one_warning(fruit):
    (fruit / "ripe" / "notes.txt").write_text("not an image")
    (fruit / "ripe" / "empty.png").touch()
    (fruit / "loose.png").touch()
    (fruit / "rotten").mkdir()
    for name in (".DS_Store", "ripe/.hidden.png", "Thumbs.db"):
        (fruit / name).touch()
    with pytest.warns(UserWarning, match="not everything was taken") as caught:
        found = load_image_folder(fruit)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    said = str(caught[0].message)
    for part in ("2, namely empty.png (the file is empty); notes.txt", "1, namely loose.png", "1, namely rotten"):
        assert part in said
        assert part in found.DESCR
    assert "Thumbs" not in said
    assert len(found.data) == 9
    assert found.rank_names == ["unripe", "ripe", "overripe"]


def test_images_are_told_by_their_headers_at_any_depth(fruit):
    draw(fruit / "ripe" / "plot 3" / "b.png")
    os.rename(fruit / "ripe" / "plot 3" / "b.png", fruit / "ripe" / "plot 3" / "without suffix")
    found = load_image_folder(fruit)
    assert str(fruit / "ripe" / "plot 3" / "without suffix") in found.data[found.target == 1]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_that_leads_back_ends(fruit):
    os.symlink(fruit / "ripe", fruit / "ripe" / "again")
    assert len(load_image_folder(fruit).data) == 9


@pytest.mark.parametrize("n_folds", [3, 5, 10])
def test_folds_of_fractions_without_shuffling_have_all_ranks_to_learn_from(tmp_path, n_folds):
    for folder, n_images in {"1": 12, "1.5": 3, "2": 20, "2.5": 7, "3": 5}.items():
        for i in range(n_images):
            draw(tmp_path / folder / f"{i:02d}.png")
    X, y = load_image_folder(tmp_path, return_X_y=True)
    folds = check_cv(n_folds, y, classifier=True)
    assert isinstance(folds, KFold)  # which neither shuffles nor looks at the labels
    for train, test in folds.split(X, y):
        assert np.unique(y[train]).tolist() == [1, 1.5, 2, 2.5, 3]
        expected = len(test) * np.array([12, 3, 20, 7, 5]) / 47
        assert (np.abs([np.sum(y[test] == rank) for rank in (1, 1.5, 2, 2.5, 3)] - expected) < 2).all()
    assert [Path(path).name for path in X[y == 1]] == [f"{i:02d}.png" for i in range(12)]


OF_SYSTEMS = ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", "@Recycle", "__MACOSX"]


@pytest.mark.parametrize("name", [*OF_SYSTEMS, "$Recycle.Bin", ".Trash-1000"])
def test_copies_in_folders_of_systems_are_no_images(fruit, name):
    before = load_image_folder(fruit)
    for place in (fruit, fruit / "ripe", fruit / "ripe" / "plot 3"):
        draw(place / name / "0.png")
        draw(place / name / "1.png" / "thumbnail.png")
    after = load_image_folder(fruit)
    assert (after.data.tolist(), after.rank_names) == (before.data.tolist(), before.rank_names)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="such names are the same folder there")
def test_accents_may_stand_apart_in_names_of_folders(tmp_path):
    for folder in ("faible", "se\u0301ve\u0300re"):
        draw(tmp_path / folder / "a.png")
    found = load_image_folder(tmp_path, ranks=["faible", "s\u00e9v\u00e8re"])
    assert (found.target.tolist(), found.rank_names) == ([0, 1], ["faible", "s\u00e9v\u00e8re"])


@pytest.mark.parametrize("root", [None, 3, b"fruit"])
def test_what_is_no_path_is_refused_by_name(root):
    with pytest.raises(TypeError, match="root must be the path of a folder, got"):
        load_image_folder(root)


def test_where_there_is_nothing_to_read_the_error_names_it(fruit, tmp_path):
    with pytest.raises(FileNotFoundError, match="root must be a folder, and there is none at"):
        load_image_folder(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="root must be a folder, got an address, 's3://bucket'"):
        load_image_folder("s3://bucket")
    with pytest.raises(NotADirectoryError, match="root must be a folder, got a file"):
        load_image_folder(fruit / "ripe" / "0.png")
    with pytest.raises(ValueError, match="a folder of images for each rank is expected"):
        load_image_folder(fruit / "ripe")
    (tmp_path / "texts" / "low").mkdir(parents=True)
    with pytest.raises(ValueError, match="No file in the 1 folders"):
        load_image_folder(tmp_path / "texts")


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        (["unripe", "ripe"], r"not in ranks=\[...\]: \['overripe'\]"),
        ([1, 2, 3], "ranks holds numbers, and .* has ranks that are none"),
        ("ripe", "ranks must be a list"),
        (["ripe", "ripe"], "must not repeat"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(fruit, ranks, said):
    with pytest.raises(ValueError, match=said):
        load_image_folder(fruit, ranks=ranks)


def test_a_classifier_takes_what_is_read(fruit, make_classifier):
    found = load_image_folder(fruit, ranks=["unripe", "ripe", "overripe", "rotten"])
    model = make_classifier(ranks=found.ranks, rank_names=found.rank_names).fit(found.data, found.target)
    assert model.rank_names_ == {0: "unripe", 1: "ripe", 2: "overripe", 3: "rotten"}
    assert set(model.predict(found.data)) <= set(found.ranks)


def test_the_description_shows_which_number_is_which_word_and_how_predictions_become_words(fruit, tmp_path):
    words = load_image_folder(fruit)
    counts = [
        line.split() for line in words.DESCR.splitlines() if line.split()[1:2] and line.split()[1] in words.rank_names
    ]
    assert counts == [[str(k), name, "3"] for k, name in enumerate(words.rank_names)]
    line = words.DESCR.splitlines()[-1].strip()
    clf = SimpleNamespace(rank_names_=dict(enumerate(words.rank_names)), predict=lambda X: words.target[:2])
    said = {"clf": clf, "X": words.data[:2]}
    exec(f"predicted = {line}", said)
    assert said["predicted"] == [words.rank_names[k] for k in words.target[:2]]
    for name, number in (("unripe", "1"), ("ripe", "2.5"), ("overripe", "3")):
        os.rename(fruit / name, fruit / number)
    numbers = load_image_folder(fruit)
    assert "rank_names_" not in numbers.DESCR
    assert [line.split() for line in numbers.DESCR.splitlines() if line.startswith("    ")] == [
        ["1", "3"],
        ["2.5", "3"],
        ["3", "3"],
    ]
