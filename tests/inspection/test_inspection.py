"""What the displays draw, read back from matplotlib's artists."""

import itertools
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import confusion_matrix, mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from skl2rclip import inspection
from skl2rclip.inspection._calibration import coverage_by_level, pit_histogram
from skl2rclip.inspection._drawing import short
from skl2rclip.metrics import ordinality

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GRADES = ["bad", "poor", "fair", "good", "excellent"]  # sorted otherwise than by the alphabet
OF_LABELS = [inspection.OrdinalConfusionDisplay, inspection.RankPredictionDisplay]
SHEETS = [inspection.LargestErrorsDisplay, inspection.SortedPicturesDisplay]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def graded():
    """Logistic regression on words, its data, and the words' positions."""
    X, y = make_classification(120, 6, n_informative=5, n_redundant=0, n_classes=5, random_state=0)
    words = np.array(GRADES)[y]
    return LogisticRegression(max_iter=500).fit(X, words), X, words


def brightness(images):
    return np.array([[np.mean(image), np.std(image)] for image in images])


@pytest.fixture(scope="module")
def looking(shades):
    """A pipeline of scikit-learn that takes images."""
    return make_pipeline(FunctionTransformer(brightness), LogisticRegression(max_iter=500)).fit(
        list(shades[0]), shades[1]
    )


@pytest.fixture(scope="module")
def model(tiny, shades):
    from skl2rclip import L2RCLIPClassifier

    settings = {"prompt_epochs": 3, "n_context_tokens": 4, "random_state": 0, "device": "cpu"}
    return L2RCLIPClassifier(tiny, **settings).fit(*shades)


# ------------------------------------------------------------------- all


def test_neither_matplotlib_nor_torch_is_imported_before_it_is_needed():
    check = (
        "import sys, skl2rclip.inspection as i; assert not {'matplotlib', 'torch'} & set(sys.modules);"
        "i.OrdinalConfusionDisplay, i.RankPredictionDisplay, i.RankCalibrationDisplay, i.TrainingHistoryDisplay;"
        "assert not {'matplotlib', 'torch'} & set(sys.modules);"
        "[getattr(i, name) for name in i.__all__]; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


@pytest.mark.parametrize("name", inspection.__all__)
def test_without_matplotlib_the_error_names_the_extra_before_anything_is_asked(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf'{name} .*pip install "skl2rclip\[plot\]"'):
        getattr(inspection, name).from_estimator(None, [], [])


def test_what_is_not_there_is_an_attribute_error():
    assert {"OrdinalConfusionDisplay", *inspection.__all__} <= set(dir(inspection))
    with pytest.raises(AttributeError, match="NoSuchDisplay"):
        inspection.NoSuchDisplay  # noqa: B018


@pytest.mark.parametrize("name", inspection.__all__)
def test_every_display_draws_the_fitted_classifier_and_has_axes_and_figure(name, model, shades):
    display = getattr(inspection, name).from_estimator(model, *shades)
    display.figure_.canvas.draw()
    assert display.ax_.figure is display.figure_
    assert isinstance(display, getattr(inspection, name))
    again = display.plot()
    assert again is display
    assert again.figure_ is not None


@pytest.mark.parametrize("name", inspection.__all__)
@pytest.mark.parametrize("with_spec", [True, False])
def test_one_axes_of_the_users_holds_every_display(name, with_spec, model, shades):
    figure = plt.figure()
    ax = figure.add_subplot(1, 2, 2) if with_spec else figure.add_axes((0.5, 0.1, 0.4, 0.8))
    display = getattr(inspection, name).from_estimator(model, *shades, ax=ax)
    figure.canvas.draw()
    assert display.figure_ is figure
    assert display.ax_.get_position().x0 > 0.4


def test_two_panels_go_into_two_axes_and_into_no_three(graded):
    _, axes = plt.subplots(1, 2)
    display = inspection.RankCalibrationDisplay.from_estimator(*graded, ranks=GRADES, ax=axes)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="draws 2 panels, and ax holds 3 Axes"):
        inspection.RankCalibrationDisplay.from_estimator(*graded, ranks=GRADES, ax=plt.subplots(1, 3)[1])


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
        drawn = display.from_estimator(LinearSVC().fit(X, words), X, words, ranks=GRADES, coverage=None)
        assert drawn.y_interval is None
    with pytest.raises(ValueError, match="120 images in X and 119"):
        display.from_estimator(graded[0], X, words[1:], ranks=GRADES)


