"""The history of a training."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skl2rclip import inspection


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
