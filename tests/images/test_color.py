"""Colours of embedded profiles become those of sRGB, by the closed form; what is no profile costs nothing."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from skl2rclip._images import color as colours_module
from skl2rclip._images.color import conversion_of
from skl2rclip._images.decoding import Decoder, image_threads, open_image, read_image
from skl2rclip._images.files import stamped
from skl2rclip._images.header import open_header
from skl2rclip._images.memory import MemoryTicket
from tests.support import colour_profiles
from tests.support.colour_profiles import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    grey_profile,
    in_srgb,
    ink_profile,
    matrix_profile,
)
from tests.support.helpers import SQUARE, cache_for_tests, embedded, in_threads, shown_warnings

COLOURS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
P3 = matrix_profile(DISPLAY_P3)
# paper, then what the inks C, M, Y and K look like alone and over each other
INKS = np.zeros((2, 2, 2, 2, 3))
INKS[..., 0, :] = [
    [[[94, 0, 0], [88, -5, 90]], [[50, 70, 0], [48, 64, 45]]],
    [[[58, -30, -45], [50, -60, 28]], [[28, 20, -42], [25, 0, 0]]],
]


def created(space):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def content_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(image, kind="PNG", **options):
    return np.asarray(open_image(content_of(image, kind, **options))).astype(int)


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, ADOBE_GAMMA), (SRGB, 1.8)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_of_other_primaries_are_converted_by_the_closed_form(primaries, gamma, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    converted = read(Image.fromarray(COLOURS), kind, icc_profile=matrix_profile(primaries, gamma), **options)
    # eight bits of the coarsest step of a curve by which sRGB begins
    assert np.abs(converted - in_srgb(COLOURS, primaries, gamma)).max() < 1.6
    assert np.abs(converted - COLOURS).mean() > 3


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpegs_are_converted_upright_and_also_where_they_are_decoded_at_smaller_sides(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = Image.fromarray(COLOURS).resize((1200, 1600))
    content = content_of(large, "JPEG", icc_profile=P3, exif=exif, quality=95)
    plain = content_of(large, "JPEG", exif=exif, quality=95)
    expected = in_srgb(np.asarray(open_image(plain)), DISPLAY_P3)
    assert np.abs(np.asarray(open_image(content)) - expected).max() < 1.6
    with MemoryTicket(3 * 10**6) as ticket:
        reduced = read_image(content, None, ticket, lambda size: 8.0)
    assert reduced.is_reduced
    small = np.asarray(open_image(content).resize(reduced.image.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(reduced.image) - small).mean() < 3


def test_grey_profiles_are_converted_by_the_closed_form_at_8_and_16_bits():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = 255 * colour_profiles.srgb_encoded((ramp / 255) ** 1.8)
    profile = grey_profile(1.8)
    for image in (Image.fromarray(ramp), Image.fromarray(ramp.astype(np.uint16) * 257)):
        converted = read(image, icc_profile=profile)
        assert np.abs(converted - expected[..., None]).max() < 1.6
    opaque = Image.fromarray(ramp).convert("LA")
    assert np.abs(read(opaque, icc_profile=profile) - expected[..., None]).max() < 1.6
    neutral = in_srgb(np.stack([ramp] * 3, -1), SRGB, 1.8)
    assert np.abs(read(Image.fromarray(ramp), icc_profile=matrix_profile(SRGB, 1.8)) - neutral).max() < 1.6


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_look_as_their_profile_says(kind):
    corners = np.array(list(np.ndindex(2, 2, 2, 2)), np.uint8) * 255
    expected = np.clip(colour_profiles.lab_in_srgb(INKS.reshape(16, 3)), 0, 255)
    image = Image.fromarray(np.repeat(corners[:, None], 16, axis=1).repeat(16, axis=0), "CMYK")
    options = {"quality": 100} if kind == "JPEG" else {}
    converted = read(image, kind, icc_profile=ink_profile(INKS), **options)[8::16, 8]
    plain = read(image, kind, **options)[8::16, 8]
    expected[0] = 0
    in_gamut = (expected > 1).all(axis=1) & (expected < 254).all(axis=1)
    assert in_gamut.sum() >= 3
    # eight bits of L*a*b*, a few levels each
    assert np.abs(converted - expected)[in_gamut].max() < 5
    assert np.abs(plain - expected)[in_gamut].max() > 20
    assert (converted[0] == 255).all()  # paper, which LittleCMS takes for white


def test_the_alpha_is_kept_and_white_stays_white():
    alpha = np.random.default_rng(1).integers(0, 256, (40, 30, 1), dtype=np.uint8)
    converted = read(Image.fromarray(np.concatenate([COLOURS, alpha], -1)), icc_profile=P3)
    share = alpha / 255
    assert np.abs(converted - (share * in_srgb(COLOURS, DISPLAY_P3) + (1 - share) * 255)).max() < 2.6
    assert read(Image.new("RGB", (4, 4), "white"), icc_profile=P3).min() == 255
    assert read(Image.new("RGB", (4, 4), "black"), icc_profile=P3).max() == 0
    palette = Image.fromarray(COLOURS).quantize(200)
    expected = in_srgb(np.asarray(palette.convert("RGB")), DISPLAY_P3)
    assert np.abs(read(palette, icc_profile=P3) - expected).max() < 1.6
    clear = read(palette, icc_profile=P3, transparency=int(palette.getpixel((0, 0))))
    assert (clear[0, 0] == 255).all()


@pytest.mark.parametrize("profile", [created("sRGB"), matrix_profile(SRGB), b""])
def test_what_is_srgb_in_effect_is_not_touched(profile):
    image = open_header(io.BytesIO(content_of(Image.fromarray(COLOURS), icc_profile=profile))).image
    assert conversion_of(image).transform is None
    np.testing.assert_array_equal(read(Image.fromarray(COLOURS), icc_profile=profile), COLOURS)
    grey = Image.fromarray(COLOURS[..., 0])
    np.testing.assert_array_equal(read(grey, icc_profile=grey_profile())[..., 0], COLOURS[..., 0])


def test_a_profile_is_looked_at_once(monkeypatch):
    built = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(colours_module, "_kept", type(colours_module._kept)())
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *a, **k: built.append(1) or build(*a, **k))
    contents = [content_of(Image.fromarray(COLOURS ^ shade), icc_profile=P3) for shade in range(5)]
    for content in contents * 2:
        open_image(content)
    assert len(built) == 1
    for gamma in range(100, 200):
        grey = Image.new("L", (1, 1))
        grey.info["icc_profile"] = grey_profile(gamma / 64)
        conversion_of(grey)
    assert len(colours_module._kept) <= colours_module._MAX_KEPT


def test_eight_threads_share_a_conversion():
    content = content_of(Image.fromarray(COLOURS).resize((400, 400)), icc_profile=P3)
    expected = np.asarray(open_image(content))
    for result in in_threads(*[lambda: [np.asarray(open_image(content)) for _ in range(5)]] * 8):
        assert all(np.array_equal(each, expected) for each in result)


@pytest.mark.parametrize(
    ("mode", "profile", "reason"),
    [
        ("RGB", P3[:200], "its colour profile is damaged and is ignored"),
        ("RGB", bytes(500), "its colour profile is damaged and is ignored"),
        ("RGB", b"x", "its colour profile is damaged and is ignored"),
        ("RGB", ink_profile(INKS), "its colour profile is of CMYK, which its pixels are not, and is ignored"),
        ("RGB", grey_profile(2.2), "its colour profile is of GRAY, which its pixels are not, and is ignored"),
        ("CMYK", P3, "its colour profile is of RGB, which its pixels are not, and is ignored"),
        ("RGB", created("LAB"), "its colour profile is of Lab, which its pixels are not, and is ignored"),
    ],
)
def test_what_is_no_profile_for_an_image_costs_one_line(mode, profile, reason, tmp_path):
    image = Image.fromarray(COLOURS).convert(mode)
    paths = [tmp_path / f"{i}.tif" for i in range(3)]
    image.save(paths[0])
    for path in paths[1:]:
        image.save(path, icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_image(paths[0])), np.asarray(open_image(image)))
    assert shown_warnings(embedded, paths, None) == [(UserWarning, f"X[1] ({paths[1]}) and 1 other: {reason}")]
    with image_threads(1) as pool:
        decoder = Decoder(stamped(paths), [SQUARE], pool)
        [pixels] = decoder.start(range(3))()
    assert decoder.failures == {}
    assert (pixels == pixels[0]).all()


def test_a_damaged_profile_of_a_png_is_told_too():
    content = bytearray(content_of(Image.fromarray(COLOURS), icc_profile=P3))
    place = content.index(b"iCCP")
    length = int.from_bytes(content[place - 4 : place], "big")
    content[place + 30 : place + length] = bytes(length - 30)
    end = place + 4 + length
    content[end : end + 4] = zlib.crc32(content[place:end]).to_bytes(4, "big")
    [(_, message)] = shown_warnings(embedded, [bytes(content)], None)
    assert message == "X[0]: its colour profile is damaged and is ignored"


def test_without_littlecms_colours_are_taken_as_they_are(monkeypatch):
    content = content_of(Image.fromarray(COLOURS), icc_profile=P3)
    with cache_for_tests() as cache:
        key = cache.read(content)[0]
    monkeypatch.setattr(colours_module, "can_convert", lambda: False)
    monkeypatch.setattr("skl2rclip._embedding.cache.can_convert", lambda: False)
    np.testing.assert_array_equal(np.asarray(open_image(content)), COLOURS)
    with cache_for_tests() as cache:
        assert cache.read(content)[0] != key


def test_images_of_the_user_are_converted_too_and_stay_as_they_were():
    image = Image.open(io.BytesIO(content_of(Image.fromarray(COLOURS), icc_profile=P3)))
    for _ in range(2):
        assert np.abs(np.asarray(open_image(image)) - in_srgb(COLOURS, DISPLAY_P3)).max() < 1.6
        image.load()
    np.testing.assert_array_equal(np.asarray(image), COLOURS)
    done = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(P3)), ImageCms.createProfile("sRGB"))
    np.testing.assert_array_equal(np.asarray(open_image(done)), np.asarray(done))