def test_long_labels_keep_both_ends():
    assert short("fair") == "fair"
    long = short("moderate non-proliferative diabetic retinopathy", 20)
    assert len(long) <= 20
    assert long.startswith("moderate non")
    assert long.endswith("pathy")


@pytest.mark.parametrize("K", [2, 5, 21, 101])
def test_ticks_stand_at_their_ranks_and_have_room(K):
    ranks = np.arange(18, 18 + K)
    display = inspection.OrdinalConfusionDisplay.from_predictions(ranks, ranks)
    display.figure_.canvas.draw()
    for axis in (display.ax_.xaxis, display.ax_.yaxis):
        places = axis.get_ticklocs()
        texts = [label.get_text() for label in axis.get_ticklabels()]
        assert texts == [str(ranks[int(place)]) for place in places]
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
    assert len(texts) == K or int(texts[0]) % 5 == 0 or K == 21


# ------------------------------------------------------------- confusion


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_is_scikit_learns_in_rank_order(normalize, graded):
    classifier, X, words = graded
    weight = np.random.default_rng(0).uniform(size=len(words))
    options = {"normalize": normalize, "sample_weight": weight}
    display = inspection.OrdinalConfusionDisplay.from_estimator(classifier, X, words, ranks=GRADES, **options)
    expected = confusion_matrix(words, classifier.predict(X), labels=GRADES, **options)
    np.testing.assert_allclose(display.confusion_matrix, expected)
    np.testing.assert_allclose(display.im_.get_array(), expected)
    assert display.text_[1, 2].get_text() == f"{expected[1, 2]:.2f}"


def test_bands_outline_the_cells_within_their_distance_and_tell_their_share():
    true, predicted = [0, 1, 2, 3, 4, 0], [0, 2, 2, 1, 4, 4]
    display = inspection.OrdinalConfusionDisplay.from_predictions(true, predicted, bands=[1, 2])
    np.testing.assert_allclose(display.band_shares, [4 / 6, 5 / 6])
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    for line, band in zip(display.lines_, [1, 2], strict=True):
        sides = set()
        for one, other in itertools.pairwise(line.get_xydata()):
            if np.isfinite([one, other]).all():
                across, down = (one + other) / 2
                step = (0.5, 0) if one[0] == other[0] else (0, 0.5)  # to the cells on both sides
                sides.add(frozenset((int(down + sign * step[1]), int(across + sign * step[0])) for sign in (-1, 1)))
        neighbours = [((i, j), cell) for i in range(5) for j in range(5) for cell in ((i + 1, j), (i, j + 1))]
        expected = {
            frozenset(pair)
            for pair in neighbours
            if max(pair[1]) < 5 and (distance[pair[0]] <= band) != (distance[pair[1]] <= band)
        }
        assert {side for side in sides if max(map(max, side)) < 5} == expected
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "at most 1 off: 67%",
        "at most 2 off: 83%",
    ]


def test_bands_must_be_distances():
    with pytest.raises(ValueError, match="bands must be an integer of at least 0, got -1"):
        inspection.OrdinalConfusionDisplay.from_predictions([0, 1], [0, 1], bands=[-1])


@pytest.mark.parametrize(("K", "bands"), [(2, [0]), (5, [0, 1, 2]), (21, [0, 1, 2]), (101, [0, 5, 10])])
def test_bands_and_numbers_suit_the_number_of_ranks(K, bands):
    display = inspection.OrdinalConfusionDisplay.from_predictions(np.arange(K), np.arange(K))
    assert display.bands == bands
    assert (display.text_ is not None) == (K <= 15)


# ----------------------------------------------------------- predictions


def test_errors_by_rank_equal_a_slow_loop_and_scikit_learns(graded):
    classifier, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(classifier, X, words, ranks=GRADES)
    true = np.array([GRADES.index(word) for word in words])
    predicted = np.array([GRADES.index(word) for word in classifier.predict(X)])
    expected = [mean_absolute_error(true[true == k], predicted[true == k]) for k in range(5)]
    np.testing.assert_allclose(display.mae_by_rank, expected)
    assert display.mae == pytest.approx(mean_absolute_error(true, predicted))
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], expected)
    assert [text.get_text() for text in display.axes_[1].texts] == [str(count) for count in np.bincount(true)]


