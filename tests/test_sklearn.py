"""The estimators inside scikit-learn's own machinery, and its own checks of estimators."""

import copy
import shutil
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from tests.support.small_images import shaded_images
from tests.support.small_models import CONFIGS, write_model

# what scikit-learn asks of every classifier, and this one cannot hold
EXPECTED_FAILURES = {
    "check_classifiers_classes": "its labels are words, and words have no order of their own",
    "check_class_weight_classifiers": "wants a weight to win against the contrast of texts with images, in which each "
    "rank counts the same",
    "check_sample_weight_equivalence_on_dense_data": "its tolerance is that of float64; for float32 the same "
    "check is in test_classifier.py",
}


@pytest.mark.parametrize("estimator", [L2RCLIPClassifier(), CLIPImageEncoder()], ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore")
def test_check_estimator_runs_what_it_has_for_images(estimator):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert results
    assert not [result for result in results if result["status"] == "failed"]


class OnTables(L2RCLIPClassifier):
    """The classifier on embeddings, over a small CLIP that is made as wide as the table that it is given."""

    def fit(self, X, y, sample_weight=None):
        self._make_model(X)
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        self._make_model(X)
        return super().partial_fit(X, y, classes, sample_weight)

    def _make_model(self, X):
        """Let the name of the model lead to the one of this width."""
        link, shape = Path(self.model_name.removeprefix("local-dir:")), np.asarray(X).shape
        width = shape[1] if len(shape) == 2 and shape[1] else 24
        folder = link.parent / f"width-{width}"
        if not folder.exists():
            write_model(folder, {**CONFIGS["clip"], "embed_dim": width})
        if link.is_symlink() or link.is_file():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        try:
            link.symlink_to(folder, target_is_directory=True)
        except OSError:  # Windows asks for a right
            shutil.copytree(folder, link)


@pytest.fixture(scope="module")
def models_by_width(tmp_path_factory):
    return tmp_path_factory.mktemp("widths")


@pytest.fixture
def on_tables(models_by_width):
    return OnTables(
        f"local-dir:{models_by_width / 'model'}",
        image_tower="precomputed",
        # the checks want the likeliest class, and their three clouds in two dimensions lie along no line
        decision="argmax",
        rank_targets="hard",
        image_adapter="linear",
        pairwise_weight=1.0,
        tightness_weight=1.0,
        prompt_epochs=6,
        learning_rate=3e-2,
        batch_size=64,
        n_context_tokens=2,
        random_state=0,
        device="cpu",
    )


@pytest.mark.filterwarnings("ignore")
def test_check_estimator_holds_for_the_classifier_of_embeddings(on_tables):
    results = check_estimator(on_tables, expected_failed_checks=EXPECTED_FAILURES, on_skip=None)
    names = {result["check_name"] for result in results}
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(EXPECTED_FAILURES)
    assert {"check_classifiers_train", "check_transformer_preserve_dtypes", "check_n_features_in"} <= names


class RowsAsImages(CLIPImageEncoder):
    """The encoder, which takes the bytes of each row of a table for a small image."""

    def fit(self, X, y=None):
        super().fit()
        validate_data(self, X, dtype=np.float32)
        return self

    def transform(self, X):
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float32, reset=False)
        images = [np.resize(row, (8, 8)).view(np.uint8) for row in rows]
        return self._inside().transform(pd.Series(images, index=X.index if isinstance(X, pd.DataFrame) else None))

    def _inside(self):
        """Return the same without what is known of the table."""
        inside = copy.copy(self)
        inside.__class__ = CLIPImageEncoder
        for name in {"n_features_in_", "feature_names_in_"} & set(vars(inside)):
            delattr(inside, name)
        return inside

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        return tags


@pytest.mark.filterwarnings("ignore")
def test_check_estimator_holds_for_the_encoder(tiny):
    results = check_estimator(RowsAsImages(tiny, device="cpu"), on_skip=None)
    names = {result["check_name"] for result in results}
    assert {"check_transformer_general", "check_transformer_preserve_dtypes", "check_n_features_in"} <= names


