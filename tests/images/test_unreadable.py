"""What cannot be read is found beforehand, skipped where that is asked for, and named with advice that helps."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import skl2rclip
from skl2rclip import CLIPImageEncoder, find_unreadable
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from tests.support.helpers import file_access, truncate, write_images


class Column:
    """Decodes when asked, and fails on one of its images."""

    def __init__(self, entries, broken):
        self.entries, self.broken = entries, broken

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        if index == self.broken:
            raise OSError("image file is truncated")
        return self.entries[index]


@pytest.fixture
def every_failure(shade_paths, tmp_path):
    """Forty images of which six fail, each at another point, and why."""
    images = list(shade_paths)
    images[3] = tmp_path / "none.png"
    [cut] = write_images(tmp_path / "cut", 1, size=(64, 64))
    truncate(cut)
    images[8], images[13] = cut, Path(cut).read_bytes()
    images[19], images[22] = b"words", tmp_path
    images[31] = str(tmp_path / "large.tiff")
    Image.new("RGB", (900, 900)).save(images[31])
    reasons = {
        3: "no such file",
        8: "truncated",
        13: "truncated",
        19: "not an image",
        22: "this is a folder",
        31: "900 x 900 pixels takes",
        35: "Column cannot read it: image file is truncated",
    }
    return Column(images, 35), reasons


def check(found, reasons):
    assert list(found) == list(reasons)
    for index, reason in reasons.items():
        assert reason in found[index]


def test_whatever_fails_is_found_and_what_is_left_can_be_fitted_and_predicted(make_classifier, every_failure, shades):
    X, reasons = every_failure
    bad = find_unreadable(X, n_jobs=2, max_memory="1MB")
    check(bad, reasons)
    kept = [i for i in range(len(X)) if i not in bad]
    good = [X[i] for i in kept]
    classifier = make_classifier(max_memory="1MB").fit(good, shades[1][kept])
    assert len(classifier.predict(good)) == 33
    assert find_unreadable(good) == {}


def test_each_file_is_decoded_once_however_often_it_comes(shade_paths):
    X = [shade_paths[0], str(shade_paths[0])] * 3 + ["missing.png"] * 2
    with file_access() as asked:
        assert find_unreadable(X) == {6: "no such file", 7: "no such file"}
    assert asked.of([shade_paths[0]]) == {(1, 1)}


def test_parameters_are_checked():
    for parameters in ({"n_jobs": 0}, {"max_memory": "lots"}):
        with pytest.raises(InvalidParameterError):
            find_unreadable(["a.png"], **parameters)


def test_it_is_a_name_of_the_package():  # what it costs to import, `tests/test_import.py` says
    assert "find_unreadable" in skl2rclip.__all__


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"rank_targets": "hard", "early_stopping": True},
        {"image_tower": "finetune"},
        {"image_tower": "finetune", "early_stopping": True, "rank_targets": "hard"},
        {"image_tower": "finetune", "prompt_epochs": 0},
        {"embedding_cache": "cache"},
        {"n_jobs": 1, "batch_size": "auto"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_skipping_leaves_out_whatever_fails(make_classifier, every_failure, shades, tmp_path, parameters, method):
    X, reasons = every_failure
    parameters = {"max_memory": "1MB", "ranks": range(5), **parameters}
    if "embedding_cache" in parameters:
        parameters["embedding_cache"] = tmp_path / "cache"
    with pytest.raises(UnreadableImagesError) as caught:
        getattr(make_classifier(**parameters), method)(X, shades[1])
    check(caught.value.failures, reasons)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        skipped = getattr(make_classifier(on_bad_image="skip", **parameters), method)(X, shades[1])
    [warning] = [each for each in seen if "leaves images out" in str(each.message)]
    assert "7 images of 40" in str(warning.message)
    assert "makes fit leave" not in str(warning.message)
    kept = [i for i in range(40) if i not in reasons]
    without = getattr(make_classifier(**parameters), method)([X[i] for i in kept], shades[1][kept])
    np.testing.assert_allclose(skipped.prototypes_, without.prototypes_, atol=1e-5)


def test_the_advice_is_what_the_user_can_do(make_classifier, every_failure, shades, tiny):
    X, reasons = every_failure
    find = "skl2rclip.find_unreadable(X)"

    def message(function, *arguments):
        with pytest.raises(UnreadableImagesError) as caught:
            function(*arguments)
        return str(caught.value)

    raised = message(make_classifier(max_memory="1MB").fit, X, shades[1])
    assert "on_bad_image='skip'" in raised
    assert find in raised
    bad = [X[i] for i in reasons if i != 35]
    nothing_left = message(make_classifier(max_memory="1MB", on_bad_image="skip").fit, bad, range(6))
    assert "No image is left to learn from" in nothing_left
    assert "on_bad_image" not in nothing_left
    for on_bad_image in ("raise", "skip"):
        fitted = make_classifier(max_memory="1MB", on_bad_image=on_bad_image).fit(*shades)
        for method in (fitted.predict, fitted.predict_proba, fitted.transform):
            predicted = message(method, X)
            assert "on_bad_image" not in predicted
            assert find in predicted
            assert "X[3] (" in predicted
    embedded = message(CLIPImageEncoder(tiny, device="cpu", max_memory="1MB").fit().transform, X)
    assert "on_bad_image" not in embedded
    assert find in embedded


@pytest.mark.parametrize("folder", [None, "cache"])
def test_what_was_made_of_half_an_image_is_for_those_who_allow_it(tiny, tmp_path, monkeypatch, folder):
    paths = write_images(tmp_path / "images", 3)
    truncate(paths[1])
    encoder = CLIPImageEncoder(tiny, device="cpu", embedding_cache=folder and tmp_path / folder).fit()
    X = [*paths, Path(paths[1]).read_bytes()]
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert encoder.transform(X).shape[0] == 4
    with pytest.raises(UnreadableImagesError) as caught:
        encoder.transform(X)
    assert list(caught.value.failures) == [1, 3]
