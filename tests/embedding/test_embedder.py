"""From images to embeddings: right, once, ahead of the tower, and together with others."""

import contextlib
import itertools
import os
import threading
import time
from collections import Counter
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skl2rclip import CLIPImageEncoder
from skl2rclip._embedding import embedder
from skl2rclip._embedding.cache import EmbeddingCache, _memory, forget_embeddings
from skl2rclip._embedding.embedder import check_headers, decode_and_embed, embed_chunks, embed_images
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._embedding.store import EmbeddingStore
from skl2rclip._images import decoding
from skl2rclip._images import memory as image_cost
from skl2rclip._images.files import ImageFile, stamped
from skl2rclip._images.views import pixels_of_view
from skl2rclip.errors import UnreadableImagesError
from tests.support.helpers import (
    SQUARE,
    WIDTH,
    embedded_one_by_one,
    file_access,
    in_threads,
    toy_encoding,
    truncate,
    within,
    write_images,
)
from tests.support.processes import begun

LARGE = SQUARE.enlarged(2, 1)


@pytest.fixture(autouse=True)
def _nothing_in_memory():
    forget_embeddings()


@pytest.fixture
def files(tmp_path):
    """Paths of twelve small images."""
    return write_images(tmp_path / "images", 12)


@pytest.fixture
def expected(files):
    return embedded_one_by_one(map(Image.open, files))


@pytest.fixture
def _stable_files(monkeypatch):
    """Whatever the tests write counts as written long ago."""
    monkeypatch.setattr("skl2rclip._images.files._RACY_SECONDS", -60.0)


@pytest.fixture
def _chunks_of_four(monkeypatch):
    monkeypatch.setattr(embedder, "_CHUNK", 4)


def cache(folder=None, max_memory=None):
    return EmbeddingCache("toy", SQUARE, "float32", folder=folder, max_memory=max_memory)


def embed(images, cache=None, encoding=None):
    """Embeddings by `check_headers` and `embed_chunks`; every row comes once."""
    encoding = toy_encoding() if encoding is None else encoding
    images = stamped(images)
    check_headers(images, None if cache is None else cache.folder, 2)
    result, seen = np.full((len(images), WIDTH), np.nan, np.float32), []
    for rows, embeddings in embed_chunks(images, encoding, cache, 2):
        result[rows] = embeddings
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(images)))
    return result


def decode(images, cache=None, encoding=None):
    """Embeddings and the pixels of two sizes by `decode_and_embed`; every row comes once."""
    encoding = toy_encoding() if encoding is None else encoding
    images = stamped(images)
    result, seen = np.full((len(images), WIDTH), np.nan, np.float32), []
    pixels = [np.zeros((len(images), *size.size, 3), np.uint8) for size in (SQUARE, LARGE)]
    for rows, chunk, embeddings in decode_and_embed(images, [SQUARE, LARGE], encoding, cache, 2):
        result[rows] = embeddings
        for array, part in zip(pixels, chunk, strict=True):
            array[rows] = part
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(images)))
    return result, pixels


def just_embedded(images, cache=None, encoding=None):
    return decode(images, cache, encoding)[0]


BOTH = pytest.mark.parametrize("way", [embed, just_embedded])


def kinds_of(files):
    images = [Image.open(path) for path in files]
    return {
        "paths": files,
        "images": images,
        "arrays": list(map(np.asarray, images)),
        "all kinds": [*files[:4], *images[4:8], *map(np.asarray, images[8:])],
    }


# -------------------------------------------------------------------- what comes


@BOTH
@pytest.mark.parametrize("kind", ["paths", "images", "arrays", "all kinds"])
@pytest.mark.parametrize("place", ["no cache", "memory", "folder", "no memory"])
@pytest.mark.usefixtures("_chunks_of_four")
def test_embeddings_equal_those_of_one_image_after_the_other(files, expected, tmp_path, way, kind, place):
    images = kinds_of(files)[kind]
    for _ in range(2):
        kept = {
            "no cache": None,
            "memory": cache(),
            "folder": cache(tmp_path / "cache"),
            "no memory": cache(max_memory=1),
        }[place]
        np.testing.assert_allclose(way(images, kept), expected, atol=1e-5)
    np.testing.assert_allclose(embed_images(stamped(images), toy_encoding(), None, None), expected, atol=1e-5)


