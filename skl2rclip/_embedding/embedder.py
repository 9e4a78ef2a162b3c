"""From images to embeddings, in chunks: what is known, what has to be decoded, and a tower that is never kept waiting.

Cache, decoder and tower are put together here; none knows of the others, and nothing here knows a label.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from skl2rclip._embedding.cache import EmbeddingCache, known_digests
from skl2rclip._embedding.encoding import N_SMALL, ImageEncoding
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import Decoder, find_damaged, find_unreadable, image_threads
from skl2rclip._images.files import ImageFile, ImageLike, rows_of_each, stamped
from skl2rclip._images.levels import FULL_RANGE, WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._images.remarks import warn_of
from skl2rclip._utils.devices import explain_out_of_memory
from skl2rclip._utils.eta import ProgressMonitor, quicker_device
from skl2rclip._utils.interrupts import undone_by
from skl2rclip._utils.names import IN_ORDER, EntryNames
from skl2rclip._utils.progress import counted
from skl2rclip.errors import UnreadableImagesError

_log = logging.getLogger(__name__)
_CHUNK = 256
# of files that are read into memory together; two chunks of them are there at a time
_CHUNK_BYTES = 100 * 10**6
# chunks of decoded images are there for several threads at a time
_DOING, _REMEDIES = "decoding and embedding images", ("lower n_jobs or max_memory",)
_POLL_SECONDS = 0.05
# another process that has stopped without dying may not keep this one from its work for ever
_PATIENCE_SECONDS = 300.0


def check_headers(
    images: Sequence[ImageLike],
    folder: str | os.PathLike | None,
    n_jobs: int | None,
    max_memory: int | None = None,
    white: WhiteLevel = FULL_RANGE,
) -> dict[str, bytes]:
    """Open files for their headers, so that what is no image, or too large to decode, is named before any work.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    folder : path or None
        Of an embedding cache: files that were decoded before, with it or by this process, are not opened.
    n_jobs : int or None
        Threads.
    max_memory : int or None
        Bytes that the images being decoded may take together.
    white : WhiteLevel, optional
        Which value is white where an image does not say it.

    Returns
    -------
    dict of str to bytes
        Digests, by location, of those files, to be handed to what embeds the images.

    Raises
    ------
    UnreadableImagesError
    """
    known = known_digests(images, folder)
    # of a file that is known to be an image a box may still lie outside
    is_known = [isinstance(image, ImageFile) and image.box is None and image.location in known for image in images]
    unreadable = find_unreadable(images, n_jobs=n_jobs, is_known=is_known, max_memory=max_memory, white=white)
    if unreadable:  # what the others hide behind their headers is to be named with it
        rest = [row for row in range(len(images)) if row not in unreadable and not is_known[row]]
        unreadable |= find_damaged(images, rest, n_jobs=n_jobs, max_memory=max_memory, white=white)
        raise UnreadableImagesError(dict(sorted(unreadable.items())), images, len(images))
    return known


def embed_chunks(
    images: Sequence[ImageLike],
    encoding: ImageEncoding,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
    max_memory: int | None = None,
    names: EntryNames = IN_ORDER,
    white: WhiteLevel = FULL_RANGE,
    known: Mapping[str, bytes] | None = None,
    n_views: int | np.ndarray = 1,
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Embed images chunk by chunk: files are read and decoded ahead while the tower works on the present chunk.

    The first image that cannot be decoded ends the tower's work; the others are still decoded, so that the error names
    every one, and what was embedded before stays in the cache. What is plainly no image `check_headers` has named
    before.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    encoding : ImageEncoding
    cache : EmbeddingCache or None
        What it knows is not computed again, and what is computed goes there; None for a tower that nobody shares.
    n_jobs : int or None
        Decoding threads.
    max_memory : int or None
        Bytes that the images being decoded may take together.
    names : EntryNames, optional
        What the user calls each image, which warnings say, where that is not its index in X.
    white : WhiteLevel, optional
        Which value is white where an image does not say it; the cache was made with the same.
    known : mapping of str to bytes, optional
        What `check_headers` has returned.
    n_views : int or ndarray of shape (n,), optional
        Views of each image that are embedded, see `_images.views.pixels_of_view`; 1 is the image as it is.

    Yields
    ------
    rows : ndarray of int
        Indices in `images`, each once, in the order in which the embeddings are there; with several views
        ``i * max(n_views) + v`` for view v of image i.
    embeddings : ndarray of shape (chunk, W), float32
        As `ImageEncoding.of_pixels`: unit rows, with features behind them where the encoding has such.

    Raises
    ------
    UnreadableImagesError
    MemoryError
    """
    of = (images, [encoding.preprocessing], encoding, cache, n_jobs, max_memory)
    with _open(*of, names=names, white=white, known=known, n_views=n_views) as stream:
        for rows, _, embeddings in stream:
            assert embeddings is not None
            yield rows, embeddings


