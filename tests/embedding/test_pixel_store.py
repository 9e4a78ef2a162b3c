"""Where the pixels of the second stage are kept, that they come out as they went in, and what they take together."""

import gc

import numpy as np
import pytest
import torch

from skl2rclip._embedding.pixel_store import PixelStore, account
from tests.support.helpers import in_threads

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("max_memory", "place"), [(None, "device"), (12 * 27, "device"), (12 * 27 - 1, "file")])
def test_pixels_come_out_as_they_went_in(device, max_memory, place):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 3, 3), dtype=np.uint8)
    store = PixelStore(pixels.shape, torch.device(device), max_memory)
    assert store.place == place
    assert len(store) == 12
    for rows in np.array_split(np.random.default_rng(1).permutation(12), 4):
        store.write(rows, pixels[rows])
    batches = list(torch.randperm(12).split(5))
    for rows, batch in zip(batches, store.batches(batches), strict=True):
        assert batch.device.type == device
        np.testing.assert_array_equal(batch.cpu().numpy(), pixels[rows.numpy()])


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_fit_the_device_stays_in_memory(device, monkeypatch):
    monkeypatch.setattr("skl2rclip._embedding.pixel_store._fits", lambda n_bytes, device: False)
    store = PixelStore((4, 2, 2, 3), torch.device(device), None)
    assert store.place == "memory"
    store.write(np.arange(4), np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3))
    [batch] = store.batches([torch.tensor([3, 0])])
    assert batch[:, 0, 0, 0].tolist() == [36, 0]


def test_the_next_batch_is_fetched_while_the_present_one_is_in_use(monkeypatch):
    monkeypatch.setattr("skl2rclip._embedding.pixel_store._fits", lambda n_bytes, device: False)
    store = PixelStore((6, 1, 1, 3), torch.device("cpu"), None)
    fetched, copy = [], PixelStore._copy

    def noted(self, rows, stream):
        fetched.append(rows.tolist())
        return copy(self, rows, stream)

    monkeypatch.setattr(PixelStore, "_copy", noted)
    batches = store.batches(list(torch.arange(6).split(2)))
    next(batches)
    next(batches)
    assert fetched[:2] == [[0, 1], [2, 3]]
    assert len(list(batches)) == 1
    assert fetched == [[0, 1], [2, 3], [4, 5]]


def test_a_store_of_nothing():
    store = PixelStore((0, 2, 2, 3), torch.device("cpu"), 1)
    store.write(np.arange(0), np.empty((0, 2, 2, 3), np.uint8))
    assert len(store) == 0
    assert list(store.batches([])) == []


# ------------------------------------------------------------------ the account


@pytest.fixture
def held():
    """Bytes that pixels take in this process because of the test, asked for by calling it."""
    gc.collect()
    before = account.n_bytes
    return lambda: account.n_bytes - before


def test_stores_share_one_bound_and_give_back_what_they_held(held):
    bound = account.n_bytes + 1000
    first = PixelStore((10, 5, 4, 3), CPU, bound)  # 600 bytes
    beside = PixelStore((8, 5, 4, 3), CPU, bound)  # 480 are too many beside them
    assert [first.place, beside.place] == ["device", "file"]
    assert held() == 600
    small = PixelStore((6, 5, 4, 3), CPU, bound)
    assert (small.place, held()) == ("device", 960)
    del first
    assert held() == 360
    assert PixelStore((8, 5, 4, 3), CPU, bound).place == "device"
    assert held() == 360


def test_without_a_bound_pixels_are_held_and_counted(held):
    store = PixelStore((10, 5, 4, 3), CPU, None)
    assert (store.place, held()) == ("device", 600)
    assert PixelStore((1, 5, 4, 3), CPU, 500).place == "file"
    assert PixelStore((0, 5, 4, 3), CPU, 500).place == "device"


def test_threads_do_not_take_the_same_bytes_twice(held):
    bound = account.n_bytes + 1000
    stores = in_threads(*[lambda: PixelStore((10, 1, 10, 3), CPU, bound)] * 8)  # 300 bytes each
    assert sorted(store.place for store in stores) == ["device"] * 3 + ["file"] * 5
    assert held() == 900
