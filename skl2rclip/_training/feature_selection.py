"""Which features a fit reads, and whether its adapter has a hidden layer: chosen on images that are left out.

Regressions in closed form are compared; only what they choose is trained.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from skl2rclip._model.modules import N_HIDDEN
from skl2rclip._ordinal.comparison import surely_best
from skl2rclip._ordinal.features import EMBEDDING, FeatureBlocks, Projection, fit_projection, read
from skl2rclip._ordinal.soft_targets import Measurement, measure
from skl2rclip._ordinal.splits import blocks_of
from skl2rclip._settings import Settings
from skl2rclip._training.request import FitRequest
from skl2rclip._utils.threads import one_thread

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectedFeatures:
    """What is read, and what was measured on it.

    Attributes
    ----------
    features : str
        One of `_ordinal.features.FEATURES`.
    projection : Projection or None
        Of rows to what is learned from; None for the embedding as it is.
    adapter : str
        "mlp" or "linear".
    """

    features: str
    projection: Projection | None
    adapter: str
    measured: Measurement


def select_features(request: FitRequest, blocks: FeatureBlocks, rows: np.ndarray, seen: np.ndarray) -> SelectedFeatures:
    """Measure soft targets on each choice of features, and take that with the best score of images left out.

    Parameters
    ----------
    request : FitRequest
    blocks : FeatureBlocks
        What the columns are.
    rows : ndarray of shape (n, W), float32
        Of the training images.
    seen : ndarray of shape (all,), bool
        Which of the request's images these are.
    """
    weight = request.weight[seen]
    left_out_together = blocks_of(rows, None if request.groups is None else request.groups[seen])

    def selected(features: str, adapter: str, projection: Projection | None) -> SelectedFeatures:
        measured = measure(
            read(rows, blocks, projection),
            request.target[seen],
            request.scale.values,
            weight,
            left_out_together,
            None if request.label_std is None else request.label_std[seen],
            n_hidden=0 if adapter == "linear" else N_HIDDEN,
            seed=request.seed,
        )
        return SelectedFeatures(features, projection, adapter, measured)

    with one_thread():
        if request.previous is not None:
            return selected(request.previous.features, request.previous.adapter_kind, request.previous.projection)
        projections: dict[str, Projection | None] = {EMBEDDING: None}
        candidates = []
        for features, adapter in candidates_of(request.settings, blocks):
            if features not in projections:
                projections[features] = fit_projection(rows, weight, blocks, features, request.seed)
            candidates.append(selected(features, adapter, projections[features]))
    scores = [each.measured.targets.scores for each in candidates if each.measured.targets.scores is not None]
    best = 0
    if len(scores) == len(candidates) > 1:
        measured = candidates[0].measured
        best = surely_best(np.stack(scores), measured.weight, measured.blocks)
        _log.info(
            "Ranked probability scores of images left out, by features and adapter: %s; %s with the adapter %r.",
            ", ".join(f"{c.features} {c.adapter} {np.average(s, weights=measured.weight):.4g}"
                      for c, s in zip(candidates, scores, strict=True)),
            candidates[best].features, candidates[best].adapter,
        )  # fmt: skip
    return candidates[best]


def candidates_of(settings: Settings, blocks: FeatureBlocks) -> list[tuple[str, str]]:
    """Features and adapters that are compared; the first is taken unless another is surely better."""
    wanted, adapter = settings.image_features, settings.image_adapter
    if adapter is None:
        return [(EMBEDDING, settings.adapter_kind)]
    features = [each for each in (EMBEDDING, "both") if each in blocks.choices] if wanted == "auto" else [wanted]
    # of the embedding the hidden layer is nowhere behind (benchmarks/further.md); of many columns a linear map may do
    kinds = {each: ["mlp"] if each == EMBEDDING else ["linear", "mlp"] for each in features}
    return [(each, kind) for each in features for kind in (kinds[each] if adapter == "auto" else [adapter])]
