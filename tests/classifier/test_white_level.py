"""Images of more than eight bits in the estimators: `white_level`, kept with the model, or a refusal by `fit`."""

import pickle
import warnings
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, find_unreadable
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._images import decoding
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError

DARK = "its largest value is"


@pytest.fixture
def deep(shades):
    """Grey images of eight bits, the same of twelve in sixteen, and labels."""
    grey = [np.ascontiguousarray(image[..., 0]) for image in shades[0]]
    return grey, [image.astype(np.uint16) << 4 | 15 for image in grey], shades[1]


@pytest.fixture
def files(deep, tmp_path):
    """Paths of the deep images, and of one of full range behind them."""
    paths = [str(tmp_path / f"{i:02d}.png") for i in range(len(deep[1]))]
    for path, image in zip(paths, deep[1], strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("parameters", [{}, {"image_tower": "finetune", "augment": False}], ids=["frozen", "finetune"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_white_level_is_kept_with_the_model(make_classifier, deep, tmp_path, parameters, method):
    grey, twelve, y = deep
    of_eight = getattr(make_classifier(ranks=range(5), **parameters), method)(grey, y)
    fitted = getattr(make_classifier(ranks=range(5), white_level=4095, **parameters), method)(twelve, y)
    dark = [image // 8 for image in twelve[:2]]
    expected = of_eight.predict_proba([(image >> 4).astype(np.uint8) for image in dark])
    fitted.save(tmp_path / "model")
    for model in (fitted, pickle.loads(pickle.dumps(fitted)), L2RCLIPClassifier.load(tmp_path / "model")):
        assert model.white_level == 4095
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(model.predict_proba(dark), expected, atol=1e-5)
        with pytest.raises(UnreadableImagesError, match="from 5000 to 5000 instead of 0 to 4095") as caught:
            model.predict([*dark, np.full((9, 9), 5000, np.uint16)])
        assert list(caught.value.failures) == [2]
        with pytest.raises(InvalidParameterError, match="white_level"):
            model.set_params(white_level=1023).predict(dark)


def test_a_white_level_stays_when_training_goes_on_and_may_come_after_eight_bits(make_classifier, deep):
    grey, twelve, y = deep
    fitted = make_classifier(ranks=range(5)).fit(grey, y)
    expected = fitted.predict_proba(grey)
    np.testing.assert_allclose(fitted.set_params(white_level=4095).predict_proba(twelve), expected, atol=1e-5)
    with pytest.raises(InvalidParameterError, match="white_level must stay the same"):
        fitted.partial_fit(twelve, y)


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_fit_refuses_dark_images_by_name_and_decodes_none_twice(make_classifier, deep, files, tmp_path, image_tower):
    _, twelve, y = deep
    bright = [str(tmp_path / f"bright-{i}.png") for i in range(len(files))]
    for path, image in zip(bright, twelve, strict=True):
        Image.fromarray(np.where(image == image.max(), np.uint16(65535), image * 16)).save(path)
    mixed = [*bright[:5], files[5], *bright[6:]]
    classifier = make_classifier(ranks=range(5), image_tower=image_tower, embedding_cache=tmp_path / "cache")
    with mock.patch.object(decoding, "read_image", side_effect=decoding.read_image) as opened:
        with pytest.raises(UnreadableImagesError, match=rf"X\[5\] \(.*05.png\): {DARK}.*white_level=") as caught:
            classifier.fit(mixed, y)
        assert list(caught.value.failures) == [5]
        assert opened.call_count == len(mixed)
    with pytest.warns(UserWarning, match=rf"leaves images out(.|\n)*X\[5\] .*{DARK}"):
        skipped = classifier.set_params(on_bad_image="skip").fit(mixed, y)
    # a prediction takes it, says so, and keeps no embedding of it that a fit would find
    with pytest.warns(UserWarning, match=DARK):
        skipped.predict(mixed)
    with pytest.raises(UnreadableImagesError, match=DARK):
        classifier.set_params(on_bad_image="raise").fit(mixed, y)


def test_an_embedding_is_known_by_its_white_level_too(make_classifier, tiny, deep, files, tmp_path):
    grey, _, _ = deep
    expected = CLIPImageEncoder(tiny, device="cpu").fit().transform(grey)
    with pytest.warns(UserWarning, match=DARK):
        black = CLIPImageEncoder(tiny, device="cpu", embedding_cache=tmp_path / "cache").fit().transform(files)
    for white_level in (4095, 65535, 4095):
        forget_embeddings()
        encoder = CLIPImageEncoder(tiny, device="cpu", embedding_cache=tmp_path / "cache", white_level=white_level)
        found = encoder.fit().transform(files)
        np.testing.assert_allclose(found, expected if white_level == 4095 else black, atol=1e-5)


def test_an_encoder_refuses_in_fit_transform_and_keeps_its_white_level(tiny, deep):
    grey, twelve, y = deep
    expected = CLIPImageEncoder(tiny, device="cpu").fit().transform(grey)
    with pytest.raises(UnreadableImagesError, match=DARK):
        make_pipeline(CLIPImageEncoder(tiny, device="cpu"), LogisticRegression()).fit(twelve, y)
    fitted = CLIPImageEncoder(tiny, device="cpu", white_level=4095).fit()
    np.testing.assert_allclose(fitted.transform(twelve), expected, atol=1e-5)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(fitted)).transform(twelve), expected, atol=1e-5)
    np.testing.assert_allclose(fitted.fit_transform(iter(twelve)), expected, atol=1e-5)
    with pytest.raises(InvalidParameterError, match="white_level"):
        CLIPImageEncoder(tiny, device="cpu", white_level=0).fit()


@pytest.mark.parametrize("white_level", [0, -1, np.nan, np.inf, True, "4095"])
def test_a_white_level_is_a_positive_number(make_classifier, shades, white_level):
    with pytest.raises(InvalidParameterError, match="white_level"):
        make_classifier(white_level=white_level).fit(*shades)
    with pytest.raises(InvalidParameterError, match="white_level"):
        find_unreadable(shades[0], white_level=white_level)


def test_what_is_found_is_what_fit_names(make_classifier, deep):
    _, twelve, y = deep
    X = [*twelve[:3], np.full((9, 9), 3000, np.int32), np.full((9, 9), 9000.0), *twelve[5:]]
    for white_level, bad in ((None, list(range(len(X)))), (4095, [4])):
        with pytest.raises(UnreadableImagesError) as caught:
            make_classifier(ranks=range(5), white_level=white_level).fit(X, y)
        assert find_unreadable(X, white_level=white_level) == caught.value.failures
        assert list(caught.value.failures) == bad


@pytest.mark.parametrize("kind", ["classifier", "search", "pipeline"])
def test_images_are_shown_as_the_model_takes_them(make_classifier, tiny, deep, kind):
    pytest.importorskip("matplotlib").use("Agg")
    from skl2rclip.inspection import LargestErrorsDisplay, RankDistributionDisplay, SortedPicturesDisplay

    grey, twelve, y = deep
    estimator = make_classifier(ranks=range(5), white_level=4095)
    if kind == "search":
        estimator = GridSearchCV(estimator, {"pairwise_weight": [0.1]}, cv=2, error_score="raise")
    elif kind == "pipeline":
        estimator = make_pipeline(CLIPImageEncoder(tiny, device="cpu", white_level=4095), LogisticRegression())
    estimator.fit(twelve, y)
    X, expected = twelve[:1], np.stack([grey[0]] * 3, -1)
    true = (estimator.predict(X) + 1) % 5
    for display in (
        LargestErrorsDisplay.from_estimator(estimator, X, true),
        SortedPicturesDisplay.from_estimator(estimator, X),
        SortedPicturesDisplay.from_estimator(estimator, X, images=X),
    ):
        np.testing.assert_array_equal(display.thumbnails[0], expected)
    np.testing.assert_array_equal(RankDistributionDisplay.from_estimator(estimator, X).thumbnail, expected)
