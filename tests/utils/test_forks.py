"""What a forked child inherits: no lock that another thread held, no unfinished work, no life of its parent's."""

import multiprocessing
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

from skl2rclip._clip import backbone
from skl2rclip._embedding.cache import EmbeddingCache, _memory, forget_embeddings
from skl2rclip._embedding.locks import is_held
from skl2rclip._embedding.pixel_store import account
from skl2rclip._utils import forks
from skl2rclip.embedding_store import EmbeddingStore
from tests.support.helpers import SQUARE, in_threads

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
KEYS = [bytes([i]) * 16 for i in range(4)]


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()
    yield
    forget_embeddings()


def cache(folder=None):
    return EmbeddingCache("toy", SQUARE, "float32", folder=folder)


def in_child(function, timeout=20):
    """Result of a function in a forked child, which is killed and counts as hanging after a while."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function()), daemon=True)
    process.start()
    sender.close()
    try:
        assert receiver.poll(timeout), "the child hangs"
        return receiver.recv()
    finally:
        process.kill()
        process.join()
        receiver.close()


@pytest.mark.parametrize("with_folder", [False, True])
def test_a_child_computes_what_a_thread_of_its_parent_had_claimed(tmp_path, with_folder):
    with cache() as parents:
        assert parents.take(KEYS)[1] == KEYS

        def child():
            with cache(tmp_path if with_folder else None) as mine:
                return mine.take(KEYS)[1]

        assert in_child(child) == KEYS
        with cache() as another:
            assert another.take(KEYS)[1] == []  # in the parent they are still claimed


def test_a_child_does_not_wait_for_locks_that_threads_of_its_parent_held():
    held, is_over = threading.Event(), threading.Event()

    def hold():
        with _memory._lock, account._lock, backbone._lock:
            held.set()
            is_over.wait(60)

    def child():
        with cache() as mine:
            mine.put({key: np.ones(4, np.float32) for key in KEYS})
        account.take(threading.Event(), 0, None)
        backbone.unload_backbones()
        return len(_memory.lookup(KEYS)), _memory._n_bytes

    def fork():
        held.wait(60)
        try:
            return in_child(child)
        finally:
            is_over.set()

    assert in_threads(hold, fork)[1] == (4, 64)


def test_a_fork_waits_until_no_database_is_open(monkeypatch):
    monkeypatch.setattr(forks, "_PATIENCE_SECONDS", 30.0)
    inside, ended = threading.Event(), []

    def work():
        with forks.no_fork():
            inside.set()
            time.sleep(0.5)
            ended.append(time.monotonic())

    def fork():
        inside.wait(30)
        return in_child(time.monotonic)

    forked = in_threads(work, fork)[1]
    assert forked >= ended[0]
    with forks.no_fork():  # one that forks by itself is not held up
        assert in_child(lambda: 5) == 5


def test_a_fork_is_not_held_up_for_ever(monkeypatch):
    monkeypatch.setattr(forks, "_PATIENCE_SECONDS", 0.1)
    inside, is_over = threading.Event(), threading.Event()

    def work():
        with forks.no_fork():
            inside.set()
            is_over.wait(60)

    def child():
        with forks.no_fork():
            return 5

    def fork():
        inside.wait(30)
        try:
            return in_child(child)
        finally:
            is_over.set()

    assert in_threads(work, fork)[1] == 5
    with forks.no_fork():
        pass


def test_a_child_that_leaves_the_block_ends_nothing_of_its_parents(tmp_path):
    store = EmbeddingStore(tmp_path)
    block = store.owner()
    owner = block.__enter__()
    assert store.claim(KEYS, owner) == KEYS

    def child():
        block.__exit__(None, None, None)
        return is_held(store._lock_file(owner))

    assert in_child(child)
    with EmbeddingStore(tmp_path).owner() as another:
        assert EmbeddingStore(tmp_path).claim(KEYS, another) == []
        block.__exit__(None, None, None)
        assert EmbeddingStore(tmp_path).claim(KEYS, another) == KEYS


def test_a_child_does_not_keep_its_dead_parents_claims_alive(tmp_path):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def parent():
        store = EmbeddingStore(tmp_path)
        with store.owner() as owner:
            store.claim(KEYS, owner)
            grandchild = os.fork()
            if not grandchild:
                time.sleep(120)
                os._exit(0)
            sender.send(grandchild)
            time.sleep(120)

    process = context.Process(target=parent)
    process.start()
    assert receiver.poll(30)
    grandchild = receiver.recv()
    try:
        with EmbeddingStore(tmp_path).owner() as owner:
            assert EmbeddingStore(tmp_path).claim(KEYS, owner) == []
            os.kill(process.pid, signal.SIGKILL)
            while process.is_alive():  # join would wait for the child, too
                time.sleep(0.05)
            os.kill(grandchild, 0)  # it lives
            assert EmbeddingStore(tmp_path).claim(KEYS, owner) == KEYS
    finally:
        os.kill(grandchild, signal.SIGKILL)
        process.kill()


def test_children_forked_while_threads_write_go_on(tmp_path):
    is_over = threading.Event()
    rows = {bytes([i]) * 16: np.full(4, i, np.float32) for i in range(100)}

    def write():
        while not is_over.is_set():
            EmbeddingStore(tmp_path).put(rows)

    def child():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store = EmbeddingStore(tmp_path)
            store.put(rows)
            return len(store.lookup(list(rows)))

    def fork():
        try:
            return [in_child(child) for _ in range(10)]
        finally:
            is_over.set()

    assert in_threads(write, write, fork, timeout=200)[2] == [100] * 10
