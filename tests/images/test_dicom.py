"""DICOM files beside what pydicom's own utilities make of them, and what is refused by their headers."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import pixels as utilities
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from sklearn.datasets import load_sample_images

from skl2rclip import CLIPImageEncoder, ImageCrop, find_unreadable
from skl2rclip._images.collection import as_image_list
from skl2rclip._images.decoding import open_image
from skl2rclip._images.files import stamped
from skl2rclip._images.levels import WhiteLevel
from skl2rclip.datasets import load_image_folder, read_image_table
from tests.support.dicom_files import dicom_of, write_dicom

SCENE = np.asarray(Image.fromarray(load_sample_images().images[1]).resize((96, 64)))
GREY = np.asarray(Image.fromarray(SCENE).convert("L"))
TWELVE = (GREY.astype(np.uint16) * 16) + 7
WINDOW = {"WindowCenter": 1500, "WindowWidth": 2000, "BitsStored": 12}
CT = {"WindowCenter": [800, 40], "WindowWidth": [1500, 400], "RescaleSlope": 1, "RescaleIntercept": -1024}
# of embeddings with those of the same image in eight bits
SAME = 0.9995


def table(n_entries, first, n_bits, entries):
    item = Dataset()
    item.LUTDescriptor = [n_entries, first, n_bits]
    item.LUTData = np.asarray(entries).astype("<u2").tobytes()
    return Sequence([item])


def palette(data):
    places = np.arange(256, dtype="<u2")
    for name, entries in {"Red": places, "Green": 255 - places, "Blue": places // 2}.items():
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"{name}PaletteColorLookupTableData", (entries * 257).astype("<u2").tobytes())
    return data


def in_groups(data):
    """Put the window where files of several frames have it."""
    window = Dataset()
    window.WindowCenter, window.WindowWidth = data.WindowCenter, data.WindowWidth
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([window])
    data.PerFrameFunctionalGroupsSequence = Sequence([group])
    del data.WindowCenter, data.WindowWidth
    data.NumberOfFrames = 1
    return data


def compressed(data):
    data.compress(RLELossless)
    return data


FILES = {
    "a window": dicom_of(TWELVE, **WINDOW),
    "exact window": dicom_of(TWELVE, VOILUTFunction="LINEAR_EXACT", **WINDOW),
    "sigmoid": dicom_of(TWELVE, VOILUTFunction="SIGMOID", **WINDOW),
    "several windows and a rescale": dicom_of(TWELVE.astype(np.int16), BitsStored=13, **CT),
    "a window of MONOCHROME1": dicom_of(TWELVE, PhotometricInterpretation="MONOCHROME1", **WINDOW),
    "a table": dicom_of(TWELVE, BitsStored=12, VOILUTSequence=table(4096, 0, 12, 4095 - np.arange(4096))),
    "a table of the modality": dicom_of(
        TWELVE, BitsStored=12, ModalityLUTSequence=table(4096, 0, 16, np.sqrt(np.arange(4096)) * 1000)
    ),
    "eight bits": dicom_of(GREY),
    "eight bits of MONOCHROME1": dicom_of(GREY, PhotometricInterpretation="MONOCHROME1"),
    "twelve bits": dicom_of(TWELVE, BitsStored=12),
    "twelve bits of MONOCHROME1": dicom_of(TWELVE, BitsStored=12, PhotometricInterpretation="MONOCHROME1"),
    "RGB": dicom_of(SCENE),
    "RGB by planes": dicom_of(SCENE.transpose(2, 0, 1), PlanarConfiguration=1, SamplesPerPixel=3, Rows=64, Columns=96),
    "YBR": dicom_of(utilities.convert_color_space(SCENE, "RGB", "YBR_FULL"), PhotometricInterpretation="YBR_FULL"),
    "compressed": compressed(dicom_of(SCENE)),
}
FILES["RGB by planes"].PhotometricInterpretation = "RGB"


def exported(data):
    """The image as pydicom's utilities export it."""
    values = utilities.pixel_array(data)
    if values.ndim == 3:
        return Image.fromarray(values)
    values = utilities.apply_voi_lut(utilities.apply_modality_lut(values, data), data).astype(float)
    bits = data.BitsStored
    if "VOILUTSequence" in data:
        ends = 0, 4095
    elif "ModalityLUTSequence" in data:
        ends = 0, 65535
    elif data.PixelRepresentation:
        ends = -(2 ** (bits - 1)) - 1024, 2 ** (bits - 1) - 1025
    else:
        ends = 0, 2**bits - 1
    values = np.interp(values, ends, (0, 255)).astype(np.uint8)
    return Image.fromarray(255 - values if data.PhotometricInterpretation == "MONOCHROME1" else values)