# what scikit-learn asks of its own estimators beyond check_estimator
MORE_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_estimators_overwrite_params",
    "check_global_output_transform_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


@pytest.mark.parametrize("kind", ["classifier", "encoder"])
@pytest.mark.parametrize("name", MORE_CHECKS)
@pytest.mark.filterwarnings("ignore")
def test_what_scikit_learn_asks_of_its_own_transformers(on_tables, tiny, kind, name):
    estimator = on_tables if kind == "classifier" else RowsAsImages(tiny, device="cpu")
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


# ------------------------------------------------------- pipelines and searches


@pytest.fixture
def images(shade_paths, shades):
    return np.array(shade_paths), shades[1]


def test_tags(make_classifier):
    tags = get_tags(make_classifier())
    assert is_classifier(make_classifier())
    assert tags.input_tags.one_d_array
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.target_tags.required
    assert get_tags(make_classifier(image_tower="precomputed")).input_tags.two_d_array
    assert get_tags(CLIPImageEncoder()).input_tags.string


def test_pipeline(make_classifier, images, tiny):
    X, y = images
    pipeline = Pipeline(
        [
            ("encoder", CLIPImageEncoder(tiny, image_features="both").set_output(transform="pandas")),
            ("classifier", make_classifier(image_tower="precomputed")),
        ]
    )
    pipeline.fit(X, y)
    np.testing.assert_allclose(
        pipeline.predict_proba(X), make_classifier(image_tower="frozen").fit(X, y).predict_proba(X), atol=1e-5
    )
    probe = make_pipeline(CLIPImageEncoder(tiny), LogisticRegression(max_iter=1000)).fit(X, y)
    assert probe.score(X, y) > 0.5


def test_transform_feeds_other_models(make_classifier, images):
    X, y = images
    fitted = make_classifier().fit(X, y)
    assert fitted.transform(X).shape == (40, 24)
    assert fitted.fit(X, y).transform(X).dtype == np.float32


def test_transform_is_whole(make_classifier, images):
    X, y = images
    classifier = make_classifier(prompt_epochs=1)
    array = classifier.fit_transform(X, y)
    names = [f"l2rclipclassifier{i}" for i in range(24)]
    assert classifier.get_feature_names_out().tolist() == names
    frame = pd.DataFrame({"path": X}, index=np.arange(40)[::-1])
    as_frame = clone(classifier).set_output(transform="pandas").fit_transform(frame, y)
    assert as_frame.columns.tolist() == names
    assert as_frame.index.tolist() == frame.index.tolist()
    np.testing.assert_array_equal(as_frame.to_numpy(), array)
    probe = make_pipeline(classifier, LogisticRegression(max_iter=1000)).set_output(transform="pandas").fit(X, y)
    assert probe[-1].feature_names_in_.tolist() == names


def test_encoder_in_a_pipeline_and_beside_other_columns(images, tiny):
    X, y = images
    frame = pd.DataFrame({"path": X, "width": np.arange(40.0), "label": y}, index=np.arange(40)[::-1])
    embeddings = CLIPImageEncoder(tiny).fit_transform(X)
    names = [f"image__embedding__{i}" for i in range(24)]
    for column in ("path", ["path"]):
        both = ColumnTransformer([("image", CLIPImageEncoder(tiny), column), ("rest", StandardScaler(), ["width"])])
        made = both.set_output(transform="pandas").fit_transform(frame)
        assert made.columns.tolist() == [*names, "rest__width"] == both.get_feature_names_out().tolist()
        assert made.index.tolist() == frame.index.tolist()
        np.testing.assert_array_equal(made[names].to_numpy(), embeddings)
        assert make_pipeline(both, LogisticRegression(max_iter=1000)).fit(frame, y).predict(frame).shape == (40,)
    pipeline = make_pipeline(CLIPImageEncoder(tiny), PCA(2)).set_output(transform="pandas").fit(X.tolist())
    assert pipeline.transform(X.tolist()).columns.tolist() == pipeline.get_feature_names_out().tolist()
    assert pipeline[-1].feature_names_in_[0] == "embedding__0"


