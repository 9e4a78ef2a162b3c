"""From what users call an image (path, PIL image, array) to uint8 pixels, and from those to what a tower takes.

Decoding runs in a thread pool and produces pixels at the tower's resolution; normalisation and augmentation are
batched tensor code that runs where the pixels are. No model is known here.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import ExifTags, Image, ImageOps

from skl2rclip._preprocessing import Preprocessing
from skl2rclip.errors import UnreadableImagesError

ImageLike = str | os.PathLike | Image.Image | np.ndarray

_CHUNK = 256
_verified: set[tuple[str, int, int]] = set()


def as_image_list(X: Any) -> list[ImageLike]:
    """Turn what `fit` and `predict` accept as X into a list of paths, PIL images or uint8 arrays.

    Parameters
    ----------
    X : sequence of str, Path, PIL image or ndarray; Series; one-column DataFrame or array; or stacked ndarray
        A stacked array is uint8 of shape (n, H, W), (n, H, W, 3) or (n, H, W, 4).

    Returns
    -------
    list of length n
        Not yet opened.

    Raises
    ------
    ValueError, TypeError
        Naming the index and what is wrong with the entry there.
    """
    if isinstance(X, str | os.PathLike):
        raise ValueError(f"X must be a sequence of images, got a single path: write [{os.fspath(X)!r}].")
    if isinstance(X, Image.Image):
        raise ValueError("X must be a sequence of images, got a single PIL image: write [image].")
    if X is None or not hasattr(X, "__len__") or isinstance(X, dict | set | bytes):
        raise TypeError(
            "X must be a sequence of images (paths, PIL images or uint8 arrays), "
            f"got {type(X).__name__}; make it a list first."
        )
    images = [_unwrapped(entry) for entry in X] if isinstance(X, list | tuple) else _from_array(X)
    if not images:
        raise ValueError("Found array with 0 sample(s) (X is empty) while a minimum of 1 image is required.")
    for index, image in enumerate(images):
        _check_entry(index, image)
    return images


def _unwrapped(entry: Any) -> Any:
    """Take a row of a one-column table for its only cell."""
    if isinstance(entry, list | tuple) and len(entry) == 1:
        return entry[0]
    if isinstance(entry, np.ndarray) and entry.dtype.kind in "OU" and entry.size == 1:
        return entry.reshape(-1)[0]
    return entry


def _from_array(X: Any) -> list[Any]:
    array = np.asarray(X)
    if array.dtype.kind in "OU":
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise ValueError(
                f"X must have one column of images, got an array of shape {array.shape}: "
                "Reshape your data, or choose the column that holds the paths."
            )
        return [_unwrapped(entry) for entry in array.tolist()]
    if array.ndim not in (3, 4):
        raise ValueError(
            f"X must hold images: paths, PIL images, uint8 arrays, or one stacked uint8 array of shape (n, H, W), "
            f"(n, H, W, 3) or (n, H, W, 4); got an array of shape {array.shape} and dtype {array.dtype}. "
            "Reshape your data if its rows are flattened images."
        )
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise ValueError(
            f"X must hold several images, but an array of shape {array.shape} looks like one colour image: "
            "write X=[image], or X=image[None]."
        )
    return list(array)


def _check_entry(index: int, image: Any) -> None:
    if isinstance(image, str | os.PathLike | Image.Image):
        return
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"X[{index}] must be a path, a PIL image or a uint8 array, got {type(image).__name__} ({image!r:.80})."
        )
    if image.dtype != np.uint8:
        raise ValueError(
            f"X[{index}] must be a uint8 array with values from 0 to 255, got dtype {image.dtype}; "
            "scale and round it first: (255 * array).round().astype('uint8') for values in [0, 1]."
        )
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not is_image or image.size == 0:
        raise ValueError(
            f"X[{index}] must have shape (H, W), (H, W, 3) or (H, W, 4) with at least one pixel, got {image.shape}."
        )


def thread_count(n_jobs: int | None) -> int:
    """Count the decoding threads: `n_jobs` as joblib counts, every core where it is None."""
    if n_jobs is None:
        return joblib.cpu_count()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


def open_image(image: ImageLike) -> Image.Image:
    """Decode one image to RGB: first frame, upright as EXIF has it, transparency over white.

    Sixteen-bit grey values are divided by 256. Floating-point grey values are taken as 0 to 255, or as 0 to 1 where
    none is larger than 1.

    Parameters
    ----------
    image : str, Path, PIL image or uint8 ndarray

    Returns
    -------
    PIL image of mode "RGB"
    """
    if isinstance(image, str | os.PathLike):
        with Image.open(image) as opened:
            return _to_rgb(opened)
    if isinstance(image, Image.Image):
        return _to_rgb(image)
    return _to_rgb(Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if (
        image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    ):  # exif_transpose copies even where there is nothing to do
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode[0] in "IF":  # I, I;16, I;16B, I;16L, I;16N, F
        return Image.fromarray(_grey_levels(image)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey_levels(image: Image.Image) -> np.ndarray:
    """Values of a one-channel image of more than eight bits as uint8, shape (H, W)."""
    if image.mode != "F":
        return (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
    if grey.max() <= 1:
        grey = 255 * grey
    return grey.clip(0, 255).round().astype(np.uint8)


def _why_unreadable(image: ImageLike, thorough: bool) -> str | None:
    """Reason why `image` cannot be decoded, or None; `thorough` reads the whole file, else only its header."""
    try:
        if isinstance(image, Image.Image):
            image.load()
        elif isinstance(image, str | os.PathLike):
            _verify_file(image, thorough)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(image, error)
    return None


def _verify_file(path: str | os.PathLike, thorough: bool) -> None:
    status = Path(path).stat()
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    if thorough and key in _verified:
        return
    with Image.open(path) as image:
        if thorough:
            # a JPEG is decoded at an eighth of its size, which still reads every byte and costs a fraction
            image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            _verified.add(key)


def _reason(image: ImageLike, error: Exception) -> str:
    if isinstance(image, str | os.PathLike):
        if isinstance(error, FileNotFoundError):
            return "no such file"
        if Path(image).is_dir():
            return "this is a folder, not an image file"
        if isinstance(error, Image.UnidentifiedImageError):
            if os.path.getsize(image) == 0:
                return "the file is empty"
            return "not an image, or of a format that Pillow cannot read"
    return f"{error}" or type(error).__name__


def find_unreadable(images: Sequence[ImageLike], *, n_jobs: int | None = None, thorough: bool) -> dict[int, str]:
    """Open every image and report those that cannot be read.

    Parameters
    ----------
    images : list of length n
        As `as_image_list` returns it.
    n_jobs : int, optional
        Threads.
    thorough : bool
        Read whole files, so that truncated ones are found, not only headers. A file that passed once in this process
        and has not changed since is not read again.

    Returns
    -------
    dict of int to str
        Reason by index in `images`.
    """
    with ThreadPoolExecutor(thread_count(n_jobs)) as pool:
        reasons = list(pool.map(lambda image: _why_unreadable(image, thorough), images))
    return {index: reason for index, reason in enumerate(reasons) if reason is not None}


def decode_chunks(
    images: Sequence[ImageLike],
    preprocessings: Sequence[Preprocessing],
    *,
    n_jobs: int | None = None,
    chunk_size: int = _CHUNK,
    chunks: Iterable[np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Decode images in order, chunk by chunk, the next chunk while the caller works on the present one.

    Parameters
    ----------
    images : list of length n
        As `as_image_list` returns it.
    preprocessings : sequence of Preprocessing
        Each image is decoded once and resized for each of these.
    n_jobs : int, optional
        Threads.
    chunk_size : int, default=256
        Images in a chunk; two chunks are in memory at a time.
    chunks : iterable of ndarray of int, optional
        The images to decode, asked for one chunk ahead; all, `chunk_size` at a time, by default.

    Yields
    ------
    rows : ndarray of int
        Indices of the chunk in `images`.
    pixels : list of ndarray of shape (chunk, H, W, 3), uint8
        One array for each preprocessing.

    Raises
    ------
    UnreadableImagesError
        After all images have been tried, naming those that failed.
    """
    resizers = [preprocessing.resizer() for preprocessing in preprocessings]
    failures: dict[int, str] = {}

    def decode(index: int, targets: list[np.ndarray], row: int) -> None:
        try:
            image = open_image(images[index])
            for target, resize in zip(targets, resizers, strict=True):
                target[row] = np.asarray(resize(image))
        except Exception as error:  # PIL's plugins raise anything on broken files
            failures[index] = _reason(images[index], error)

    with ThreadPoolExecutor(thread_count(n_jobs)) as pool:

        def submit(rows: np.ndarray) -> _Chunk:
            targets = [np.empty((len(rows), *preprocessing.size, 3), np.uint8) for preprocessing in preprocessings]
            jobs = [pool.submit(decode, index, targets, row) for row, index in enumerate(rows.tolist())]
            return rows, targets, jobs

        pending: deque[_Chunk] = deque()
        try:
            for rows in split_rows(len(images), chunk_size) if chunks is None else chunks:
                pending.append(submit(rows))
                if len(pending) > 1:
                    yield from _finished(pending.popleft(), failures)
            while pending:
                yield from _finished(pending.popleft(), failures)
        finally:
            for _, _, jobs in pending:
                for job in jobs:
                    job.cancel()
    if failures:
        raise UnreadableImagesError(failures, images, len(images))


_Chunk = tuple[np.ndarray, list[np.ndarray], list[Future]]


def split_rows(n: int, chunk_size: int = _CHUNK) -> list[np.ndarray]:
    """Split the indices 0 to n - 1 into arrays of `chunk_size`."""
    return [np.arange(start, min(start + chunk_size, n)) for start in range(0, n, chunk_size)]


def _finished(chunk: _Chunk, failures: dict[int, str]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    rows, targets, jobs = chunk
    for job in jobs:
        job.result()
    if not failures:  # once an image has failed, the rest is only tried, not used
        yield rows, targets
