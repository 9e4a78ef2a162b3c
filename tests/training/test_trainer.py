import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._images.files import stamped
from skl2rclip._model.prompts import tokenize_prompts
from skl2rclip._ordinal.ranks import rank_scale
from skl2rclip._settings import Settings
from skl2rclip._training.plan import PlannedStage
from skl2rclip._training.request import FitRequest
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


def test_a_fit_knows_nothing_of_the_estimator_and_returns_a_state(request_for, make_classifier, shades):
    state = fit(request_for())
    expected = make_classifier().fit(*shades)
    np.testing.assert_array_equal(state.prototypes, expected.prototypes_)
    assert list(state.history) == expected.history_
    assert set(state.arrays) == {"prompts", "projection", "adapter", "zero_shot"}


def test_each_epoch_is_reported_with_the_state_so_far(request_for):
    states = []
    checkpoint = SimpleNamespace(latest=lambda: None, keep=lambda _, state: states.append(state))
    state = fit(request_for(), checkpoint)
    assert [len(each.history) for each in states] == [1, 2, 3]
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


def test_images_are_counted_that_were_learned_from(request_for, shades):
    groups = np.arange(40) // 2
    request = dataclasses.replace(request_for(), groups=groups)
    assert request.n_images == (8, 8, 8, 8, 8)
    assert request.n_groups == 20
    rest = request.keep(np.arange(40) >= 5)
    assert rest.n_images == (7, 7, 7, 7, 7)
    assert rest.n_groups == 18
    watched = rest.with_validation(stamped(shades[0][:3]), shades[1][:3])
    assert (watched.n_images, watched.n_groups) == (rest.n_images, rest.n_groups)
    state = fit(watched)
    assert (state.n_images, state.n_groups) == (rest.n_images, rest.n_groups)
    # a pass counts with what it goes on from, a fit that goes on does not
    assert request_for(one_pass=True, previous=state).n_images == (15, 15, 15, 15, 15)
    assert request_for(previous=state).n_images == (8, 8, 8, 8, 8)
    assert request_for().n_groups is None


def test_a_request_plans_for_the_images_that_are_left(request_for):
    request = request_for(prompt_epochs="auto", image_epochs="auto", image_tower="finetune", batch_size=1)
    assert request.plan == (PlannedStage("prompts", 2), PlannedStage("image_tower", 5))
    assert request.keep(np.arange(40) < 10).plan == (PlannedStage("prompts", 8), PlannedStage("image_tower", 8))
    assert dataclasses.replace(request, one_pass=True).plan == (PlannedStage("image_tower", 1),)
