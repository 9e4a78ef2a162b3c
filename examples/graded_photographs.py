"""Grade photographs by quality: train on crops of one photograph, test on crops of another.

scikit-learn ships two real photographs. Crops of them are degraded at five severities (blur, sensor noise, JPEG
compression, under-exposure), named on the five-grade scale of ITU-R BT.500 and written as files; `L2RCLIPClassifier`
learns from the paths. No pre-trained weights are at hand without a download, so a small image tower is trained from
scratch here: with real CLIP weights use ``model_name="ViT-B-16", pretrained="openai"`` and leave the rest at its
defaults.

Run it with ``python graded_photographs.py``; it takes about a minute on two cores and needs no network.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeCV
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skl2rclip import L2RCLIPClassifier
from skl2rclip.metrics import mean_absolute_rank_error, quadratic_weighted_kappa

GRADES = ["bad", "poor", "fair", "good", "excellent"]
BLUR_RADIUS = [3.5, 2.2, 1.4, 0.8, 0.3]  # pixels
NOISE_DEVIATION = [64, 32, 16, 8, 2]  # grey levels of 255
JPEG_QUALITY = [4, 9, 18, 40, 90]
STOPS_UNDER = [3.2, 2.2, 1.4, 0.7, 0.1]  # halvings of the light

TOWER = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def blur(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    return crop.filter(ImageFilter.GaussianBlur(BLUR_RADIUS[grade]))


def sensor_noise(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    noisy = np.asarray(crop) + rng.normal(0, NOISE_DEVIATION[grade], (*crop.size[::-1], 3))
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def jpeg_compression(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=JPEG_QUALITY[grade])
    return Image.open(file).convert("RGB")


def under_exposure(crop: Image.Image, grade: int, rng: np.random.Generator) -> Image.Image:
    light = (np.asarray(crop) / 255) ** 2.2 * 2.0 ** -STOPS_UNDER[grade]
    return Image.fromarray((255 * light ** (1 / 2.2)).round().astype(np.uint8))


DEGRADATIONS = [blur, sensor_noise, jpeg_compression, under_exposure]


def write_crops(
    photograph: np.ndarray, folder: Path, n_crops: int, size: int, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Cut crops at random places, write each in every degradation and grade, and return paths and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, labels = [], []
    for number in range(n_crops):
        top, left = (int(rng.integers(side - size + 1)) for side in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + size, left : left + size])
        for degrade in DEGRADATIONS:
            for grade, label in enumerate(GRADES):
                path = folder / f"{number:03d}-{degrade.__name__}-{label}.png"
                degrade(crop, grade, rng).save(path)
                paths.append(str(path))
                labels.append(label)
    return paths, labels


def make_photographs(folder: Path, n_train: int = 50, n_test: int = 25, size: int = 64, seed: int = 0) -> dict:
    """Write training crops of the one photograph and test crops of the other."""
    rng = np.random.default_rng(seed)
    china, flower = load_sample_images().images
    return {
        "train": write_crops(china, folder / "train", n_train, size, rng),
        "test": write_crops(flower, folder / "test", n_test, size, rng),
    }


def colour_and_gradient_statistics(path: str) -> np.ndarray:
    """Thirty numbers that a hand-made quality measure would look at."""
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
    grey = pixels.mean(axis=2)
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    at_block_edges = np.abs(across[:, 7::8]).mean() / (np.abs(across).mean() + 1)
    return np.concatenate(
        [
            pixels.mean(axis=(0, 1)),
            pixels.std(axis=(0, 1)),
            np.percentile(grey, [1, 10, 50, 90, 99]),
            *(np.percentile(np.abs(values), [10, 50, 75, 90, 99]) for values in (across, down, laplacian)),
            np.log1p([across.var(), down.var(), laplacian.var()]),
            [at_block_edges],
        ]
    )


def ridge_on_statistics(train: tuple, test: tuple) -> np.ndarray:
    """Predict grades by ridge regression on the statistics, rounded to the nearest grade."""
    features, unseen = (np.stack([colour_and_gradient_statistics(path) for path in part[0]]) for part in (train, test))
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    ridge.fit(features, [GRADES.index(label) for label in train[1]])
    grades = ridge.predict(unseen).round().clip(0, len(GRADES) - 1).astype(int)
    return np.array(GRADES)[grades]


def classifier(folder: Path, **parameters) -> L2RCLIPClassifier:
    """An L2RCLIP whose image tower starts from random numbers."""
    tower = folder / "small-tower"
    tower.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": TOWER, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tower / "open_clip_config.json").write_text(json.dumps(config))
    settings = {
        "ranks": GRADES,
        "prompt": "the quality of this photograph is",
        "prompt_epochs": 0,
        "max_epochs": 20,
        "image_learning_rate": 1e-3,
        "random_state": 0,
        **parameters,
    }
    return L2RCLIPClassifier(f"local-dir:{tower}", None, **settings)


def report(name: str, truth: list[str], predicted: np.ndarray) -> None:
    accuracy = accuracy_score(truth, predicted)
    mae = mean_absolute_rank_error(truth, predicted, ranks=GRADES)
    kappa = quadratic_weighted_kappa(truth, predicted, ranks=GRADES)
    print(f"{name:<42} {accuracy:8.3f} {mae:13.3f} {kappa:9.3f}")


# what the second process runs: it has neither this file nor anything else of the first
PREDICT = """
import sys, joblib
model = joblib.load(sys.argv[1])
print(f"predicted {model.predict([sys.argv[2]])[0]!r}, expected position {model.predict_expectation([sys.argv[2]])[0]:.2f}")
"""


def predict_in_a_second_process(model: Path, image: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", PREDICT, str(model), image]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("graded-photographs"), help="where images and model go")
    parser.add_argument("--n-train", type=int, default=50, help="crops of the training photograph")
    parser.add_argument("--n-test", type=int, default=25, help="crops of the test photograph")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of crops, noise and training")
    options = parser.parse_args()

    photographs = make_photographs(options.folder, options.n_train, options.n_test, seed=options.seed)
    train, test = photographs["train"], photographs["test"]
    print(f"{len(train[0])} training images (a temple), {len(test[0])} test images (a flower), in {options.folder}/")
    print(
        "No pre-trained CLIP here: a small image tower is trained from scratch, beside a text tower of random weights."
    )

    start = time.perf_counter()
    model = classifier(options.folder, max_epochs=options.epochs, random_state=options.seed, verbose=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The backbone .* has random weights")
        model.fit(*train)
    seconds = time.perf_counter() - start

    print(f"\n{'on the unseen photograph':<42} {'accuracy':>8} {'MAE in ranks':>13} {'QW kappa':>9}")
    most_frequent = DummyClassifier(strategy="most_frequent").fit(train[0], train[1])
    report("most frequent rank", test[1], most_frequent.predict(test[0]))
    report("ridge on colour and gradient statistics", test[1], ridge_on_statistics(train, test))
    report(f"L2RCLIPClassifier, fitted in {seconds:.0f} s", test[1], model.predict(test[0]))

    file = options.folder / "model.joblib"
    joblib.dump(model, file)
    print(f"\nSaved {file} ({file.stat().st_size / 1e6:.1f} MB). A second process loads it and grades one file:")
    print(f"{test[0][2]}: {predict_in_a_second_process(file, test[0][2])}")


if __name__ == "__main__":
    main()
