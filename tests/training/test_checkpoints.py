"""A fit that died goes on from its last record, and ends as if nothing had happened."""

import json
import logging
import os
import shutil

import numpy as np
import pytest
from safetensors import SafetensorError
from sklearn.base import clone

from skl2rclip import L2RCLIPClassifier
from skl2rclip._training import checkpoints, trainer
from skl2rclip._training.epoch_selection import EpochSelection
from skl2rclip._utils.scratch import held_unless_taken
from skl2rclip.errors import InvalidParameterError
from tests.support.small_images import barred_images

FROZEN = {"prompt_epochs": 5}
STOPPED = {"rank_targets": "hard", "prompt_epochs": 4, "early_stopping": True}
FINETUNED = {"image_tower": "finetune", "prompt_epochs": 2, "image_epochs": 2, "image_learning_rate": 1e-2}
WATCHED = {**FINETUNED, "early_stopping": True, "batch_size": 16}


class Killed(BaseException):
    """What nobody catches."""


@pytest.fixture
def killed(monkeypatch):
    """Make a fit that dies once it has kept so many records; returns what stages these were of."""

    def kill(fit, n_records):
        stages, keep = [], checkpoints.Checkpoint.keep

        def keep_and_die(self, record, state):
            keep(self, record, state)
            stages.append(record["stage"])
            if len(stages) == n_records:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.Checkpoint, "keep", keep_and_die)
            try:
                fit()
            except Killed:
                assert len(stages) == n_records
        return stages

    return kill


def assert_same(one, other):
    for name in [name for name in vars(one) if name.endswith("_") and name != "resumed_from_epoch_"]:
        np.testing.assert_equal(getattr(other, name), getattr(one, name), err_msg=name)
    images = barred_images(np.arange(4), 1)
    np.testing.assert_array_equal(other.predict_proba(images), one.predict_proba(images))


@pytest.fixture(scope="module")
def bars():
    y = np.tile(np.arange(4), 10)
    return barred_images(y, 0), y


@pytest.mark.parametrize(
    ("parameters", "expected", "deaths"),
    [
        (FROZEN, ["prompts"] * 5, [2, 5]),
        (STOPPED, ["prompts"] * 4, [2]),
        (FINETUNED, ["prompts"] * 2 + ["epoch_selection"] * 8 + ["image_tower"] * 2, [5, 11]),
        (WATCHED, ["prompts"] * 2 + ["image_tower"] * 2, [3]),
    ],
    ids=["frozen", "early stopping", "fine-tuned", "fine-tuned, early stopping"],
)
def test_a_fit_that_died_ends_as_if_nothing_had_happened(
    make_classifier, bars, tmp_path, killed, monkeypatch, parameters, expected, deaths
):
    monkeypatch.setattr("skl2rclip._training.epoch_selection._selected", lambda *_: EpochSelection(2, 0.5, 0.9))
    undisturbed = make_classifier(**parameters).fit(*bars)
    assert undisturbed.resumed_from_epoch_ == 0
    for n_records in deaths:
        folder = tmp_path / str(n_records)
        resumed = make_classifier(**parameters, checkpoint_dir=folder)
        stages = killed(lambda: resumed.fit(*bars), n_records)  # noqa: B023
        assert stages == expected[:n_records]
        assert not hasattr(resumed, "classes_")
        resumed.fit(*bars)
        assert resumed.resumed_from_epoch_ == sum(stage != "epoch_selection" for stage in stages)
        assert_same(undisturbed, resumed)
        assert_same(undisturbed, L2RCLIPClassifier.load(*folder.iterdir()))


