"""Folds of the drawn images, by which a baseline chooses what it cannot know before."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

MAX_FOLDS = 5


def folds_of(target: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to five stratified folds, as places to train on and places held out; none where a rank has one image."""
    n_folds = min(MAX_FOLDS, int(np.unique(target, return_counts=True)[1].min()))
    if n_folds < 2:
        return []
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros(len(target)), target))
