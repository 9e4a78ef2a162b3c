"""What is not faces, on stand-ins in the published layouts, and on two real sets too.

The environment variable SKL2RCLIP_DATA names a folder that holds ``lara2018`` and ``BCCD_Dataset`` as published.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skl2rclip.datasets import (
    load_bccd,
    load_hci,
    load_image_aesthetics,
    load_lara2018,
)
from tests.support import stand_ins

DATA = os.environ.get("SKL2RCLIP_DATA")

real = pytest.mark.skipif(not DATA, reason="needs the two real sets: SKL2RCLIP_DATA")

pytestmark = pytest.mark.filterwarnings("error")


def test_lists_may_lie_in_another_folder(tmp_path):
    stand_ins.hci(tmp_path / "here")
    (tmp_path / "lists").mkdir()
    for path in (tmp_path / "here").glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    assert len(load_hci(tmp_path / "here", lists=tmp_path / "lists").data) == 265


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


def test_red_cells_are_counted(tmp_path):
    stand_ins.bccd(tmp_path)
    read = load_bccd(tmp_path)
    number = np.array([int(Path(path).stem[-5:]) for path in read.data])
    np.testing.assert_array_equal(read.count, 3 * (number % 6) + 4)
    np.testing.assert_array_equal(read.target, np.digitize(read.count, [6, 9, 12, 15, 18]))


@real
def test_coffee_leaves_are_those_of_the_table():
    read = load_lara2018(Path(DATA) / "lara2018")
    assert np.bincount(read.target).tolist() == [272, 924, 332, 101, 56]


@real
def test_blood_cells_are_in_the_parts_of_the_owner():
    read = load_bccd(Path(DATA) / "BCCD_Dataset")
    ((train, test),) = read.cv.split()
    assert (len(train), len(test)) == (292, 72)
