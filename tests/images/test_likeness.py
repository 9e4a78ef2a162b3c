import imagehash
import numpy as np
import pytest
from PIL import Image

from skl2rclip._images.likeness import Appearance, differing_bits, have_like_colours


@pytest.fixture(scope="module")
def images():
    patches = np.random.default_rng(0).integers(0, 255, (3, 9, 12, 3), np.uint8)
    return [Image.fromarray(each).resize((96, 72), Image.Resampling.BICUBIC) for each in patches]


def bits(a, b):
    return differing_bits(a.hashes[None], b.hashes[None])[0]


def test_the_first_hash_is_that_of_imagehash(images):
    seen = Appearance.of(images[0])
    expected = imagehash.phash(Image.fromarray(seen.grey), hash_size=16, highfreq_factor=2).hash.ravel()
    np.testing.assert_array_equal(np.unpackbits(seen.hashes[0, 0]), expected)


def test_bits_are_those_of_a_slow_loop(images):
    a, b = (Appearance.of(image) for image in images[:2])
    shares = [
        np.unpackbits(one ^ other).mean()
        for view in range(2)
        for crop in range(3)
        for one, other in ((a.hashes[view, crop], b.hashes[0, 0]), (a.hashes[view, 0], b.hashes[0, crop]))
    ]
    assert bits(a, b) == pytest.approx(min(shares))
    assert min(shares) > 0.3


def test_a_mirror_image_differs_in_no_bit(images):
    mirrored = images[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert bits(Appearance.of(images[0]), Appearance.of(mirrored)) < 0.02


def test_digests_tell_one_pixel_and_the_shape(images):
    changed = images[0].copy()
    changed.putpixel((0, 0), (1, 2, 3))
    blank = [Image.new("RGB", size) for size in ((6, 4), (4, 6))]
    digests = {Appearance.of(image).digest for image in (*images, changed, *blank)}
    assert len(digests) == 6
    assert Appearance.of(images[0].copy()).digest in digests


def test_colours_agree_but_for_brightness(images):
    red, green, blue = images[0].split()
    seen = Appearance.of(images[0])
    assert have_like_colours(seen, Appearance.of(images[0].point(lambda value: value * 0.9)))
    assert not have_like_colours(seen, Appearance.of(Image.merge("RGB", (blue, red, green))))
