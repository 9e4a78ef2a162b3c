"""A device that is not there, played on the CPU: which tensors would be on it is followed through every operation."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CROSSING = ("aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::index_select")


class Pretended:
    """Which storages would be on the device, and the doubles among them; storages are kept, so that none is reused."""

    def __init__(self):
        self.storages, self.doubles, self.mixed, self.is_crossing = {}, [], [], False
        self.n_operations = 0

    def has(self, tensor):
        return tensor.untyped_storage()._cdata in self.storages

    def take(self, tensor, operation):
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage
        if tensor.dtype == torch.float64:
            self.doubles.append(operation)


class Operations(TorchDispatchMode):
    """What comes from tensors on the device is there too, the backward pass and the optimiser included."""

    def __init__(self, pretended):
        super().__init__()
        self._pretended = pretended

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result, pretended = function(*args, **(kwargs or {})), self._pretended
        if pretended.is_crossing:
            return result
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in given if pretended.has(tensor)]
        if there:
            pretended.n_operations += 1
            name = function._schema.name
            if name not in _CROSSING and any(tensor.dim() for tensor in given if not pretended.has(tensor)):
                pretended.mixed.append(name)
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    pretended.take(leaf, name)
        return result


class Device(TorchFunctionMode):
    """Answers with the name of the device, and moves tensors there and back by copies."""

    def __init__(self, pretended, kind="mps"):
        super().__init__()
        self._pretended, self._device = pretended, torch.device(kind)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, pretended = dict(kwargs or {}), self._pretended
        name = getattr(function, "__name__", "")
        if function == torch.Tensor.device.__get__:
            return self._device if pretended.has(args[0]) else function(*args)
        if name == "numpy" and pretended.has(args[0]):
            raise TypeError("can't convert mps device type tensor to numpy. Use Tensor.cpu() first")
        if name in ("to", "cpu"):
            return self._moved(function, name, args, kwargs)
        if self._is_device(kwargs.get("device")):
            result = function(*args, **{**kwargs, "device": "cpu"})
            pretended.take(result, name)
            return result
        return function(*args, **kwargs)

    def _is_device(self, value):
        return isinstance(value, str | torch.device) and torch.device(value).type == self._device.type

    def _moved(self, function, name, args, kwargs):
        pretended, tensor = self._pretended, args[0]
        wanted = [each for each in (*args[1:], *kwargs.values()) if isinstance(each, str | torch.device)]
        wanted += [
            self._device if pretended.has(each) else "cpu" for each in args[1:] if isinstance(each, torch.Tensor)
        ]
        goes = bool(wanted) and self._is_device(wanted[0])
        comes = name == "cpu" or (bool(wanted) and torch.device(wanted[0]).type == "cpu")
        args = tuple("cpu" if isinstance(each, str | torch.device) else each for each in args)
        kwargs = {key: "cpu" if isinstance(each, str | torch.device) else each for key, each in kwargs.items()}
        if (goes and pretended.has(tensor)) or (comes and not pretended.has(tensor)) or not (goes or comes):
            return function(*args, **kwargs)
        pretended.is_crossing = True
        try:
            result = function(tensor.clone(), *args[1:], **kwargs)
        finally:
            pretended.is_crossing = False
        if goes:
            pretended.take(result, "to")
        return result