def test_a_pipeline_that_lacks_precomputed_says_so(make_classifier, images, tiny):
    X, y = images
    fitted = make_classifier(prompt_epochs=1).fit(X, y)
    for encoder in (CLIPImageEncoder(tiny), CLIPImageEncoder(tiny).set_output(transform="pandas")):
        with pytest.raises(ValueError, match=r"table of numbers of shape \(40, 24\).*set image_tower='precomputed'"):
            make_pipeline(encoder, make_classifier()).fit(X, y)
        with pytest.raises(ValueError, match="set image_tower='precomputed'"):
            fitted.predict(encoder.fit_transform(X))


def test_embeddings_of_another_model_are_noticed(make_classifier, images, tiny, tmp_path):
    X, y = images
    other = write_model(tmp_path / "other", CONFIGS["clip"], seed=1)  # as wide, with other weights
    own, foreign = (CLIPImageEncoder(name).set_output(transform="pandas").fit_transform(X) for name in (tiny, other))
    classifier = make_classifier(image_tower="precomputed", prompt_epochs=1)
    with pytest.raises(ValueError, match=f"X holds embeddings of another model than {tiny}"):
        classifier.fit(foreign, y)
    classifier.fit(own, y)
    for table in (foreign, foreign.iloc[3:5]):
        with pytest.raises(ValueError, match="X holds embeddings of another model"):
            classifier.predict(table)
    assert classifier.predict(own.iloc[3:5]).shape == (2,)
    assert cross_val_score(classifier, own, y, cv=2, error_score="raise").shape == (2,)
    with pytest.raises(ValueError, match="X has 23 features"):
        classifier.predict(own.to_numpy()[:, :23])


@pytest.mark.parametrize("kind", ["classifier", "encoder"])
def test_a_column_of_images_is_one_feature(make_classifier, images, tiny, kind):
    X, y = images

    def fitted(data):
        return (make_classifier(prompt_epochs=1) if kind == "classifier" else CLIPImageEncoder(tiny)).fit(data, y)

    frame = pd.DataFrame({"path": X})
    of_frame, of_array, of_row = fitted(frame), fitted(X[:, None]), fitted(X)
    assert of_frame.n_features_in_ == of_array.n_features_in_ == 1
    assert of_frame.feature_names_in_.tolist() == ["path"]
    assert not hasattr(of_array, "feature_names_in_")
    for data in (X, X.tolist(), frame["path"]):
        assert not hasattr(fitted(data), "n_features_in_")
    with pytest.raises(ValueError, match="feature names should match"):
        of_frame.transform(frame.rename(columns={"path": "file"}))
    expected = of_row.transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a row of paths has no names that it could lack
        for estimator, data in ((of_frame, frame), (of_frame, X), (of_array, X[:, None]), (of_row, frame)):
            np.testing.assert_array_equal(estimator.transform(data), expected)
    of_frame.fit(X, y)
    assert not hasattr(of_frame, "n_features_in_")
    assert not hasattr(of_frame, "feature_names_in_")


def test_a_column_and_a_table_may_stand_for_each_other(make_classifier, images, tiny, tmp_path):
    X, y = images
    frame = pd.DataFrame({"path": X})
    Z = CLIPImageEncoder(tiny, image_features="both").set_output(transform="pandas").fit_transform(frame)
    make_classifier(prompt_epochs=1).fit(frame, y).save(tmp_path / "model")
    of_images = L2RCLIPClassifier.load(tmp_path / "model")
    assert of_images.feature_names_in_.tolist() == ["path"]
    expected = of_images.predict_proba(frame)
    of_images.set_params(image_tower="precomputed")
    np.testing.assert_allclose(of_images.predict_proba(Z), expected, atol=1e-5)
    of_table = make_classifier(image_tower="precomputed", prompt_epochs=1).fit(Z, y)
    assert of_table.n_features_in_ == 184
    np.testing.assert_allclose(of_table.set_params(image_tower="frozen").predict_proba(frame), expected, atol=1e-5)


