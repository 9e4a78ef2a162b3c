import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip._settings import Settings
from skl2rclip.errors import InvalidParameterError

DEFAULTS = L2RCLIPClassifier().get_params(deep=False)
# what labels mean, and the seed, go other ways
ELSEWHERE = {"ranks", "rank_names", "class_weight", "random_state"}


def test_every_parameter_has_its_place():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert names == set(inspect.signature(L2RCLIPClassifier).parameters) - ELSEWHERE


def test_defaults_pass_and_the_record_cannot_be_changed():
    settings = Settings.of(DEFAULTS)
    assert settings.model_name == "ViT-B-16"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.batch_size = 3


def test_values_become_plain(tmp_path):
    given = {
        "pretrained": Path("weights.pt"),
        "n_context_tokens": np.int64(4),
        "learning_rate": np.float32(0.5),
        "augment": np.True_,
        "max_memory": "2 GB",
        "embedding_cache": tmp_path,
        "device": ["cpu", "cpu"],
        "batch_size": np.int32(8),
    }
    settings = Settings.of({**DEFAULTS, **given})
    assert settings.pretrained == "weights.pt"
    assert [type(settings.n_context_tokens), type(settings.learning_rate), type(settings.augment)] == [int, float, bool]
    assert settings.max_memory == 2 * 10**9
    assert settings.embedding_cache == str(tmp_path)
    assert settings.device == ("cpu", "cpu")
    assert type(settings.batch_size) is int


def test_what_is_no_field_is_left_alone():
    assert Settings.of({**DEFAULTS, "ranks": object()}) == Settings.of(DEFAULTS)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_each_parameter_is_checked(name):
    with pytest.raises(InvalidParameterError, match=name):
        Settings.of({**DEFAULTS, name: object()})


@pytest.mark.parametrize(
    ("image_tower", "finetunes", "is_precomputed"),
    [("finetune", True, False), ("frozen", False, False), ("precomputed", False, True)],
)
def test_kinds_of_tower(image_tower, finetunes, is_precomputed):
    settings = Settings.of({**DEFAULTS, "image_tower": image_tower})
    assert (settings.finetunes, settings.is_precomputed) == (finetunes, is_precomputed)


@pytest.mark.parametrize("prompt", ["aged {0}", "aged {rank}", "aged {", "aged }", "{} or {}", "{{}}", "{ }", "}{"])
def test_other_braces_than_one_pair_are_refused(prompt):
    with pytest.raises(InvalidParameterError, match=r"prompt may have one {}, which stands for the rank, and no other"):
        Settings.of({**DEFAULTS, "prompt": prompt})


@pytest.mark.parametrize("position", ["front", "middle"])
def test_the_rank_has_one_place(position):
    Settings.of({**DEFAULTS, "prompt": "aged {}"})
    with pytest.raises(InvalidParameterError, match=f"prompt='aged {{}}' and rank_position='{position}' both say"):
        Settings.of({**DEFAULTS, "prompt": "aged {}", "rank_position": position})
