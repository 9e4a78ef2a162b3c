import math

import pytest

from skl2rclip._training.plan import plan_of
from tests.support.learners import settings_of

TOWER = {"image_tower": "finetune", "image_epochs": 2}


def plan(n_images=40, n_ranks=5, one_pass=False, **parameters):
    stages = plan_of(settings_of(**{"prompt_epochs": 3, **parameters}), n_images, n_ranks, one_pass=one_pass)
    return [(stage.name, stage.n_epochs, stage.needs) for stage in stages]


def prompts(n_epochs):
    return ("prompts", n_epochs, "embeddings")


def tower(n_epochs):
    return ("image_tower", n_epochs, "pixels")


@pytest.mark.parametrize(
    ("parameters", "one_pass", "stages"),
    [
        ({}, False, [prompts(3)]),
        ({"prompt_epochs": 0}, False, []),
        ({"prompt_epochs": 0}, True, [prompts(1)]),
        (TOWER, False, [prompts(3), tower(2)]),
        ({**TOWER, "prompt_epochs": 0}, False, [tower(2)]),
        ({**TOWER, "image_epochs": 0}, False, [prompts(3)]),
        (TOWER, True, [tower(1)]),
    ],
)
def test_what_is_trained_follows_from_the_settings(parameters, one_pass, stages):
    assert plan(one_pass=one_pass, **parameters) == stages


@pytest.mark.parametrize(
    ("parameters", "n_epochs"),
    [
        ({"batch_size": 64}, 80),
        ({"batch_size": 10}, 20),
        ({"batch_size": 1}, 2),
        ({"batch_size": "auto"}, 80),
        ({"rank_targets": "hard"}, 200),
    ],
)
def test_automatic_epochs_are_counted_in_steps(parameters, n_epochs):
    assert plan(prompt_epochs="auto", **parameters) == [prompts(n_epochs)]


@pytest.mark.parametrize("n_ranks", [5, 21, 101])
@pytest.mark.parametrize("per_rank", [1, 16, 64])
def test_up_to_64_images_a_rank_take_eighty_steps(n_ranks, per_rank):
    n_images = n_ranks * per_rank
    n_epochs = max(1, round(80 / math.ceil(n_images / 128)))
    assert plan(n_images, n_ranks, prompt_epochs="auto", batch_size=128) == [prompts(n_epochs)]


@pytest.mark.parametrize(
    ("n_ranks", "per_rank", "n_epochs"),
    [
        (5, 220, 9),  # eighty steps are more than seven epochs
        (5, 1000, 7),
        (21, 128, 7),
        (21, 1000, 7),
        (101, 128, 2),  # 160 steps of 102 an epoch
        (101, 640, 2),  # ten times as many of both
    ],
)
def test_more_images_a_rank_take_steps_in_proportion_up_to_seven_epochs(n_ranks, per_rank, n_epochs):
    stages = plan(n_ranks * per_rank, n_ranks, prompt_epochs="auto", batch_size=128)
    assert stages == [prompts(n_epochs)]


@pytest.mark.parametrize(("n_images", "n_epochs"), [(40, 80), (400, 20), (10_000, 5)])
def test_automatic_epochs_of_the_tower_are_eighty_steps_and_at_least_five(n_images, n_epochs):
    stages = plan(n_images, image_tower="finetune", prompt_epochs=0, image_epochs="auto", batch_size=128)
    assert stages == [tower(n_epochs)]
