"""What is read of images, on tables whose blocks show the rank or do not."""

import logging

import numpy as np
import pandas as pd
import pytest

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._clip.backbone import Backbone, unload_backbones
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._ordinal.features import FeatureBlocks
from skl2rclip._settings import Settings
from skl2rclip._training.feature_selection import candidates_of
from skl2rclip._utils.arguments import FINGERPRINT_ATTRIBUTE
from skl2rclip.errors import InvalidParameterError
from tests.support.learners import settings_of

N, WIDTH = 60, 24
Y = np.tile(np.arange(5), N // 5)


def table_of(embedding=0.0, others=0.0, seed=0, name="other", n_others=40):
    """Embeddings and other columns that show the rank so much."""
    rng = np.random.default_rng(seed)
    Z, more = rng.normal(size=(N, WIDTH)), rng.normal(size=(N, n_others))
    Z[:, 0] += embedding * Y
    more[:, 0] += others * Y
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    names = [*(f"embedding__{i}" for i in range(WIDTH)), *(f"{name}__{i}" for i in range(n_others))]
    return pd.DataFrame(np.hstack([Z, more]).astype(np.float32), columns=names)


@pytest.fixture
def make_precomputed(make_classifier):
    return lambda **parameters: make_classifier(image_tower="precomputed", prompt_epochs=2, **parameters)


@pytest.mark.parametrize(
    ("embedding", "others", "expected"), [(3, 0, "embedding"), (0, 8, "both"), (0, 0, "embedding")]
)
def test_more_than_the_embedding_is_read_where_that_surely_is_better(
    make_precomputed, caplog, embedding, others, expected
):
    caplog.set_level(logging.INFO, logger="skl2rclip")
    fitted = make_precomputed().fit(table_of(embedding, others), Y)
    assert fitted.image_features_ == expected
    assert f"taken: features '{expected}', adapter '{fitted.image_adapter_}', 1 views" in caplog.text
    assert fitted.transform(table_of(embedding, others)).shape == (N, WIDTH)
    if embedding or others:
        assert np.abs(fitted.predict(table_of(embedding, others, seed=1)) - Y).mean() < 0.75


@pytest.mark.parametrize("features", ["embedding", "tower", "both"])
@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_what_is_named_is_read(make_precomputed, features, adapter, tmp_path):
    X = table_of(8, 8)
    fitted = make_precomputed(image_features=features, image_adapter=adapter).fit(X, Y)
    assert (fitted.image_features_, fitted.image_adapter_) == (features, adapter)
    changed = X.copy()
    changed.iloc[:, WIDTH:] += 1
    # not to the last bit: products of tables of another layout may round otherwise
    same = np.allclose(fitted.predict_proba(X), fitted.predict_proba(changed), rtol=0, atol=1e-6)
    assert same == (features == "embedding")
    fitted.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert (loaded.image_features_, loaded.image_adapter_) == (features, adapter)


def test_candidates_are_what_the_parameters_leave_open():
    blocks = FeatureBlocks((("embedding", WIDTH), ("pooled", 4)), 0)

    def candidates(blocks=blocks, **parameters) -> list[tuple[str, str]]:
        settings: Settings = settings_of(**parameters)
        return candidates_of(settings, blocks)

    pairs = [("embedding", "mlp"), ("both", "linear"), ("both", "mlp")]
    assert candidates() == pairs
    assert candidates(image_features="tower") == [("tower", "linear"), ("tower", "mlp")]
    assert candidates(image_adapter="mlp") == [("embedding", "mlp"), ("both", "mlp")]
    assert candidates(image_adapter=None) == [("embedding", "mlp")]
    assert candidates(FeatureBlocks.of_embeddings(WIDTH)) == pairs[:1]
    assert candidates(FeatureBlocks((("dino", 7),), None)) == pairs[1:]


@pytest.mark.parametrize("n_columns", [1, 7, 100])
def test_a_table_of_any_width_will_do(make_precomputed, n_columns):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, n_columns)) * 1000
    X[:, 0] += 3000 * Y
    fitted = make_precomputed().fit(X, Y)
    assert (fitted.n_features_in_, fitted.image_features_, fitted.zero_shot_share_) == (n_columns, "both", 0)
    assert np.abs(fitted.predict(X) - Y).mean() < 0.6
    assert make_precomputed(zero_shot_share=0.5).fit(X, Y).zero_shot_share_ == 0
    with pytest.raises(ValueError, match=r"fitted on a table of \d+ columns, .*: it cannot read images"):
        fitted.set_params(image_tower="frozen").predict(["a.png"])


def test_a_table_that_says_nothing_predicts_the_middle(make_precomputed):
    X = np.full((N, 7), 3.0)
    assert set(make_precomputed().fit(X, Y).predict(X)) == {2}


def test_a_column_is_read_whatever_stands_beside_it(make_precomputed):
    for X in (np.c_[np.full(N, 1e7), Y], 2_460_000.0 + Y[:, None]):
        assert make_precomputed().fit(X, Y).score(X, Y) > 0.75


