"""Readers of the field's benchmarks, on stand-ins in exactly the published layouts, and on two real sets too.

The environment variable SKL2RCLIP_DATA names a folder that holds ``lara2018`` and ``BCCD_Dataset`` as published.
"""

import os
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from skl2rclip import datasets
from skl2rclip.datasets import (
    load_adience,
    load_bccd,
    load_clap2015,
    load_hci,
    load_image_aesthetics,
    load_lara2018,
    load_morph2,
    load_utkface,
)
from skl2rclip.datasets._registry import READERS as registry  # noqa: N811
from tests.support import stand_ins

READERS = {each.name.removeprefix("load_"): getattr(datasets, each.name) for each in registry if each.benchmark}
DATA = os.environ.get("SKL2RCLIP_DATA")
real = pytest.mark.skipif(not DATA, reason="needs the two real sets: SKL2RCLIP_DATA")


@pytest.fixture(autouse=True)
def _silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=READERS)
def stand_in(request, tmp_path):
    getattr(stand_ins, request.param)(tmp_path)
    return READERS[request.param], tmp_path


def test_readers_agree_on_what_they_return(stand_in):
    load, root = stand_in
    read = load(root)
    assert all(Path(path).is_file() for path in read.data)
    assert len(read.data) == len(set(read.data)) == len(read.target)
    assert set(read.target.tolist()) <= set(read.ranks)
    assert len(read.rank_names) == len(read.ranks)
    assert isinstance(read.prompt, str)
    for part in ("Source: ", "Protocol: ", "Licence: ", "Citation: ", f"{len(read.data)} pictures"):
        assert part in read.DESCR
    splits = list(read.cv.split(read.data, read.target))
    assert len(splits) == read.cv.get_n_splits(read.data, read.target)
    for train, test in splits:
        assert len(train)
        assert len(test)
        assert not set(train) & set(test)
    X, y = load(root, return_X_y=True)
    np.testing.assert_array_equal(X, read.data)
    np.testing.assert_array_equal(y, read.target)


def test_scikit_learn_takes_the_official_folds(stand_in):
    load, root = stand_in
    read = load(root)
    X = np.zeros((len(read.data), 1))
    scores = cross_val_score(DummyClassifier(), X, read.target, cv=read.cv, error_score="raise")
    assert len(scores) == read.cv.get_n_splits(X, read.target)


def test_an_empty_folder_gets_told_where_the_set_is_to_be_had(stand_in, tmp_path_factory):
    load, _ = stand_in
    with pytest.raises(FileNotFoundError, match="is to be had from") as caught:
        load(tmp_path_factory.mktemp("empty"))
    assert "Expected below the folder:" in str(caught.value)
    assert "Nothing is downloaded here." in str(caught.value)


def test_without_pictures_the_layout_is_shown(stand_in):
    load, root = stand_in
    for path in load(root).data:
        os.remove(path)
    with pytest.raises(FileNotFoundError, match="Expected below the folder"):
        load(root)


