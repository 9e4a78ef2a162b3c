"""The folder of embeddings: what comes back, what is dropped, and what happens when disks fail."""

import os
import sqlite3
import warnings

import numpy as np
import pytest
from helpers import SQUARE, embedded_one_by_one, toy_encoding, write_pictures
from PIL import Image

from skl2rclip._embedder import embed_images
from skl2rclip._embedding_cache import EmbeddingCache, forget_embeddings
from skl2rclip._images import stamped
from skl2rclip.embedding_store import EmbeddingStore
from skl2rclip.errors import InvalidParameterError


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()


@pytest.fixture
def files(tmp_path):
    return write_pictures(tmp_path / "pictures", 12)


@pytest.fixture
def expected(files):
    return embedded_one_by_one(map(Image.open, files))


def embed(files, folder):
    return embed_images(stamped(files), toy_encoding(), EmbeddingCache("toy", SQUARE, "float32", folder=folder), 2)


def rows(n, start=0):
    return {bytes([start + i]) * 16: np.full(4, start + i, np.float32) for i in range(n)}


# ------------------------------------------------------------------ the folder


def test_rows_come_back_as_they_were(tmp_path):
    store = EmbeddingStore(tmp_path / "new" / "folder")
    assert store.lookup([b"a"]) == {}
    assert len(store) == store.size_in_bytes == 0
    assert not (tmp_path / "new").exists()
    store.put(rows(200))
    found = EmbeddingStore(tmp_path / "new" / "folder").lookup([*rows(200), b"unknown"])
    assert found.keys() == rows(200).keys()
    assert all(np.array_equal(found[key], row) for key, row in rows(200).items())
    assert len(store) == 200
    store.clear()
    assert len(store) == 0
    assert store.lookup(list(rows(200))) == {}


def test_it_stays_within_its_bound_and_drops_the_oldest(tmp_path, monkeypatch):
    days = iter(range(100, 200))
    store = EmbeddingStore(tmp_path, max_size="300 KB")
    for start in range(0, 250, 10):
        day = next(days)
        monkeypatch.setattr("skl2rclip.embedding_store._today", lambda day=day: day)
        EmbeddingStore(tmp_path).put({key: np.resize(row, 512) for key, row in rows(10, start % 250).items()})
        store.lookup(list(rows(10)))  # the first ten stay in use
    assert store.size_in_bytes <= 300_000
    assert 50 < len(store) < 200
    kept = store.lookup(list(rows(250)))
    assert rows(10).keys() <= kept.keys()
    assert rows(10, 240).keys() <= kept.keys()
    assert not rows(10, 10).keys() & kept.keys()
    with pytest.raises(InvalidParameterError, match="max_size must be a positive number of bytes"):
        EmbeddingStore(tmp_path, max_size="much")


def test_a_damaged_row_counts_as_missing(tmp_path):
    store = EmbeddingStore(tmp_path)
    store.put(rows(3))
    with sqlite3.connect(tmp_path / "embeddings-2.sqlite") as db:
        db.execute("UPDATE embeddings SET row = ? WHERE key = ?", (b"\0" * 16, b"\1" * 16))
        db.execute("UPDATE embeddings SET row = 'text' WHERE key = ?", (b"\2" * 16,))
    assert list(store.lookup(list(rows(3)))) == [b"\0" * 16]
    with store.owner() as owner:
        assert store.claim(list(rows(3)), owner) == [b"\1" * 16, b"\2" * 16]
    store.put(rows(3))
    assert len(store.lookup(list(rows(3)))) == 3


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path, damage):
    (tmp_path / "embeddings-2.sqlite").write_bytes(damage)
    store = EmbeddingStore(tmp_path)
    with pytest.warns(UserWarning, match=r"embedding_cache: the file in .* is damaged .* a new one is begun"):
        assert store.lookup([b"a"]) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put(rows(2))
        assert len(store.lookup(list(rows(2)))) == 2
    assert [path.read_bytes() for path in tmp_path.glob("damaged-*.sqlite")] == [damage]


def test_claims_are_refused_while_their_owner_lives(tmp_path):
    store, keys = EmbeddingStore(tmp_path), list(rows(4))
    with store.owner() as first:
        assert store.claim(keys[:2], first) == keys[:2]
        assert store.claim(keys[:2], first) == keys[:2]
        with EmbeddingStore(tmp_path).owner() as second:
            assert store.claim(keys, second) == keys[2:]
            store.withdraw(first)
            assert store.claim(keys, second) == keys
        assert store.claim(keys, first) == keys
        store.put(rows(1))
        assert store.claim(keys, first) == keys[1:]
    assert not list(tmp_path.glob("*.lock"))


def test_files_are_remembered_with_their_stamps(tmp_path):
    store = EmbeddingStore(tmp_path)
    assert store.digests_of({"a": "1"}) == {}
    store.remember_files([("a", "1", b"x"), ("b", "1", b"y")])
    store.remember_files([("b", "2", b"z")])
    assert store.digests_of({"a": "1", "b": "1", "c": "1"}) == {"a": b"x"}
    assert store.digests_of({"a": "2", "b": "2"}) == {"b": b"z"}


# -------------------------------------------------------------- when disks fail


@pytest.mark.parametrize("kind", ["a page in the middle", "a row"])
def test_damage_costs_computing_again(tmp_path, files, expected, kind):
    folder = tmp_path / "cache"
    embed(files, folder)
    file = folder / "embeddings-2.sqlite"
    if kind == "a row":
        with sqlite3.connect(file) as db:
            db.execute("UPDATE embeddings SET row = zeroblob(length(row))")
    else:
        content = bytearray(file.read_bytes())
        content[4096 : len(content) - 4096] = os.urandom(len(content) - 8192)
        file.write_bytes(content)
    forget_embeddings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(embed(files, folder), expected, atol=1e-5)


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, files, expected):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match=r"embedding_cache: .*cache cannot be used .*; embeddings are computed"):
        np.testing.assert_allclose(embed(files, blocked / "cache"), expected, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once for each folder
        forget_embeddings()
        embed(files[:3], blocked / "cache")


def test_a_full_disk_costs_a_warning(tmp_path, files, expected, monkeypatch):
    connect = sqlite3.connect

    def small(*arguments, **options):
        db = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 8")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.warns(UserWarning, match="full"):
        np.testing.assert_allclose(embed(files, tmp_path / "cache"), expected, atol=1e-5)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_still_read(tmp_path, files, through_tower):
    folder = tmp_path / "cache"
    embed(files, folder)
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o555)
    forget_embeddings()
    embed(files, folder)
    assert sum(through_tower) == 12
