"""What is in images, whatever they are called: digests that are equal where the content is."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from skl2rclip._embedding.cache import known_digests
from skl2rclip._embedding.store import digest_of, digest_of_array
from skl2rclip._images.crops import edges_of
from skl2rclip._images.decoding import image_threads
from skl2rclip._images.files import ImageFile, ImageLike


def content_digests(
    images: Sequence[ImageLike], folder: str | os.PathLike | None = None, n_jobs: int | None = None
) -> list[bytes]:
    """Digest of each image's content; files that an embedding cache knows in `folder` are not read again."""
    known = known_digests(images, folder)
    with image_threads(n_jobs) as pool:
        return list(pool.map(lambda image: _digest(image, known), images))


def _digest(image: ImageLike, known: dict[str, bytes]) -> bytes:
    if isinstance(image, bytes):
        return digest_of(image)
    if isinstance(image, np.ndarray):
        return digest_of_array(image)
    if isinstance(image, Image.Image):
        palette = b"" if image.palette is None else bytes(image.palette.palette)
        return digest_of(
            f"{image.mode} {image.size} {image.info.get('icc_profile')}".encode() + palette + image.tobytes()
        )
    if not isinstance(image, ImageFile):
        return digest_of(image.problem.encode())
    if image.location not in known:
        try:
            known[image.location] = digest_of(image.read())
        except OSError as error:  # the fit will say so, or leave it out
            return digest_of(f"{error}".encode())
    digest = known[image.location]
    return digest if image.box is None else digest_of(digest + f"{edges_of(image.box)}".encode())
