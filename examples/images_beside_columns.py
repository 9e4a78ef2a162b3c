"""Images beside columns
=====================

Images and columns of a frame in one pipeline, and features of another kind with the names of the ranks.

What one learns: a `ColumnTransformer` puts what CLIP makes of an image beside measurements of it, each a block that is
brought to one size; and `L2RCLIPClassifier` learns from any features at all, with the words of the ranks as its
targets. Crops of one photograph, graded by quality, are the images; their sharpness, contrast and the like, thirty
numbers, are the measurements. The test are other crops of it.

Run it with ``python images_beside_columns.py``, beside ``graded_photographs.py``; it takes less than a minute on two
cores and needs no network.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from graded_photographs import GRADES, colour_and_gradient_statistics, write_crops
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.metrics import mean_absolute_rank_error


def frame_of(folder: Path, n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A row for each crop: its path, and its measurements in columns of their own; and its grade, from 0 to 4."""
    paths, labels = write_crops("temple", folder, n, np.random.default_rng(seed))
    measured = np.stack([colour_and_gradient_statistics(path) for path in paths])
    frame = pd.DataFrame(measured, columns=[f"measured_{i}" for i in range(measured.shape[1])])
    frame.insert(0, "path", paths)
    return frame, np.array([GRADES.index(label) for label in labels])


def classifier() -> L2RCLIPClassifier:
    """The words come from `model_name`, whatever the features are."""
    return L2RCLIPClassifier(
        "skl2rclip-tiny",
        image_tower="precomputed",
        rank_names=dict(enumerate(GRADES)),
        prompt="the quality of this photo is",
        random_state=0,
    )


def pipelines(measurements: list[str]) -> dict[str, Pipeline]:
    """The same classifier on three tables; pandas carries the names that tell the blocks apart."""
    clip = ("clip", CLIPImageEncoder("skl2rclip-tiny", image_features="both"), ["path"])
    measured = ("measured", StandardScaler(), measurements)
    tables = {"images": [clip], "measurements": [measured], "both": [clip, measured]}
    made: dict[str, Pipeline] = {
        name: make_pipeline(ColumnTransformer(parts), classifier()).set_output(transform="pandas")
        for name, parts in tables.items()
    }
    made["ridge on both"] = make_pipeline(
        ColumnTransformer(tables["both"]), StandardScaler(), RidgeCV(np.logspace(0, 6, 13))
    )
    return made


def error(y: np.ndarray, predicted: Any) -> float:
    """Mean absolute error in grades; what a regression says is rounded to the nearest."""
    ranks = np.arange(len(GRADES))
    return mean_absolute_rank_error(y, np.rint(predicted).clip(0, ranks[-1]).astype(int), ranks=ranks)


def main() -> None:
    """Fit each pipeline, and print its error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("images-beside-columns"), help="for the crops")
    parser.add_argument("--n", type=int, default=80, help="crops to learn from")
    parser.add_argument("--n-test", type=int, default=400, help="crops to predict")
    options = parser.parse_args()
    frame, y = frame_of(options.folder / "train", options.n, 0)
    test, true = frame_of(options.folder / "test", options.n_test, 1)
    print(f"{options.n} crops to learn from; mean absolute error in grades on {len(true)} others")
    for name, pipeline in pipelines(frame.columns[1:].tolist()).items():
        predicted = pipeline.fit(frame, y).predict(test)
        print(f"{name:<16} {error(true, predicted):.3f}")


if __name__ == "__main__":
    main()
