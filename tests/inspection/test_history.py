"""The history of a training."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skl2rclip import L2RCLIPClassifier, inspection
from skl2rclip._training.objective import TERMS
from skl2rclip.inspection._history import _NAMES

PARAMETERS_OF_TERMS = {
    name.removesuffix("_weight")
    for name in L2RCLIPClassifier().get_params()
    if name.endswith("_weight") and name != "class_weight"
}


def test_history_is_drawn_term_by_term(model):
    display = inspection.TrainingHistoryDisplay.from_estimator(make_pipeline(FunctionTransformer(), model))
    assert set(display.terms) == {"loss", "contrastive", "ordering", "tightness"}  # a term of weight zero is left out
    for name in display.terms:
        np.testing.assert_allclose(display.lines_[name].get_ydata(), [epoch[name] for epoch in model.history_])
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), [1, 2, 3])


def test_scores_stand_apart_where_they_were_measured_and_stages_are_marked():
    history = [
        {"stage": "prompts", "epoch": 1, "learning_rate": 1.0, "loss": 3.0},
        {"stage": "prompts", "epoch": 2, "learning_rate": 1.0, "loss": 2.0, "cross_fitted_rps": 0.5},
        {"stage": "tower", "epoch": 3, "learning_rate": 1.0, "loss": 1.0, "validation_mae": 0.2},
    ]
    display = inspection.TrainingHistoryDisplay(history).plot()
    assert len(display.axes_) == 2
    assert display.lines_["cross_fitted_rps"].get_xydata().tolist() == [[2, 0.5]]
    assert display.lines_["validation_mae"].get_xydata().tolist() == [[3, 0.2]]
    assert [text.get_text().strip() for text in display.ax_.texts] == ["tower"]
    with pytest.raises(ValueError, match="no epoch"):
        inspection.TrainingHistoryDisplay([])


def test_the_epochs_that_were_kept_are_marked(model):
    history = [{"stage": "prompts", "epoch": n, "loss": 1 / n, "cross_fitted_rps": 0.2 + n / 999} for n in (1, 2, 3)]
    for kept, said, places in (([0, 1, 0], "kept: epoch 2", [2]), ([0, 0, 0], "kept: the start", [0.5])):
        records = [{**record, "kept": each} for record, each in zip(history, kept, strict=True)]
        display = inspection.TrainingHistoryDisplay(records).plot()
        assert "kept" not in display.terms
        for ax in display.axes_:
            assert said in [text.get_text() for text in ax.get_legend().get_texts()]
            [mark] = [line for line in ax.lines if line.get_label() == said]
            assert sorted(set(mark.get_xdata())) == places
    assert "kept" not in " ".join(
        line.get_label() for line in inspection.TrainingHistoryDisplay(history).plot().ax_.lines
    )
    passes = [{"stage": stage, "loss": 1.0, "kept": kept} for stage, kept in zip("aaabb", (1, 1, 0, 0, 1), strict=True)]
    assert inspection.TrainingHistoryDisplay(passes).kept == [2, 5]  # of each stage the last
    fitted = inspection.TrainingHistoryDisplay.from_estimator(model)
    assert fitted.kept == [entry["epoch"] for entry in model.history_ if entry["kept"]]


def test_terms_are_named_as_the_parameters_that_weigh_them(model):
    display = inspection.TrainingHistoryDisplay.from_estimator(model)
    for name, line in display.lines_.items():
        if name in TERMS:
            assert line.get_label().replace(" ", "_") in PARAMETERS_OF_TERMS
    assert {_NAMES.get(name, name).replace(" ", "_") for name in TERMS} == PARAMETERS_OF_TERMS


def test_scores_start_at_zero():
    history = [{"stage": "prompts", "epoch": n, "loss": 1.0, "cross_fitted_rps": 0.2 + n / 999} for n in (1, 2, 3)]
    bottom, top = inspection.TrainingHistoryDisplay(history).plot().axes_[1].get_ylim()
    assert bottom == 0
    assert top > 0.203