def test_each_image_is_a_point_at_its_ranks_with_its_interval(graded):
    classifier, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(classifier, X, words, ranks=GRADES, coverage=0.6)
    points = display.points_.get_offsets()
    true = np.array([GRADES.index(word) for word in words])
    np.testing.assert_array_equal(np.round(points[:, 0]), true)
    assert len(np.unique(points, axis=0)) == len(points)
    np.testing.assert_array_equal(points[:, 1], [GRADES.index(word) for word in classifier.predict(X)])
    order = [list(classifier.classes_).index(grade) for grade in GRADES]
    for row, segment, ends in zip(
        classifier.predict_proba(X)[:, order], display.intervals_.get_segments(), display.y_interval, strict=True
    ):
        low, high = np.round(segment[:, 1]).astype(int)
        assert [GRADES[low], GRADES[high]] == ends.tolist()
        assert row[low : high + 1].sum() >= 0.6 - 1e-9
        assert row[:low].sum() <= 0.2 + 1e-9
        assert row[high + 1 :].sum() <= 0.2 + 1e-9


def test_many_images_become_discs_of_their_number():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 21, 10_000)
    predicted = np.clip(true + rng.integers(-2, 3, 10_000), 0, 20)
    ends = np.column_stack([np.maximum(true - 1, 0), np.minimum(true + 2, 20)])
    display = inspection.RankPredictionDisplay.from_predictions(true, predicted, y_interval=ends)
    counts = confusion_matrix(true, predicted)
    places = display.points_.get_offsets().astype(int)
    sizes = display.points_.get_sizes()
    assert len(places) == (counts > 0).sum() < 150
    np.testing.assert_allclose(sizes / sizes.max(), counts[places[:, 0], places[:, 1]] / counts.max())
    middle = next(bar for bar in display.intervals_ if round(bar.get_x() + bar.get_width() / 2) == 10)
    assert middle.get_y() + 0.12 == pytest.approx(9)
    assert middle.get_height() - 0.24 == pytest.approx(3)


def test_ranks_without_images_have_no_error():
    display = inspection.RankPredictionDisplay.from_predictions([10, 10, 40], [10, 20, 40], ranks=[10, 20, 40])
    np.testing.assert_array_equal(display.mae_by_rank, [5, np.nan, 0])
    np.testing.assert_array_equal(display.n_by_rank, [2, 0, 1])
    assert "no image" in [text.get_text() for text in display.axes_[1].get_legend().get_texts()]


def test_without_coverage_no_probabilities_are_asked_for(graded):
    _, X, words = graded
    display = inspection.RankPredictionDisplay.from_estimator(
        LinearSVC().fit(X, words), X, words, ranks=GRADES, coverage=None, kind="predictions"
    )
    assert display.intervals_ is None
    assert display.bars_ is None
    assert len(display.axes_) == 1


