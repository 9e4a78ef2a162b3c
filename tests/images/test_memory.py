"""What decoding takes is told from the header, and what threads take together stays within the bound."""

import io
import os
import signal
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import fuzz_pictures
import measure_decoding
import numpy as np
import pytest
from PIL import Image

from skl2rclip._images import levels as levels_module
from skl2rclip._images.decoding import Decoder, find_damaged, find_unreadable, open_image, stamped
from skl2rclip._images.header import opened_picture
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.memory import (
    TooLargeError,
    Turn,
    decoding_bytes,
    in_words,
    reduction_that_fits,
    under_way,
)
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._utils.arguments import parse_bytes

SMALL = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)


def picture(width=640, height=480, mode="RGB"):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows % 256, columns % 256, (rows + columns) % 256, rows % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def cost_of(image, kind, **options):
    return decoding_bytes(opened_picture(file_of(image, kind, **options))) / (image.width * image.height)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


# ------------------------------------------------------------------- the cost


def test_a_photograph_costs_what_pillow_keeps_of_it():
    image = picture(1200, 1000)
    assert 4 <= cost_of(image, "JPEG") < 4.3
    assert 4 <= cost_of(image.convert("CMYK"), "JPEG") < 10
    assert 8 <= cost_of(image, "JPEG", exif=turned()) < 8.3
    # all coefficients, of two bytes each
    assert 10 <= cost_of(image, "JPEG", progressive=True, subsampling="4:4:4") < 10.3
    assert 7 <= cost_of(image, "JPEG", progressive=True, subsampling="4:2:0") < 7.3
    assert 8 <= cost_of(image.convert("RGBA"), "PNG") < 10


def test_a_sequential_jpeg_of_several_scans_is_not_taken_for_one_that_needs_no_coefficients():
    content = file_of(picture(), "JPEG").getvalue()
    scan = content.index(b"\xff\xda\x00\x0c\x03")
    several = content[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + content[scan + 14 :]
    one, other = (decoding_bytes(opened_picture(io.BytesIO(each))) for each in (content, several))
    assert other > 1.5 * one


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}),
        ("L", "PNG", {"exif": turned()}),
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": "4:4:4"}),
        ("RGBA", "WEBP", {"method": 0}),
        ("RGB", "WEBP", {"method": 0, "lossless": True}),
        ("F", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw", "strip_size": 2**31}),
        ("RGB", "JPEG2000", {}),
        ("P", "GIF", {}),
    ],
)
def test_what_is_told_is_what_is_measured(tmp_path, mode, kind, options):
    path = tmp_path / "picture"
    picture(2000, 1900, mode).save(path, kind, **options)
    with path.open("rb") as file:
        told = decoding_bytes(opened_picture(file))

    def read():
        return open_image(path, white=WhiteLevel(255))

    # what else a process does meanwhile, and pages of two megabytes, only add to a peak
    measured = min(int(measure_decoding.in_child(lambda: measure_decoding.peak_of(read))) for _ in range(3))
    slack = 4_000_000  # of what libraries allocate once
    assert 0.9 * (measured - slack) < told
    assert told < 2 * (measured + slack)


@pytest.mark.parametrize(
    ("chunk", "factor"),
    [(b"eXIf" + turned().tobytes()[6:], 2), (b"tEXtdate:create\x002026", 1), (b"iTXtXML:com.adobe.xmp\0\0\0\0\0", 2)],
)
def test_what_may_turn_a_png_is_found_behind_its_pixels(chunk, factor):
    content = file_of(picture(), "PNG").getvalue()
    added = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    file = io.BytesIO(content[:-12] + added + content[-12:])
    opened = opened_picture(file)
    assert 4 * factor <= decoding_bytes(opened) / (640 * 480) < 4 * factor + 0.5
    decoded = open_image(opened)
    assert (decoded.size == (480, 640)) == chunk.startswith(b"eXIf")
    assert 4 <= cost_of(picture(), "PNG") < 4.5


def test_a_thin_strip_costs_its_pointers_to_rows():
    strip = Image.new("L", (1, 100_000))
    assert decoding_bytes(opened_picture(file_of(strip, "PNG"))) > 16 * 100_000


def test_what_has_been_decoded_costs_only_its_conversion():
    assert decoding_bytes(Image.new("RGB", (1000, 1000))) == 1
    assert 4e6 <= decoding_bytes(Image.new("RGBA", (1000, 1000))) < 6e6


def test_icons_cost_what_lies_within():
    file = file_of(Image.new("RGBA", (64, 64)), "ICNS").getvalue()
    inner = file_of(picture(900, 800, "RGBA"), "PNG").getvalue()
    chunk = b"ic08" + (len(inner) + 8).to_bytes(4, "big") + inner
    large = b"icns" + (len(chunk) + 8).to_bytes(4, "big") + chunk
    small_cost, large_cost = (decoding_bytes(opened_picture(io.BytesIO(each))) for each in (file, large))
    assert large_cost > 900 * 800 * 8
    assert small_cost < 1024 * 1024 * 2 * 16


@pytest.mark.parametrize("n_bytes", [1, 999, 1001, 123_456, 999_999_999, 10**9, 1_234_567_890])
def test_the_setting_that_is_proposed_suffices(n_bytes):
    assert n_bytes <= parse_bytes("max_memory", in_words(n_bytes, gap="")) <= 1.1 * n_bytes + 1


# ------------------------------------------------------- what does not fit


