"""The embedding store: what passes the tower, how often, and what happens when disks and processes fail."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from skl2rclip import CLIPImageEncoder
from skl2rclip._backbone import BackboneSource, load_backbone
from skl2rclip._embedder import ImageEncoding, cache_of
from skl2rclip._embedding_cache import EmbeddingCache, forget_embeddings
from skl2rclip._preprocessing import Preprocessing
from skl2rclip.embedding_store import EmbeddingStore
from skl2rclip.errors import InvalidParameterError

TINY = "skl2rclip-tiny"
SQUARE = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()


@pytest.fixture
def files(tmp_path):
    """Twelve small pictures that were written some time ago."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
        os.utime(path, (1e9, 1e9))
    return paths


def encoder(**parameters):
    return CLIPImageEncoder(TINY, device="cpu", **parameters).fit()


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
    with sqlite3.connect(tmp_path / "embeddings.sqlite") as db:
        db.execute("UPDATE embeddings SET row = ? WHERE key = ?", (b"\0" * 16, b"\1" * 16))
        db.execute("UPDATE embeddings SET row = 'text' WHERE key = ?", (b"\2" * 16,))
    assert list(store.lookup(list(rows(3)))) == [b"\0" * 16]
    with store.owner() as owner:
        assert store.claim(list(rows(3)), owner) == [b"\1" * 16, b"\2" * 16]
    store.put(rows(3))
    assert len(store.lookup(list(rows(3)))) == 3


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path, damage):
    (tmp_path / "embeddings.sqlite").write_bytes(damage)
    store = EmbeddingStore(tmp_path)
    with pytest.warns(UserWarning, match=r"embedding_cache: the file in .* is damaged .* a new one is begun"):
        assert store.lookup([b"a"]) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put(rows(2))
        assert len(store.lookup(list(rows(2)))) == 2
    assert [path.read_bytes() for path in tmp_path.glob("damaged-*.sqlite")] == [damage]


def test_a_page_damaged_in_the_middle_costs_no_fit(tmp_path, files, through_tower):
    expected = encoder().transform(files)
    forget_embeddings()
    encoder(embedding_cache=tmp_path / "cache").transform(files)
    file = tmp_path / "cache" / "embeddings.sqlite"
    content = bytearray(file.read_bytes())
    content[4096 : len(content) - 4096] = os.urandom(len(content) - 8192)
    file.write_bytes(content)
    forget_embeddings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(encoder(embedding_cache=tmp_path / "cache").transform(files), expected, atol=1e-6)


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, files, through_tower):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    model = encoder(embedding_cache=blocked / "cache")
    with pytest.warns(UserWarning, match=r"embedding_cache: .*cache cannot be used .*; embeddings are computed"):
        assert model.transform(files).shape == (12, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once for each folder
        model.transform(files[:3])


def test_a_full_disk_costs_a_warning(tmp_path, files, monkeypatch):
    connect = sqlite3.connect

    def small(*arguments, **options):
        db = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 8")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.warns(UserWarning, match="full"):
        embeddings = encoder(embedding_cache=tmp_path / "cache").transform(files)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_still_read(tmp_path, files, through_tower):
    encoder(embedding_cache=tmp_path / "cache").transform(files)
    for path in [*(tmp_path / "cache").iterdir(), tmp_path / "cache"]:
        path.chmod(0o555)
    forget_embeddings()
    encoder(embedding_cache=tmp_path / "cache").transform(files)
    assert sum(through_tower) == 12


# ------------------------------------------------------- once through the tower


def test_without_a_folder_an_image_passes_once_while_the_process_lives(files, through_tower):
    pictures = [np.asarray(Image.open(path)) for path in files]
    first = encoder().transform([*files, *files])
    assert sum(through_tower) == 12
    np.testing.assert_array_equal(first[:12], first[12:])
    np.testing.assert_array_equal(encoder().transform(files[::-1]), first[11::-1])
    assert sum(through_tower) == 12
    # other kinds of images are known by their pixels, whoever holds them
    np.testing.assert_allclose(encoder().transform(pictures), first[:12], atol=1e-6)
    np.testing.assert_allclose(encoder().transform([Image.fromarray(p) for p in pictures]), first[:12], atol=1e-6)
    assert sum(through_tower) == 24


def test_what_the_process_knew_goes_to_the_folder_too(tmp_path, files, through_tower):
    encoder().transform(files)
    encoder(embedding_cache=tmp_path / "cache").transform(files)
    assert len(EmbeddingStore(tmp_path / "cache")) == sum(through_tower) == 12


def test_other_precisions_and_backbones_do_not_share(files, through_tower):
    encoder().transform(files)
    encoder(precision="bfloat16").transform(files)
    assert sum(through_tower) == 24
    key = EmbeddingCache("a", SQUARE, "float32").keys(files)
    assert key != EmbeddingCache("a", SQUARE.enlarged(2, 1), "float32").keys(files)
    assert key == EmbeddingCache("a", SQUARE, "float32").keys(files)


def test_max_memory_bounds_what_is_kept(files, through_tower):
    n_bytes = 128 * 4
    encoder(max_memory=5 * n_bytes).transform(files)
    encoder(max_memory=5 * n_bytes).transform(files[-5:])
    assert sum(through_tower) == 12
    encoder(max_memory=5 * n_bytes).transform(files[:7])
    assert sum(through_tower) == 19


def test_a_changed_file_is_never_served_stale(tmp_path, files, through_tower):
    model = encoder(embedding_cache=tmp_path / "cache")
    before = model.transform(files)
    picture = Image.fromarray(255 - np.asarray(Image.open(files[0])))
    size = files[0].stat().st_size
    picture.save(files[0])
    with open(files[0], "ab") as file:  # the same size, and the same time
        file.write(b"\0" * max(0, size - files[0].stat().st_size))
    os.utime(files[0], (1e9, 1e9))
    forget_embeddings()
    after = model.transform(files)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    np.testing.assert_array_equal(after[1:], before[1:])
    assert sum(through_tower) == 13
    picture.save(files[1])  # within this second, twice
    twice = model.transform(files[1:2])
    Image.open(files[2]).save(files[1])
    assert not np.array_equal(model.transform(files[1:2]), twice)


def test_files_that_did_not_change_are_not_read_again(tmp_path, files, monkeypatch):
    now = time.time()
    monkeypatch.setattr("skl2rclip._embedding_cache.time.time", lambda: now + 60)  # their last change is long ago
    with EmbeddingCache("fingerprint", SQUARE, "float32", folder=tmp_path / "cache") as cache:
        keys = cache.keys(files)
        cache.put({key: np.ones(4, np.float32) for key in cache.take(keys)[1]})
    monkeypatch.setattr("skl2rclip._embedding_cache._content_digest", lambda image: pytest.fail("a file was read"))
    monkeypatch.setattr("skl2rclip._embedding_cache._known_files", {})  # another process
    with EmbeddingCache("fingerprint", SQUARE, "float32", folder=tmp_path / "cache") as cache:
        assert cache.keys(files) == keys


def test_threads_share_the_work(files, through_tower, tmp_path):
    for folder in (None, tmp_path / "cache"):
        through_tower.clear()
        forget_embeddings()
        model = encoder(embedding_cache=folder)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(model.transform, [files] * 4))
        assert sum(through_tower) == 12
        assert all(np.array_equal(result, results[0]) for result in results)


