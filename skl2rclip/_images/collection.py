"""From whatever a user hands over as X to a list of paths, contents of files, PIL images and arrays.

Containers are read entry by entry: NumPy would make arrays of PIL images, without palette, EXIF and transparency. Only
arrays of numbers are taken as a whole. What cannot be an image is named here by its index; nothing is decoded.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
from PIL import Image

from skl2rclip._images.crops import ImageCrop
from skl2rclip._images.files import Unread, address_hint
from skl2rclip._utils.arguments import is_missing

_PATH = str | os.PathLike
_CONTENT = bytes | bytearray | memoryview
_KINDS = "a path, the content of a file, a PIL image or a uint8 array"


def as_image_list(X: Any, name: str = "X") -> list[Any]:
    """Turn what `fit` and `predict` accept as X into a list of paths, contents, PIL images or arrays, not decoded.

    Each entry is asked for once; what it raised then is an `Unread`. Arrays of booleans become uint8; others are of any
    integers or floats. An error names the index of what is no image, and what is wrong with it.
    """
    if hasattr(X, "__array__") and not _is_sequence(X) and not isinstance(X, Image.Image | np.generic | type):
        X = np.asarray(X)
    _check_container(X, name)
    column = _column_of(X, name)
    if column is None:
        images = [_checked(f"{name}[{index}]", image) for index, image in enumerate(_from_array(X, name))]
    else:
        entries = enumerate(_entries(column))
        pairs = _advice_of_pairs(X)
        images = [_checked(where := f"{name}[{index}]", _plain(where, entry), pairs) for index, entry in entries]
    if not images:
        used_up = " An iterator can be gone through once only: make it a list first." if _is_iterator(X) else ""
        raise ValueError(
            f"Found array with 0 sample(s) ({name} is empty) while a minimum of 1 image is required.{used_up}"
        )
    return images


def holds_images(X: Any) -> bool:
    """Whether X plainly holds images or paths, and not rows of numbers."""
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUT":
        return X.ndim > 2
    first = _unwrapped(_first_of(X))
    is_image = (
        isinstance(first, _PATH | ImageCrop | _CONTENT | Image.Image) or hasattr(first, "read") or _is_remote(first)
    )
    return is_image or (isinstance(first, np.ndarray) and first.ndim > 1)


def _first_of(X: Any) -> Any:
    if hasattr(X, "columns") or not hasattr(X, "__getitem__") or isinstance(X, Mapping | str):
        return None
    try:
        return X.iloc[0] if hasattr(X, "iloc") else X[0]
    except Exception:  # whatever a container raises that is empty, or has no integers for indices
        return None


# ---------------------------------------------------------------- containers


def _check_container(X: Any, name: str) -> None:
    if isinstance(X, _PATH | ImageCrop | _CONTENT | Image.Image) or (hasattr(X, "read") and not hasattr(X, "shape")):
        raise ValueError(f"{name} must be a sequence of images, got a single {type(X).__name__}: write [image].")
    if X is None or not _is_sequence(X) or isinstance(X, Mapping | Set | type):
        by_name = ": choose one of its entries, X[name]" if isinstance(X, Mapping) else ""
        raise TypeError(
            f"{name} must be a sequence of images (paths, PIL images or uint8 arrays), got {type(X).__name__}"
            f"{by_name}; make it a list first."
        )


def _is_sequence(X: Any) -> bool:
    return hasattr(X, "__iter__") or (hasattr(X, "__len__") and hasattr(X, "__getitem__"))


def _is_iterator(X: Any) -> bool:
    return hasattr(X, "__next__")


def _column_of(X: Any, name: str) -> Any:
    """Find what is to be read entry by entry, of a table its only column; None for an array of numbers."""
    shape: Any = getattr(X, "shape", None)
    if not isinstance(shape, tuple):
        return X
    if isinstance(X, np.ndarray):
        return _column_of_array(X, name)
    if len(shape) == 1:
        return None if getattr(getattr(X, "dtype", None), "kind", "O") in "biufc" else X
    if len(shape) == 2 and (hasattr(X, "columns") or hasattr(X, "column_names")):
        if shape[1] != 1:
            raise ValueError(_more_than_one_column(shape, name))
        names: Any = getattr(X, "column_names", None) or X.columns
        column = X.iloc[:, 0] if hasattr(X, "iloc") else X[names[0]]
        return None if getattr(getattr(column, "dtype", None), "kind", "O") in "biufc" else column
    return None


def _column_of_array(X: np.ndarray, name: str) -> list[Any] | None:
    if X.dtype.kind == "S":
        raise ValueError(
            f"{name} must hold images, got an array of dtype {X.dtype}, which drops zero bytes at the end of an "
            "image's content: make it a list or an array of dtype object; of file names, X=[os.fsdecode(name) for name "
            "in X]."
        )
    if X.dtype.kind not in "OUT":
        return None
    if X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if X.ndim != 1:
        raise ValueError(_more_than_one_column(X.shape, name))
    return list(X.tolist())


def _more_than_one_column(shape: tuple[int, ...], name: str) -> str:
    return (
        f"{name} must have one column of images, got an array of shape {shape}: Reshape your data, or choose the "
        "column that holds the paths."
    )


def _from_array(X: Any, name: str) -> list[Any]:
    array = X if isinstance(X, np.ma.MaskedArray) else np.asarray(X)  # with its mask, which is refused
    if array.dtype.kind in "OU":
        raise ValueError(_more_than_one_column(array.shape, name))
    if array.ndim in (3, 4) and not len(array):
        return []
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{name} must hold images: paths, PIL images, uint8 arrays, or one stacked uint8 array of shape (n, H, W), "
            f"(n, H, W, 3) or (n, H, W, 4); got an array of shape {array.shape} and dtype {array.dtype}. "
            "Reshape your data if its rows are flattened images."
        )
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise ValueError(
            f"{name} must hold several images, but an array of shape {array.shape} looks like one colour image: "
            f"write {name}=[image], or {name}=image[None]."
        )
    return list(array)


def _entries(column: Any) -> Iterator[Any]:
    """Ask for each entry once, by its index where a container makes them when they are asked for.

    What fails there is one image that the container could not decode, and the others are still to be had.
    """
    is_lazy = hasattr(column, "__len__") and hasattr(column, "__getitem__") and not hasattr(column, "iloc")
    if not is_lazy or isinstance(column, list | tuple | deque | np.ndarray):
        yield from column
        return
    for index in range(len(column)):
        try:
            entry = column[index]
        except MemoryError:
            raise
        except Exception as error:  # whatever the container raises
            entry = Unread(f"{type(column).__name__} cannot read it: {f'{error}' or type(error).__name__}")
        yield entry


# ------------------------------------------------------------------- entries


def _plain(where: str, entry: Any) -> Any:
    """Make an entry a path, bytes, PIL image or array, without touching pixels."""
    if isinstance(entry, str):
        return entry
    entry = _unwrapped(entry)
    if isinstance(entry, bytearray):
        return bytes(entry)
    if isinstance(entry, memoryview) and entry.ndim == 1 and entry.itemsize == 1:
        return entry.tobytes()
    if isinstance(entry, _PATH):
        return entry
    if hasattr(entry, "read"):
        return _content_of(where, entry)
    return _content_of_remote(where, entry) if _is_remote(entry) else entry


def _is_remote(entry: Any) -> bool:
    """Whether this names a file that is not the system's, and opens it: of an archive, or of fsspec."""
    return hasattr(entry, "read_bytes") or (hasattr(entry, "__enter__") and hasattr(entry, "fs"))


