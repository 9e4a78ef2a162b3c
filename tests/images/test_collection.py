"""Whatever is handed over as X is read entry by entry, without a change to any image, or refused by name."""

import base64
import io
import mmap
import os
import tempfile
import zipfile
from collections import UserList, deque
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skl2rclip._images import decoding as images_module
from skl2rclip._images.collection import as_image_list, holds_images
from skl2rclip._images.decoding import open_image, read_image
from skl2rclip._images.files import Unread, known_problem, stamped
from skl2rclip._utils.arguments import check_no_embeddings
from tests.support.helpers import SQUARE, cache_for_tests, embedded, write_images


class Column:
    """A column of a data set that decodes when it is asked, by index or slice, as those of Hugging Face."""

    def __init__(self, entries):
        self.entries, self.asked = list(entries), []

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        if not isinstance(index, int):
            raise TypeError("integers only")
        if index >= len(self):
            raise RuntimeError("past the end")  # as some data sets do, which Python would go on asking
        self.asked.append(index)
        entry = self.entries[index]
        if isinstance(entry, Exception):
            raise entry
        return entry


class DataSet(Column):
    """Pairs, and where the images are in files also their paths."""


class Scalar:
    """As of an Arrow array."""

    def __init__(self, value):
        self.value = value

    def as_py(self):
        return self.value


class Frame:
    """A table with columns by name and no `iloc`, as of polars and Arrow."""

    def __init__(self, **columns):
        self.data, self.columns = columns, list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    def __getitem__(self, name):
        return self.data[name]

    def __iter__(self):
        return iter(self.columns)

    def __array__(self, *args, **options):
        raise AssertionError("nobody is to make an array of it")


class Recording(Image.Image):
    """An image that NumPy may not look at."""

    @property
    def __array_interface__(self):
        raise AssertionError("a PIL image was made an array")


def delicate_images():
    """Images that lose what they mean when they are made arrays."""
    palette = Image.new("P", (9, 7), 1)
    palette.putpalette([200, 10, 20, 30, 220, 40])
    clear = Image.new("P", (9, 7), 0)
    clear.putpalette([10, 20, 30])
    clear.putpixel((8, 6), 1)
    clear.info["transparency"] = 0
    turned = Image.linear_gradient("L").resize((9, 7))
    turned.getexif()[0x0112] = 6
    return [palette, clear, Image.new("CMYK", (9, 7), (10, 200, 30, 40)), turned]


def object_array(pil_images):
    array = np.empty(len(pil_images), dtype=object)
    for i, pil_image in enumerate(pil_images):
        array[i] = pil_image
    return array


def as_it_is(pil_image):
    return pil_image


