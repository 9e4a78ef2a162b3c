"""TabPFN: a transformer for tables that was trained on synthetic ones, given the training images as its context.

N. Hollmann et al., "Accurate predictions on small data with a tabular foundation model", Nature 2025,
https://doi.org/10.1038/s41586-024-08328-6; the authors' package: https://github.com/PriorLabs/TabPFN. The classifier of
several of its versions knows ten classes at most, and none knows an order: here the regressor predicts the rank's index
from the embedding, and its quantiles give the probability between the edges of a rank, half a step from its index.
Everything else is its default.

The package is no requirement of ours, and loads its weights from a hub, which wants an account and a licence accepted.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from tasks import Task

if TYPE_CHECKING:
    from methods import Predictor

LEVELS = np.linspace(0.01, 0.99, 99)
REMEDY = (
    "Install the package with `pip install tabpfn`, and put its weights where it looks for them: "
    "https://docs.priorlabs.ai/models/accessing-model-weights says how, for a machine without a network too."
)


def is_installed(task: Task) -> bool:
    return find_spec("tabpfn") is not None


def tabpfn(task: Task, drawn: np.ndarray, seed: int) -> Predictor:
    """TabPFN's regressor of the rank's index, on one CPU thread as the others."""
    try:
        from tabpfn import TabPFNRegressor
    except ImportError as error:
        raise ImportError(f"TabPFN is not installed. {REMEDY}") from error
    os.environ.setdefault("TABPFN_NO_BROWSER", "1")  # a run does not wait for somebody to sign in
    model = TabPFNRegressor(device="cpu", random_state=seed)
    try:
        model.fit(task.train.Z[drawn], task.train.target[drawn].astype(float))
    except Exception as error:  # its own, the hub's and those of the file system
        raise RuntimeError(f"TabPFN could not be fitted ({error}). {REMEDY}") from error

    def predict(embeddings: np.ndarray) -> np.ndarray:
        quantiles = model.predict(embeddings, output_type="quantiles", quantiles=LEVELS.tolist())
        return probabilities_of(np.stack(quantiles, axis=1), task.n_ranks)

    return predict


def probabilities_of(quantiles: np.ndarray, n_ranks: int) -> np.ndarray:
    """Probabilities of the ranks (n, K) from quantiles of their index (n, levels)."""
    edges = np.arange(n_ranks - 1) + 0.5
    below = np.stack([np.interp(edges, row, LEVELS, left=0, right=1) for row in quantiles])  # (n, K - 1)
    return np.diff(below, axis=1, prepend=0, append=1)
