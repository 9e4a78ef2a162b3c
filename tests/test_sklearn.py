"""The estimators inside scikit-learn's own machinery, and its own checks of estimators."""

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import CONFIGS, shaded_images, write_model
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
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
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_estimator

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._backbone import BackboneSource

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
    """The classifier on embeddings, with a small CLIP of just the width of the table that it is given."""

    def _check_images(self, X, *, fitted):
        data = super()._check_images(X, fitted=fitted)
        TABLE["width"] = data.shape[1]
        return data

    def _source(self, previous, seed):
        folder = TABLE["root"] / str(TABLE["width"])
        if not folder.exists():
            write_model(folder, {**CONFIGS["clip"], "embed_dim": TABLE["width"]})
        return BackboneSource(f"local-dir:{folder}")


TABLE = {}


@pytest.mark.parametrize("name", CHECKS_WITH_A_TABLE)
def test_scikit_learns_checks_of_tables_hold_for_embeddings(name, tmp_path_factory):
    TABLE.setdefault("root", tmp_path_factory.mktemp("tables"))
    estimator = OnTables(
        image_tower="precomputed",
        prompt_epochs=60,
        learning_rate=3e-2,
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


def test_cross_val_predict_of_probabilities_with_words(make_classifier, images):
    X, y = images
    names = np.array(["void", "dim", "mild", "light", "blank"])
    labels = names[y]
    classifier = make_classifier(ranks=list(names), image_tower="finetune", image_learning_rate=2e-3, image_epochs=20)
    probabilities = cross_val_predict(classifier, X, labels, cv=4, method="predict_proba")
    # these two take sorted classes for granted
    assert log_loss(labels, probabilities) < log_loss(labels, np.full_like(probabilities, 0.2))
    assert roc_auc_score(labels, probabilities, multi_class="ovr", labels=np.sort(names)) > 0.7
    predicted = cross_val_predict(classifier, X, labels, cv=4)
    np.testing.assert_array_equal(predicted, np.sort(names)[probabilities.argmax(axis=1)])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_val_predict_trains_on_the_labels_and_not_on_their_numbers(make_classifier, images, n_jobs):
    """For probabilities scikit-learn hands on 0, 1, ... instead of the labels."""
    X, y = images
    ages = np.array([3, 20, 25, 60, 90])
    for ranks in (list(ages), list(ages[::-1])):
        given = {"cv": KFold(2), "method": "predict_proba", "n_jobs": n_jobs}
        probabilities = cross_val_predict(make_classifier(ranks=ranks), X, ages[y], **given)
        for train, test in KFold(2).split(X):
            by_hand = make_classifier(ranks=ranks).fit(X[train], ages[y][train])
            np.testing.assert_allclose(probabilities[test], by_hand.predict_proba(X[test]), atol=1e-5)
    with pytest.raises(ValueError, match="numbers the 5 labels that y shows, but ranks lists 6"):
        cross_val_predict(make_classifier(ranks=[*ages, 99]), X, ages[y], method="predict_proba")


def test_cross_val_predict_warns_where_labels_are_lost(make_classifier, images):
    X, y = images
    with pytest.warns(UserWarning, match="has replaced the labels by the numbers 0 to 4, for the prompts too"):
        cross_val_predict(make_classifier(), X, 10 * y, cv=2, method="predict_proba")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_val_predict(make_classifier(), X, y, cv=2, method="predict_proba")  # they were such numbers before
        cross_val_predict(make_classifier(), X, 10 * y, cv=2)  # labels arrive as they are


def test_numbers_in_place_of_words_say_what_to_do(make_classifier, images):
    with pytest.raises(ValueError, match=r"not among the ranks: \[0, 1, 2\].*rank_names=\[...\] instead"):
        make_classifier(ranks=["low", "mid", "high"]).fit(images[0][:3], [0, 1, 2])


def test_folds_that_lack_a_rank(make_classifier, images):
    X, y = images
    predicted = cross_val_predict(make_classifier(ranks=range(5)), X, np.sort(y), cv=KFold(5))  # a rank a fold
    assert predicted.shape == (40,)
    probabilities = cross_val_predict(
        make_classifier(ranks=range(5)), X, np.sort(y), cv=KFold(5), method="predict_proba"
    )
    assert probabilities.shape == (40, 5)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_over_prompt_length_and_loss_weights(make_classifier, images, n_jobs):
    X, y = images
    grid = {"n_context_tokens": [3, 4], "pairwise_weight": [0.3, 1.0]}
    search = GridSearchCV(make_classifier(prompt_epochs=2), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
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
