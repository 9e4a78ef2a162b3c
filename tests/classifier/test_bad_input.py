"""What is refused, by name and before any long work, and what a fit leaves behind that ends early."""

import copy
import gc
import inspect
import os

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skl2rclip import L2RCLIPClassifier
from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import InvalidParameterError, NonFiniteLossError, UnreadableImagesError
from tests.support.small_models import CONFIGS, write_model


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"blend_ratio": 1.5}, r"blend_ratio must be in \[0, 1\], got 1.5"),
        ({"blend_ratio": "0.1"}, r"blend_ratio must be in \[0, 1\], got '0.1'"),
        ({"pairwise_weight": -1}, r"pairwise_weight must be in \[0, inf\), got -1"),
        ({"contrastive_weight": np.nan}, "contrastive_weight"),
        ({"tightness_weight": np.inf}, "tightness_weight"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, inf\), got 0.0"),
        ({"image_learning_rate": True}, "image_learning_rate"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \(0, 1\), got 1.0"),
        ({"n_context_tokens": -1}, "n_context_tokens must be an integer of at least 0, or 'auto', got -1"),
        ({"n_context_tokens": "all"}, "n_context_tokens must be an integer of at least 0, or 'auto', got 'all'"),
        ({"n_context_tokens": 4.0}, "n_context_tokens must be an integer"),
        ({"rankformer_layers": -1}, "rankformer_layers"),
        ({"prompt_epochs": 1.5}, "prompt_epochs"),
        ({"prompt_epochs": "all"}, "prompt_epochs must be an integer of at least 0, or 'auto', got 'all'"),
        ({"rank_targets": "smooth"}, "rank_targets must be one of 'soft', 'hard', got 'smooth'"),
        ({"text_ordering_weight": -1}, "text_ordering_weight"),
        ({"image_epochs": -1}, "image_epochs"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, or 'auto', got 0"),
        ({"n_iter_no_change": 0}, "n_iter_no_change"),
        ({"image_tower": "tuned"}, "image_tower must be one of 'finetune', 'frozen', 'precomputed', got 'tuned'"),
        ({"image_adapter": "conv"}, "image_adapter must be one of 'auto', 'linear', 'mlp', None, got 'conv'"),
        ({"rank_position": "end"}, "rank_position"),
        ({"decision": "mode"}, "decision must be one of 'argmax', 'mean', 'median', got 'mode'"),
        ({"precision": "float16"}, "precision"),
        ({"on_bad_image": "ignore"}, "on_bad_image"),
        ({"tune_ranks": 1}, "tune_ranks must be True or False, got 1"),
        ({"augment": "yes"}, "augment"),
        ({"early_stopping": None}, "early_stopping"),
        ({"warm_start": 0}, "warm_start"),
        ({"compile": "auto"}, "compile"),
        ({"prompt": None}, "prompt must be a string, got None"),
        ({"model_name": 3}, "model_name must be a string"),
        ({"model_name": "ViT-B-15"}, "model_name must be a name from open_clip"),
        ({"model_name": "ViT-B-16", "pretrained": "nowhere"}, "pretrained must be a tag of ViT-B-16"),
        ({"pretrained": 1}, "pretrained must be"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu'"),
        ({"device": 0}, "device must be a string, or a list of strings, got 0"),
        ({"device": ["cpu", 1]}, "device: each entry of a list must be a string, got 1"),
        ({"max_memory": "lots"}, "max_memory must be None, a positive number of bytes"),
        ({"max_memory": 0}, "max_memory"),
        ({"max_memory": 1.5}, "max_memory"),
        ({"checkpoint_dir": 5}, "checkpoint_dir must be None or a folder"),
        ({"n_jobs": 0}, "n_jobs must be None or a non-zero integer"),
        ({"random_state": "seed"}, "random_state must be None, an integer"),
        ({"verbose": -1}, "verbose"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict"),
        ({"class_weight": {9: 1.0}}, "class_weight names 9, which is not a label"),
        ({"class_weight": {1: -2.0}}, r"class_weight\[1\] must be in"),
        ({"ranks": [1, 2, 1]}, "ranks must not repeat a label"),
        ({"rank_names": ["one"]}, "rank_names must hold one name for each of the 5 ranks"),
        ({"n_context_tokens": 75}, r"longest prompt has 78 tokens: 1 start of text \+ 75 context tokens"),
    ],
)
def test_bad_parameters_are_named_before_any_long_work(make_classifier, shades, monkeypatch, parameters, message):
    monkeypatch.setattr("skl2rclip._training.trainer.load_backbone", lambda source: pytest.fail("too late"))
    with pytest.raises(InvalidParameterError, match=message):
        make_classifier(**parameters).fit(*shades)


def test_parameters_are_only_stored_before_fit():
    parameters = {name: object() for name in inspect.signature(L2RCLIPClassifier).parameters}
    assert len(parameters) == 45
    classifier = L2RCLIPClassifier(**parameters)
    assert vars(classifier) == parameters


def test_lengths_must_agree(make_classifier, shades):
    with pytest.raises(ValueError, match="inconsistent numbers of samples: 40 images in X and 39 labels in y"):
        make_classifier().fit(shades[0], shades[1][1:])


@pytest.mark.parametrize("missing", [None, np.nan, np.inf])
def test_missing_labels_are_refused(make_classifier, shades, missing):
    y = [missing, *shades[1][1:].tolist()]
    with pytest.raises(ValueError, match=r"Input y contains NaN or (None|infinity) \(index 0\)"):
        make_classifier().fit(shades[0], y)


@pytest.fixture
def partly_bad(shade_paths, tmp_path):
    """Forty paths of which three cannot be read."""
    paths = list(shade_paths)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("words")
    paths[4], paths[9], paths[17] = str(tmp_path / "none.png"), str(tmp_path / "empty.png"), str(tmp_path / "text.png")
    return paths


def test_unreadable_images_stop_fit_before_any_long_work(make_classifier, partly_bad, shades, monkeypatch):
    monkeypatch.setattr("skl2rclip._training.trainer.load_backbone", lambda source: pytest.fail("too late"))
    with pytest.raises(UnreadableImagesError, match="3 images of 40 cannot be read") as caught:
        make_classifier().fit(partly_bad, shades[1])
    assert list(caught.value.failures) == [4, 9, 17]
    assert f"X[9] ({partly_bad[9]}): the file is empty" in str(caught.value)


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_images_that_are_cut_off_are_all_named_and_can_be_skipped(
    make_classifier, shade_paths, shades, tmp_path, image_tower
):
    paths = list(shade_paths)
    for i in (3, 30):  # their headers are fine
        paths[i] = str(tmp_path / f"{i}.png")
        with open(shade_paths[i], "rb") as whole, open(paths[i], "wb") as part:
            part.write(whole.read()[:-3000])
    with pytest.raises(UnreadableImagesError, match="2 images of 40 cannot be read") as caught:
        make_classifier(image_tower=image_tower).fit(paths, shades[1])
    assert list(caught.value.failures) == [3, 30]
    with pytest.warns(UserWarning, match="2 images of 40"):
        skipped = make_classifier(image_tower=image_tower, on_bad_image="skip").fit(paths, shades[1])
    good = np.setdiff1d(np.arange(40), [3, 30])
    without = make_classifier(image_tower=image_tower).fit([paths[i] for i in good], shades[1][good])
    np.testing.assert_allclose(skipped.prototypes_, without.prototypes_, atol=1e-6)


def test_nothing_is_believed_of_images_that_no_stage_reads(zero_shot, partly_bad, shades):
    with pytest.raises(UnreadableImagesError, match="3 images of 40"):
        zero_shot().fit(partly_bad, shades[1])


def test_bad_images_can_be_skipped_with_one_warning(make_classifier, partly_bad, shades):
    good = np.setdiff1d(np.arange(40), [4, 9, 17])
    with pytest.warns(UserWarning, match="leaves images out: 3 images of 40 cannot be read") as caught:
        skipped = make_classifier(on_bad_image="skip").fit(partly_bad, shades[1])
    assert len(caught) == 1
    without = make_classifier().fit([partly_bad[i] for i in good], shades[1][good])
    np.testing.assert_array_equal(skipped.prototypes_, without.prototypes_)
    with pytest.raises(UnreadableImagesError):  # no label can be made up for what cannot be read
        skipped.predict(partly_bad)
    with pytest.raises(UnreadableImagesError, match="2 images of 2"):
        make_classifier(on_bad_image="skip").fit([partly_bad[4], partly_bad[9]], [0, 1])


def test_indices_of_bad_images_count_those_of_weight_zero(make_classifier, partly_bad, shades):
    weight = np.ones(40)
    weight[:5] = 0  # of which the bad image 4 is then no matter
    with pytest.raises(UnreadableImagesError, match=r"X\[9\]") as caught:
        make_classifier().fit(partly_bad, shades[1], sample_weight=weight)
    assert list(caught.value.failures) == [9, 17]


def test_an_infinite_loss_names_epoch_term_and_learning_rate(make_classifier, shades):
    classifier = make_classifier(learning_rate=1e30, image_adapter=None, rank_targets="hard")
    with pytest.raises(NonFiniteLossError, match=r"in epoch 2 \(stage 'prompts'\): the contrastive .*1e\+30.*Lower"):
        classifier.fit(*shades)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_fit_leaves_the_fitted_estimator_as_it_was(
    make_classifier, fitted_classifier, shades, monkeypatch, error
):
    classifier = fitted_classifier(image_tower="finetune")
    before, attributes = classifier.predict_proba(shades[0]), copy.deepcopy(vars(classifier))

    def interrupted(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("skl2rclip._training.early_stopping.EarlyStopping.update", interrupted)
        with pytest.raises(error):
            classifier.set_params(early_stopping=True).fit(shades[0], 4 - shades[1])
    classifier.set_params(early_stopping=False)
    assert set(vars(classifier)) == set(attributes)
    np.testing.assert_array_equal(classifier.predict_proba(shades[0]), before)
    unfitted = make_classifier(early_stopping=True)
    with monkeypatch.context() as patch:
        patch.setattr("skl2rclip._training.early_stopping.EarlyStopping.update", interrupted)
        with pytest.raises(error):
            unfitted.fit(*shades)
    for predict in (unfitted.predict, unfitted.predict_interval, unfitted.predict_expectation):
        with pytest.raises(NotFittedError):
            predict(shades[0])


def test_random_weights_are_warned_about_once_and_seeded(tmp_path, make_classifier, shades):
    name = write_model(tmp_path / "m", CONFIGS["clip"], weights=False)
    with pytest.warns(UserWarning, match="random weights: nothing that CLIP has learned") as caught:
        first = make_classifier(model_name=name, pretrained=None).fit(*shades)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="random weights"):
        second = make_classifier(model_name=name, pretrained=None, random_state=1).fit(*shades)
    assert not np.array_equal(first.prototypes_, second.prototypes_)


def test_warnings_point_at_the_callers_line():
    with pytest.warns(UserWarning, match="look here") as caught:
        warn_user("look here")
    assert caught[0].filename == __file__


def test_checkpoints_are_models_that_load(make_classifier, shades, tmp_path):
    classifier = make_classifier(checkpoint_dir=tmp_path / "runs").fit(*shades)
    make_classifier(checkpoint_dir=str(tmp_path / "runs"), prompt_epochs=1).fit(*shades)
    folders = sorted(os.listdir(tmp_path / "runs"))
    assert len(folders) == 2  # one for each fit: they do not collide
    by_length = {loaded.n_iter_: loaded for loaded in map(L2RCLIPClassifier.load, (tmp_path / "runs").iterdir())}
    np.testing.assert_array_equal(by_length[3].predict_proba(shades[0]), classifier.predict_proba(shades[0]))


def test_many_fits_do_not_pile_up_memory(make_classifier, shades):
    def modules_alive():
        gc.collect()
        return sum(issubclass(type(thing), torch.nn.Module) for thing in gc.get_objects())

    classifier = make_classifier(image_tower="finetune", prompt_epochs=1, image_epochs=1)
    classifier.fit(*shades)
    before = modules_alive()
    for _ in range(3):
        classifier.fit(*shades)
    assert modules_alive() <= before
