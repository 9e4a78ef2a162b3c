"""Folders that are written in one step, and read with suspicion."""

import dataclasses
import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fault_saves
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._model.save import is_of_a_model, needed_files, without_places
from skl2rclip.errors import MissingBackboneError
from tests.support.small_models import CONFIGS, write_model


def test_saved_folder_is_json_and_safetensors_of_a_known_version(case, tmp_path):
    case[0].save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "model.safetensors"]
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["format_version"] == 8
    np.testing.assert_array_equal(
        load_file(tmp_path / "model" / "model.safetensors")["prototypes"], case[0].prototypes_
    )


def test_every_kind_of_parameter_survives_save(make_classifier, shades, tmp_path):
    classifier = make_classifier(
        rank_names=lambda label: f"level {label}",
        ranks=np.arange(6),
        class_weight={0: 2.0, np.int64(1): 1},
        random_state=np.random.RandomState(0),
        checkpoint_dir=tmp_path / "runs",
        blend_ratio=np.float32(0.25),
        white_level=np.int64(4095),
    ).fit(*shades)
    classifier.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert loaded.rank_names == [f"level {k}" for k in range(6)]
    assert loaded.ranks == list(range(6))
    assert loaded.class_weight == {0: 2.0, 1: 1}
    assert loaded.random_state is None
    assert loaded.checkpoint_dir == str(tmp_path / "runs")
    assert loaded.blend_ratio == 0.25
    assert loaded.white_level == 4095
    loaded.fit(*shades)


def test_save_replaces_an_earlier_save_and_nothing_else(case, tmp_path):
    classifier, X = case
    classifier.save(tmp_path / "model")
    classifier.save(tmp_path / "model")
    np.testing.assert_array_equal(L2RCLIPClassifier.load(tmp_path / "model").predict(X), classifier.predict(X))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a saved model"):
        classifier.save(tmp_path / "precious")
    with pytest.raises(FileExistsError):
        classifier.save(tmp_path / "precious" / "thesis.txt")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["model", "precious"]  # nothing half-written is left


