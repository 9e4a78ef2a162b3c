"""One label from several raters."""

import numpy as np
import pandas as pd
import pytest

from skl2rclip.datasets import combine_ratings


def rated(n=400, bias=(-1.0, 0.0, 0.5, 1.2), noise=0.6, seen=0.5, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, n)
    table = np.round(truth[:, None] + np.array(bias) + noise * rng.normal(size=(n, len(bias))))
    table[rng.random(table.shape) > seen] = np.nan
    kept = np.isfinite(table).any(axis=1)
    return truth[kept], table[kept]


def test_labels_without_the_raters_biases_are_nearer_to_the_truth_than_mean_and_majority():
    truth, table = rated()
    combined = combine_ratings(table, ranks=range(-4, 10))
    shift = truth.mean() - combined.mean.mean()  # what all raters are off by together cannot be told

    def error(labels):
        return np.abs(labels - truth).mean()

    majority = pd.DataFrame(table).mode(axis=1)[0].to_numpy()
    assert error(combined.mean + shift) < 0.75 * error(np.nanmean(table, axis=1))
    assert error(combined.mean + shift) < 0.75 * error(majority)
    np.testing.assert_allclose(
        combined.bias - combined.bias.mean(), np.array([-1.175, -0.175, 0.325, 1.025]), atol=0.15
    )
    assert combined.rating_std == pytest.approx(np.hypot(0.6, np.sqrt(1 / 12)), rel=0.1)  # and of rounding


def test_label_std_is_how_far_labels_are_off():
    truth, table = rated(n=2000, seed=1)
    combined = combine_ratings(table, ranks=range(-4, 10))
    shift = truth.mean() - combined.mean.mean()
    n_ratings = np.isfinite(table).sum(axis=1)
    for n in (1, 2, 3, 4):
        own = n_ratings == n
        without_rounding = np.sqrt(np.mean(combined.label_std[own] ** 2 - (combined.target - combined.mean)[own] ** 2))
        assert np.std((combined.mean + shift - truth)[own]) == pytest.approx(without_rounding, rel=0.15)
    assert (combined.label_std >= np.abs(combined.target - combined.mean)).all()


def test_rounding_of_many_ratings_is_not_taken_for_a_bias():
    for seed in (3, 6, 9, 24, 65):  # where a cut at the precision of the numbers keeps it
        rng = np.random.default_rng(seed)
        is_seen = rng.random((640, 5)) < 0.3
        table = np.round(rng.integers(0, 10, (640, 1)) + rng.normal(size=5) + rng.normal(size=(640, 5)))
        table = np.where(is_seen, table, np.nan)[is_seen.any(axis=1)]
        combined = combine_ratings(table)
        assert np.isfinite(combined.label_std).all()
        assert combined.label_std.max() < 3
        assert abs(combined.bias.sum()) < 1e-9


def test_words_count_as_steps_and_come_back_as_words():
    ranks = ["none", "mild", "severe"]
    table = pd.DataFrame({"ann": ["none", "mild", None, "severe"], "bob": ["none", "mild", "severe", "mild"]})
    combined = combine_ratings(table, ranks=ranks)
    assert combined.target.tolist()[:2] == ["none", "mild"]
    assert set(combined.target) <= set(ranks)
    assert combined.bias.sum() == pytest.approx(0)
    assert combined.label_std[3] > combined.label_std[0]
    with pytest.raises(ValueError, match="The labels are words and their order is not known"):
        combine_ratings(table)


def test_ordered_categories_say_their_order():
    order = ["none", "mild", "severe"]
    said = {"ann": ["none", "severe", None, "severe"], "bob": ["none", "mild", "severe", "severe"]}
    table = pd.DataFrame(said).astype(pd.CategoricalDtype(order, ordered=True))
    combined, expected = combine_ratings(table), combine_ratings(pd.DataFrame(said), ranks=order)
    np.testing.assert_array_equal(combined.target, expected.target)
    np.testing.assert_array_equal(combined.label_std, expected.label_std)
    table["bob"] = pd.Categorical(said["bob"], order[::-1], ordered=True)
    with pytest.raises(ValueError, match=r"ratings has 'bob' in the order .*, and 'ann' in the order"):
        combine_ratings(table)


def test_raters_who_share_no_image_are_not_compared():
    table = np.full((6, 4), np.nan)
    table[:3, :2] = [[1, 2], [2, 3], [3, 4]]
    table[3:, 2:] = [[5, 4], [4, 3], [6, 5]]
    combined = combine_ratings(table)
    np.testing.assert_allclose(combined.bias, [-0.5, 0.5, 0.5, -0.5], atol=1e-9)
    np.testing.assert_allclose(combined.mean, [1.5, 2.5, 3.5, 4.5, 3.5, 5.5])


def test_masked_ratings_are_missing():
    table = np.ma.masked_array([[1, 2, 1], [2, 3, 3], [3, 99, 4]], [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    masked, gap = combine_ratings(table), combine_ratings([[1, 2, 1], [2, 3, 3], [3, None, 4]])
    np.testing.assert_array_equal(masked.mean, gap.mean)
    np.testing.assert_array_equal(masked.target, gap.target)


def test_enums_of_polars_say_their_order():
    polars = pytest.importorskip("polars")
    words = polars.Enum(["mild", "high", "deadly"])
    raters = {"a": ["mild", "high", "deadly"], "b": ["mild", "high", "high"], "c": [None, "high", "deadly"]}
    table = polars.DataFrame({name: polars.Series(each, dtype=words) for name, each in raters.items()})
    assert combine_ratings(table).target.tolist() == ["mild", "high", "deadly"]


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        ([[1, 2], [2, np.inf], [3, 3]], {}, "infinite number in row 1, column 1"),
        ([[1, 2], [None, float("nan")], [2, 2]], {}, r"no rating in row \[1\]"),
        ([[1], [2], [3]], {}, "with a single rating of each image, take these for y"),
        ([[1, None], [None, 2]], {}, "more ratings than images and raters"),
        ([1, 2, 3], {}, r"shape \(images, raters\), got \(3,\)"),
        ([[1, 2], [2, 9]], {"ranks": [1, 2, 3]}, r"ratings holds \[9\], which ranks does not list"),
    ],
)
def test_what_cannot_be_combined_is_named(table, options, match):
    with pytest.raises(ValueError, match=match):
        combine_ratings(table, **options)
