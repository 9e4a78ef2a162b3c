"""Lets memory run out at each stage of a fit and of a prediction, and prints what users are told.

What is promised: the error is a MemoryError (an UnreadableImagesError where it is one image that takes too much) that
names what to lower at that stage; nothing that was made stays alive, even while the error and its traceback are kept as
notebooks keep them; the estimator is as it was; and the same with smaller settings works.
``python tools/exhaust_memory.py`` takes a minute, and exits with 1 where the promise was broken.
"""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.pixel_store import account
from skl2rclip._training import initialization
from skl2rclip.errors import UnreadableImagesError

ERRORS = {
    "device": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "NumPy": lambda: MemoryError("Unable to allocate 5.00 GiB for an array with shape (1000, 671089)"),
    "torch": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
}
TUNED = {"image_tower": "finetune", "batch_size": 8}
SELECTING = {**TUNED, "early_stopping": False}
# what fails, in which fit, and a word that the error has to say
OF_FITS = {
    "reading headers": ("skl2rclip._images.decoding.open_header", {}, "n_jobs"),
    "decoding": ("skl2rclip._images.decoding._decode", {}, "max_memory"),
    "loading the backbone": ("skl2rclip._clip.backbone.load_embedded", {}, "model_name"),
    "embedding": ("skl2rclip._embedding.encoding.ImageEncoding._of_batch", {}, "batch_size"),
    "keeping pixels": ("skl2rclip._training.prepare.PixelStore", TUNED, "max_memory"),
    "measuring targets": ("skl2rclip._training.feature_selection.measure", {}, "image_features='embedding'"),
    "scatter of folds": ("skl2rclip._training.initialization.Scatter", {}, "n_views"),
    "candidates": ("skl2rclip._training.initialization.CandidateSelection", {}, "image_adapter='linear'"),
    "a step of prompts": ("skl2rclip._training.stages.PromptStage.step", {}, "batch_size"),
    "choosing epochs": ("skl2rclip._training.epoch_selection._Fold.run", SELECTING, "early_stopping"),
    "a step of the tower": ("skl2rclip._training.stages.TowerStage.step", TUNED, "precision"),
    "collecting": ("skl2rclip._training.trainer._collect", TUNED, "model_name"),
}
OF_PREDICTIONS = {
    "embedding": ("skl2rclip._embedding.encoding.ImageEncoding._of_batch", "batch_size"),
    "reading out": ("skl2rclip._model.state.read", "fewer images"),
}


def classifier(**parameters: Any) -> L2RCLIPClassifier:
    base = {"random_state": 0, "n_context_tokens": 3, "prompt_epochs": 1, "image_epochs": 1, "device": "cpu"}
    stopped = {"early_stopping": True, "validation_fraction": 0.34}
    return L2RCLIPClassifier("skl2rclip-tiny", **{**base, **stopped, **parameters})


def alive() -> dict[str, int]:
    """What is there of what takes memory."""
    gc.collect()
    objects = gc.get_objects()
    return {
        "bytes of tensors": sum(each.nbytes for each in objects if type(each) in (torch.Tensor, torch.nn.Parameter)),
        "bytes of pixels": account.n_bytes,
    }


def run_out(target: str, make_error: Callable[[], Exception], call: Callable[[], object]) -> tuple[Any, list[str]]:
    """Let memory run out where `target` is called; return the error, and what is wrong beside it."""
    large = []

    def fails(*_: object, **__: object) -> None:
        array = np.zeros((1000, 1000)).view(type("Large", (np.ndarray,), {}))
        large.append(weakref.ref(array))
        raise make_error()

    before = alive()
    with mock.patch(target, fails), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            kept: Any = error
        else:
            return None, ["no error"]
    problems = [] if large else ["nothing failed"]
    problems += ["what was made is still there"] if any(each() is not None for each in large) else []
    if isinstance(kept, MemoryError):  # of one image it is an error like others
        problems += [f"{now - before[what]} {what} are left" for what, now in alive().items() if now > before[what]]
    return kept, problems


def trial(stage: str, target: str, word: str, call: Callable[[], object], again: Callable[[], object]) -> bool:
    """Try each error at one stage, print what is said, and tell whether all is as promised."""
    is_good = True
    of_images = stage in ("reading headers", "decoding")
    for kind, make_error in ERRORS.items():
        if of_images and kind != "NumPy":  # torch is not there yet
            continue
        forget_embeddings()
        if "load_embedded" in target:
            unload_backbones()
        error, problems = run_out(target, make_error, call)
        if not isinstance(error, MemoryError | UnreadableImagesError):
            problems.append(f"{type(error).__name__}")
        elif word not in str(error):
            problems.append(f"does not name {word}")
        if kind == "NumPy" or problems:
            print(f"{stage:22} {kind:7} {str(error)[:330]}")
        for problem in problems:
            print(f"{'':22} WRONG: {problem}")
        is_good &= not problems
        del error
    again()
    return is_good


def without_checkpoint(root: Path, X: Any, y: np.ndarray) -> bool:
    """A checkpoint that cannot be written costs a warning."""
    with (
        mock.patch("skl2rclip._training.checkpoints._write", side_effect=ERRORS["torch"]()),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        classifier(checkpoint_dir=str(root / "checkpoints")).fit(X, y)
    said = [str(each.message) for each in caught if "checkpoint_dir" in str(each.message)]
    print(f"{'writing a checkpoint':22} torch   {said[0][:200] if said else 'WRONG: no warning'}")
    return bool(said)


def main() -> int:
    initialization._ORDERING_STEPS = 2
    logging.getLogger().setLevel(logging.ERROR)
    rng, y = np.random.default_rng(0), np.tile(np.arange(3), 6)
    is_good = True
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        root, X = Path(folder), []
        for i, k in enumerate(y):
            X.append(str(root / f"{i}.png"))
            Image.fromarray((rng.integers(0, 40, (40, 40, 3)) + 70 * k).astype(np.uint8)).save(X[-1])
        fitted = classifier().fit(X, y)
        classifier(**TUNED).fit(X, y).predict(X)
        print("In a fit")
        for stage, (target, parameters, word) in OF_FITS.items():
            estimator, smaller = classifier(**parameters), {**parameters, "batch_size": 4, "n_views": 1}
            before = dict(vars(estimator))
            is_good &= trial(
                stage,
                target,
                word,
                lambda estimator=estimator: estimator.fit(X, y),
                lambda smaller=smaller: classifier(**smaller).fit(X, y),
            )
            is_good &= vars(estimator) == before
        is_good &= without_checkpoint(root, X, y)
        print("In a prediction")
        for stage, (target, word) in OF_PREDICTIONS.items():
            is_good &= trial(stage, target, word, lambda: fitted.predict(X), lambda: fitted.predict(X[:2]))
        encoder = CLIPImageEncoder("skl2rclip-tiny", device="cpu").fit()
        target, word = OF_PREDICTIONS["embedding"]
        is_good &= trial("the encoder", target, word, lambda: encoder.transform(X), lambda: encoder.transform(X[:2]))
    print("all as promised" if is_good else "NOT as promised")
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
