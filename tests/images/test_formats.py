"""The table of formats: what is read of it elsewhere, and that the documentation has it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skl2rclip._images.decoding import find_damaged
from skl2rclip._images.formats import FORMATS, OTHER_FORMAT, format_of
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.memory import decoding_bytes

DOCS = Path(__file__).parents[2] / "docs/inputs-reference.md"


def remark(known):
    if known.refused:
        return f"refused: {known.refused}"
    remarks = [f"needs {known.plugin}"] * bool(known.plugin)
    remarks += ["decoded at a half, a quarter or an eighth of its sides where it would not fit"] * known.is_reducible
    remarks += ["the first page that is no thumbnail"] * (known.go_to_page is not OTHER_FORMAT.go_to_page)
    return "; ".join(remarks) or "-"


def cost(known):
    file = " and its file" if known.buffered.__name__ == "_file_size" else ""
    return "-" if known.refused else f"{known.bytes_per_pixel:g}{file}"


def test_the_documentation_has_the_table():
    rows = [f"| {name} | {cost(known)} | {remark(known)} |" for name, known in FORMATS.items()]
    rows.append(f"| any other | {cost(OTHER_FORMAT)} | {remark(OTHER_FORMAT)} |")
    table = "\n".join(["| format | bytes a pixel | what is particular |", "| --- | --- | --- |", *rows])
    assert table in DOCS.read_text(encoding="utf-8"), f"docs/inputs-reference.md must hold:\n{table}"


def test_each_format_is_one_that_pillow_or_a_named_plugin_knows():
    Image.init()
    known = {*Image.OPEN, *Image.MIME, *(name for name, each in FORMATS.items() if each.plugin)}
    assert set(FORMATS) <= known


def test_a_format_that_is_added_is_counted_with_its_costs(monkeypatch):
    image = Image.new("RGB", (100, 100))
    image.format, image.tile = "NEW", [("raw", (0, 0, 100, 100), 0, "RGB")]
    before = decoding_bytes(image)
    monkeypatch.setitem(FORMATS, "NEW", type(OTHER_FORMAT)(bytes_per_pixel=16.0, buffered=lambda image: 5_000))
    assert decoding_bytes(image) == before + 2 * 100 * 100 + 5_000


@pytest.mark.parametrize("name", [None, "", "FITS"])
def test_of_others_nothing_particular_is_known(name):
    image = Image.new("L", (2, 2))
    image.format = name
    assert format_of(image) is OTHER_FORMAT


def big_endian_tiff(values, compression):
    """Bytes of a grey TIFF whose bytes begin with the highest one."""
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    data = zlib.compress(data) if compression == 8 else data
    data += b"\0" * (len(data) % 2)
    height, width = values.shape
    n_bits, kind = 8 * values.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {256: width, 257: height, 258: n_bits, 259: compression, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: kind}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"MM" + struct.pack(">HI", 42, 8 + len(data)) + data + struct.pack(">H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32"])
def test_a_tiff_whose_bytes_pillow_swaps_twice_is_refused(dtype, compression):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    content = big_endian_tiff(values, compression)
    reason = find_damaged([content], [0], white=WhiteLevel(255)).get(0, "")
    assert ("which Pillow misreads: give the array of tifffile" in reason) is (compression == 8 and dtype != "uint16")
    if not reason:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), values)
