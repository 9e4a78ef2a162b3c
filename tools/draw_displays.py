"""Draw the figures of docs/inspection.md: each display once, for a model that grades crops of two photographs.

Run it with ``python tools/draw_displays.py``; it needs matplotlib, and half a minute.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from skl2rclip import inspection

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
# of displays that are drawn otherwise than by default
OPTIONS: dict[str, dict[str, Any]] = {
    "LargestErrorsDisplay": {"n_images": 14},
    "RankDistributionDisplay": {"index": 7},
    "SortedPicturesDisplay": {"n_images": 27},
}


def fitted_model_and_test(folder: Path, n_train: int, n_test: int) -> tuple[Any, list[str], list[str]]:
    """Fit the model of the example, and return it with paths and labels of the other photograph."""
    sys.path.insert(0, str(ROOT / "examples"))
    import graded_photographs as example

    rng = np.random.default_rng(0)
    train = example.write_crops("temple", folder / "train", n_train, rng)
    paths, labels = example.write_crops("flower", folder / "test", n_test, rng)
    return example.classifier(device="cpu").fit(*train), paths, labels


def displays(model: Any, paths: list[str], labels: list[str]) -> dict[str, Any]:
    """Each display that there is by the name of its figure, which is that of its module, drawn."""
    drawn = {}
    for name in inspection.__all__:
        display = getattr(inspection, name)
        name_of_figure = display.__module__.split("._")[-1].replace("_", "-")
        drawn[name_of_figure] = display.from_estimator(model, paths, labels, **OPTIONS.get(name, {}))
    return drawn


def write(figure: Any, path: Path) -> None:
    """Write a figure as a small PNG, of 128 colours."""
    content = io.BytesIO()
    figure.savefig(content, dpi=80)
    Image.open(content).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the figures go")
    parser.add_argument("--n-train", type=int, default=800)
    parser.add_argument("--n-test", type=int, default=400)
    options = parser.parse_args()
    matplotlib.use("Agg")
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model, paths, labels = fitted_model_and_test(Path(folder), options.n_train, options.n_test)
        for name, display in displays(model, paths, labels).items():
            path = options.folder / f"{name}.png"
            write(display.figure_, path)
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
