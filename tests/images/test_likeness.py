import imagehash
import numpy as np
import pytest
from PIL import Image

from skl2rclip._images.likeness import (
    angles,
    appearance_of,
    differing_bits,
    frequencies_of,
    hashes_of_crops,
    have_like_colours,
    textures_of,
)

SHARES = (0.0, 0.025, 0.05)


@pytest.fixture(scope="module")
def images():
    patches = np.random.default_rng(0).integers(0, 255, (3, 9, 12, 3), np.uint8)
    return [Image.fromarray(each).resize((96, 72), Image.Resampling.BICUBIC) for each in patches]


def bits(a, b):
    return differing_bits(a["hashes"][None], b["hashes"][None])[0]


def like_colours(a, b):
    return have_like_colours(a["colour"][None], b["colour"][None])[0]


def test_the_first_hash_is_that_of_imagehash(images):
    seen = appearance_of(images[0])
    expected = imagehash.phash(Image.fromarray(seen["grey"]), hash_size=16, highfreq_factor=2).hash.ravel()
    np.testing.assert_array_equal(np.unpackbits(seen["hashes"][0, 0]), expected)


def test_hashes_of_all_crops_are_those_of_imagehash_but_for_what_pixels_are_rounded_by(images):
    grey = np.stack([appearance_of(image)["grey"] for image in images])
    hashes = np.unpackbits(hashes_of_crops(grey), axis=-1).reshape(3, 2, 3, 3, 3, 3, 256)  # (upper, lower, left, right)
    shares = []
    for row, place in enumerate([(0, 0, 0, 0), (2, 0, 1, 2), (1, 2, 2, 0)]):
        upper, lower, left, right = (64 * SHARES[end] for end in place)
        for view, shown in enumerate((grey[row], grey[row][:, ::-1].copy())):
            box = (left, upper, 64 - right, 64 - lower)
            part = Image.fromarray(shown).resize((32, 32), Image.Resampling.LANCZOS, box=box)
            expected = imagehash.phash(part, hash_size=16, highfreq_factor=2).hash.ravel()
            shares.append((hashes[row, view][place] != expected).mean())
    assert max(shares) < 0.05
    assert np.mean(shares) < 0.02


def test_textures_are_small_images_without_brightness_and_contrast(images):
    grey = np.asarray(appearance_of(images[0])["grey"])
    fainter = np.stack([grey, (grey * 0.5 + 60).astype(np.uint8)])
    textures = textures_of(fainter)
    assert textures.shape == (2, 4, 256)
    expected = np.asarray(Image.fromarray(grey).resize((16, 16), Image.Resampling.LANCZOS), np.float32)
    expected = (expected - expected.mean()) / np.linalg.norm(expected - expected.mean())
    np.testing.assert_allclose(textures[0, 0], expected.ravel(), atol=0.01)
    np.testing.assert_allclose(textures[0, 2], expected[:, ::-1].ravel(), atol=0.01)
    np.testing.assert_allclose(textures[1], textures[0], atol=0.01)


def test_angles_are_those_of_a_slow_loop_on_the_scale_of_bits(images):
    grey = np.stack([appearance_of(image)["grey"] for image in images])
    frequencies = frequencies_of(grey).astype(np.float64)
    a, b = frequencies[:1], frequencies[1:2]
    cosines = [
        one @ other
        for view in range(2)
        for crop in range(3)
        for one, other in ((a[0, view, crop], b[0, 0, 0]), (a[0, view, 0], b[0, 0, crop]))
    ]
    assert angles(a, b)[0] == pytest.approx(0.1 * np.arccos(max(cosines)) / np.arccos(0.99))
    half, mirrored = (grey[:1] // 2 + 30, grey[:1, :, ::-1])
    for other in (half, mirrored):
        assert angles(frequencies_of(grey[:1]), frequencies_of(other))[0] < 0.03


def test_bits_are_those_of_a_slow_loop(images):
    a, b = (appearance_of(image) for image in images[:2])
    shares = [
        np.unpackbits(one ^ other).mean()
        for view in range(2)
        for crop in range(3)
        for one, other in (
            (a["hashes"][view, crop], b["hashes"][0, 0]),
            (a["hashes"][view, 0], b["hashes"][0, crop]),
        )
    ]
    assert bits(a, b) == pytest.approx(min(shares))
    assert min(shares) > 0.3


def test_a_mirror_image_differs_in_no_bit(images):
    mirrored = images[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert bits(appearance_of(images[0]), appearance_of(mirrored)) < 0.02


def test_digests_tell_one_pixel_and_the_shape(images):
    changed = images[0].copy()
    changed.putpixel((0, 0), (1, 2, 3))
    blank = [Image.new("RGB", size) for size in ((6, 4), (4, 6))]
    digests = {appearance_of(image)["digest"].tobytes() for image in (*images, changed, *blank)}
    assert len(digests) == 6
    assert appearance_of(images[0].copy())["digest"].tobytes() in digests


def test_colours_agree_but_for_brightness(images):
    red, green, blue = images[0].split()
    seen = appearance_of(images[0])
    assert like_colours(seen, appearance_of(images[0].point(lambda value: value * 0.9)))
    assert not like_colours(seen, appearance_of(Image.merge("RGB", (blue, red, green))))
    mirrored = images[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert like_colours(seen, appearance_of(mirrored))
