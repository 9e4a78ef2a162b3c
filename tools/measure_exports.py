"""Fit a small model over each family of image towers, hand it on, and print how far probabilities differ, and times.

Towers have random weights, and the images are made on the spot: what is measured is arithmetic, not skill. It needs
the packages of ``skl2rclip[onnx]`` and takes some minutes:

    python tools/measure_exports.py
"""

from __future__ import annotations

import argparse
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


def print_differences(folder, X, y):
    print("| model | module | ONNX, float32 | ONNX, float16 | MB, float32 | MB, float16 | export |")
    print("|---|---|---|---|---|---|---|")
    for kind, fitted in fitted_models(folder, X[:20], y[:20]):
        expected, module = fitted.predict_proba(X), fitted.to_torch()
        pixels = input_pixels(X, module)
        with torch.inference_mode():
            cells = [f"{np.abs(module(torch.from_numpy(pixels)).numpy() - expected).max():.0e}"]
        sizes, since = [], time.perf_counter()
        for precision in ("float32", "float16"):
            path = folder / f"{kind}-{precision}.onnx"
            fitted.export_onnx(path, precision=precision, verify=False)  # it is measured below
            cells.append(f"{np.abs(session_of(path).run(None, {'images': pixels})[0] - expected).max():.0e}")
            sizes.append(f"{path.stat().st_size / 1e6:.1f}")
        took = (time.perf_counter() - since) / 2
        print("|", " | ".join([kind, *cells, *sizes, f"{took:.0f} s"]), "|", flush=True)


def session_of(path, n_threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def print_times(folder, X, y, n_threads):
    """Print seconds of 64 images, all ways in turn, so that other work meets them alike."""
    print("\n| 64 images, seconds | with so many threads | `predict_proba` | `input_pixels` | module | ONNX Runtime |")
    print("|---|---|---|---|---|---|")
    for name in EMBEDDED:
        fitted, path = L2RCLIPClassifier(name, random_state=0, device="cpu").fit(X[:20], y[:20]), folder / "timed.onnx"
        fitted.export_onnx(path)
        module = fitted.to_torch()
        for n in n_threads:
            cells = times_of(fitted.set_params(n_jobs=n), module, session_of(path, n), X, n)
            print("|", " | ".join([f"`{name}`", str(n), *(f"{each:.2f}" for each in cells)]), "|", flush=True)


@torch.inference_mode()
def times_of(fitted, module, session, X, n_threads):
    torch.set_num_threads(n_threads)
    pixels = input_pixels(X, module)
    batches = torch.from_numpy(pixels).split(4)  # as many as a convolutional tower is quick with on the CPU
    return seconds(
        lambda: (forget_embeddings(), fitted.predict_proba(X)),
        lambda: input_pixels(X, module, n_jobs=n_threads),
        lambda: [module(batch) for batch in batches],
        lambda: session.run(None, {"images": pixels}),
    )


def seconds(*calls):
    taken = []
    for _ in range(5):
        for call in calls:
            since = time.perf_counter()
            call()
            taken.append(time.perf_counter() - since)
    return np.median(np.reshape(taken, (5, len(calls))), axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only-times", action="store_true", help="of 64 images, with the backbones of the package")
    parser.add_argument("--n-threads", type=int, nargs="+", default=[1], help="that each way has when it is timed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    y = np.arange(64) % 5
    X = made_photos(y)
    with tempfile.TemporaryDirectory() as name:
        if not options.only_times:
            print_differences(Path(name), X, y)
        print_times(Path(name), X, y, options.n_threads)


if __name__ == "__main__":
    main()