def saved(data, path):
    data.save_as(path, enforce_file_format=True)
    return str(path)


@pytest.fixture(scope="module")
def encoder():
    return CLIPImageEncoder("skl2rclip-tiny", device="cpu")


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float")
def test_a_file_embeds_as_what_pydicom_exports_of_it(tmp_path, encoder):
    paths, expected = [], []
    for number, data in enumerate(FILES.values()):
        paths.append(saved(data, tmp_path / f"{number}.dcm"))
        expected.append(str(tmp_path / f"{number}.png"))
        exported(data).save(expected[-1])
        difference = np.abs(
            np.asarray(open_image(paths[-1]), int) - np.asarray(Image.open(expected[-1]).convert("RGB"))
        )
        assert difference.max() <= 1, list(FILES)[number]
    assert find_unreadable(paths) == {}
    rows = encoder.fit_transform([*paths, *expected])
    similarity = (rows[: len(paths)] * rows[len(paths) :]).sum(axis=1)
    assert similarity.min() > SAME
    assert len(np.unique(rows[: len(paths)].round(3), axis=0)) > len(paths) // 2  # they are not all alike


def test_colours_of_a_palette_are_those_of_its_tables(tmp_path):
    data = palette(dicom_of(GREY, PhotometricInterpretation="PALETTE COLOR"))
    expected = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
    np.testing.assert_array_equal(open_image(saved(data, tmp_path / "a.dcm")), expected)


def test_a_window_of_a_frame_counts(tmp_path):
    expected = open_image(saved(FILES["a window"], tmp_path / "a.dcm"))
    grouped = saved(in_groups(dicom_of(TWELVE, **WINDOW)), tmp_path / "b.dcm")
    np.testing.assert_array_equal(open_image(grouped), expected)


def test_a_falling_rescale_turns_grey_round(tmp_path):
    falling = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    rising = open_image(write_dicom(tmp_path / "a.dcm", 4095 - TWELVE, **WINDOW))
    np.testing.assert_array_equal(open_image(write_dicom(tmp_path / "b.dcm", TWELVE, **WINDOW, **falling)), rising)
    plain = open_image(write_dicom(tmp_path / "c.dcm", 4095 - TWELVE, BitsStored=12))
    turned = open_image(write_dicom(tmp_path / "d.dcm", TWELVE, BitsStored=12, **falling))
    assert np.abs(np.asarray(plain, int) - np.asarray(turned, int)).max() <= 1


def test_a_table_of_eight_bits_does_not_wrap(tmp_path):
    lut = table(4096, 0, 8, np.arange(4096) // 16)
    np.testing.assert_array_equal(
        np.asarray(open_image(write_dicom(tmp_path / "a.dcm", TWELVE, BitsStored=12, VOILUTSequence=lut)))[..., 0], GREY
    )


@pytest.mark.parametrize("tags", [{}, WINDOW])
def test_upper_bits_that_hold_an_overlay_are_no_part_of_a_value(tmp_path, tags):
    tags = {"BitsStored": 12, **tags}
    expected = open_image(write_dicom(tmp_path / "a.dcm", TWELVE, **tags))
    overlaid = TWELVE | np.where(GREY > 99, 0x8000, 0).astype(np.uint16)
    np.testing.assert_array_equal(open_image(write_dicom(tmp_path / "b.dcm", overlaid, **tags)), expected)


def test_values_of_the_other_byte_order(tmp_path):
    expected = open_image(saved(FILES["a window"], tmp_path / "a.dcm"))
    data = dicom_of(TWELVE.byteswap(), ExplicitVRBigEndian, **WINDOW)
    np.testing.assert_array_equal(open_image(saved(data, tmp_path / "b.dcm")), expected)


def test_sixteen_bits_that_may_be_fewer_ask_for_white(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", TWELVE)
    assert "white_level=4095" in find_unreadable([path])[0]
    assert find_unreadable([path], white_level=4095) == {}
    inverted = write_dicom(tmp_path / "b.dcm", TWELVE, PhotometricInterpretation="MONOCHROME1")
    one, other = (np.asarray(open_image(each, white=WhiteLevel(4095)), int) for each in (path, inverted))
    assert np.abs(one + other - 255).max() <= 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom_of(GREY, NumberOfFrames=3), "a DICOM file of 3 frames: save the one that is meant by itself"),
        (dicom_of(GREY, Rows=None, Modality="SR"), "a DICOM file without an image (its modality is SR)"),
        (dicom_of(GREY.astype(np.int16)), "of signed integers, and its values become grey by no window"),
        (dicom_of(GREY.astype(np.uint32)), "of 32 bits, and its values become grey by no window"),
        (dicom_of(SCENE, PhotometricInterpretation="HSV"), "a DICOM file of 3 x HSV, which is not read"),
        (dicom_of(GREY, PhotometricInterpretation="RGB"), "a DICOM file of 1 x RGB, which is not read"),
        (dicom_of(GREY, BitsStored=None, HighBit=None), "does not say of how many bits its integers are"),
    ],
)
def test_what_is_no_single_plain_image_is_refused_by_its_header(tmp_path, data, reason, encoder):
    data.PixelData = b"\0\0"  # there is nothing to decode
    path = saved(data, tmp_path / "a.dcm")
    with pytest.raises(ValueError, match=r"X\[0\] .*a\.dcm\): a DICOM file") as raised:
        encoder.fit_transform([path])
    assert reason in str(raised.value)