def test_a_failed_save_leaves_the_earlier_one(case, tmp_path, monkeypatch):
    classifier, X = case
    classifier.save(tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(
            "skl2rclip._model.save.safetensors.numpy.save_file",
            lambda *args: (_ for _ in ()).throw(OSError("disk full")),
        )
        with pytest.raises(OSError, match="disk full"):
            classifier.save(tmp_path / "model")
    np.testing.assert_array_equal(L2RCLIPClassifier.load(tmp_path / "model").predict(X), classifier.predict(X))
    assert os.listdir(tmp_path) == ["model"]


def test_unusable_folders_are_named(case, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a saved model: there is no file model.json"):
        L2RCLIPClassifier.load(tmp_path / "nowhere")
    case[0].save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    with pytest.raises(NotADirectoryError, match="is a file: give the folder that `save` made"):
        L2RCLIPClassifier.load(file)
    description = json.loads(file.read_text())
    file.write_text(json.dumps({**description, "format_version": 99}))
    with pytest.raises(ValueError, match="has format version 99, and this version of skl2rclip reads 8"):
        L2RCLIPClassifier.load(tmp_path / "model")
    file.write_text("{")
    with pytest.raises(ValueError, match="is damaged or is not a saved model"):
        L2RCLIPClassifier.load(tmp_path / "model")
    file.write_text(json.dumps(description))
    arrays = tmp_path / "model" / "model.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model.safetensors is missing or damaged"):
        L2RCLIPClassifier.load(tmp_path / "model")


def test_save_needs_a_fitted_model(make_classifier, tmp_path):
    with pytest.raises(NotFittedError):
        make_classifier().save(tmp_path / "model")


def test_no_damaged_byte_is_read(saved):
    assert fault_saves.damaged(saved, 300, 0) == {"refused": 300}


def test_edited_folders_are_refused_or_predict(saved):
    for edited in (fault_saves.edited, fault_saves.edited_arrays):
        seen = edited(saved, 300, 0)
        assert set(seen) <= {"refused", "refused at the prediction", "read, and predicts"}
        assert seen["refused"] > 150


def test_halves_of_two_models_are_noticed(models, saved, tmp_path):
    models[1].save(tmp_path / "other")
    for name in ("model.json", "model.safetensors"):
        models[0].save(saved)
        (saved / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(
            ValueError, match=r"is not the one that model.json belongs to|bytes, and model.json belongs"
        ):
            L2RCLIPClassifier.load(saved)


def test_folders_of_the_earlier_form_are_refused_in_one_sentence(saved):
    description = {"format_version": 5, "library_version": "0.1.0.dev0", "params": {}, "state": {}}
    (saved / "model.json").write_text(json.dumps(description))
    with pytest.raises(
        ValueError, match=r"format version 5, and this version .* reads 8; .* earlier form of skl2rclip 0.1.0.dev0"
    ):
        L2RCLIPClassifier.load(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_pipes_are_not_waited_for(saved, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises((ValueError, FileNotFoundError)):
        L2RCLIPClassifier.load(saved)


def test_nothing_is_allocated_for_a_header_that_lies(saved):
    description = json.loads((saved / "model.json").read_text())
    header = json.dumps({"prototypes": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    with open(saved / "model.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(2**36)  # of which nothing is on the disk
    description["arrays"]["bytes"] = 2**36
    fault_saves.write_description(saved, description)
    with pytest.raises(ValueError, match=r"prompts.rank_tokens is missing"):
        L2RCLIPClassifier.load(saved)


@pytest.mark.parametrize("width", [True, 0, -1, 2**40, "x", None])
def test_widths_that_no_embedding_has_are_refused(saved, width):
    data = (saved / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["prompts.rank_tokens"]["shape"][1] = width
    text = json.dumps(header).encode()
    arrays = len(text).to_bytes(8, "little") + text + data[8 + length :]
    (saved / "model.safetensors").write_bytes(arrays)
    description = json.loads((saved / "model.json").read_text())
    description["arrays"] = {"sha256": hashlib.sha256(arrays).hexdigest(), "bytes": len(arrays)}
    fault_saves.write_description(saved, description)
    with pytest.raises(ValueError, match="of no shape that word embeddings have"):
        L2RCLIPClassifier.load(saved)


def test_places_to_write_are_data_until_the_caller_says_them(make_classifier, shades, tmp_path):
    X, y = shades
    classifier = make_classifier(prompt_epochs=1).fit(X, y)
    places = {"embedding_cache": str(tmp_path / "cache"), "checkpoint_dir": str(tmp_path / "checkpoints")}
    classifier.set_params(**places).save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert {name: loaded.get_params()[name] for name in places} == places
    loaded.predict(X)
    clone(loaded).fit(X, y)
    loaded.partial_fit(X, y)
    assert os.listdir(tmp_path) == ["model"]
    loaded.set_params(**places).fit(X, y)
    assert sorted(os.listdir(tmp_path)) == ["cache", "checkpoints", "model"]


def test_loads_during_saves_get_one_of_the_models(models):
    assert fault_saves.read_during_saves(models, 150) == {"as saved": 150}


def test_a_killed_save_leaves_a_model_and_the_next_one_clears_up(models):
    seen = fault_saves.killed(models, 15, 0)
    assert seen == {"as saved": 15, "left behind": 0}


def test_what_is_being_written_by_another_is_not_taken_for_a_leftover(models, tmp_path):
    living = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from skl2rclip._utils.scratch import scratch_folder\n"
            "with scratch_folder(Path(sys.argv[1]), 'model') as folder: print(folder, flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert living.stdout is not None
    folder = living.stdout.readline().strip()
    try:
        models[0].save(tmp_path / "model")
        assert os.path.isdir(folder)
    finally:
        living.kill()
        living.wait()
    assert os.path.isdir(folder)
    models[0].save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


def test_writers_at_the_same_time_leave_one_whole_model(models, tmp_path):
    digests = {fault_saves.digest(model) for model in models}
    with ThreadPoolExecutor(4) as pool:
        writers = [
            pool.submit(lambda model=model: [model.save(tmp_path / "model") for _ in range(10)]) for model in models * 2
        ]
        for writer in writers:
            writer.result(60)
    assert fault_saves.outcome(tmp_path / "model", digests) == "as saved"
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "model.safetensors"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(os.name == "nt", reason="modes and links of Unix")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_modes_that_the_umask_gives(fitted_classifier, tmp_path, umask):
    classifier = fitted_classifier(prompt_epochs=1)
    before = os.umask(umask)
    try:
        for _ in range(2):
            classifier.save(tmp_path / "model", include_backbone=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~umask
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}


@pytest.mark.skipif(os.name == "nt", reason="modes and links of Unix")
def test_where_a_symbolic_link_leads_is_written(models, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "model")
    for model in models:
        model.save(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert fault_saves.outcome(tmp_path / "disk" / "model", {fault_saves.digest(model)}) == "as saved"
    assert os.listdir(tmp_path / "disk") == ["model"]


@pytest.mark.parametrize(
    "content", ["{}", "[]", "nonsense", '{"format_version": 2}', '{"format": "another model", "format_version": 5}']
)
def test_a_model_json_alone_proves_nothing(models, tmp_path, content):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.json").write_text(content)
    (tmp_path / "theirs" / "weights.bin").write_text("months of training")
    with pytest.raises(FileExistsError, match="is not a saved model"):
        models[0].save(tmp_path / "theirs")
    assert (tmp_path / "theirs" / "model.json").read_text() == content
    assert sorted(os.listdir(tmp_path / "theirs")) == ["model.json", "weights.bin"]


def test_what_the_user_adds_to_a_saved_folder_stays(fitted_classifier, tmp_path):
    classifier = fitted_classifier(prompt_epochs=1)
    classifier.save(tmp_path / "model", include_backbone=True)
    (tmp_path / "model" / "README.md").write_text("trained on Monday")
    (tmp_path / "model" / "plots").mkdir()
    (tmp_path / "model" / "plots" / "a.png").write_text("a plot")
    classifier.save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == ["README.md", "model.json", "model.safetensors", "plots"]
    assert (tmp_path / "model" / "plots" / "a.png").read_text() == "a plot"


def test_a_backbone_is_exchanged_with_its_model(make_classifier, shades, tmp_path):
    X, y = shades
    names = [write_model(tmp_path / f"clip{seed}", CONFIGS["clip"], seed=seed) for seed in (3, 4)]
    for name in (*names, names[0], names[0]):
        classifier = make_classifier(model_name=name, prompt_epochs=1).fit(X, y)
        expected = classifier.predict_proba(X)
        classifier.save(tmp_path / "model", include_backbone=True)
        unload_backbones()
        loaded = L2RCLIPClassifier.load(tmp_path / "model")
        assert str(tmp_path / "model") in loaded._state.record.source.model_name
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)
        assert len(os.listdir(tmp_path / "model")) == 3


def test_a_model_keeps_the_backbone_that_it_was_loaded_with_and_its_clone_begins_there(
    make_classifier, shades, tmp_path
):
    first, second = (
        make_classifier(model_name=write_model(tmp_path / f"clip{seed}", CONFIGS["clip"], seed=seed)).fit(*shades)
        for seed in (3, 4)
    )
    first.save(tmp_path / "model", include_backbone=True)
    loaded, expected = L2RCLIPClassifier.load(tmp_path / "model"), first.predict_proba(shades[0])
    os.rename(tmp_path / "clip3", tmp_path / "gone")
    unload_backbones()
    again = clone(loaded).fit(*shades)
    assert again.get_params()["model_name"] == first.get_params()["model_name"]
    np.testing.assert_array_equal(again.predict_proba(shades[0]), expected)
    second.save(tmp_path / "model", include_backbone=True)
    unload_backbones()
    np.testing.assert_array_equal(loaded.predict_proba(shades[0]), expected)
    np.testing.assert_array_equal(
        L2RCLIPClassifier.load(tmp_path / "model").predict_proba(shades[0]), second.predict_proba(shades[0])
    )


def test_everything_is_on_the_disk_before_it_is_seen(models, tmp_path, monkeypatch):
    synced, fsync, replace, rename = set(), os.fsync, os.replace, os.rename

    def remember(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def checked(exchange):
        def exchanged(source, target, **keywords):
            inside = [os.path.join(source, name) for name in os.listdir(source)] if os.path.isdir(source) else []
            for path in (source, *inside):
                assert os.stat(path).st_ino in synced or (os.name == "nt" and os.path.isdir(path)), path
            exchange(source, target, **keywords)

        return exchanged

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr(os, "replace", checked(replace))
    monkeypatch.setattr(os, "rename", checked(rename))
    for model in models:
        model.save(tmp_path / "model")
        assert {os.stat(tmp_path).st_ino, os.stat(tmp_path / "model").st_ino} <= synced


def test_training_on_and_saving_in_place_keeps_the_backbone_inside(make_classifier, shades, tmp_path):
    X, y = shades
    name = write_model(tmp_path / "mine", CONFIGS["clip"], seed=3)
    make_classifier(model_name=name, prompt_epochs=1).fit(X, y).save(tmp_path / "model", include_backbone=True)
    os.rename(tmp_path / "mine", tmp_path / "gone")
    unload_backbones()
    for _ in range(2):
        loaded = L2RCLIPClassifier.load(tmp_path / "model").partial_fit(X, y)
        expected = loaded.predict_proba(X)
        loaded.save(tmp_path / "model")
        unload_backbones()
        np.testing.assert_array_equal(L2RCLIPClassifier.load(tmp_path / "model").predict_proba(X), expected)
    assert sorted(os.listdir(tmp_path / "model")) == ["backbone", "model.json", "model.safetensors"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_under_the_passing_name_is_not_waited_for(saved):
    digest = json.loads((saved / "model.json").read_text())["arrays"]["sha256"]
    os.mkfifo(saved / f"model-{digest[:16]}.safetensors")
    assert L2RCLIPClassifier.load(saved).predict(np.ones((1, fault_saves.WIDTH))).shape == (1,)


@pytest.mark.skipif(os.name == "nt", reason="modes and working directories of Unix")
def test_an_empty_folder_is_filled_and_stays_what_it_is(models, tmp_path, monkeypatch):
    (tmp_path / "private").mkdir()
    os.chmod(tmp_path / "private", 0o2700)
    inode = (tmp_path / "private").stat().st_ino
    monkeypatch.chdir(tmp_path / "private")
    models[0].save(".")
    assert sorted(os.listdir(".")) == ["model.json", "model.safetensors"]
    assert fault_saves.outcome(tmp_path / "private", {fault_saves.digest(models[0])}) == "as saved"
    status = (tmp_path / "private").stat()
    assert (status.st_ino, stat.S_IMODE(status.st_mode)) == (inode, 0o2700)


@pytest.mark.skipif(not hasattr(os, "fork") or os.getuid() != 0, reason="only root can become somebody else")
def test_the_folder_above_need_not_be_writable(models, tmp_path):
    for path in (tmp_path, *tmp_path.parents):
        if path != path.parent and path.stat().st_uid == 0 and "pytest" in str(path):
            os.chmod(path, 0o755)
    (tmp_path / "mine").mkdir()
    os.chown(tmp_path / "mine", 65534, 65534)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            for model in models:
                model.save(tmp_path / "mine")
            try:
                models[0].save(tmp_path / "other")
            except PermissionError as error:
                code = 0 if f"no permission to write into this folder: '{tmp_path}'" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fault_saves.outcome(tmp_path / "mine", {fault_saves.digest(models[1])}) == "as saved"


def test_files_that_only_look_like_leftovers_stay(fitted_classifier, tmp_path):
    classifier = fitted_classifier(prompt_epochs=1)
    classifier.save(tmp_path / "model", include_backbone=True)
    (tmp_path / "model" / "backbone" / "NOTES.txt").write_text("from Monday's training")
    (tmp_path / "model" / ("model-" + "0" * 16 + ".safetensors")).write_text("mine")
    classifier.save(tmp_path / "model")
    assert (tmp_path / "model" / "backbone" / "NOTES.txt").read_text() == "from Monday's training"
    assert os.listdir(tmp_path / "model" / "backbone") == ["NOTES.txt"]
    assert (tmp_path / "model" / ("model-" + "0" * 16 + ".safetensors")).read_text() == "mine"


def test_nothing_is_said_of_random_weights_where_there_are_others(fitted_classifier, shades, tmp_path, caplog):
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model", include_backbone=True)
    unload_backbones()
    with caplog.at_level("WARNING"):
        L2RCLIPClassifier.load(tmp_path / "model").predict(shades[0])
    assert "initialized randomly" not in caplog.text


def test_a_backbone_inside_that_has_lost_its_weights_is_said_to_have(fitted_classifier, shades, tmp_path):
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model", include_backbone=True)
    (tmp_path / "model" / "backbone" / "open_clip_model.safetensors").unlink()
    unload_backbones()
    with pytest.raises(MissingBackboneError, match="its folder holds no weights"):
        L2RCLIPClassifier.load(tmp_path / "model").predict(shades[0])


# ------------------------------------------------------------- for others to read


def test_files_that_belong_to_a_model_are_named_once_it_is_checked(models, tmp_path):
    models[0].save(tmp_path / "bare")
    models[0].save(tmp_path / "whole", include_backbone=True)
    assert needed_files(tmp_path / "bare") == (["model.safetensors"], None)
    files, inside = needed_files(tmp_path / "whole")
    assert inside == "backbone"
    written = {path.relative_to(tmp_path / "whole").as_posix() for path in (tmp_path / "whole").rglob("*.*")}
    assert {*files, "model.json"} == written
    assert all(map(is_of_a_model, written))
    others = [
        "README.md",
        "model.pkl",
        "model-old.safetensors",
        "backbone",
        "backbone/x.py",
        "a/model.json",
        "backbone/a/b",
    ]
    assert [name for name in others if is_of_a_model(name)] == []
    (tmp_path / "bare" / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged or is not a saved model"):
        needed_files(tmp_path / "bare")


@pytest.mark.parametrize(
    ("named", "known"),
    [
        (("local-dir:/home/me/clip", None), ("local-dir:clip", None)),
        (("local-dir:clip/", None), ("local-dir:clip", None)),
        (("ViT-B-32", "/home/me/weights.pt"), ("ViT-B-32", "weights.pt")),
        (("ViT-B-32", "openai"), ("ViT-B-32", "openai")),
        (("hf-hub:someone/clip", None), ("hf-hub:someone/clip", None)),
        (("skl2rclip-tiny", None), ("skl2rclip-tiny", None)),
    ],
)
def test_places_of_this_machine_are_left_out(models, named, known):
    state = models[0]._state
    here = dataclasses.replace(state, asked_for=named)
    parameters = {**models[0].get_params(), "model_name": named[0], "pretrained": named[1], "embedding_cache": "/cache"}
    there, shown = without_places(here, {**parameters, "checkpoint_dir": "/runs"})
    assert (shown["model_name"], shown["pretrained"]) == there.asked_for == known
    assert (there.record.source.model_name, there.record.source.pretrained) == known
    assert shown["embedding_cache"] is shown["checkpoint_dir"] is None
