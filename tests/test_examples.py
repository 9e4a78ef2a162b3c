"""The main job of the README at a smaller size."""

import subprocess
import sys
from pathlib import Path

import graded_photographs as example
import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier

from skl2rclip.metrics import mean_absolute_rank_error

ROOT = Path(__file__).parents[1]


def test_the_fitted_model_beats_both_baselines_on_an_unseen_photograph(tmp_path):
    rng = np.random.default_rng(0)
    temple, flower = example.photographs()
    train = example.write_crops(temple, tmp_path / "train", 400, rng)
    test = example.write_crops(flower, tmp_path / "test", 200, rng)
    constant = DummyClassifier(strategy="most_frequent").fit(*train).predict(test[0])
    model = example.classifier(device="cpu").fit(*train)
    error, constant_error, ridge_error = (
        mean_absolute_rank_error(test[1], predicted, ranks=example.GRADES)
        for predicted in (model.predict(test[0]), constant, example.ridge_on_statistics(train, test))
    )
    assert error < constant_error - 0.5
    assert error < ridge_error - 0.1


def test_the_script_runs_from_an_empty_folder(tmp_path):
    script = ROOT / "examples" / "graded_photographs.py"
    command = [sys.executable, str(script), "--n-train", "60", "--n-test", "40"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for expected in ("most frequent rank", "ridge on colour and gradient statistics", "zero-shot", "L2RCLIPClassifier",
                     "A second process loads it", "on the scale of 1 to 5"):  # fmt: skip
        assert expected in done.stdout
    assert (tmp_path / "graded-photographs" / "model.joblib").is_file()


@pytest.mark.parametrize("way", example.DEGRADATIONS, ids=lambda way: way.__name__)
def test_better_grades_are_nearer_to_the_original(way):
    original = Image.fromarray(example.photographs()[0][100:164, 200:264])
    rng = np.random.default_rng(0)
    distance = [np.abs(np.asarray(way(original, grade, rng)).astype(int) - original).mean() for grade in range(5)]
    assert (np.diff(distance) < 0).all()