@pytest.mark.parametrize("with_encoding", [False, True])
@pytest.mark.usefixtures("_chunks_of_four")
def test_pixels_are_those_of_each_preprocessing(files, with_encoding):
    encoding = toy_encoding() if with_encoding else None
    for rows, pixels, embeddings in decode_and_embed(stamped(files), [SQUARE, LARGE], encoding, cache(), 2):
        assert (embeddings is not None) == with_encoding
        for preprocessing, array in zip((SQUARE, LARGE), pixels, strict=True):
            wanted = [np.asarray(preprocessing.resizer()(Image.open(files[row]))) for row in rows]
            np.testing.assert_array_equal(array, wanted)


@given(st.lists(st.integers(0, 150), max_size=30), st.integers(1, 6))
def test_chunks_are_bounded_in_number_and_bytes(sizes, number):
    images = [ImageFile(str(i), str(i), size=size) for i, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedder, "_CHUNK", number)
        patch.setattr(embedder, "_CHUNK_BYTES", 100)
        chunks = list(embedder._chunks_of(images, range(len(images))))
    assert list(itertools.chain(*chunks)) == list(range(len(images)))
    assert all(len(chunk) <= number for chunk in chunks)
    assert all(sum(sizes[row] for row in chunk) <= 100 or len(chunk) == 1 for chunk in chunks)


@BOTH
@pytest.mark.usefixtures("_chunks_of_four")
def test_a_file_that_comes_several_times_is_decoded_once(files, expected, way, through_tower):
    order = [0, 1, 0, 2, 0, 0, 1, 3, 0, 0, 0, 3]
    images = [files[i] for i in order]
    for kept in (None, cache()):
        through_tower.clear()
        with file_access() as asked:
            np.testing.assert_allclose(way(images, kept), expected[order], atol=1e-5)
        assert sum(through_tower) == 4
        assert asked.of(files[:4]) == {(1, 2 if way is embed else 1)}


def test_many_copies_of_a_file_do_not_come_at_once(files, monkeypatch):
    monkeypatch.setattr(embedder, "_CHUNK", 4)
    parts = [len(rows) for rows, _, _ in decode_and_embed(stamped([files[0]] * 11), [LARGE], None, None, 1)]
    assert parts == [4, 4, 3]


@BOTH
@pytest.mark.usefixtures("_stable_files", "_chunks_of_four")
def test_files_of_one_content_pass_the_tower_once(files, expected, tmp_path, way, through_tower):
    copies = []
    for i, path in enumerate(files[:6]):
        copies.append(str(tmp_path / f"copy-{i}.png"))
        with open(path, "rb") as original, open(copies[-1], "wb") as copy:
            copy.write(original.read())
    images = [*files[:6], *copies]
    with file_access() as asked:
        np.testing.assert_allclose(way(images, cache()), np.concatenate([expected[:6]] * 2), atol=1e-5)
    assert sum(through_tower) == 6
    assert max(asked.opens[path] for path in images) <= 2
    with file_access() as asked:
        embed(images, cache())
    assert asked.of(images) == {(1, 0)}  # both paths are known now


# -------------------------------------------------------------- stats and opens


@pytest.mark.usefixtures("_stable_files", "_chunks_of_four")
def test_a_stream_asks_about_a_file_once_and_opens_it_for_header_and_content(files, tmp_path):
    with file_access() as asked:
        embed(files, cache(tmp_path / "cache"))
    assert asked.of(files) == {(1, 2)}
    with file_access() as asked:
        embed(files, cache())
    assert asked.of(files) == {(1, 0)}
    forget_embeddings()
    _memory._files.clear()
    with file_access() as asked:  # as another process
        embed(files, cache(tmp_path / "cache"))
    assert asked.of(files) == {(1, 0)}
    forget_embeddings()
    with file_access() as asked:  # known to be sound; the embedding has to be computed
        embed(files, cache())
    assert asked.of(files) == {(1, 1)}
    with file_access() as asked:
        embed(files, None)
    assert asked.of(files) == {(1, 1)}
    _memory._files.clear()
    with file_access() as asked:
        embed(files, None)
    assert asked.of(files) == {(1, 2)}


