"""What an image is called, what a process remembers of it, and who computes what."""

import gc

import numpy as np
import pytest
import torch
from PIL import Image

from skl2rclip._embedding.cache import EmbeddingCache, _memory, forget_embeddings, known_digests
from skl2rclip._embedding.pixel_store import PixelStore, account
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip.embedding_store import EmbeddingStore
from tests.support.helpers import SQUARE, file_access, in_threads, write_images


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    gc.collect()
    forget_embeddings()
    yield
    forget_embeddings()


@pytest.fixture
def images(tmp_path):
    return stamped(write_images(tmp_path / "images", 4))


@pytest.fixture
def _stable_files(monkeypatch):
    """Whatever the tests write counts as written long ago."""
    monkeypatch.setattr("skl2rclip._images.files._RACY_SECONDS", -60.0)


def cache(**options):
    return EmbeddingCache("toy", SQUARE, "float32", **options)


def rows(n, start=0):
    return {bytes([start + i]) * 16: np.full(4, start + i, np.float32) for i in range(n)}


def keys_of(images, cache):
    return [cache.read(image)[0] for image in images]


def kept(keys):
    """How many of these rows the process has."""
    return len(_memory.lookup(keys))


# -------------------------------------------------------------------------- keys


def test_a_key_is_of_content_backbone_preprocessing_precision_and_white_level(images):
    contexts = [
        ("a", SQUARE, "float32"),
        ("b", SQUARE, "float32"),
        ("a", SQUARE.enlarged(2, 1), "float32"),
        ("a", SQUARE, "bfloat16"),
    ]
    caches = [EmbeddingCache(*context) for context in contexts]
    caches += [EmbeddingCache(*contexts[0], white=WhiteLevel(value)) for value in (1.0, 4095.0)]
    keys = [key for each in caches for key in keys_of(images, each)]
    assert len(set(keys)) == 6 * len(images)
    assert keys[:4] == keys_of(images, EmbeddingCache(*contexts[0]))


def test_reading_gives_the_bytes_that_the_key_is_of(images, tmp_path):
    content = (tmp_path / "images" / "00.png").read_bytes()
    (tmp_path / "copy.png").write_bytes(content)
    [copy] = stamped([tmp_path / "copy.png"])
    with file_access() as asked:
        assert cache().read(images[0]) == cache().read(copy) == (keys_of(images, cache())[0], content)
    assert asked.of([images[0].path]) == {(0, 2)}  # here, and once more by keys_of


def test_images_without_a_file_are_known_by_their_pixels(images):
    image = Image.open(images[0].path)
    keys = keys_of([image, np.asarray(image), np.asarray(image)[:, ::-1]], cache())
    assert keys[0] == keys[1] != keys[2]
    assert cache().read(image)[1] is None


def test_what_cannot_be_read_has_a_key_of_its_own(tmp_path):
    [missing] = stamped([tmp_path / "missing.png"])
    with file_access() as asked:
        (first, _), (second, content) = cache().read(missing), cache().read(missing)
    assert first != second
    assert content is None
    assert asked.of([missing.path]) == {(0, 0)}


# ------------------------------------------------------------------- known files


def put_all(images, cache):
    with cache:
        keys = keys_of(images, cache)
        cache.put({key: np.ones(4, np.float32) for key in cache.take(keys)[1]})
    return dict(enumerate(keys))


@pytest.mark.usefixtures("_stable_files")
def test_unchanged_files_are_known_without_being_read(images, tmp_path):
    assert cache().known_keys(images) == {}
    keys = put_all(images, cache(folder=tmp_path / "cache"))
    others = stamped([__file__, np.zeros((2, 2), np.uint8)])
    with file_access() as asked:
        assert cache().known_keys(images) == keys
        assert known_digests([*others, *images], None).keys() == {image.location for image in images}
        _memory._files.clear()  # as another process
        assert cache().known_keys(images) == {}
        assert known_digests(images, None) == {}
        assert len(known_digests(images, tmp_path / "cache")) == 4
        _memory._files.clear()
        assert cache(folder=tmp_path / "cache").known_keys(images) == keys
        assert EmbeddingCache("other", SQUARE, "float32").known_keys(images).keys() == keys.keys()
    assert asked.of([image.path for image in images]) == {(0, 0)}


@pytest.mark.usefixtures("_stable_files")
def test_a_changed_file_is_not_known(images, tmp_path):
    put_all(images, cache())
    Image.new("RGB", (20, 20)).save(images[1].path)
    assert cache().known_keys(stamped([image.path for image in images])).keys() == {0, 2, 3}
    assert cache().known_keys(images).keys() == {0, 1, 2, 3}  # as they were stamped


def test_a_file_that_has_just_changed_is_not_trusted(images):
    put_all(images, cache())
    assert cache().known_keys(images) == {}


@pytest.mark.usefixtures("_stable_files")
def test_only_what_was_decoded_is_known(images):
    with cache() as reading:
        keys = keys_of(images, reading)
        reading.take(keys)
    assert cache().known_keys(images) == {}


