"""The folder of embeddings: what comes back, what is dropped, and what happens when disks fail."""

import contextlib
import os
import sqlite3
import tempfile
import time
import warnings
from pathlib import Path

import fault_cache
import numpy as np
import pytest
from PIL import Image

from skl2rclip import CLIPImageEncoder
from skl2rclip._embedding import sqlite
from skl2rclip._embedding import store as embedding_store
from skl2rclip._embedding.cache import EmbeddingCache, forget_embeddings
from skl2rclip._embedding.embedder import embed_images
from skl2rclip._images.files import stamped
from skl2rclip.embedding_store import EmbeddingStore
from skl2rclip.errors import InvalidParameterError
from tests.support.helpers import SQUARE, embedded_one_by_one, in_threads, toy_encoding, within, write_images


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()


@pytest.fixture
def files(tmp_path):
    return write_images(tmp_path / "images", 12)


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
        monkeypatch.setattr("skl2rclip._embedding.store._today", lambda day=day: day)
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


def test_stamps_are_kept_of_files_whose_names_are_not_utf8(tmp_path):
    store = EmbeddingStore(tmp_path)
    store.remember_files([("caf\udce9.png", "1", b"x")])
    assert store.digests_of({"caf\udce9.png": "1"}) == {"caf\udce9.png": b"x"}


@contextlib.contextmanager
def edited(folder):
    with contextlib.closing(sqlite3.connect(folder / "embeddings-2.sqlite")) as db, db:
        yield db


def test_a_digest_that_its_checksum_does_not_confirm_counts_as_missing(tmp_path):
    store = EmbeddingStore(tmp_path)
    store.remember_files([("a", "1", b"x"), ("b", "1", b"y"), ("c", "1", b"z")])
    with edited(tmp_path) as db:
        db.execute("UPDATE files SET digest = x'79' WHERE path = x'61'")
        db.execute("UPDATE files SET path = CAST(x'ff' AS TEXT), stamp = 5 WHERE path = x'62'")
    assert store.digests_of(dict.fromkeys("abc", "1")) == {"c": b"z"}


@pytest.mark.parametrize("odd", [np.ones(3), np.ones(5) / 5**0.5, np.ones(4), np.full(4, np.nan), np.zeros(4)])
def test_a_row_that_is_no_embedding_of_the_tower_is_computed_again(tmp_path, odd):
    store, key, good = EmbeddingStore(tmp_path), b"k" * 16, np.full(4, 0.5, np.float32)
    store.put({key: odd})
    assert store.lookup([key], width=4) == {}
    with EmbeddingCache("toy", SQUARE, "float32", folder=tmp_path, width=4) as cache:
        assert cache.take([key]) == ({}, [key])
        cache.put({key: good})
    np.testing.assert_array_equal(store.lookup([key], width=4)[key], good)


@pytest.mark.parametrize("value", ["NULL", "'much'", "-5", "0", "x'00'", "1.5"])
def test_an_odd_bound_counts_as_none(tmp_path, value):
    store = EmbeddingStore(tmp_path, max_size="1 MB")
    with edited(tmp_path) as db:
        db.execute(f"UPDATE settings SET value = {value}")
    store.put(rows(100))
    assert len(store) == 100


def test_a_day_that_is_yet_to_come_does_not_keep_a_row(tmp_path):
    store = EmbeddingStore(tmp_path, max_size="300 KB")
    store.put({key: np.resize(row, 512) for key, row in rows(50).items()})
    with edited(tmp_path) as db:
        db.execute("UPDATE embeddings SET day = 1000000000000")
    for start in range(50, 250, 50):
        store.put({key: np.resize(row, 512) for key, row in rows(50, start).items()})
    assert rows(50, 200).keys() <= store.lookup(list(rows(250))).keys()


