"""Draw the figures of docs/inspection.md: each display once, for models that grade crops of two photographs.

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

from skl2rclip import find_duplicates, inspection

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
# of displays that are drawn otherwise than by default
OPTIONS: dict[str, dict[str, Any]] = {
    "AttributionDisplay": {"n_images": 10, "n_columns": 5},
    "LargestErrorsDisplay": {"n_images": 14},
    "RankDistributionDisplay": {"index": 7},
    "SortedPicturesDisplay": {"n_images": 27},
}


def fitted_models_and_test(folder: Path, n_train: int, n_test: int) -> tuple[dict[str, Any], list[str], list[str]]:
    """Fit model and probe of the example, and return them with paths and labels of the other photograph."""
    sys.path.insert(0, str(ROOT / "examples"))
    import graded_photographs as example

    rng = np.random.default_rng(0)
    train = example.write_crops("temple", folder / "train", n_train, rng)
    paths, labels = example.write_crops("flower", folder / "test", n_test, rng)
    models = {"L2RCLIP": example.classifier(device="cpu"), "linear probe": example.linear_probe()}
    return {name: model.fit(*train) for name, model in models.items()}, paths, labels


def with_copies(paths: list[str], labels: list[str]) -> tuple[list[Any], list[str]]:
    """Join images by changed copies of the first of them, of which one has another label."""
    first = [Image.open(path) for path in paths[:5]]
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in first[:3]]
    cropped = [image.crop((2, 1, 64, 62)) for image in first[1:3]]
    of_copies = [*labels[:3], "excellent", labels[2], labels[4]]
    return [*paths[:20], *mirrored, *cropped, first[4].copy()], [*labels[:20], *of_copies]


def displays(models: dict[str, Any], paths: list[str], labels: list[str]) -> dict[str, Any]:
    """Each display that there is by the name of its figure, which is that of its module, drawn."""
    drawn, model = {}, models["L2RCLIP"]
    for name in inspection.__all__:
        display = getattr(inspection, name)
        name_of_figure = display.__module__.split("._")[-1].replace("_", "-")
        if hasattr(display, "from_frame"):
            X, y = with_copies(paths, labels)
            drawn[name_of_figure] = display.from_frame(find_duplicates(X, y), X, y)
        elif hasattr(display, "from_estimators"):
            drawn[name_of_figure] = display.from_estimators(models, paths, labels)
        else:
            drawn[name_of_figure] = display.from_estimator(model, paths, labels, **OPTIONS.get(name, {}))
    return drawn


def write(figure: Any, path: Path) -> None:
    """Write a figure as a small PNG, of 256 colours."""
    content = io.BytesIO()
    figure.savefig(content, dpi=80)
    Image.open(content).convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the figures go")
    parser.add_argument("--n-train", type=int, default=800)
    parser.add_argument("--n-test", type=int, default=400)
    options = parser.parse_args()
    matplotlib.use("Agg")
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        models, paths, labels = fitted_models_and_test(Path(folder), options.n_train, options.n_test)
        for name, display in displays(models, paths, labels).items():
            path = options.folder / f"{name}.png"
            write(display.figure_, path)
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
