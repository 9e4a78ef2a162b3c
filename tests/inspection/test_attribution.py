"""Where a classifier looked: at the place that decides the rank, in the image's own pixels, and by its own weights."""

import copy
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.errors import InvalidParameterError, NothingLearnedWarning, UnreadableImagesError
from skl2rclip.inspection import AttributionDisplay

SIDE, SQUARE = 64, 20


def squares(n, seed, size=(SIDE, SIDE)):
    """Images with a square somewhere, the brighter the higher the rank; their ranks; where the squares are."""
    rng = np.random.default_rng(seed)
    X = rng.integers(70, 170, (n, *size, 3), np.uint8)
    y, places = np.arange(n) % 5, np.zeros((n, *size), bool)
    for image, rank, place in zip(X, y, places, strict=True):
        top, left = rng.integers(0, size[0] - SQUARE + 1), (size[1] - SIDE) // 2 + rng.integers(0, SIDE - SQUARE + 1)
        place[top : top + SQUARE, left : left + SQUARE] = True
        image[place] = 60 * rank + 5
    return X, y, places


def fit(X, y, **parameters):
    settings = {"ranks": range(5), "prompt_epochs": 1, "image_features": "both", "random_state": 0, "device": "cpu"}
    return L2RCLIPClassifier("skl2rclip-tiny", **{**settings, **parameters}).fit(X, y)


@pytest.fixture(scope="module")
def seeing():
    """A classifier of squares."""
    X, y, _ = squares(60, 0)
    return fit(X, y)


@pytest.fixture(scope="module")
def looked(seeing):
    """Four new images whose squares stand out, their places, and what the classifier looked at."""
    X, _, places = squares(10, 1)
    at_the_ends = np.flatnonzero(np.isin(np.arange(10) % 5, (0, 4)))
    X, places = X[at_the_ends], places[at_the_ends]
    return X, places, AttributionDisplay.from_estimator(seeing, X)


def correlation(one, other):
    """Rank correlation of two displays' maps without their signs, as Adebayo et al. compare them."""
    pairs = zip(one.attributions_, other.attributions_, strict=True)
    return np.mean([spearmanr(np.abs(a).ravel(), np.abs(b).ravel())[0] for a, b in pairs])


def test_it_looked_at_the_place_that_decides_the_rank(looked):
    _, places, display = looked
    ratios, hits = [], []
    for part, place in zip(display.attributions_, places, strict=True):
        assert part.shape == place.shape
        size = np.abs(part)
        ratios.append(size[place].mean() / size[~place].mean())
        hits.append(place[np.unravel_index(size.argmax(), size.shape)])
    assert np.median(ratios) > 2
    assert np.mean(hits) >= 0.75


def test_covering_what_it_looked_at_changes_the_prediction_and_covering_the_rest_does_not(looked, seeing):
    X, _, display = looked
    before = seeing.predict_expectation(X)
    changes = []
    for keep_least in (False, True):
        covered = X.copy()
        for image, part in zip(covered, display.attributions_, strict=True):
            order = np.argsort(np.abs(part), axis=None)
            chosen = order[: SQUARE**2] if keep_least else order[-(SQUARE**2) :]
            image.reshape(-1, 3)[chosen] = image.reshape(-1, 3).mean(axis=0)
        changes.append(np.abs(seeing.predict_expectation(covered) - before).mean())
    assert changes[0] > 3 * changes[1]


def test_signs_are_towards_higher_and_lower_ranks(looked):
    X, places, display = looked
    brightest, darkest = (
        [
            part[place].mean()
            for part, place, image in zip(display.attributions_, places, X, strict=True)
            if test(image, place)
        ]
        for test in (lambda image, place: image[place].mean() > 200, lambda image, place: image[place].mean() < 50)
    )
    assert np.mean(brightest) > 0.1
    assert np.mean(darkest) < -0.1


def test_values_are_what_a_covered_window_takes_from_the_expectation(seeing):
    X, _, _ = squares(1, 3)
    display = AttributionDisplay.from_estimator(seeing, X, window=1.0)
    covered = np.broadcast_to(X[0].mean(axis=(0, 1)), X.shape).round().astype(np.uint8)
    expected = seeing.predict_expectation(X) - seeing.predict_expectation(covered)
    np.testing.assert_allclose(display.attributions_[0], expected[0], atol=0.02)  # the mean is rounded here
    np.testing.assert_allclose(display.expectations, seeing.predict_expectation(X), atol=1e-4)


def test_with_random_weights_of_the_tower_the_map_is_another(looked, seeing, monkeypatch):
    X, _, display = looked
    module = seeing.to_torch()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.tower.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    other = copy.deepcopy(seeing)
    monkeypatch.setattr(other, "to_torch", lambda: module, raising=False)
    again = AttributionDisplay.from_estimator(seeing, X)
    assert correlation(display, again) > 0.999  # of its own weights it is the same
    assert correlation(display, AttributionDisplay.from_estimator(other, X)) < 0.5


