"""What other libraries hand over and take: each is asked for a small thing, where it is installed.

Clusters of Dask are in ``test_cluster``, frames as tables in ``test_image_tables``.
"""

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV


@pytest.fixture
def fitted(make_classifier, shade_paths, shades):
    return make_classifier().fit(shade_paths, shades[1])


@pytest.fixture
def expected(fitted, shade_paths):
    return fitted.predict(shade_paths)


def test_a_column_of_images_of_hugging_face(make_classifier, shade_paths, shades, expected):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": shade_paths, "label": shades[1]}, features=features)
    model = make_classifier().fit(data["image"], data["label"])
    np.testing.assert_array_equal(model.predict(data["image"]), expected)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_frame(make_classifier, shade_paths, shades, expected, library):
    frame = pytest.importorskip(library).DataFrame({"path": shade_paths, "rank": shades[1]})
    model = make_classifier().fit(frame["path"], frame["rank"])
    np.testing.assert_array_equal(model.predict(frame["path"]), expected)


def test_a_halving_search_is_its_candidates_best(make_classifier, shade_paths, shades):
    search = HalvingGridSearchCV(
        make_classifier(), {"prompt_epochs": [1, 3]}, cv=2, factor=2, min_resources=20, random_state=0,
        scoring="neg_mean_absolute_error", error_score="raise",
    ).fit(shade_paths, shades[1])  # fmt: skip
    assert search.best_params_["prompt_epochs"] in (1, 3)
    np.testing.assert_array_equal(search.predict(shade_paths), search.best_estimator_.predict(shade_paths))


def test_mapie_makes_sets_that_cover(fitted, shade_paths, shades):
    mapie = pytest.importorskip("mapie.classification")
    conformal = mapie.SplitConformalClassifier(fitted, confidence_level=0.8, prefit=True)
    conformal.conformalize(np.array(shade_paths), shades[1])
    predicted, sets = conformal.predict_set(np.array(shade_paths))
    np.testing.assert_array_equal(predicted, fitted.classes_[fitted.predict_proba(shade_paths).argmax(axis=1)])
    assert sets[np.arange(len(sets)), shades[1], 0].mean() >= 0.8


def test_cleanlab_finds_a_label_that_was_swapped(make_classifier, shade_paths, shades):
    cleanlab = pytest.importorskip("cleanlab.filter")
    from sklearn.model_selection import cross_val_predict

    y = shades[1].copy()
    y[0] = 4  # shown as darkest
    probabilities = cross_val_predict(make_classifier(prompt_epochs=30), shade_paths, y, cv=4, method="predict_proba")
    ranked = cleanlab.find_label_issues(y, probabilities, return_indices_ranked_by="self_confidence")
    assert 0 in ranked


def test_skops_draws_a_card_of_the_model(fitted):
    card = pytest.importorskip("skops.card").Card(fitted)
    text = card.render()
    assert "L2RCLIPClassifier" in text
    assert "n_context_tokens" in text
