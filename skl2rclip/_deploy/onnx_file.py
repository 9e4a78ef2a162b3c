"""A fitted model as a file of ONNX, which appears under its name once ONNX Runtime has said the same as the model.

What is exported is the module of ``_deploy.torch_module``; packages of ONNX are imported where they are needed.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
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
from skl2rclip._utils.devices import own_precision
from skl2rclip._utils.scratch import put_in_place, scratch_folder
from skl2rclip.errors import InvalidParameterError

_log = logging.getLogger(__name__)
# of probabilities; in half precision the difference is measured, and more than this is refused
TOLERANCES = {"float32": 1e-4, "float16": 0.02}
_MIN_OPSET = 18
# a file of protobuf cannot be larger: of more arrays those of a kilobyte or more are in a second one
_MAX_BYTES = 2**31 - 2**24
_MIN_APART, _N_DIGITS = 1024, 8
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
    if target.exists() and not target.is_file():  # it would be replaced: /dev/null, say
        raise InvalidParameterError(f"path={str(path)!r} is a device or a pipe: name a file, such as model.onnx.")
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


@own_precision()
def write_onnx(module: RankModule, target: Path, opset: int | None, precision: str, verify: Any) -> float | None:
    """Write a file that says what the module says, or two; see `L2RCLIPClassifier.export_onnx`."""
    from onnx import checker

    _check_exportable(module, precision)
    compared = _expected(module, verify)
    model = _exported(module, opset)
    if precision == "float16":
        _store_in_half(model, module.head)
    with scratch_folder(target.parent, target.name) as folder:
        weights, written = _weights_apart(model, folder, target.name), folder / "model.onnx"
        written.write_bytes(model.SerializeToString())
        difference = _difference(written, compared) if compared else None
        _check_difference(difference, precision)
        known = {"precision": precision, "largest_difference": difference}
        if weights is not None:
            known["weights_file"] = weights.name
        _describe(model, {**module.description, **known})
        written.write_bytes(model.SerializeToString())
        checker.check_model(written)
        _put_in_place(written, weights, target)
    if weights is not None:
        _log.info("The weights of %s are in %s beside it.", target.name, weights.name)
    return difference


def _check_difference(difference: float | None, precision: str) -> None:
    if difference is None or difference <= TOLERANCES[precision]:
        return
    advice = "take precision='float32'" if precision == "float16" else "use to_torch(), or image_features='embedding'"
    raise RuntimeError(
        f"The exported model differs by {difference:.1e} from the fitted one, more than {TOLERANCES[precision]:.0e} of "
        f"a probability, and was not written: {advice}."
    )


def _weights_apart(model: Any, folder: Path, name: str) -> Path | None:
    """Move the arrays of a model that is too large for one file to a second one, which is named after their content.

    So it is never that of other weights: a model and weights that do not belong together are not found under one name.
    """
    from onnx import external_data_helper

    arrays = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _MIN_APART]
    if sum(len(tensor.raw_data) for tensor in arrays) <= _MAX_BYTES:
        return None
    digest = hashlib.sha256()
    for tensor in arrays:
        digest.update(tensor.raw_data)
    weights = folder / f"{name}.{digest.hexdigest()[:_N_DIGITS]}.data"
    for tensor in arrays:
        external_data_helper.set_external_data(tensor, weights.name)
    external_data_helper.write_external_data_tensors(model, str(folder))
    return weights


def _put_in_place(written: Path, weights: Path | None, target: Path) -> None:
    """Give a model its name once its weights have theirs; an earlier model has its own until then."""
    former = _weights_of(target)
    placed = None if weights is None else target.parent / weights.name
    try:
        if weights is not None and placed is not None:
            put_in_place(weights, placed)
        put_in_place(written, target)
    except BaseException:
        if placed is not None and placed not in former:
            placed.unlink(missing_ok=True)
        raise
    for old in former - {placed}:
        with contextlib.suppress(OSError):  # what is in use, on Windows
            old.unlink()


def _weights_of(target: Path) -> set[Path]:
    """Find the second file of a model that an earlier export wrote."""
    import onnx

    beside = set(target.parent.glob(f"{glob.escape(target.name)}.{'[0-9a-f]' * _N_DIGITS}.data"))
    if not beside or not target.is_file():
        return set()
    try:
        model = onnx.load(target, load_external_data=False)
    except Exception:  # whatever protobuf raises where it is no model
        return set()
    named = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data}
    return {path for path in beside if path.name in named}


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


def _difference(file: Path, compared: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest difference of probabilities under ONNX Runtime from the expected ones; NaN where there is such."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return float(np.max([np.abs(session.run(None, {name: rows})[0] - expected).max() for rows, expected in compared]))