FORMS = {
    "tuple": tuple,
    "generator": lambda pil_images: (pil_image for pil_image in pil_images),
    "map": lambda pil_images: map(as_it_is, pil_images),
    "dict_values": lambda pil_images: dict(enumerate(pil_images)).values(),
    "deque": deque,
    "UserList": UserList,
    "object array": object_array,
    "column of objects": lambda pil_images: object_array(pil_images)[:, None],
    "rows": lambda pil_images: [[pil_image] for pil_image in pil_images],
    "Series": lambda pil_images: pd.Series(pil_images, index=[7, 3, 5, 1]),
    "Index": lambda pil_images: pd.Index(object_array(pil_images)),
    "DataFrame": lambda pil_images: pd.DataFrame({"image": pil_images}, index=[7, 3, 5, 1]),
    "frame without iloc": lambda pil_images: Frame(pil_image=Column(pil_images)),
    "column": Column,
    "data set of one-tuples": lambda pil_images: DataSet((pil_image,) for pil_image in pil_images),
    "Arrow": lambda pil_images: Column(Scalar(pil_image) for pil_image in pil_images),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_container_changes_the_images_in_it(form):
    pil_images = delicate_images()
    for pil_image in pil_images:
        pil_image.__class__ = Recording
    images = as_image_list(FORMS[form](pil_images))
    assert len(images) == len(pil_images)
    assert all(image is pil_image for image, pil_image in zip(images, pil_images, strict=True))


@pytest.mark.parametrize("form", ["generator", "column", "Series", "DataFrame", "object array", "frame without iloc"])
def test_delicate_images_come_out_of_containers_as_they_are_alone(form):
    expected = [np.asarray(open_image(pil_image)) for pil_image in delicate_images()]
    for image, pixels in zip(as_image_list(FORMS[form](delicate_images())), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(open_image(image)), pixels)
    assert expected[0][0, 0].tolist() == [30, 220, 40]
    assert expected[1][:6].min() == 255
    assert expected[3].shape == (9, 7, 3)


def test_each_entry_is_asked_for_once_and_never_past_the_end():
    column = Column(["a.png", "b.png", "c.png"])
    assert as_image_list(column) == ["a.png", "b.png", "c.png"]
    assert column.asked == [0, 1, 2]


def test_frames_with_images_are_not_made_arrays_to_see_whether_they_hold_numbers():
    check_no_embeddings(Frame(pil_image=Column(delicate_images())))
    for frame in (pd.DataFrame(np.zeros((3, 4))), pd.DataFrame({"a": [1, 2], "b": [0.5, 1]}, dtype="Float64")):
        with pytest.raises(ValueError, match="table of numbers"):
            check_no_embeddings(frame)
    check_no_embeddings(pd.DataFrame({"a": ["0.5"], "b": [0.5]}))


def test_an_entry_that_a_container_cannot_decode_is_one_bad_image():
    images = as_image_list(Column(["a.png", OSError("image file is truncated"), "c.png", KeyError()]))
    assert images[::2] == ["a.png", "c.png"]
    assert images[1] == Unread("Column cannot read it: image file is truncated")
    assert images[3] == Unread("Column cannot read it: KeyError")


def test_memory_that_runs_out_is_no_bad_image():
    with pytest.raises(MemoryError):
        as_image_list(Column([MemoryError()]))


def test_a_data_set_of_pairs_is_refused_at_its_first_entry():
    data_set = DataSet([(Image.new("L", (2, 2)), 3), MemoryError()])
    with pytest.raises(TypeError, match=r"X\[0\] .*It holds Image, int: of pairs of images and labels, take X = \["):
        as_image_list(data_set)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([(Image.new("L", (2, 2)), 3)], TypeError, r"X\[0\] .*of pairs of images and labels, take X = \["),
        (zip(["a.png"], [3], strict=True), TypeError, "of pairs of images and labels"),
        ([{"image": 1, "label": 2}], TypeError, r"record with the fields 'image', 'label': choose the column"),
        ({"train": ["a.png"]}, TypeError, r"got dict: choose one of its entries, X\[name\]"),
        ({"a.png"}, TypeError, "got set"),
        (b"content", ValueError, r"got a single bytes: write \[image\]"),
        (io.BytesIO(b"content"), ValueError, r"got a single BytesIO: write \[image\]"),
        (Frame(a=["a.png"], b=["b.png"]), ValueError, "one column of images, got an array of shape"),
        (np.array([b"a.png", b"b.png"]), ValueError, r"drops zero bytes .* X=\[os.fsdecode\(name\)"),
        ([torch.zeros((3, 4, 4), dtype=torch.uint8)], TypeError, r"X\[0\] .*tensor.permute\(1, 2, 0\)"),
        (["a.png", float("nan")], TypeError, r"X\[1\] .*The entry is missing"),
        (pd.Series(["a.png", None], dtype="string"), TypeError, r"X\[1\] .*The entry is missing"),
        (["a.png", "HTTPS://example.org/a.png"], ValueError, r"X\[1\] is an address.*nothing is fetched"),
        (["s3://bucket/a.png"], ValueError, "give the content of the file, as bytes"),
        (["zip://a.png::b.zip"], ValueError, r"X\[0\] is an address.*nothing is fetched"),
        (["hf://datasets/a/b.png"], ValueError, r"X\[0\] is an address.*nothing is fetched"),
        (["data:image/png;base64,iVBORw0KGgo="], ValueError, r"X\[0\] is an address.*nothing is fetched"),
        (["file:///data/a%20b.png"], ValueError, r"X\[0\] is an address.*give its path, '.data.a b.png'"),
        (
            [np.zeros(9, np.uint8)],
            ValueError,
            r"got \(9,\)\. If it holds the bytes of a file, give them: image.tobytes",
        ),
        ([np.zeros((3, 8, 9), np.uint8)], ValueError, r"Its channels come first: np.moveaxis\(image, 0, -1\)"),
        ([torch.zeros(9, dtype=torch.uint8)], TypeError, r"the bytes of a file, give them: tensor.numpy\(\).tobytes"),
    ],
)
def test_what_is_no_image_is_refused_by_name(X, error, message):
    with pytest.raises(error, match=message):
        as_image_list(X)