def embed_images(
    images: Sequence[ImageLike],
    encoding: ImageEncoding,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
    max_memory: int | None = None,
    verbose: int = 0,
    names: EntryNames = IN_ORDER,
    white: WhiteLevel = FULL_RANGE,
    known: Mapping[str, bytes] | None = None,
    n_views: int | np.ndarray = 1,
) -> np.ndarray:
    """Embeddings of all images together, ndarray of shape (n max(n_views), W), float32; otherwise as `embed_chunks`.

    Rows of views that an image does not have are zero.

    With `verbose` a bar shows how many are done.
    """
    counts = np.broadcast_to(n_views, len(images))
    most = int(counts.max(initial=1))
    result = np.zeros((len(images) * most, encoding.n_columns), np.float32)
    chunks = embed_chunks(images, encoding, cache, n_jobs, max_memory, names, white, known, n_views)
    unit = "image" if most == 1 else "view"
    with closing(counted(chunks, int(counts.sum()), verbose, unit=unit)) as all_chunks:
        for rows, embeddings in all_chunks:
            result[rows] = embeddings
    return result


def decode_and_embed(
    images: Sequence[ImageLike],
    preprocessings: Sequence[Preprocessing],
    encoding: ImageEncoding | None,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
    max_memory: int | None = None,
    names: EntryNames = IN_ORDER,
    white: WhiteLevel = FULL_RANGE,
    known: Mapping[str, bytes] | None = None,
) -> Generator[tuple[np.ndarray, list[np.ndarray], np.ndarray | None]]:
    """Decode images chunk by chunk for those who want their pixels, and embed them on the way.

    Each file is opened once for all of it. What cannot be decoded is dealt with as by `embed_chunks`.

    Parameters
    ----------
    images : list of length n
        As `stamped` returns it.
    preprocessings : sequence of Preprocessing
        Each image is decoded once and resized for each of these; the first is the tower's own where there is one.
    encoding : ImageEncoding or None
        None embeds nothing.
    cache : EmbeddingCache or None
        As for `embed_chunks`.
    n_jobs : int or None
        Decoding threads.
    max_memory : int or None
        Bytes that the images being decoded may take together.
    names : EntryNames, optional
        What the user calls each image, which warnings say, where that is not its index in X.
    white : WhiteLevel, optional
        Which value is white where an image does not say it; the cache was made with the same.
    known : mapping of str to bytes, optional
        What `check_headers` has returned.

    Yields
    ------
    rows : ndarray of int
        Indices in `images`, each once; those that another thread or process is embedding at the moment come last.
    pixels : list of ndarray of shape (chunk, H, W, 3), uint8
        One array for each preprocessing.
    embeddings : ndarray of shape (chunk, W), float32, or None
        As by `embed_chunks`; None without an encoding.

    Raises
    ------
    UnreadableImagesError
    MemoryError
    """
    cache = None if encoding is None else cache
    with _open(images, preprocessings, encoding, cache, n_jobs, max_memory, True, names, white, known) as stream:
        yield from stream


