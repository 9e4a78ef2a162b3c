import copy
import dataclasses
import gc
import json
import os
import pickle
import pickletools
import weakref

import fault_saves
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._model import state
from skl2rclip._model.state import FittedState, _scale_from_json, array_shapes
from skl2rclip.errors import MissingBackboneError
from tests.support.processes import output_of
from tests.support.small_images import NAMES
from tests.support.small_models import CONFIGS, write_model


def round_trip(classifier, way, tmp_path):
    if way == "pickle":
        return pickle.loads(pickle.dumps(classifier))
    if way == "deepcopy":
        return copy.deepcopy(classifier)
    if way == "joblib":
        joblib.dump(classifier, tmp_path / "model.joblib")
        return joblib.load(tmp_path / "model.joblib")
    if way == "joblib, memory-mapped":
        joblib.dump(classifier, tmp_path / "model.joblib")
        return joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    classifier.save(tmp_path / "saved", include_backbone=way == "with backbone")
    return L2RCLIPClassifier.load(tmp_path / "saved")


WAYS = ["pickle", "deepcopy", "joblib", "joblib, memory-mapped", "save", "with backbone"]


@pytest.mark.parametrize("way", WAYS)
def test_what_comes_back_predicts_the_same(case, way, tmp_path):
    classifier, X = case
    unload_backbones()
    again = round_trip(classifier, way, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(again.predict(X), classifier.predict(X))
    assert again.get_params() == classifier.get_params()
    fitted = {name for name in vars(classifier) if name.endswith("_") and not name.startswith("_")}
    assert fitted == {name for name in vars(again) if name.endswith("_") and not name.startswith("_")}
    for name in fitted:
        np.testing.assert_equal(getattr(again, name), getattr(classifier, name))
        assert np.asarray(getattr(again, name)).dtype == np.asarray(getattr(classifier, name)).dtype


@pytest.mark.parametrize("way", WAYS)
def test_training_goes_on_after_the_round_trip(case, way, tmp_path):
    classifier, X = case
    y = classifier.predict(X)
    again = round_trip(classifier, way, tmp_path)
    np.testing.assert_allclose(
        again.partial_fit(X, y).prototypes_, copy.deepcopy(classifier).partial_fit(X, y).prototypes_, atol=1e-6
    )


def test_no_torch_object_is_pickled(case):
    names = [argument for opcode, argument, _ in pickletools.genops(pickle.dumps(case[0])) if isinstance(argument, str)]
    assert "skl2rclip._classifier" in names
    assert not [name for name in names if name.split(".")[0] in ("torch", "open_clip")]


def test_only_what_fitting_changed_is_kept(case):
    classifier, _ = case
    arrays = classifier._state.arrays
    image_tower = classifier.image_tower
    more = ({"tower"} if image_tower == "finetune" else set()) | (
        set() if classifier.image_features_ == "embedding" else {"projection"}
    )
    assert set(arrays) == {"prompts", "adapter", "zero_shot"} | more
    assert max(array.size for array in arrays["prompts"].values()) < 10_000  # no table of 49,408 word embeddings
    size = len(pickle.dumps(classifier))
    assert size < (400_000 if image_tower == "finetune" else 200_000)


def test_clone_is_unfitted_with_the_same_parameters(case):
    copied = clone(case[0])
    assert copied.get_params() == case[0].get_params()
    with pytest.raises(NotFittedError):
        copied.predict(case[1])


def test_a_fine_tuned_model_needs_no_backbone_to_predict(make_classifier, shades, tmp_path):
    name = write_model(tmp_path / "gone", CONFIGS["clip"], seed=3)
    classifier = make_classifier(model_name=name, image_tower="finetune").fit(*shades)
    expected, data = classifier.predict_proba(shades[0]), pickle.dumps(classifier)
    os.rename(tmp_path / "gone", tmp_path / "elsewhere")
    unload_backbones()
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(shades[0]), expected)


def test_a_missing_or_changed_backbone_says_what_to_do(make_classifier, shades, tmp_path):
    name = write_model(tmp_path / "mine", CONFIGS["clip"], seed=3)
    classifier = make_classifier(model_name=name).fit(*shades)
    expected, data = classifier.predict_proba(shades[0]), pickle.dumps(classifier)
    classifier.save(tmp_path / "complete", include_backbone=True)
    os.rename(tmp_path / "mine", tmp_path / "moved")
    unload_backbones()
    again = pickle.loads(data)
    with pytest.raises(MissingBackboneError, match=r"(?s)needs its backbone .*mine.*set_params\(model_name=..."):
        again.predict(shades[0])
    again.set_params(model_name=f"local-dir:{tmp_path / 'moved'}")
    np.testing.assert_array_equal(again.predict_proba(shades[0]), expected)
    complete = L2RCLIPClassifier.load(tmp_path / "complete")
    np.testing.assert_array_equal(complete.predict_proba(shades[0]), expected)
    other = write_model(tmp_path / "other", CONFIGS["clip"], seed=4)
    with pytest.raises(MissingBackboneError, match="is not the one that the model was fitted with"):
        pickle.loads(data).set_params(model_name=other).predict(shades[0])


def test_relative_model_folders_hold_from_any_working_directory(make_classifier, shades, tmp_path, monkeypatch):
    write_model(tmp_path / "mine", CONFIGS["clip"])
    monkeypatch.chdir(tmp_path)
    classifier = make_classifier(model_name="local-dir:mine").fit(*shades)
    data = pickle.dumps(classifier)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    unload_backbones()
    np.testing.assert_array_equal(pickle.loads(data).predict(shades[0]), classifier.predict(shades[0]))