def test_what_does_not_fit_is_refused():
    draw = inspection.RankPredictionDisplay.from_predictions
    with pytest.raises(ValueError, match="same length"):
        draw([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"two labels for each of 2 images, got the shape \(2,\)"):
        draw([1, 2], [1, 2], y_interval=[1, 2])
    with pytest.raises(ValueError, match="kind must be one of"):
        draw([1, 2], [1, 2], kind="residuals")
    with pytest.raises(ValueError, match="display_labels must hold one for each of the 2 ranks, got 1"):
        draw([1, 2], [1, 2], display_labels=["one"])


# ----------------------------------------------------------- calibration


def sampled(n, K, seed=0):
    """Distributions, and ranks that are drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(K, 0.7), n)
    return probabilities, np.array([rng.choice(K, p=row) for row in probabilities])


def test_coverage_equals_a_slow_loop():
    probabilities, true = sampled(50, 5)
    levels = [0.1, 0.5, 0.9]
    coverage, promised = coverage_by_level(probabilities, true, levels)
    for place, level in enumerate(levels):
        hits, held = [], []
        for row, rank in zip(probabilities, true, strict=True):
            low = next(k for k in range(5) if row[: k + 1].sum() > (1 - level) / 2)
            high = next(k for k in range(4, -1, -1) if row[k:].sum() > (1 - level) / 2)
            hits.append(low <= rank <= high)
            held.append(row[low : high + 1].sum())
        assert coverage[place] == pytest.approx(np.mean(hits))
        assert promised[place] == pytest.approx(np.mean(held))


def test_pit_is_the_mean_of_the_randomised_one():
    probabilities, true = sampled(40, 5)
    rng = np.random.default_rng(1)
    upper = np.cumsum(probabilities, axis=1)[np.arange(40), true]
    lower = upper - probabilities[np.arange(40), true]
    drawn = rng.uniform(lower, upper, (20_000, 40)).ravel()
    expected = np.histogram(drawn, bins=8, range=(0, 1))[0] / len(drawn)
    np.testing.assert_allclose(pit_histogram(probabilities, true, 8), expected, atol=2e-3)


def test_pit_of_ranks_without_probability_lies_where_they_stand():
    probabilities = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    histogram = pit_histogram(probabilities, np.array([0, 2, 1]), 4)
    np.testing.assert_allclose(histogram, [1 / 3, 1 / 3, 0, 1 / 3])


def test_honest_distributions_are_flat_and_cover_what_they_promise():
    probabilities, true = sampled(4000, 6)
    display = inspection.RankCalibrationDisplay.from_predictions(true, probabilities)
    np.testing.assert_allclose(display.pit, 0.1, atol=0.02)
    np.testing.assert_allclose(display.coverage, display.promised, atol=0.03)
    assert (display.promised >= display.nominal - 1e-9).all()
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], 10 * display.pit)
    np.testing.assert_allclose(display.line_.get_ydata(), display.coverage)


def test_distributions_that_are_too_narrow_show_it():
    probabilities, true = sampled(2000, 6)
    narrow = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    display = inspection.RankCalibrationDisplay.from_predictions(true, narrow)
    assert display.pit[[0, -1]].min() > 0.12
    assert (display.coverage < display.promised - 0.05).any()


def test_columns_are_those_of_the_sorted_labels(graded):
    classifier, X, words = graded
    kinds = [
        inspection.RankCalibrationDisplay.from_estimator(classifier, X, words, ranks=GRADES),
        inspection.RankCalibrationDisplay.from_predictions(words, classifier.predict_proba(X), ranks=GRADES),
        inspection.RankCalibrationDisplay.from_predictions(
            pd.Categorical(words, GRADES, ordered=True), classifier.predict_proba(X)
        ),
    ]
    order = [sorted(GRADES).index(grade) for grade in GRADES]
    true = np.array([GRADES.index(word) for word in words])
    expected = pit_histogram(classifier.predict_proba(X)[:, order], true, 10)
    for display in kinds:
        np.testing.assert_allclose(display.pit, expected)


@pytest.mark.parametrize(
    ("y", "probabilities", "said"),
    [
        ([0, 1], [[0.5, 0.5]], "a row for each of the 2 labels"),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]], "sum to one"),
        ([0, 1], [[-0.5, 1.5], [0.5, 0.5]], "negative"),
        ([10, 20], [[0.2, 0.3, 0.5]] * 2, "3 columns, but 2 labels are known"),
        (["a", "b"], [[0.5, 0.5]] * 2, "order is not known"),
    ],
)
def test_probabilities_that_are_none_are_refused(y, probabilities, said):
    with pytest.raises(ValueError, match=said):
        inspection.RankCalibrationDisplay.from_predictions(y, probabilities)


# -------------------------------------------------------------- training


def test_similarity_is_that_of_the_prototypes_with_their_ordinality(model):
    display = inspection.PrototypeSimilarityDisplay.from_estimator(model, display_labels=GRADES)
    rows = model.prototypes_.astype(np.float64)
    expected = [[float(sum(a * b for a, b in zip(one, other, strict=True))) for other in rows] for one in rows]
    np.testing.assert_allclose(display.im_.get_array(), expected, atol=1e-9)
    assert f"ordinality {ordinality(rows):.2f}" in display.ax_.get_title()
    assert display.ordinality == pytest.approx(model.ordinality_)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == GRADES
    assert display.text_[0, 1].get_text() == f"{expected[0][1]:.2f}"


def test_history_is_drawn_term_by_term(model):
    display = inspection.TrainingHistoryDisplay.from_estimator(make_pipeline(FunctionTransformer(), model))
    assert set(display.terms) == {"loss", "contrastive", "ordering", "tightness"}  # a term of weight zero is left out
    for name in display.terms:
        np.testing.assert_allclose(display.lines_[name].get_ydata(), [epoch[name] for epoch in model.history_])
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), [1, 2, 3])


def test_scores_stand_apart_where_they_were_measured_and_stages_are_marked():
    history = [
        {"stage": "prompts", "epoch": 1, "learning_rate": 1.0, "loss": 3.0},
        {"stage": "prompts", "epoch": 2, "learning_rate": 1.0, "loss": 2.0, "cross_fitted_rps": 0.5},
        {"stage": "tower", "epoch": 3, "learning_rate": 1.0, "loss": 1.0, "validation_mae": 0.2},
    ]
    display = inspection.TrainingHistoryDisplay(history).plot()
    assert len(display.axes_) == 2
    assert display.lines_["cross_fitted_rps"].get_xydata().tolist() == [[2, 0.5]]
    assert display.lines_["validation_mae"].get_xydata().tolist() == [[3, 0.2]]
    assert [text.get_text().strip() for text in display.ax_.texts] == ["tower"]
    with pytest.raises(ValueError, match="no epoch"):
        inspection.TrainingHistoryDisplay([])


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


# ------------------------------------------------------------ one picture


def test_the_distribution_of_one_image_has_its_mean_median_and_interval(model, shades):
    images, numbers = shades
    display = inspection.RankDistributionDisplay.from_estimator(model, images, numbers, index=7, coverage=0.9)
    expected = model.predict_proba(images)[7]
    np.testing.assert_allclose([bar.get_height() for bar in display.bars_], expected, atol=1e-6)
    assert display.mean == pytest.approx(model.predict_expectation(images)[7], abs=1e-5)
    assert display.interval.tolist() == model.predict_interval(images, coverage=0.9)[7].tolist()
    assert display.median == next(k for k in range(5) if expected[: k + 1].sum() >= 0.5)
    assert display.mean_line_.get_xdata()[0] == pytest.approx(display.mean)
    assert display.interval_line_.get_xdata().tolist() == display.interval.tolist()
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), images[7])
    assert display.axes_[0].get_title(loc="left").splitlines()[:2] == ["index 7", f"true {numbers[7]}"]


def test_only_that_image_is_predicted(shades):
    class Counting(LogisticRegression):
        def predict_proba(self, X):
            asked.append(len(X))
            return super().predict_proba(X)

    asked = []
    looking = make_pipeline(FunctionTransformer(brightness), Counting(max_iter=500)).fit(list(shades[0]), shades[1])
    inspection.RankDistributionDisplay.from_estimator(looking, iter(shades[0]), index=39)
    assert asked == [1]
    with pytest.raises(ValueError, match=r"index must be in \[0, 39\], got 40"):
        inspection.RankDistributionDisplay.from_estimator(looking, shades[0], index=40)


def test_the_mean_stands_between_ranks_that_are_unevenly_spaced():
    display = inspection.RankDistributionDisplay([0.0, 0.5, 0.5], ranks=[1, 10, 100]).plot()
    assert display.mean == 55
    assert display.mean_line_.get_xdata()[0] == pytest.approx(1.5)
    descending = inspection.RankDistributionDisplay([0.5, 0.5, 0.0], ranks=[100, 10, 1]).plot()
    assert descending.mean_line_.get_xdata()[0] == pytest.approx(0.5)


# ---------------------------------------------------------- contact sheets


def texts_of(display):
    return [text.get_text().splitlines() for text in display.texts_]


def test_the_largest_errors_come_first_and_of_equal_ones_the_surest(looking, shades):
    images, numbers = shades
    wrong = (numbers * 3 + 1) % 5
    display = inspection.LargestErrorsDisplay.from_estimator(looking, list(images), wrong, n_images=6)
    predicted, probabilities = looking.predict(list(images)), looking.predict_proba(list(images))
    rows = [i for i in range(40) if predicted[i] != wrong[i]]
    rows.sort(key=lambda i: (-abs(int(predicted[i]) - int(wrong[i])), probabilities[i, wrong[i]]))
    assert display.indices.tolist() == rows[:6]
    np.testing.assert_array_equal(display.errors, predicted[rows[:6]] - wrong[rows[:6]])
    first = rows[0]
    error = predicted[first] - wrong[first]
    expected = [f"index {first}, {error:+d}", f"true {wrong[first]}", f"predicted {predicted[first]}"]
    assert texts_of(display)[0] == expected
    np.testing.assert_array_equal(display.images_[0].get_array(), images[first])


def test_images_without_error_are_not_shown():
    images = [np.full((8, 8), 50 * i, np.uint8) for i in range(3)]
    draw = inspection.LargestErrorsDisplay.from_predictions
    display = draw(images, ["bad", "fair", "good"], ["bad", "good", "good"], ranks=GRADES)
    assert display.indices.tolist() == [1]
    assert display.errors.tolist() == [1]
    assert "1 of 3 images" in display.ax_.get_title(loc="left")
    perfect = draw(images, [0, 1, 2], [0, 1, 2])
    assert perfect.texts_ == []
    assert "No errors" in perfect.ax_.get_title(loc="left")


def test_a_set_is_sorted_by_rank_and_then_by_expectation(looking, shades):
    images = list(shades[0])
    display = inspection.SortedPicturesDisplay.from_estimator(looking, images)
    predicted, expectation = looking.predict(images), looking.predict_proba(images) @ np.arange(5)
    expected = sorted(range(40), key=lambda i: (predicted[i], expectation[i]))
    assert display.indices.tolist() == expected
    assert display.y_pred == predicted[expected].tolist()
    few = inspection.SortedPicturesDisplay.from_estimator(looking, images, shades[1], n_images=3)
    assert few.indices.tolist() == [expected[0], expected[20], expected[-1]]
    assert texts_of(few)[0][-1] == f"true {shades[1][expected[0]]}"


def test_ten_thousand_pictures_make_one_sheet_for_which_few_are_opened(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (300, 200), "red").save(path)
    paths = [str(tmp_path / "absent.png")] * 10_000
    paths[0] = paths[-1] = str(path)
    labels = np.sort(np.random.default_rng(0).integers(0, 5, 10_000))
    display = inspection.SortedPicturesDisplay.from_predictions(paths, labels, n_images=10)
    assert len(display.texts_) == 10
    assert [thumbnail is not None for thumbnail in display.thumbnails] == [True, *[False] * 8, True]
    assert max(display.thumbnails[0].shape) <= 160


def test_what_cannot_be_read_is_a_named_blank_tile(tmp_path):
    good = tmp_path / "good.png"
    Image.new("RGB", (10, 20), "red").save(good)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(good.read_bytes()[:40])
    os.mkfifo(tmp_path / "pipe.png")
    paths = [good, damaged, tmp_path / "pipe.png", tmp_path / "absent.png"]
    display = inspection.LargestErrorsDisplay.from_predictions(paths, [0, 0, 0, 0], [4, 3, 2, 1])
    assert [image is None for image in display.images_] == [False, True, True, True]
    assert display.problems[0] is None
    said = [text.get_text() for text in display.ax_.texts]
    assert any("damaged.png" in text for text in said)
    assert any("pipe.png" in text and "pipe, not" in text.replace("\n", " ") for text in said)
    assert any("absent.png" in text and "no such file" in text.replace("\n", " ") for text in said)


@pytest.mark.parametrize("sheet", SHEETS)
def test_pictures_that_the_classifier_cannot_read_come_last_and_are_told(sheet, model, shade_paths, shades, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no picture")
    paths, labels = [str(damaged), *shade_paths[:9]], (shades[1][:10] + 1) % 5
    display = sheet.from_estimator(model, paths, labels)
    assert display.indices[-1] == 0
    assert display.y_pred[-1] is None
    assert display.images_[-1] is None
    assert "1 cannot be read" in display.ax_.get_title(loc="left")
    expected = dict(enumerate(model.predict(paths[1:]).tolist(), start=1))
    assert [expected[index] for index in display.indices[:-1].tolist()] == display.y_pred[:-1]


def test_pictures_stand_upright_in_their_shape(tmp_path):
    picture = Image.new("RGB", (40, 20))
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(tmp_path / "turned.jpg", exif=exif)
    display = inspection.SortedPicturesDisplay.from_predictions([tmp_path / "turned.jpg"], [1])
    pixels = display.thumbnails[0]
    assert pixels.shape == (40, 20, 3)
    assert pixels[:10].mean() > 200 > 50 > pixels[-10:].mean()
    left, right, bottom, top = display.images_[0].get_extent()
    assert abs(bottom - top) == pytest.approx(2 * (right - left))


@pytest.mark.parametrize("display", [*SHEETS, inspection.RankDistributionDisplay])
def test_stored_embeddings_are_refused_unless_pictures_come_beside_them(display, shades):
    images, labels = shades
    X = brightness(images)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels)
    name = display.__name__
    for table in (X, pd.DataFrame(X, columns=["mean", "deviation"])):
        with pytest.raises(ValueError, match=rf"stored embeddings.*\(40, 2\).* {name} .*images=\[\.\.\.\]"):
            display.from_estimator(classifier, table, labels)
    display.from_estimator(classifier, X, labels, images=images)
    with pytest.raises(ValueError, match="images must hold one for each of the 40 rows of X, got 3"):
        display.from_estimator(classifier, X, labels, images=images[:3])


@pytest.mark.parametrize("sheet", SHEETS)
def test_containers_of_pictures_are_taken_as_the_estimators_take_them(sheet, model, shade_paths, shades):
    _, labels = shades
    wrong = (labels + 2) % 5
    expected = sheet.from_estimator(model, shade_paths, wrong, n_images=4)
    for X in (pd.Series(shade_paths), pd.DataFrame({"path": shade_paths}), np.array(shade_paths), iter(shade_paths)):
        display = sheet.from_estimator(model, X, wrong, n_images=4)
        assert display.indices.tolist() == expected.indices.tolist()
        np.testing.assert_array_equal(display.thumbnails[0], expected.thumbnails[0])


@pytest.mark.parametrize("size", [None, (4, 3)])
def test_tiles_do_not_overlap_and_captions_stay_in_their_columns(size):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    images = [np.full((30, 40), 9 * i, np.uint8) for i in range(20)]
    words = ["moderate non-proliferative diabetic retinopathy", "severe non-proliferative diabetic retinopathy"]
    y = np.array(words)[np.arange(20) % 2]
    display = inspection.SortedPicturesDisplay.from_predictions(images, y, y[::-1], ranks=words, n_images=20, ax=ax)
    display.figure_.canvas.draw()
    artists = [*display.images_, *display.texts_]
    boxes = [artist.get_window_extent() for artist in artists]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert not one.overlaps(other)


def test_the_pictures_of_the_documentation_are_drawn(tmp_path, monkeypatch):
    import draw_displays

    arguments = ["draw_displays.py", "--folder", str(tmp_path), "--n-train", "40", "--n-test", "20"]
    monkeypatch.setattr(sys, "argv", arguments)
    draw_displays.main()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert len(drawn) == len(inspection.__all__)
    assert drawn == {path.name for path in draw_displays.FOLDER.glob("*.png")}
    page = (draw_displays.ROOT / "docs" / "inspection.md").read_text()
    assert all(f"images/{name}" in page for name in drawn)


@pytest.mark.parametrize(("shape", "share"), [((10, 40), 0.25), ((40, 40), 1.0), ((40, 20), 1.0)])
def test_rows_of_a_contact_sheet_are_as_high_as_their_pictures(shape, share):
    pictures = [np.zeros((*shape, 3), np.uint8)] * 6
    display = inspection.LargestErrorsDisplay.from_predictions(pictures, [0, 1] * 3, [1, 0] * 3).plot(n_columns=3)
    tops = sorted({round(min(image.get_extent()[2:]), 6) for image in display.images_})
    lines = 0.1 * max(text.get_text().count("\n") + 1 for text in display.texts_)
    assert np.diff(tops) == pytest.approx([share + lines + 0.12])
