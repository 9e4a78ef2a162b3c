"""Code of README and documentation, and a folder of small images for it to run on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import GridSearchCV

from tests.support import stand_ins
from tests.support.small_images import shaded_images

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
_BLOCK = re.compile(r"^ *```python\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
_STEPS = ["unripe", "ripe", "overripe"]


def blocks(page: str) -> list[str]:
    """Blocks of Python of a page, which is told by the name of its file."""
    return _BLOCK.findall(PAGES[page].read_text(encoding="utf-8"))


def page_block(page: str, word: str) -> str:
    """Return the one block of a page that holds a word."""
    [block] = [block for block in blocks(page) if word in block]
    return block


def write_photos(folder: Path, names: list[str], *, size: tuple[int, int] = (36, 44)) -> list[str]:
    """Write images that are the brighter the later they come among `names`, in turns of five."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, shaded_images(np.arange(len(names)) % 5, size=size), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return [str(folder / name) for name in names]


def write_data_sets(folder: Path) -> None:
    """Write what the page of the data sets reads: a folder of fruit, two tables, annotations and a benchmark."""
    write_photos(folder / "fruit", [f"{step}/{i}.png" for i in range(4) for step in _STEPS])
    names = [f"{i}.png" for i in range(20)]
    write_photos(folder, names)
    grades = np.arange(20) % 5
    leaves = pd.DataFrame({"file": names, "severity": grades, "plant": np.arange(20) // 5})
    leaves.to_csv(folder / "leaves.csv", index=False)
    boxes = pd.DataFrame({"photo": names, "ripeness": grades, "x": 0, "y": 0, "width": 20, "height": 20})
    boxes.to_csv(folder / "apples.csv", index=False)
    write_photos(folder / "photos", names[:3])
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 44, "height": 36} for i in range(3)],
        "categories": [{"id": i, "name": step} for i, step in enumerate(_STEPS)],
        "annotations": [{"id": i, "image_id": i, "category_id": i, "bbox": [0, 0, 20, 20]} for i in range(3)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    stand_ins.adience(folder / "adience")


def given_names(folder: Path, clf) -> dict[str, object]:
    """Names that pages use without making them: images, their labels, whose they are, and a fitted classifier."""
    y = np.tile(np.arange(5), 5)
    paths = write_photos(folder / "given", [f"{i:02d}.png" for i in range(len(y))])
    others = write_photos(folder / "others", [f"{i:02d}.png" for i in range(5)])
    rng, cases = np.random.default_rng(0), np.arange(len(y)) // 5
    grid = {"pairwise_weight": [0.3]}
    return {
        "clf": clf,
        "search": GridSearchCV(clf, grid, cv=2, scoring="neg_mean_absolute_error"),
        "grid": grid,
        "paths": paths,
        "mirrored_paths": paths,
        "y": y,
        "grades": y,
        "X": paths,
        "X_test": others,
        "y_test": np.arange(5),
        "new_paths": others,
        "new_labels": np.arange(5),
        "words": np.array(["bad", "poor", "fair", "good", "excellent"])[y],
        "severities": np.array(["none", "mild", "severe", "severe", "severe"])[y],
        **dict.fromkeys(("groups", "patients", "patient", "plants", "fruit", "hand"), cases),
        "ratings": np.column_stack([y, y, np.where(rng.random(len(y)) < 0.5, y, np.nan)]),
        "Z": rng.normal(size=(len(y), 24)).astype(np.float32) + y[:, None],
        "frame": pd.DataFrame({"path": paths, "age": 20.0 + y, "weight": rng.normal(60, 5, len(y))}),
    }