def test_cross_validation(make_classifier, images):
    X, y = images
    scores = cross_val_score(make_classifier(), X, y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()
    result = cross_validate(make_classifier(), X.tolist(), y, cv=2, scoring=["neg_log_loss", "neg_mean_absolute_error"])
    assert np.isfinite(result["test_neg_log_loss"]).all()


# ------------------------------------------------- labels that others have numbered

NAMES = ["void", "dim", "mild", "light", "blank"]
AGES = {3: "three", 20: "twenty", 25: "twenty five", 60: "sixty", 90: "ninety"}


def probabilities_by_folds(classifier, X, y):
    return cross_val_predict(classifier, X, y, cv=KFold(2), method="predict_proba")


# each numbers the labels in sorted order, and says so nowhere
NUMBERING = {
    "cross_val_predict": probabilities_by_folds,
    "VotingClassifier": lambda c, X, y: VotingClassifier([("c", c)], voting="soft").fit(X, y).predict_proba(X),
    "VotingClassifier (hard)": lambda c, X, y: VotingClassifier([("a", c), ("b", clone(c))]).fit(X, y).predict(X),
    "BaggingClassifier": lambda c, X, y: BaggingClassifier(c, 2, random_state=0).fit(X[:, None], y).predict(X[:, None]),
    "StackingClassifier": lambda c, X, y: StackingClassifier([("c", c)], cv=2).fit(X, y).predict_proba(X),
    "OneVsRestClassifier": lambda c, X, y: OneVsRestClassifier(c).fit(X, y).predict(X),
    "CalibratedClassifierCV": lambda c, X, y: (
        CalibratedClassifierCV(c, cv=2, ensemble=False).fit(X, y).predict_proba(X)
    ),
}


@pytest.mark.parametrize("who", list(NUMBERING))
def test_who_numbers_the_labels_gets_the_same_error(make_classifier, images, who):
    X, y = images
    words, ages = np.array(NAMES)[y], np.array(list(AGES))[y]
    for parameters, labels in (({"ranks": NAMES}, words), ({"ranks": list(AGES)}, ages), ({"rank_names": AGES}, ages)):
        with pytest.raises(ValueError, match=rf"{who.split()[0]}.* by the numbers 0, 1, .* neither words nor ranks"):
            NUMBERING[who](make_classifier(**parameters), X, labels)


@pytest.mark.parametrize("who", list(NUMBERING))
def test_what_the_error_advises_works(make_classifier, images, who):
    X, y = images[0][:20], images[1][:20]
    result = NUMBERING[who](make_classifier(rank_names=dict(enumerate(NAMES)), prompt_epochs=1), X, y)
    assert len(result) == len(y)
    if result.ndim == 2:
        np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)
    else:
        assert set(result) <= set(range(5))


@pytest.mark.parametrize("who", list(NUMBERING))
def test_what_the_error_advises_works_for_ages(make_classifier, images, who):
    X, y = images[0][:20], np.array(list(AGES))[images[1][:20]]
    ages = np.unique(y)
    classifier = make_classifier(rank_names={i: str(age) for i, age in enumerate(ages)}, prompt_epochs=1)
    result = NUMBERING[who](classifier, X, np.searchsorted(ages, y))
    if result.ndim == 2:
        np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)
    else:
        assert set(ages[result]) <= set(AGES)


@pytest.mark.parametrize("who", list(NUMBERING))
def test_ages_in_their_own_order_work_with_whoever_numbers_them(make_classifier, images, who):
    X, y = images[0][:20], np.array(list(AGES))[images[1][:20]]
    result = NUMBERING[who](make_classifier(prompt_epochs=1), X, y)
    if result.ndim == 2:
        np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)
    else:
        assert set(result) <= set(AGES)


def test_what_the_error_advises_is_what_one_gets_by_hand(make_classifier, images):
    X, y = images
    classifier = make_classifier(rank_names=dict(enumerate(NAMES)))
    probabilities = NUMBERING["cross_val_predict"](classifier, X, y)
    for train, test in KFold(2).split(X):
        by_hand = clone(classifier).fit(X[train], y[train])
        np.testing.assert_allclose(probabilities[test], by_hand.predict_proba(X[test]), atol=1e-6)
    # columns are in the order that these two take for granted
    assert log_loss(y, probabilities) < np.log(5)
    assert roc_auc_score(y, probabilities, multi_class="ovr") > 0.5
    voted = NUMBERING["VotingClassifier"](classifier, X, y)
    np.testing.assert_allclose(voted, clone(classifier).fit(X, y).predict_proba(X), atol=1e-6)
    assert not np.allclose(voted, make_classifier().fit(X, y).predict_proba(X), atol=1e-3)  # the words have arrived


