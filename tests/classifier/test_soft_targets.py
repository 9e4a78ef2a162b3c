"""Soft targets in a fit: what is measured, who is left out together, and labels of any size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from tests.support.small_images import shaded_images


def test_hard_targets_take_the_former_way(make_classifier, shades):
    former = {"rank_targets": "hard", "image_adapter": "linear", "pairwise_weight": 1.0, "tightness_weight": 1.0}
    fitted = make_classifier(**former, batch_size=64).fit(*shades)
    assert not hasattr(fitted, "label_noise_")
    assert fitted.history_[0]["contrastive"] > 0.5  # a cross-entropy
    assert set(fitted._state.arrays["adapter"]) == {"residual.weight", "residual.bias"}
    assert all("cross_fitted_rps" not in entry for entry in fitted.history_)


def test_what_was_measured_is_told_in_the_unit_of_the_labels(make_classifier, shades):
    ranks, decades = (make_classifier().fit(shades[0], y) for y in (shades[1], 1930 + 10 * shades[1]))
    assert decades.label_noise_ == pytest.approx(10 * ranks.label_noise_)
    assert decades.label_trust_ == pytest.approx(ranks.label_trust_)
    assert 0 < ranks.label_noise_ < 1
    assert 0.5 < ranks.label_trust_ < 1


def test_weight_two_equals_the_image_twice_for_soft_targets(make_classifier, shades):
    X, y = shades
    weight = np.where(np.arange(40) % 4 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(40), weight.astype(int))
    weighted = make_classifier(prompt_epochs=1).fit(X, y, sample_weight=weight)
    repeated = make_classifier(prompt_epochs=1).fit(X[twice], y[twice])
    assert weighted.label_noise_ == pytest.approx(repeated.label_noise_, rel=1e-4)
    assert weighted.label_trust_ == pytest.approx(repeated.label_trust_, rel=1e-4)


def test_groups_are_left_out_together_and_held_out_whole(make_classifier, shades):
    X, y = shades
    groups = np.array([f"plant {i % 10}" for i in range(40)])
    alone, grouped = make_classifier().fit(X, y), make_classifier().fit(X, y, groups=groups)
    assert alone.label_noise_ != grouped.label_noise_
    stopped = make_classifier(early_stopping=True, validation_fraction=0.25).fit(X, y, groups=groups)
    assert "validation_rps" in stopped.history_[0]
    with pytest.raises(ValueError, match=r"groups has the shape \(39,\), expected \(40,\)"):
        make_classifier().fit(X, y, groups=groups[1:])
    with pytest.raises(ValueError, match="groups has a missing value at index 2"):
        make_classifier().fit(X, y, groups=["a", "b", None, *["c"] * 37])
    with pytest.raises(ValueError, match="groups has a missing value at index 3"):
        make_classifier().fit(X, y, groups=np.ma.array(groups, mask=np.arange(40) == 3))
    with pytest.raises(ValueError, match=r"groups must hold words or numbers, got \{'plant': 3\} at index 0"):
        make_classifier().fit(X, y, groups=[{"plant": 3}] * 40)
    with pytest.raises(ValueError, match=r"got (nan|inf) at index 5"):
        make_classifier().fit(X, y, np.ma.array(np.ones(40), mask=np.arange(40) == 5))


def test_cross_fitting_may_keep_the_start(make_classifier, shades):
    settings = {"prompt_epochs": 6, "learning_rate": 30.0}
    with_it = make_classifier(**settings).fit(*shades)
    scores = [entry["cross_fitted_rps"] for entry in with_it.history_]
    assert len(scores) == 6
    assert np.abs(with_it.predict_expectation(shades[0]) - shades[1]).mean() < 0.5  # as ridge regression has it


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_a_handful_of_images_will_do(make_classifier, shades, n):
    fitted = make_classifier(ranks=range(5)).fit(shades[0][:n], shades[1][:n])
    assert np.isfinite(fitted.predict_proba(shades[0])).all()
    # what two or three images show is not sure, not even of these
    assert np.abs(fitted.predict(shades[0][:n]) - shades[1][:n]).max() <= 1 or n > 3


@pytest.mark.parametrize("values", [[1, 10, 100, 1000], [1, 2, 5, 10, 20]])
def test_uneven_ranks_of_plain_images_are_told_apart(make_classifier, values):
    y = np.repeat(np.arange(len(values)), 8)
    X, unseen = shaded_images(y * 4 / y.max()), shaded_images(y * 4 / y.max(), seed=5)
    labels = np.array(values)[y]
    soft = make_classifier(prompt_epochs="auto").fit(X, labels)
    former = {"rank_targets": "hard", "image_adapter": "linear", "pairwise_weight": 1.0, "tightness_weight": 1.0}
    hard = make_classifier(prompt_epochs=100, **former).fit(X, labels)
    assert soft.score(unseen, labels) >= hard.score(unseen, labels)


def test_intervals_are_labels_in_rank_order_and_hold_their_coverage(make_classifier, shades):
    names = np.array(["void", "dim", "mild", "light", "blank"])
    fitted = make_classifier(ranks=list(names)).fit(shades[0], names[shades[1]])
    p = fitted.predict_proba(shades[0])[:, np.argsort(np.argsort(names))]  # in rank order
    for coverage in (0.5, 0.8, 0.95):
        intervals = fitted.predict_interval(shades[0], coverage=coverage)
        assert intervals.shape == (40, 2)
        assert intervals.dtype == fitted.classes_.dtype
        low, high = (np.array([list(names).index(name) for name in side]) for side in intervals.T)
        inside = [row[a : b + 1].sum() for row, a, b in zip(p, low, high, strict=True)]
        assert min(inside) >= coverage - 1e-9
        median = np.array([list(names).index(name) for name in fitted.set_params(decision="median").predict(shades[0])])
        assert ((low <= median) & (median <= high)).all()
    with pytest.raises(InvalidParameterError, match=r"coverage must be in \(0, 1\), got 1"):
        fitted.predict_interval(shades[0], coverage=1)


def test_partial_fit_measures_on_what_it_has_not_learned_yet(make_classifier, shades):
    X, y = shades
    classifier = make_classifier().partial_fit(X[:20], y[:20], classes=range(5))
    untrained = make_classifier(prompt_epochs=0, ranks=range(5)).fit(X[:20], y[:20])
    error = untrained.predict_expectation(X[:20]) - y[:20]
    assert classifier.label_noise_ == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    second = classifier.predict_expectation(X[20:]) - y[20:]
    both = np.sqrt((0.5 * np.mean(error**2) + np.mean(second**2)) / 1.5)  # what is older counts half
    assert classifier.partial_fit(X[20:], y[20:]).label_noise_ == pytest.approx(both, rel=1e-4)


def test_partial_fit_learns_whatever_it_began_with(make_classifier, shades):
    """Labels are believed, however little a model that has learned nothing knows of them."""
    X, y = shades[0], shades[1] * 1
    classifier = make_classifier(learning_rate=1e-2)
    for _ in range(60):
        classifier.partial_fit(X, y[::-1], classes=range(5))  # against what the backbone would say
    assert np.abs(classifier.predict(X) - y[::-1]).mean() < 0.5  # the best constant: 1.2


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
@pytest.mark.parametrize("rank_targets", ["soft", "hard"])
def test_large_labels_keep_their_distances(make_classifier, shades, image_tower, rank_targets):
    names = [f"day {k}" for k in range(5)]
    settings = {"image_tower": image_tower, "rank_targets": rank_targets, "rank_names": names, "early_stopping": True}
    small = make_classifier(**settings).fit(*shades)
    for offset in (20240101, 1_700_000_000, 2**52):
        large = make_classifier(**settings).fit(shades[0], shades[1] + offset)
        np.testing.assert_allclose(large.prototypes_, small.prototypes_, atol=1e-4)
        for ours, theirs in zip(large.history_, small.history_, strict=True):
            assert ours["validation_mae"] == pytest.approx(theirs["validation_mae"])


@pytest.mark.parametrize(
    ("steps", "offsets"),
    [([0, 1, 2, 3, 4], [20240101, 10**12, 2**52]), ([0, 1, 2, 7, 30], [10**9, 1e12, 2**52])],
)
@pytest.mark.parametrize(
    "settings",
    [
        {"image_adapter": "linear", "text_ordering_weight": 0.5},
        {"decision": "mean", "early_stopping": True},
        {"rank_targets": "hard"},
    ],
)
def test_large_labels_equal_small_ones_on_embeddings(steps, offsets, settings):
    rng, k = np.random.default_rng(0), np.tile(steps, 6)
    X = rng.normal(size=(30, 128)) + k[:, None] / max(steps) * rng.normal(size=128)

    def fitted(y):
        classifier = L2RCLIPClassifier(
            "skl2rclip-tiny", image_tower="precomputed", prompt_epochs=2, n_context_tokens=4, rank_names=list("abcde"),
            random_state=0, device="cpu", **settings,
        )  # fmt: skip
        return classifier.fit(X, y).partial_fit(X, y)

    small = fitted(k)
    for offset in offsets:
        large = fitted(k + offset)
        np.testing.assert_allclose(large.prototypes_, small.prototypes_, atol=1e-6)
        np.testing.assert_allclose(large.predict_proba(X), small.predict_proba(X), atol=1e-6)
        np.testing.assert_array_equal(large.predict(X) - offset, small.predict(X))
        if "rank_targets" not in settings:
            assert large.label_noise_ == pytest.approx(small.label_noise_)


def test_small_and_large_weights_are_weights(make_classifier, shades):
    weight = np.where(shades[1] > 2, 1.0, 2.0)
    plain = make_classifier().fit(*shades, sample_weight=weight).predict_proba(shades[0])
    for factor in (1e-50, 1e-42, 1e39, 1e300):
        scaled = make_classifier().fit(*shades, sample_weight=factor * weight)
        np.testing.assert_allclose(scaled.predict_proba(shades[0]), plain, atol=1e-4)


def test_small_units_of_labels_change_nothing(make_classifier, shades):
    names = list("abcde")
    ranks = np.array([0, 1, 4, 9, 16.0])
    fits = []
    for scale in (1, 1e-10):
        classifier = make_classifier(rank_names=names, ranks=(scale * ranks).tolist())
        fits.append(classifier.fit(shades[0], (scale * ranks)[shades[1]]))
    assert fits[1].label_noise_ == pytest.approx(1e-10 * fits[0].label_noise_)


def test_where_nothing_can_be_held_out_a_warning_says_so(make_classifier, shades):
    with pytest.warns(UserWarning, match="no image can be held out without taking a rank's last"):
        make_classifier(early_stopping=True).fit(shades[0][:5], shades[1][:5])


def test_copies_are_held_out_together(make_classifier, tiny, shades):
    Z = CLIPImageEncoder(tiny, device="cpu").fit_transform(shades[0])
    three = np.repeat(np.arange(40), 3)
    settings = {"image_tower": "precomputed", "early_stopping": True, "prompt_epochs": 5, "validation_fraction": 0.2}
    copied = make_classifier(**settings).fit(Z[three], shades[1][three])
    named = make_classifier(**settings).fit(Z[three], shades[1][three], groups=three)
    assert copied.history_ == named.history_


@pytest.mark.parametrize("kind", ["content", "object"])
def test_images_in_memory_that_come_several_times_are_taken_for_one(make_classifier, shade_paths, shades, kind):
    three = np.repeat(np.arange(0, 40, 2), 3)
    files = [shade_paths[i] for i in three]
    images = {path: Path(path).read_bytes() if kind == "content" else Image.open(path) for path in set(files)}
    settings = {"early_stopping": True, "prompt_epochs": 2}
    from_files = make_classifier(**settings).fit(files, shades[1][three])
    in_memory = make_classifier(**settings).fit([images[path] for path in files], shades[1][three])
    assert [entry.keys() for entry in in_memory.history_] == [entry.keys() for entry in from_files.history_]
    np.testing.assert_allclose(in_memory.prototypes_, from_files.prototypes_, atol=1e-5)
    assert in_memory.label_noise_ == pytest.approx(from_files.label_noise_)


def test_images_where_embeddings_are_wanted_are_named(make_classifier, shades, shade_paths):
    for X in (shades[0], shade_paths):
        with pytest.raises(ValueError, match="image_tower='precomputed' takes a table of embeddings"):
            make_classifier(image_tower="precomputed").fit(X, shades[1])


def test_partial_fit_refuses_other_ranks(make_classifier, shades):
    classifier = make_classifier(ranks=range(5)).partial_fit(*shades)
    with pytest.raises(ValueError, match=r"ranks=.* contradicts"):
        classifier.set_params(ranks=range(12)).partial_fit(*shades)


def test_damage_behind_headers_is_named_with_the_rest(make_classifier, shade_paths, shades, tmp_path):
    paths = list(shade_paths)
    paths[3] = str(tmp_path / "cut.png")
    with open(shade_paths[3], "rb") as whole, open(paths[3], "wb") as part:
        part.write(whole.read()[:-3000])
    paths[5] = str(tmp_path / "none.png")
    for image_tower in ("frozen", "finetune"):
        with pytest.raises(UnreadableImagesError, match="2 images of 40") as caught:
            make_classifier(image_tower=image_tower).fit(paths, shades[1])
        assert list(caught.value.failures) == [3, 5]
    with pytest.warns(UserWarning, match="2 images of 40") as caught:
        make_classifier(on_bad_image="skip").fit(paths, shades[1])
    assert len(caught) == 1


def test_warm_start_goes_on_from_where_it_was(make_classifier, shades):
    classifier = make_classifier(warm_start=True, prompt_epochs=5, learning_rate=1e-6).fit(*shades)
    before = classifier.predict_proba(shades[0])
    classifier.fit(*shades)
    assert classifier.n_iter_ == 10
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), before, atol=1e-2)