def test_digests_of_files_are_looked_up_once(files, tmp_path, monkeypatch):
    asked, original = [], EmbeddingStore.digests_of
    monkeypatch.setattr(
        EmbeddingStore, "digests_of", lambda self, stamps: asked.append(len(stamps)) or original(self, stamps)
    )
    images, folder = stamped(files), tmp_path / "cache"
    known = check_headers(images, folder, 2)
    embed_images(images, toy_encoding(), cache(folder), 2, known=known)
    assert asked == [12]


@pytest.mark.parametrize("with_encoding", [False, True])
@pytest.mark.usefixtures("_stable_files", "_chunks_of_four")
def test_decoding_opens_a_file_once_whatever_is_known_of_it(files, with_encoding):
    encoding = toy_encoding() if with_encoding else None
    for _ in range(2):
        with file_access() as asked:
            for _ in decode_and_embed(stamped(files), [SQUARE, LARGE], encoding, cache(), 2):
                pass
        assert asked.of(files) == {(1, 1)}


def test_files_that_have_just_changed_are_read_again_and_never_served_stale(files, expected, through_tower):
    np.testing.assert_allclose(embed(files, cache()), expected, atol=1e-5)
    for path, other in zip(files[:2], files[2:4], strict=True):  # of other content, maybe of the same stamp
        size = os.path.getsize(path)
        with open(other, "rb") as source, open(path, "wb") as target:
            target.write(source.read().ljust(size, b"\0"))
    with file_access() as asked:
        changed = embed(files, cache())
    np.testing.assert_allclose(changed, expected[[2, 3, *range(2, 12)]], atol=1e-5)
    assert asked.of(files) == {(1, 2)}
    assert sum(through_tower) <= 14


@pytest.mark.usefixtures("_stable_files")
def test_another_stamp_means_another_look(files, expected):
    embed(files, cache())
    Image.open(files[1]).save(files[0])
    os.utime(files[0], (1e9, 1e9))
    with file_access() as asked:
        np.testing.assert_allclose(embed(files, cache()), expected[[1, *range(1, 12)]], atol=1e-5)
    assert asked.of(files[1:]) == {(1, 0)}
    assert asked.of(files[:1]) == {(1, 2)}


# -------------------------------------------------------------------- bad images


@BOTH
@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.usefixtures("_stable_files", "_chunks_of_four")
def test_a_damaged_image_ends_the_towers_work_and_all_are_named(tmp_path, way, with_cache, through_tower):
    files = write_images(tmp_path / "images", 40)
    damaged = [21, 22, 35, 39]
    for i in damaged:
        truncate(files[i])
    images = [*files, files[35]]
    with file_access() as asked, pytest.raises(UnreadableImagesError) as caught:
        way(images, cache() if with_cache else None)
    assert sorted(caught.value.failures) == [*damaged, 40]
    assert "truncated" in caught.value.failures[21]
    assert f"X[21] ({files[21]})" in str(caught.value)
    assert f"5 images of {len(images)}" in str(caught.value)
    # chunks of four: the sixth is damaged; whether the fifth has passed already is a matter of time
    assert through_tower in ([4] * 5, [4] * 4)
    assert asked.of(files) == {(1, 2 if way is embed else 1)}
    through_tower.clear()
    sound = [path for i, path in enumerate(files) if i not in damaged]
    way(sound, cache())
    assert sum(through_tower) in ((len(sound) - 20, len(sound) - 16) if with_cache else (len(sound),))


@pytest.mark.usefixtures("_stable_files", "_chunks_of_four")
def test_what_is_known_is_not_tried_again_after_a_damaged_image(files):
    embed(files, cache())
    truncate(files[0])
    for way in (embed, just_embedded):
        with file_access() as asked, pytest.raises(UnreadableImagesError, match="1 image of 12"):
            way(files, cache())
        assert asked.of(files[8:]) == {(1, 0)}


def test_damaged_twins_are_both_named(files, tmp_path):
    truncate(files[0])
    with open(files[0], "rb") as original, open(files[5], "wb") as copy:
        copy.write(original.read())
    for way in (embed, just_embedded):
        with pytest.raises(UnreadableImagesError) as caught:
            within(60, lambda way=way: way(files, cache()))
        assert sorted(caught.value.failures) == [0, 5]


