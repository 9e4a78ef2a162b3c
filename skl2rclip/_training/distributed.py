"""Several devices for one fit: a process for each, started and connected by Lightning Fabric.

Each process decodes and embeds its share of the images. The losses need the whole batch: every process gathers the
embeddings of all, computes the same loss, and passes its gradient through its own share, so that the summed gradients
are those of the whole batch. ``_utils.devices`` says which devices there are, ``_training.trainer`` what is
learned.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import joblib
import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from skl2rclip._utils.scratch import scratch_folder
from skl2rclip.errors import InvalidParameterError, NonFiniteLossError, UnreadableImagesError

T = TypeVar("T")
# what every process raises at the same place: the loss is of all, and failures are merged
_OF_ALL = (NonFiniteLossError, UnreadableImagesError)


class ProcessGroup:
    """The processes of a fit where this one is alone; collectives are named as torch's, and hand on what they get."""

    rank, size = 0, 1
    device: torch.device  # of several processes, where this one computes

    def is_mine(self, n: int) -> np.ndarray:
        """Mask of this process's share of n images."""
        return np.arange(n) % self.size == self.rank

    def all_gather(self, own: Tensor) -> Tensor:
        """Rows of all processes in order of rank, (size * b, ...); only this process's own pass a gradient on."""
        return own

    def all_reduce(self, array: np.ndarray) -> np.ndarray:
        """Sum of the processes' arrays."""
        return array

    def all_reduce_gradients(self, tower: nn.Module, rest: Iterable[nn.Parameter]) -> None:
        """Make the gradients of the whole batch out of those of the processes."""

    def broadcast(self, value: T) -> T:
        """Value of the first process, for all."""
        return value

    def all_gather_object(self, own: T) -> list[T]:
        """Values of all processes in order of rank."""
        return [own]

    def broadcast_module(self, module: nn.Module) -> None:
        """Give a module the weights that it has in the first process."""


class _FabricGroup(ProcessGroup):
    """One process's view of the processes that a launched Fabric connects."""

    def __init__(self, fabric: Any):
        self._fabric = fabric
        self.rank, self.size, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def all_gather(self, own: Tensor) -> Tensor:
        everyone = self._fabric.all_gather(own.detach())  # (size, b, ...)
        return torch.cat([own if rank == self.rank else rows for rank, rows in enumerate(everyone)])

    def all_reduce(self, array: np.ndarray) -> np.ndarray:
        total = self._fabric.all_reduce(torch.from_numpy(array).to(self.device), reduce_op="sum")
        return total.cpu().numpy()

    def all_reduce_gradients(self, tower: nn.Module, rest: Iterable[nn.Parameter]) -> None:
        # the tower's come from each process's own images, and add up; the others every process has in full, and their
        # mean keeps rounding errors from driving the processes apart
        for parameters, operation in ((tower.parameters(), "sum"), (rest, "mean")):
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
                reduced = self._fabric.all_reduce(flat, reduce_op=operation)
                for gradient, part in zip(gradients, reduced.split([g.numel() for g in gradients]), strict=True):
                    gradient.copy_(part.view_as(gradient))

    def broadcast(self, value: T) -> T:
        return self._fabric.broadcast(value)

    def all_gather_object(self, own: T) -> list[T]:
        return [self._fabric.broadcast(own, src=rank) for rank in range(self.size)]

    def broadcast_module(self, module: nn.Module) -> None:
        for tensor in module.state_dict().values():
            tensor.copy_(self._fabric.broadcast(tensor))


def run_on_devices(function: Callable[..., T], devices: tuple[torch.device, ...], *arguments: Any) -> T:
    """Run ``function(group, *arguments)`` in a process for each device, and return what the first one returns.

    The function is found by its name in a module, and the arguments are pickled. What it raises in one process or in
    all is raised here, with the traceback of that process as its cause.
    """
    from lightning_fabric import Fabric  # optional, and takes a second

    kind = devices[0].type
    places = [device.index or 0 for device in devices] if kind == "cuda" else len(devices)
    fabric = Fabric(accelerator=kind, devices=places, strategy="ddp_spawn")
    with scratch_folder(name="skl2rclip-devices") as folder:
        # through files: a pipe that is full lets no process start before the one before it has imported everything,
        # and Fabric waits for the processes before it empties the pipe that would hold the result
        joblib.dump(arguments, folder / "arguments")
        try:
            fabric.launch(_Call(function, folder))
        except (ProcessExitedException, ProcessRaisedException) as error:
            _raise_cause(folder, error)
        result = joblib.load(folder / "result")
    if isinstance(result, _OF_ALL):
        raise result
    return result


