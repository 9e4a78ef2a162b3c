"""Facial age: splits and labels are those of the published lists, on stand-ins in their layouts."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skl2rclip.datasets import (
    load_adience,
    load_clap2015,
    load_morph2,
    load_utkface,
)
from tests.support import stand_ins

pytestmark = pytest.mark.filterwarnings("error")


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


def test_clap2015_trains_on_training_and_validation_images(tmp_path):
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


def test_utkface_without_lists_takes_ages_from_names(tmp_path):
    stand_ins.utkface(tmp_path, lists=False)
    read = load_utkface(tmp_path)
    assert read.target.tolist() == [int(Path(path).name.partition("_")[0]) for path in read.data]
    assert "not official" in read.DESCR
    stand_ins.utkface(tmp_path)
    ((train, test),) = load_utkface(tmp_path).cv.split()
    assert (len(train), len(test)) == (30, 10)


def test_folds_are_not_taken_for_those_of_another_set(tmp_path):
    stand_ins.morph2(tmp_path)
    with pytest.raises(ValueError, match="X has 10 images, and these splits are of a set of at least 60"):
        list(load_morph2(tmp_path).cv.split(np.zeros(10)))