def test_words_stay_where_nobody_numbers_them(make_classifier, images):
    X, y = images
    words, classifier = np.array(NAMES)[y], make_classifier(ranks=NAMES, prompt_epochs=1)
    assert set(cross_val_predict(classifier, X, words, cv=2)) <= set(NAMES)
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(X, words)  # one model a fold, on the labels as they are
    assert calibrated.classes_.tolist() == sorted(NAMES)
    assert set(calibrated.predict(X)) <= set(NAMES)
    ages = np.array(list(AGES))[y]
    calibrated = CalibratedClassifierCV(make_classifier(ranks=list(AGES), prompt_epochs=1), cv=2).fit(X, ages)
    assert set(calibrated.predict(X)) <= set(AGES)


def own_scorer(estimator, X, y):
    return estimator.score(X, y)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_with_a_scorer_of_ones_own_gives_the_same_whoever_calls(make_classifier, images, n_jobs):
    X, y = images[0][:20], images[1][:20]
    grid = {"blend_ratio": [0.1, 0.3]}

    def search(**parameters):
        return GridSearchCV(
            make_classifier(prompt_epochs=1, **parameters), grid, scoring=own_scorer, cv=2, error_score="raise"
        )

    settings = {"cv": KFold(2), "method": "predict_proba", "n_jobs": n_jobs}
    by_hand = search(rank_names=dict(enumerate(NAMES)))
    with joblib.parallel_config(backend="threading"):
        probabilities = cross_val_predict(by_hand, X, y, **settings)
        with pytest.raises(ValueError, match="replace the labels by the numbers"):
            cross_val_predict(search(ranks=NAMES), X, np.array(NAMES)[y], **settings)
    for train, test in KFold(2).split(X):
        expected = clone(by_hand).fit(X[train], y[train]).predict_proba(X[test])
        np.testing.assert_allclose(probabilities[test], expected, atol=1e-6)


def test_a_numbering_that_y_cannot_show_is_taken_at_its_word(make_classifier, images):
    """Ages without `ranks`: documented, and nothing is guessed from who calls."""
    X, y = images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbered = probabilities_by_folds(make_classifier(prompt_epochs=1), X, np.array(list(AGES))[y])
    np.testing.assert_array_equal(numbered, probabilities_by_folds(make_classifier(prompt_epochs=1), X, y))


def test_folds_that_lack_a_rank(make_classifier, images):
    X, y = images
    predicted = cross_val_predict(
        make_classifier(ranks=range(5), prompt_epochs=1), X, np.sort(y), cv=KFold(5)
    )  # a rank a fold
    assert predicted.shape == (40,)
    probabilities = cross_val_predict(
        make_classifier(ranks=range(5), prompt_epochs=1), X, np.sort(y), cv=KFold(5), method="predict_proba"
    )
    assert probabilities.shape == (40, 5)


def test_calibration_of_a_fitted_model(make_classifier, images):
    X, y = images
    fitted = make_classifier(prompt_epochs=20).fit(X, y)
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted), method="sigmoid").fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.predict(X).shape == (40,)


def test_learning_curve(make_classifier, images):
    X, y = images
    _, train, test = learning_curve(
        make_classifier(ranks=range(5)), X, y, train_sizes=[0.5, 1.0], cv=StratifiedKFold(2), shuffle=True,
        random_state=0, error_score="raise",
    )  # fmt: skip
    assert train.shape == test.shape == (2, 2)