def test_pixels_that_pydicom_cannot_decode_here_are_told_by_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr("pydicom.pixels.decoders.base.JPEGLSLosslessDecoder._available", {})
    data = dicom_of(GREY)
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.PixelData = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data["PixelData"].is_undefined_length = True
    reason = find_unreadable([saved(data, tmp_path / "a.dcm")])[0]
    assert reason.startswith("a DICOM file of JPEG-LS Lossless Image Compression, for which pydicom needs more: ")
    assert "pylibjpeg" in reason


@pytest.mark.parametrize(
    ("syntax", "first"), [(ExplicitVRLittleEndian, b"\x08\0\x16\0"), (ExplicitVRBigEndian, b"\0\x08\0\x16")]
)
def test_a_file_without_its_preamble_is_told(tmp_path, syntax, first):
    content = Path(write_dicom(tmp_path / "a.dcm", GREY, syntax)).read_bytes()
    [reason] = find_unreadable([content[content.index(first) :]]).values()
    assert "a DICOM file without the preamble" in reason


def test_a_file_that_is_deflated_as_a_whole_is_not_inflated(tmp_path):
    path = saved(dicom_of(GREY, DeflatedExplicitVRLittleEndian), tmp_path / "a.dcm")
    assert find_unreadable([path])[0].startswith("a DICOM file that is deflated as a whole")


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 3), np.uint8)])
def test_what_does_not_fit_in_memory_is_refused_before_it_is_decoded(tmp_path, values):
    path = write_dicom(tmp_path / "a.dcm", values, Rows=30_000, Columns=30_000)
    reason = find_unreadable([path])[0]
    assert reason.startswith("decoding its 30000 x 30000 pixels takes up to ")
    small = write_dicom(tmp_path / "b.dcm", np.zeros((400, 400, *values.shape[2:]), values.dtype))
    assert "max_memory=" in find_unreadable([small], max_memory=1_000_000)[0]


def test_damage_behind_the_header_is_named(tmp_path):
    path = saved(FILES["a window"], tmp_path / "a.dcm")
    os.truncate(path, os.path.getsize(path) - 2000)
    assert list(find_unreadable([path])) == [0]


def test_without_pydicom_the_message_names_the_extra(tmp_path, monkeypatch):
    path = saved(FILES["a window"], tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    reason = 'a DICOM file, which is read with pydicom: pip install "skl2rclip[dicom]", also in each worker process'
    assert find_unreadable([path]) == {0: reason}


def test_other_images_need_no_pydicom(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    Image.fromarray(SCENE).save(tmp_path / "a.png")
    assert find_unreadable([tmp_path / "a.png"]) == {}


def test_files_are_known_by_their_content_wherever_they_come_from(tmp_path):
    for rank in ("1", "2"):
        (tmp_path / rank).mkdir()
        saved(FILES["a window"], tmp_path / rank / "IM000001")  # as exports name them
    assert load_image_folder(tmp_path).target.tolist() == [1, 2]
    path = str(tmp_path / "1/IM000001")
    table = {"path": [path], "rank": [1], "box": [[10, 20, 30, 40]]}
    [crop] = read_image_table(table, box="box").data
    assert crop == ImageCrop(path, (10, 20, 30, 40))
    content = (tmp_path / "1/IM000001").read_bytes()
    whole, part = (np.asarray(open_image(image)) for image in (content, *stamped([crop])))
    np.testing.assert_array_equal(part, whole[20:60, 10:40])
    assert find_unreadable([io.BytesIO(content), content]) == {}


def test_a_data_set_in_memory_is_asked_for_as_a_file():
    with pytest.raises(TypeError, match=r"got Dataset .* Give the path of its file, or the content, as bytes\."):
        as_image_list([dicom_of(GREY)])