def test_claims_and_locks_of_the_dead_are_removed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_store, "_swept", set())
    store, keys = EmbeddingStore(tmp_path), list(rows(4))
    dead, new = tmp_path / f"owner-{'d' * 32}.lock", tmp_path / f"owner-{'e' * 32}.lock"
    with store.owner() as living:
        embedding_store._swept.clear()
        store.claim(keys[:2], "d" * 32)
        store.claim(keys[2:3], living)
        dead.touch()
        new.touch()
        (tmp_path / "damaged-0.sqlite").touch()
        os.utime(dead, (0, 0))
        os.utime(store._lock_file(living), (0, 0))
        with EmbeddingStore(tmp_path).owner():
            with edited(tmp_path) as db:
                assert db.execute("SELECT key FROM claims").fetchall() == [(keys[2],)]
            assert not dead.exists()
            assert new.exists()
            assert store._lock_file(living).exists()
            dead.touch()
            os.utime(dead, (0, 0))
            with EmbeddingStore(tmp_path).owner():
                assert dead.exists()
    assert (tmp_path / "damaged-0.sqlite").exists()


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


def test_a_file_in_the_folders_place_costs_an_estimator_a_warning(tmp_path, files):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    model = CLIPImageEncoder("skl2rclip-tiny", device="cpu", embedding_cache=blocked).fit()
    with pytest.warns(UserWarning, match=r"embedding_cache: .*file cannot be used .* Name a folder") as caught:
        assert model.transform(files).shape == (12, 128)
    # what an earlier test has left open is told of when it is let go of
    assert [each.category for each in caught if each.category is not ResourceWarning] == [UserWarning]


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["CREATE TABLE theirs (a)"], "something else"),
        (["PRAGMA journal_mode = WAL", "CREATE TABLE theirs (a)"], "something else"),
        ([f"PRAGMA application_id = {sqlite.APPLICATION_ID}", "PRAGMA user_version = 3"], "its format is 3, not 2"),
    ],
)
def test_the_database_of_others_is_left_as_it_is(tmp_path, statements, message):
    with edited(tmp_path) as db:
        for statement in statements:
            db.execute(statement)
    content = (tmp_path / "embeddings-2.sqlite").read_bytes()

    def use():
        store = EmbeddingStore(tmp_path)
        assert store.lookup(list(rows(2))) == {}
        store.put(rows(2))
        store.clear()

    with pytest.warns(UserWarning, match=message) as caught:
        in_threads(use)
    use()
    assert len(caught) == 1
    assert (tmp_path / "embeddings-2.sqlite").read_bytes() == content
    assert not list(tmp_path.glob("damaged-*"))


def test_the_log_of_others_stays_out_of_their_database(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "cache").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "theirs" / "db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE theirs (a)")
        for end in ("", "-wal"):  # as a process leaves them that is killed
            content = (tmp_path / "theirs" / f"db{end}").read_bytes()
            assert content
            (tmp_path / "cache" / f"embeddings-2.sqlite{end}").write_bytes(content)
    files = [tmp_path / "cache" / f"embeddings-2.sqlite{end}" for end in ("", "-wal")]
    before = [file.read_bytes() for file in files]
    with pytest.warns(UserWarning, match="something else"):
        EmbeddingStore(tmp_path / "cache").put(rows(2))
    assert [file.read_bytes() for file in files] == before


def test_the_file_of_the_earlier_form_is_left_alone(tmp_path):
    (tmp_path / "embeddings.sqlite").write_bytes(b"earlier")
    EmbeddingStore(tmp_path).put(rows(2))
    assert (tmp_path / "embeddings.sqlite").read_bytes() == b"earlier"


