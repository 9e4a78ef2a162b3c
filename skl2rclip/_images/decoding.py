"""From an image (path, content of a file, PIL image, array) to uint8 pixels: header, pixels, RGB, a record each.

What X may be is told by ``_images.collection``, and what is known of a path by ``_images.files``. Decoding runs in
threads and produces pixels at the resolutions that towers take. No model is known here, and nothing is remembered.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

import joblib
import numpy as np
from PIL import Image

from skl2rclip._images.color import conversion_of
from skl2rclip._images.crops import Box, edges_within, scaled_edges
from skl2rclip._images.files import IS_FOLDER, ImageFile, ImageLike, Unread, known_problem, rows_of_each
from skl2rclip._images.formats import check_format, format_of
from skl2rclip._images.header import Header, check_box, open_header, orientation_of
from skl2rclip._images.levels import (
    FULL_RANGE,
    WhiteLevel,
    array_as_bytes,
    bands_of,
    check_signed,
    grey_as_bytes,
    is_deep,
    resolve_white,
)
from skl2rclip._images.memory import (
    MAX_REDUCTION,
    MemoryTicket,
    bytes_of_array,
    decoding_bound,
    decoding_bytes,
    is_waiting,
    reduction_that_fits,
)
from skl2rclip._images.pil import alone_with, header_of
from skl2rclip._images.remarks import warn_of
from skl2rclip._images.views import pixels_of_view

if TYPE_CHECKING:
    from skl2rclip._images.preprocessing import Preprocessing

_Shrinkage = Callable[[tuple[int, int]], float]
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
class Pixels:
    """A decoded image, the second step."""

    image: Image.Image  # where the user has given one it is that, so that nothing may be changed in it
    orientation: int = 1  # how EXIF says that it lies
    white: float | None = None  # which value its file says is white
    is_cut: bool = False  # Pillow has kept the upper eight of its sixteen bits
    # upright width and height where it was decoded at smaller sides, because it would not fit in memory
    reduced_from: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RGBImage:
    """An image as towers take it, the third step."""

    image: Image.Image  # of mode "RGB"; it may be the user's own
    is_reduced: bool = False  # with more memory it would look a little different
    is_dark: bool = False  # it uses so little of its type's range that `fit` would refuse it
    remarks: tuple[str, ...] = ()  # what the user is to be told of it


def thread_count(n_jobs: int | None) -> int:
    """Count the decoding threads: `n_jobs` as joblib counts, every core where it is None."""
    if n_jobs is None:
        return joblib.cpu_count()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


# --------------------------------------------------------------------- steps


def open_image(
    image: ImageLike | str | os.PathLike,
    content: bytes | None = None,
    ticket: MemoryTicket | None = None,
    shrinkage: _Shrinkage | None = None,
    white: WhiteLevel = FULL_RANGE,
) -> Image.Image:
    """Decode one image to upright RGB, and nothing else; see `read_image`."""
    return read_image(image, content, ticket, shrinkage, white).image


def read_image(
    image: ImageLike | str | os.PathLike,
    content: bytes | None = None,
    ticket: MemoryTicket | None = None,
    shrinkage: _Shrinkage | None = None,
    white: WhiteLevel = FULL_RANGE,
) -> RGBImage:
    """Decode one image to RGB: first frame, upright as EXIF has it, transparency over white; of a crop its box alone.

    Of more than eight bits the upper eight are taken: of those that the file says it has, else as `white` says. A TIFF
    whose 0 is white is inverted, as viewers show it. What is transparent throughout is taken without its alpha. Colours
    of an embedded profile become those of sRGB.

    The content of a file may have been read already. The ticket holds the memory that decoding takes, and says how much
    there is. A JPEG file that does not fit otherwise is decoded at smaller sides, by the factor that `shrinkage` allows
    for its width and height at most; a PIL image that has not been decoded is decoded in place. What takes more memory
    is refused, and so is an image of which nothing says which value is white.
    """
    if ticket is None:
        with MemoryTicket() as ticket:
            return read_image(image, content, ticket, shrinkage, white)
    if isinstance(image, Unread):
        raise ValueError(image.problem)
    box = image.box if isinstance(image, ImageFile) else None
    if isinstance(image, np.ndarray):
        return _rgb_of_array(image, ticket, white)
    if isinstance(image, Image.Image):
        pixels = _decode_in_place(image, ticket)
    else:
        content = image if isinstance(image, bytes) else content
        with open(os.fsdecode(image), "rb") if content is None else BytesIO(content) as file:
            pixels = _decode(open_header(file), ticket, shrinkage, box)
    orientation, size = pixels.orientation, pixels.reduced_from
    rgb = _to_rgb(pixels, white)
    del pixels  # before it is turned
    if orientation in _UPRIGHT:
        rgb = replace(rgb, image=rgb.image.transpose(_UPRIGHT[orientation]))
    return rgb if box is None else replace(rgb, image=_part_of(rgb.image, box, size or rgb.image.size))


def _part_of(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Cut a box of an image of this size out of what was decoded of it, which may be smaller."""
    return image.crop(scaled_edges(edges_within(box, size), size, image.size))


