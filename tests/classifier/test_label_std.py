"""Labels that are known to be off by so much, and images that only validate."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.model_selection import GridSearchCV

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip.errors import UnreadableImagesError

# ----------------------------------------------------------------- label_std


@pytest.mark.parametrize("unit", [1, 10])
def test_label_std_is_in_the_unit_of_the_labels(make_classifier, shades, unit):
    X, y = shades
    std = np.where(np.arange(40) % 3 == 0, 2.0, 0.1)
    reference = make_classifier().fit(X, y, label_std=std)
    scaled = make_classifier(ranks=list(range(0, 5 * unit, unit)), rank_names=[str(k) for k in range(5)])
    scaled.fit(X, y * unit, label_std=std * unit)
    assert scaled.label_noise_ == pytest.approx(unit * reference.label_noise_)
    np.testing.assert_allclose(scaled.predict_proba(X), reference.predict_proba(X), atol=1e-4)


def test_without_doubt_nothing_changes(make_classifier, fitted_classifier, shades):
    X, y = shades
    plain, certain = fitted_classifier(), make_classifier().fit(X, y, label_std=np.zeros(40))
    np.testing.assert_allclose(certain.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    doubtful = make_classifier().fit(X, y, label_std=np.where(y == 4, 3.0, 0.0))
    assert np.abs(doubtful.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3


def test_marks_that_are_far_off_hurt_less_when_it_is_known(make_classifier, shades):
    X, y = shades
    rng = np.random.default_rng(3)
    std = np.where(np.arange(40) % 2 == 0, 0.1, 3.0)
    marked = np.clip(np.rint(y + std * rng.standard_normal(40)), 0, 4).astype(int)
    errors = [
        np.abs(make_classifier(ranks=range(5)).fit(X, marked, label_std=known).predict_expectation(X) - y).mean()
        for known in (None, std)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_label_std_goes_along_with_images_that_are_left_out_and_with_a_search(make_classifier, shade_paths, shades):
    X, y, std = [*shade_paths, "missing.png"], [*shades[1], 4], np.linspace(0, 2, 41)
    with pytest.warns(UserWarning, match="leaves images out"):
        skipped = make_classifier(on_bad_image="skip").fit(X, y, label_std=std)
    direct = make_classifier().fit(X[:-1], y[:-1], label_std=std[:-1])
    np.testing.assert_array_equal(skipped.predict_proba(X[:-1]), direct.predict_proba(X[:-1]))
    search = GridSearchCV(make_classifier(), {"prompt_epochs": [1, 2]}, cv=2).fit(X[:-1], y[:-1], label_std=std[:-1])
    assert search.best_score_ > 0.5


@pytest.mark.parametrize(
    ("std", "message"),
    [
        ([1.0] * 39, r"label_std.shape == \(39,\), expected \(40,\)"),
        ([1.0] * 39 + [-1.0], "label_std must not be negative, infinite or missing, got -1.0 at index 39"),
        ([1.0] * 39 + [None], "got nan at index 39"),
        (["a"] * 40, "label_std must hold numbers"),
        (np.full(40, 1j), "label_std must hold numbers: complex128"),
        (np.ma.array([1.0] * 40, mask=[0] * 7 + [1] * 33), "got nan at index 7"),
        (np.array([1] * 40, dtype="m8[D]"), r"label_std must hold numbers: timedelta64\[D\]"),
    ],
)
def test_unusable_label_std_is_named(make_classifier, shades, std, message):
    with pytest.raises(ValueError, match=message):
        make_classifier().fit(*shades, label_std=std)


class OnlyAnArrayLike:
    """Becomes an array, and answers none of NumPy's functions before."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"{function.__name__} is not for this array-like")


@pytest.mark.parametrize("name", ["label_std", "sample_weight"])
def test_numbers_for_each_image_may_be_any_array_like(make_classifier, shades, name):
    numbers = np.linspace(0.5, 2, 40)
    expected = make_classifier().fit(*shades, **{name: numbers}).predict_proba(shades[0])
    for values in (OnlyAnArrayLike(numbers), list(numbers), pd.Series(numbers, index=range(40, 80))):
        classifier = make_classifier().fit(*shades, **{name: values})
        np.testing.assert_array_equal(classifier.predict_proba(shades[0]), expected)


