"""What decoding takes is bounded from the header, and what threads take together stays within the bound."""

import io
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import fuzz_images
import measure_decoding
import numpy as np
import pytest
from PIL import Image

from skl2rclip._images import levels as levels_module
from skl2rclip._images.decoding import Decoder, find_damaged, find_unreadable, open_image
from skl2rclip._images.files import stamped
from skl2rclip._images.header import open_header
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.memory import (
    MemoryTicket,
    TooLargeError,
    decoding_bytes,
    in_words,
    reduction_that_fits,
    under_way,
)
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._utils.arguments import parse_bytes

SMALL = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)


def pil_image(width=640, height=480, mode="RGB"):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) % 256, rows % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def bound_of(file, reduction=1):
    return decoding_bytes(open_header(file).image, reduction)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


# ------------------------------------------------------------------- the cost


def test_several_scans_keep_coefficients_at_full_size():
    content = file_of(pil_image(), "JPEG").getvalue()
    scan = content.index(b"\xff\xda\x00\x0c\x03")
    several = content[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[scan + 14 :]
    plain = bound_of(io.BytesIO(content))
    for other in (io.BytesIO(several), file_of(pil_image(), "JPEG", progressive=True)):
        for reduction in (1, 8):
            assert bound_of(other, reduction) >= bound_of(io.BytesIO(content), reduction) + 6 * 640 * 480
    assert bound_of(io.BytesIO(content), 8) < plain / 50


def peak_of_reading(path):
    def read():
        return open_image(path, white=WhiteLevel(65535))

    return int(measure_decoding.in_child(lambda: measure_decoding.peak_of(read)))


@pytest.fixture(scope="module")
def new_process():
    """Start a process in whose memory no other test has left anything."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}),
        ("I;16", "PNG", {"exif": turned()}),
        ("L", "JPEG", {"exif": turned()}),
        ("CMYK", "JPEG", {"progressive": True, "exif": turned()}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": "4:4:4"}),
        ("RGBA", "WEBP", {"method": 0}),
        ("RGB", "WEBP", {"method": 0, "lossless": True, "exif": turned()}),
        ("F", "TIFF", {"compression": "tiff_lzw", "exif": turned()}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw", "strip_size": 2**31}),
        ("RGBA", "JPEG2000", {}),
        ("P", "GIF", {}),
    ],
)
def test_the_bound_is_never_below_what_is_measured(tmp_path, new_process, mode, kind, options):
    path = tmp_path / "image"
    image = pil_image(2000, 1900, "L" if mode in ("I;16", "F") else mode)
    if mode in ("I;16", "F"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16 if mode == "I;16" else np.float32) * 250)
    image.save(path, kind, **options)
    with path.open("rb") as file:
        bound = bound_of(file)
    # what else a process does meanwhile, and pages of two megabytes, only add to a peak
    measured = (new_process.submit(peak_of_reading, path).result() for _ in range(3))
    assert any(peak - 4_000_000 < bound for peak in measured)  # which libraries allocate once


def test_a_thin_strip_costs_its_pointers_to_rows():
    strip = Image.new("L", (1, 100_000))
    assert bound_of(file_of(strip, "PNG")) > 24 * 100_000


def test_what_has_been_decoded_costs_only_its_conversion():
    assert 8e6 <= decoding_bytes(Image.new("RGB", (1000, 1000))) < 9e6


@pytest.mark.parametrize("n_bytes", [1, 999, 1001, 123_456, 999_999_999, 10**9, 1_234_567_890])
def test_the_setting_that_is_proposed_suffices(n_bytes):
    assert n_bytes <= parse_bytes("max_memory", in_words(n_bytes, gap="")) <= 1.1 * n_bytes + 1


# ------------------------------------------------------- what does not fit


def test_a_png_that_does_not_fit_is_refused_with_the_setting_that_allows_it(tmp_path):
    path = tmp_path / "large.png"
    pil_image(640, 480, "RGBA").save(path)
    images = stamped([path, np.zeros((600, 600, 3), np.uint8)])
    expected = "decoding its 640 x 480 pixels takes up to .* MB, more than the 2 MB that images may take"
    found = find_unreadable(images, max_memory=2_000_000)
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder(images, [SMALL], pool, 2_000_000)
        decoder.start([0, 1])()
    assert found == decoder.failures == find_damaged(images, [0, 1], max_memory=2_000_000)
    assert list(found) == [0]
    with pytest.raises(TooLargeError, match=expected), MemoryTicket(2_000_000) as ticket:
        open_image(path, None, ticket)
    proposed = found[0].split("max_memory='")[1].split("'")[0]
    assert find_unreadable(images, max_memory=parse_bytes("max_memory", proposed)) == {}
    assert find_unreadable(images) == {}
    assert under_way.n_bytes == 0


def test_a_lazily_opened_image_is_refused_and_one_that_is_loaded_is_not(tmp_path):
    path = tmp_path / "large.png"
    pil_image(640, 480, "RGBA").save(path)
    loaded = Image.open(path)
    loaded.load()
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder([Image.open(path), loaded], [SMALL], pool, 2_000_000)
        decoder.start([0, 1])()
    assert list(decoder.failures) == [0]


def test_little_images_are_always_let_through(tmp_path):
    path = tmp_path / "little.png"
    pil_image(100, 100, "RGBA").save(path)
    assert find_unreadable(stamped([path]), max_memory=1000) == {}
    with MemoryTicket(1000) as ticket:
        assert open_image(path, None, ticket).size == (100, 100)


@pytest.mark.parametrize("exif", [None, turned()])
def test_a_jpeg_that_does_not_fit_is_decoded_reduced_by_no_more_than_it_takes(tmp_path, exif):
    path = tmp_path / "large.jpg"
    pil_image(1600, 1200).save(path, **({} if exif is None else {"exif": exif}))
    for bound, expected in ((18_000_000, 1600), (5_000_000, 800), (1_200_000, 400)):
        with MemoryTicket(bound) as ticket:
            decoded = open_image(path, None, ticket, SMALL.shrinkage)
        assert max(decoded.size) == expected
        assert (decoded.width > decoded.height) == (exif is None)
        sides = (expected, expected * 3 // 4) if exif is None else (expected * 3 // 4, expected)
        reference = open_image(path).resize(sides, Image.Resampling.BOX)
        difference = np.asarray(decoded, int) - np.asarray(reference, int)
        assert np.abs(difference).mean() < 8


def test_a_jpeg_is_not_reduced_below_what_the_tower_takes(tmp_path):
    path = tmp_path / "large.jpg"
    pil_image(1600, 1200).save(path)
    images = stamped([path])
    tower = Preprocessing((500, 500), (0.5,) * 3, (0.5,) * 3)
    with ThreadPoolExecutor(1) as pool:
        decoder = Decoder(images, [SMALL, tower], pool, 1_200_000)
        decoder.start([0])()
        assert "takes up to 17.4 MB" in decoder.failures[0]
        decoder = Decoder(images, [SMALL], pool, 1_200_000)
        decoder.start([0])()
        assert not decoder.failures
        assert decoder.provisional == {0}
    assert find_unreadable(images, max_memory=1_200_000) == {}


def test_reductions_are_decided_from_the_image_and_the_bound_alone():
    file = file_of(pil_image(1600, 1200), "JPEG")
    with MemoryTicket(10**9) as ticket:
        ticket.wait(10**9)
        assert reduction_that_fits(open_header(file).image, 2 * 10**7) == 1


# ----------------------------------------------------------------- the tickets


def test_threads_stay_within_the_bound_together():
    rng, most = np.random.default_rng(0), []

    def work(n_bytes):
        with MemoryTicket(10**7) as ticket:
            ticket.wait(int(n_bytes))
            most.append(under_way.n_bytes)
            time.sleep(0.001)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, rng.integers(1, 6 * 10**6, 300)))
    assert 5 * 10**6 < max(most) <= 10**7
    assert under_way.n_bytes == 0


def test_a_large_one_is_not_kept_waiting_by_small_ones_that_came_later():
    order = []

    def work(name, n_bytes):
        with MemoryTicket(10**7) as ticket:
            ticket.wait(n_bytes)
            order.append(name)

    with MemoryTicket(10**7) as ticket:
        ticket.wait(10**6)
        threads = []
        for name, n_bytes in (("large", 10**7), ("small", 1)):
            threads.append(threading.Thread(target=work, args=(name, n_bytes), daemon=True))
            threads[-1].start()
            time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == ["large", "small"]


def test_what_never_fits_and_is_there_already_waits_to_be_alone():
    with MemoryTicket(10**6) as ticket:
        ticket.wait(10**9)
        assert under_way.n_bytes == 10**9
    assert under_way.n_bytes == 0


def test_errors_give_back_what_was_taken(tmp_path):
    path = tmp_path / "cut.jpg"
    pil_image().save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError, match="truncated"):
        open_image(path)
    assert under_way.n_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_with_nothing_under_way():
    with MemoryTicket(10**6) as ticket:
        ticket.wait(10**6)
        waiting = threading.Thread(target=lambda: MemoryTicket(10**6).wait(10**6), daemon=True)
        waiting.start()
        time.sleep(0.05)

        def in_child():
            signal.alarm(20)  # ends a child that waits for its parent's threads
            with MemoryTicket(10**6) as own:
                own.wait(10**6)
                return under_way.n_bytes

        assert measure_decoding.in_child(in_child) == "1000000"
    waiting.join(10)
    under_way.give_back(10**6)
    assert under_way.n_bytes == 0


# ----------------------------------------------------------------- conversions


def converted_as_a_whole(image):
    """Slow reference: what was done before images were converted in bands of rows."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        grey = 255 * grey if grey.max() <= 1 else grey  # of the others white is 255
        return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode[0] == "I":
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3] == (0, 0):
            return image.convert("RGB")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def all_modes(width, height):
    rng = np.random.default_rng(width)
    colour = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    palette = colour.convert("RGB").quantize(16)
    yield from (colour.convert(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "RGBa"))
    yield from (colour.convert("RGB").convert(mode) for mode in ("CMYK", "YCbCr", "HSV", "RGBX"))
    yield from (colour.convert("LA").convert("La"), palette, palette.convert("PA"))
    for image, transparency in ((colour.convert("L"), 7), (colour.convert("RGB"), (1, 2, 3)), (palette.copy(), 3)):
        image.info["transparency"] = transparency
        yield image
    yield Image.fromarray(rng.integers(2**12, 2**16, (height, width), dtype=np.uint16))
    yield Image.fromarray(rng.integers(2**12, 2**16, (height, width), dtype=np.int32))
    yield Image.fromarray(rng.random((height, width), dtype=np.float32))
    wild = rng.uniform(16, 260, (height, width)).astype(np.float32)
    wild[rng.random(wild.shape) < 0.2] = np.nan
    wild[rng.random(wild.shape) < 0.1] = np.inf
    yield Image.fromarray(wild)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 7), (1, 200), (200, 1), (33, 21)])
def test_bands_of_rows_give_the_same_pixels_as_the_whole(size, monkeypatch):
    monkeypatch.setattr(levels_module, "BAND_PIXELS", 64)
    for image in all_modes(*size):
        white = WhiteLevel({"I": 65535, "F": 255 if np.nanmax(np.asarray(image)) > 1 else 1}.get(image.mode))
        np.testing.assert_array_equal(
            np.asarray(open_image(image, white=white)), np.asarray(converted_as_a_whole(image.copy()))
        )


# --------------------------------------------------------------------- fuzzing


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
def test_damaged_images_are_read_or_refused_and_nothing_else():
    tallies, remarks = fuzz_images.fuzz(250, seed=11, max_memory=20_000_000)
    assert remarks == []
    assert sum(tally.read for tally in tallies.values()) > 20
    assert sum(tally.refused for tally in tallies.values()) > 100
    assert max(tally.most_bytes for tally in tallies.values()) < 60_000_000
