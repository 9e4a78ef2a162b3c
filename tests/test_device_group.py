"""A fit on two processes of the CPU: the same losses and gradients as in one."""

import importlib.util

import numpy as np
import pytest

from skl2rclip.errors import InvalidParameterError, NonFiniteLossError


@pytest.fixture
def make(make_classifier):
    def finetuned(**parameters):
        settings = {"image_tower": "finetune", "image_learning_rate": 1e-4, "augment": False}
        return make_classifier(**{**settings, **parameters})

    return finetuned


def test_two_processes_learn_what_one_does(make, shades, tmp_path):
    X, y = shades[0][:39], shades[1][:39]  # shares of unlike size, in one batch
    weight = np.where(np.arange(39) % 3 == 0, 2.0, 0.5)
    settings = {"early_stopping": True, "rank_names": lambda rank: f"{rank} of 4", "checkpoint_dir": tmp_path}
    one = make(**settings).fit(X, y, weight)
    two = make(**settings, n_devices=2).fit(X, y, weight)
    assert [entry["stage"] for entry in two.history_] == [entry["stage"] for entry in one.history_]
    for a, b in zip(one.history_, two.history_, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4)
        assert b["validation_loss"] == pytest.approx(a["validation_loss"], abs=1e-4)
    np.testing.assert_allclose(two.prototypes_, one.prototypes_, atol=1e-4)
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), atol=1e-3)
    assert len(list(tmp_path.glob("fit-*/model.json"))) == 2


def test_many_batches_and_paths(make, shades, shade_paths):
    y = shades[1]
    two = make(n_devices=2, batch_size=7, augment=True, max_epochs=3, prompt_epochs=10).fit(shade_paths, y)
    assert two.n_iter_ == 13
    assert two.history_[-1]["loss"] < two.history_[0]["loss"]
    assert np.isfinite(two.predict_proba(shade_paths)).all()


def test_a_frozen_tower_is_shared_too(make_classifier, shades):
    one, two = (make_classifier(n_devices=n).fit(*shades) for n in (1, 2))
    np.testing.assert_allclose(two.predict_proba(shades[0]), one.predict_proba(shades[0]), atol=1e-4)


def test_errors_come_back(make, shades, monkeypatch):
    with pytest.raises(NonFiniteLossError, match="not finite at learning rate"):
        make(n_devices=2, image_learning_rate=1e30, max_epochs=3).fit(*shades)
    with pytest.raises(InvalidParameterError, match="n_devices=9 is more than the 5 images"):
        make(n_devices=9).fit(shades[0][:5], shades[1][:5])
    with pytest.raises(InvalidParameterError, match="n_devices must be an integer of at least 1"):
        make(n_devices=0).fit(*shades)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidParameterError, match=r"lightning-fabric, which is not installed: pip install"):
        make(n_devices=2).fit(*shades)
