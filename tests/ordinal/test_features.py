import numpy as np
import pytest

from skl2rclip._ordinal import features as module
from skl2rclip._ordinal.features import FeatureBlocks, fit_projection

OF_TOWER = FeatureBlocks((("embedding", 3), ("pooled", 2), ("mean_2", 4)), 0)


def rows(n=12, width=9, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32) * np.arange(1, width + 1) + 5


@pytest.mark.parametrize(
    ("names", "n_columns", "blocks", "embedding"),
    [
        (None, 4, (("", 4),), 0),
        (None, 5, (("", 5),), None),
        (["a", "b", "c", "d"], 4, (("", 4),), 0),
        ([f"embedding__{i}" for i in range(4)], 4, (("embedding", 4),), 0),
        ([*(f"clip__embedding__{i}" for i in range(4)), "rest__age"], 5, (("clip__embedding", 4), ("rest", 1)), 0),
        (["rest__age", *(f"embedding__{i}" for i in range(4))], 5, (("rest", 1), ("embedding", 4)), 1),
        ([f"embedding__{i}" for i in range(3)], 3, (("embedding", 3),), None),
        ([f"dino__{i}" for i in range(4)], 4, (("dino", 4),), None),
    ],
)
def test_blocks_of_a_table_share_what_stands_before_the_last_underscores(names, n_columns, blocks, embedding):
    found = FeatureBlocks.of_table(names, n_columns, 4)
    assert (found.blocks, found.embedding) == (blocks, embedding)
    assert found.width == n_columns
    assert found.is_plain == (len(blocks) == 1 and embedding == 0)


@pytest.mark.parametrize(
    ("features", "expected"), [("embedding", [1, 0, 0]), ("tower", [0, 1, 1]), ("both", [1, 1, 1])]
)
def test_blocks_of_a_tower_count_together_as_much_as_the_embedding(features, expected):
    np.testing.assert_allclose(OF_TOWER.sizes(features), expected * np.array([1, *[1 / np.sqrt(2)] * 2]))
    others = FeatureBlocks((("clip__embedding", 3), ("rest", 2)), 0)
    np.testing.assert_array_equal(others.sizes("both"), [1, 1])


@pytest.mark.parametrize("n", [6, 12, 40])
@pytest.mark.parametrize("features", ["tower", "both"])
def test_a_projection_keeps_all_distances_of_scaled_blocks(n, features):
    X, weight = rows(n), np.linspace(0.5, 2, n)
    projection = fit_projection(X, weight, OF_TOWER, features, 0)
    centred = X - np.average(X, axis=0, weights=weight)
    scaled = []
    for columns, size in zip(OF_TOWER.slices, OF_TOWER.sizes(features), strict=True):
        block = centred[:, columns]
        scaled.append(size * block / np.sqrt(np.average((block**2).sum(axis=1), weights=weight)))
    expected, x = np.hstack(scaled), projection(X)
    assert x.shape == (n, min(n - 1, 9 if features == "both" else 6))
    np.testing.assert_allclose(np.average(x, axis=0, weights=weight), 0, atol=1e-5)
    assert np.average((x**2).mean(axis=1), weights=weight) == pytest.approx(1, rel=1e-4)
    gram = x @ x.T
    np.testing.assert_allclose(
        gram / np.trace(gram), expected @ expected.T / np.trace(expected @ expected.T), atol=1e-6
    )


def test_a_weight_counts_as_copies_and_zero_as_absence():
    X = rows(10)
    weight = np.array([2.0, 0, 1, 1, 3, 1, 0, 1, 1, 1])
    copies = np.repeat(X, weight.astype(int), axis=0)
    x = fit_projection(X, weight, OF_TOWER, "both", 0)(X)
    expected = fit_projection(copies, np.ones(len(copies)), OF_TOWER, "both", 0)(X)
    np.testing.assert_allclose(x @ x.T, expected @ expected.T, rtol=1e-3, atol=1e-3)


def test_what_does_not_vary_is_left_out():
    X = rows()
    X[:, 3:5] = 7
    projection = fit_projection(X, np.ones(12), OF_TOWER, "both", 0)
    assert not projection.weight[3:5].any()
    assert np.isfinite(projection(X)).all()
    assert fit_projection(X[:1], np.ones(1), OF_TOWER, "both", 0)(X[:1]).tolist() == [[0]]


def test_of_many_images_components_are_found_at_random(monkeypatch):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 5)) @ rng.normal(size=(5, 9)) + 0.01 * rng.normal(size=(300, 9))).astype(np.float32)
    exact = fit_projection(X, np.ones(300), OF_TOWER, "both", 0)(X)
    for name, value in {"_MAX_EXACT": 5, "_MAX_IMAGES": 200, "_MAX_COMPONENTS": 5}.items():
        monkeypatch.setattr(module, name, value)
    found = fit_projection(X, np.ones(300), OF_TOWER, "both", 0)(X)
    assert found.shape == (300, 5)
    correlation = np.corrcoef((found @ found.T).ravel(), (exact @ exact.T).ravel())[0, 1]
    assert correlation > 0.995


def test_columns_are_brought_together_by_block():
    names = ["b__1", "a__0", "b__2", "a__1", "c"]
    order = module.column_order(names)
    assert [names[i] for i in order] == ["b__1", "b__2", "a__0", "a__1", "c"]
    assert FeatureBlocks.of_table(names, 5, 9).blocks == (("b", 2), ("a", 2), ("", 1))
    assert module.column_order(["a__0", "a__1", "b"]) is None
    assert module.column_order(None) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["clip__embedding", "clip__pooled"], ["embedding", "pooled"]),
        (["x__y__embedding", "x__y__mean_2"], ["embedding", "mean_2"]),
        (["embedding", "pooled"], ["embedding", "pooled"]),
        (["clip__embedding", "rest"], ["clip__embedding", "rest"]),
        (["clip__embedding"], ["embedding"]),
    ],
)
def test_what_all_names_begin_with_does_not_count(names, expected):
    blocks = FeatureBlocks(tuple((name, 2) for name in names), 0)
    assert [name for name, _ in blocks.without_prefix] == expected


def test_a_heavy_image_among_many_decides_the_components(monkeypatch):
    monkeypatch.setattr(module, "_MAX_IMAGES", 20)
    X = rows(200)
    weight = np.full(200, 1e-9)
    weight[:20] = 1
    x = fit_projection(X, weight, OF_TOWER, "both", 0)(X)
    assert np.average((x**2).mean(axis=1), weights=weight) == pytest.approx(1, rel=1e-3)


def test_columns_that_a_larger_one_hides_are_told():
    table = FeatureBlocks((("", 9),), None)
    X = rows(n=30)
    fit_projection(X, np.ones(30), table, "both", 0)
    X[:, 5] *= 1e30
    with pytest.warns(UserWarning, match="8 of 9 columns are so small beside the largest .*StandardScaler"):
        fit_projection(X, np.ones(30), table, "both", 0)
    fit_projection(X, np.ones(30), FeatureBlocks((("embedding", 9),), 0), "both", 0)  # which is as it is
