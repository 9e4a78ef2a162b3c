"""Who has learned nothing is told so, once, and nobody else."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from skl2rclip.errors import NothingLearnedWarning
from tests.support.small_images import shaded_images

TOLD = "learned next to nothing"


@pytest.fixture
def silent():
    """Take this warning for an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingLearnedWarning)
        yield


@pytest.fixture
def shuffled(shades):
    """Images whose labels say nothing of them."""
    return shades[0], np.random.default_rng(0).permutation(shades[1])


def test_shuffled_labels_are_told_once_with_what_helps(make_classifier, shuffled):
    with pytest.warns(NothingLearnedWarning, match=TOLD) as told:
        classifier = make_classifier(prompt_epochs=1).fit(*shuffled)
    assert classifier.label_trust_ < 0.05
    [message] = [str(each.message) for each in told if each.category is NothingLearnedWarning]
    assert f"explains {100 * classifier.label_trust_:.0f} % of the labels' variance" in message
    for remedy in ("each label belongs to its image", "model_name", "more images", "prompt", "image_tower='finetune'"):
        assert remedy in message
    assert told[0].filename == __file__


def test_each_fit_of_a_cross_validation_tells_it(make_classifier, shuffled):
    with pytest.warns(NothingLearnedWarning) as told:
        cross_val_score(make_classifier(prompt_epochs=1), *shuffled, cv=2)
    assert len([each for each in told if each.category is NothingLearnedWarning]) == 2


@pytest.mark.parametrize("n_ranks", [2, 5])
@pytest.mark.parametrize("per_rank", [2, 4, 8])
def test_who_has_learned_is_left_alone_however_few_images_there_are(make_classifier, silent, n_ranks, per_rank):
    y = np.tile(np.arange(n_ranks), per_rank)
    make_classifier(prompt_epochs=1).fit(shaded_images(y), y)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rank_targets": "hard"},  # which measure nothing
        {"image_tower": "finetune", "image_adapter": None, "image_epochs": 1},  # a tower that nothing was measured on
        {"prompt_epochs": 0},
    ],
)
def test_where_nothing_is_measured_nothing_is_told(make_classifier, silent, shuffled, parameters):
    make_classifier(**{"prompt_epochs": 1, **parameters}).fit(*shuffled)


def test_nothing_is_told_of_few_groups_nor_of_single_passes(make_classifier, silent, shuffled):
    make_classifier(prompt_epochs=1).fit(*shuffled, groups=np.arange(40) // 4)
    make_classifier().partial_fit(*shuffled, classes=range(5))


def test_nothing_is_told_of_few_images_beside_one_frequent_rank(make_classifier, silent, shuffled):
    y = (np.arange(40) >= 36).astype(int)
    assert make_classifier(prompt_epochs=1).fit(shuffled[0], y).label_trust_ < 0.05


def test_a_tower_that_would_gain_nothing_is_no_remedy(make_classifier, shuffled):
    with pytest.warns(NothingLearnedWarning, match=TOLD) as told:
        make_classifier(image_tower="finetune", image_epochs=1, prompt_epochs=1).fit(*shuffled)
    assert "finetune" not in str(told.list[-1].message)


def test_words_that_tell_the_ranks_are_enough(make_classifier, monkeypatch):
    """Were it for the images alone, each of these fits would be told it."""
    monkeypatch.setattr("skl2rclip._training.diagnosis._MIN_TRUST", 2)
    settings = {"image_tower": "precomputed", "ranks": range(5), "prompt_epochs": 1}
    words = make_classifier(**settings).fit_zero_shot().prototypes_
    y = np.tile(np.arange(5), 8)
    Z = words[y] - words.mean(axis=0) + np.random.default_rng(0).normal(0, 0.002, (40, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingLearnedWarning)
        make_classifier(**settings, zero_shot_share=0.5).fit(Z, y)
    for share, rows in ((0.0, Z), (0.5, Z[::-1])):  # words that have no part in the model, and those of other ranks
        with pytest.warns(NothingLearnedWarning, match=TOLD):
            make_classifier(**settings, zero_shot_share=share).fit(rows, y)