@pytest.mark.usefixtures("_stable_files")
def test_all_files_of_one_content_are_known(images, tmp_path):
    (tmp_path / "copy.png").write_bytes((tmp_path / "images" / "00.png").read_bytes())
    both = stamped([images[0].path, tmp_path / "copy.png"])
    keys = put_all(both, cache())
    assert keys[0] == keys[1]
    assert cache().known_keys(both) == keys


# ------------------------------------------------------------------------ claims


@pytest.mark.parametrize("with_folder", [False, True])
def test_what_one_has_claimed_the_others_leave(tmp_path, with_folder):
    folder, keys = tmp_path / "cache" if with_folder else None, list(rows(4))
    with cache(folder=folder) as first, cache(folder=folder) as second:
        assert first.take([*keys[:2], keys[0]]) == ({}, keys[:2])
        assert second.take(keys) == ({}, keys[2:])
        first.put(rows(2))
        known, claimed = second.take(keys)
        assert (list(known), claimed) == (keys[:2], [])
        assert second.take(keys, despite_claims=True)[1] == keys[2:]
    with cache(folder=folder) as third:  # what was claimed and not computed is free again
        assert third.take(keys)[1] == keys[2:]


def test_threads_claim_each_row_once():
    keys = list(rows(200))

    def claim():
        with cache() as mine:
            claimed = [key for key in keys for key in mine.take([key])[1]]
            mine.put({key: np.zeros(4, np.float32) for key in claimed})
            return claimed

    parts = in_threads(*[claim] * 4)
    assert sorted(key for part in parts for key in part) == sorted(keys)


def test_what_the_process_knew_goes_to_a_folder_that_it_is_given(tmp_path):
    with cache() as plain:
        plain.put(rows(5))
    with cache(folder=tmp_path) as stored:
        assert len(stored.take(list(rows(5)))[0]) == 5
    assert len(EmbeddingStore(tmp_path)) == 5


def test_what_a_folder_could_not_take_goes_there_later(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be used"), cache(folder=tmp_path / "cache") as failing:
        failing.put(rows(5))
    (tmp_path / "cache").unlink()
    with cache(folder=tmp_path / "cache") as stored:
        assert len(stored.take(list(rows(5)))[0]) == 5
    assert len(EmbeddingStore(tmp_path / "cache")) == 5


def test_forgetting_leaves_the_folder_alone(tmp_path):
    with cache(folder=tmp_path) as stored:
        stored.put(rows(5))
        forget_embeddings()
        assert kept(rows(5)) == 0
        assert len(stored.take(list(rows(5)))[0]) == 5


# -------------------------------------------------------------------- the account


def test_the_rows_used_last_are_kept_within_the_bound():
    n_bytes = 16
    with cache(max_memory=account.n_bytes + 5 * n_bytes) as small:
        small.put(rows(5))
        small.take(list(rows(2)))
        small.put(rows(2, start=5))
    assert [kept([key]) for key in rows(7)] == [1, 1, 0, 0, 1, 1, 1]


def test_pixels_and_embeddings_share_one_bound():
    bound = account.n_bytes + 1000
    with cache(max_memory=bound) as small:
        small.put(rows(50))  # 800 bytes
        assert kept(rows(50)) == 50
        store = PixelStore((10, 5, 4, 3), torch.device("cpu"), bound)  # 600 more: embeddings give way
        assert store.place == "device"
        assert kept(rows(50)) == 400 // 16
        small.put(rows(50, start=100))
        assert kept(rows(50)) == 0
        assert kept(rows(50, start=100)) == 400 // 16
        too_much = PixelStore((10, 5, 4, 3), torch.device("cpu"), bound)
        assert too_much.place == "file"
        assert kept(rows(50, start=100)) == 400 // 16
        del store
        small.put(rows(50))
        assert kept(rows(50)) == 50


def test_without_a_bound_pixels_do_not_drop_embeddings():
    with cache() as unbounded:
        unbounded.put(rows(50))
        store = PixelStore((10, 5, 4, 3), torch.device("cpu"), None)
        unbounded.put(rows(50, start=100))
        assert kept([*rows(50), *rows(50, start=100)]) == 100
    assert len(store) == 10


def test_the_bound_holds_with_threads():
    bound = account.n_bytes + 2000
    held = []

    def embed():
        with cache(max_memory=bound) as small:
            for start in range(0, 200, 10):
                small.put(rows(10, start=start))
                held.append(_memory._n_bytes + account.n_bytes)

    def decode():
        for _ in range(50):
            PixelStore((10, 5, 4, 3), torch.device("cpu"), bound)
            held.append(_memory._n_bytes + account.n_bytes)

    in_threads(embed, embed, decode)
    # a thread may be seen between taking its bytes and making room for them: 600 of pixels, 160 of rows
    assert max(held) <= bound + 760
    assert _memory._n_bytes + account.n_bytes <= bound