class Coded(list):
    """Pairs whose numbers stand for names, as of torchvision."""

    classes = ["mild", "none"]  # noqa: RUF012


class InFiles(Coded):
    root = "grades"

    @property
    def samples(self):
        return [("a.png", label) for _, label in self]


PAIR = (Image.new("L", (2, 2)), 0)


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (
            Coded([PAIR]),
            r"for image, _ in data_set\] and y = \[data_set.classes\[label\] for _, label in data_set\]: its",
        ),
        (InFiles([PAIR]), r"for image, _ in data_set.samples\] .*_, label in data_set.samples\]: .*load_image_folder"),
        (
            torch.utils.data.Subset(InFiles([PAIR]), [0]),
            r"y = \[data_set.dataset.classes\[label\] .* in data_set\]: its",
        ),
        (
            type("InOrder", (Coded,), {"classes": ["none", "mild"]})([PAIR]),
            r"classes\[label\] for _, label in data_set\]\.$",
        ),
    ],
)
def test_numbers_of_pairs_are_mapped_through_their_names_where_these_are_known(X, said):
    with pytest.raises(TypeError, match=said):
        as_image_list(X)


def test_files_within_archives_and_file_systems_are_their_content(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "green").save(path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "a.png")
    fsspec.filesystem("memory").pipe("/collection/a.png", path.read_bytes())
    entries = [
        zipfile.Path(tmp_path / "a.zip", "a.png"),
        fsspec.open(f"zip://a.png::{tmp_path / 'a.zip'}"),
        fsspec.open("memory://collection/a.png"),
        fsspec.open("memory://collection/a.png").open(),
    ]
    assert as_image_list(entries) == [path.read_bytes()] * 4
    assert all(holds_images([entry]) for entry in entries)
    absent = [zipfile.Path(tmp_path / "a.zip", "b.png"), fsspec.open("memory://collection/b.png")]
    assert all("cannot read it" in image.problem for image in as_image_list(absent))


def test_text_of_an_image_is_no_name_of_a_file(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64), "green").save(path)
    text = base64.b64encode(path.read_bytes())
    for entry in (text.decode(), text, base64.encodebytes(path.read_bytes()).decode()):
        assert "text of an image in base64" in known_problem(stamped([entry])[0])
    assert "base64" not in stamped(["A" * 5000])[0].problem
    assert known_problem(path.read_bytes()) is None


def test_the_users_own_folder_is_not_expanded():
    assert "give os.path.expanduser(path)" in stamped(["~/no such file.png"])[0].problem


@pytest.mark.parametrize("X", [np.zeros((2, 3, 3), np.uint8), torch.zeros((2, 4, 5), dtype=torch.uint8)], ids=type)
def test_arrays_of_numbers_are_taken_as_a_whole(X):
    if X.shape[-1] == 3:
        with pytest.raises(ValueError, match="looks like one colour image"):
            as_image_list(X)
    else:
        assert [image.shape for image in as_image_list(X)] == [(4, 5)] * 2
    with pytest.raises(ValueError, match="Reshape your data"):
        as_image_list(pd.Series([1.0, 2.0]))


# ----------------------------------------------------------------- in memory


@pytest.fixture
def path(tmp_path):
    return write_images(tmp_path / "images", 1)[0]


def spooled(content):
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    file.write(content)
    return file


