"""What all readers of benchmarks do, on stand-ins in exactly the published layouts."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from skl2rclip import datasets
from skl2rclip.datasets import (
    load_adience,
    load_image_aesthetics,
    load_morph2,
    load_utkface,
)
from skl2rclip.datasets._registry import READERS as registry  # noqa: N811
from tests.support import stand_ins

READERS = {each.name.removeprefix("load_"): getattr(datasets, each.name) for each in registry if each.benchmark}

pytestmark = pytest.mark.filterwarnings("error")


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
    for part in ("Source: ", "Protocol: ", "Licence: ", "Citation: ", f"{len(read.data)} images"):
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


def test_copies_in_folders_of_systems_do_not_count(stand_in):
    load, root = stand_in
    before = load(root).data.tolist()
    for path in before[:3]:
        copy = Path(path).parent / "@eaDir" / Path(path).parent.name / Path(path).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(path).read_bytes())
    assert load(root).data.tolist() == before


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


def test_without_images_the_layout_is_shown(stand_in):
    load, root = stand_in
    for path in load(root).data:
        os.remove(path)
    with pytest.raises(FileNotFoundError, match="Expected below the folder"):
        load(root)


def test_an_image_that_is_not_there_is_left_out_with_one_warning(tmp_path):
    stand_ins.adience(tmp_path)
    whole = load_adience(tmp_path)
    os.remove(whole.data[20])
    with pytest.warns(UserWarning, match=r"Of Adience not everything.*\n.*that are not there: 1, namely") as caught:
        read = load_adience(tmp_path)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(read.data, np.delete(whole.data, 20))
    assert [len(test) for _, test in read.cv.split()] == [16, 15, 16, 16, 16]


def test_an_image_that_is_there_twice_is_refused(tmp_path):
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


@pytest.mark.parametrize(
    ("load", "arguments", "said"),
    [(load_morph2, ("E",), "setting must be one of"), (load_image_aesthetics, ("cats",), "category must be one of")],
)
def test_settings_that_do_not_exist_are_refused(tmp_path, load, arguments, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path, *arguments)
