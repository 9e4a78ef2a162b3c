"""Images at the size of a tower, against what predictions see."""

import numpy as np
import pytest
from PIL import Image

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError


@pytest.fixture
def words():
    return L2RCLIPClassifier("skl2rclip-tiny", ranks=[1, 2, 3], device="cpu").fit_zero_shot()


def test_pixels_are_those_that_predictions_see(words, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 256, (300, 170, 3), dtype=np.uint8))
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    large.save(turned, exif=exif)
    transparent = large.convert("RGBA")
    transparent.putalpha(90)
    X = [str(turned), transparent, np.asarray(large)[:50], turned.read_bytes()]
    seen = []
    original = ImageEncoding.of_pixels
    monkeypatch.setattr(ImageEncoding, "of_pixels", lambda self, pixels: seen.append(pixels) or original(self, pixels))
    forget_embeddings()
    words.predict(X)
    pixels = input_pixels(X, words)
    assert pixels.dtype == np.uint8
    assert {image.tobytes() for image in pixels} == {image.tobytes() for image in np.concatenate(seen)}
    np.testing.assert_array_equal(pixels[0], pixels[3])


def test_white_level_is_the_models(words):
    deep = [np.full((70, 80), 4000, np.uint16)]
    with pytest.warns(UserWarning, match="it may hold fewer bits"):
        assert input_pixels(deep, words).max() == 4000 // 256
    words.set_params(white_level=4000)
    for model in (words, words.to_torch(), words.to_torch().description):
        assert input_pixels(deep, model).min() == 255


def test_what_cannot_be_read_is_named(words, tmp_path):
    with pytest.raises(UnreadableImagesError, match=r"X\[1\].*no such file"):
        input_pixels([np.zeros((9, 9), np.uint8), str(tmp_path / "none.png")], words)


@pytest.mark.parametrize(
    ("model", "named"),
    [(L2RCLIPClassifier(), "L2RCLIPClassifier that is not fitted"), ("grades.onnx", "a str"), ({}, "a dict")],
)
def test_what_is_no_model_is_refused(model, named):
    with pytest.raises(InvalidParameterError, match=named):
        input_pixels([np.zeros((9, 9), np.uint8)], model)
