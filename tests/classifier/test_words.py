"""What CLIP knows of the ranks by their names: how much of it a fit keeps, and models of it alone."""

import numpy as np
import pytest
from scipy.special import softmax

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.errors import InvalidParameterError

# of a size whose brightness the embedded CLIP can name
LEVELS = np.arange(0, 21, 2)
PROMPT = "a photo with brightness level"


@pytest.fixture(scope="module")
def photographs():
    """Embeddings of grey images with texture, darker and brighter, and their levels."""
    import rendering

    rng = np.random.default_rng(0)
    y = np.repeat(LEVELS, 6)
    images = np.stack([rendering.render("brightness", int(level), rng) for level in y])
    return CLIPImageEncoder("skl2rclip-tiny", device="cpu").fit_transform(images), y


def classifier(**parameters):
    settings = {"ranks": LEVELS, "prompt": PROMPT, "image_tower": "precomputed", "random_state": 0, **parameters}
    return L2RCLIPClassifier("skl2rclip-tiny", **settings)


def error(model, photographs, rows=slice(None)):
    Z, y = photographs
    return np.abs(model.predict(Z[rows]) - y[rows]).mean()


@pytest.fixture(scope="module")
def zero_shot():
    return classifier().fit_zero_shot()


def test_words_alone_make_a_model(zero_shot, photographs):
    assert error(zero_shot, photographs) < 2
    assert zero_shot.zero_shot_share_ == 1
    assert zero_shot.n_iter_ == 0
    assert zero_shot.prompt_ == PROMPT + " {}"
    assert not hasattr(zero_shot, "label_noise_")
    np.testing.assert_array_equal(zero_shot.classes_, LEVELS)


@pytest.mark.parametrize("parameters", [{"image_adapter": None}, {"rank_targets": "hard"}, {"n_context_tokens": 2}])
def test_words_say_the_same_whatever_the_fit_would_do(zero_shot, photographs, parameters):
    model = classifier(**parameters).fit_zero_shot()
    np.testing.assert_allclose(model.predict_proba(photographs[0]), zero_shot.predict_proba(photographs[0]), atol=1e-6)
    np.testing.assert_array_equal(model.prototypes_, zero_shot.prototypes_)


def test_a_model_of_words_is_saved(zero_shot, photographs, tmp_path):
    zero_shot.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(photographs[0]), zero_shot.predict_proba(photographs[0]))
    assert loaded.prompt_ == zero_shot.prompt_


def test_words_alone_need_ranks():
    with pytest.raises(ValueError, match=r"fit_zero_shot sees no labels: list them with ranks="):
        classifier(ranks=None).fit_zero_shot()


def test_a_prompt_that_does_not_fit_is_not_cut_in_silence():
    with pytest.raises(ValueError, match=r"prompt has 40 tokens, .* takes \d+: shorten the prompt"):
        classifier(prompt="blur " * 40).fit_zero_shot()


def test_few_images_of_known_words_leave_the_words_in(zero_shot, photographs):
    Z, y = photographs
    model = classifier(warm_start=True).fit_zero_shot().fit(Z[::6], y[::6])
    alone = classifier(zero_shot_share=0).fit(Z[::6], y[::6])
    assert model.zero_shot_share_ > 0.5
    assert error(model, photographs) < error(alone, photographs)
    assert error(model, photographs) < 1.1 * error(zero_shot, photographs)


def test_words_that_mean_nothing_are_left_out(photographs):
    Z, y = photographs
    names = "onion trumpet velvet canyon pepper lizard anchor ribbon magnet turnip violin".split()
    model = classifier(rank_names=names, prompt="something").fit(Z[::3], y[::3])
    assert model.zero_shot_share_ < 0.1


@pytest.mark.parametrize("parameters", [{"image_adapter": None}, {"rank_targets": "hard"}])
def test_without_images_left_out_nothing_is_kept_of_the_words(photographs, parameters):
    Z, y = photographs
    assert classifier(prompt_epochs=1, **parameters).fit(Z[::3], y[::3]).zero_shot_share_ == 0
    assert classifier().partial_fit(Z[::3], y[::3]).zero_shot_share_ == 0