def test_sample_weight_is_routed(make_classifier, images):
    X, y = images
    weight = np.where(np.arange(40) % 2, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = make_classifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_val_score(classifier, X, y, cv=2, params={"sample_weight": weight}, error_score="raise")
    expected = []
    for train, test in StratifiedKFold(2).split(X, y):
        by_hand = make_classifier().fit(X[train], y[train], sample_weight=weight[train])
        expected.append(by_hand.score(X[test], y[test], weight[test]))
    np.testing.assert_allclose(scores, expected)


class Noting(L2RCLIPClassifier):
    """Keeps what `fit` was given."""

    def fit(self, X, y, sample_weight=None, groups=None):
        super().fit(X, y, sample_weight, groups)
        self.given_ = {"X": X, "sample_weight": sample_weight, "groups": groups}
        return self


def test_weights_and_groups_are_routed_through_pipelines_and_searches(make_classifier, images, tiny):
    X, y = images
    weight, groups = np.linspace(1, 2, 40), np.arange(40) // 5
    classifier = Noting(**make_classifier(image_tower="precomputed", prompt_epochs=1).get_params())
    with sklearn.config_context(enable_metadata_routing=True):
        classifier.set_fit_request(sample_weight=True, groups=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(CLIPImageEncoder(tiny), classifier)
        fitted = pipeline.fit(X, y, sample_weight=weight, groups=groups)
        np.testing.assert_array_equal(fitted[-1].given_["groups"], groups)
        params = {"sample_weight": weight, "groups": groups}
        search = GridSearchCV(pipeline, {"noting__blend_ratio": [0.1, 0.3]}, cv=GroupKFold(2), error_score="raise")
        search.fit(X, y, **params)
        np.testing.assert_array_equal(search.best_estimator_[-1].given_["sample_weight"], weight)
        result = cross_validate(
            pipeline, X, y, cv=GroupKFold(2), params=params, return_estimator=True, error_score="raise"
        )
    for (train, test), part, score in zip(
        GroupKFold(2).split(X, y, groups), result["estimator"], result["test_score"], strict=True
    ):
        np.testing.assert_array_equal(part[-1].given_["groups"], groups[train])
        np.testing.assert_array_equal(part[-1].given_["sample_weight"], weight[train])
        assert score == pytest.approx(np.average(part.predict(X[test]) == y[test], weights=weight[test]))


@pytest.mark.parametrize("params", [None, {"groups": np.arange(40) // 5}])
def test_groups_of_a_split_reach_the_fits_where_params_name_them_too(make_classifier, params):
    Z, groups = np.random.default_rng(0).normal(size=(40, 24)), np.arange(40) // 5
    classifier = Noting(**make_classifier(image_tower="precomputed", prompt_epochs=0).get_params())
    how = {"groups": groups, "cv": GroupKFold(2), "return_estimator": True, "error_score": "raise"}
    result = cross_validate(classifier, Z, np.tile(np.arange(5), 8), **how, params=params)
    for (train, _), fitted in zip(GroupKFold(2).split(Z, groups=groups), result["estimator"], strict=True):
        if params is None:
            assert fitted.given_["groups"] is None
        else:
            np.testing.assert_array_equal(fitted.given_["groups"], groups[train])


def test_threads_of_a_search_give_what_one_gives(make_classifier, images, tiny):
    X, y = images
    pipeline = make_pipeline(CLIPImageEncoder(tiny), make_classifier(image_tower="precomputed", prompt_epochs=1))
    scoring = {"cv": 3, "scoring": "neg_log_loss", "error_score": "raise"}
    alone = cross_validate(pipeline, X, y, **scoring)["test_score"]
    with joblib.parallel_config(backend="threading"):
        np.testing.assert_allclose(cross_validate(pipeline, X, y, n_jobs=3, **scoring)["test_score"], alone)


def test_frames_and_series_of_paths(make_classifier, images):
    X, y = images
    expected = make_classifier().fit(X, y).predict_proba(X)
    frame = pd.DataFrame({"path": X, "label": y}, index=np.arange(40)[::-1])
    for paths in (frame["path"], frame[["path"]]):
        np.testing.assert_array_equal(make_classifier().fit(paths, frame["label"]).predict_proba(paths), expected)


def test_unseen_images_of_arrays(make_classifier, shades):
    fitted = make_classifier().fit(*shades)
    assert fitted.predict(shaded_images([0, 4], seed=5)).shape == (2,)