def test_with_labels_that_are_shuffled_the_map_is_another(looked):
    X, places, display = looked
    images, y, _ = squares(60, 0)
    with pytest.warns(NothingLearnedWarning):
        other = fit(images, np.random.default_rng(1).permutation(y))
    shuffled = AttributionDisplay.from_estimator(other, X)
    assert correlation(display, shuffled) < 0.5
    within = [np.abs(part)[place].mean() for part, place in zip(shuffled.attributions_, places, strict=True)]
    before = [np.abs(part)[place].mean() for part, place in zip(display.attributions_, places, strict=True)]
    assert np.mean(within) < np.mean(before) / 3


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (300, 200)])
def test_the_map_lies_where_the_preprocessing_looks(seeing, size):
    X = np.random.default_rng(0).integers(70, 170, (1, *size, 3), np.uint8)
    display = AttributionDisplay.from_estimator(seeing, X, window=0.5)
    part = display.attributions_[0]
    shown = display.thumbnails[0].shape[:2]
    assert part.shape == shown
    is_seen = np.isfinite(part)
    assert is_seen.sum() == pytest.approx(min(shown) ** 2, rel=0.03)
    centre = np.argwhere(is_seen).mean(axis=0)
    np.testing.assert_allclose(centre, (np.array(shown) - 1) / 2, atol=1)


def test_files_pipelines_searches_and_mirrors(seeing, tmp_path):
    X, y, _ = squares(10, 5, (SIDE, 90))
    paths = [str(tmp_path / f"{row}.png") for row in range(10)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    alone = AttributionDisplay.from_estimator(seeing, paths, y, n_images=2, window=0.5)
    assert alone.indices.tolist() == [0, 1]
    assert "0.png" in alone.texts_[0].get_text()
    pipeline = make_pipeline(FunctionTransformer(list), seeing)
    search = GridSearchCV(pipeline, {})
    search.best_estimator_ = pipeline
    calibrated = CalibratedClassifierCV(FrozenEstimator(pipeline), cv=2).fit(X, y)
    for estimator in (pipeline, search, FrozenEstimator(pipeline), calibrated):
        np.testing.assert_allclose(
            AttributionDisplay.from_estimator(estimator, X[:2], window=0.5).attributions_,
            alone.attributions_,
            atol=1e-6,
        )
    mirrored = copy.deepcopy(seeing).set_params(mirror=True)
    both = AttributionDisplay.from_estimator(mirrored, X[:1], window=0.5)
    np.testing.assert_allclose(both.expectations, mirrored.predict_expectation(X[:1]), atol=1e-3)
    assert not np.allclose(both.attributions_[0], alone.attributions_[0], atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("kind", ["quick_gelu_resnet", "clip"])
def test_convolutional_towers_and_fine_tuned_ones(kind, make_classifier, model_names, shades):
    images, y = shades
    finetuned = {"image_tower": "finetune", "image_epochs": 1, "rank_targets": "hard"} if kind == "clip" else {}
    words = np.array(["a", "b", "c", "d", "e"])[y]
    clf = make_classifier(model_name=model_names[kind], prompt_epochs=1, ranks=list("edcba"), **finetuned)
    clf.fit(images, words)
    display = AttributionDisplay.from_estimator(clf, images[:2], window=0.5)
    np.testing.assert_allclose(display.expectations, clf.predict_expectation(images[:2]), atol=1e-4)
    assert display.ends == ("e", "a")


def test_what_has_no_image_is_refused_by_name(make_classifier, shades, tiny):
    images, y = shades
    table = CLIPImageEncoder(tiny, pretrained=None).fit_transform(images)
    clf = make_classifier(image_tower="precomputed", prompt_epochs=1).fit(table, y)
    with pytest.raises(ValueError, match=r"AttributionDisplay .*reads a table.*set_params"):
        AttributionDisplay.from_estimator(clf, table)
    clf.set_params(image_tower="frozen")
    assert len(AttributionDisplay.from_estimator(clf, images[:1], window=1.0).attributions_) == 1


def test_what_cannot_be_is_refused_before_any_work(seeing, tmp_path, monkeypatch):
    X, y, _ = squares(3, 0)
    for window in (0, -0.1, 1.5, "a"):
        with pytest.raises(InvalidParameterError, match=r"window must be in \(0, 1\], got .* a quarter of the side"):
            AttributionDisplay.from_estimator(seeing, X, window=window)
    with pytest.raises(InvalidParameterError, match="n_images"):
        AttributionDisplay.from_estimator(seeing, X, n_images=0)
    for images in (None, 3):
        with pytest.raises(TypeError, match=r"X must be a sequence of images.*got"):
            AttributionDisplay.from_estimator(seeing, images)
    for images in ([], X[0]):  # there is no parameter named images
        with pytest.raises(ValueError, match="AttributionDisplay shows images: give the images themselves as X"):
            AttributionDisplay.from_estimator(seeing, images)
    with pytest.raises(ValueError, match="2"):
        AttributionDisplay.from_estimator(seeing, X, y[:2])
    with pytest.raises(ValueError, match="9"):
        AttributionDisplay.from_estimator(seeing, X, [0, 1, 9])
    with pytest.raises(UnreadableImagesError, match="no such file"):
        AttributionDisplay.from_estimator(seeing, [X[0], str(tmp_path / "none.png")])
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r'AttributionDisplay .*pip install "skl2rclip\[attribution\]"'):
        AttributionDisplay.from_estimator(None, None)
