"""Measures what bfloat16 changes in predictions: by what is predicted together, and from float32.

Promised is the first: a row of probabilities does not depend on the images beside its own. The second is what the
hardware rounds, for the same fitted model. ``python tools/measure_bfloat16.py`` takes a minute or two on the CPU;
``--device cuda`` is for GPUs.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from skl2rclip import L2RCLIPClassifier
from skl2rclip._embedding.cache import forget_embeddings

KINDS = {
    "nothing set": {},
    "nothing set, skl2rclip-photo": {"model_name": "skl2rclip-photo"},
    "the embedding alone": {"image_features": "embedding"},
    "as published": None,
    "hard targets": {"rank_targets": "hard"},
    "fine-tuned": {"image_tower": "finetune", "image_epochs": 2, "early_stopping": True},
}


def blurred(image: np.ndarray, n: int, n_ranks: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Crops of a photograph, blurred more with each rank."""
    rng, crops, ranks = np.random.default_rng(seed), [], np.arange(n) % n_ranks
    for rank in ranks:
        top, left = rng.integers(0, image.shape[0] - 160), rng.integers(0, image.shape[1] - 160)
        crop = Image.fromarray(image[top : top + 160, left : left + 160])
        crops.append(np.asarray(crop.filter(ImageFilter.GaussianBlur(8 * float(rank) / n_ranks))))
    return crops, ranks


def predicted(classifier: L2RCLIPClassifier, images: list[np.ndarray], at_once: int) -> np.ndarray:
    forget_embeddings()
    parts = [images[start : start + at_once] for start in range(0, len(images), at_once)]
    return np.vstack([classifier.predict_proba(part) for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    warnings.simplefilter("ignore")
    china, flower = load_sample_images().images
    print("largest difference of a probability")
    print(f"{'fit':30} {'ranks':>5} {'alone':>9} {'by seven':>9} {'float32':>9}")
    for name, parameters in KINDS.items():
        for n_ranks in (5, 21):
            X, y = blurred(china, 4 * n_ranks + 40, n_ranks, 0)
            new, _ = blurred(flower, 60, n_ranks, 1)
            make = L2RCLIPClassifier.as_published if parameters is None else L2RCLIPClassifier
            rest = {"model_name": "skl2rclip-tiny", "precision": "bfloat16", "random_state": 0, "device": device}
            classifier = make(**{**rest, **(parameters or {})}).fit(X, y)
            together = predicted(classifier, new, len(new))
            differences = [abs(predicted(classifier, new, at_once) - together).max() for at_once in (1, 7)]
            classifier.set_params(precision="float32")
            differences.append(abs(predicted(classifier, new, len(new)) - together).max())
            print(
                f"{name:30} {n_ranks:5} {differences[0]:9.1e} {differences[1]:9.1e} {differences[2]:9.4f}", flush=True
            )


if __name__ == "__main__":
    main()
