"""The table of docs/inputs-reference.md: an image of each kind is made, read, and held against the same in eight bits.

``python tests/images/test_inputs_table.py`` writes the table anew.
"""

import gzip
import io
import re
import socket
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from skl2rclip import CLIPImageEncoder, ImageCrop, find_unreadable
from tests.support.dicom_files import write_dicom

PAGE = Path(__file__).parents[2] / "docs" / "inputs-reference.md"
BEGIN, END = "<!-- made by tests/images/test_inputs_table.py -->\n", "<!-- until here -->\n"
SCENE = Image.fromarray(load_sample_images().images[1]).resize((96, 64))
RGB, GREY = np.asarray(SCENE), np.asarray(SCENE.convert("L"))
LIGHT = GREY / 255
# of embeddings with those of the same image in eight bits
SAME, ALIKE = 0.9995, 0.97


def saved(image, name, **options):
    def make(folder):
        image.save(folder / name, **options)
        return str(folder / name)

    return make


def tiff(values, **options):
    def make(folder):
        options.setdefault("photometric", "rgb" if 3 in values.shape else "minisblack")
        tifffile.imwrite(folder / "a.tif", values, **options)
        return str(folder / "a.tif")

    return make


def pages(*arrays, **first):
    def make(folder):
        with tifffile.TiffWriter(folder / "a.tif") as file:
            for array, options in zip(arrays, [first, {}], strict=False):
                file.write(array, photometric="rgb", **options)
        return str(folder / "a.tif")

    return make


def content(data, name="a.png"):
    def make(folder):
        (folder / name).write_bytes(data)
        return str(folder / name)

    return make


def in_memory(image=SCENE, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def dicom(values, **tags):
    return lambda folder: write_dicom(folder / "a.dcm", values, **tags)


def cropped(box):
    """A crop of an image with a border of eight pixels."""
    return lambda folder: ImageCrop(saved(ImageOps.expand(SCENE, 8), "a.png")(folder), box)


def opened(folder):
    return Image.open(saved(SCENE, "a.png")(folder))


def listening(folder):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "a"))
    server.close()
    return str(folder / "a")


def with_alpha(mode):
    alpha = Image.fromarray(np.where(np.arange(96) < 48, 255, 0).astype(np.uint8)[None].repeat(64, 0))
    image = SCENE.convert(mode[:-1])
    image.putalpha(alpha)
    return image


