"""What the reference shows of each public object: documentation that is whole, and examples that run as they stand."""

import doctest
import importlib
import inspect
import json

import numpy as np
import pandas as pd
import pytest
from numpydoc.validate import validate

from tests.support import stand_ins

MODULES = (
    "skl2rclip",
    "skl2rclip.metrics",
    "skl2rclip.datasets",
    "skl2rclip.inspection",
    "skl2rclip.errors",
    "skl2rclip.embedding_store",
)
OBJECTS = [f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__]
# not asked for: an example and "See Also" of each method, more than a summary where it says all, types of parameters
# that are said to be those of another method, and verbs: numpydoc takes each first word that ends in s for one
NOT_ASKED = {"ES01", "EX01", "PR04", "SA01", "SS05"}
AS_PRINTED, QUICKER = "**words, random_state=0)", "**words, random_state=0, prompt_epochs=1)"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def found(name):
    module, _, name = name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def own_methods(cls):
    """Public methods that do not come from scikit-learn or Python."""
    members = inspect.getmembers(cls, callable)
    ours = [(name, it) for name, it in members if not name.startswith("_")]
    return [name for name, it in ours if str(getattr(it, "__module__", None)).startswith("skl2rclip")]


CLASSES = [name for name in OBJECTS if inspect.isclass(found(name))]
DOCUMENTED = OBJECTS + [f"{name}.{method}" for name in CLASSES for method in own_methods(found(name))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders and tables of images by the names that examples call them."""
    folder = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for name in OBJECTS:
        benchmark = name.rpartition(".")[2].removeprefix("load_")
        if hasattr(stand_ins, benchmark):
            getattr(stand_ins, benchmark)(folder / benchmark)
    for rank in ("unripe", "ripe", "overripe"):
        stand_ins.draw(folder / "ripeness" / rank / "0.png", 0.5, rng)
    for n in range(4):
        stand_ins.draw(folder / f"{n}.jpg", n / 4, rng)
        stand_ins.draw(folder / "photos" / f"{n}.jpg", n / 4, rng)
    rows = {"file": [f"{n}.jpg" for n in range(4)], "severity": [0, 1, 0, 1], "plant": [1, 1, 2, 2]}
    pd.DataFrame(rows).to_csv(folder / "leaves.csv", index=False)
    boxes = [{"id": n, "image_id": n // 2, "category_id": n % 2, "bbox": [0, 0, 4 + n, 8]} for n in range(4)]
    coco = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 16, "height": 16} for n in range(2)],
        "categories": [{"id": 0, "name": "green"}, {"id": 1, "name": "ripe"}],
        "annotations": boxes,
    }
    (folder / "orchard.json").write_text(json.dumps(coco))
    return folder


def examples_of(name):
    documentation = inspect.getdoc(found(name)).replace(AS_PRINTED, QUICKER)
    return doctest.DocTestParser().get_doctest(documentation, {}, name, name, 0)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.filterwarnings("default")
def test_every_public_object_has_an_example_that_runs(name, folder, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(folder)
    test = examples_of(name)
    run = [example.source for example in test.examples if doctest.SKIP not in example.options]
    assert [source for source in run if not source.startswith(("from ", "import "))]
    printed = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
    plt.close("all")
    assert result.failed == 0, "".join(printed)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documentation_is_whole_in_the_form_of_numpydoc(name):
    assert [error for error in validate(name)["errors"] if error[0] not in NOT_ASKED] == []
