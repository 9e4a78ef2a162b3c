"""From what users call an image (path, PIL image, array) to uint8 pixels.

A path is asked about once, by `stamped`, and what the system said goes along with it from there. Decoding runs in
threads and produces pixels at the resolutions that towers take. No model is known here, and nothing is remembered.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import joblib
import numpy as np
from PIL import Image

from skl2rclip._picture_cost import (
    BAND_PIXELS,
    MOST_REDUCED,
    REDUCIBLE,
    Turn,
    decoding_bound,
    decoding_bytes,
    is_waiting,
    orientation_of,
    reduction_that_fits,
)
from skl2rclip._picture_formats import check_format, opened_picture
from skl2rclip._preprocessing import Preprocessing

# a file changed this recently may change again without another time stamp
_RACY_SECONDS = 2.0
_IS_FOLDER = "this is a folder, not an image file"
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageFile(os.PathLike[str]):
    """A path as the user gave it, with what the system said of the file, once.

    Attributes
    ----------
    path : str or path-like
        As it was given.
    location : str
        The path from the root, which tells whether two of them are the same.
    stamp : str
        Changes with the file's content: size, times and place. It is empty where there is no such file.
    size : int
        Bytes.
    changed : float
        When content or status changed last, in seconds of the system's clock.
    problem : str or None
        Why this cannot be an image, as far as the system knows without opening it.
    """

    path: str | os.PathLike
    location: str
    stamp: str = ""
    size: int = 0
    changed: float = 0.0
    problem: str | None = None

    @classmethod
    def of(cls, path: str | os.PathLike) -> ImageFile:
        """Ask the system about a path."""
        location = _location_of(path)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return cls(path, location, problem="no such file")
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            return cls(path, location, problem=f"{error}")
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        changed = max(status.st_mtime_ns, status.st_ctime_ns) / 1e9
        return cls(path, location, stamp, status.st_size, changed, _problem_of(status))

    def __fspath__(self) -> str:
        return os.fsdecode(self.path)

    def is_settled(self) -> bool:
        """Whether the last change is so long ago that the next one is bound to show in the stamp."""
        return bool(self.stamp) and time.time() - self.changed > _RACY_SECONDS

    def read(self) -> bytes:
        """Read the whole file."""
        with open(self.path, "rb") as file:
            return file.read()


def _location_of(path: str | os.PathLike) -> str:
    # not normalised: "link/../a.png" is another file than "a.png" where the link leads elsewhere
    name = os.fsdecode(path)
    return name if os.path.isabs(name) else os.path.join(os.getcwd(), name)


def _problem_of(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return _IS_FOLDER
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
        return "this is not a regular file"
    return "the file is empty" if status.st_size == 0 else None


ImageLike = ImageFile | Image.Image | np.ndarray


def stamped(images: Iterable[Any]) -> list[ImageLike]:
    """Ask the system about the paths among the images, once about each.

    Parameters
    ----------
    images : iterable of str, path-like, ImageFile, PIL image or ndarray
        As `as_image_list` returns them.

    Returns
    -------
    list of ImageFile, PIL image or ndarray
        What was an ImageFile already stays as it is.
    """
    asked: dict[str, ImageFile] = {}

    def with_stamp(image: Any) -> ImageLike:
        if isinstance(image, ImageFile) or not isinstance(image, str | os.PathLike):
            return image
        location = _location_of(image)
        if location not in asked:
            asked[location] = ImageFile.of(image)
        return replace(asked[location], path=image)

    return [with_stamp(image) for image in images]


def as_image_list(X: Any) -> list[Any]:
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


def holds_images(X: Any) -> bool:
    """Whether X plainly holds images or paths, and not rows of numbers."""
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OU":
        return X.ndim > 2
    first = X[0] if isinstance(X, list | tuple | np.ndarray) and len(X) else None
    return isinstance(first, str | os.PathLike | Image.Image) or (isinstance(first, np.ndarray) and first.ndim > 1)


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


def open_image(
    image: ImageLike | str | os.PathLike,
    content: bytes | None = None,
    turn: Turn | None = None,
    shrinkage: Callable[[tuple[int, int]], float] | None = None,
) -> Image.Image:
    """Decode one image to RGB: first frame, upright as EXIF has it, transparency over white.

    Sixteen-bit grey values are divided by 256. Floating-point grey values are taken as 0 to 255, or as 0 to 1 where
    none is larger than 1.

    Parameters
    ----------
    image : ImageFile, path, PIL image or uint8 ndarray
    content : bytes, optional
        What is in the file, where it has been read already.
    turn : Turn, optional
        Holds the memory that decoding takes, and says how much there is.
    shrinkage : callable, optional
        How many times smaller a picture of this width and height may become. A JPEG that does not fit in memory
        otherwise is decoded at so much smaller sides as it takes.

    Returns
    -------
    PIL image of mode "RGB"

    Raises
    ------
    TooLargeError
        If the picture takes more memory decoded than there is. What has been decoded by others never does.
    """
    if turn is None:
        with Turn() as turn:
            return open_image(image, content, turn, shrinkage)
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        with open(name, "rb") if content is None else BytesIO(content) as file:
            picture = _decoded(opened_picture(file, name if content is None else ""), turn, shrinkage)
    elif isinstance(image, Image.Image):
        picture = _decoded(image, turn)
    else:
        turn.wait(image.shape[0] * image.shape[1] * (4 if image.shape[2:] == (3,) else 8))
        picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image))
    orientation = orientation_of(picture)
    picture = _to_rgb(picture)  # from here on nobody holds the pixels that it was made from
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def _decoded(
    picture: Image.Image, turn: Turn, shrinkage: Callable[[tuple[int, int]], float] | None = None
) -> Image.Image:
    """Wait for the memory that it takes, and decode a picture, unless that has been done already."""
    reduction = 1
    if is_waiting(picture):
        check_format(picture.format)
        most = 1.0
        if shrinkage is not None and picture.format in REDUCIBLE:
            most = shrinkage(picture.size[::-1] if orientation_of(picture) > 4 else picture.size)
        reduction = reduction_that_fits(picture, turn.bound, most)
    turn.wait(decoding_bytes(picture, reduction))
    if reduction > 1:
        turn.has_reduced = True
        width, height = picture.size
        picture.draft(picture.mode, (width // reduction, height // reduction))
    mode = picture.mode
    picture.load()
    return picture if picture.mode == mode else picture.convert(mode)  # an icon holds a picture of another mode


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert what has been decoded, in bands of rows where a whole picture would have to be copied on the way."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode[0] in "IF":  # I, I;16, I;16B, I;16L, I;16N, F
        scale = 255 if image.mode == "F" and _is_of_unit_range(image) else 1
        return _by_bands(image, lambda band: Image.fromarray(_grey_levels(band, scale)))
    if image.mode == "La" or image.has_transparency_data:
        return _by_bands(image, _over_white)
    return image.convert("RGB")


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    result = Image.new("RGB", image.size)
    for band in _bands(image.size):
        result.paste(convert(image.crop(band)).convert("RGB"), band[:2])
    return result


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    width, height = size
    n_rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, n_rows):
        yield 0, top, width, min(height, top + n_rows)


def _over_white(image: Image.Image) -> Image.Image:
    image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _is_of_unit_range(image: Image.Image) -> bool:
    return all(_finite(image.crop(band)).max() <= 1 for band in _bands(image.size))


def _finite(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)


def _grey_levels(image: Image.Image, scale: int) -> np.ndarray:
    """Values of a one-channel image of more than eight bits as uint8, shape (H, W)."""
    if image.mode != "F":
        return (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
    return (scale * _finite(image)).clip(0, 255).round().astype(np.uint8)


def find_unreadable(
    images: Sequence[ImageLike],
    *,
    n_jobs: int | None = None,
    is_known: Sequence[bool] | np.ndarray | None = None,
    max_memory: int | None = None,
) -> dict[int, str]:
    """Open files for their headers, once each, and report those that cannot be images, or are too large to decode.

    What lies behind the header is seen by decoding only. PIL images and arrays have been opened by whoever made them.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it; what a stamp says already costs no opening.
    n_jobs : int, optional
        Threads.
    is_known : sequence of bool of length n, optional
        Which images are known to be sound, and need not be opened.
    max_memory : int or None
        Bytes that the pictures under way may take together, see `Turn`.

    Returns
    -------
    dict of int to str
        Reason by index in `images`.
    """
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        if isinstance(image, ImageFile) and not (is_known is not None and is_known[row]):
            rows_of.setdefault(image.location, []).append(row)
    files = [images[rows[0]] for rows in rows_of.values()]
    with image_threads(n_jobs) as pool:
        reasons = list(pool.map(lambda file: _why_unreadable(file, decoding_bound(max_memory)), files))
    found = {row: reason for rows, reason in zip(rows_of.values(), reasons, strict=True) if reason for row in rows}
    return dict(sorted(found.items()))


def find_damaged(
    images: Sequence[ImageLike], rows: Sequence[int], *, n_jobs: int | None = None, max_memory: int | None = None
) -> dict[int, str]:
    """Decode images for nothing but to see whether they can be.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    rows : sequence of int
        Which to look at.
    n_jobs : int, optional
        Threads.
    max_memory : int or None
        Bytes that the pictures under way may take together, see `Turn`.

    Returns
    -------
    dict of int to str
        Reason by index in `images`.
    """

    def why(row: int) -> str | None:
        try:
            with Turn(max_memory) as turn:
                open_image(images[row], None, turn, lambda size: MOST_REDUCED)
        except Exception as error:  # PIL's plugins raise anything on broken files
            return _reason(error)
        return None

    with image_threads(n_jobs) as pool:
        return {row: reason for row, reason in zip(rows, pool.map(why, rows), strict=True) if reason is not None}


def _why_unreadable(file: ImageFile, bound: int) -> str | None:
    if file.problem is not None:
        return file.problem
    try:
        with open(file.path, "rb") as content:
            reduction_that_fits(opened_picture(content, os.fspath(file)), bound)
    except Exception as error:  # PIL's plugins raise anything on broken files
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """Say why an image cannot be read, in words of the user."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return _IS_FOLDER
    if isinstance(error, MemoryError):
        return "its header asks for more memory than there is"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or of a format that Pillow cannot read"
    return f"{error}" or type(error).__name__


