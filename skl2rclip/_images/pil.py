"""PIL images that a user hands over, decoded without a trace in them: from a copy of their file where there is one.

A PIL image that has been opened and not decoded is decoded where it is first looked at, and moves its file on the way.
Whoever holds the same image in another thread, or goes on reading, would see that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image

from skl2rclip._images.formats import format_of
from skl2rclip._images.header import check_format, opened_picture
from skl2rclip._images.memory import is_waiting, orientation_of
from skl2rclip._utils.forks import in_forked_child

# in `info`, beside EXIF that has been read already
_SAYING_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# by image, and by file, which several images may share; which file an image has can change while it is decoded
_N_LOCKS = 64
_image_locks: list[threading.Lock] = []
_file_locks: list[threading.Lock] = []


def _make_locks() -> None:
    for locks in (_image_locks, _file_locks):
        locks[:] = [threading.Lock() for _ in range(_N_LOCKS)]


_make_locks()
in_forked_child(_make_locks)


@dataclass(frozen=True)
class OwnCopy:
    """What a user's image was opened from, opened once more.

    Attributes
    ----------
    picture : PIL image
        Not decoded, at the same frame, with the same `info` and orientation.
    content : bytes or None
        What is in the file; None where the user's image is not what the file alone would give, but another frame, a
        draft, or one whose `info` or EXIF was changed.
    """

    picture: Image.Image
    content: bytes | None


@contextmanager
def alone_with(image: Image.Image) -> Iterator[None]:
    """Let nobody else, of those who ask here, look at an image or its file meanwhile, and leave the file where it was.

    EXIF that nobody had looked at stays so. Nobody may enter who holds memory that others wait for.
    """
    with _image_locks[id(image) // 16 % _N_LOCKS]:
        file: Any = getattr(image, "fp", None)
        has_exif = is_waiting(image) or image._exif is not None
        with _file_locks[id(image if file is None else file) // 16 % _N_LOCKS]:
            place = _place_in(file)
            try:
                yield
            except (AssertionError, AttributeError) as error:  # what Pillow raises where it has let go of the file
                if file is not None:
                    raise
                message = "it was closed or verified before it was decoded: open it again, or give its path"
                raise ValueError(message) from error
            finally:
                if not has_exif:
                    image._exif = None
                if place is not None and not getattr(file, "closed", False):
                    file.seek(place)


def _place_in(file: Any) -> int | None:
    """Where an open file stands; None where there is none, or where it cannot be left and found again."""
    try:
        return int(file.tell()) if getattr(file, "seekable", lambda: True)() else None
    except (AttributeError, OSError, ValueError):  # closed, or no file
        return None


def own_copy(image: Image.Image) -> OwnCopy | None:
    """Open a user's image once more, from a copy of its file in memory.

    Returns
    -------
    OwnCopy or None
        None for what has been decoded already, what has no file that can be gone through again, and what its file does
        not give any more.

    Raises
    ------
    RefusedFormatError, DecompressionBombError, ValueError
        As for a file with this content.
    """
    with alone_with(image):
        if not is_waiting(image):
            return None
        check_format(image.format)
        content = _content_of(image)
        if content is None:
            return None
        frame = image.tell()
        try:
            picture = opened_picture(BytesIO(content), frame=frame or None)
            is_whole = frame == 0 and _is_as_opened(picture, image)
            is_same = is_whole or _takes_on(picture, image)
        except (Image.UnidentifiedImageError, EOFError):
            return None
    return OwnCopy(picture, content if is_whole else None) if is_same else None


def _content_of(image: Any) -> bytes | None:
    file = image.fp
    if _place_in(file) is None:
        return None
    try:
        file.seek(0)
        content = file.read()
    except (AttributeError, OSError, ValueError):
        return None
    return content if isinstance(content, bytes) else None


def _is_as_opened(opened: Any, image: Any) -> bool:
    """Whether the user has changed nothing of an image since it was opened, as far as that shows in its pixels."""
    if opened.tell() != 0:  # a thumbnail was passed over, and nothing is decoded from the user's
        return True
    return bool(
        _looks_of(opened) == _looks_of(image)
        and opened.info == image.info
        and opened.tile == image.tile
        and (image._exif is None or orientation_of(opened) == orientation_of(image))
    )


def _looks_of(image: Any) -> tuple[object, ...]:
    return image.format, image.mode, image.size


def _takes_on(picture: Any, image: Any) -> bool:
    """Give an own copy what the user has changed in the image, and tell whether they are the same then."""
    if picture.tell() != image.tell() or picture.format != image.format:
        return False
    if format_of(picture).is_reducible:  # of a draft these tell everything
        picture.tile, picture.decoderconfig = list(image.tile), image.decoderconfig
        picture._size, picture._mode = image._size, image._mode
    picture.info = dict(image.info)
    if image._exif is not None and orientation_of(picture) != orientation_of(image):
        picture.getexif()[ExifTags.Base.Orientation] = orientation_of(image)
    return _looks_of(picture) == _looks_of(image)


def decoded_view(image: Any) -> Any:
    """Decode an image in place, if that has not been done, and return another that shares its pixels and nothing else.

    To be called by who is alone with the image.
    """
    image.load()  # also the frame that it has been moved to
    view = image._new(image.im)
    view.format = image.format
    orientation = orientation_of(image)
    for name in _SAYING_ORIENTATION:
        view.info.pop(name, None)
    view.getexif()[ExifTags.Base.Orientation] = orientation
    if hasattr(image, "tag_v2"):
        view.tag_v2 = image.tag_v2
    return view
