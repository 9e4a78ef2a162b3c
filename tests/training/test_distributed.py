"""A fit on two processes of the CPU: the same losses and gradients as in one."""

import importlib.util
import multiprocessing
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from skl2rclip._training.distributed import ProcessGroup, check_devices, run_on_devices
from skl2rclip.errors import InvalidParameterError, NonFiniteLossError, UnreadableImagesError
from tests.support.processes import prepared_context, time_limit
from tests.support.small_images import barred_images

pytestmark = pytest.mark.full_ordering
CPU = torch.device("cpu")
TWO = ["cpu", "cpu"]


@pytest.fixture(autouse=True)
def _limited():
    with time_limit(400):
        yield


@pytest.fixture(autouse=True)
def _prepared(request, monkeypatch):
    """Let processes begin with what they need of others, but where they are to be started as users start them."""
    if "as_users_start_them" in request.fixturenames:
        return
    for module in (multiprocessing, torch.multiprocessing):
        given = module.get_context
        monkeypatch.setattr(
            module, "get_context", lambda kind=None, given=given: prepared_context() if kind == "spawn" else given(kind)
        )


@pytest.fixture
def as_users_start_them():
    """Let processes import everything themselves, as children of the one that waits for them."""


@pytest.fixture
def make(make_classifier):
    def finetuned(**parameters):
        settings = {"image_tower": "finetune", "image_learning_rate": 1e-4, "augment": False}
        return make_classifier(**{**settings, **parameters})

    return finetuned


# ------------------------------------------------------------ the group itself


def everything_that_a_group_does(group, seed):
    """Return a dictionary of results, each with what one process alone would make of the same."""
    torch.manual_seed(seed)
    rows, weights = torch.randn(6, 3), torch.randn(3, 2)
    mine = torch.from_numpy(np.flatnonzero(group.is_mine(6)))
    in_order = torch.cat([torch.arange(rank, 6, group.size) for rank in range(group.size)])
    results = {"share": (len(mine), 6 // group.size)}

    tower, head = (torch.nn.Linear(3, 2, bias=False) for _ in range(2))
    tower.weight.data, head.weight.data = weights.T.clone(), weights.T.clone()
    embedded = group.all_gather(tower(rows[mine]))  # (6, 2)
    loss = (embedded.softmax(dim=0) * head(rows[in_order])).square().sum()
    loss.backward()
    group.all_reduce_gradients(tower, head.parameters())
    alone = [weights.T.clone().requires_grad_() for _ in range(2)]
    expected = ((rows[in_order] @ alone[0].T).softmax(dim=0) * (rows[in_order] @ alone[1].T)).square().sum()
    expected.backward()
    results["all_gather"] = (embedded.detach(), (rows[in_order] @ weights))
    results["loss"] = (loss.detach(), expected.detach())
    results["gradient of the tower"] = (tower.weight.grad, alone[0].grad)
    results["gradient of the rest"] = (head.weight.grad, alone[1].grad)

    results["all_reduce"] = (
        group.all_reduce(np.full(2, group.rank + 1.0)),
        np.full(2, group.size * (group.size + 1) / 2),
    )
    results["broadcast"] = (group.broadcast({"from": group.rank}), {"from": 0})
    results["all_gather_object"] = (dict(enumerate(group.all_gather_object(str(group.rank)))), {0: "0", 1: "1"})
    own = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(own.weight, float(group.rank))
    with torch.no_grad():
        group.broadcast_module(own)
    results["broadcast_module"] = (own.weight.detach(), torch.zeros(1, 2))
    return group.size, (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS), results


def test_a_process_alone_is_a_group_of_one():
    group, rows, numbers = ProcessGroup(), torch.ones(3, 2, requires_grad=True), np.arange(3.0)
    assert group.is_mine(4).all()
    assert group.all_gather(rows) is rows
    assert group.all_reduce(numbers) is numbers
    assert group.broadcast("own") == "own"
    assert group.all_gather_object("own") == ["own"]


def test_what_processes_do_together_equals_what_one_does(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    size, limits, results = run_on_devices(everything_that_a_group_does, (CPU, CPU), 3)
    assert size == 2
    assert limits == (True, None)
    for actual, expected in results.values():
        if isinstance(actual, dict | int):
            assert actual == expected
        else:
            np.testing.assert_allclose(actual, expected, atol=1e-5)


def run_out_of_memory(group):
    if group.rank == 1:
        raise MemoryError("of the second device")
    group.all_reduce(np.ones(1))  # which the other never joins


def test_what_one_process_raises_comes_back_with_its_traceback():
    with pytest.raises(MemoryError, match="of the second device") as error:
        run_on_devices(run_out_of_memory, (CPU, CPU))
    assert "in run_out_of_memory" in str(error.value.__cause__)


def interrupt_who_waits(group, folder, who):
    if group.rank == 0:
        os.kill(who, signal.SIGINT)
        time.sleep(300)
    while list(folder.glob("*skl2rclip*")):
        time.sleep(1e-3)
    raise FileNotFoundError("what the process that waited had laid down is gone")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_processes_end_when_nobody_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(multiprocessing.active_children())
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run_on_devices(interrupt_who_waits, (CPU, CPU), tmp_path, os.getpid())
    finally:
        signal.signal(signal.SIGINT, former)
    left = set(multiprocessing.active_children()) - before
    for process in left:
        process.join(60)
        assert process.exitcode is not None
    assert not list(tmp_path.glob("*skl2rclip*")) + list(tmp_path.glob("pytorch-errorfile*"))


def test_who_cannot_start_processes_is_told_before_work(monkeypatch):
    def refused(match):
        with pytest.raises(InvalidParameterError, match=rf"device=\['cpu', 'cpu'\] names .* but {match}"):
            check_devices((CPU, CPU))
        check_devices((CPU, CPU), starts_processes=False)

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "__main__", SimpleNamespace(__file__="<stdin>", __spec__=None))
        refused("they cannot import what a notebook")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "ps1", ">>> ", raising=False)
        refused("they cannot import what a notebook")
    for process, match in [
        (SimpleNamespace(_inheriting=True, daemon=False), "they import the script, and it starts a fit"),
        (SimpleNamespace(daemon=True), "this is itself a process of a pool or a search"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(multiprocessing, "current_process", lambda process=process: process)
            refused(match)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "loky")
    refused("this is itself a process of a pool or a search")


@pytest.mark.parametrize(
    ("count", "expected"), [(["cuda:1", "cuda:0"], {"accelerator": "cuda", "devices": [1, 0]}),
                            (["cpu"] * 3, {"accelerator": "cpu", "devices": 3})],
)  # fmt: skip
def test_each_process_gets_its_own_device(monkeypatch, count, expected):
    import lightning_fabric

    asked = {}

    class Recorded:
        def __init__(self, **options):
            asked.update(options)
            raise InterruptedError

    monkeypatch.setattr(lightning_fabric, "Fabric", Recorded)
    with pytest.raises(InterruptedError):
        run_on_devices(everything_that_a_group_does, tuple(torch.device(name) for name in count))
    assert {name: asked[name] for name in expected} == expected


def test_what_several_devices_need_is_said_before_work(monkeypatch):
    check_devices((CPU, CPU))
    with pytest.raises(InvalidParameterError, match=r"works on 'cuda' and on 'cpu' only; .* name one device"):
        check_devices((torch.device("mps"), torch.device("mps")))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_devices((CPU,))
    with pytest.raises(InvalidParameterError, match=r"device=\['cpu', 'cpu'\].*lightning-fabric.*pip install"):
        check_devices((CPU, CPU))


# ------------------------------------------------------------------------ fits


@pytest.mark.usefixtures("as_users_start_them")
def test_two_processes_learn_what_one_does(make, shades, tmp_path):
    X, y = shades[0][:39], shades[1][:39]  # shares of unlike size, in one batch
    weight = np.where(np.arange(39) % 3 == 0, 2.0, 0.5)
    settings = {"early_stopping": True, "rank_names": lambda rank: f"{rank} of 4", "checkpoint_dir": tmp_path}
    one = make(**settings).fit(X, y, weight)
    two = make(**settings, device=TWO).fit(X, y, weight)
    assert [entry["stage"] for entry in two.history_] == [entry["stage"] for entry in one.history_]
    for a, b in zip(one.history_, two.history_, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4)
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], abs=1e-4)
    np.testing.assert_allclose(two.prototypes_, one.prototypes_, atol=1e-4)
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), atol=1e-3)
    assert len(list(tmp_path.glob("fit-*/model.json"))) == 2


