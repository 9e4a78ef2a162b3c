"""What images are before anything is opened: paths with what the system says of them, contents, objects.

A path is asked about once, by `stamped`, and what the system said goes along with it from there.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from skl2rclip._images.crops import Box, ImageCrop, edges_of
from skl2rclip._utils.names import near_name

# a file changed this recently may change again without another time stamp
_RACY_SECONDS = 2.0
IS_FOLDER = "this is a folder, not an image file"
# a single letter is a drive; a Path of Windows has made backslashes of the slashes
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]+:[/\\]|data:image[/\\])", re.IGNORECASE)
# of a path, where the system does not say that it is too long but that there is no such file
_MAX_PATH = 260 if sys.platform == "win32" else None
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64}")
_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_KINDS = {  # what is opened in vain, or waited for
    stat.S_ISDIR: IS_FOLDER,
    stat.S_ISFIFO: "this is a pipe, not a regular file",
    stat.S_ISSOCK: "this is a socket, not a regular file",
    stat.S_ISCHR: "this is a device, not a regular file",
    stat.S_ISBLK: "this is a device, not a regular file",
}


@dataclass(frozen=True, slots=True)
class ImageFile(os.PathLike[str]):
    """A path as the user gave it, with what the system said of the file, once."""

    path: str | os.PathLike
    location: str  # the path from the root, which tells whether two of them are the same
    stamp: str = ""  # changes with the file's content: size, times and place; empty where there is no such file
    size: int = 0
    changed: float = 0.0  # when content or status changed last, in seconds of the system's clock
    problem: str | None = None  # why this cannot be an image, as far as the system knows without opening it
    box: Box | None = None  # of an `ImageCrop`: what of the image is read

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

    def is_stable(self) -> bool:
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
    if _ADDRESS.match(name):
        return "no such file; it was an address before it became a Path, and nothing is fetched"
    if is_base64(name[:64].encode(errors="replace")):
        return "this is the text of an image in base64, and no name of a file: give base64.b64decode(text)"
    if name.startswith("~"):
        return "no such file; ~ is no name of a folder here: give os.path.expanduser(path)"
    if isinstance(error, FileNotFoundError) and _MAX_PATH is not None and len(location) >= _MAX_PATH:
        return f"no such file; Windows finds paths of {_MAX_PATH} characters and more only where long paths are enabled"
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


def address_hint(name: str, remedy: str) -> str | None:
    """Say of an address that nothing is fetched, and what to do instead; None where it is none."""
    if not _ADDRESS.match(name) or not ("://" in name or name.startswith("data:")):
        return None
    said = f"an address, {name[:80]!r}, and nothing is fetched by this library: "
    if name.lower().startswith("file://"):
        return f"{said}give its path, {url2pathname(urlsplit(name).path)!r}"
    return f"{said}{remedy}"


def is_base64(content: bytes) -> bool:
    """Whether what should be an image, or its name, is the content of an image that was made text."""
    beginning = content[:64].decode("latin-1")
    return bool(_BASE64.match(beginning)) and base64.b64decode(beginning).startswith(_FIRST_BYTES)


@dataclass(frozen=True, slots=True)
class Unread:
    """What a container could not hand out, and what it said."""

    problem: str


# bytes are always what is in a file, and never its name
ImageLike = ImageFile | bytes | Image.Image | np.ndarray | Unread


def identity_of(image: ImageLike) -> Hashable:
    """Tell what images have in common that are the same file, the same content or the same object."""
    if isinstance(image, ImageFile):
        return image.location if image.box is None else (image.location, edges_of(image.box))
    return image if isinstance(image, bytes) else id(image)


def rows_of_each(images: Sequence[ImageLike], rows: Iterable[int]) -> dict[int, list[int]]:
    """Those of the rows that hold the same image, by the first of them."""
    rows_of: dict[Hashable, list[int]] = {}
    for row in rows:
        rows_of.setdefault(identity_of(images[row]), []).append(row)
    return {same[0]: same for same in rows_of.values()}


def known_problem(image: ImageLike) -> str | None:
    """Why an image cannot be read, as far as is known without looking."""
    if isinstance(image, bytes):
        if is_base64(image):
            return "its content is the text of an image in base64: give base64.b64decode(content)"
        return None if image else "its content is empty"
    return image.problem if isinstance(image, ImageFile | Unread) else None


def stamped(images: Iterable[Any]) -> list[ImageLike]:
    """Ask the system about the paths among the images of `as_image_list`, once about each; all else stays as it is."""
    asked: dict[str, ImageFile] = {}

    def with_stamp(image: Any) -> ImageLike:
        path, box = (image.path, image.box) if isinstance(image, ImageCrop) else (image, None)
        if isinstance(path, ImageFile) or not isinstance(path, str | os.PathLike):
            return image
        location = _location_of(path)
        if location not in asked:
            asked[location] = ImageFile.of(path)
        return replace(asked[location], path=path, box=box)

    return [with_stamp(image) for image in images]