def _content_of_remote(where: str, entry: Any) -> Any:
    try:
        if hasattr(entry, "read_bytes"):
            return bytes(entry.read_bytes())
        with entry as file:
            return _content_of(where, file)
    except (OSError, KeyError) as error:  # an archive misses a name as a dictionary does
        return Unread(f"{type(entry).__name__} cannot read it: {error}")


def _unwrapped(entry: Any) -> Any:
    """Take a row of a one-column table for its only cell, an Arrow scalar for its value, a stored record for its file.

    Data sets of Hugging Face that are not to decode hold records of `bytes` and `path`, one of which may be None.
    """
    if hasattr(entry, "as_py"):
        entry = entry.as_py()
    if isinstance(entry, list | tuple) and len(entry) == 1:
        entry = entry[0]
    elif isinstance(entry, np.ndarray) and entry.dtype.kind in "OU" and entry.size == 1:
        entry = entry.reshape(-1)[0]
    if isinstance(entry, Mapping) and entry and set(entry) <= {"bytes", "path"}:
        content = entry.get("bytes")
        return entry.get("path") if content is None else content
    return entry


def _content_of(where: str, file: Any) -> Any:
    """Read an open file from its beginning, as Pillow does, and leave it where it was."""
    name = type(file).__name__
    if isinstance(file, io.BytesIO) and not file.closed:
        return file.getvalue()
    try:
        if getattr(file, "closed", False):
            raise ValueError(f"{where} is a file that has been closed ({name}); give its path or its content.")
        if hasattr(file, "seekable") and not file.seekable():
            raise ValueError(
                f"{where} is a stream that cannot be read twice ({name}): read it first, and give what it holds, "
                "file.read()."
            )
        here = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(here)
    except (AttributeError, OSError) as error:
        raise ValueError(f"{where} is an open file ({name}) that cannot be read: {error}.") from error
    except UnicodeDecodeError:  # of a file that was opened for text
        content = ""
    if not isinstance(content, bytes):
        raise ValueError(f"{where} is a file that was opened for text ({name}): open it with mode 'rb'.")
    return content


