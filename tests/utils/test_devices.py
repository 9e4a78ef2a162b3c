import multiprocessing
import weakref

import numpy as np
import pytest
import torch
from packaging.version import Version
from torch import nn

from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._images.preprocessing import _mean_and_std
from skl2rclip._utils.devices import (
    autocast_for,
    explain_out_of_memory,
    resolve_device,
    resolve_devices,
    resolve_precision,
    to_device,
)
from skl2rclip.errors import InvalidParameterError
from tests.support import pretended

CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch):
    """Make torch say that there are so many CUDA devices."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("count", "has_mps", "kind"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (2, True, "cuda")]
)
def test_auto_takes_cuda_then_apples_gpu_then_the_cpu(cuda, monkeypatch, count, has_mps, kind):
    cuda(count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert resolve_device("auto") == torch.device(kind)
    assert resolve_devices("auto") == (torch.device(kind),)


def test_a_list_is_a_process_for_each_name(cuda):
    cuda(2)
    assert resolve_devices("cpu") == resolve_devices(["cpu"]) == (CPU,)
    assert resolve_devices(["cpu"] * 3) == (CPU,) * 3
    assert resolve_devices(("cuda:1", "cuda:0")) == (torch.device("cuda:1"), torch.device("cuda:0"))
    assert resolve_devices(["auto"]) == (torch.device("cuda"),)
    assert resolve_device(["cuda:1", "cuda:0"]) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ([], r"list of at least one such name, got \[\]"),
        ((), "list of at least one such name"),
        (3, "got 3"),
        (None, "got None"),
        (["cpu", 0], r"got \['cpu', 0\]"),
        ({"cpu"}, r"got \{'cpu'\}"),
        (["auto", "cpu"], r"without 'auto'.* as in .*got \['auto', 'cpu'\]"),
        (["cpu", "cuda:0"], "devices of one type"),
        (["cuda:0", "cuda:1", "cuda:0"], "none of CUDA twice, as in"),
        (["cuda", "cuda:0"], "none of CUDA twice"),
        (["cuda:0", "cuda:7"], "device='cuda:7' is not available: this machine has 2 usable CUDA devices"),
        (["cpu", "gpu"], "another name that torch knows, got 'gpu'"),
        ("gpu", "another name that torch knows, got 'gpu'"),
        ("cuda:99", "device='cuda:99' is not available.*device='auto' takes what is there"),
        ("meta", "device='meta' is not available: it holds no data"),
        ("xpu", "device='xpu' is not available: torch cannot use it"),
    ],
)
def test_devices_that_cannot_be_used_are_named_with_the_remedy(cuda, device, message):
    cuda(2)
    with pytest.raises(InvalidParameterError, match=message):
        resolve_devices(device)


def test_lists_are_checked_where_one_device_is_enough_too():
    for device in ([], ["cpu", "auto"], 3):
        with pytest.raises(InvalidParameterError, match="device must"):
            resolve_device(device, strict=False)


def test_a_model_fitted_elsewhere_predicts_on_the_cpu_with_a_warning(cuda, recwarn):
    cuda(1)
    with pytest.warns(UserWarning, match=r"device='cuda:99' is not available.*predicting on the CPU"):
        assert resolve_device("cuda:99", strict=False) == CPU
    with pytest.warns(UserWarning, match="'cuda:1'"):
        assert resolve_devices(["cuda:0", "cuda:1"], strict=False) == (torch.device("cuda:0"), CPU)
    recwarn.clear()
    assert resolve_device(["cuda:0", "cuda:1"], strict=False) == torch.device("cuda:0")
    assert not recwarn.list  # the second is not needed to predict


def test_precision_decides_the_autocast():
    layer = nn.Linear(2, 2)
    for precision, dtype in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast_for(precision, CPU):
            assert layer(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_auto_precision_is_bfloat16_from_ampere_on(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda")) == precision
    assert resolve_precision("float32", torch.device("cuda")) == "float32"
    assert resolve_precision("auto", CPU) == "float32"


def test_a_tensor_stays_on_the_cpu_without_a_copy():
    tensor = torch.ones(3)
    assert to_device(tensor, CPU) is tensor


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [(64, "batch_size=64: lower batch_size or set it to 'auto'.*n_jobs"), ("auto", "name a small one.*n_jobs")],
)
def test_out_of_memory_says_what_to_lower(batch_size, message):
    with pytest.raises(MemoryError, match=message) as error, explain_out_of_memory(batch_size):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")
    assert "CUDA out of memory" in str(error.value)
    assert "checkpointing" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 5. GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_the_innermost_block_says_what_helps_and_lets_go_of_what_was_made(error):
    made = []

    def allocate():
        array = np.zeros(3).view(type("Array", (np.ndarray,), {}))
        made.append(weakref.ref(array))
        raise error

    message = r"^The process ran out of memory while measuring: lower n_views, run fewer.*model_name\. (Unable|.*alloc)"
    with (
        pytest.raises(MemoryError, match=message) as kept,  # with its traceback, as notebooks do
        explain_out_of_memory(8, "training"),
        explain_out_of_memory(None, "measuring", ["lower n_views"]),
    ):
        allocate()
    assert made[0]() is None
    assert kept.value.__cause__ is error


def test_apples_gpus_without_memory_are_explained_too():
    with pytest.raises(MemoryError, match=r"lower batch_size.*MPS backend out of memory"), explain_out_of_memory(64):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")
    with pytest.raises(RuntimeError, match="another"), explain_out_of_memory(64):
        raise RuntimeError("another")


def test_auto_precision_is_float32_on_apples_gpus():
    assert resolve_precision("auto", torch.device("mps")) == "float32"


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(fitted_classifier, shades):
    """OpenMP's threads stay behind in a fork, and whoever hands them work there waits for ever."""
    classifier = fitted_classifier(prompt_epochs=1)
    expected = classifier.predict_proba(shades[0])
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def predict():
        torch.relu(torch.ones(1000, 1000))
        sender.send(classifier.predict_proba(shades[0][::-1]))
        sender.send(classifier.fit(*shades).predict_proba(shades[0]))

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.relu(torch.ones(1000, 1000))  # large enough for threads
        process = context.Process(target=predict)
        process.start()
        try:
            assert receiver.poll(60), "the forked process does not predict"
            np.testing.assert_allclose(receiver.recv()[::-1], expected, atol=1e-6)
            assert receiver.poll(60), "the forked process does not fit"
            np.testing.assert_allclose(receiver.recv(), expected, atol=1e-5)
        finally:
            process.kill()
            process.join()
        assert torch.get_num_threads() == 2  # the process that forked keeps its own
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(Version(torch.__version__) < Version("2.10"), reason="older ones ask the device itself")
def test_no_double_comes_to_a_device_that_has_none(make_classifier, shades, monkeypatch):
    """A whole fit with early stopping, and a prediction, on a device that is played on the CPU."""
    X, y = shades
    expected = make_classifier(early_stopping=True).fit(X, y).predict_proba(X)
    forget_embeddings()
    unload_backbones()
    played = pretended.Pretended()
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mps, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        with pretended.Operations(played), pretended.Device(played):
            actual = make_classifier(device="auto", early_stopping=True).fit(X, y).predict_proba(X)
    unload_backbones()  # its copy on the device is none
    _mean_and_std.cache_clear()
    assert played.n_operations > 1000
    assert not played.doubles
    assert not played.mixed
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_the_played_device_notices_doubles_and_mixtures():
    played = pretended.Pretended()
    with pretended.Operations(played), pretended.Device(played):
        there = torch.ones(3).to("mps")
        assert there.device.type == "mps"
        assert (2 * there).device.type == "mps"
        assert there.cpu().double().device.type == "cpu"
        assert not played.doubles
        there.double()
        there + torch.ones(3)
    assert played.doubles
    assert played.mixed
