"""The estimators inside scikit-learn's own machinery, and its own checks of estimators."""

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import shaded_images
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
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

# scikit-learn's checks that need no data; the others bring numeric tables, which are no images
CHECKS_WITHOUT_DATA = [
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_tag",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]
# those that fit a table, for embeddings; each with the width of the table it brings
CHECKS_WITH_A_TABLE = [
    "check_classifier_not_supporting_multiclass",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_regression_target",
    "check_classifiers_train",
    "check_dataframe_column_names_consistency",
    "check_decision_proba_consistency",
    "check_dict_unchanged",
    "check_dont_overwrite_attributes",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_partial_fit_n_features",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
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


class AnyWidth(ClassifierMixin, BaseEstimator):
    """The classifier on embeddings, over tables of any width: their columns are repeated or cut to the tower's."""


@pytest.fixture
def on_tables(tiny):
    """Classifier of precomputed embeddings that takes the tables that scikit-learn's checks bring."""

    class OnTables(L2RCLIPClassifier):
        __init__ = L2RCLIPClassifier.__init__

        def _check_widths(self, config, data):
            super()._check_widths({**config, "embed_dim": data.shape[1]}, data)