def _decode(header: Header, ticket: MemoryTicket, shrinkage: _Shrinkage | None, box: Box | None = None) -> Pixels:
    """Wait for the memory that it takes, and decode an image that was opened here."""
    image, most, size = header.image, 1.0, header.image.size
    if shrinkage is not None and format_of(image).is_reducible:
        size = image.size[::-1] if orientation_of(image) > 4 else image.size
        most = shrinkage(size if box is None else _size_of(edges_within(box, size)))
    reduction = reduction_that_fits(image, ticket.bound, most)
    ticket.wait(decoding_bytes(image, reduction))
    if reduction > 1:
        image.draft(image.mode, (image.width // reduction, image.height // reduction))
    image.load()
    return Pixels(image, orientation_of(image), header.white, header.is_cut, size if reduction > 1 else None)


def _size_of(edges: tuple[int, int, int, int]) -> tuple[int, int]:
    left, top, right, bottom = edges
    return right - left, bottom - top


def _decode_in_place(image: Image.Image, ticket: MemoryTicket) -> Pixels:
    """Decode a user's image where that has not been done; several threads may hold the same one."""
    with alone_with(image):
        _check_in_place(image, ticket.bound)
        header = header_of(image)
        ticket.wait(decoding_bytes(image))
        image.load()  # also the frame that it has been moved to
        return Pixels(image, orientation_of(image), header.white, header.is_cut)


def _check_in_place(image: Image.Image, bound: int) -> None:
    """Refuse an image that others have opened where it would not have been opened here, or does not fit."""
    if is_waiting(image):
        check_format(image.format)
        reduction_that_fits(image, bound, 1)
    format_of(image).check_page(image)


def _rgb_of_array(array: np.ndarray, ticket: MemoryTicket, white: WhiteLevel) -> RGBImage:
    ticket.wait(bytes_of_array(array))
    doubt = None
    if is_deep(array):
        level, doubt = resolve_white(array, None, white)
        array = array_as_bytes(array, level)
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))
    rgb = _to_rgb(Pixels(image), white)
    return rgb if doubt is None else replace(rgb, is_dark=True, remarks=(doubt, *rgb.remarks))


def _to_rgb(pixels: Pixels, white: WhiteLevel) -> RGBImage:
    """Convert what has been decoded, in bands of rows where a whole image would have to be copied on the way."""
    image, doubt = pixels.image, None
    to_srgb = conversion_of(image)
    remarks = [to_srgb.problem] if to_srgb.problem else []
    if is_deep(image) or pixels.is_cut:
        level, doubt = resolve_white(image, pixels.white, white, is_cut=pixels.is_cut)
        remarks += [doubt] if doubt else []
    if is_deep(image):
        converted = _by_bands(image, lambda band: to_srgb(Image.fromarray(grey_as_bytes(band, image, level))))
    elif image.mode == "La" or image.has_transparency_data:
        colour = _transparent_colour(pixels)
        if any(_with_alpha(image.crop(band), colour).getchannel("A").getbbox() for band in bands_of(image.size)):
            converted = _by_bands(image, lambda band: _over_white(to_srgb(_with_alpha(band, colour))))
        else:
            remarks.append("transparent throughout, and taken without transparency")
            converted = _by_bands(image, lambda band: to_srgb(_with_alpha(band, colour).convert("RGB")))
    elif to_srgb.transform is not None:
        converted = _by_bands(image, to_srgb)
    else:
        converted = image if image.mode == "RGB" else image.convert("RGB")
    return RGBImage(converted, pixels.reduced_from is not None, doubt is not None, tuple(remarks))


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    result = Image.new("RGB", image.size)
    for band in bands_of(image.size):
        result.paste(convert(image.crop(band)).convert("RGB"), band[:2])
    return result