@pytest.mark.parametrize("std", [np.full(40, 1e160), np.repeat([0.1, 1e200], 20), np.repeat([1e-200, 1e20], 20)])
def test_labels_that_say_nothing_say_no_less_where_they_are_off_by_more(make_classifier, shades, recwarn, std):
    settings = {"batch_size": 2, "prompt_epochs": 1}
    classifier = make_classifier(**settings).fit(*shades, label_std=std)
    assert np.isfinite(classifier.predict_proba(shades[0])).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    less = make_classifier(**settings).fit(*shades, label_std=np.minimum(std, 1e6))
    np.testing.assert_array_equal(classifier.predict_proba(shades[0]), less.predict_proba(shades[0]))


def test_hard_targets_have_no_use_for_label_std(make_classifier, shades):
    with pytest.raises(ValueError, match="label_std belongs to soft targets"):
        make_classifier(rank_targets="hard").fit(*shades, label_std=np.ones(40))


# -------------------------------------------------------------- X_val, y_val


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
@pytest.mark.parametrize("rank_targets", ["soft", "hard"])
def test_own_images_are_watched_and_not_learned_from(make_classifier, shades, image_tower, rank_targets):
    X, y = shades
    settings = {"image_tower": image_tower, "rank_targets": rank_targets, "early_stopping": True}
    classifier = make_classifier(**settings).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    name = "validation_rps" if rank_targets == "soft" else "validation_mae"
    scores = [record[name] for record in classifier.history_]
    p = classifier.predict_proba(X[30:])
    ranked = ((p.cumsum(axis=1) - (np.arange(5) >= y[30:, None])) ** 2).sum(axis=1).mean()
    if rank_targets == "soft":
        assert ranked <= min(scores) + 1e-3  # the start counts as well
    else:
        assert np.abs(classifier.predict(X[30:]) - y[30:]).mean() == pytest.approx(min(scores))
    # what watches does not teach: other labels for it leave the targets as they are
    other = make_classifier(**settings).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:][::-1])
    plain = make_classifier(**{**settings, "early_stopping": False}).fit(X[:30], y[:30])
    if rank_targets == "soft":
        assert other.label_noise_ == classifier.label_noise_ == plain.label_noise_
    assert [r["loss"] for r in other.history_][:2] == [r["loss"] for r in plain.history_][:2]


def test_own_images_go_with_groups_weights_and_label_std(make_classifier, shade_paths, shades):
    y, n = shades[1], 30
    parts = {
        "sample_weight": np.where(np.arange(n) < 2, 0.0, 1.0),
        "groups": np.arange(n) // 2,
        "label_std": np.ones(n),
    }
    classifier = make_classifier(early_stopping=True).fit(
        shade_paths[:n], y[:n], **parts, X_val=pd.Series(shade_paths[n:]), y_val=pd.Series(y[n:])
    )
    assert "validation_rps" in classifier.history_[0]


def test_embeddings_of_own_images(make_classifier, tiny, shades):
    X, y = shades
    Z = CLIPImageEncoder(tiny, device="cpu").fit().transform(X)
    classifier = make_classifier(image_tower="precomputed", early_stopping=True)
    classifier.fit(Z[:30], y[:30], X_val=Z[30:], y_val=y[30:])
    images = make_classifier(early_stopping=True, image_features="embedding").fit(
        X[:30], y[:30], X_val=X[30:], y_val=y[30:]
    )
    np.testing.assert_allclose(classifier.predict_proba(Z), images.predict_proba(X), atol=1e-4)
    with pytest.raises(ValueError, match=r"X_val has 3 features, but X has 24: make X_val as X"):
        classifier.fit(Z[:30], y[:30], X_val=Z[30:, :3], y_val=y[30:])
    table = pd.DataFrame(Z).rename(columns="e{}".format)
    with pytest.raises(ValueError, match=r"X_val must have the columns of X in the same order: .* 'e23' where .* 'e0'"):
        classifier.fit(table[:30], y[:30], X_val=table.iloc[30:, ::-1], y_val=y[30:])
    classifier.fit(table[:30], y[:30], X_val=table[30:], y_val=y[30:])
    with pytest.raises(ValueError, match=r"must have the columns of X .* 'b' where X has 'a'"):
        make_classifier(early_stopping=True).fit(
            pd.DataFrame({"a": [*X[:30]]}), y[:30], X_val=pd.DataFrame({"b": [*X[30:]]}), y_val=y[30:]
        )


