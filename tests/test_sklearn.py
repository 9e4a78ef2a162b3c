"""The estimators inside scikit-learn's own machinery, and its own checks of estimators."""

import json
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import CONFIGS, shaded_images, write_model
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_estimator

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier

# scikit-learn's checks that need no data; the others bring numeric tables, which are no images
CHECKS_WITHOUT_DATA = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
# those that fit a table, for embeddings. Left out are check_classifiers_classes, which has words for labels and no
# order; check_class_weight_classifiers, which wants a weight to win against the contrast of texts with images, where
# each rank counts the same; and check_sample_weight_equivalence_on_dense_data, whose tolerance is that of float64
# (test_classifier.py has the same check for float32)
CHECKS_WITH_A_TABLE = [
    "check_all_zero_sample_weights_error",
    "check_classifier_data_not_an_array",
    "check_classifiers_one_label",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_regression_target",
    "check_classifiers_train",
    "check_complex_data",
    "check_dataframe_column_names_consistency",
    "check_decision_proba_consistency",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimators_dtypes",
    "check_estimators_empty_data_messages",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_partial_fit_n_features",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_f_contiguous_array_estimator",
    "check_fit1d",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_readonly_memmap_input",
    "check_requires_y_none",
    "check_sample_weights_list",
    "check_sample_weights_not_an_array",
    "check_sample_weights_not_overwritten",
    "check_sample_weights_pandas_series",
    "check_sample_weights_shape",
    "check_supervised_y_2d",
    "check_supervised_y_no_nan",
]


@pytest.mark.parametrize("estimator", [L2RCLIPClassifier(), CLIPImageEncoder()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", CHECKS_WITHOUT_DATA)
def test_scikit_learns_checks_that_need_no_data(estimator, name):
    check = getattr(estimator_checks, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        argument = type(estimator) if name == "check_parameters_default_constructible" else estimator
        try:
            check(type(estimator).__name__, clone(estimator))
        except TypeError:
            check(type(estimator).__name__, argument)


def test_check_estimator_runs_what_it_has_for_such_inputs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(L2RCLIPClassifier(), on_fail=None)
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
        folder, shape = Path(self.model_name.removeprefix("local-dir:")), np.asarray(X).shape
        config = {**CONFIGS["clip"], "embed_dim": shape[1] if len(shape) == 2 and shape[1] else 24}
        written = folder / "open_clip_config.json"
        if not written.exists() or json.loads(written.read_text())["model_cfg"] != config:
            write_model(folder, config)


@pytest.mark.parametrize("name", CHECKS_WITH_A_TABLE)
def test_scikit_learns_checks_of_tables_hold_for_embeddings(name, tmp_path):
    estimator = OnTables(
        f"local-dir:{tmp_path}",
        image_tower="precomputed",
        # the checks want the likeliest class, and their three clouds in two dimensions lie along no line
        decision="argmax",
        rank_targets="hard",
        image_adapter="linear",
        pairwise_weight=1.0,
        tightness_weight=1.0,
        prompt_epochs=60,
        learning_rate=3e-2,
        batch_size=64,
        n_context_tokens=2,
        random_state=0,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, name)("OnTables", estimator)


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
        [("encoder", CLIPImageEncoder(tiny)), ("classifier", make_classifier(image_tower="precomputed"))]
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
        with pytest.raises(ValueError, match=rf"{who}.* by the numbers 0, 1, .* neither words nor ranks"):
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


@pytest.mark.full_ordering  # workers would not know of fewer steps
def test_grid_search_over_prompt_length_and_loss_weights(make_classifier, images):
    X, y = images
    grid = {"n_context_tokens": [3, 4], "pairwise_weight": [0.3, 1.0]}
    search = GridSearchCV(make_classifier(prompt_epochs=2), grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (4,)
    assert search.best_params_["n_context_tokens"] in (3, 4)
    assert search.predict(X).shape == (40,)
    alone = GridSearchCV(make_classifier(prompt_epochs=2), grid, cv=2, error_score="raise").fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


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


def test_threads_and_processes_of_joblib(make_classifier, images):
    X, y = images
    fitted = make_classifier().fit(X, y)
    expected = fitted.predict_proba(X)
    for backend in ("threading", "loky"):
        parts = joblib.Parallel(2, backend=backend)(
            joblib.delayed(fitted.predict_proba)(part) for part in (X[:20], X[20:])
        )
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


def test_frames_and_series_of_paths(make_classifier, images):
    X, y = images
    expected = make_classifier().fit(X, y).predict_proba(X)
    frame = pd.DataFrame({"path": X, "label": y}, index=np.arange(40)[::-1])
    for paths in (frame["path"], frame[["path"]]):
        np.testing.assert_array_equal(make_classifier().fit(paths, frame["label"]).predict_proba(paths), expected)


def test_unseen_images_of_arrays(make_classifier, shades):
    fitted = make_classifier().fit(*shades)
    assert fitted.predict(shaded_images([0, 4], seed=5)).shape == (2,)
