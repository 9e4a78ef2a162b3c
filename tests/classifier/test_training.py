"""What training brings, which parameters count, and that one seed gives one model."""

import numpy as np
import pytest
import torch

from skl2rclip import CLIPImageEncoder
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.fingerprint import fingerprint
from skl2rclip._clip.source import BackboneSource
from skl2rclip.metrics import mean_absolute_rank_error
from tests.support.parameters import ALL_OF_IT, BASE, FINETUNE
from tests.support.small_images import shaded_images


def test_training_learns_what_is_plain_to_see(make_classifier, shades):
    X, y = shades
    unseen, truth = shaded_images(np.arange(5).repeat(6), seed=9), np.arange(5).repeat(6)
    for parameters in (
        {"image_tower": "frozen", "prompt_epochs": "auto"},
        {"image_tower": "frozen", "prompt_epochs": 120, "learning_rate": 1e-2, "rank_targets": "hard"},
        ALL_OF_IT | {"prompt_epochs": 0, "image_epochs": 40, "image_learning_rate": 2e-3},
    ):
        classifier = make_classifier(**parameters).fit(X, y)
        assert mean_absolute_rank_error(truth, classifier.predict(unseen)) < 0.5  # the best constant: 1.2
        assert min(record["loss"] for record in classifier.history_[1:]) < classifier.history_[0]["loss"]


def test_history_holds_each_term_and_their_weighted_sum(make_classifier, shades):
    weights = {"contrastive_weight": 0.7, "pairwise_weight": 2.0, "tightness_weight": 0.3}
    classifier = make_classifier(**ALL_OF_IT, prompt_epochs=2, image_epochs=1, **weights).fit(*shades)
    assert [record["stage"] for record in classifier.history_] == ["prompts", "prompts", "image_tower"]
    assert [record["epoch"] for record in classifier.history_] == [1, 2, 3]
    for record in classifier.history_:
        total = 0.7 * record["contrastive"] + 2.0 * record["ordering"] + 0.3 * record["tightness"]
        assert record["loss"] == pytest.approx(total, rel=1e-4)
        assert record["ordering"] < 0 < record["tightness"]
    assert classifier.n_iter_ == 3
    assert [record["learning_rate"] for record in classifier.history_] == pytest.approx([3e-4, 1.5e-4, 3e-4])


def test_fine_tuning_leaves_the_shared_backbone_alone(make_classifier, shades, tiny):
    backbone = load_backbone(BackboneSource(tiny))
    before = fingerprint(backbone.model)
    classifier = make_classifier(**ALL_OF_IT, image_epochs=1, image_learning_rate=1e-2).fit(*shades)
    assert fingerprint(backbone.model) == before
    assert not np.allclose(
        classifier.transform(shades[0]), CLIPImageEncoder(tiny).fit().transform(shades[0]), atol=1e-2
    )


def test_a_callers_autocast_changes_nothing(make_classifier, shades):
    X, y = shades
    expected = make_classifier(**BASE).fit(X, y).predict_proba(X)
    with torch.autocast("cpu", torch.bfloat16):
        found = make_classifier(**BASE).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)


CHANGES = [
    ({**BASE, "image_adapter": None}, {"image_tower": "finetune", "image_epochs": 1}),
    (BASE, {"image_adapter": None}),
    (BASE, {"image_adapter": "linear"}),
    (BASE, {"rank_targets": "hard"}),
    (BASE, {"text_ordering_weight": 0.5}),
    (BASE, {"rank_names": ["a", "b", "c", "d", "e"]}),
    (BASE, {"prompt": "a photo in"}),
    (BASE, {"n_context_tokens": 3}),
    (BASE, {"rank_position": "front"}),
    (BASE, {"rank_position": "middle"}),
    (BASE, {"tune_ranks": False}),
    (BASE, {"rankformer_layers": 0}),
    (BASE, {"rankformer_layers": 2}),
    (BASE, {"blend_ratio": 0.5}),
    (BASE, {"contrastive_weight": 0.0}),
    (BASE, {"pairwise_weight": 0.0}),
    (BASE, {"tightness_weight": 0.0}),
    (BASE, {"class_weight": {0: 3.0}}),
    (BASE, {"prompt_epochs": 3}),
    (BASE, {"batch_size": 7}),
    (BASE, {"learning_rate": 2e-3}),
    (BASE, {"weight_decay": 0.5}),
    (BASE, {"early_stopping": True}),
    (BASE, {"precision": "bfloat16"}),
    (BASE, {"random_state": 1}),
    (BASE, {"model_name": "custom_text"}),
    (FINETUNE, {"image_epochs": 2}),
    (FINETUNE, {"image_learning_rate": 2e-3}),
    (FINETUNE, {"augment": False}),
    (FINETUNE, {"weight_decay": 0.5}),
    ({**BASE, "early_stopping": True}, {"validation_fraction": 0.5}),
]


@pytest.mark.parametrize(("base", "change"), CHANGES, ids=lambda value: "-".join(map(str, value)))
def test_every_parameter_of_the_training_counts(make_classifier, model_names, shades, base, change):
    change = {**change, **({"model_name": model_names[change["model_name"]]} if "model_name" in change else {})}
    plain = make_classifier(**base).fit(*shades)
    changed = make_classifier(**{**base, **change}).fit(*shades)
    assert not np.array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))


@pytest.mark.parametrize("base", [BASE, FINETUNE])
@pytest.mark.parametrize("change", [{"n_jobs": 1}, {"max_memory": 1000}, {"max_memory": "1KB"}, {"verbose": 1}])
def test_parameters_of_the_running_change_no_result(make_classifier, shades, base, change):
    plain = make_classifier(**base).fit(*shades)
    changed = make_classifier(**{**base, **change}).fit(*shades)
    np.testing.assert_array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_one_seed_gives_one_model_and_global_generators_stay(make_classifier, shades, image_tower):
    np.random.seed(3)  # noqa: NPY002  the point of the test
    torch.manual_seed(3)
    expected = np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    fits = [make_classifier(image_tower=image_tower, batch_size=16).fit(*shades) for _ in range(2)]
    assert (np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    np.testing.assert_array_equal(fits[0].prototypes_, fits[1].prototypes_)
    np.testing.assert_array_equal(fits[0].predict_proba(shades[0]), fits[1].predict_proba(shades[0]))
    assert fits[0].history_ == fits[1].history_


def test_random_state_objects_seed_too(make_classifier, shades):
    seeds = [np.random.RandomState(5) for _ in range(2)]
    first, second = (make_classifier(random_state=seed).fit(*shades) for seed in seeds)
    np.testing.assert_array_equal(first.prototypes_, second.prototypes_)
    again = make_classifier(random_state=seeds[0]).fit(*shades)  # the generator has moved on
    assert not np.array_equal(first.prototypes_, again.prototypes_)


def test_compiled_tower_predicts_the_same(make_classifier, shades, monkeypatch):
    compiled = []
    # the compiler itself takes half a minute and a C++ toolchain: what is tested is where it is asked for
    monkeypatch.setattr(torch, "compile", lambda module, **options: compiled.append(module) or module)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    plain = make_classifier(**FINETUNE).fit(*shades)
    assert not compiled
    changed = make_classifier(**FINETUNE, compile=True).fit(*shades)
    assert len(compiled) == 1
    np.testing.assert_array_equal(plain.predict_proba(shades[0]), changed.predict_proba(shades[0]))
    assert len(compiled) == 2