def _transparent_colour(pixels: Pixels) -> tuple[int, ...] | None:
    """Return the transparent colour of a PNG of 3 x 16 bits in the eight bits that Pillow gives to its pixels."""
    colour = pixels.image.info.get("transparency")
    if isinstance(colour, tuple) and (pixels.is_cut or max(colour) > 255):  # what others have decoded tells no more
        return tuple(value >> 8 for value in colour)
    return None


def _with_alpha(band: Image.Image, colour: tuple[int, ...] | None) -> Image.Image:
    if colour is not None:
        band.info["transparency"] = colour
    return band.convert("LA").convert("RGBA") if band.mode == "La" else band.convert("RGBA")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


# ------------------------------------------------------------ what cannot be


def find_unreadable(
    images: Sequence[ImageLike],
    *,
    n_jobs: int | None = None,
    is_known: Sequence[bool] | np.ndarray | None = None,
    max_memory: int | None = None,
    white: WhiteLevel | None = None,
) -> dict[int, str]:
    """Open files for their headers, once each, and report those that cannot be images, or are too large to decode.

    What lies behind the header is seen by decoding only. Images that are known to be sound need not be opened, and what
    a stamp says already costs no opening. PIL images and arrays are looked at where their header may be refused. With
    `white`, signed integers are reported too, unless it says which value is white.
    """
    is_sound = [False] * len(images) if is_known is None else is_known
    rows = [row for row, image in enumerate(images) if not is_sound[row] and _has_header(image)]
    bound = decoding_bound(max_memory)
    return _found(images, rows, lambda row: _check_header(images[row], bound, white), n_jobs)


def _has_header(image: ImageLike) -> bool:
    if isinstance(image, Image.Image):
        return is_waiting(image) or is_deep(image) or image.format == "TIFF"
    return not isinstance(image, np.ndarray) or is_deep(image)


def _check_header(image: ImageLike, bound: int, white: WhiteLevel | None) -> None:
    if isinstance(image, ImageFile | bytes):
        with BytesIO(image) if isinstance(image, bytes) else open(image.path, "rb") as file:
            opened = open_header(file).image
            if white is not None:
                check_signed(opened, white)
            reduction_that_fits(opened, bound)
            if isinstance(image, ImageFile) and image.box is not None:
                check_box(opened, image.box)
    elif isinstance(image, Image.Image):
        with alone_with(image):
            _check_in_place(image, bound)
    if white is not None and isinstance(image, Image.Image | np.ndarray):
        check_signed(image, white)


def find_damaged(
    images: Sequence[ImageLike],
    rows: Sequence[int],
    *,
    n_jobs: int | None = None,
    max_memory: int | None = None,
    white: WhiteLevel = FULL_RANGE,
    warns: bool = False,
) -> dict[int, str]:
    """Decode some images for nothing but to see whether they can be; reasons by index.

    With `warns` the user is told what is particular about others, where nobody else will do it.
    """
    remarks: dict[int, tuple[str, ...]] = {}

    def decode(row: int) -> None:
        with MemoryTicket(max_memory) as ticket:
            remarks[row] = read_image(images[row], None, ticket, lambda size: MAX_REDUCTION, white).remarks

    found = _found(images, rows, decode, n_jobs)
    if warns:
        warn_of(remarks, images, rows_of_each(images, rows))
    return found


def _found(
    images: Sequence[ImageLike], rows: Sequence[int], check: Callable[[int], None], n_jobs: int | None
) -> dict[int, str]:
    """Why a check fails, by index, in order; what comes several times is checked once."""
    copies = rows_of_each(images, rows)

    def why(row: int) -> str | None:
        problem = known_problem(images[row])
        if problem is None:  # a pipe would be waited for
            try:
                check(row)
            except Exception as error:  # PIL's plugins raise anything on broken files
                return reason_of(error)
        return problem

    with image_threads(n_jobs) as pool:
        reasons = list(pool.map(why, copies))
    found = {row: reason for same, reason in zip(copies.values(), reasons, strict=True) if reason for row in same}
    return dict(sorted(found.items()))


