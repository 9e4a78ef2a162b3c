"""One fit of each kind with as many steps as for users; most other tests put prompts in order with fewer."""

import numpy as np
import pytest

from skl2rclip import CLIPImageEncoder
from skl2rclip._training import initialization
from skl2rclip.metrics import mean_absolute_rank_error

pytestmark = pytest.mark.full_ordering
WAYS = {
    "frozen": {},
    "finetune": {"image_tower": "finetune"},
    "precomputed": {"image_tower": "precomputed"},
    "hard targets": {"rank_targets": "hard", "prompt_epochs": 120, "learning_rate": 1e-2},
}


def error_of(classifier, X, y):
    return mean_absolute_rank_error(y, classifier.predict(X))


@pytest.fixture(scope="module")
def chance(shades):
    """Error of whoever always says the middle rank."""
    return mean_absolute_rank_error(shades[1], np.full(len(shades[1]), 2))


@pytest.mark.parametrize("parameters", WAYS.values(), ids=WAYS)
def test_a_fit_of_each_kind_learns_what_is_plain_to_see(make_classifier, tiny, shades, chance, parameters):
    assert initialization._ORDERING_STEPS > 5  # which is what most tests make of it
    X, y = shades
    if parameters.get("image_tower") == "precomputed":
        X = CLIPImageEncoder(tiny, device="cpu").fit_transform(X)
    assert error_of(make_classifier(**parameters).fit(X, y), X, y) < chance / 2


def test_passes_learn_what_is_plain_to_see(make_classifier, shades, chance):
    X, y = shades
    classifier = make_classifier(learning_rate=1e-2)
    for _ in range(40):  # a pass makes one step
        classifier.partial_fit(X, y, classes=range(5))
    assert error_of(classifier, X, y) < chance / 2