def test_unusable_own_images_are_named_before_anything_is_loaded(make_classifier, shade_paths, shades, tmp_path):
    y, classifier = shades[1], make_classifier(early_stopping=True)
    with pytest.raises(ValueError, match="X_val is given without y_val"):
        classifier.fit(shade_paths, y, X_val=shade_paths)
    with pytest.raises(ValueError, match="y_val is given without X_val"):
        classifier.fit(shade_paths, y, y_val=y)
    with pytest.raises(ValueError, match="nothing watches it: set early_stopping=True"):
        make_classifier().fit(shade_paths, y, X_val=shade_paths, y_val=y)
    with pytest.raises(ValueError, match="3 images in X_val and 2 labels in y_val"):
        classifier.fit(shade_paths, y, X_val=shade_paths[:3], y_val=y[:2])
    with pytest.raises(ValueError, match="y_val contains labels that are not among the ranks: \\[7\\]"):
        classifier.fit(shade_paths, y, X_val=shade_paths[:1], y_val=[7])
    with pytest.raises(ValueError, match=r"The ranks are \[0, 1, 2, 3, 4\]\. Add what is missing to ranks=\[...\]\.$"):
        classifier.fit(shade_paths, y, X_val=shade_paths[:1], y_val=[7])
    with pytest.raises(ValueError, match="Input y_val contains NaN"):
        classifier.fit(shade_paths, y, X_val=shade_paths[:1], y_val=[np.nan])
    with pytest.raises(ValueError, match=r"\(X_val is empty\)"):
        classifier.fit(shade_paths, y, X_val=[], y_val=[])
    with pytest.raises(TypeError, match="X_val must be a sequence of images"):
        classifier.fit(shade_paths, y, X_val=3, y_val=[1])
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    bad, good = str(tmp_path / "bad.png"), str(tmp_path / "good.png")
    with pytest.raises(
        UnreadableImagesError, match=r"1 image of 2 cannot be read:\n  X_val\[1\] (.|\n)*find_unreadable\(X_val"
    ) as caught:
        classifier.fit(shade_paths, y, X_val=[good, bad], y_val=[0, 1])
    assert list(caught.value.failures) == [1]
    skipping = make_classifier(early_stopping=True, on_bad_image="skip")
    with pytest.warns(UserWarning, match=r"X_val\[1\]"):
        skipping.fit(shade_paths, y, X_val=[good, bad], y_val=[0, 1])
    with pytest.raises(UnreadableImagesError, match="No image is left to validate with"):
        skipping.fit(shade_paths, y, X_val=[bad], y_val=[1])


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (None, "X_val must be a sequence of images"),
        (Image.new("L", (4, 4)), "X_val must be a sequence of images, got a single Image"),
        ([], "X_val is empty"),
        (np.zeros((4, 5)), "X_val must hold images, got a table"),
        ([Image.new("L", (4, 4)), None], r"X_val\[1\] must be a path"),
        (["https://host/X/a.png"], r"X_val\[0\] is an address, 'https://host/X/a.png'"),
        ([np.zeros((4, 4, 7), np.uint8)], r"X_val\[0\] must have shape"),
        ([np.ones((4, 4)), np.full((4, 4), 200.0)], r"X_val\[1\]: its values go from 200 to 200 instead of 0 to 1"),
    ],
)
def test_what_is_no_image_among_own_images_is_named_as_one_of_them(make_classifier, shade_paths, shades, others, said):
    y_val = np.zeros(0 if others is None or isinstance(others, Image.Image) else len(others), int)
    X_val = 3 if others is None else others
    with pytest.raises((TypeError, ValueError), match=said):
        make_classifier(early_stopping=True).fit(shade_paths, shades[1], X_val=X_val, y_val=y_val)


@pytest.mark.parametrize("image_tower", ["frozen", "finetune"])
def test_what_is_warned_of_among_own_images_is_said_of_them(make_classifier, shade_paths, shades, image_tower):
    classifier = make_classifier(early_stopping=True, image_tower=image_tower)
    with pytest.warns(UserWarning, match="transparent") as told:
        classifier.fit(
            [np.zeros((9, 9), np.uint8), *shade_paths],
            [0, *shades[1]],
            sample_weight=[0.0] + [1.0] * len(shade_paths),
            X_val=[shade_paths[0], Image.new("RGBA", (9, 9))],
            y_val=[0, 2],
        )
    said = [str(each.message) for each in told]
    assert any(each.startswith("X_val[1]: transparent throughout") for each in said)
    assert not any(each.startswith("X[") for each in said)


def test_parameters_of_fit_can_be_routed():
    assert {"label_std", "X_val", "y_val"} <= set(L2RCLIPClassifier().get_metadata_routing().fit.requests)
