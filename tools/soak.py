"""Fits and predicts for long, in threads and processes, and prints what memory and answers do.

``python tools/soak.py --fits 200 --predictions 1000000 --images 3000`` prints a row each so many; memory has to stay
where it was after the first tenth. ``python tools/soak.py --concurrent`` lets eight threads predict while another
estimator is fitted and while the same one is fitted again to other ranks, and predicts and fits in children of all
kinds. It exits with 1 where an answer is another than it may be, or memory grows. What oneDNN keeps for each of the
last 1,024 shapes of its inputs, some 80 MB, is no leak, and is switched off.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"  # read as torch is loaded

import numpy as np
from PIL import Image

from skl2rclip import L2RCLIPClassifier
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._training import initialization

WIDTH = 128
# that memory may grow after the first tenth
MAX_GROWTH_MB = 60.0


def resident_mb() -> float:
    """Memory that the process takes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


def table(n: int, n_ranks: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows in which the rank shows, and their ranks."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_ranks
    rows = rng.normal(size=(n, WIDTH)).astype(np.float32)
    rows[:, 0] += 3 * y
    return rows, y


def classifier(**parameters: Any) -> L2RCLIPClassifier:
    base = {"image_tower": "precomputed", "random_state": 0, "n_context_tokens": 3, "prompt_epochs": 1, "device": "cpu"}
    return L2RCLIPClassifier("skl2rclip-tiny", **{**base, **parameters})


def quiet() -> None:
    initialization._ORDERING_STEPS = 2
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


# ----------------------------------------------------------------- the soak


def soak(what: str, n: int, step: Any) -> bool:
    """Call `step` until it has done n, and print memory along the way; whether it stays where it was."""
    done, since, curve = 0, time.monotonic(), []
    while done < n:
        done += step()
        if done >= n * (len(curve) + 1) / 10:
            curve.append(resident_mb())
            print(f"{what:12} {done:9} {curve[-1]:8.0f} MB {time.monotonic() - since:8.0f} s", flush=True)
    return curve[-1] - curve[0] < MAX_GROWTH_MB


def run_soak(n_fits: int, n_predictions: int, n_images: int) -> bool:
    X, y = table(60)
    fitted = classifier().fit(X, y)
    expected, rng, rows = fitted.predict_proba(table(1000)[0]), np.random.default_rng(0), table(1000)[0]
    is_right = True

    def fit() -> int:
        nonlocal is_right
        is_right &= np.array_equal(classifier().fit(X, y).prototypes_, fitted.prototypes_)
        return 1

    def predict() -> int:
        nonlocal is_right
        n = int(rng.integers(1, 1001))
        is_right &= np.allclose(fitted.predict_proba(rows[:n]), expected[:n], atol=1e-6)
        return n

    is_flat = soak("fits", n_fits, fit) & soak("predictions", n_predictions, predict)
    with tempfile.TemporaryDirectory() as folder:
        paths, labels = [], np.arange(60) % 3
        for i, k in enumerate(labels):
            paths.append(str(Path(folder) / f"{i}.png"))
            Image.fromarray((rng.integers(0, 40, (48, 48, 3)) + 70 * k).astype(np.uint8)).save(paths[-1])
        of_images = classifier(image_tower="frozen").fit(paths, labels)
        of_each = of_images.predict_proba(paths)

        def predict_images() -> int:
            nonlocal is_right
            forget_embeddings()
            n = int(rng.integers(1, 61))
            is_right &= np.allclose(of_images.predict_proba(paths[:n]), of_each[:n], atol=1e-5)
            return n

        is_flat &= soak("images", n_images, predict_images)
    print(f"memory {'stays' if is_flat else 'GROWS'}, answers are {'right' if is_right else 'WRONG'}")
    return is_flat and is_right


# --------------------------------------------------------------- at one time


def child(estimator: L2RCLIPClassifier, rows: np.ndarray, expected: np.ndarray, fits: bool, answers: Any) -> None:
    quiet()
    is_right = np.allclose(estimator.predict_proba(rows), expected, atol=1e-6)
    if fits:
        is_right &= np.allclose(classifier().fit(*table(60)).predict_proba(rows), expected, atol=1e-4)
    answers.put(bool(is_right))


def in_child(method: str, *, daemon: bool, fits: bool, during_fit: bool) -> str:
    """Predict, and fit, in a child; what came of it."""
    X, y = table(60)
    fitted, rows = classifier().fit(X, y), table(50)[0]
    context, stop = multiprocessing.get_context(method), threading.Event()
    answers = context.Queue()

    def keep_fitting() -> None:
        while not stop.is_set():
            classifier().fit(X, y)

    other = threading.Thread(target=keep_fitting)
    expected = fitted.predict_proba(rows)
    if during_fit:
        other.start()
        time.sleep(0.3)
    process = context.Process(target=child, args=(fitted, rows, expected, fits, answers), daemon=daemon)
    process.start()
    try:
        return "right" if answers.get(timeout=120) else "WRONG"
    except Exception:
        return "WRONG: no answer in 120 s"
    finally:
        stop.set()
        process.kill()
        if during_fit:
            other.join()


def during(estimator: L2RCLIPClassifier, allowed: list[dict[str, np.ndarray]], rows: np.ndarray, run: Any) -> str:
    """Let eight threads predict while something runs; each answer must be one of those that are allowed."""
    stop, wrong, counts = threading.Event(), [], [0] * 8

    def predict(place: int) -> None:
        names = list(allowed[0])
        while not stop.is_set():
            name = names[counts[place] % len(names)]
            try:
                answer = getattr(estimator, name)(rows)
            except Exception as error:
                wrong.append(f"{name}: {error!r}")
                return
            if not any(answer.shape == each[name].shape and np.array_equal(answer, each[name]) for each in allowed):
                wrong.append(f"{name}: another answer")
            counts[place] += 1

    threads = [threading.Thread(target=predict, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    run()
    stop.set()
    for thread in threads:
        thread.join()
    return f"{sum(counts)} predictions, {len(wrong)} wrong {wrong[:2] if wrong else ''}"


def answers_of(estimator: L2RCLIPClassifier, rows: np.ndarray) -> dict[str, np.ndarray]:
    names = ("predict", "predict_proba", "predict_expectation", "predict_interval", "decision_function", "transform")
    return {name: getattr(estimator, name)(rows) for name in names}


def run_concurrent(n_refits: int) -> bool:
    (X, y), rows = table(60), table(50)[0]
    more = table(60, n_ranks=7, seed=1)
    three, seven = classifier().fit(X, y), classifier().fit(*more)
    old, new = answers_of(three, rows), answers_of(seven, rows)

    def refit() -> None:
        for _ in range(n_refits):
            three.fit(*more)
            three.fit(X, y)

    results = []

    def tell(what: str, result: str) -> None:
        print(f"{what:45} {result}", flush=True)
        results.append("WRONG" not in result and (" wrong" not in result or " 0 wrong" in result))

    fit_others = during(three, [old], rows, lambda: [classifier().fit(*more) for _ in range(n_refits)])
    tell("eight threads during fits of another", fit_others)
    tell("eight threads during fits of the same", during(three, [old, new], rows, refit))
    for number in range(5):
        tell(f"forked during a fit, {number}", in_child("fork", daemon=True, fits=True, during_fit=True))
    for method in ("fork", "spawn", "forkserver"):
        for daemon in (False, True):
            kind = f"{method}{', daemonic' if daemon else ''}"
            tell(f"predicts and fits: {kind}", in_child(method, daemon=daemon, fits=True, during_fit=False))
    return all(results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--predictions", type=int, default=10**6)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--concurrent", action="store_true", help="threads and processes instead of a soak")
    parser.add_argument("--refits", type=int, default=10)
    options = parser.parse_args()
    quiet()
    if options.concurrent:
        return int(not run_concurrent(options.refits))
    return int(not run_soak(options.fits, options.predictions, options.images))


if __name__ == "__main__":
    sys.exit(main())
