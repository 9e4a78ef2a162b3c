"""Every remedy that an error, a warning or a page prints as code is run on the input that provoked it."""

import base64
import enum
import io
import json
import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn import model_selection

from skl2rclip import find_unreadable
from skl2rclip._images.collection import as_image_list
from skl2rclip._ordinal.ranks import names_of, rank_scale
from skl2rclip._utils.arguments import class_weights_of
from skl2rclip.datasets import read_image_table

ROOT = Path(__file__).parents[2]
NAMES = {"np": np, "pd": pd, "pandas": pd, "os": os, "base64": base64, "Image": Image}


def remedy_of(provoke, pattern):
    """Code that an error, or else a warning, prints where `pattern` finds it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = provoke()
            said = " ".join(
                [*(str(each.message) for each in caught), *(result.values() if type(result) is dict else ())]
            )
        except Exception as error:  # whatever kind it is
            said = str(error)
    found = re.search(pattern, said)
    assert found, said
    return found[1]


def run(code, **names):
    """Run an expression or assignments, and return what it makes."""
    names = {**NAMES, **names}
    try:
        return eval(code, names)  # noqa: S307
    except SyntaxError:
        exec(code.replace("; ", "\n"), names)
        return names


# -------------------------------------------------------------------- labels

Grade = enum.Enum("Grade", {"LOW": "low", "HIGH": "high"})
WORDS = ["high", "low", "high"]
WRITTEN = pd.Series(["1", "2", "10"])

LABELS = {
    "generator": (lambda: (label for label in [2, 1]), r"(y=list\(y\))", [1, 0]),
    "dictionary": (lambda: {"a.png": 2, "b.png": 1}, r"(y=y\.values\(\))", [1, 0]),
    "one-hot": (lambda: np.eye(3)[[2, 0]], r"(y=np\.asarray\(y\)\.argmax\(axis=1\))", [1, 0]),
    "one-hot list": (lambda: np.eye(3)[[2, 0]].tolist(), r"(y=np\.asarray\(y\)\.argmax\(axis=1\))", [1, 0]),
    "one-hot tensor": (lambda: torch.eye(3)[[2, 0]], r"(y=np\.asarray\(y\)\.argmax\(axis=1\))", [1, 0]),
    "one-hot frame": (lambda: pd.get_dummies(pd.Series(WORDS)), r"(y=y\.idxmax\(axis=1\))", [1, 0, 1]),
    "one-hot polars": (
        lambda: pytest.importorskip("polars").Series("y", WORDS).to_dummies().rename(lambda name: name[2:]),
        r"(y=\[y\.columns\[k\] for k in np\.asarray\(y\)\.argmax\(axis=1\)\])",
        [1, 0, 1],
    ),
    "one-hot Arrow": (
        lambda: pytest.importorskip("pyarrow").table(pd.get_dummies(pd.Series(WORDS))),
        r"(y=\[y\.column_names\[k\] for k in np\.asarray\(y\)\.argmax\(axis=1\)\])",
        [1, 0, 1],
    ),
    "enumeration": (lambda: [Grade.HIGH, Grade.LOW], r"(y=\[label\.value for label in y\])", [1, 0]),
    "bytes": (lambda: [b"high", "low"], r"try (y=\[.*\])\.$", [1, 0]),
    "array of bytes": (lambda: np.array([b"high", b"low"]), r"decode them: (y=\[.*\])\.$", [1, 0]),
    "words beside numbers": (lambda: ["high", 1], r"try (y=\[str\(label\) for label in y\])", None),
    "beyond 64 bits": (lambda: [2**70 + 1, 2**70], r"(y=np\.subtract\(y, min\(y\)\)), or", [1, 0]),
    "beyond doubles": (lambda: np.array([10**18 + 1, 10**18]), r"(y=np\.subtract\(y, min\(y\)\)), or", [1, 0]),
    "beyond doubles, unsigned": (
        lambda: np.array([2**63 + 1, 2**63], np.uint64),
        r"(y=np\.subtract\(y, min\(y\)\)), or",
        [1, 0],
    ),
    "too far apart": (lambda: [2**70, 1], r": make them strings, (y=\[str\(label\) for label in y\]), and list", None),
    "lost in doubles": (
        lambda: [0, 10**18, 10**18 + 1],
        r"lost: make them strings, (y=\[str\(label\) .*\]), and",
        None,
    ),
}
RANKS = ["low", "high"]


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_taken_as_the_error_says(kind):
    make, pattern, target = LABELS[kind]
    y = make()
    code = remedy_of(lambda: rank_scale(make()), pattern)
    mended = run(code, y=y)["y"]
    words = [label for label in np.asarray(mended).tolist() if isinstance(label, str)]
    if target is None:
        assert rank_scale(mended, sorted(set(words)))[1].tolist() == [sorted(words).index(word) for word in words]
    else:
        assert rank_scale(mended, RANKS if words else None)[1].tolist() == target


def test_words_that_are_numbers_are_made_such():
    code = remedy_of(lambda: rank_scale(WRITTEN, [1, 2, 10]), r"(np\.asarray\(y\)\.astype\(float\))")
    assert rank_scale(run(code, y=WRITTEN), [1, 2, 10])[1].tolist() == [0, 1, 2]
    listed = remedy_of(lambda: rank_scale(WRITTEN, [1, 2, 10]), r"(ranks=\[.*\])\.$")
    assert rank_scale(WRITTEN, run(listed)["ranks"])[1].tolist() == [0, 1, 2]
    code = remedy_of(lambda: rank_scale([1, 2, 10], ["1", "2", "10"]), r"(np\.asarray\(ranks\)\.astype\(float\))")
    assert rank_scale([1, 2, 10], run(code, ranks=["1", "2", "10"]))[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("wrap", [pd.Series, pd.Categorical, pd.CategoricalIndex])
def test_categories_without_images_are_removed(wrap):
    y = wrap(pd.Categorical(WORDS, [*RANKS, "highest"], ordered=True))
    code = remedy_of(lambda: rank_scale(y), r"with (y.*\(\)), or list")
    assert rank_scale(run(code, y=y))[0].ranks.tolist() == RANKS


def test_intervals_become_words_in_their_order_as_the_page_says():
    code = re.search(r"first: `(y\.astype.*)`", page("labels.md"))[1]
    y = pd.Series(pd.cut([15, 1, 9], [0, 2, 10, 100]))
    assert rank_scale(run(code, y=y))[1].tolist() == rank_scale(y)[1].tolist() == [2, 0, 1]


def test_mappings_that_were_json_get_their_numbers_back():
    mapping = json.loads(json.dumps({0: "a", 1: "b"}))
    code = remedy_of(lambda: names_of(np.arange(2), mapping), r"(rank_names=\{.*\})\.$")
    assert names_of(np.arange(2), run(code, rank_names=mapping)["rank_names"]) == ("a", "b")
    weights, y = json.loads(json.dumps({0: 1, 1: 2})), np.arange(2)
    code = remedy_of(lambda: class_weights_of(weights, y, y, y == y), r"(class_weight=\{.*\})\.$")
    weights = run(code, class_weight=weights)["class_weight"]
    assert class_weights_of(weights, y, y, y == y).tolist() == [1, 2]


# -------------------------------------------------------------------- images


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "ä.png"
    Image.fromarray(np.arange(90, dtype=np.uint8).reshape(5, 6, 3)).save(path)
    return path


def array_of(photo):
    return np.asarray(Image.open(photo))


def stream_of(photo):
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(photo.read_bytes())
    return os.fdopen(reading, "rb")


class Records(list):
    def __getitem__(self, index):
        return [each[index] for each in self] if isinstance(index, str) else super().__getitem__(index)


# what is X, where the code stands in what is said, and by which names it calls things
IMAGES = {
    "one path": (lambda path: str(path), r"write (\[image\])", "image"),
    "one colour array": (array_of, r"write (X=\[image\])", "image"),
    "one more": (array_of, r"or (X=image\[None\])", "image"),
    "name as bytes": (lambda path: np.array([os.fsencode(path)]), r"of file names, (X=.*\])\.$", "X"),
    "channels first": (lambda path: [array_of(path).transpose(2, 0, 1)], r"(np\.moveaxis\(image, 0, -1\))", "image"),
    "bytes of a file": (lambda path: [np.fromfile(path, np.uint8)], r"(image\.tobytes\(\))", "image"),
    "tensor": (
        lambda path: [torch.tensor(array_of(path)).permute(2, 0, 1)],
        r"array: (tensor.*numpy\(\)) of",
        "tensor",
    ),
    "grey tensor": (lambda path: [torch.tensor(array_of(path))[..., 0]], r"array: (tensor\.numpy\(\))", "tensor"),
    "tensor of bytes": (
        lambda path: [torch.tensor(np.fromfile(path, np.uint8))],
        r"them: (tensor.*tobytes\(\))",
        "tensor",
    ),
    "masked": (lambda path: [np.ma.masked_equal(array_of(path), 3)], r"as with (X\[0\]\.filled\(0\))", "X"),
    "stream": (lambda path: [stream_of(path)], r"(file\.read\(\))", "file"),
    "records": (
        lambda path: Records([{"image": str(path), "label": 0}]),
        r"such as (X=data_set\['image'\])",
        "data_set",
    ),
    "pairs": (lambda path: [(str(path), 0)], r"take (X = \[.*\]) and", "pairs"),
    "base64": (lambda path: [base64.b64encode(path.read_bytes()).decode()], r"(base64\.b64decode\(text\))", "text"),
    "base64 in bytes": (
        lambda path: [base64.b64encode(path.read_bytes())],
        r"(base64.b64decode\(content\))",
        "content",
    ),
    "address": (lambda path: [path.as_uri()], r"give its path, ('.*')\.$", ""),
    "own folder": (lambda path: ["~/" + path.name], r"(os\.path\.expanduser\(path\))", "path"),
    "parts": (lambda path: {"train": [str(path)]}, r"(X\[name\])", "X"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_taken_as_the_error_says(photo, kind, monkeypatch):
    monkeypatch.setenv("HOME", str(photo.parent))
    make, pattern, name = IMAGES[kind]
    X = make(photo)
    code = remedy_of(lambda: find_unreadable(X), pattern)
    is_whole = isinstance(X, str | np.ndarray | dict | Records) or name in ("pairs", "X")
    made = run(code, **{name or "_": X if is_whole else X[0], "name": "train"})
    made = made["X"] if isinstance(made, dict) else made
    assert find_unreadable(made if isinstance(made, list) or getattr(made, "ndim", 0) == 4 else [made]) == {}


def test_images_of_data_sets_and_names_in_bytes_are_given_as_the_page_says(photo):
    assert "not an image" in find_unreadable([os.fsencode(photo)])[0]
    code = re.search(r"cannot be read: give `(os\.fsdecode\(name\))`", page("inputs-reference.md"))[1]
    assert find_unreadable([run(code, name=os.fsencode(photo))]) == {}
    datasets = pytest.importorskip("datasets")
    code = re.search(r"`(data_set\.cast_column\(.*?\)\[.*?\])`", page("inputs-reference.md"))[1]
    features = datasets.Features({"image": datasets.Image()})
    data_set = datasets.Dataset.from_dict({"image": [str(photo)]}, features=features)
    undecoded = run(code, data_set=data_set, Image=datasets.Image)
    assert [type(image) for image in as_image_list(undecoded)] in ([bytes], [str])
    assert find_unreadable(undecoded) == {}
    code = re.search(r"torchvision `(\[path for .*?\])`", page("inputs-reference.md"))[1]
    assert run(code, data_set=type("Folder", (), {"samples": [(str(photo), 0)]})) == [str(photo)]


def test_colours_in_the_order_of_opencv_are_turned_as_the_page_says(photo):
    code = re.search(r"of `cv2\.imread` give `(.*?)`", page("inputs-reference.md"))[1]
    turned = run(code, image=array_of(photo)[..., ::-1])  # what cv2.imread returns
    np.testing.assert_array_equal(as_image_list([turned])[0], array_of(photo))


@pytest.mark.parametrize("kind", [np.int16, np.int8, np.float32])
@pytest.mark.parametrize("white", [None, 255, 100])
def test_negative_values_are_scaled_and_do_not_wrap(kind, white):
    image = np.linspace(-120, 120, 64).reshape(8, 8).astype(kind)
    if white is None and kind is not np.float32:
        white = int(remedy_of(lambda: find_unreadable([image]), r"white_level=(\d+)"))
    code = remedy_of(lambda: find_unreadable([image], white_level=white), r"(np\.interp\(image, .*\))")
    scaled = run(code, image=image)
    assert find_unreadable([scaled], white_level=white) == {}
    assert (scaled.min(), scaled.max()) == (0, white or 1)
    assert (np.diff(scaled.ravel()) > 0).all()


def test_pairs_of_a_data_set_that_knows_its_names_keep_these(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    for grade in ("none", "mild", "severe"):
        (tmp_path / grade).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / grade / f"{grade}.png")
    whole = datasets.ImageFolder(tmp_path)
    for data_set in (whole, torch.utils.data.Subset(whole, [2, 0])):
        code = remedy_of(lambda each=data_set: as_image_list(each), r"take (X = \[.*\]): its numbers")
        made = run(code.replace(" and y", "; y"), data_set=data_set)
        assert len(as_image_list(made["X"])) == len(data_set)
        assert set(made["y"]) == {whole.classes[label] for _, label in data_set}
        with pytest.raises(ValueError, match=r"order is not known\. It looks like ranks="):
            rank_scale(made["y"])
    code = remedy_of(lambda: as_image_list(whole), r"(skl2rclip\.datasets\.load_image_folder\(data_set\.root\))")
    found = run(code, data_set=whole, skl2rclip=__import__("skl2rclip.datasets"))
    assert found.rank_names == ["none", "mild", "severe"]


# -------------------------------------------------------------------- tables


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4), "green").save(tmp_path / name)
    return tmp_path


ROWS = "path,rank\na.png,1\nb.png,2\nc.png,3\n"


@pytest.mark.parametrize(
    "content",
    [ROWS.encode("utf-16-le"), ROWS.encode("utf-16-be"), ROWS.replace("rank\n", "rank,früh\n").encode("cp1252")],
    ids=["utf-16-le", "utf-16-be", "cp1252"],
)
def test_text_of_another_encoding_is_read_as_the_error_says(folder, content):
    path = folder / "t.csv"
    path.write_bytes(content)
    code = remedy_of(lambda: read_image_table(path), r"(pandas\.read_csv\(\.\.\., encoding='[\w-]+'\))")
    frame = run(code.replace("...", "path"), path=path)
    assert read_image_table(frame, root=folder).target.tolist() == [1, 2, 3]


def test_a_word_that_pandas_took_for_nothing_is_read_as_the_warning_says(folder):
    path = folder / "t.csv"
    path.write_text("path,rank\na.png,None\nb.png,mild\nc.png,severe\n")
    lost = pd.read_csv(path)
    for provoke in (lambda: read_image_table(lost, root=folder), lambda: rank_scale(lost["rank"])):
        code = remedy_of(provoke, r"(pandas\.read_csv\(\.\.\., keep_default_na=False\))")
        frame = run(code.replace("...", "path"), path=path)
        assert read_image_table(frame, root=folder).rank_names == ["None", "mild", "severe"]


def test_tables_at_an_address_or_opened_are_read_as_the_error_says(folder):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/remedies/t.csv", ROWS.encode())
    address = "memory://remedies/t.csv"
    code = remedy_of(lambda: read_image_table(address), r"(table=pandas\.read_csv\(address\))")
    assert len(read_image_table(run(code, address=address)["table"], root=folder).data) == 3
    (folder / "t.csv").write_text(ROWS)
    code = remedy_of(lambda: read_image_table((folder / "t.csv").as_uri()), r"give its path, ('.*')\.$")
    assert len(read_image_table(run(code)).data) == 3
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        archive.write(folder / "t.csv", "t.csv")
    for table in (zipfile.Path(folder / "t.zip", "t.csv"), io.BytesIO(ROWS.encode()), io.StringIO(ROWS)):
        code = remedy_of(lambda table=table: read_image_table(table), r"(table=pandas\.read_csv\(.*\))\.$")
        assert len(read_image_table(run(code, table=table)["table"], root=folder).data) == 3


def test_ranks_that_may_be_thousands_are_listed_as_the_error_says(folder):
    (folder / "t.csv").write_text("path;rank\na.png;2,500\nb.png;10\n")
    for number in (1, 2):
        pattern = rf"say which with (?:ranks=.* or ){{{number - 1}}}(ranks=\[[\d., ]+\])"
        ranks = run(remedy_of(lambda: read_image_table(folder / "t.csv"), pattern))["ranks"]
        assert read_image_table(folder / "t.csv", ranks=ranks).ranks == ranks


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_folds_of_a_table_in_order_have_all_ranks_as_the_page_says(tmp_path):
    n_images, ranks = 8, [1, 1.5, 2, 2.5, 3]
    rows = [(f"{rank}-{i}.png", rank, f"plant {rank}-{i // 2}") for rank in ranks for i in range(n_images)]
    for name, _, _ in rows:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    table = pd.DataFrame(rows, columns=["file", "severity", "plant"])
    how = {"image": "file", "rank": "severity", "root": tmp_path}
    X, y = read_image_table(table, return_X_y=True, **how)
    folds = run(re.search(r"cv=(KFold\(.*?\))`", page("datasets.md"))[1], KFold=model_selection.KFold)
    numbered = read_image_table(table, ranks=["1", "1.5", "2", "2.5", "3"], **how).target
    for labels, cv in ((y, folds), (numbered, model_selection.check_cv(5, numbered, classifier=True))):
        assert all(len(np.unique(labels[train])) == 5 for train, _ in cv.split(X, labels))
    grouped = read_image_table(table, group="plant", ranks=["1", "1.5", "2", "2.5", "3"], **how)
    said = re.search(r"# where ranks are fractions (.*)\nfolds = (.*)", page("datasets.md"))
    for code in said.groups():
        labels = y if code.startswith("GroupKFold") else grouped.target
        cv = run(code, **vars(model_selection))
        assert all(len(np.unique(labels[train])) == 5 for train, _ in cv.split(X, labels, grouped.groups))


def test_an_order_that_is_asked_for_is_taken(folder):
    (folder / "t.csv").write_text("path,rank\na.png,dog\nb.png,cat\n")
    code = remedy_of(lambda: read_image_table(folder / "t.csv"), r"example (ranks=\[.*\]) put into")
    assert read_image_table(folder / "t.csv", **{"ranks": run(code)["ranks"]}).target.tolist() == [1, 0]
    (folder / "t.csv").write_text("path,rank\na.png,1\na.png,2\na.png,9\n")
    code = remedy_of(lambda: read_image_table(folder / "t.csv"), r'(repeated="median")')
    assert read_image_table(folder / "t.csv", **{"repeated": run(code)["repeated"]}).target.tolist() == [2]