def over_white(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def levels(white, dtype):
    return np.floor(LIGHT * white + 0.5).astype(dtype)


GREY_IMAGE = SCENE.convert("L")
PALETTE = SCENE.quantize(64)
BILEVEL = SCENE.convert("1")
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
# kind, how it is made, what it should look like
KINDS = [
    ("PNG, BMP, PPM, TIFF of 3 x 8 bits", saved(SCENE, "a.bmp"), SCENE),
    ("grey of 8 bits", saved(GREY_IMAGE, "a.png"), GREY_IMAGE),
    ("black and white, 1 bit", saved(BILEVEL, "a.png"), BILEVEL),
    ("a palette", saved(PALETTE, "a.png"), PALETTE.convert("RGB")),
    ("RGB with alpha", saved(with_alpha("RGBA"), "a.png"), over_white(with_alpha("RGBA"))),
    ("grey with alpha", saved(with_alpha("LA"), "a.png"), over_white(with_alpha("LA"))),
    ("JPEG", saved(SCENE, "a.jpg", quality=95), SCENE),
    ("JPEG of CMYK", saved(SCENE.convert("CMYK"), "a.jpg", quality=95), SCENE),
    (
        "JPEG that EXIF turns",
        saved(SCENE, "a.jpg", quality=95, exif=turned()),
        SCENE.transpose(Image.Transpose.ROTATE_270),
    ),
    ("WebP, lossless", saved(SCENE, "a.webp", lossless=True), SCENE),
    ("GIF of two frames", saved(SCENE, "a.gif", save_all=True, append_images=[SCENE.rotate(90)]), SCENE),
    ("JPEG 2000", saved(SCENE, "a.jp2"), SCENE),
    ("PNG of 16 bits", saved(Image.fromarray(levels(65535, np.uint16)), "a.png"), GREY_IMAGE),
    ("PNG of 16 bits that holds 12", saved(Image.fromarray(levels(4095, np.uint16)), "a.png"), GREY_IMAGE),
    (
        "PNG of 16 bits that holds 12, `white_level=4095`",
        saved(Image.fromarray(levels(4095, np.uint16)), "a.png"),
        GREY_IMAGE,
    ),
    ("TIFF of 16 bits, 0 is white", tiff(65535 - levels(65535, np.uint16), photometric="miniswhite"), GREY_IMAGE),
    ("TIFF of 8 bits, 0 is white", tiff(255 - GREY, photometric="miniswhite"), GREY_IMAGE),
    ("TIFF of 32 bits, unsigned", tiff(levels(2.0**32 - 1, np.uint32)), GREY_IMAGE),
    ("TIFF of floats from 0 to 1", tiff(LIGHT.astype(np.float32)), GREY_IMAGE),
    ("TIFF of floats from 0 to 255", tiff((255 * LIGHT).astype(np.float32)), GREY_IMAGE),
    ("TIFF of floats from 0 to 255, `white_level=255`", tiff((255 * LIGHT).astype(np.float32)), GREY_IMAGE),
    ("TIFF of signed integers", tiff(levels(32767, np.int16)), GREY_IMAGE),
    ("TIFF of signed integers, `white_level=32767`", tiff(levels(32767, np.int16)), GREY_IMAGE),
    ("TIFF, planes of 8 bits one behind the other", tiff(RGB.transpose(2, 0, 1), planarconfig="separate"), SCENE),
    (
        "TIFF, planes of 16 bits one behind the other",
        tiff(RGB.transpose(2, 0, 1).astype(np.uint16) * 257, photometric="rgb", planarconfig="separate"),
        SCENE,
    ),
    ("TIFF of two pages", pages(RGB, RGB[::-1]), SCENE),
    ("TIFF, the first page a thumbnail", pages(RGB[::4, ::4], RGB, subfiletype=1), SCENE),
    ("DICOM, a window of 12 bits", dicom(levels(4095, np.uint16), **WINDOW), GREY_IMAGE),
    (
        "DICOM, MONOCHROME1",
        dicom(4095 - levels(4095, np.uint16), PhotometricInterpretation="MONOCHROME1", **WINDOW),
        GREY_IMAGE,
    ),
    ("DICOM, RGB", dicom(RGB), SCENE),
    ("DICOM of two frames", dicom(RGB, NumberOfFrames=2), SCENE),
    (
        "transparent throughout",
        saved(Image.merge("RGBA", [*SCENE.split(), Image.new("L", SCENE.size)]), "a.png"),
        SCENE,
    ),
    ("`bytes` of a file", lambda folder: in_memory(), SCENE),
    ("`BytesIO`", lambda folder: io.BytesIO(in_memory()), SCENE),
    ("a PIL image, opened", opened, SCENE),
    ("a `pathlib` path", lambda folder: Path(saved(SCENE, "a.png")(folder)), SCENE),
    ("`ImageCrop` of a file", cropped((8, 8, 96, 64)), SCENE),
    ("`ImageCrop` beyond its file", cropped((40, 8, 96, 64)), SCENE),
    ("array (H, W, 3) of uint8", lambda folder: RGB, SCENE),
    ("array (H, W) of uint8", lambda folder: GREY, GREY_IMAGE),
    ("array (H, W, 4) of uint8", lambda folder: np.asarray(with_alpha("RGBA")), over_white(with_alpha("RGBA"))),
    ("array of bool", lambda folder: np.asarray(BILEVEL), BILEVEL),
    ("array of uint16 that holds 12 bits", lambda folder: levels(4095, np.uint16), GREY_IMAGE),
    ("the same, `white_level=4095`", lambda folder: levels(4095, np.uint16), GREY_IMAGE),
    ("array of floats from 0 to 1", lambda folder: LIGHT, GREY_IMAGE),
    ("array of int64 from 0 to 255", lambda folder: GREY.astype(np.int64), GREY_IMAGE),
    ("the same, `white_level=255`", lambda folder: GREY.astype(np.int64), GREY_IMAGE),
    ("array (3, H, W)", lambda folder: RGB.transpose(2, 0, 1), SCENE),
    ("a cut-off JPEG", content(in_memory(kind="JPEG")[:-900], "a.jpg"), SCENE),
    ("SVG", content(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg"), SCENE),
    ("a zipped image", content(gzip.compress(in_memory()), "a.png.gz"), SCENE),
    ("text", content(b"nothing", "a.png"), SCENE),
    ("an empty file", content(b""), SCENE),
    ("a folder", str, SCENE),
    ("a socket", listening, SCENE),
    ("a name of nothing", lambda folder: str(folder / "b.png"), SCENE),
    ("an address", lambda folder: "https://example.org/a.png", SCENE),
    ("a pair of image and label", lambda folder: (SCENE, 3), SCENE),
]


@pytest.fixture(scope="module")
def encoder():
    return CLIPImageEncoder("skl2rclip-tiny", device="cpu").fit()


def outcome(encoder, entry, image, place, white_level=None):
    """What happens to an image, as the table says it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reasons = find_unreadable([entry], white_level=white_level)
    except (ValueError, TypeError) as error:
        return f"refused: {plain(error, place)}"
    if reasons:
        return f"refused: {plain(reasons[0], place)}"
    encoder.set_params(white_level=white_level).fit()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedding = encoder.transform([entry])[0]
    cosine = embedding @ encoder.transform([image])[0]
    read = "read" if cosine > SAME else "read, as lossy as it is" if cosine > ALIKE else f"misread: {cosine:.2f}"
    told = [plain(warning.message, place) for warning in caught if issubclass(warning.category, UserWarning)]
    return f"{read}; warning: {told[0]}" if told else read


def plain(said, place):
    """A message without the folder, addresses and counts of the moment, the first sentence or so of it."""
    text = " ".join(str(said).split()).replace(f"{place}/", "").replace("|", "/")
    text = re.sub(r" at 0x[0-9A-F]+| \(\d+ bytes not processed\)", "", text)
    return text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " ..."


def rows(encoder, folder):
    made = []
    for number, (kind, make, image) in enumerate(KINDS):
        place = folder / str(number)
        place.mkdir()
        level = re.search(r"white_level=(\d+)", kind)
        made.append((kind, outcome(encoder, make(place), image, place, level and int(level[1]))))
    return made


def table(made):
    return "".join(
        f"| {kind} | {what} |\n" for kind, what in [("one image alone", "what happens"), ("---", "---"), *made]
    )


def test_the_table_of_the_documentation_is_what_happens(encoder, tmp_path_factory):
    made = rows(encoder, tmp_path_factory.mktemp("kinds"))
    assert not [row for row in made if row[1].startswith("misread")]
    written = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert written == table(made)


def main():
    with tempfile.TemporaryDirectory() as folder:
        made = rows(CLIPImageEncoder("skl2rclip-tiny", device="cpu").fit(), Path(folder))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table(made) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