def test_a_fit_that_has_ended_returns_at_once(make_classifier, shades, tmp_path, monkeypatch):
    ended = make_classifier(checkpoint_dir=tmp_path).fit(*shades)
    [folder] = tmp_path.iterdir()
    assert os.listdir(folder / "progress") == ["fit.json"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", None)
        again = make_classifier(checkpoint_dir=tmp_path, verbose=1, n_jobs=1).fit(*shades)
    assert again.resumed_from_epoch_ == again.n_iter_ == 3
    assert_same(ended, again)
    assert_same(ended, clone(again).set_params(checkpoint_dir=None).fit(*shades))
    (folder / "model.safetensors").write_bytes(b"")
    assert make_classifier(checkpoint_dir=tmp_path).fit(*shades).resumed_from_epoch_ == 0
    assert list(tmp_path.iterdir()) == [folder]


def test_a_fit_without_a_seed_goes_on_with_that_which_it_drew(make_classifier, bars, tmp_path, killed):
    unseeded = make_classifier(**FROZEN, random_state=None, checkpoint_dir=tmp_path)
    killed(lambda: unseeded.fit(*bars), 2)
    [folder] = tmp_path.iterdir()
    seed = json.loads((folder / "progress" / "fit.json").read_text())["seed"]
    assert unseeded.fit(*bars).resumed_from_epoch_ == 2
    assert_same(make_classifier(**FROZEN, random_state=seed).fit(*bars), unseeded)
    assert clone(unseeded).fit(*bars).resumed_from_epoch_ == 0  # another fit, whose model stands beside
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}-2"]