def decoded_pixels(
    X: Any,
    preprocessing: Preprocessing,
    white: WhiteLevel = FULL_RANGE,
    n_jobs: int | None = None,
    max_memory: int | None = None,
) -> np.ndarray:
    """Decode images to the pixels that a tower takes, as predictions do, ndarray of shape (n, H, W, 3), uint8."""
    images = stamped(as_image_list(X))
    known = check_headers(images, None, n_jobs, max_memory, white)
    result = np.empty((len(images), *preprocessing.size, 3), np.uint8)
    decoded = decode_and_embed(images, [preprocessing], None, None, n_jobs, max_memory, white=white, known=known)
    for rows, (pixels,), _ in decoded:
        result[rows] = pixels
    return result


@contextmanager
def _open(
    images: Sequence[ImageLike],
    preprocessings: Sequence[Preprocessing],
    encoding: ImageEncoding | None,
    cache: EmbeddingCache | None,
    n_jobs: int | None,
    max_memory: int | None,
    wants_pixels: bool = False,
    names: EntryNames = IN_ORDER,
    white: WhiteLevel = FULL_RANGE,
    known: Mapping[str, bytes] | None = None,
    n_views: int | np.ndarray = 1,
) -> Iterator[_Stream]:
    """Begin a stream, with everything that has to be ended after it."""
    with (
        explain_out_of_memory(None if encoding is None else encoding.batch_size, _DOING, _REMEDIES),
        nullcontext() if cache is None else undone_by(cache.end),  # though an interrupt comes as it is left
        nullcontext() if cache is None else cache,
        image_threads(n_jobs) as pool,
    ):
        counts = np.broadcast_to(n_views, len(images))
        decoder = Decoder(images, preprocessings, pool, max_memory, white, int(counts.max(initial=1)))
        stream = _Stream(images, decoder, encoding, cache, pool, wants_pixels, names, known, counts)
        stream.monitor = _monitor(stream, encoding, cache)
        yield stream


def _monitor(stream: _Stream, encoding: ImageEncoding | None, cache: EmbeddingCache | None) -> ProgressMonitor:
    quicker = ["more n_jobs, the threads that decode, if there are cores left"]
    if encoding is None:
        return ProgressMonitor("Decoding the images", stream.n_different, "image", quicker)
    quicker = [*quicker_device(encoding.device), "a smaller model_name", *quicker]
    if encoding.device.type == "cuda" and encoding.precision == "float32":
        quicker.insert(0, "precision='auto'")
    if cache is None or cache.folder is None:
        quicker.append("embedding_cache=folder, which keeps the embeddings for all that follows")
    return ProgressMonitor(f"Embedding the images on {encoding.device}", stream.n_different, "image", quicker)


@dataclass(frozen=True)
class _Chunk:
    """Views under way: `rows` of them, of which those that `decoded` lists are decoded, and `mine` to be embedded."""

    rows: list[int]
    mine: list[int]
    known: dict[int, np.ndarray]
    decoded: list[int]
    pixels: Callable[[], list[np.ndarray]]


_Part = tuple[np.ndarray, list[np.ndarray], np.ndarray | None]


