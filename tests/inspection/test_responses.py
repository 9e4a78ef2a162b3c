"""What displays ask of a classifier, and whom they refuse."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from skl2rclip import inspection
from skl2rclip.inspection._responses import ordered_scale
from tests.support.displays import GRADES, OF_LABELS, SHEETS, drawn_of


@pytest.mark.parametrize("display", OF_LABELS)
def test_words_without_an_order_are_refused_and_their_order_is_taken_from_a_categorical(display, graded):
    classifier, X, words = graded
    with pytest.raises(ValueError, match=r"order is not known.*ranks=\['bad', 'poor'"):
        display.from_estimator(classifier, X, words)
    ordered = pd.Categorical(words, GRADES, ordered=True)
    drawn = display.from_estimator(classifier, X, ordered).ax_
    assert [tick.get_text() for tick in drawn.get_xticklabels()] == GRADES


def test_the_order_that_a_search_has_learned_is_found(make_classifier, shades):
    images, numbers = shades
    words = np.array(GRADES)[numbers]
    search = GridSearchCV(make_classifier(ranks=GRADES), {"blend_ratio": [0.1]}, cv=2, error_score="raise")
    search.fit(images, words)
    display = inspection.OrdinalConfusionDisplay.from_estimator(search, images, words)
    expected = confusion_matrix(words, search.predict(images), labels=GRADES)
    np.testing.assert_array_equal(display.confusion_matrix, expected)
    similarity = inspection.PrototypeSimilarityDisplay.from_estimator(search).similarity
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-6)


def test_numbers_descend_where_the_classifier_has_learned_that_they_do(make_classifier, shades):
    images, numbers = shades
    fitted = make_classifier(ranks=[4, 3, 2, 1, 0]).fit(images, numbers)
    display = inspection.OrdinalConfusionDisplay.from_estimator(fitted, images, numbers)
    expected = confusion_matrix(numbers, fitted.predict(images), labels=[4, 3, 2, 1, 0])
    np.testing.assert_array_equal(display.confusion_matrix, expected)


@pytest.mark.parametrize("display", [*OF_LABELS, inspection.RankCalibrationDisplay, inspection.LargestErrorsDisplay])
def test_labels_that_are_needed_are_asked_for(display, graded):
    images = {"images": list(np.zeros((120, 4, 4, 3), np.uint8))} if display in SHEETS else {}
    with pytest.raises(ValueError, match=f"{display.__name__} compares with true labels, and y is None"):
        display.from_estimator(*graded[:2], None, ranks=GRADES, **images)


@pytest.mark.parametrize("display", [*OF_LABELS, *SHEETS, inspection.RankDistributionDisplay])
def test_a_path_is_no_sequence_of_letters(display, graded):
    with pytest.raises(ValueError, match=r"X must be a sequence of images, got one \('a.png'\): write \[image\]"):
        display.from_estimator(graded[0], "a.png", list("words"), ranks=GRADES)


@pytest.mark.parametrize("display", [*OF_LABELS, inspection.RankCalibrationDisplay])
def test_who_cannot_answer_is_refused_by_name(display, graded):
    _, X, words = graded
    with pytest.raises(NotFittedError):
        display.from_estimator(LogisticRegression(), X, words)
    with pytest.raises(ValueError, match=f"{display.__name__} needs a fitted classifier, and LinearRegression"):
        display.from_estimator(LinearRegression().fit(X, range(120)), X, words)
    if display is not inspection.OrdinalConfusionDisplay:
        with pytest.raises(ValueError, match="needs probabilities, and LinearSVC has no predict_proba"):
            display.from_estimator(LinearSVC().fit(X, words), X, words, ranks=GRADES)
    if display is inspection.RankPredictionDisplay:
        with pytest.raises(ValueError, match="coverage=None draws without intervals"):
            display.from_estimator(LinearSVC().fit(X, words), X, words, ranks=GRADES)
    with pytest.raises(ValueError, match="120 images in X and 119"):
        display.from_estimator(graded[0], X, words[1:], ranks=GRADES)


@pytest.mark.parametrize("name", ["PrototypeSimilarityDisplay", "TrainingHistoryDisplay"])
def test_what_only_this_librarys_classifier_has_is_said(name, graded, make_classifier, shades):
    display = getattr(inspection, name)
    with pytest.raises(ValueError, match=f"{name} draws .* and LogisticRegression has none"):
        display.from_estimator(graded[0])
    with pytest.raises(NotFittedError):
        display.from_estimator(make_classifier())
    calibrated = CalibratedClassifierCV(make_classifier(prompt_epochs=1), cv=2).fit(*shades)
    with pytest.raises(ValueError, match="CalibratedClassifierCV holds 2: give one of them"):
        display.from_estimator(calibrated)
    display.from_estimator(calibrated.calibrated_classifiers_[0].estimator)


# ------------------------------------------------------------------------ words


def shown_ranks(name, estimator, X, y, **options):
    display = drawn_of(name, estimator, X, y, **options)
    if name in ("AttributionDisplay", "LargestErrorsDisplay", "SortedPicturesDisplay"):
        captions = [line for text in display.texts_ for line in text.get_text().splitlines()]
        return {line.removeprefix("predicted ") for line in captions if line.startswith("predicted ")}
    ticks = display.ax_.get_yticklabels() if name == "AtLeastRankDisplay" else display.ax_.get_xticklabels()
    return {tick.get_text().split("\n")[0].split(", n =")[0] for tick in ticks}


OF_RANKS = sorted(
    set(inspection.__all__)
    - {"RankCalibrationDisplay", "TrainingHistoryDisplay", "PairedErrorsDisplay", "DuplicateImagesDisplay"}
)


@pytest.mark.parametrize("name", OF_RANKS)
def test_displays_show_the_words_that_the_classifier_knows_unless_the_ranks_are_asked_for(name, named, shades):
    images, numbers = shades
    wrong = (numbers + 1) % 5
    shown = shown_ranks(name, named, images, wrong)
    assert shown
    assert shown <= set(GRADES)
    assert shown_ranks(name, named, images, wrong, display_labels="ranks") <= set("01234")
    others = {rank: f"grade {rank}" for rank in range(5)}
    assert shown_ranks(name, named, images, wrong, display_labels=others) <= set(others.values())
    assert shown_ranks(name, named, images, wrong, display_labels=list(others.values())) <= set(others.values())


def test_words_are_found_in_pipelines_searches_and_calibrated_classifiers(make_classifier, shades):
    plain = make_classifier(prompt_epochs=1, rank_names=GRADES)
    search = GridSearchCV(plain, {"blend_ratio": [0.1]}, cv=2)
    calibrated = CalibratedClassifierCV(plain, cv=2)
    for estimator in (search, calibrated):
        display = inspection.OrdinalConfusionDisplay.from_estimator(estimator.fit(*shades), *shades)
        assert list(display.display_labels) == GRADES


def test_words_of_a_part_that_knows_other_labels_are_not_shown(named):
    of_other_labels = SimpleNamespace(classes_=np.arange(1, 6), best_estimator_=named)
    assert ordered_scale(of_other_labels, None, range(1, 6)).names == ("1", "2", "3", "4", "5")


def test_a_label_that_the_classifier_has_no_word_for_is_shown_itself(named, shades):
    images, numbers = shades
    display = inspection.OrdinalConfusionDisplay.from_estimator(named, images, numbers, ranks=range(6))
    assert list(display.display_labels) == [*GRADES, "5"]