@contextlib.contextmanager
def image_threads(n_jobs: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that read and decode; what they have not begun at the end of the block is dropped."""
    pool = ThreadPoolExecutor(thread_count(n_jobs))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Decoder:
    """Turns images into uint8 pixels, in threads.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    preprocessings : sequence of Preprocessing
        Each image is decoded once and resized for each of these.
    pool : ThreadPoolExecutor
    max_memory : int or None
        Bytes that the pictures under way may take together, in all threads of the process, see `Turn`. A JPEG that
        takes more alone is decoded at smaller sides, as far as the preprocessings allow, and any other fails.

    Attributes
    ----------
    failures : dict of int to str
        Why images could not be decoded so far, by index in `images`.
    reduced : set of int
        Which were decoded at smaller sides, so that with more memory they would look a little different.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        preprocessings: Sequence[Preprocessing],
        pool: ThreadPoolExecutor,
        max_memory: int | None = None,
    ):
        self.failures: dict[int, str] = {}
        self.reduced: set[int] = set()
        self._images, self._preprocessings, self._pool, self._max_memory = images, preprocessings, pool, max_memory
        self._sizes = [preprocessing.size for preprocessing in preprocessings]
        self._resizers = [preprocessing.resizer() for preprocessing in preprocessings]

    def start(self, rows: Sequence[int], contents: Mapping[int, bytes] | None = None) -> Callable[[], list[np.ndarray]]:
        """Begin to decode some of the images.

        Parameters
        ----------
        rows : sequence of int
            Their indices.
        contents : mapping of int to bytes, optional
            What is in those files that have been read already, by index. The others are opened.

        Returns
        -------
        callable
            Waits until they are decoded and returns, for each preprocessing, an array of shape (len(rows), H, W, 3),
            uint8. The row of an image that could not be decoded, which `failures` tells, means nothing.
        """
        targets = [np.empty((len(rows), *size, 3), np.uint8) for size in self._sizes]
        contents = contents or {}
        jobs = [
            self._pool.submit(self._decode, row, contents.get(row), [target[place] for target in targets])
            for place, row in enumerate(rows)
        ]
        del contents  # each job lets go of its bytes when it is done

        def finished() -> list[np.ndarray]:
            for job in jobs:
                job.result()
            return targets

        return finished

    def _decode(self, row: int, content: bytes | None, targets: list[np.ndarray]) -> None:
        image = self._images[row]
        if isinstance(image, ImageFile) and image.problem is not None:
            self.failures[row] = image.problem
            return
        try:
            with Turn(self._max_memory) as turn:
                decoded = open_image(image, content, turn, self._shrinkage)
                if turn.has_reduced:
                    self.reduced.add(row)
                for target, resize in zip(targets, self._resizers, strict=True):
                    target[:] = np.asarray(resize(decoded))
                del decoded  # before others take its memory
        except Exception as error:  # PIL's plugins raise anything on broken files
            self.failures[row] = _reason(error)

    def _shrinkage(self, size: tuple[int, int]) -> float:
        """How many times smaller a picture of this width and height may become before any preprocessing enlarges it."""
        return min(preprocessing.shrinkage(size) for preprocessing in self._preprocessings)
