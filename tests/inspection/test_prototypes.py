"""Similarity of the prototypes."""

import numpy as np
import pytest

from skl2rclip import inspection
from skl2rclip.metrics import ordinality
from tests.support.displays import GRADES


def test_similarity_is_that_of_the_prototypes_with_their_ordinality(model):
    display = inspection.PrototypeSimilarityDisplay.from_estimator(model, display_labels=GRADES)
    rows = model.prototypes_.astype(np.float64)
    expected = [[float(sum(a * b for a, b in zip(one, other, strict=True))) for other in rows] for one in rows]
    np.testing.assert_allclose(display.im_.get_array(), expected, atol=1e-9)
    assert f"ordinality {ordinality(rows):.2f}" in display.ax_.get_title()
    assert "not quality of predictions" in display.ax_.get_title()
    assert display.ordinality == pytest.approx(model.ordinality_)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == GRADES
    assert display.text_[0, 1].get_text() == f"{expected[0][1]:.2f}"