def test_damaged_records_fall_back_to_those_before(make_classifier, bars, tmp_path, killed, caplog):
    undisturbed = make_classifier(**FROZEN).fit(*bars)
    for n_damaged, expected in [(1, 3), (2, 0)]:
        classifier = make_classifier(**FROZEN, checkpoint_dir=tmp_path / str(n_damaged))
        killed(lambda: classifier.fit(*bars), 4)  # noqa: B023
        records = sorted(tmp_path.glob(f"{n_damaged}/*/progress/*.pt"))
        assert len(records) == 2
        for record in records[-n_damaged:]:
            content = bytearray(record.read_bytes())
            content[len(content) // 2] ^= 1
            record.write_bytes(content)
        with caplog.at_level(logging.WARNING, "skl2rclip"):
            classifier.fit(*bars)
        assert caplog.text.count("is left out: ") == n_damaged
        caplog.clear()
        assert classifier.resumed_from_epoch_ == expected
        assert_same(undisturbed, classifier)


def test_a_record_of_another_fit_is_not_believed(make_classifier, bars, tmp_path, killed, caplog):
    other = make_classifier(**FROZEN, rank_targets="hard", image_adapter=None, checkpoint_dir=tmp_path / "other")
    classifier = make_classifier(**FROZEN, checkpoint_dir=tmp_path / "own")
    for each in (other, classifier):
        killed(lambda: each.fit(*bars), 2)  # noqa: B023
    [own] = tmp_path.glob("own/*/progress")
    for record in own.glob("*.pt"):
        record.unlink()
    for record in tmp_path.glob("other/*/progress/*.pt"):
        shutil.copy(record, own)
    with caplog.at_level(logging.WARNING, "skl2rclip"):
        assert classifier.fit(*bars).resumed_from_epoch_ == 0
    assert "The fit begins anew: what" in caplog.text
    assert_same(make_classifier(**FROZEN).fit(*bars), classifier)


def test_other_parameters_and_images_begin_anew_and_the_log_says_which(
    make_classifier, shades, shade_paths, tmp_path, killed, caplog
):
    paths, y = list(shade_paths), shades[1]
    killed(lambda: make_classifier(checkpoint_dir=tmp_path).fit(paths, y), 2)
    caplog.set_level(logging.INFO, "skl2rclip")

    def begins_anew(X, y, **parameters):
        caplog.clear()
        killed(lambda: make_classifier(checkpoint_dir=tmp_path, **parameters).fit(X, y), 1)
        return "The fit goes on" not in caplog.text, caplog.text

    is_new, log = begins_anew(paths, y, learning_rate=0.5)
    assert is_new
    assert "as it differs from the unfinished one in" in log
    assert "in learning_rate" in log
    moved = [shutil.copy(path, tmp_path / f"moved-{i}.png") for i, path in enumerate(paths)]
    assert not begins_anew(moved, y)[0]
    shutil.copy(paths[0], moved[1])
    is_new, log = begins_anew(moved, y)
    assert is_new
    assert "in images" in log
    assert begins_anew(paths, y[::-1])[0]


def test_equal_fits_at_once_have_a_folder_each(make_classifier, bars, tmp_path, killed):
    classifier = make_classifier(**FROZEN, checkpoint_dir=tmp_path)
    killed(lambda: classifier.fit(*bars), 1)
    [folder] = tmp_path.iterdir()
    with held_unless_taken(folder / "progress") as is_held:
        assert is_held
        assert classifier.fit(*bars).resumed_from_epoch_ == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, f"{folder.name}-2"]
    assert classifier.fit(*bars).resumed_from_epoch_ == 1  # what the first has left is gone on with


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("No space left to allocate")])
def test_a_full_disk_or_memory_does_not_end_a_fit(make_classifier, bars, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.warns(UserWarning, match=r"checkpoint_dir: .* the fit goes on: .*No space left"):
        classifier = make_classifier(**FROZEN, checkpoint_dir=tmp_path).fit(*bars)
    assert_same(make_classifier(**FROZEN).fit(*bars), classifier)


def test_a_full_disk_is_one_whatever_a_library_calls_it(make_classifier, bars, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    def full_too(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    monkeypatch.setattr("skl2rclip._model.save.safetensors.numpy.save_file", full_too)
    with pytest.warns(UserWarning, match="checkpoint_dir: ") as shown:
        classifier = make_classifier(**FROZEN, checkpoint_dir=tmp_path).fit(*bars)
    said = " ".join(str(each.message) for each in shown)
    assert "the fit goes on: " in said
    assert "its model was not written there: the model was not written to" in said
    with pytest.raises(OSError, match=r"the model was not written to .*No space left"):
        classifier.save(tmp_path / "model")
    assert list(tmp_path.rglob("*scratch*")) == []


def test_a_folder_that_is_removed_while_a_fit_runs_does_not_end_it(make_classifier, bars, tmp_path, monkeypatch):
    keep = checkpoints.Checkpoint.keep

    def keep_and_remove(self, *what):
        keep(self, *what)
        shutil.rmtree(self.folder, ignore_errors=True)

    monkeypatch.setattr(checkpoints.Checkpoint, "keep", keep_and_remove)
    with pytest.warns(UserWarning, match="checkpoint_dir: the fit has ended well"):
        make_classifier(**FROZEN, checkpoint_dir=tmp_path).fit(*bars)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_kept_is_refused_before_any_work(make_classifier, bars, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match=r"checkpoint_dir: nothing can be kept in .* or name another"):
        make_classifier(checkpoint_dir=tmp_path / "file" / "below").fit(*bars)


def test_a_damaged_description_loses_neither_the_seed_nor_the_epochs(make_classifier, bars, tmp_path, killed):
    unseeded = make_classifier(**FROZEN, random_state=None, checkpoint_dir=tmp_path)
    killed(lambda: unseeded.fit(*bars), 2)
    [file] = tmp_path.glob("*/progress/fit.json")
    content = json.loads(file.read_text())
    for harm in ({"seed": content["seed"] + 1}, {"has_ended": True}, {"format": 99}):
        file.write_text(json.dumps({**content, **harm}))
        killed(lambda: unseeded.fit(*bars), 1)
        assert json.loads(file.read_text()) == content
    file.write_bytes(b"")
    assert unseeded.fit(*bars).resumed_from_epoch_ == 5
    assert_same(make_classifier(**FROZEN, random_state=content["seed"]).fit(*bars), unseeded)


def test_what_a_process_left_that_died_at_the_very_end_goes(make_classifier, bars, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_tidy", lambda _: None)
        make_classifier(checkpoint_dir=tmp_path).fit(*bars)
    [progress] = tmp_path.glob("*/progress")
    assert len(os.listdir(progress)) > 2
    assert make_classifier(checkpoint_dir=tmp_path).fit(*bars).resumed_from_epoch_ == 3
    assert os.listdir(progress) == ["fit.json"]


def test_a_fit_that_begins_anew_as_its_model_was_lost_has_not_ended(make_classifier, bars, tmp_path, killed):
    undisturbed = make_classifier(**FROZEN, checkpoint_dir=tmp_path).fit(*bars)
    [model] = tmp_path.glob("*/model.safetensors")
    model.write_bytes(b"")
    again = make_classifier(**FROZEN, checkpoint_dir=tmp_path)
    killed(lambda: again.fit(*bars), 2)
    assert again.fit(*bars).resumed_from_epoch_ == 2
    assert_same(undisturbed, again)