def test_columns_of_a_block_need_not_stand_together(make_precomputed):
    X = table_of(2, 2)
    apart = X.iloc[:, [0, *range(WIDTH, X.shape[1]), *range(1, WIDTH)]]
    together, scattered = (make_precomputed(image_features="both").fit(table, Y) for table in (X, apart))
    np.testing.assert_allclose(scattered.predict_proba(apart), together.predict_proba(X), atol=1e-4)
    assert scattered.feature_names_in_.tolist() == apart.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        scattered.predict(X)


def test_embeddings_are_of_length_one_beside_other_columns_too(make_precomputed):
    X = table_of(2, 2)
    longer = X.copy()
    longer.iloc[:, :WIDTH] *= 10
    parameters = {"zero_shot_share": 0.5, "image_features": "embedding"}
    of_both = [make_precomputed(**parameters).fit(table, Y).predict_proba(table) for table in (X, longer)]
    np.testing.assert_allclose(*of_both, atol=1e-4)


def test_names_stay_when_training_goes_on_with_an_array(make_precomputed):
    X = table_of(2, 2)
    fitted = make_precomputed().fit(X, Y)
    with pytest.warns(UserWarning, match="valid feature names"):
        fitted.partial_fit(X.to_numpy(), Y)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(X.iloc[:, ::-1])


def test_a_table_for_a_model_of_images_must_have_its_columns(make_classifier, shades, tiny):
    X, y = shades
    encoder = CLIPImageEncoder(tiny, image_features="both", device="cpu").set_output(transform="pandas")
    table = encoder.fit_transform(X)
    fitted = make_classifier(image_features="both").fit(X, y)
    expected = fitted.predict_proba(X)
    fitted.set_params(image_tower="precomputed")
    np.testing.assert_allclose(fitted.predict_proba(table.add_prefix("clip__")), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"X has the column .* where the fitted model takes 'embedding__0'"):
        fitted.predict(table.iloc[:, ::-1])
    with pytest.raises(ValueError, match=r"X has 24 features, but .* takes 184: make X with .*image_features='both'"):
        fitted.predict(table.iloc[:, :WIDTH])
    prefixed = make_classifier(image_tower="precomputed", image_features="both").fit(table.add_prefix("clip__"), y)
    prefixed.set_params(image_tower="frozen")
    np.testing.assert_allclose(prefixed.predict_proba(X), expected, atol=1e-5)


def test_embeddings_of_another_network_are_features(make_precomputed):
    other = table_of(2, 0).iloc[:, : WIDTH - 4]
    other.attrs[FINGERPRINT_ATTRIBUTE] = "another"
    fitted = make_precomputed().fit(other, Y)
    assert (fitted.image_features_, fitted.zero_shot_share_) == ("both", 0)
    fitted.predict(other)


def test_columns_with_names_and_without_are_refused_before_the_fit(make_precomputed):
    with pytest.raises(TypeError, match="make all of them strings"):
        make_precomputed().fit(pd.DataFrame({0: Y + 0.0, "b": 1.0}), Y)


@pytest.mark.parametrize("features", ["tower", "both"])
def test_nothing_but_the_embedding_is_read_where_nothing_is_trained(make_classifier, shades, features):
    with pytest.raises(InvalidParameterError, match=f"image_features='{features}' cannot be had with prompt_epochs=0"):
        make_classifier(image_features=features, prompt_epochs=0).fit(*shades)
    with pytest.raises(InvalidParameterError, match=f"image_features='{features}' cannot be had with fit_zero_shot"):
        make_classifier(image_features=features, ranks=range(5)).fit_zero_shot()


def test_what_was_chosen_may_be_said_afterwards(make_precomputed):
    X = table_of(0, 8)
    fitted = make_precomputed().fit(X, Y)
    expected = fitted.predict_proba(X)
    fitted.set_params(image_features=fitted.image_features_, image_adapter=fitted.image_adapter_)
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    with pytest.raises(InvalidParameterError, match="image_features='embedding' contradicts"):
        fitted.set_params(image_features="embedding").predict(X)


def test_images_of_which_two_are_there_are_read_by_their_embedding(make_precomputed):
    X = table_of(8, 8)
    assert make_precomputed().fit(X[:2], Y[:2]).image_features_ == "embedding"
    assert make_precomputed().fit(X.to_numpy()[:2, :30], Y[:2]).image_features_ == "both"


def test_weights_and_groups_count_in_the_choice(make_precomputed):
    X = pd.concat([table_of(8, 0), table_of(0, 8, seed=1)])
    y, weight = np.tile(Y, 2), np.repeat([1.0, 0.0], N)
    chosen = [make_precomputed().fit(X, y, sample_weight=each).image_features_ for each in (weight, 1 - weight)]
    assert chosen == ["embedding", "both"]


def test_what_was_chosen_stays_when_training_goes_on(make_precomputed):
    X = table_of(0, 8)
    fitted = make_precomputed(warm_start=True).fit(X, Y)
    before = {name: array.copy() for name, array in fitted._state.arrays["projection"].items()}
    fitted.fit(table_of(8, 0), Y)
    assert fitted.image_features_ == "both"
    fitted.partial_fit(X, Y)
    for name, array in fitted._state.arrays["projection"].items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="features"):
        fitted.fit(X.to_numpy()[:, :30], Y)


