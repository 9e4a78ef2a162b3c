import dataclasses
import math

import numpy as np
import pytest
import torch

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._images.decoding import stamped
from skl2rclip._model.prompts import tokenize_prompts
from skl2rclip._ordinal.ranks import rank_scale
from skl2rclip._settings import Settings
from skl2rclip._training.request import FitRequest
from skl2rclip._training.stages import PromptStage, TowerStage
from skl2rclip._training.trainer import fit
from skl2rclip.errors import UnreadableImagesError


@pytest.fixture
def request_for(make_classifier, shades):
    """A checked request as the estimator makes it; parameters can be given."""

    def make(data=None, one_pass=False, previous=None, **parameters):
        settings = Settings.of(make_classifier(**parameters).get_params(deep=False))
        scale, target = rank_scale(shades[1])
        source = BackboneSource(settings.model_name, settings.pretrained)
        tokenizer = load_backbone(source).tokenizer()
        return FitRequest(
            data=stamped(shades[0] if data is None else data),
            target=target,
            weight=np.ones(40),
            groups=None,
            scale=scale,
            tokens=tokenize_prompts(tokenizer, settings.prompt, scale.names, settings.n_context_tokens, "tail"),
            source=source,
            settings=settings,
            seed=0,
            devices=(torch.device("cpu"),),
            previous=previous,
            one_pass=one_pass,
            column_names=None,
            kept=np.arange(40),
            n_given=40,
        )

    return make


@pytest.mark.parametrize(
    ("parameters", "one_pass", "plan"),
    [
        ({}, False, [(PromptStage, 3)]),
        ({"prompt_epochs": 0}, False, []),
        ({"prompt_epochs": 0}, True, [(PromptStage, 1)]),
        ({"image_tower": "finetune"}, False, [(PromptStage, 3), (TowerStage, 2)]),
        ({"image_tower": "finetune", "prompt_epochs": 0}, False, [(TowerStage, 2)]),
        ({"image_tower": "finetune", "image_epochs": 0}, False, [(PromptStage, 3)]),
        ({"image_tower": "finetune"}, True, [(TowerStage, 1)]),
    ],
)
def test_what_is_trained_follows_from_the_settings(request_for, parameters, one_pass, plan):
    assert request_for(one_pass=one_pass, **parameters).plan() == plan


def test_a_fit_knows_nothing_of_the_estimator_and_returns_a_state(request_for, shades, make_classifier):
    state = fit(request_for())
    expected = make_classifier().fit(*shades)
    np.testing.assert_array_equal(state.prototypes, expected.prototypes_)
    assert list(state.history) == expected.history_
    assert set(state.arrays) == {"prompts", "adapter"}


def test_each_epoch_is_reported_with_the_state_so_far(request_for):
    states = []
    state = fit(request_for(), states.append)
    assert [len(each.history) for each in states] == [1, 2, 3, 3]  # and at last what was judged best
    np.testing.assert_array_equal(states[-1].prototypes, state.prototypes)
    assert not np.array_equal(states[0].prototypes, state.prototypes)


def test_moments_are_kept_of_a_single_pass_only(request_for):
    assert fit(request_for()).optimizer_state is None
    moments = fit(request_for(one_pass=True)).optimizer_state["state"]
    assert moments[0]["step"] == 1


def test_images_are_left_out_by_the_users_own_indices(request_for, shades, shade_paths, tmp_path):
    paths = list(shade_paths)
    paths[7] = str(tmp_path / "gone.png")
    request = request_for(data=paths)
    rest = request.keep(np.arange(40) != 3)
    assert (len(rest.data), len(rest.target), len(rest.weight)) == (39, 39, 39)
    with pytest.raises(UnreadableImagesError, match=r"(?s)1 image of 40 .*X\[7\] .*gone.png\): no such file"):
        fit(rest)
    skipping = dataclasses.replace(rest, settings=dataclasses.replace(rest.settings, on_bad_image="skip"))
    with pytest.warns(UserWarning, match=r"X\[7\]"):
        state = fit(skipping)
    np.testing.assert_array_equal(state.prototypes, fit(request.keep(~np.isin(np.arange(40), [3, 7]))).prototypes)


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
def test_automatic_epochs_are_counted_in_steps(request_for, parameters, n_epochs):
    assert request_for(prompt_epochs="auto", **parameters).plan() == [(PromptStage, n_epochs)]


@pytest.mark.parametrize("n_ranks", [5, 21, 101])
@pytest.mark.parametrize("per_rank", [1, 16, 64])
def test_up_to_64_images_a_rank_take_eighty_steps(request_for, n_ranks, per_rank):
    [(_, n_epochs)] = with_images(request_for(prompt_epochs="auto", batch_size=128), n_ranks, per_rank).plan()
    assert n_epochs == max(1, round(80 / math.ceil(n_ranks * per_rank / 128)))


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
def test_more_images_a_rank_take_steps_in_proportion_up_to_seven_epochs(request_for, n_ranks, per_rank, n_epochs):
    request = with_images(request_for(prompt_epochs="auto", batch_size=128), n_ranks, per_rank)
    assert request.plan() == [(PromptStage, n_epochs)]


def with_images(request, n_ranks, per_rank):
    """The same plan, of so many images."""
    scale = rank_scale(np.arange(n_ranks))[0]
    return dataclasses.replace(request, scale=scale, target=np.repeat(np.arange(n_ranks), per_rank))
