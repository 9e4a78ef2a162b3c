"""Where to compute, in which precision, and what to say when the memory does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from skl2rclip._validation import warn_user
from skl2rclip.errors import InvalidParameterError


def resolve_device(device: str, *, strict: bool = True) -> torch.device:
    """Choose where to compute.

    Parameters
    ----------
    device : str
        "auto" (CUDA where there is one, else the CPU) or a name that torch knows.
    strict : bool, default=True
        Raise where the device is not there; else warn and take the CPU, so that a model fitted elsewhere still
        predicts.

    Raises
    ------
    InvalidParameterError
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = None
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError):
        raise InvalidParameterError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:0' or another name that torch knows, got {device!r}."
        ) from None
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= count:
            problem = f"this machine has {count} usable CUDA devices"
    elif resolved.type != "cpu":
        try:
            torch.empty(1, device=resolved)
        except (RuntimeError, NotImplementedError, AssertionError):
            problem = "torch cannot use it on this machine"
        if resolved.type == "meta":
            problem = "it holds no data"
    if problem is None:
        return resolved
    if strict:
        raise InvalidParameterError(
            f"device={device!r} is not available: {problem}; device='auto' takes what is there."
        )
    warn_user(f"device={device!r} is not available ({problem}); predicting on the CPU.")
    return torch.device("cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """Precision of the towers: what "auto" stands for is bfloat16 on CUDA from Ampere on, else float32."""
    if precision != "auto":
        return precision
    capable = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bfloat16" if capable else "float32"


def autocast_for(precision: str, device: torch.device) -> torch.autocast:
    """Context in which towers run.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
    device : torch.device
    """
    enabled = resolve_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to where it is needed; to CUDA by pinned memory, without waiting for the copy."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def explain_out_of_memory(batch_size: int | str) -> Iterator[None]:
    """Say which parameters to lower where the device runs out of memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"The device ran out of memory at batch_size={batch_size!r}: lower batch_size (or set it to 'auto'), set "
            "grad_checkpointing=True where the image tower is trained, run fewer fits at once (n_jobs of the search), "
            f"or choose a smaller model_name. {error}"
        ) from error
