"""A fitted model as a file of ONNX, which appears under its name once ONNX Runtime has said the same as the model.

What is exported is the module of ``_deploy.torch_module``; packages of ONNX are imported where they are needed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skl2rclip._deploy.pixels import input_pixels
from skl2rclip._deploy.torch_module import ImageModule, RankModule
from skl2rclip._utils.arguments import check_choice, check_integer
from skl2rclip._utils.scratch import scratch_folder
from skl2rclip.errors import InvalidParameterError

# of probabilities; in half precision the difference is measured, and more than this is refused
TOLERANCES = {"float32": 1e-4, "float16": 0.02}
_MIN_OPSET = 18
# a file of protobuf cannot be larger
_MAX_BYTES = 2**31 - 2**24
# numbers of an array that is worth it
_MIN_HALVED = 1024
_MAX_HALF = float(np.finfo(np.float16).max)
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
# of made input, of which the last batch is smaller: the size is to be free
_N_MADE = 33
_MAX_BATCH = 16


def checked_arguments(path: Any, opset: Any, precision: Any) -> Path:
    """Check what can be checked before any work, installed packages too, and return the path."""
    check_choice("precision", precision, TOLERANCES)
    if not isinstance(path, str | os.PathLike):
        raise InvalidParameterError(f"path must be a string or a path, got {path!r}.")
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder: name a file in it, such as model.onnx.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder {str(target.parent)!r}; make it first.")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"path={str(path)!r}: no permission to write into the folder {str(target.parent)!r}.")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"export_onnx needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'skl2rclip[onnx]'."
        )
    _check_opset(opset)
    return target


def _check_opset(opset: Any) -> None:
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    if check_integer("opset", opset, _MIN_OPSET, also=(None,)) is not None and opset > newest:
        raise InvalidParameterError(
            f"opset must be at most {newest}, which the installed onnx knows, or None for torch's choice, got {opset}."
        )


def write_onnx(module: RankModule, target: Path, opset: int | None, precision: str, verify: Any) -> float | None:
    """Write a file that says what the module says; see `L2RCLIPClassifier.export_onnx`."""
    from onnx import checker

    _check_exportable(module, precision)
    compared = _expected(module, verify)
    is_half = precision == "float16"
    model = _exported(module, opset)
    if is_half:
        _store_in_half(model, module.head)
    difference = _difference(model, compared) if compared else None
    if difference is not None and not difference <= TOLERANCES[precision]:
        advice = "take precision='float32'" if is_half else "use to_torch(), or image_features='embedding'"
        raise RuntimeError(
            f"The exported model differs by {difference:.1e} from the fitted one, more than "
            f"{TOLERANCES[precision]:.0e} of a probability, and was not written: {advice}."
        )
    _describe(model, {**module.description, "precision": precision, "largest_difference": difference})
    checker.check_model(model)
    with scratch_folder(target.parent, target.name) as folder:
        written = folder / "model.onnx"
        written.write_bytes(model.SerializeToString())
        os.replace(written, target)
    return difference


@torch.inference_mode()
def _expected(module: RankModule, verify: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """List inputs that the exported model is to be compared on, with what the module says of them."""
    if verify is None:
        raise InvalidParameterError("verify must be True, False, or images to compare on, got None.")
    rows: np.ndarray
    if isinstance(verify, bool | np.bool_):
        rows = module.example(_N_MADE if verify else 0).numpy()
    else:
        rows = input_pixels(verify, module) if isinstance(module, ImageModule) else np.asarray(verify, np.float32)
    inputs = [rows[start : start + _MAX_BATCH] for start in range(0, len(rows), _MAX_BATCH)]
    return [(rows, module(torch.from_numpy(rows)).numpy()) for rows in inputs]


def _check_exportable(module: RankModule, precision: str) -> None:
    if precision == "float16" and not isinstance(module, ImageModule):
        raise InvalidParameterError(
            "precision='float16' is for image towers, and this model reads a table (image_tower='precomputed'): its "
            "head stays in single precision."
        )
    n_bytes = sum(tensor.nbytes for tensor in module.state_dict().values())
    if n_bytes > _MAX_BYTES:
        raise InvalidParameterError(
            f"The image tower of {module.description['backbone']} has {n_bytes / 1e9:.1f} GB of weights, and a file of "
            f"ONNX holds less than 2: to_torch() takes any size."
        )


def _store_in_half(model: Any, head: torch.nn.Module) -> None:
    """Keep the tower's matrices in half precision, with a step that makes them single precision again.

    Runtimes do that once, when they load the file. Computing in half precision is for those that run on a GPU: on the
    CPU it is slower, and ONNX Runtime 1.32 has died of it.
    """
    from onnx import TensorProto, helper, numpy_helper

    of_head = [tensor.numpy() for tensor in head.state_dict().values()]
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or math.prod(tensor.dims) < _MIN_HALVED:
            continue
        values = numpy_helper.to_array(tensor)
        if any(np.array_equal(values, other) or np.array_equal(values.T, other) for other in of_head):
            continue
        name, half = tensor.name, values.clip(-_MAX_HALF, _MAX_HALF).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}_single", to=TensorProto.FLOAT))
    steps = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(steps)


def _exported(module: RankModule, opset: int | None) -> Any:
    """Let torch export a module, as ONNX's own description of a model, without what is known of this machine."""
    name = "images" if isinstance(module, ImageModule) else "rows"
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                module,
                (module.example(2),),
                dynamo=True,
                opset_version=opset,
                input_names=[name],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            model = program.model_proto
    except Exception as error:  # torch and onnxscript raise families of their own
        first = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"torch cannot export the model of {module.description['backbone']} to ONNX ({type(error).__name__}: "
            f"{first}): to_torch() gives the same model to PyTorch."
        ) from error
    reached = next(each.version for each in model.opset_import if each.domain == "")
    if opset not in (None, reached):
        raise InvalidParameterError(
            f"opset={opset} cannot be had with the installed torch and onnxscript, which give {reached}: name that, or "
            "None."
        )
    for each in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        del each.metadata_props[:]  # where in which file of this machine it comes from
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch and onnxscript say of their own steps from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(model: Any, description: dict[str, Any]) -> None:
    """Put what is known of a model into its metadata: strings as they are, and JSON of everything else."""
    from onnx import helper

    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in description.items()}
    helper.set_model_props(model, words)
    model.producer_name, model.producer_version = "skl2rclip", description["versions"]["skl2rclip"]
    model.graph.name = "L2RCLIPClassifier"


def _difference(model: Any, compared: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest difference of probabilities under ONNX Runtime from the expected ones; NaN where there is such."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return float(np.max([np.abs(session.run(None, {name: rows})[0] - expected).max() for rows, expected in compared]))
