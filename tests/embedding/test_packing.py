"""Rows of an embedding with features behind it: how they are kept, and who may read them."""

import numpy as np
import pytest
import torch

from skl2rclip._clip.backbone import build_image_tower, load_backbone
from skl2rclip._clip.features import FeatureTower
from skl2rclip._clip.source import BackboneSource
from skl2rclip._embedding.cache import EmbeddingCache, _memory, forget_embeddings
from skl2rclip._embedding.embedder import embed_images
from skl2rclip._embedding.encoding import ImageEncoding, cache_of, shared_encoding
from skl2rclip._embedding.packing import is_sound, pack, unpack
from skl2rclip._embedding.pixel_store import account
from skl2rclip._images.files import stamped
from skl2rclip.embedding_store import EmbeddingStore
from tests.support.helpers import SQUARE, write_images

CPU = torch.device("cpu")
BLOCKS = (("pooled", 3), ("mean_1", 4))  # an odd number of halves


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()
    yield
    forget_embeddings()


def cache(blocks=BLOCKS, **options):
    return EmbeddingCache("toy", SQUARE, "float32", width=4, blocks=blocks, **options)


def feature_rows(n):
    """Unit embeddings of four columns, and seven features in half precision."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(n, 4))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = (100 * rng.normal(size=(n, 7))).astype(np.float16)
    return np.hstack([embeddings, features]).astype(np.float32)


def contents(n):
    """Images without files, and their rows by the key of `cache`."""
    images = [np.full((2, 2, 3), i, np.uint8) for i in range(n)]
    return images, dict(zip([cache().read(image)[0] for image in images], feature_rows(n), strict=True))


@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_a_packed_row_takes_four_bytes_of_an_embeddings_column_and_two_of_a_features(n):
    [row] = feature_rows(1)[:, : 4 + n]
    packed = pack(row, 4)
    assert packed.nbytes == 4 * 4 + 2 * n + 2 * (n % 2)
    np.testing.assert_array_equal(unpack(packed, 4, n), row)
    assert is_sound(packed, 4, n)
    assert not is_sound(packed, 4, n + 2)
    for odd in (np.nan, np.inf):
        damaged = row.copy()
        damaged[-1] = odd
        assert not is_sound(pack(damaged, 4), 4, n)


@pytest.mark.parametrize("with_folder", [False, True])
def test_rows_come_back_and_the_embedding_is_there_for_who_wants_no_more(tmp_path, with_folder):
    folder = tmp_path if with_folder else None
    images, rows = contents(5)
    with cache(folder=folder) as features:
        assert features.take([*rows]) == ({}, [*rows])
        features.put(rows)
    if with_folder:
        forget_embeddings()
    with cache(folder=folder) as features, cache(blocks=(), folder=folder) as plain:
        known, claimed = features.take([*rows])
        assert claimed == []
        keys = [plain.read(image)[0] for image in images]
        assert not {*keys} & {*rows}
        embeddings, claimed = plain.take(keys)
        assert claimed == []
    for key, plain_key in zip(rows, keys, strict=True):
        assert known[key].dtype == np.float32
        np.testing.assert_array_equal(known[key], rows[key])
        np.testing.assert_array_equal(embeddings[plain_key], rows[key][:4])


def test_an_embedding_alone_is_not_taken_for_a_row_nor_other_features_for_these(tmp_path):
    images, rows = contents(2)
    with cache(blocks=(), folder=tmp_path) as plain:
        plain.put({plain.read(image)[0]: row[:4] for image, row in zip(images, rows.values(), strict=True)})
    with cache(folder=tmp_path) as features:
        assert features.take([*rows])[0] == {}
        features.put(rows)
    others = cache(blocks=(("pooled", 4), ("mean_1", 3)), folder=tmp_path)
    with others:
        assert others.take([others.read(image)[0] for image in images])[0] == {}


def test_the_bound_counts_the_bytes_that_are_kept():
    _, rows = contents(20)
    n_bytes = 4 * 4 + 2 * 8 + 4 * 4  # the embedding by itself too
    with cache(max_memory=account.n_bytes + 20 * n_bytes) as enough:
        enough.put(rows)
    assert _memory._n_bytes == 20 * n_bytes
    assert len(_memory.lookup(rows)) == 20
    forget_embeddings()
    with cache(max_memory=account.n_bytes + 10 * n_bytes) as half:
        half.put(rows)
    assert _memory._n_bytes <= 10 * n_bytes
    assert len(_memory.lookup(rows)) >= 10  # what is complete is kept before the embeddings by themselves


def test_what_the_process_knew_goes_to_a_folder_with_the_embeddings_by_themselves(tmp_path):
    _, rows = contents(5)
    with cache() as known:
        known.put(rows)
    with cache(folder=tmp_path) as stored:
        assert len(stored.take([*rows])[0]) == 5
    assert len(EmbeddingStore(tmp_path)) == 10


def damaged(row, change):
    row = row.copy()
    row[slice(*change[0])] = change[1]
    return row


@pytest.mark.parametrize("change", [((10, 11), np.nan), ((4, 5), np.inf), ((0, 4), 1.0), ((0, 1), np.nan)], ids=str)
def test_a_stored_row_that_is_not_finite_or_whose_embedding_is_of_no_unit_length_is_computed_again(tmp_path, change):
    _, rows = contents(2)
    (key, row), (other, whole) = rows.items()
    with cache(folder=tmp_path) as stored:
        stored.put({key: damaged(row, change), other: whole})
    forget_embeddings()
    with cache(folder=tmp_path) as stored:
        known, claimed = stored.take([key, other])
        assert (list(known), claimed) == ([other], [key])
        stored.put({key: row})
    forget_embeddings()
    with cache(folder=tmp_path) as stored:
        np.testing.assert_array_equal(stored.take([key])[0][key], row)


# ------------------------------------------------------------------ on the way there


def test_rows_do_not_depend_on_whether_they_were_kept(tiny, tmp_path, through_tower):
    """The embedding as without features, what is behind it rounded, and each image passes the tower once."""
    backbone, images = load_backbone(BackboneSource(tiny)), stamped(write_images(tmp_path / "images", 6))
    layout, D = backbone.feature_blocks, backbone.embedding_width
    encoding = shared_encoding(backbone, CPU, "float32", 4, blocks=layout)
    assert (encoding.width, encoding.embedding_width) == (layout.width, D)

    def rows(folder, blocks=layout, of=encoding):
        return embed_images(images, of, cache_of(backbone, CPU, "float32", folder, None, blocks=blocks), 1)

    uncached = embed_images(images, encoding, None, 1)
    first, from_memory = rows(tmp_path / "cache"), rows(tmp_path / "cache")
    forget_embeddings()
    from_folder = rows(tmp_path / "cache", blocks=layout)
    for each in (first, from_memory, from_folder):
        np.testing.assert_array_equal(each, uncached)
    assert sum(through_tower) == 12
    plain = shared_encoding(backbone, CPU, "float32", 4)
    embeddings = rows(tmp_path / "cache", blocks=None, of=plain)
    assert sum(through_tower) == 12
    np.testing.assert_array_equal(embeddings, uncached[:, :D])
    np.testing.assert_allclose(embeddings, embed_images(images, plain, None, 1), atol=1e-6)
    np.testing.assert_array_equal(uncached[:, D:], uncached[:, D:].astype(np.float16))


def test_what_half_precision_does_not_hold_becomes_its_largest_number():
    def tower(pixels):
        features = torch.tensor([1e6, -1e6, 1 / 3, 65504.0])
        return torch.cat([torch.full((4,), 3.0), features]).expand(len(pixels), -1)

    encoding = ImageEncoding(tower, SQUARE, 8, CPU, "float32", 64, embedding_width=4)
    [row] = encoding.of_pixels(np.zeros((1, 8, 8, 3), np.uint8))
    np.testing.assert_allclose(row[:4], 0.5)
    np.testing.assert_array_equal(row[4:], np.array([65504, -65504, np.float16(1 / 3), 65504], np.float32))


def test_parts_of_a_batch_pass_a_convolutional_tower_side_by_side_as_without_features(torch_threads):
    torch_threads(2)
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
    tower = build_image_tower({"embed_dim": 24, "vision_cfg": vision})
    with torch.inference_mode():
        width = FeatureTower(tower)(torch.zeros(1, 3, 32, 32)).shape[1]
    bare = ImageEncoding(tower, SQUARE, 24, CPU, "float32", 64)
    read = ImageEncoding(FeatureTower(tower), SQUARE, width, CPU, "float32", 64, embedding_width=24)
    batch = torch.zeros(64, 128, 128, 3, dtype=torch.uint8)
    assert read._n_parts(batch) == bare._n_parts(batch) == 6  # two threads, three parts each
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(read.of_pixels(pixels)[:, :24], bare.of_pixels(pixels), atol=1e-5)
