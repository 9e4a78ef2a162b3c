"""Tables with a column for each rater, and with cases."""

import numpy as np
import pandas as pd
import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip.datasets import combine_ratings, read_image_table
from tests.datasets.test_image_tables import with_images, written

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folder(tmp_path):
    return with_images(tmp_path)


RATED = "path,ann,bob,eva\na.png,1,2,\nb.png,2,3,3\ninner/c.png,,4,5\nd.png,4,,4\n"
RATERS = ["ann", "bob", "eva"]


def test_ratings_in_columns_are_combined(folder):
    read = read_image_table(written(folder, RATED), rank=RATERS, ranks=range(6))
    table = [[1, 2, None], [2, 3, 3], [None, 4, 5], [4, None, 4]]
    expected = combine_ratings(table, ranks=range(6))
    assert (read.ranks, read.rank_names) == (list(range(6)), list("012345"))
    for name in ("target", "label_std", "bias"):
        np.testing.assert_array_equal(read[name], expected[name])
    assert read.rows.tolist() == [0, 1, 2, 3]
    X, y = read_image_table(written(folder, RATED), rank=tuple(RATERS), ranks=range(6), return_X_y=True)
    np.testing.assert_array_equal(y, expected.target)
    assert len(X) == 4


WORDS = "path,ann,bob\na.png,poor,fair\nb.png,fair,\ninner/c.png,good,good\nd.png,fair,good\n"


def test_words_are_combined_along_their_order(folder):
    read = read_image_table(written(folder, WORDS), rank=["ann", "bob"])
    assert read.rank_names == ["poor", "fair", "good"]
    expected = combine_ratings([[0, 1], [1, None], [2, 2], [1, 2]], ranks=range(3))
    np.testing.assert_array_equal(read.target, expected.target)
    np.testing.assert_allclose(read.label_std, expected.label_std)
    turned = read_image_table(written(folder, WORDS), rank=["ann", "bob"], ranks=["good", "fair", "poor"])
    np.testing.assert_allclose(turned.label_std, read.label_std)
    np.testing.assert_allclose(turned.bias, -read.bias)


def test_what_readers_make_of_ratings_is_what_a_fit_takes(folder, tiny):
    read = read_image_table(written(folder, WORDS), rank=["ann", "bob"])
    clf = L2RCLIPClassifier(tiny, ranks=read.ranks, rank_names=read.rank_names, prompt_epochs=0, device="cpu")
    clf.fit(read.data, read.target, label_std=read.label_std)
    assert clf.ranks_.tolist() == [0, 1, 2]


def test_the_order_of_categories_is_that_of_all_raters(folder):
    frame = pd.read_csv(written(folder, WORDS)).assign(path=lambda table: [str(folder / each) for each in table.path])
    order = ["good", "fair", "poor"]
    frame["ann"] = pd.Categorical(frame["ann"], order, ordered=True)
    frame["bob"] = pd.Categorical(frame["bob"], order[:2], ordered=True)
    assert read_image_table(frame, rank=["ann", "bob"]).rank_names == order
    frame["bob"] = pd.Categorical(frame["bob"], ["fair", "good"], ordered=True)
    with pytest.raises(ValueError, match=r"'bob' in the order \['fair', 'good'\], and 'ann' in the order \['good'"):
        read_image_table(frame, rank=["ann", "bob"])


def test_one_column_in_a_list_is_that_column(folder):
    read = read_image_table(written(folder, RATED.replace("4,,4", "4,3,4")), rank=["bob"])
    assert read.target.tolist() == [2, 3, 4, 3]
    assert "label_std" not in read


def test_rows_without_any_rating_are_left_out_and_named(folder):
    table = written(folder, RATED.replace("b.png,2,3,3", "b.png,,NA, "))
    with pytest.warns(UserWarning, match=r"rows without a rank: 1, namely b\.png"):
        read = read_image_table(table, rank=RATERS)
    assert read.rows.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("rank", "match"),
    [
        (["ann", "joe"], r"no column 'joe'; .* Name the right one with rank\[1\]=\.\.\."),
        ([], r"rank must be the name of a column, or a list of them, .* got \[\]"),
        ({"ann", "bob"}, r"rank must be the name of a column, or a list of them"),
        (["ann", None], r"rank must be the name of a column, or a list of them, .* got \['ann', None\]"),
        (["ann", "bob", "ann"], r"rank names \['ann'\] more than once"),
    ],
)
def test_columns_that_cannot_be_are_named(folder, rank, match):
    with pytest.raises(ValueError, match=match):
        read_image_table(written(folder, RATED), rank=rank)


def test_ratings_that_are_too_few_are_refused(folder):
    table = written(folder, "path,ann,bob\na.png,1,\nb.png,,2\n")
    with pytest.raises(ValueError, match=r"table\.csv has 2 ratings of 2 images by 2 raters, too few to be combined"):
        read_image_table(table, rank=["ann", "bob"])


def test_repeated_rows_of_several_raters(folder):
    twice = written(folder, RATED + "a.png,1,2,\n")
    with pytest.warns(UserWarning, match=r"rows that repeat another: 1"):
        assert len(read_image_table(twice, rank=RATERS).data) == 4
    other = written(folder, RATED + "a.png,1,3,\n")
    with pytest.raises(ValueError, match=r"more than one rank to 1 of its images.* \(rows 0 and 4, .*\)\.$"):
        read_image_table(other, rank=RATERS)
    with pytest.raises(ValueError, match="repeated='median' takes the middle of ratings in several rows"):
        read_image_table(other, rank=RATERS, repeated="median")


def test_cases_come_along(folder):
    text = "path,rank,tree,fruit\na.png,1,x,1\nb.png,1,x,1\ninner/c.png,2,x,\nd.png,3,y,3\n"
    with pytest.warns(UserWarning, match=r"rows without a case: 1, namely inner/c\.png"):
        read = read_image_table(written(folder, text), group="tree", case="fruit")
    assert (read.cases.tolist(), read.groups.tolist()) == (["1", "1", "3"], ["x", "x", "y"])
    with pytest.raises(ValueError, match=r"gives more than one case to 1 of its images.* '1' and '2'"):
        read_image_table(written(folder, text.replace("c.png,2,x,", "c.png,2,x,4") + "a.png,1,x,2\n"), case="fruit")