CONTENTS = {
    "bytes": lambda path: Path(path).read_bytes(),
    "bytearray": lambda path: bytearray(Path(path).read_bytes()),
    "memoryview": lambda path: memoryview(Path(path).read_bytes()),
    "BytesIO": lambda path: io.BytesIO(Path(path).read_bytes()),
    "open file": lambda path: open(path, "rb"),  # noqa: SIM115
    "unbuffered file": lambda path: open(path, "rb", buffering=0),  # noqa: SIM115
    "temporary file": lambda path: spooled(Path(path).read_bytes()),
    "record with content": lambda path: {"bytes": Path(path).read_bytes(), "path": "elsewhere.png"},
    "record with path": lambda path: {"bytes": None, "path": path},
    "np.str_": np.str_,
    "path-like": Path,
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("folder", [None, "cache"])
def test_what_is_in_memory_becomes_what_the_file_becomes(path, kind, folder, tmp_path):
    folder = folder and tmp_path / folder
    expected = embedded([path], None)
    given = CONTENTS[kind](path)
    for X in ([given], (given,), object_array([given]), Column([given, given])):
        rows = embedded(as_image_list(X), folder)
        np.testing.assert_allclose(rows, np.repeat(expected, len(X), axis=0), atol=1e-6)


def test_a_mapped_file_is_an_open_file(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert as_image_list([mapped]) == [Path(path).read_bytes()]


def test_open_files_are_read_from_their_beginning_and_left_where_they_were(path):
    with open(path, "rb") as file:
        file.seek(5)
        assert as_image_list([file, file]) == [Path(path).read_bytes()] * 2
        assert file.tell() == 5


def test_content_and_file_share_an_entry_of_the_cache(path, tmp_path):
    with cache_for_tests(tmp_path / "cache") as cache:
        [file, content] = stamped([path, Path(path).read_bytes()])
        assert cache.read(file)[0] == cache.read(content)[0]


def test_files_that_cannot_be_read_again_are_refused(path):
    closed = open(path, "rb")  # noqa: SIM115
    closed.close()
    reading, writing = os.pipe()
    with open(path, encoding="utf-8") as text, os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb") as end:
        for file, message in (
            (closed, r"X\[0\] is a file that has been closed"),
            (text, "opened for text .*mode 'rb'"),
            (io.StringIO("a"), "opened for text"),
            (pipe, "stream that cannot be read twice"),
            (end, "stream that cannot be read twice"),
        ):
            with pytest.raises(ValueError, match=message):
                as_image_list([file])


def test_embeddings_are_told_from_images_in_memory():
    for entry in (b"content", io.BytesIO(), Path("a.png"), Image.new("L", (2, 2))):
        assert holds_images([entry])
        for form in (Column, pd.Series, object_array):
            assert holds_images(form([entry]))
    for X in ([[1.0, 2.0]], [], {}, None, pd.Series([1.0]), Column([KeyError()]), pd.DataFrame({"a": [1.0]})):
        assert not holds_images(X)


# ------------------------------------------------------- the same image again


def test_an_image_that_comes_several_times_is_handed_on_as_it_is_and_decoded_once(path, monkeypatch):
    decoded = []
    monkeypatch.setattr(images_module, "read_image", lambda *given: decoded.append(1) or read_image(*given))
    lazy = Image.open(path)
    images = as_image_list([lazy, lazy, lazy])
    assert all(image is lazy for image in images)
    rows = embedded(images * 20, None, n_jobs=4)
    assert len(decoded) == 1
    np.testing.assert_array_equal(rows, np.repeat(rows[:1], 60, axis=0))
    np.testing.assert_allclose(rows[:1], embedded([path], None), atol=1e-6)
    np.testing.assert_array_equal(embedded([lazy], None), rows[:1])  # and again, now that it is decoded


def test_images_opened_from_files_are_what_the_files_are(tmp_path):
    paths = write_images(tmp_path, 5)
    expected = embedded(paths, None)
    for _ in range(2):
        np.testing.assert_allclose(embedded([Image.open(path) for path in paths], None), expected, atol=1e-6)
    assert SQUARE.size == (8, 8)


def test_arrays_of_strings_of_any_length_are_paths():
    X = np.array(["a.png", "b" * 50 + ".png"], dtype=np.dtypes.StringDType())
    assert as_image_list(X) == list(X)


def test_what_only_becomes_an_array_is_taken_as_that_array():
    class ArrayLike:
        def __array__(self, dtype=None, copy=None):
            return stacked

    stacked = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(np.stack(as_image_list(ArrayLike())), stacked)
    for alone in (np.float64(3), np.ndarray, Image.new("L", (4, 4))):
        with pytest.raises((TypeError, ValueError), match="X must be a sequence of images"):
            as_image_list(alone)


def test_a_stack_of_no_images_is_empty():
    for shape in ((0, 4, 4), (0, 8, 8, 3)):
        with pytest.raises(ValueError, match="X is empty"):
            as_image_list(np.zeros(shape, np.uint8))


def test_an_image_without_pixels_and_masked_values_are_refused_by_name():
    with pytest.raises(ValueError, match=r"X\[0\] must have at least one pixel, got a PIL image of 0 x 5"):
        as_image_list([Image.new("RGB", (0, 5))])
    masked = np.ma.masked_less(np.arange(25, dtype=np.uint8).reshape(5, 5), 4)
    with pytest.raises(ValueError, match=r"X\[0\] has masked values: fill them first"):
        as_image_list([masked])
    with pytest.raises(ValueError, match=r"X\[1\] has masked values"):
        as_image_list(np.ma.stack([np.ma.array(masked.data), masked]))
