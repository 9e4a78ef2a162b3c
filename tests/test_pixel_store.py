"""Where the pixels of the second stage are kept, and that they come out as they went in."""

import numpy as np
import pytest
import torch

from skl2rclip._pixel_store import PixelStore

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
    monkeypatch.setattr("skl2rclip._pixel_store._fits", lambda n_bytes, device: False)
    store = PixelStore((4, 2, 2, 3), torch.device(device), None)
    assert store.place == "memory"
    store.write(np.arange(4), np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3))
    [batch] = store.batches([torch.tensor([3, 0])])
    assert batch[:, 0, 0, 0].tolist() == [36, 0]


def test_the_next_batch_is_fetched_while_the_present_one_is_in_use(monkeypatch):
    monkeypatch.setattr("skl2rclip._pixel_store._fits", lambda n_bytes, device: False)
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
