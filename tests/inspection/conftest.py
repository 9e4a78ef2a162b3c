"""Classifiers that displays draw, and no window for them."""

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.support.displays import GRADES, brightness

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def graded():
    """Logistic regression on words, its data, and the words' positions."""
    X, y = make_classification(120, 6, n_informative=5, n_redundant=0, n_classes=5, random_state=0)
    words = np.array(GRADES)[y]
    return LogisticRegression(max_iter=500).fit(X, words), X, words


@pytest.fixture(scope="session")
def looking(shades):
    """A pipeline of scikit-learn that takes images."""
    return make_pipeline(FunctionTransformer(brightness), LogisticRegression(max_iter=500)).fit(
        list(shades[0]), shades[1]
    )


@pytest.fixture(scope="session")
def model(tiny, shades):
    from skl2rclip import L2RCLIPClassifier

    settings = {"prompt_epochs": 3, "n_context_tokens": 4, "random_state": 0, "device": "cpu"}
    return L2RCLIPClassifier(tiny, **settings).fit(*shades)


@pytest.fixture(scope="session")
def named(tiny, shades):
    """A classifier of numbers that knows their words."""
    from skl2rclip import L2RCLIPClassifier

    settings = {"prompt_epochs": 1, "n_context_tokens": 4, "random_state": 0, "device": "cpu"}
    return L2RCLIPClassifier(tiny, ranks=range(5), rank_names=GRADES, **settings).fit(*shades)