class _Stream:
    """The way of images through cache, decoder and tower.

    Three chunks are under way at a time: the files of one are read for their keys, those images of the next that are
    not known are decoded, and the present one passes the tower. A file that comes several times goes once. What passes
    is a view of an image, of which view v of image i has the number ``i * n_views + v``; files, keys and failures are
    those of images.
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        decoder: Decoder,
        encoding: ImageEncoding | None,
        cache: EmbeddingCache | None,
        pool: ThreadPoolExecutor,
        wants_pixels: bool,
        names: EntryNames,
        known: Mapping[str, bytes] | None,
        counts: np.ndarray,  # (n,), of views
    ):
        self.keys = {} if cache is None else cache.known_keys(images, known)
        self._images, self._encoding, self._cache, self._pool = images, encoding, cache, pool
        self._wants_pixels, self._names, self._n_views = wants_pixels, names, decoder.n_views
        self._decoder = decoder
        self._copies = rows_of_each(images, range(len(images)))
        self._counts = {first: int(counts[rows].max()) for first, rows in self._copies.items()}
        self._left: list[int] = []
        self._kept: set[int] = set()
        self._n_known = self._n_done = 0
        self.monitor: ProgressMonitor | None = None
        self._has_progressed = self._is_impatient = False

    @property
    def n_different(self) -> int:
        """Number of different images, or of views of them."""
        return sum(self._counts.values())

    def __iter__(self) -> Iterator[_Part]:
        """Go over the images until each is done; what others are embedding is asked for again and again."""
        waiting = [row * self._n_views + view for row, count in self._counts.items() for view in range(count)]
        since = time.monotonic()
        begun = since
        while waiting:
            self._left, self._has_progressed = [], False
            self._is_impatient = time.monotonic() - since > _PATIENCE_SECONDS
            read = _ahead(self._start_reading(rows) for rows in _chunks_of(self._images, waiting, self._n_views))
            for chunk in _ahead(self._look_up(rows, contents) for rows, contents in read):
                yield from self._finish(chunk)
            if self._has_progressed:
                since = time.monotonic()
            else:
                time.sleep(_POLL_SECONDS)
            waiting = self._left
        if self._decoder.failures:
            # what is in the cache is not decoded again if the call goes on without the others
            self._warn(self._kept)
            failures = {row: why for first, why in self._decoder.failures.items() for row in self._copies[first]}
            raise UnreadableImagesError(failures, self._images, len(self._images))
        self._warn(self._copies.keys())
        _log.info(
            "%d images, %d different ones among them, of whose %d views %d were known, took %.1f s.",
            len(self._images),
            len(self._copies),
            self.n_different,
            self._n_known,
            time.monotonic() - begun,
        )

    def _warn(self, about: Collection[int]) -> None:
        """Tell what is particular about images, once for all files of the same content, of which one is decoded."""
        remarks, same = self._decoder.remarks, dict[Hashable, list[int]]()
        for first in self._copies:
            same.setdefault(self.keys.get(first, first), []).append(first)
        copies = {
            next((first for first in firsts if first in remarks), firsts[0]): [
                row for first in firsts for row in self._copies[first]
            ]
            for firsts in same.values()
        }
        warn_of(remarks, self._images, {row: rows for row, rows in copies.items() if row in about}, self._names)

    def _start_reading(self, views: list[int]) -> tuple[list[int], dict[int, Future]]:
        """Begin to read the files that have no key yet."""
        if self._cache is None:
            return views, {}
        unread = dict.fromkeys(row for row in (view // self._n_views for view in views) if row not in self.keys)
        return views, {row: self._pool.submit(self._cache.read, self._images[row]) for row in unread}

    def _look_up(self, rows: list[int], reading: dict[int, Future]) -> _Chunk:
        """Look a chunk up, claim what is not known, leave what others have claimed, and begin to decode the rest."""
        cache = self._cache
        if cache is None:
            self._has_progressed = True
            return _Chunk(rows, rows, {}, rows, self._decoder.start(rows))
        contents = {}
        for row in list(reading):
            self.keys[row], content = reading.pop(row).result()  # whose bytes only the decoder holds from now on
            if content is not None:
                contents[row] = content
        # once an image has failed, the rest is only tried: no claims, and nothing is waited for
        has_failed = bool(self._decoder.failures)
        keys = [self._key_of(cache, row) for row in rows]
        found, claimed = cache.take(keys, despite_claims=has_failed or self._is_impatient)
        self._has_progressed |= bool(found or claimed)
        done, known, mine, free = [], {}, [], set(claimed)
        for row, key in zip(rows, keys, strict=True):
            if key in found:
                known[row] = found[key]
            elif key in free or has_failed:
                free.discard(key)  # another file of the same content is looked up again when this one is embedded
                mine.append(row)
            else:
                self._left.append(row)
                continue
            done.append(row)
        decoded = done if self._wants_pixels and not has_failed else mine
        return _Chunk(done, mine, known, decoded, self._decoder.start(decoded, contents))

    def _finish(self, chunk: _Chunk) -> Iterator[_Part]:
        """Embed what is decoded, and hand the chunk on; nothing more once an image has failed."""
        pixels = chunk.pixels()
        if self._decoder.failures or not chunk.rows:
            return
        embeddings = None
        self._n_known += len(chunk.known)
        _log.debug("%d images done, %d of them known.", len(chunk.rows), len(chunk.known))
        if self._encoding is not None:
            embedded = dict(chunk.known)
            if chunk.mine:
                is_mine = np.isin(chunk.decoded, chunk.mine)
                computed = self._watched.of_pixels(pixels[0] if is_mine.all() else pixels[0][is_mine])
                embedded |= zip(chunk.mine, computed, strict=True)
                if self._cache is not None:
                    self._keep(self._cache, {row: embedded[row] for row in chunk.mine})
            embeddings = np.stack([embedded[row][: self._encoding.n_columns] for row in chunk.rows])
        self._n_done += len(chunk.rows)
        if self.monitor is not None:
            self.monitor.done(self._n_done)
        yield from self._with_copies(chunk.rows, pixels if self._wants_pixels else [], embeddings)

    def _key_of(self, cache: EmbeddingCache, number: int) -> bytes:
        row, view = divmod(number, self._n_views)
        return cache.key_of_view(self.keys[row], view)

    def _keep(self, cache: EmbeddingCache, embedded: Mapping[int, np.ndarray]) -> None:
        """Put what was embedded in the cache, but for images of which others would get other pixels, or none."""
        provisional = {number for number in embedded if number // self._n_views in self._decoder.provisional}
        kept = {number: row for number, row in embedded.items() if number not in provisional}
        cache.put({self._key_of(cache, number): row for number, row in kept.items()})
        self._kept.update(number // self._n_views for number in kept)
        if provisional:
            cache.leave({self._key_of(cache, number) for number in provisional})

    @property
    def _watched(self) -> ImageEncoding:
        """The encoding; as long as the first chunk passes it on the CPU, each batch is heard of."""
        assert self._encoding is not None
        monitor = self.monitor
        is_plain = self._encoding.is_plain
        if self._n_done or monitor is None or not is_plain or self.n_different <= 2 * N_SMALL:
            return self._encoding
        return replace(self._encoding, on_batch=monitor.done)

    def _with_copies(self, rows: list[int], pixels: list[np.ndarray], embeddings: np.ndarray | None) -> Iterator[_Part]:
        """Hand the same on for every place that a file has among the images."""
        n_views = self._n_views
        copies = [[row * n_views + number % n_views for row in self._copies[number // n_views]] for number in rows]
        counts = list(map(len, copies))
        if max(counts) == 1:
            yield np.array(rows), pixels, embeddings
            return
        places = np.repeat(np.arange(len(rows)), counts)
        everywhere = np.concatenate(copies)
        for start in range(0, len(places), _CHUNK):
            part = places[start : start + _CHUNK]
            yield (
                everywhere[start : start + _CHUNK],
                [array[part] for array in pixels],
                None if embeddings is None else embeddings[part],
            )


def _chunks_of(images: Sequence[ImageLike], views: Sequence[int], n_views: int = 1) -> Iterator[list[int]]:
    """Cut views into chunks of so many, and of so many bytes where they are of files; an image stays whole."""
    chunk: list[int] = []
    n_bytes = 0
    for row, of_image in groupby(views, lambda view: view // n_views):
        image = images[row]
        size = image.size if isinstance(image, ImageFile) else 0
        if chunk and (len(chunk) >= _CHUNK or n_bytes + size > _CHUNK_BYTES):
            yield chunk
            chunk, n_bytes = [], 0
        chunk += of_image
        n_bytes += size
    if chunk:
        yield chunk


_T = TypeVar("_T")


def _ahead(begun: Iterable[_T]) -> Iterator[_T]:
    """Hand each item on when the next one has been begun."""
    present = deque[_T]()
    for following in begun:
        present.append(following)
        if len(present) > 1:
            yield present.popleft()
    yield from present
