"""Graded images as a folder and as a table, a model that the command line has fitted on them, and how it is run."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from skl2rclip import L2RCLIPClassifier
from skl2rclip._cli.main import main
from tests.support.small_images import shaded_images

WORDS = ["bad", "poor", "fair", "good", "excellent"]
QUICK = ["--prompt-epochs", "1", "--image-features", "embedding", "--random-state", "0", "--device", "cpu"]


@dataclass(frozen=True)
class Ended:
    """What a command has said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self):
        return list(csv.DictReader(io.StringIO(self.out)))

    @property
    def json(self):
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture
def run(capsys):
    """Run a command line in this process."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(each) for each in arguments])
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def graded(tmp_path_factory):
    """Folder with a folder for each of five ranks, and eight images in each."""
    root = tmp_path_factory.mktemp("graded")
    y = np.tile(np.arange(5), 8)
    for number, (pixels, rank) in enumerate(zip(shaded_images(y), y, strict=True)):
        folder = root / WORDS[rank]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def table(graded):
    """Table of the same images, with names that its own folder does not hold, and four images a plant."""
    paths = sorted(path.relative_to(graded).as_posix() for path in graded.rglob("*.png"))
    file = graded.parent / "leaves.csv"
    with open(file, "w", encoding="utf-8", newline="") as opened:
        rows = [["file", "grade", "plant"], *([path, path.split("/")[0], i % 10] for i, path in enumerate(paths))]
        csv.writer(opened).writerows(rows)
    return file


@pytest.fixture(scope="session")
def saved(graded, tiny, tmp_path_factory):
    """Model that was fitted from the command line."""
    out = tmp_path_factory.mktemp("saved") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skl2rclip._training.initialization._ORDERING_STEPS", 5)
        assert main(["fit", str(graded), "--out", str(out), "--model-name", tiny, *QUICK]) == 0
    return out


@pytest.fixture(scope="session")
def model(saved):
    """The same, loaded."""
    return L2RCLIPClassifier.load(saved)


@pytest.fixture
def damaged(graded, tmp_path):
    """An image whose end is missing."""
    file = tmp_path / "damaged.png"
    shutil.copy(graded / "bad" / "00.png", file)
    file.write_bytes(file.read_bytes()[:-600])
    return file


def images_in(folder):
    return sorted(map(str, folder.rglob("*.png")))