def test_log_probabilities_are_mixed_as_documented(zero_shot, photographs):
    Z, y = photographs
    alone = classifier(zero_shot_share=0, prompt_epochs=2).fit(Z[::3], y[::3])
    mixed = classifier(zero_shot_share=0.3, prompt_epochs=2).fit(Z[::3], y[::3])
    expected = 0.7 * alone.decision_function(Z) + 0.3 * zero_shot.decision_function(Z)
    np.testing.assert_allclose(mixed.predict_proba(Z), softmax(expected, axis=1), atol=1e-5)
    # the adapted embeddings and their prototypes are as ever
    np.testing.assert_array_equal(mixed.transform(Z), alone.transform(Z))
    np.testing.assert_array_equal(mixed.prototypes_, alone.prototypes_)


def test_the_share_goes_on_with_training_and_through_a_saved_folder(photographs, tmp_path):
    Z, y = photographs
    model = classifier(warm_start=True, prompt_epochs=2).fit(Z[::6], y[::6])
    share = model.zero_shot_share_
    assert model.fit(Z, y).zero_shot_share_ == share
    assert model.partial_fit(Z, y).zero_shot_share_ == share
    model.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    assert loaded.zero_shot_share_ == share
    np.testing.assert_array_equal(loaded.predict_proba(Z), model.predict_proba(Z))


@pytest.mark.parametrize("share", [-0.1, 1.5, "most", None])
def test_shares_that_cannot_be_are_refused(photographs, share):
    with pytest.raises(ValueError, match="zero_shot_share must be"):
        classifier(zero_shot_share=share).fit(*photographs)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_trained_tower_reads_the_words_too(make_classifier, shades, share):
    X, y = shades
    frozen = make_classifier(zero_shot_share=share, rank_targets="hard").fit(X, y)
    tuned = make_classifier(zero_shot_share=share, rank_targets="hard", image_tower="finetune").fit(X, y)
    state, scale = tuned._state, tuned._state.logit_scale
    [(_, embeddings)] = state._of_tower(list(X), tuned._settings())
    words = scale * embeddings @ state.arrays["zero_shot"]["prototypes"].T
    own = scale * tuned.transform(X) @ tuned.prototypes_.T
    np.testing.assert_allclose(tuned.decision_function(X), (1 - share) * own + share * words, atol=1e-4)
    # what trains the tower is the mixture: with the words alone it is they that fit the images better
    assert tuned.history_[-1]["contrastive"] < tuned.history_[-2]["contrastive"]
    assert np.abs(tuned.decision_function(X) - frozen.decision_function(X)).max() > 1e-3


def test_two_images_decide_little_of_the_share(photographs):
    Z, y = photographs
    model = classifier(ranks=[0, 20], rank_names=["onion", "trumpet"], prompt="something").fit(Z[[0, -1]], y[[0, -1]])
    assert model.zero_shot_share_ == pytest.approx(0.19, abs=0.01)


def test_after_words_alone_partial_fit_starts_anew(photographs):
    Z, y = photographs
    model = classifier(ranks=[0, 20]).fit_zero_shot().set_params(ranks=LEVELS)
    assert model.partial_fit(Z, y).ranks_.tolist() == LEVELS.tolist()


def test_words_that_cannot_be_told_apart_are_warned_of():
    with pytest.warns(UserWarning, match="names of the same tokens"):
        classifier(ranks=[0, 1], rank_names=["a", "A"]).fit_zero_shot()


def test_a_share_is_said_as_it_was_given(photographs):
    assert classifier(zero_shot_share=0.3, prompt_epochs=1).fit(*photographs).zero_shot_share_ == 0.3


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"ranks": ["a", "b", "\udce9"]}, r"The label '\\udce9' holds halves of characters.*encoding.*rank_names"),
        ({"rank_names": ["a", "b", "\udce9"]}, r"rank_names: the name of 2, '\\udce9' holds halves of characters"),
        ({"prompt": "a caf\udce9"}, r"prompt='a caf\\udce9' holds halves of characters"),
    ],
)
def test_broken_text_is_said_to_be(make_classifier, parameters, match):
    labels = parameters.get("ranks", [0, 1, 2])
    with pytest.raises(InvalidParameterError, match=match):
        make_classifier(**parameters).fit([np.zeros((8, 8, 3), np.uint8)] * 3, labels)