def test_a_picture_that_is_not_there_is_left_out_with_one_warning(tmp_path):
    stand_ins.adience(tmp_path)
    whole = load_adience(tmp_path)
    os.remove(whole.data[20])
    with pytest.warns(UserWarning, match=r"Of Adience not everything.*\n.*that are not there: 1, namely") as caught:
        read = load_adience(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(read.data, np.delete(whole.data, 20))
    assert [len(test) for _, test in read.cv.split()] == [16, 15, 16, 16, 16]


def test_lists_may_lie_in_another_folder(tmp_path):
    stand_ins.hci(tmp_path / "here")
    (tmp_path / "lists").mkdir()
    for path in (tmp_path / "here").glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    assert len(load_hci(tmp_path / "here", lists=tmp_path / "lists").data) == 265


def test_a_picture_that_is_there_twice_is_refused(tmp_path):
    stand_ins.utkface(tmp_path)
    path = next((tmp_path / "UTKFace").iterdir())
    stand_ins.write(tmp_path / "crop_part1" / path.name, ["another"])
    with pytest.raises(ValueError, match=r"There are two files .* Give the folder that holds only one"):
        load_utkface(tmp_path)


def test_lines_that_do_not_fit_are_named(tmp_path):
    stand_ins.adience(tmp_path)
    path = tmp_path / "adience" / "simplified_adience_3.txt"
    text = path.read_text()
    path.write_text(text + "one-word\n")
    with pytest.raises(ValueError, match=r"Line 17 of .*_3.txt should hold 'path group', got 'one-word'"):
        load_adience(tmp_path)
    path.write_text(re.sub(" 0$", " young", text, count=1, flags=re.MULTILINE))
    with pytest.raises(ValueError, match="should hold a number where it has 'young'"):
        load_adience(tmp_path)
    path.write_text(re.sub(" 0$", " 9", text, count=1, flags=re.MULTILINE))
    with pytest.raises(ValueError, match=r"The lists of Adience hold \[9.0\], and its ranks are \[0, 1, 2"):
        load_adience(tmp_path)


# ------------------------------------------------------------------ protocols


def test_setting_a_has_five_trials_of_its_lists(tmp_path):
    stand_ins.morph2(tmp_path)
    read = load_morph2(tmp_path)
    for trial, (train, test) in enumerate(read.cv.split(read.data)):
        for side, rows in (("train", train), ("test", test)):
            lines = (tmp_path / "RS_partial" / f"Setting_1_fold{trial}_{side}.txt").read_text().splitlines()[1:]
            cells = [re.split("[ ,]", line) for line in lines]
            assert [Path(path).name for path in read.data[rows]] == [each[3] for each in cells]
            assert read.target[rows].tolist() == [int(each[2]) for each in cells]
    assert read.groups[0] == Path(read.data[0]).name.partition("_")[0]
    assert read.ranks == list(range(min(read.target), max(read.target) + 1))


def test_setting_b_trains_on_one_part_and_tests_on_the_others(tmp_path):
    stand_ins.morph2(tmp_path, "B")
    read = load_morph2(tmp_path, "B")
    splits = list(read.cv.split())
    assert [(len(train), len(test)) for train, test in splits] == [(20, 40)] * 3
    assert sorted(np.concatenate([train for train, _ in splits])) == list(range(60))


@pytest.mark.parametrize("setting", ["C", "D"])
def test_settings_c_and_d_have_five_folds(tmp_path, setting):
    stand_ins.morph2(tmp_path, setting)
    read = load_morph2(tmp_path, setting)
    tests = [test for _, test in read.cv.split()]
    assert sorted(np.concatenate(tests)) == list(range(60))
    for train, test in read.cv.split():
        assert sorted([*train, *test]) == list(range(60))
        assert not set(read.groups[train]) & set(read.groups[test])


def test_clap2015_trains_on_training_and_validation_pictures(tmp_path):
    stand_ins.clap2015(tmp_path)
    read = load_clap2015(tmp_path)
    ((train, test),) = read.cv.split()
    assert Counter(read.part[train]) == {"train": 20, "val": 10}
    assert Counter(read.part[test]) == {"test": 10}
    np.testing.assert_allclose(read.stdv, 3 + np.arange(40) / 10)


def test_adience_has_its_folds_and_users(tmp_path):
    stand_ins.adience(tmp_path)
    read = load_adience(tmp_path)
    assert read.rank_names == ["0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-100"]
    for fold, (train, test) in enumerate(read.cv.split()):
        assert set(read.groups[test]) == {f"{fold}0000@N02", f"{fold}0001@N02"}
        assert not set(read.groups[train]) & set(read.groups[test])


def test_hci_draws_210_and_50_of_the_265_of_each_decade(tmp_path):
    stand_ins.hci(tmp_path)  # a fifth of it: 42 and 10 of 53
    read = load_hci(tmp_path)
    splits = list(read.cv.split(read.data, read.target))
    assert len(splits) == 10
    for train, test in splits:
        assert np.bincount(read.target[train]).tolist() == [42] * 5
        assert np.bincount(read.target[test]).tolist() == [10] * 5
    again = load_hci(tmp_path).cv.split(read.data, read.target)
    assert [test.tolist() for _, test in again] == [test.tolist() for _, test in splits]


def test_aesthetics_by_category_and_overall(tmp_path):
    stand_ins.image_aesthetics(tmp_path)
    read = load_image_aesthetics(tmp_path)
    ((train, test),) = read.cv.split()
    assert (len(train), len(test)) == (80, 40)
    assert Counter(read.category[test]) == dict.fromkeys(("animals", "nature", "people", "urban"), 10)
    assert read.ranks == [1, 2, 3, 4, 5]
    one = load_image_aesthetics(tmp_path, "people")
    np.testing.assert_array_equal(one.data, read.data[read.category == "people"])


def test_utkface_without_lists_takes_ages_from_names(tmp_path):
    stand_ins.utkface(tmp_path, lists=False)
    read = load_utkface(tmp_path)
    assert read.target.tolist() == [int(Path(path).name.partition("_")[0]) for path in read.data]
    assert "not official" in read.DESCR
    stand_ins.utkface(tmp_path)
    ((train, test),) = load_utkface(tmp_path).cv.split()
    assert (len(train), len(test)) == (30, 10)


def test_red_cells_are_counted(tmp_path):
    stand_ins.bccd(tmp_path)
    read = load_bccd(tmp_path)
    number = np.array([int(Path(path).stem[-5:]) for path in read.data])
    np.testing.assert_array_equal(read.count, 3 * (number % 6) + 4)
    np.testing.assert_array_equal(read.target, np.digitize(read.count, [6, 9, 12, 15, 18]))


@pytest.mark.parametrize(
    ("load", "arguments", "said"),
    [(load_morph2, ("E",), "setting must be one of"), (load_image_aesthetics, ("cats",), "category must be one of")],
)
def test_settings_that_do_not_exist_are_refused(tmp_path, load, arguments, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path, *arguments)


def test_folds_are_not_taken_for_those_of_another_set(tmp_path):
    stand_ins.morph2(tmp_path)
    with pytest.raises(ValueError, match="X has 10 pictures, and these splits are of a set of at least 60"):
        list(load_morph2(tmp_path).cv.split(np.zeros(10)))


# ------------------------------------------------------------------- real sets


@real
def test_coffee_leaves_are_those_of_the_table():
    read = load_lara2018(Path(DATA) / "lara2018")
    assert np.bincount(read.target).tolist() == [272, 924, 332, 101, 56]


@real
def test_blood_cells_are_in_the_parts_of_the_owner():
    read = load_bccd(Path(DATA) / "BCCD_Dataset")
    ((train, test),) = read.cv.split()
    assert (len(train), len(test)) == (292, 72)