def test_what_is_plainly_no_image_is_named_before_the_tower_works(files, tmp_path, through_tower):
    (tmp_path / "words.png").write_text("not an image")
    images = [*files, tmp_path / "words.png", tmp_path / "missing.png", tmp_path]
    with file_access() as asked, pytest.raises(UnreadableImagesError) as caught:
        embed(images, cache())
    assert caught.value.failures == {
        12: "not an image, or of a format that Pillow cannot read",
        13: "no such file",
        14: "this is a folder, not an image file",
    }
    assert through_tower == []
    assert asked.of(files) == {(1, 2)}  # once more, to name what lies behind their headers in the same error
    assert asked.of(images[13:]) == {(1, 0)}


@pytest.fixture
def large(tmp_path):
    """Images that take more than 2 MB decoded; a JPEG can be decoded at smaller sides."""
    paths = [tmp_path / name for name in ("large.png", "a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        Image.new("RGB", (800, 800), "teal").save(path)
    return paths


def test_what_takes_more_than_the_bound_is_named_from_its_header(files, large, through_tower):
    images = stamped([*files, *large])
    with pytest.raises(UnreadableImagesError, match="800 x 800 pixels takes") as caught:
        check_headers(images, None, 2, 2_000_000)
    assert list(caught.value.failures) == [12]
    check_headers(images, None, 2, 10**7)
    check_headers(images, None, 2)
    assert through_tower == []


@BOTH
def test_decoding_stays_within_the_bound(files, large, monkeypatch, way):
    most, take = [], image_cost.under_way.take

    def watched(n_bytes, bound):
        take(n_bytes, bound)
        most.append(image_cost.under_way.n_bytes)

    monkeypatch.setattr(image_cost.under_way, "take", watched)
    images = stamped([*files, *large[1:]])
    if way is embed:
        chunks = embed_chunks(images, toy_encoding(), cache(), 4, 2_000_000)
    else:
        chunks = decode_and_embed(images, [SQUARE, LARGE], toy_encoding(), cache(), 4, 2_000_000)
    assert sum(len(chunk[0]) for chunk in chunks) == len(images)
    assert max(most) <= 2_000_000
    with pytest.raises(UnreadableImagesError, match="800 x 800 pixels takes"):
        list(embed_chunks(stamped(large), toy_encoding(), None, 2, 2_000_000))


# ------------------------------------------------------------------------- ahead


@BOTH
@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.usefixtures("_chunks_of_four")
def test_the_next_chunk_is_decoded_while_the_tower_works(files, monkeypatch, way, with_cache):
    decoded, original = Counter(), embedder.Decoder._decode
    second_chunk = threading.Event()

    def noted(self, row, content, targets):
        original(self, row, content, targets)
        decoded[row] += 1
        if row == 7:
            second_chunk.set()

    waited, matrix_of_pixels = [], toy_encoding().tower

    def tower(pixels):
        waited.append(second_chunk.wait(30))
        return matrix_of_pixels(pixels)

    monkeypatch.setattr(embedder.Decoder, "_decode", noted)
    encoding = ImageEncoding(tower, SQUARE, WIDTH, torch.device("cpu"), "float32", 64)
    within(60, lambda: way(files, cache() if with_cache else None, encoding))
    assert waited == [True] * 3
    assert decoded == Counter(range(12))


@BOTH
@pytest.mark.usefixtures("_chunks_of_four")
def test_who_stops_in_the_middle_gives_the_rest_back(files, expected, way, through_tower):
    if way is embed:
        stream = embed_chunks(stamped(files), toy_encoding(), cache(), 2)
    else:
        stream = decode_and_embed(stamped(files), [SQUARE], toy_encoding(), cache(), 2)
    next(stream)
    stream.close()
    np.testing.assert_allclose(within(60, lambda: embed(files, cache())), expected, atol=1e-5)
    assert sum(through_tower) == 12


def test_memory_running_out_halves_an_automatic_batch_size(files, expected, monkeypatch):
    sizes, original = [], ImageEncoding._of_pixels

    def small(self, pixels, batch_size):
        sizes.append(batch_size)
        if batch_size > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, pixels, batch_size)

    monkeypatch.setattr(ImageEncoding, "_of_pixels", small)
    np.testing.assert_allclose(embed(files, encoding=toy_encoding("auto")), expected, atol=1e-5)
    assert sizes == [64, 32, 16]
    for way in (embed, just_embedded):
        with pytest.raises(MemoryError, match="batch_size=32"):
            way(files, encoding=toy_encoding(32))


# ------------------------------------------------------------------- with others


@pytest.mark.parametrize("ways", [[embed] * 4, [just_embedded] * 4, [embed, just_embedded] * 2])
@pytest.mark.parametrize("with_folder", [False, True])
@pytest.mark.usefixtures("_chunks_of_four")
def test_threads_share_the_work(files, expected, tmp_path, through_tower, ways, with_folder):
    folder = tmp_path / "cache" if with_folder else None
    results = in_threads(*[lambda way=way: way(files, cache(folder)) for way in ways])
    for result in results:
        np.testing.assert_allclose(result, expected, atol=1e-5)
    assert sum(through_tower) == 12


@BOTH
def test_what_another_thread_fails_at_is_taken_over(files, expected, through_tower, way):
    has_claimed, may_fail = threading.Event(), threading.Event()

    def tower(pixels):
        has_claimed.set()
        assert may_fail.wait(30)
        raise RuntimeError("broken")

    def fails():
        with contextlib.suppress(RuntimeError):
            embed(files[:6], cache(), ImageEncoding(tower, SQUARE, WIDTH, torch.device("cpu"), "float32", 64))

    def waits():
        assert has_claimed.wait(30)
        threading.Timer(0.3, may_fail.set).start()
        return way(files, cache())

    _, result = in_threads(fails, waits)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@BOTH
@pytest.mark.parametrize("with_folder", [False, True])
def test_who_has_stopped_is_not_waited_for_for_ever(
    files, expected, tmp_path, through_tower, monkeypatch, way, with_folder
):
    monkeypatch.setattr(embedder, "_PATIENCE_SECONDS", 0.3)
    folder = tmp_path / "cache" if with_folder else None
    with cache(folder) as stopped:
        stopped.take([stopped.read(image)[0] for image in stamped(files[:5])])
        np.testing.assert_allclose(within(60, lambda: way(files, cache(folder))), expected, atol=1e-5)
    assert sum(through_tower) == 12


@BOTH
def test_after_a_damaged_image_nobody_is_waited_for(files, way):
    truncate(files[0])
    truncate(files[7])
    with cache() as stopped:
        stopped.take([stopped.read(image)[0] for image in stamped(files[5:10])])
        with pytest.raises(UnreadableImagesError) as caught:
            within(60, lambda: way(files, cache()))
    assert sorted(caught.value.failures) == [0, 7]


PROCESS = """
import sys, time
from pathlib import Path
from skl2rclip import CLIPImageEncoder
from skl2rclip._embedding import embedder as embedder_module
from skl2rclip._embedding.encoding import ImageEncoding
folder, log, mode = sys.argv[1:4]
original = ImageEncoding._of_pixels
def counted(self, pixels, batch_size):
    if mode == "hangs" and Path(log).exists():
        print("hanging", flush=True)
        time.sleep(600)
    rows = original(self, pixels, batch_size)
    with open(log, "a") as file:
        file.write(f"{len(pixels)}\\n")
    time.sleep(0.05)
    return rows
ImageEncoding._of_pixels = counted
embedder_module._CHUNK = 4  # so that there is a middle to be killed in
paths = sorted(str(path) for path in Path(folder, "images").glob("*.png"))
model = CLIPImageEncoder("skl2rclip-tiny", device="cpu", embedding_cache=Path(folder) / "cache").fit()
print(len(model.transform(paths)))
"""


@contextlib.contextmanager
def process(tmp_path, mode, name="process"):
    """A process, and the file that it writes to."""
    folder = tmp_path / name
    folder.mkdir()
    started = begun(PROCESS, folder, tmp_path, tmp_path / "log", mode)
    try:
        yield started, folder / "out"
    finally:
        started.kill()
        started.join(60)


@pytest.mark.usefixtures("files")
def test_two_processes_share_the_work(tmp_path):
    with process(tmp_path, "works", "first") as first, process(tmp_path, "works", "second") as second:
        for each, out in (first, second):
            each.join(300)
            assert out.read_text().split()[-1] == "12"
    assert sum(map(int, (tmp_path / "log").read_text().split())) == 12


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_in_the_middle_loses_only_what_it_was_computing(tmp_path, files, through_tower):
    with process(tmp_path, "hangs") as (killed, out):
        until = time.monotonic() + 300
        while "hanging" not in (out.read_text() if out.exists() else "") and time.monotonic() < until:
            time.sleep(0.02)
        assert out.read_text().strip() == "hanging"
        killed.kill()
        killed.join(60)
    done = sum(map(int, (tmp_path / "log").read_text().split()))
    assert 0 < done < 12
    model = CLIPImageEncoder("skl2rclip-tiny", device="cpu", embedding_cache=tmp_path / "cache").fit()
    assert within(300, lambda: model.transform(files)).shape == (12, 128)
    assert sum(through_tower) == 12 - done
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_what_was_decoded_reduced_is_not_kept_for_those_who_have_the_memory(tmp_path):
    """A JPEG of 1.4 megapixels, twice, of which no more than a megabyte may be decoded at a time."""
    small = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(small).resize((1200, 1200)).save(tmp_path / name)
    images, encoding = stamped([tmp_path / "a.jpg", tmp_path / "b.jpg"]), toy_encoding()
    folder = tmp_path / "cache"
    reduced = within(60, lambda: embed_images(images, encoding, cache(folder), 1, max_memory=10**6))
    whole = embed_images(images, encoding, cache(folder), 1)
    np.testing.assert_allclose(whole, embed_images(images, encoding, None, 1), atol=1e-6)
    assert np.abs(reduced - whole).max() > 1e-5
    np.testing.assert_allclose(reduced[0], reduced[1], atol=1e-6)


def test_images_transparent_throughout_are_named_in_one_warning():
    clear = [Image.new("RGBA", (20, 20), (9, 200, shade, 0)) for shade in range(7)]
    with pytest.warns(UserWarning, match=r"^X\[1\] and 6 others: transparent throughout"):
        embed([Image.new("RGB", (20, 20)), *clear])


def test_views_are_embedded_with_their_image(files, tmp_path):
    seen = [np.asarray(SQUARE.resizer()(Image.open(path))) for path in files]
    pixels = [
        pixels_of_view(Image.open(path).convert("RGB"), view, whole, SQUARE, SQUARE.resizer())
        for path, whole in zip(files, seen, strict=True)
        for view in range(3)
    ]
    expected = toy_encoding().of_pixels(np.stack(pixels))
    kinds = {"no cache": None, "memory": cache(), "folder": cache(tmp_path / "cache")}
    for kept in kinds.values():
        images = stamped([*files, files[0]])  # of which one comes twice
        rows = embed_images(images, toy_encoding(), kept, 2, n_views=3)
        np.testing.assert_allclose(rows[: 3 * len(files)], expected, atol=1e-5)
        np.testing.assert_array_equal(rows[3 * len(files) :], rows[:3])


@pytest.mark.parametrize("n_bytes", [None, 1])
@pytest.mark.usefixtures("_chunks_of_four")
def test_a_view_passes_the_tower_once_and_a_file_is_decoded_once_for_all_of_its_views(files, tmp_path, n_bytes):
    passed, opened = [], []
    encoding, read = toy_encoding(), decoding.read_image

    def counting(image, *rest):
        opened.append(image)
        return read(image, *rest)

    def tower(pixels):
        passed.append(len(pixels))
        return encoding.tower(pixels)

    def embed(n_views):
        passed.clear()
        opened.clear()
        own = cache(tmp_path / "cache", n_bytes)
        with mock.patch.object(decoding, "read_image", counting):
            embed_images(stamped(files), replace(encoding, tower=tower), own, 2, n_views=n_views)
        return sum(passed), len(opened)

    n = len(files)
    assert embed(1) == (n, n)
    assert embed(3) == (2 * n, n)
    assert embed(2) == embed(3) == embed(1) == (0, 0)


def test_a_view_that_another_thread_embeds_is_waited_for(files):
    embed_images(stamped(files[:3]), toy_encoding(), cache(), 2, n_views=2)
    both = in_threads(
        *(lambda n=n: embed_images(stamped(files), toy_encoding(), cache(), 2, n_views=n) for n in (2, 3))
    )
    for n, rows in zip((2, 3), both, strict=True):
        np.testing.assert_allclose(rows, embed_images(stamped(files), toy_encoding(), None, 1, n_views=n), atol=1e-6)


def test_an_image_that_cannot_be_read_is_named_once_for_all_of_its_views(files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImagesError) as caught:
        embed_images(stamped([*files, str(tmp_path / "broken.png")]), toy_encoding(), cache(), 2, n_views=4)
    assert list(caught.value.failures) == [len(files)]
