"""What holds of every store of embeddings: of the one in a folder, and of a minimal one that keeps them in a dict."""

import contextlib
import uuid

import numpy as np
import pytest

from skl2rclip._embedding.cache import EmbeddingCache, forget_embeddings
from skl2rclip._embedding.store import EmbeddingStore
from skl2rclip._embedding.stores import Store, opened_store
from skl2rclip._images.files import stamped
from tests.support.helpers import SQUARE, write_images


class DictStore:
    """The least that a store has to do: one process, nothing bounded, nothing damaged."""

    def __init__(self):
        self.identity, self.rows, self.claims, self.files = uuid.uuid4().hex, {}, {}, {}

    def lookup(self, keys, width=None, n_halves=0):
        length = None if width is None else width + (n_halves + 1) // 2
        return {key: self.rows[key] for key in keys if key in self.rows and length in (None, len(self.rows[key]))}

    def put(self, rows):
        self.rows.update(rows)
        self.claims = {key: owner for key, owner in self.claims.items() if key not in rows}
        return True

    @contextlib.contextmanager
    def owner(self):
        name = uuid.uuid4().hex
        yield name
        self.withdraw(name)

    def claim(self, keys, owner, width=None, n_halves=0):
        done = self.lookup(keys, width, n_halves)
        free = [key for key in keys if key not in done and self.claims.get(key, owner) == owner]
        self.claims.update(dict.fromkeys(free, owner))
        return free

    def withdraw(self, owner):
        self.claims = {key: other for key, other in self.claims.items() if other != owner}

    def digests_of(self, stamps):
        return {path: self.files[path, stamp] for path, stamp in stamps.items() if (path, stamp) in self.files}

    def remember_files(self, files):
        self.files.update({(path, stamp): digest for path, stamp, digest in files})


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()
    yield
    forget_embeddings()


@pytest.fixture(params=["folder", "dict"])
def store(request, tmp_path):
    return EmbeddingStore(tmp_path / "store") if request.param == "folder" else DictStore()


def unit(n):
    return {bytes([i]) * 16: np.eye(4, dtype=np.float32)[i % 4] for i in range(n)}


def test_it_has_what_a_store_must_have(store):
    names = {name for name in vars(Store) if not name.startswith("_")}
    assert names >= {"identity", "lookup", "put", "owner", "claim", "withdraw", "digests_of", "remember_files"}
    assert {name for name in names if not hasattr(store, name)} == set()
    hash(store.identity)


def test_rows_come_back_as_they_were_written(store):
    assert store.put(unit(3))
    found = store.lookup([*unit(4)], 4)
    assert found.keys() == unit(3).keys()
    for key, row in found.items():
        np.testing.assert_array_equal(row, unit(3)[key])
    assert store.lookup([*unit(3)], 5) == {}


def test_a_row_is_claimed_by_one_owner_until_it_is_there_or_withdrawn(store):
    keys = [*unit(3)]
    with store.owner() as first, store.owner() as second:
        assert store.claim(keys[:2], first) == keys[:2]
        assert store.claim(keys, second) == keys[2:]
        store.put({keys[0]: unit(1)[keys[0]]})
        store.withdraw(first)
        assert store.claim(keys, second) == keys[1:]


def test_files_are_known_by_path_and_stamp(store):
    store.remember_files([("a.png", "then", b"d" * 16)])
    assert store.digests_of({"a.png": "then", "b.png": "then"}) == {"a.png": b"d" * 16}
    assert store.digests_of({"a.png": "now"}) == {}


def test_the_cache_computes_each_image_once_for_all_who_share_a_store(store, tmp_path, monkeypatch):
    monkeypatch.setattr("skl2rclip._images.files._RACY_SECONDS", -60.0)  # as if written long ago
    images = stamped(write_images(tmp_path / "images", 3))
    with EmbeddingCache("toy", SQUARE, "float32", store=store, width=4) as cache:
        keys = [cache.read(image)[0] for image in images]
        known, claimed = cache.take(keys)
        assert (known, claimed) == ({}, keys)
        cache.put(dict(zip(keys, unit(3).values(), strict=True)))
    forget_embeddings()
    with EmbeddingCache("toy", SQUARE, "float32", store=store, width=4) as cache:
        assert cache.known_keys(images) == dict(enumerate(keys))
        known, claimed = cache.take(keys)
    assert claimed == []
    np.testing.assert_array_equal(np.stack([known[key] for key in keys]), np.stack([*unit(3).values()]))


def test_no_place_is_no_store(tmp_path):
    assert opened_store(None) is None
    assert opened_store(tmp_path).identity == EmbeddingStore(tmp_path).identity