def _checked(where: str, image: Any, pairs: str = "") -> Any:
    """Return an entry if it may be an image, as far as its type tells; `pairs` says what to do with pairs."""
    path = image.path if isinstance(image, ImageCrop) else image
    address = address_hint(path, "give the content of the file, as bytes") if isinstance(path, str) else None
    if address is not None:
        raise ValueError(f"{where} is {address}.")
    if isinstance(image, Image.Image) and 0 in image.size:
        raise ValueError(f"{where} must have at least one pixel, got a PIL image of {image.width} x {image.height}.")
    if isinstance(image, str | bytes | os.PathLike | ImageCrop | Image.Image | Unread):
        return image
    if not isinstance(image, np.ndarray):
        shown = " ".join(repr(image).split())[:80]
        raise TypeError(f"{where} must be {_KINDS}, got {type(image).__name__} ({shown}).{_hint(image, pairs)}")
    if np.ma.is_masked(image):
        raise ValueError(f"{where} has masked values: fill them first, as with {where}.filled(0).")
    if image.dtype.kind not in "biuf":
        raise ValueError(f"{where} must be an array of integers, floats or booleans, got dtype {image.dtype}.")
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not is_image or image.size == 0:
        raise ValueError(
            f"{where} must have shape (H, W), (H, W, 3) or (H, W, 4) with at least one pixel, got {image.shape}."
            f"{_hint_at_shape(image)}"
        )
    return image.astype(np.uint8) * np.uint8(255) if image.dtype == bool else image


def _hint_at_shape(image: np.ndarray) -> str:
    if image.ndim == 1 and image.dtype == np.uint8:
        return " If it holds the bytes of a file, give them: image.tobytes()."
    is_channels_first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
    return " Its channels come first: np.moveaxis(image, 0, -1) puts them last." if is_channels_first else ""


def _hint(image: Any, pairs: str) -> str:
    if isinstance(image, Mapping):
        names = ", ".join(repr(name) for name in list(image)[:5])
        return f" It is a record with the fields {names}: choose the column of the images, such as X=data_set['image']."
    if isinstance(image, tuple | list) and len(image) > 1:
        return f" It holds {', '.join(type(each).__name__ for each in image[:5])}: {pairs}"
    if type(image).__module__.partition(".")[0] == "torch":
        return _hint_at_tensor(image)
    if type(image).__module__.partition(".")[0] == "pydicom":
        return " Give the path of its file, or the content, as bytes."
    return " The entry is missing." if is_missing(image) else ""


def _hint_at_tensor(tensor: Any) -> str:
    if tensor.ndim == 1:
        return " If it holds the bytes of a file, give them: tensor.numpy().tobytes()."
    if tensor.ndim == 2:
        return " Make it an array: tensor.numpy()."
    return " Make it an array: tensor.permute(1, 2, 0).numpy() of a uint8 tensor of shape (3, H, W)."


def _advice_of_pairs(X: Any) -> str:
    """Say how pairs are taken apart; where the container knows what its numbers stand for, by these names.

    torchvision numbers folders in alphabetical order: mild, none, severe.
    """
    whole, names = "data_set", getattr(X, "classes", None)
    if names is None and hasattr(X, "dataset"):  # a part of another one
        whole, names = "data_set.dataset", getattr(X.dataset, "classes", None)
    if not isinstance(names, list | tuple):
        return (
            "of pairs of images and labels, take X = [image for image, _ in pairs] and y = [label for _, label in "
            "pairs]."
        )
    has_paths = whole == "data_set" and isinstance(getattr(X, "samples", None), list)
    pairs = "data_set.samples" if has_paths else "data_set"
    why = ": its numbers are in the alphabetical order of their names" if list(names) == sorted(names) else ""
    said = f"take X = [image for image, _ in {pairs}] and y = [{whole}.classes[label] for _, label in {pairs}]{why}."
    if has_paths and hasattr(X, "root"):
        said += " skl2rclip.datasets.load_image_folder(data_set.root) reads the same folders, and finds the order."
    return said