def test_two_processes_select_the_epochs_that_one_does(make):
    y = np.tile(np.arange(5), 16)
    X, settings = barred_images(y, 0), {"image_epochs": 12, "image_learning_rate": 1e-3}
    one, two = (make(device=device, **settings).fit(X, y) for device in ("cpu", TWO))
    assert "image_tower" in {entry["stage"] for entry in one.history_}
    assert [entry["loss"] for entry in two.history_] == pytest.approx([e["loss"] for e in one.history_], abs=1e-3)
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), atol=5e-3)


def test_many_batches_and_paths(make, shades, shade_paths):
    y = shades[1]
    settings = {"batch_size": 7, "augment": True, "image_epochs": 3, "prompt_epochs": 10, "image_adapter": None}
    two = make(device=TWO, **settings).fit(shade_paths, y)
    assert two.n_iter_ == 13
    assert two.history_[-1]["loss"] < two.history_[0]["loss"]
    assert np.isfinite(two.predict_proba(shade_paths)).all()


def test_a_frozen_tower_is_shared_too(make_classifier, shades):
    one, two = (make_classifier(device=device).fit(*shades) for device in ("cpu", TWO))
    np.testing.assert_allclose(two.predict_proba(shades[0]), one.predict_proba(shades[0]), atol=1e-4)


def test_damaged_images_of_all_shares_are_named_together(make, shades, shade_paths, tmp_path):
    paths = list(shade_paths)
    for place in (3, 8):  # one in the share of each process
        paths[place] = str(tmp_path / f"{place}.png")
        with open(shade_paths[place], "rb") as whole, open(paths[place], "wb") as cut:
            cut.write(whole.read()[:-200])
    with pytest.raises(UnreadableImagesError, match=rf"2 images of 40.*\n  X\[3\] \({paths[3]}\): ") as error:
        make(device=TWO).fit(paths, shades[1])
    assert sorted(error.value.failures) == [3, 8]


def test_errors_come_back(make, shades):
    with pytest.raises(NonFiniteLossError, match="not finite at learning rate"):
        make(device=TWO, image_learning_rate=1e30, image_epochs=3, image_adapter=None).fit(*shades)
    with pytest.raises(InvalidParameterError, match="9 devices, more than the 5 images"):
        make(device=["cpu"] * 9).fit(shades[0][:5], shades[1][:5])
    with pytest.raises(InvalidParameterError, match="list of at least one such name"):
        make(device=[]).fit(*shades)
