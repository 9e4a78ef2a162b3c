"""What images look like, to be compared as ``_images.likeness`` does, kept beside their embeddings.

Whether the same files, arrays and PIL images were looked at before is told as for embeddings, by their content.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from skl2rclip._embedding.cache import EmbeddingCache
from skl2rclip._images.decoding import image_threads, read_image, reason_of
from skl2rclip._images.files import ImageLike, rows_of_each
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.likeness import APPEARANCE, VERSION, appearance_of
from skl2rclip._images.memory import MemoryTicket
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip.errors import UnreadableImagesError

_CHUNK = 256
_SMALL = Preprocessing(size=(64, 64), mean=(), std=(), interpolation="lanczos", resize_mode="squash")


def appearances_of(
    images: Sequence[ImageLike],
    folder: str | os.PathLike | None,
    n_jobs: int | None,
    max_memory: int | None,
    white: WhiteLevel,
) -> np.ndarray:
    """Look at every image, which decodes those alone that nobody has looked at: ndarray of shape (n,), `APPEARANCE`.

    Raises
    ------
    UnreadableImagesError
        Where an image cannot be decoded.
    """
    seen = np.zeros(len(images), APPEARANCE)
    copies, failures = rows_of_each(images, range(len(images))), dict[int, str]()
    with (
        EmbeddingCache(VERSION, _SMALL, "uint8", folder=folder, max_memory=max_memory, white=white) as cache,
        image_threads(n_jobs) as pool,
    ):
        keys = cache.known_keys(images)
        kept = dict[bytes, np.ndarray]()

        def look(first: int) -> None:
            try:
                with MemoryTicket(max_memory) as ticket:
                    rgb = read_image(images[first], None, ticket, _SMALL.shrinkage, white)
                    seen[first] = appearance_of(rgb.image)
            except Exception as error:  # PIL's plugins raise anything on broken files
                failures.update(dict.fromkeys(copies[first], reason_of(error)))
                return
            if not rgb.is_reduced:  # with more memory it would look a little different
                kept[keys[first]] = seen[first, None].view(np.float32)

        firsts = list(copies)
        for start in range(0, len(firsts), _CHUNK):
            chunk = firsts[start : start + _CHUNK]
            unread = [first for first in chunk if first not in keys]
            read = pool.map(lambda first: cache.read(images[first])[0], unread)
            keys.update(zip(unread, read, strict=True))
            # what another is looking at is not waited for: it takes milliseconds
            known, _ = cache.take([keys[first] for first in chunk], despite_claims=True)
            for first in chunk:
                if keys[first] in known:
                    seen[first] = known[keys[first]].view(APPEARANCE)[0]
            list(pool.map(look, [first for first in chunk if keys[first] not in known]))
            if kept:
                cache.put(kept)
                kept.clear()
    if failures:  # where the cache knew what has gone since
        raise UnreadableImagesError(dict(sorted(failures.items())), images, len(images))
    for first, rows in copies.items():
        seen[rows] = seen[first]
    return seen