def test_a_model_fitted_on_cuda_predicts_where_there_is_none(fitted_classifier, shades, monkeypatch):
    classifier = fitted_classifier()
    expected = classifier.predict_proba(shades[0])
    classifier.set_params(device="cuda")
    again = pickle.loads(pickle.dumps(classifier))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.warns(UserWarning, match="device='cuda' is not available .* predicting on the CPU"):
        np.testing.assert_array_equal(again.predict_proba(shades[0]), expected)
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        again.fit(*shades)


SECOND_PROCESS = """
import sys, joblib, numpy as np
from skl2rclip import L2RCLIPClassifier
X = np.load("X.npy")
models = [joblib.load(sys.argv[1]), L2RCLIPClassifier.load(sys.argv[2])]
np.savez("P.npz", *(model.predict_proba(X) for model in models))
"""


def test_a_second_process_predicts_the_same(fitted_classifier, shades, tmp_path):
    classifier = fitted_classifier(image_tower="finetune")
    np.save(tmp_path / "X.npy", shades[0])
    joblib.dump(classifier, tmp_path / "model.joblib")
    classifier.save(tmp_path / "folder")
    output_of(SECOND_PROCESS, "model.joblib", "folder", cwd=tmp_path)
    with np.load(tmp_path / "P.npz") as predicted:
        assert len(predicted) == 2
        for probabilities in predicted.values():
            np.testing.assert_allclose(probabilities, classifier.predict_proba(shades[0]), atol=1e-6)


def test_a_fitted_state_is_not_changed_and_comes_back_from_arrays_and_json(case):
    state = case[0]._state
    again = FittedState.from_parts(json.loads(json.dumps(state.to_json())), state.to_arrays())
    assert again.to_json() == state.to_json()
    for name, array in state.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.logit_scale = 1.0


def test_a_saved_place_of_the_rank_must_be_the_prompts(make_classifier, shades):
    def description_of(**parameters):
        state = make_classifier(prompt_epochs=0, **parameters).fit(*shades)._state
        return state.to_json(), state.to_arrays()

    for parameters, wrong in (({}, 3), ({"rank_position": "front"}, 1), ({"prompt": "aged {} or so"}, 4)):
        description, arrays = description_of(**parameters)
        width = arrays["prompts.context"].shape[1]
        assert array_shapes(description, width)
        description["tokens"]["n_before"] = wrong
        with pytest.raises(ValueError, match=f"state.tokens.n_before is {wrong}, and prompt and rank_position say"):
            array_shapes(description, width)


def test_a_saved_count_of_columns_must_be_that_of_the_images(make_classifier, shades):
    for parameters, X, wrong in (({}, shades[0], 2), ({"image_tower": "precomputed"}, np.eye(40, 24), None)):
        state = make_classifier(prompt_epochs=0, **parameters).fit(X, shades[1])._state
        description = {**state.to_json(), "n_columns": wrong}
        with pytest.raises(ValueError, match=f"state.n_columns gives {wrong}"):
            array_shapes(description, state.to_arrays()["prompts.context"].shape[1])


def test_every_kind_of_label_survives(make_classifier, shades, tmp_path):
    X, y = shades
    for labels in (
        np.array(NAMES, dtype=object)[y],
        np.array(NAMES)[y],
        y.astype(np.float32) / 4,
        y.astype(">i2"),
        y > 2,
    ):
        ranks = NAMES if labels.dtype.kind in "OU" else sorted(set(labels.tolist()))
        classifier = make_classifier(ranks=ranks, prompt_epochs=1).fit(X, labels)
        classifier.save(tmp_path / "model")
        loaded = L2RCLIPClassifier.load(tmp_path / "model")
        assert loaded.classes_.dtype == classifier.classes_.dtype
        np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))


def test_labels_that_would_fill_the_memory_are_refused(make_classifier, shades, tmp_path):
    make_classifier(prompt_epochs=1, ranks=NAMES).fit(shades[0], np.array(NAMES)[shades[1]]).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    description["state"]["ranks"] = {"dtype": "<U99999", "labels": [f"l{i}" for i in range(5000)]}
    fault_saves.write_description(tmp_path / "model", description)
    with pytest.raises(ValueError, match=r"state.values gives 5 where the rest of the model has 5000"):
        L2RCLIPClassifier.load(tmp_path / "model")
    with pytest.raises(ValueError, match=r"state.ranks.dtype: 5000 labels of <U99999 take too much memory"):
        _scale_from_json(description["state"])


def test_tokens_that_the_text_tower_does_not_know_are_noticed_before_training(fitted_classifier, shades, tmp_path):
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    description["state"]["tokens"]["start"] = [9_999_999]
    fault_saves.write_description(tmp_path / "model", description)
    with pytest.raises(ValueError, match="hold the token 9999999, and the text tower of its backbone knows 49408"):
        L2RCLIPClassifier.load(tmp_path / "model").partial_fit(*shades)


def test_where_memory_runs_out_in_reading_out_nothing_stays_with_the_error(fitted_classifier, shades, monkeypatch):
    classifier, built = fitted_classifier(), []
    adapter = FittedState.adapter

    def watched(self):
        module = adapter(self)
        built.append(weakref.ref(module))
        return module

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr(FittedState, "adapter", watched)
    monkeypatch.setattr(state, "read", fails)
    with pytest.raises(MemoryError, match="hand over fewer images") as kept:
        classifier.predict(shades[0])
    gc.collect()
    assert len(built) == 1
    assert built[0]() is None
    assert kept.value.__traceback__ is not None  # which notebooks keep