@pytest.mark.parametrize(
    ("parameters", "reader"),
    [({"rank_targets": "hard"}, "rank_targets='hard'"), ({"image_adapter": None}, "image_adapter=None")],
)
def test_what_reads_the_embedding_alone_says_so(make_precomputed, shades, make_classifier, parameters, reader):
    X = table_of(8, 8)
    fitted = make_precomputed(**parameters).fit(X, Y)
    assert fitted.image_features_ == "embedding"
    np.testing.assert_allclose(
        fitted.predict_proba(X),
        make_precomputed(**parameters).fit(X.to_numpy()[:, :WIDTH], Y).predict_proba(X.to_numpy()[:, :WIDTH]),
        atol=1e-5,
    )
    for classifier, data in ((make_precomputed, (X, Y)), (make_classifier, shades)):
        with pytest.raises(InvalidParameterError, match=f"image_features='both' cannot be had with {reader}"):
            classifier(image_features="both", **parameters).fit(*data)
    with pytest.raises(ValueError, match=f"{reader} reads the embedding alone, and X holds no embeddings of"):
        make_precomputed(**parameters).fit(X.to_numpy(), Y)


def test_a_first_partial_fit_reads_the_embedding(make_precomputed):
    X = table_of(8, 8)
    assert make_precomputed().partial_fit(X, Y, classes=np.arange(5)).image_features_ == "embedding"
    with pytest.raises(InvalidParameterError, match="image_features='tower' cannot be had with a first partial_fit"):
        make_precomputed(image_features="tower").partial_fit(X, Y, classes=np.arange(5))


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        (slice(0, WIDTH), "both", "image_features='both' cannot be had: X holds nothing but embeddings"),
        (
            slice(WIDTH, None),
            "embedding",
            "image_features='embedding' cannot be had: X holds no embeddings of .*'other'",
        ),
    ],
)
def test_what_a_table_lacks_is_named(make_precomputed, columns, wanted, message):
    with pytest.raises(InvalidParameterError, match=message):
        make_precomputed(image_features=wanted).fit(table_of().iloc[:, columns], Y)


# --------------------------------------------------------------------- images


def test_images_are_read_as_the_encoder_reads_them(make_classifier, shades, tiny):
    X, y = shades
    table = CLIPImageEncoder(tiny, image_features="both", device="cpu").set_output(transform="pandas").fit_transform(X)
    for features in ("tower", "both"):
        of_images = make_classifier(image_features=features).fit(X, y)
        of_table = make_classifier(image_features=features, image_tower="precomputed").fit(table, y)
        np.testing.assert_allclose(of_images.predict_proba(X), of_table.predict_proba(table), atol=1e-5)
        assert of_images.transform(X).shape == (40, WIDTH)


def test_a_search_over_features_passes_each_image_once(make_classifier, shades, monkeypatch):
    passed, of_pixels = [], ImageEncoding.of_pixels
    monkeypatch.setattr(
        ImageEncoding, "of_pixels", lambda self, pixels: passed.append(len(pixels)) or of_pixels(self, pixels)
    )
    X = shades[0] // 2 + 3  # which no other test has embedded
    for features in ("embedding", "both", "tower", "auto"):
        make_classifier(image_features=features, prompt_epochs=1).fit(X[:20], shades[1][:20]).predict(X)
    assert sum(passed) == len(np.unique(X.reshape(40, -1), axis=0))


def test_a_tower_that_cannot_be_read_is_refused_or_gives_its_embedding(make_classifier, shades, monkeypatch):
    def refuse(backbone):
        raise InvalidParameterError("cannot be read")

    monkeypatch.setattr(Backbone, "feature_blocks", property(refuse))
    unload_backbones()  # which know what can be read
    try:
        assert make_classifier().fit(*shades).image_features_ == "embedding"
        with pytest.raises(InvalidParameterError, match="cannot be read"):
            make_classifier(image_features="tower").fit(*shades)
    finally:
        unload_backbones()


@pytest.mark.parametrize("features", ["tower", "both"])
def test_a_trained_tower_gives_the_same_blocks(make_classifier, shades, features, tmp_path):
    parameters = {"image_tower": "finetune", "image_features": features, "early_stopping": True}
    X, y = shades
    fitted = make_classifier(**parameters, n_iter_no_change=9).fit(X, y)
    assert {entry["stage"] for entry in fitted.history_} == {"prompts", "image_tower"}
    frozen = make_classifier(image_features=features, early_stopping=True, n_iter_no_change=9).fit(X, y)
    np.testing.assert_array_equal(
        fitted._state.arrays["projection"]["weight"], frozen._state.arrays["projection"]["weight"]
    )
    fitted.save(tmp_path / "model")
    loaded = L2RCLIPClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(X), fitted.predict_proba(X), atol=1e-6)
    fitted.partial_fit(X, y)
