"""What columns of other libraries know of their labels: the order of words, the names behind codes, which column."""

import enum

import numpy as np
import pandas as pd
import pytest

from skl2rclip._ordinal.columns import categories_in_order
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.ranks import rank_scale
from skl2rclip.metrics import mean_absolute_rank_error

pytestmark = pytest.mark.filterwarnings("error")

ORDER = ["low", "high"]  # against the alphabet
WORDS = ["high", "low", "high"]


def categorical():
    return pd.Series(pd.Categorical(WORDS, ORDER, ordered=True))


def arrow(values=WORDS, order=ORDER, ordered=True):
    pyarrow = pytest.importorskip("pyarrow")
    codes = pyarrow.array([order.index(value) for value in values])
    return pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(order), ordered=ordered)


def arrow_table():
    return pytest.importorskip("pyarrow").table({"y": arrow()})


def polars_enum():
    polars = pytest.importorskip("polars")
    return polars.Series("y", WORDS, dtype=polars.Enum(ORDER))


def of_pandas_in_arrow():
    return arrow_table().to_pandas(types_mapper=pd.ArrowDtype)["y"]


CARRIERS = {
    "pandas": categorical,
    "index of pandas": lambda: pd.CategoricalIndex(categorical()),
    "frame of pandas": lambda: categorical().to_frame(),
    "pandas in Arrow": of_pandas_in_arrow,
    "pandas in Arrow of chunks": lambda: pd.concat([of_pandas_in_arrow()[:1], of_pandas_in_arrow()[1:]]),
    "array of Arrow": arrow,
    "column of Arrow": lambda: arrow_table()["y"],
    "table of Arrow": arrow_table,
    "polars": polars_enum,
    "frame of polars": lambda: polars_enum().to_frame(),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_order_that_the_type_carries_is_that_of_the_ranks(carrier):
    y = CARRIERS[carrier]()
    scale, target = rank_scale(y)
    assert (scale.ranks.tolist(), target.tolist()) == (ORDER, [1, 0, 1])
    assert mean_absolute_rank_error(y, ["low", "low", "high"]) == pytest.approx(1 / 3)


def test_numbers_keep_the_order_of_their_categories():
    scale, target = rank_scale(pd.Series(pd.Categorical([1, 2, 3], [3, 2, 1], ordered=True)))
    assert (scale.ranks.tolist(), target.tolist()) == ([3, 2, 1], [2, 1, 0])


@pytest.mark.parametrize("make", [lambda: arrow(ordered=False), lambda: polars_enum().cast(str), lambda: [3, 1]])
def test_what_is_not_declared_an_order_is_none(make):
    assert categories_in_order(make()) is None


def test_chunks_of_arrow_agree_on_their_order_or_have_none():
    pyarrow = pytest.importorskip("pyarrow")
    whole, part, other = (arrow([order[0]], order) for order in (["a", "c", "b"], ["a", "b"], ["b", "a"]))
    assert categories_in_order(pyarrow.chunked_array([part, whole])) == ["a", "c", "b"]
    assert categories_in_order(pyarrow.chunked_array([whole, other])) is None
    assert categories_in_order(pyarrow.chunked_array([], whole.type)) is None


def test_the_remedy_for_categories_without_images_is_one_that_the_column_knows():
    with pytest.warns(UserWarning, match=r"y\.cat\.remove_unused_categories\(\), or list all"):
        rank_scale(categorical()[:1])
    with pytest.warns(UserWarning, match=r"with y\.remove_unused_categories\(\), or list all"):
        rank_scale(pd.Categorical(["low"], ORDER, ordered=True))
    with pytest.warns(UserWarning, match=r"no image shows: \['low'\].*predicted. List all ranks with") as caught:
        rank_scale(polars_enum()[:1])
    assert "remove_unused" not in str(caught[0].message)


# ------------------------------------------------------------------- codes


def data_set(names, codes=(0, 1, 2)):
    datasets = pytest.importorskip("datasets", minversion="4")
    features = datasets.Features({"label": datasets.ClassLabel(names=names)})
    return datasets.Dataset.from_dict({"label": list(codes)}, features=features)


@pytest.mark.parametrize("of", [lambda data: data, lambda data: data.to_iterable_dataset()])
def test_codes_in_alphabetical_order_are_their_names_whose_order_is_asked_for(of):
    y = of(data_set(["mild", "none", "severe"]))["label"]
    assert check_labels(y).tolist() == ["mild", "none", "severe"]
    with pytest.raises(ValueError, match=r"looks like ranks=\['none', 'mild', 'severe'\]"):
        rank_scale(y)
    assert rank_scale(y, ["none", "mild", "severe"])[1].tolist() == [1, 0, 2]


def test_codes_whose_names_are_plainly_in_order_bring_it():
    scale, target = rank_scale(data_set(["none", "mild", "severe"], [2, 0, 1])["label"])
    assert (scale.names, target.tolist()) == (("none", "mild", "severe"), [2, 0, 1])


def test_a_code_that_stands_for_nothing_is_missing():
    with pytest.raises(ValueError, match=r"NaN or None \(index 1\)"):
        check_labels(data_set(["no", "yes"], [0, -1])["label"])


# ------------------------------------------------------- containers as labels


def test_views_of_a_dictionary_are_labels():
    labels = {"a.png": 2, "b.png": 1}
    assert check_labels(labels.values()).tolist() == [2, 1]
    assert check_labels({"low": 0, "high": 0}.keys()).tolist() == ["low", "high"]


class Grade(str, enum.Enum):  # noqa: UP042 : members of which str() is not the value
    NONE = "none"
    MILD = "mild"
    SEVERE = "severe"


WRAPS = {
    "list": list,
    "tuple": tuple,
    "objects": lambda labels: np.array(labels, dtype=object),
    "series": lambda labels: pd.Series(labels, dtype=object),
    "inferred series": pd.Series,
    "view": lambda labels: dict(enumerate(labels)).values(),
    "categorical": lambda labels: pd.Categorical(labels, list(Grade), ordered=True),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_members_of_an_enumeration_are_the_words_that_they_equal(wrap):
    y = WRAPS[wrap]([Grade.NONE, Grade.SEVERE, Grade.MILD])
    for ranks in (list(Grade), ["none", "mild", "severe"]):
        scale, target = rank_scale(y, ranks, {Grade.NONE: "no", Grade.MILD: "some", Grade.SEVERE: "much"})
        assert (scale.ranks.tolist(), target.tolist()) == (["none", "mild", "severe"], [0, 2, 1])
        assert scale.names == ("no", "some", "much")
    assert {type(label) for label in check_labels(y).tolist()} == {str}
    wrong = WRAPS[wrap]([Grade.MILD, Grade.NONE, Grade.NONE])
    assert mean_absolute_rank_error(y, wrong, ranks=list(Grade)) == pytest.approx(4 / 3)


def test_members_that_are_numbers_are_these():
    grade = enum.IntEnum("grade", {"LOW": 1, "HIGH": 10})
    assert rank_scale([grade.HIGH, grade.LOW])[0].ranks.tolist() == [1, 10]
    fraction = enum.Enum("fraction", {"LITTLE": 0.1, "MORE": 0.5}, type=float)
    assert check_labels([fraction.MORE, fraction.LITTLE]).tolist() == [0.5, 0.1]
