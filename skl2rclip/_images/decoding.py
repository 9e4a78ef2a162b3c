"""From an image (path, content of a file, PIL image, array) to uint8 pixels.

What X may be is the business of ``_images.collection``. A path is asked about once, by `stamped`, and what the system
said goes along with it from there. Decoding runs in threads and produces pixels at the resolutions that towers take. No
model is known here, and nothing is remembered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from PIL import Image

from skl2rclip._images.color import conversion_of
from skl2rclip._images.formats import format_of
from skl2rclip._images.header import check_decoded_page, halve_transparency, opened_picture
from skl2rclip._images.image_warnings import PictureWarnings
from skl2rclip._images.levels import (
    FULL_RANGE,
    GreyLevels,
    WhiteLevel,
    array_as_bytes,
    bands_of,
    check_signed,
    is_cut_to_eight_bits,
    is_deep,
    resolve_white,
    white_of_file,
)
from skl2rclip._images.memory import (
    MOST_REDUCED,
    Turn,
    decoding_bound,
    decoding_bytes,
    is_waiting,
    orientation_of,
    reduction_that_fits,
)
from skl2rclip._images.pil import alone_with, decoded_view, own_copy
from skl2rclip._utils.names import near_name

if TYPE_CHECKING:
    from skl2rclip._images.preprocessing import Preprocessing

# a file changed this recently may change again without another time stamp
_RACY_SECONDS = 2.0
_IS_FOLDER = "this is a folder, not an image file"
_ADDRESSES = ("http:/", "https:/", "ftp:/", "s3:/", "gs:/")
_KINDS = {  # what is opened in vain, or waited for
    stat.S_ISDIR: _IS_FOLDER,
    stat.S_ISFIFO: "this is a pipe, not a regular file",
    stat.S_ISSOCK: "this is a socket, not a regular file",
    stat.S_ISCHR: "this is a device, not a regular file",
    stat.S_ISBLK: "this is a device, not a regular file",
}
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
        except (OSError, ValueError) as error:
            return cls(path, location, problem=_why_no_status(error, os.fsdecode(path), location))
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


def _why_no_status(error: Exception, name: str, location: str) -> str:
    if name[:8].lower().startswith(_ADDRESSES):
        return "no such file; it was an address before it became a Path, and nothing is fetched"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        near = near_name(location)
        return "no such file" if near is None else f"no such file; {near}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return "its name is longer than the system allows"
    return "there is a null character in its name" if "\0" in location else f"{error}"


def _problem_of(status: os.stat_result) -> str | None:
    for is_of_kind, name in _KINDS.items():
        if is_of_kind(status.st_mode):
            return name
    if not stat.S_ISREG(status.st_mode):
        return "this is not a regular file"
    return "the file is empty" if status.st_size == 0 else None


@dataclass(frozen=True, slots=True)
class Unread:
    """What a container could not hand out.

    Attributes
    ----------
    problem : str
        What it said.
    """

    problem: str


# bytes are always what is in a file, and never its name
ImageLike = ImageFile | bytes | Image.Image | np.ndarray | Unread


def identity_of(image: ImageLike) -> Hashable:
    """Tell what images have in common that are the same file, the same content or the same object."""
    if isinstance(image, ImageFile):
        return image.location
    return image if isinstance(image, bytes) else id(image)


def known_problem(image: ImageLike) -> str | None:
    """Why an image cannot be read, as far as is known without looking."""
    if isinstance(image, bytes):
        return None if image else "its content is empty"
    return image.problem if isinstance(image, ImageFile | Unread) else None


def stamped(images: Iterable[Any]) -> list[ImageLike]:
    """Ask the system about the paths among the images, once about each.

    Parameters
    ----------
    images : iterable of str, path-like, ImageFile, bytes, PIL image, ndarray or Unread
        As `skl2rclip._images.collection.as_image_list` returns them.

    Returns
    -------
    list of ImageFile, bytes, PIL image, ndarray or Unread
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
    white: WhiteLevel = FULL_RANGE,
) -> Image.Image:
    """Decode one image to RGB: first frame, upright as EXIF has it, transparency over white.

    Of more than eight bits the upper eight are taken: of those that the file says it has, else as `white` says. A TIFF
    whose 0 is white is inverted, as viewers show it. What is transparent throughout is taken without its alpha. Colours
    of an embedded profile become those of sRGB.

    Parameters
    ----------
    image : ImageFile, path, bytes, PIL image, ndarray or Unread
    content : bytes, optional
        What is in the file, where it has been read already.
    turn : Turn, optional
        Holds the memory that decoding takes, and says how much there is.
    shrinkage : callable, optional
        How many times smaller a picture of this width and height may become. A JPEG that does not fit in memory
        otherwise is decoded at so much smaller sides as it takes.
    white : WhiteLevel, optional
        Which value is white where the image does not say it.

    Returns
    -------
    PIL image of mode "RGB"

    Raises
    ------
    TooLargeError
        If the picture takes more memory decoded than there is. What has been decoded by others never does.
    ValueError
        If nothing says which of its values is white, or others lie beyond it, or it is dark and `white` refuses that.
    """
    if turn is None:
        with Turn() as turn:
            return open_image(image, content, turn, shrinkage, white)
    if isinstance(image, Unread):
        raise ValueError(image.problem)
    if isinstance(image, np.ndarray):
        turn.wait(_bytes_of_array(image))
        if is_deep(image):
            image = array_as_bytes(image, _checked_white(image, None, white, turn))
        return _to_rgb(Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2:] == (1,) else image)))
    if isinstance(image, bytes):
        content, image = image, ""
    if isinstance(image, Image.Image):
        pixels = _decoded_from(image, turn, shrinkage)
    else:
        name = os.fspath(image)
        with open(name, "rb") if content is None else BytesIO(content) as file:
            pixels = _decoded(opened_picture(file, name if content is None else ""), turn, shrinkage)
    picture, level = pixels.picture, None
    orientation = orientation_of(picture)
    if is_deep(picture) or pixels.is_cut:
        level = _checked_white(picture, pixels.white, white, turn, is_cut=pixels.is_cut)
    del pixels
    picture = _to_rgb(picture, level)  # from here on nobody holds the pixels that it was made from
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