def reason_of(error: Exception) -> str:
    """Say why an image cannot be read, in words of the user."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return IS_FOLDER
    if isinstance(error, MemoryError):
        return "it takes more memory than there is: lower n_jobs or max_memory, unless its header is wrong"
    return f"{error}" or type(error).__name__


# ------------------------------------------------------------------- threads


@contextlib.contextmanager
def image_threads(n_jobs: int | None) -> Iterator[ThreadPoolExecutor]:
    """Threads that read and decode; what they have not begun at the end of the block is dropped."""
    pool = ThreadPoolExecutor(thread_count(n_jobs))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class Decoder:
    """Turns images into uint8 pixels, in the threads of a pool, each decoded once and resized for each preprocessing.

    Of each image there are `n_views` views, see `views.pixels_of_view`: view v of image i has the number
    ``i * n_views + v``.

    The images under way, in all threads of the process, may take `max_memory` bytes together. A JPEG file that takes
    more alone is decoded at smaller sides, as far as the preprocessings allow, and any other fails.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        preprocessings: Sequence[Preprocessing],
        pool: ThreadPoolExecutor,
        max_memory: int | None = None,
        white: WhiteLevel = FULL_RANGE,
        n_views: int = 1,
    ):
        self.failures: dict[int, str] = {}  # why images could not be decoded so far, by index
        # reduced or dark ones, of which another call would get other pixels, or none: nothing of them is to be kept
        self.provisional: set[int] = set()
        self.remarks: dict[int, tuple[str, ...]] = {}  # what the user is to be told of decoded images, by index
        self._images, self._preprocessings, self._pool = images, preprocessings, pool
        self._max_memory, self._white, self.n_views = max_memory, white, n_views
        self._sizes = [preprocessing.size for preprocessing in preprocessings]
        self._resizers = [preprocessing.resizer() for preprocessing in preprocessings]

    def start(
        self, views: Sequence[int], contents: Mapping[int, bytes] | None = None
    ) -> Callable[[], list[np.ndarray]]:
        """Begin to decode views of images, whose files are opened where their contents, by image, are not there yet.

        The returned function waits until they are decoded and returns, for each preprocessing, an array of shape
        (len(views), H, W, 3), uint8. The row of an image that could not be decoded, see `failures`, means nothing.
        """
        targets = [np.empty((len(views), *size, 3), np.uint8) for size in self._sizes]
        contents, wanted = contents or {}, dict[int, dict[int, list[np.ndarray]]]()
        for place, number in enumerate(views):
            row, view = divmod(number, self.n_views)
            wanted.setdefault(row, {})[view] = [target[place] for target in targets]
        jobs = [self._pool.submit(self._decode, row, contents.get(row), of_row) for row, of_row in wanted.items()]
        del contents  # each job lets go of its bytes when it is done

        def finished() -> list[np.ndarray]:
            for job in jobs:
                job.result()
            return targets

        return finished

    def _decode(self, row: int, content: bytes | None, wanted: Mapping[int, list[np.ndarray]]) -> None:
        """Decode an image, and write the views of it that are wanted, by number, to arrays for each preprocessing."""
        image = self._images[row]
        problem = known_problem(image)
        if problem is not None:
            self.failures[row] = problem
            return
        try:
            with MemoryTicket(self._max_memory) as ticket:
                rgb = read_image(image, content, ticket, self._shrinkage, self._white)
                for number, (preprocessing, resize) in enumerate(
                    zip(self._preprocessings, self._resizers, strict=True)
                ):
                    whole = np.asarray(resize(rgb.image))
                    for view, targets in wanted.items():
                        targets[number][:] = pixels_of_view(rgb.image, view, whole, preprocessing, resize)
                self.remarks[row] = rgb.remarks
                if rgb.is_reduced or rgb.is_dark:
                    self.provisional.add(row)
                del rgb  # before others take its memory
        except Exception as error:  # PIL's plugins raise anything on broken files
            self.failures[row] = reason_of(error)

    def _shrinkage(self, size: tuple[int, int]) -> float:
        """How many times smaller an image of this width and height may become before any preprocessing enlarges it."""
        return min(preprocessing.shrinkage(size) for preprocessing in self._preprocessings)
