"""Fit a small model over each family of image towers, hand it on, and print how far probabilities differ.

Towers have random weights, and the images are made on the spot: what is measured is arithmetic, not skill. It needs
the packages of ``skl2rclip[onnx]`` and takes some minutes:

    python tools/measure_exports.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip._embedding.cache import forget_embeddings
from tests.deploy.conftest import MODELS, PREPROCESS, TOWERS, made_photos
from tests.support.small_models import write_model

EMBEDDED = ("skl2rclip-tiny", "skl2rclip-photo")


def fitted_models(folder, X, y):
    how = {"prompt_epochs": 2, "image_epochs": 2, "random_state": 0, "device": "cpu"}
    for name, (kind, parameters) in MODELS.items():
        labels = np.array(parameters["ranks"])[y * len(parameters["ranks"]) // 5] if "ranks" in parameters else y
        model_name = write_model(folder / name, TOWERS[kind], preprocess=PREPROCESS)
        yield name, L2RCLIPClassifier(model_name, **{**how, **parameters}).fit(X, labels)
    for name in EMBEDDED:
        yield name, L2RCLIPClassifier(name, **how).fit(X, y)


def seconds(call):
    taken = []
    for _ in range(3):
        since = time.perf_counter()
        call()
        taken.append(time.perf_counter() - since)
    return statistics.median(taken)


def predicted_anew(fitted, X):
    forget_embeddings()
    return fitted.predict_proba(X)


def main():
    warnings.simplefilter("ignore")
    y = np.arange(64) % 5
    X = made_photos(y)
    print("| model | module | ONNX, float32 | ONNX, float16 | MB, float32 | MB, float16 | export |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, fitted in fitted_models(folder, X[:20], y[:20]):
            expected, module = fitted.predict_proba(X), fitted.to_torch()
            pixels = input_pixels(X, module)
            with torch.inference_mode():
                cells = [f"{np.abs(module(torch.from_numpy(pixels)).numpy() - expected).max():.0e}"]
            sizes, since = [], time.perf_counter()
            for precision in ("float32", "float16"):
                path = folder / f"{kind}-{precision}.onnx"
                fitted.export_onnx(path, precision=precision, verify=False)  # it is measured below
                session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                cells.append(f"{np.abs(session.run(None, {'images': pixels})[0] - expected).max():.0e}")
                sizes.append(f"{path.stat().st_size / 1e6:.1f}")
            took = (time.perf_counter() - since) / 2
            print("|", " | ".join([kind, *cells, *sizes, f"{took:.0f} s"]), "|", flush=True)
        timed = onnxruntime.InferenceSession(
            str(folder / f"{EMBEDDED[-1]}-float32.onnx"), providers=["CPUExecutionProvider"]
        )
        batches = torch.from_numpy(pixels).split(4)  # as many as a convolutional tower is quick with on the CPU
        print(f"\n64 images on the CPU, {EMBEDDED[-1]}, from pixels on where nothing else is said:")
        with torch.inference_mode():
            print(f"module, in batches of 4 {seconds(lambda: [module(batch) for batch in batches]):.2f} s")
        print(f"ONNX Runtime {seconds(lambda: timed.run(None, {'images': pixels})):.2f} s")
        print(f"input_pixels {seconds(lambda: input_pixels(X, module)):.2f} s")
        from skl2rclip._embedding.cache import forget_embeddings

        print(
            f"predict_proba, decoding included {seconds(lambda: (forget_embeddings(), fitted.predict_proba(X))):.2f} s"
        )


if __name__ == "__main__":
    main()
