"""Where to compute, in which precision, and what to say when the memory does not suffice.

Names become devices here. What several of them do together for one fit lives in ``_training.distributed``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.forks import in_forked_child, is_forked_child
from skl2rclip.errors import InvalidParameterError

DeviceNames = str | Sequence[str]
_Result = TypeVar("_Result")
# how torch says it of Apple's GPUs, and of the machine's own memory on Linux and on Windows
_NO_MEMORY = (
    "MPS backend out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough",
)
# of batch_size="auto"
MAX_AUTO_BATCH = 64


def _compute_alone() -> None:
    """Take one thread in a forked process, which has not inherited the threads that OpenMP would wait for for ever."""
    torch.set_num_threads(1)


in_forked_child(_compute_alone)
if is_forked_child():  # its parent had not needed torch for us, and may have computed with it otherwise
    _compute_alone()


def resolve_devices(device: DeviceNames, *, strict: bool = True) -> tuple[torch.device, ...]:
    """Choose where to compute: a device for each name, all of one type, those of CUDA distinct.

    "auto" is CUDA where there is one, else Apple's GPU, else the CPU. A device that is not there is refused, or if not
    `strict` replaced by the CPU with a warning, so that a model fitted elsewhere still predicts.
    """
    return tuple(_resolve(name, strict) for name in _names(device))


def resolve_device(device: DeviceNames, *, strict: bool = True) -> torch.device:
    """Choose where to predict: the first of `resolve_devices`; the others need not be there."""
    return _resolve(_names(device)[0], strict)


def _names(device: DeviceNames) -> tuple[str, ...]:
    """Names of the devices, of which a list holds one type only and none of CUDA twice."""
    names = (device,) if isinstance(device, str) else device
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidParameterError(
            "device must be 'auto', a name that torch knows such as 'cpu' or 'cuda:0', or a list of at least one such "
            f"name, got {device!r}."
        )
    if len(names) > 1:
        parsed = [] if "auto" in names else [_parse(name) for name in names]
        places = {(each.type, each.index or 0) for each in parsed}
        if len({each.type for each in parsed}) != 1 or (parsed[0].type == "cuda" and len(places) < len(parsed)):
            raise InvalidParameterError(
                "device must, as a list, name devices of one type, without 'auto' and none of CUDA twice, as in "
                f"['cuda:0', 'cuda:1'], got {device!r}."
            )
    return tuple(names)


def _parse(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise InvalidParameterError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:0' or another name that torch knows, got {name!r}."
        ) from None


def _resolve(name: str, strict: bool) -> torch.device:
    if name == "auto":
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((kind for kind, is_there in there.items() if is_there), "cpu"))
    resolved = _parse(name)
    problem = _problem_of(resolved)
    if problem is None:
        return resolved
    if strict:
        raise InvalidParameterError(f"device={name!r} is not available: {problem}; device='auto' takes what is there.")
    warn_user(f"device={name!r} is not available ({problem}); predicting on the CPU.")
    return torch.device("cpu")


def _problem_of(device: torch.device) -> str | None:
    """Why a device cannot be used, None where it can."""
    if device.type == "meta":
        return "it holds no data"
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"this machine has {count} usable CUDA devices" if (device.index or 0) >= count else None
    if device.type != "cpu":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, NotImplementedError, AssertionError):
            return "torch cannot use it on this machine"
    return None


def resolve_precision(precision: str, device: torch.device) -> str:
    """Precision of the towers: what "auto" stands for is bfloat16 on CUDA from Ampere on, else, on MPS too, float32."""
    if precision != "auto":
        return precision
    capable = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bfloat16" if capable else "float32"


def autocast_for(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which towers run on `device` in `precision`, which `resolve_precision` explains."""
    enabled = resolve_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def own_precision(*devices: torch.device | str) -> Iterator[None]:
    """Compute as the parameters say on these devices and the CPU, also in the block of a caller's `torch.autocast`."""
    with ExitStack() as stack:
        for kind in {"cpu", *(torch.device(device).type for device in devices)}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to where it is needed; to CUDA by pinned memory, without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory does not suffice, that of a device or the machine's; of some torch says so in plain words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give back the memory of a device that torch holds without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def in_batches(compute: Callable[[int], _Result], batch_size: int | str) -> _Result:
    """Call a function of a batch size; "auto" halves 64 as long as a device's memory does not suffice."""
    is_auto = batch_size == "auto"
    size = MAX_AUTO_BATCH if is_auto else int(batch_size)
    while True:
        try:
            return compute(size)
        except RuntimeError as error:
            if not is_out_of_memory(error) or not is_auto or size == 1:
                raise
        size //= 2


@contextmanager
def explain_out_of_memory(
    batch_size: int | str | None, doing: str = "", remedies: Sequence[str] = ()
) -> Iterator[None]:
    """Say which parameters to lower where memory runs out, with torch's or NumPy's own words behind.

    `batch_size` is None where it does not help; `remedies` are those that do beside it and what always does. The
    innermost of several such blocks says it, and `doing` says what was done. What the block has made is let go of
    although the error has a traceback, which notebooks keep.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            raise
        is_of_device = isinstance(error, torch.OutOfMemoryError) or "MPS" in str(error)
        lower = ["name a small one"] if batch_size == "auto" else ["lower batch_size or set it to 'auto'"]
        of_batches = [] if batch_size is None else lower
        always = ["run fewer fits at once (n_jobs of the search)"]
        *first, last = [*of_batches, *remedies, *always, "choose a smaller model_name"]
        at = "" if batch_size is None else f" at batch_size={batch_size!r}"
        raise MemoryError(
            f"{'The device' if is_of_device else 'The process'} ran out of memory{at}{doing and f' while {doing}'}: "
            f"{', '.join(first)}, or {last}. {error}"
        ) from error