def _raise_cause(folder: Path, ended: Exception) -> NoReturn:
    # the first: where one process has failed, others may fail for want of it
    for file in sorted(folder.glob("error-*"), key=lambda file: file.stat().st_mtime_ns):
        error, trace = joblib.load(file)
        raise error from RuntimeError(f"in a process of a fit on several devices:\n{trace}")
    raise RuntimeError(
        f"A process of a fit on several devices ended early: {ended}. What it printed is above; where that is nothing, "
        "memory was short, or the script starts the fit outside of `if __name__ == '__main__':`."
    ) from ended


def check_devices(devices: tuple[torch.device, ...], *, starts_processes: bool = True) -> None:
    """Check that a fit on several devices can begin; one alone needs nothing."""
    if len(devices) == 1:
        return
    obstacle = None
    if devices[0].type not in ("cpu", "cuda"):
        obstacle = "that works on 'cuda' and on 'cpu' only"
    elif importlib.util.find_spec("lightning_fabric") is None:
        obstacle = "lightning-fabric is not installed: pip install 'skl2rclip[devices]'"
    elif starts_processes:
        obstacle = _obstacle()
    if obstacle is not None:
        listed = [str(device) for device in devices]
        raise InvalidParameterError(
            f"device={listed} names several devices, with a process for each, but {obstacle}; else name one device."
        )


def _obstacle() -> str | None:
    """Why processes that import what this one runs cannot be started from it."""
    process, main = multiprocessing.current_process(), sys.modules["__main__"]
    if getattr(process, "_inheriting", False):
        return "they import the script, and it starts a fit on import: put that under `if __name__ == '__main__':`"
    if process.daemon or multiprocessing.get_start_method(allow_none=True) == "loky":
        return "this is itself a process of a pool or a search, which cannot start them: leave n_jobs at None"
    file = getattr(main, "__file__", None)
    started_in = getattr(multiprocessing.process, "ORIGINAL_DIR", None) or ""  # from where they look for it
    is_there = file is None or os.path.exists(os.path.join(started_in, file))
    if hasattr(sys, "ps1") or not (is_there or getattr(main, "__spec__", None)):
        return "they cannot import what a notebook, an interactive session or the standard input holds: write a script"
    return None


class _Call:
    """What a process of a group runs, with the arguments in a folder, where the first one leaves the result."""

    def __init__(self, function: Callable[..., Any], folder: Path):
        self._function, self._folder = function, folder
        self._limits = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS  # each process decodes its share

    def __call__(self, fabric: Any) -> None:
        threading.Thread(target=_end_without, args=(self._folder,), daemon=True).start()
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self._limits
        group = _FabricGroup(fabric)
        if group.device.type == "cpu":
            torch.set_num_threads(max(1, joblib.cpu_count() // group.size))
        try:
            self._run(group)
        except Exception:
            if not self._folder.exists():  # nobody waits any more, and torch would leave a file for the error
                os._exit(1)
            raise
        fabric.barrier()  # no process leaves while another still talks to it
        torch.distributed.destroy_process_group()

    def _run(self, group: ProcessGroup) -> None:
        try:
            result = self._function(group, *self._arguments())
        except _OF_ALL as error:
            result = error
        except Exception as error:  # whatever it is, the process that waits raises it
            self._leave(error, f"error-{group.rank}")
            raise SystemExit(1) from error  # and ends the others
        if group.rank == 0:
            joblib.dump(result, self._folder / "result")

    def _arguments(self) -> tuple[Any, ...]:
        try:
            return joblib.load(self._folder / "arguments")
        except (AttributeError, ImportError) as error:
            raise ImportError(
                f"The processes of a fit on several devices import the script, and do not find there what the fit was "
                f"given: {error}. Define it in a module, or in the script above `if __name__ == '__main__':`."
            ) from error

    def _leave(self, error: Exception, name: str) -> None:
        """Leave an error, and where it came from, for the process that waits; whole or not at all."""
        part = self._folder / f"part of {name}"
        joblib.dump((error, traceback.format_exc()), part)
        joblib.load(part)  # some errors cannot be made again, and are told as text
        part.replace(self._folder / name)


def _end_without(folder: Path) -> None:
    """End this process when the folder is gone: whoever waited for the result does so no longer."""
    while folder.exists():
        time.sleep(1)
    os._exit(1)