def test_a_failure_gives_the_work_back(tmp_path, files, monkeypatch):
    original, failing = ImageEncoding.of_pixels, threading.Event()
    failing.set()

    def fails_once(self, pixels):
        if failing.is_set():
            failing.clear()
            raise KeyboardInterrupt
        return original(self, pixels)

    monkeypatch.setattr(ImageEncoding, "of_pixels", fails_once)
    model = encoder(embedding_cache=tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        model.transform(files)
    assert model.transform(files).shape == (12, 128)
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_a_process_that_has_stopped_is_not_waited_for_for_ever(tmp_path, files, through_tower, monkeypatch):
    monkeypatch.setattr("skl2rclip._embedder._PATIENCE_SECONDS", 0.3)
    model = encoder(embedding_cache=tmp_path / "cache")
    backbone = load_backbone(BackboneSource(TINY))
    for folder in (None, tmp_path / "cache"):
        forget_embeddings()
        through_tower.clear()
        with cache_of(backbone, torch.device("cpu"), "auto", folder, None) as stopped:
            stopped.take(stopped.keys(files[:5]))
            assert encoder(embedding_cache=folder).transform(files).shape == (12, 128)
            assert sum(through_tower) == 12
    assert model.transform(files).shape == (12, 128)


PROCESS = """
import sys, time
from pathlib import Path
from skl2rclip import CLIPImageEncoder
from skl2rclip.encoder import ImageEncoding, cache_of
folder, log, mode = sys.argv[1:4]
original = ImageEncoding._of_pixels
def counted(self, pixels, batch_size):
    if mode == "hangs" and Path(log).exists():
        print("hanging", flush=True)
        time.sleep(600)
    rows = original(self, pixels, batch_size)
    with open(log, "a") as file:
        file.write(f"{len(pixels)}\\n")
    time.sleep(0.05)
    return rows
ImageEncoding._of_pixels = counted
from skl2rclip import images
images.split_rows.__defaults__ = (4,)  # chunks of four, so that there is a middle to be killed in
paths = sorted(str(path) for path in Path(folder).glob("*.png"))
model = CLIPImageEncoder("skl2rclip-tiny", device="cpu", embedding_cache=Path(folder) / "cache").fit()
print("ready", flush=True)
print(len(model.transform(paths)))
"""


def start(tmp_path, mode, log="log"):
    script = tmp_path / "process.py"
    script.write_text(textwrap.dedent(PROCESS))
    return subprocess.Popen([sys.executable, script, tmp_path, tmp_path / log, mode], stdout=subprocess.PIPE, text=True)


def test_two_processes_share_the_work(tmp_path, files):
    processes = [start(tmp_path, "works") for _ in range(2)]
    assert [process.communicate(timeout=120)[0].split()[-1] for process in processes] == ["12", "12"]
    assert sum(map(int, (tmp_path / "log").read_text().split())) == 12


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_in_the_middle_loses_only_what_it_was_computing(tmp_path, files, through_tower):
    killed = start(tmp_path, "hangs")
    while "hanging" not in (line := killed.stdout.readline()):
        assert line
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = sum(map(int, (tmp_path / "log").read_text().split()))
    assert 0 < done < 12
    assert encoder(embedding_cache=tmp_path / "cache").transform(files).shape == (12, 128)
    assert sum(through_tower) == 12 - done
    assert not list((tmp_path / "cache").glob("*.lock"))