@dataclass(frozen=True, slots=True)
class _Pixels:
    """A decoded image, which value its file says is white, and whether Pillow has kept the upper of sixteen bits."""

    picture: Image.Image
    white: float | None
    is_cut: bool


def _decoded_from(image: Image.Image, turn: Turn, shrinkage: Callable[[tuple[int, int]], float] | None) -> _Pixels:
    """Decode a user's image without changing it, or, where its file cannot be read again, decode it itself."""
    own = own_copy(image)
    if own is not None:
        return _decoded(own.picture, turn, shrinkage)
    with alone_with(image):
        if is_waiting(image):
            reduction_that_fits(image, turn.bound, 1)
        turn.wait(decoding_bytes(image))
        white, is_cut = white_of_file(image), is_waiting(image) and is_cut_to_eight_bits(image)
        view = decoded_view(image)
        check_decoded_page(image)
    halve_transparency(view)
    return _Pixels(view, white, is_cut)


def _decoded(picture: Image.Image, turn: Turn, shrinkage: Callable[[tuple[int, int]], float] | None = None) -> _Pixels:
    """Wait for the memory that it takes, and decode a picture that was opened here."""
    most = 1.0
    if shrinkage is not None and format_of(picture).is_reducible:
        most = shrinkage(picture.size[::-1] if orientation_of(picture) > 4 else picture.size)
    reduction = reduction_that_fits(picture, turn.bound, most)
    turn.wait(decoding_bytes(picture, reduction))
    halve_transparency(picture)
    if reduction > 1:
        turn.has_reduced = True
        width, height = picture.size
        picture.draft(picture.mode, (width // reduction, height // reduction))
    mode, white, is_cut = (
        picture.mode,
        white_of_file(picture, getattr(picture, "fp", None)),
        is_cut_to_eight_bits(picture),
    )
    picture.load()
    # an icon holds a picture of another mode
    return _Pixels(picture if picture.mode == mode else picture.convert(mode), white, is_cut)


def _bytes_of_array(array: np.ndarray) -> int:
    """Count what making an array a picture takes, with a copy of it where its values have to be scaled."""
    return (array.size if is_deep(array) else 0) + array.shape[0] * array.shape[1] * (
        4 if array.shape[2:] == (3,) else 8
    )


def _checked_white(
    picture: Image.Image | np.ndarray, said: float | None, white: WhiteLevel, turn: Turn, *, is_cut: bool = False
) -> float:
    """Tell which value of a decoded image is white; `turn` keeps why that may be wrong.

    Raises
    ------
    ValueError
    """
    level, turn.doubt = resolve_white(picture, said, white, is_cut=is_cut)
    if turn.doubt is not None:
        if white.refuses_dark:
            raise ValueError(turn.doubt)
        warnings.warn(turn.doubt, stacklevel=2)
    return level


def _to_rgb(image: Image.Image, white: float | None = None) -> Image.Image:
    """Convert what has been decoded, in bands of rows where a whole picture would have to be copied on the way."""
    to_srgb = conversion_of(image)
    if to_srgb.problem:
        warnings.warn(to_srgb.problem, stacklevel=2)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if to_srgb.transform is None else _by_bands(image, to_srgb)
    if is_deep(image):
        assert white is not None
        levels = GreyLevels.of(image, white)
        return _by_bands(image, lambda band: to_srgb(Image.fromarray(levels.applied(band))))
    if image.mode == "La" or image.has_transparency_data:
        if any(_with_alpha(image.crop(band)).getchannel("A").getbbox() for band in bands_of(image.size)):
            return _by_bands(image, lambda band: _over_white(to_srgb(_with_alpha(band))))
        warnings.warn("transparent throughout, and taken without transparency", stacklevel=2)
        return _by_bands(image, lambda band: to_srgb(_with_alpha(band).convert("RGB")))
    return image.convert("RGB") if to_srgb.transform is None else _by_bands(image, to_srgb)


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    result = Image.new("RGB", image.size)
    for band in bands_of(image.size):
        result.paste(convert(image.crop(band)).convert("RGB"), band[:2])
    return result


def _with_alpha(image: Image.Image) -> Image.Image:
    return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def find_unreadable(
    images: Sequence[ImageLike],
    *,
    n_jobs: int | None = None,
    is_known: Sequence[bool] | np.ndarray | None = None,
    max_memory: int | None = None,
    white: WhiteLevel | None = None,
) -> dict[int, str]:
    """Open files for their headers, once each, and report those that cannot be images, or are too large to decode.

    What lies behind the header is seen by decoding only. PIL images and arrays have been opened by whoever made them;
    of TIFFs, which Pillow opens without looking at what it would misread, the header is looked at here too.

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
    white : WhiteLevel, optional
        Report signed integers too, unless it says which value is white.

    Returns
    -------
    dict of int to str
        Reason by index in `images`.
    """
    is_unsure = [is_known is None or not is_known[row] for row in range(len(images))]
    rows = [row for row in range(len(images)) if is_unsure[row] and _has_header(images[row])]
    return _found(images, rows, lambda image: _why_unreadable(image, decoding_bound(max_memory), white), n_jobs)


def _has_header(image: ImageLike) -> bool:
    if isinstance(image, Image.Image | np.ndarray):
        return is_deep(image) or getattr(image, "format", None) == "TIFF"
    return True


def find_damaged(
    images: Sequence[ImageLike],
    rows: Sequence[int],
    *,
    n_jobs: int | None = None,
    max_memory: int | None = None,
    white: WhiteLevel = FULL_RANGE,
    warns: bool = False,
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
    white : WhiteLevel, optional
        Which value is white where an image does not say it.
    warns : bool, default=False
        Whether what Pillow warns of is said, for those whom nobody else will tell.

    Returns
    -------
    dict of int to str
        Reason by index in `images`.
    """

    def why(image: ImageLike) -> str | None:
        if known_problem(image) is not None:  # a pipe would be waited for
            return known_problem(image)
        try:
            with Turn(max_memory) as turn:
                open_image(image, None, turn, lambda size: MOST_REDUCED, white)
        except Exception as error:  # PIL's plugins raise anything on broken files
            return _reason(error)
        return None

    return _found(images, rows, why, n_jobs, warns)


def _found(
    images: Sequence[ImageLike],
    rows: Sequence[int],
    why: Callable[[ImageLike], str | None],
    n_jobs: int | None,
    warns: bool = False,
) -> dict[int, str]:
    """Reasons by index, in order, where there are any; what comes several times is looked at once."""
    rows_of: dict[Hashable, list[int]] = {}
    for row in rows:
        rows_of.setdefault(identity_of(images[row]), []).append(row)
    noted = PictureWarnings()

    def why_first(same: list[int]) -> str | None:
        with noted.of(same[0]):
            return why(images[same[0]])

    with image_threads(n_jobs) as pool:
        reasons = list(pool.map(why_first, rows_of.values()))
    if warns:
        noted.warn(images, {same[0]: same for same in rows_of.values()})
    found = {row: reason for same, reason in zip(rows_of.values(), reasons, strict=True) if reason for row in same}
    return dict(sorted(found.items()))


def _why_unreadable(image: ImageLike, bound: int, white: WhiteLevel | None) -> str | None:
    if known_problem(image) is not None:
        return known_problem(image)
    try:
        if white is not None and isinstance(image, Image.Image | np.ndarray):
            check_signed(image, white)
        if isinstance(image, np.ndarray):
            return None
        if isinstance(image, Image.Image):
            own = own_copy(image)
            if own is None:
                check_decoded_page(image)
            else:
                reduction_that_fits(own.picture, bound)
            return None
        assert isinstance(image, ImageFile | bytes)
        with BytesIO(image) if isinstance(image, bytes) else open(image.path, "rb") as content:
            name = os.fspath(image) if isinstance(image, ImageFile) else ""
            picture = opened_picture(content, name)
            if white is not None:
                check_signed(picture, white)
            reduction_that_fits(picture, bound)
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
    white : WhiteLevel, optional
        Which value is white where an image does not say it.

    Attributes
    ----------
    failures : dict of int to str
        Why images could not be decoded so far, by index in `images`.
    reduced : set of int
        Which were decoded at smaller sides, so that with more memory they would look a little different.
    dark : set of int
        Which use so little of their type's range that `fit` would refuse them.
    warnings : PictureWarnings
        What was warned of meanwhile, by index in `images`, and shown to nobody.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        preprocessings: Sequence[Preprocessing],
        pool: ThreadPoolExecutor,
        max_memory: int | None = None,
        white: WhiteLevel = FULL_RANGE,
    ):
        self.failures: dict[int, str] = {}
        self.reduced: set[int] = set()
        self.dark: set[int] = set()
        self._white = white
        self.warnings = PictureWarnings()
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
        problem = known_problem(image)
        if problem is not None:
            self.failures[row] = problem
            return
        try:
            with self.warnings.of(row), Turn(self._max_memory) as turn:
                decoded = open_image(image, content, turn, self._shrinkage, self._white)
                if turn.has_reduced:
                    self.reduced.add(row)
                if turn.doubt is not None:
                    self.dark.add(row)
                for target, resize in zip(targets, self._resizers, strict=True):
                    target[:] = np.asarray(resize(decoded))
                del decoded  # before others take its memory
        except Exception as error:  # PIL's plugins raise anything on broken files
            self.failures[row] = _reason(error)

    def _shrinkage(self, size: tuple[int, int]) -> float:
        """How many times smaller a picture of this width and height may become before any preprocessing enlarges it."""
        return min(preprocessing.shrinkage(size) for preprocessing in self._preprocessings)