def test_a_png_that_does_not_fit_is_refused_with_the_setting_that_allows_it(tmp_path):
    path = tmp_path / "large.png"
    picture(640, 480, "RGBA").save(path)
    images = stamped([path, np.zeros((600, 600, 3), np.uint8)])
    expected = "decoding its 640 x 480 pixels takes .* MB, more than the 2 MB that pictures may take"
    found = find_unreadable(images, max_memory=2_000_000)
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder(images, [SMALL], pool, 2_000_000)
        decoder.start([0, 1])()
    assert found == decoder.failures == find_damaged(images, [0, 1], max_memory=2_000_000)
    assert list(found) == [0]
    with pytest.raises(TooLargeError, match=expected), Turn(2_000_000) as turn:
        open_image(path, None, turn)
    proposed = found[0].split("max_memory='")[1].split("'")[0]
    assert find_unreadable(images, max_memory=parse_bytes("max_memory", proposed)) == {}
    assert find_unreadable(images) == {}
    assert under_way.n_bytes == 0


def test_a_lazily_opened_picture_is_refused_and_one_that_is_loaded_is_not(tmp_path):
    path = tmp_path / "large.png"
    picture(640, 480, "RGBA").save(path)
    loaded = Image.open(path)
    loaded.load()
    with ThreadPoolExecutor(2) as pool:
        decoder = Decoder([Image.open(path), loaded], [SMALL], pool, 2_000_000)
        decoder.start([0, 1])()
    assert list(decoder.failures) == [0]


def test_little_pictures_are_always_let_through(tmp_path):
    path = tmp_path / "little.png"
    picture(100, 100, "RGBA").save(path)
    assert find_unreadable(stamped([path]), max_memory=1000) == {}
    with Turn(1000) as turn:
        assert open_image(path, None, turn).size == (100, 100)


@pytest.mark.parametrize("exif", [None, turned()])
def test_a_jpeg_that_does_not_fit_is_decoded_reduced_by_no_more_than_it_takes(tmp_path, exif):
    path = tmp_path / "large.jpg"
    picture(1600, 1200).save(path, **({} if exif is None else {"exif": exif}))
    factor = 1 if exif is None else 2
    for bound, expected in ((8_000_000, 1600), (2_100_000, 800), (1_000_000, 400)):
        with Turn(factor * bound) as turn:
            decoded = open_image(path, None, turn, SMALL.shrinkage)
        assert max(decoded.size) == expected
        assert (decoded.width > decoded.height) == (exif is None)
        sides = (expected, expected * 3 // 4) if exif is None else (expected * 3 // 4, expected)
        reference = open_image(path).resize(sides, Image.Resampling.BOX)
        difference = np.asarray(decoded, int) - np.asarray(reference, int)
        assert np.abs(difference).mean() < 8


def test_a_jpeg_is_not_reduced_below_what_the_tower_takes(tmp_path):
    path = tmp_path / "large.jpg"
    picture(1600, 1200).save(path)
    images = stamped([path])
    tower = Preprocessing((500, 500), (0.5,) * 3, (0.5,) * 3)
    with ThreadPoolExecutor(1) as pool:
        decoder = Decoder(images, [SMALL, tower], pool, 1_000_000)
        decoder.start([0])()
        assert "takes 7.9 MB" in decoder.failures[0]
        decoder = Decoder(images, [SMALL], pool, 1_000_000)
        decoder.start([0])()
        assert not decoder.failures
    assert find_unreadable(images, max_memory=1_000_000) == {}


def test_reductions_are_decided_from_the_picture_and_the_bound_alone():
    file = file_of(picture(1600, 1200), "JPEG")
    with Turn(10**9) as turn:
        turn.wait(10**9)
        assert reduction_that_fits(opened_picture(file), 10**7) == 1


# ------------------------------------------------------------------- the turns


def test_threads_stay_within_the_bound_together():
    rng, most = np.random.default_rng(0), []

    def work(n_bytes):
        with Turn(10**7) as turn:
            turn.wait(int(n_bytes))
            most.append(under_way.n_bytes)
            time.sleep(0.001)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, rng.integers(1, 6 * 10**6, 300)))
    assert 5 * 10**6 < max(most) <= 10**7
    assert under_way.n_bytes == 0


def test_a_large_one_is_not_kept_waiting_by_small_ones_that_came_later():
    order = []

    def work(name, n_bytes):
        with Turn(10**7) as turn:
            turn.wait(n_bytes)
            order.append(name)

    with Turn(10**7) as turn:
        turn.wait(10**6)
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
    with Turn(10**6) as turn:
        turn.wait(10**9)
        assert under_way.n_bytes == 10**9
    assert under_way.n_bytes == 0


def test_errors_give_back_what_was_taken(tmp_path):
    path = tmp_path / "cut.jpg"
    picture().save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError, match="truncated"):
        open_image(path)
    assert under_way.n_bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_begins_with_nothing_under_way():
    with Turn(10**6) as turn:
        turn.wait(10**6)
        waiting = threading.Thread(target=lambda: Turn(10**6).wait(10**6), daemon=True)
        waiting.start()
        time.sleep(0.05)

        def in_child():
            signal.alarm(20)  # ends a child that waits for its parent's threads
            with Turn(10**6) as own:
                own.wait(10**6)
                return under_way.n_bytes

        assert measure_decoding.in_child(in_child) == "1000000"
    waiting.join(10)
    under_way.give_back(10**6)
    assert under_way.n_bytes == 0


# ----------------------------------------------------------------- conversions


def converted_as_a_whole(image):
    """Slow reference: what was done before pictures were converted in bands of rows."""
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
def test_damaged_pictures_are_read_or_refused_and_nothing_else():
    tallies, remarks = fuzz_pictures.fuzz(250, seed=11, max_memory=20_000_000)
    assert remarks == []
    assert sum(tally.read for tally in tallies.values()) > 20
    assert sum(tally.refused for tally in tallies.values()) > 100
    assert max(tally.most_bytes for tally in tallies.values()) < 60_000_000
