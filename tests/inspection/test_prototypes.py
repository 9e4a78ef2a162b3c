"""Similarity of the prototypes."""

import itertools
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import confusion_matrix, mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from skl2rclip import inspection
from skl2rclip.inspection._calibration import coverage_by_level, pit_histogram
from skl2rclip.inspection._drawing import short
from skl2rclip.metrics import ordinality
from tests.support.displays import GRADES, OF_LABELS, SHEETS, brightness, texts_of



def test_similarity_is_that_of_the_prototypes_with_their_ordinality(model):
    display = inspection.PrototypeSimilarityDisplay.from_estimator(model, display_labels=GRADES)
    rows = model.prototypes_.astype(np.float64)
    expected = [[float(sum(a * b for a, b in zip(one, other, strict=True))) for other in rows] for one in rows]
    np.testing.assert_allclose(display.im_.get_array(), expected, atol=1e-9)
    assert f"ordinality {ordinality(rows):.2f}" in display.ax_.get_title()
    assert display.ordinality == pytest.approx(model.ordinality_)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == GRADES
    assert display.text_[0, 1].get_text() == f"{expected[0][1]:.2f}"
