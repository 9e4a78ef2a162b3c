"""Grade photographs by quality
============================

Train on crops of one photograph, test on crops of another.

scikit-learn ships two real photographs. Crops of them are degraded at five severities (blur, sensor noise, JPEG
compression, under-exposure), named on the five-grade scale of ITU-R BT.500 and written as files; `L2RCLIPClassifier`
learns from the paths. The backbone is skl2rclip-tiny, the small CLIP inside the package, which has seen neither of the
two photographs; on larger images than these use ``model_name="ViT-B-16", pretrained="openai"``.

What one learns: how labels with an order go in, how far the predictions are off beside those of simpler methods, and
how to look at them. Beside the table, plots of the predictions are written where matplotlib is installed.

Run it with ``python graded_photographs.py``; it takes half a minute on two cores and needs no network.
"""

# sphinx_gallery_thumbnail_path = 'images/gallery/overview.png'

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.datasets import make_graded_photographs
from skl2rclip.metrics import mean_absolute_rank_error, quadratic_weighted_kappa

GRADES = ["bad", "poor", "fair", "good", "excellent"]


def write_crops(photograph: str, folder: Path, n: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Write `n` degraded crops of the "temple" or the "flower" and return paths and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    made = make_graded_photographs(n, photograph=photograph, random_state=rng)
    labels = [made.rank_names[grade] for grade in made.target]
    paths = [str(folder / f"{number:04d}-{label}.png") for number, label in enumerate(labels)]
    for path, pixels in zip(paths, made.data, strict=True):
        Image.fromarray(pixels).save(path)
    return paths, labels


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


def classifier(**parameters) -> L2RCLIPClassifier:
    """The images to grade are of another photograph, to which CLIP's embedding carries over best."""
    settings = {
        "image_features": "embedding",
        "ranks": GRADES,
        "prompt": "the quality of this photo is",
        "random_state": 0,
        **parameters,
    }
    return L2RCLIPClassifier("skl2rclip-tiny", **settings)


def linear_probe() -> Pipeline:
    """Logistic regression on the same embeddings."""
    return make_pipeline(CLIPImageEncoder("skl2rclip-tiny"), LogisticRegression(C=10, max_iter=2000))


def report(name: str, truth: list[str], predicted: np.ndarray) -> None:
    accuracy = accuracy_score(truth, predicted)
    mae = mean_absolute_rank_error(truth, predicted, ranks=GRADES)
    kappa = quadratic_weighted_kappa(truth, predicted, ranks=GRADES)
    print(f"{name:<42} {accuracy:8.3f} {mae:13.3f} {kappa:9.3f}", flush=True)


def draw(model: L2RCLIPClassifier, paths: list[str], labels: list[str], folder: Path) -> list[Path]:
    """Write plots of what the model says of the photograph that it has not seen."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("\nNo plots, because matplotlib is not installed: pip install matplotlib, and run this again.")
        return []
    from skl2rclip import inspection  # which takes matplotlib only to draw

    figure = plt.figure(figsize=(10, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2))
    ax, (left, right) = above.subplots(), below.subplots(1, 2)
    in_a_row = {"n_images": 7, "n_columns": 7, "text_kw": {"fontsize": 8}}
    inspection.SortedPicturesDisplay.from_estimator(model, paths, labels, ax=ax, **in_a_row)
    inspection.OrdinalConfusionDisplay.from_estimator(model, paths, labels, ax=left)
    inspection.RankPredictionDisplay.from_estimator(model, paths, labels, kind="predictions", ax=right)
    errors = inspection.LargestErrorsDisplay.from_estimator(model, paths, labels, n_images=12)
    written = []
    for name, drawn in {"overview.png": figure, "largest-errors.png": errors.figure_}.items():
        written.append(folder / name)
        drawn.savefig(written[-1])
        plt.close(drawn)
    return written


# what the second process runs: it has neither this file nor anything else of the first
PREDICT = """
import sys, joblib
model = joblib.load(sys.argv[1])
print(str(model.predict([sys.argv[2]])[0]), round(float(model.predict_expectation([sys.argv[2]])[0]), 2))
"""


def grade_in_a_second_process(model: Path, image: str) -> tuple[str, str]:
    """Return the grade of a file, and its expected position on the scale of 1 to 5."""
    command = [sys.executable, "-c", PREDICT, str(model), image]
    grade, position = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return grade, position


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("graded-photographs"), help="where images and model go")
    parser.add_argument("--n-train", type=int, default=800)
    parser.add_argument("--n-test", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of crops, noise and training")
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    train = write_crops("temple", options.folder / "train", options.n_train, rng)
    test = write_crops("flower", options.folder / "test", options.n_test, rng)
    print(f"{len(train[0])} crops of a temple to learn from, {len(test[0])} of a flower as the test: {options.folder}/")

    print(f"\n{'on the unseen photograph':<42} {'accuracy':>8} {'MAE in ranks':>13} {'QW kappa':>9}")
    constant = DummyClassifier(strategy="most_frequent").fit(train[0], train[1])
    report("most frequent rank", test[1], constant.predict(test[0]))
    report("ridge on colour and gradient statistics", test[1], ridge_on_statistics(train, test))
    report("linear probe of skl2rclip-tiny", test[1], linear_probe().fit(*train).predict(test[0]))
    zero_shot = classifier().fit_zero_shot()
    report("skl2rclip-tiny, zero-shot", test[1], zero_shot.predict(test[0]))

    start = time.perf_counter()
    model = classifier(verbose=1, random_state=options.seed).fit(*train)
    seconds = time.perf_counter() - start
    report(f"L2RCLIPClassifier, fitted in {seconds:.0f} s", test[1], model.predict(test[0]))

    file = options.folder / "model.joblib"
    joblib.dump(model, file)
    print(f"\nSaved {file} ({file.stat().st_size / 1e6:.1f} MB). A second process loads it and grades one file:")
    grade, position = grade_in_a_second_process(file, test[0][2])
    print(f"{test[0][2]} is {grade}, {position} on the scale of 1 to 5")

    plots = draw(model.set_params(verbose=0), *test, options.folder)
    if plots:
        print(f"\nPlots of the unseen photograph: {', '.join(map(str, plots))}")


if __name__ == "__main__":
    main()