def test_a_lock_held_for_ever_is_waited_for_once(tmp_path, files, expected, monkeypatch):
    monkeypatch.setattr(sqlite, "_LOCK_SECONDS", 1.0)
    monkeypatch.setattr(sqlite, "_SQLITE_SECONDS", 0.05)
    EmbeddingStore(tmp_path).put(rows(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "embeddings-2.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        store, since = EmbeddingStore(tmp_path), time.monotonic()
        with pytest.warns(UserWarning, match="locked.*held its lock"):
            assert store.lookup([b"a"]) == {}
        assert 1 <= time.monotonic() - since < 10
        attempts, connect = [], sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: attempts.append(a) or connect(*a, **o))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store.put(rows(2))
            assert len(store) == 0
            assert not attempts  # this one has given up
            EmbeddingStore(tmp_path).lookup([b"a"])
            assert 1 <= len(attempts) <= 2  # another one tries anew, and does not wait
            np.testing.assert_allclose(embed(files, tmp_path), expected, atol=1e-5)
    EmbeddingStore(tmp_path).put(rows(2))
    assert len(EmbeddingStore(tmp_path)) == 2


def test_where_only_writing_is_locked_it_is_read_and_waited_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_LOCK_SECONDS", 2.0)
    monkeypatch.setattr(sqlite, "_SQLITE_SECONDS", 0.05)
    EmbeddingStore(tmp_path).put(rows(2))
    with contextlib.closing(sqlite3.connect(tmp_path / "embeddings-2.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        store = EmbeddingStore(tmp_path)
        with pytest.warns(UserWarning, match="what it holds is still read"):
            assert not store.put(rows(3))
        since = time.monotonic()
        for each in (store, EmbeddingStore(tmp_path), EmbeddingStore(tmp_path)):
            assert len(each.lookup(list(rows(3)))) == 2
            assert not each.put(rows(3))
        assert time.monotonic() - since < 2


def test_a_file_that_another_process_has_replaced_is_not_put_aside(tmp_path):
    store = EmbeddingStore(tmp_path)
    (tmp_path / "embeddings-2.sqlite").write_bytes(b"no database" * 1000)
    identify, failures = sqlite.Database._identify, []

    def replaced_meanwhile(database):
        try:
            identify(database)
        except sqlite3.DatabaseError:
            failures.append(database)
            if len(failures) == 2:  # it has been tried again
                os.rename(tmp_path / "embeddings-2.sqlite", tmp_path / "theirs")
                EmbeddingStore(tmp_path).put(rows(2))
            raise

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(sqlite.Database, "_identify", replaced_meanwhile)
        assert not store.put(rows(3))
        assert len(EmbeddingStore(tmp_path)) == 2
        assert store.put(rows(3))
    assert not list(tmp_path.glob("damaged-*"))


def test_a_disk_that_damages_every_file_is_given_up(tmp_path):
    file = tmp_path / "embeddings-2.sqlite"
    store = EmbeddingStore(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            file.write_bytes(b"no database" * 1000)
            store.put(rows(2))
            assert store.lookup(list(rows(2))) == {}
    assert len(list(tmp_path.glob("damaged-*"))) == 1
    assert ["cannot be used" in str(each.message) for each in caught] == [False, True]


@pytest.fixture
def quick_folder():
    with tempfile.TemporaryDirectory(dir=fault_cache.quick_folder()) as name:
        os.chmod(name, 0o755)  # faults of permissions are for another user
        yield Path(name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_whatever_fails_no_row_is_wrong_nothing_raises_and_one_warning_is_given(quick_folder):
    broken = [outcome for outcome in fault_cache.inject(quick_folder, count=40, seconds=2) if not outcome.is_good]
    assert not broken


@pytest.mark.parametrize("check", ["embeddings", "files"])
def test_the_harness_sees_rows_that_are_wrong(quick_folder, monkeypatch, check):
    def trust(*_):
        return bytes(16)

    if check == "files":
        monkeypatch.setattr(embedding_store, "_checksum", trust)
    else:
        monkeypatch.setattr(embedding_store, "digest_of", trust)
        monkeypatch.setattr(fault_cache, "key_of", lambda number: bytes([number % 256]) * 16)
    outcome = fault_cache.Outcome("")
    original = fault_cache.written(quick_folder / "original")
    column = "digest" if check == "files" else "row"
    swapped = (
        f"UPDATE {check} SET {column} = (SELECT b.{column} FROM {check} b WHERE b.rowid = {check}.rowid % 100 + 1)"
    )
    fault_cache.edit(outcome, quick_folder, original, swapped, fault_cache.rows(0, 100))
    assert outcome.wrong > 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_databases_place_is_not_waited_for(tmp_path, files, expected):
    (tmp_path / "cache").mkdir()
    os.mkfifo(tmp_path / "cache" / "embeddings-2.sqlite")
    with pytest.warns(UserWarning, match="is not a regular file"):
        embeddings = within(60, lambda: embed(files, tmp_path / "cache"))
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)


def test_a_folder_is_a_path():
    with pytest.raises(InvalidParameterError, match="folder must be a string or a path, got None"):
        EmbeddingStore(None)
