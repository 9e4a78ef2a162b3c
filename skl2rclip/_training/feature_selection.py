"""What a fit reads of images: which features, by which adapter, of which views, chosen on images that are left out.

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
from skl2rclip._ordinal.views import Views
from skl2rclip._settings import Settings
from skl2rclip._training.request import FitRequest
from skl2rclip._utils.threads import one_thread

_log = logging.getLogger(__name__)
# that are kept of several views
_MIN_COMPONENTS = 256


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

    @property
    def views(self) -> Views:
        """Which views of the images are read."""
        return self.measured.targets.views

    @property
    def shown(self) -> str:
        """Itself in words, for the log."""
        return f"features {self.features!r}, adapter {self.adapter!r}, {self.views.n_learned} views"


def select_features(request: FitRequest, blocks: FeatureBlocks, rows: np.ndarray, seen: np.ndarray) -> SelectedFeatures:
    """Measure soft targets on each choice of features, and take that with the best score of images left out.

    Under ``n_views="auto"`` it is then compared with each choice of features on several views of the images, by the
    adapter that is the better one for them.

    Parameters
    ----------
    request : FitRequest
    blocks : FeatureBlocks
        What the columns are.
    rows : ndarray of shape (n, views, W), float32
        Of the training images.
    seen : ndarray of shape (all,), bool
        Which of the request's images these are.
    """
    weight = request.weight[seen]
    left_out_together = blocks_of(rows[:, 0], None if request.groups is None else request.groups[seen])
    plain, wanted = Views.of(1, request.views.n_predicted), request.views

    def projection_of(features: str, views: Views) -> Projection | None:
        if request.previous is not None:
            return request.previous.projection
        if features == EMBEDDING:
            return None
        learned = rows[:, : views.n_learned].reshape(-1, rows.shape[2])
        weights = Views(views.n_learned, views.n_learned).weights(weight)
        # more rows of an image span more dimensions, which cost in each step and say little of their own
        most = max(_MIN_COMPONENTS, len(rows)) if views.n_learned > 1 else len(learned)
        return fit_projection(learned, weights, blocks, features, request.seed, most)

    def measured_on(views: Views, choices: list[tuple[str, str]]) -> list[SelectedFeatures]:
        own = rows[:, : views.n].reshape(-1, rows.shape[2])
        projections = {features: projection_of(features, views) for features in dict.fromkeys(f for f, _ in choices)}
        result = []
        for features, adapter in choices:
            measured = measure(
                read(own, blocks, projections[features]),
                request.target[seen],
                request.scale.values,
                weight,
                left_out_together,
                None if request.label_std is None else request.label_std[seen],
                n_hidden=0 if adapter == "linear" else N_HIDDEN,
                seed=request.seed,
                views=views,
            )
            result.append(SelectedFeatures(features, projections[features], adapter, measured))
        return result

    choices = candidates_of(request.settings, blocks)
    if request.previous is not None:
        choices = [(request.previous.features, request.previous.adapter_kind)]
    with one_thread():
        if wanted == plain or isinstance(request.settings.n_views, int):
            return _best_of(measured_on(wanted, choices))
        of_images = measured_on(plain, choices)
        better: dict[str, SelectedFeatures] = {}  # adapter, by features
        for each in of_images:
            better[each.features] = min(better.get(each.features, each), each, key=_score)
        best = _best_of(of_images)
        # what is surely behind by one view of each image takes long to measure on several, for nothing
        rivals = [(each.features, each.adapter) for each in better.values() if not _is_surely_better(best, each)]
        return _best_of([best, *measured_on(wanted, rivals)])


def _score(selected: SelectedFeatures) -> float:
    """Mean score of images left out; what could not be measured has the least."""
    scores, weight = selected.measured.targets.scores, selected.measured.weight
    return -np.inf if scores is None else float(np.average(scores, weights=weight))


def _best_of(candidates: list[SelectedFeatures]) -> SelectedFeatures:
    """Return the one with the least score of images left out, where it is surely better than the first."""
    scores = [each.measured.targets.scores for each in candidates if each.measured.targets.scores is not None]
    if len(candidates) == 1 or len(scores) < len(candidates):
        return candidates[0]
    measured = candidates[0].measured
    best = candidates[surely_best(np.stack(scores), measured.weight, measured.blocks)]
    _log.info(
        "Ranked probability scores of images left out: %s; taken: %s.",
        ", ".join(f"{each.shown} {_score(each):.4g}" for each in candidates),
        best.shown,
    )
    return best


def _is_surely_better(one: SelectedFeatures, other: SelectedFeatures) -> bool:
    own, theirs, measured = one.measured.targets.scores, other.measured.targets.scores, one.measured
    if own is None or theirs is None:
        return False
    return bool(surely_best(np.stack([theirs, own]), measured.weight, measured.blocks))


def candidates_of(settings: Settings, blocks: FeatureBlocks) -> list[tuple[str, str]]:
    """Features and adapters that are compared; the first is taken unless another is surely better."""
    wanted, adapter = settings.image_features, settings.image_adapter
    if adapter is None:
        return [(EMBEDDING, settings.adapter_kind)]
    features = [each for each in (EMBEDDING, "both") if each in blocks.choices] if wanted == "auto" else [wanted]
    # of the embedding the hidden layer is nowhere behind (benchmarks/further.md); of many columns a linear map may do
    kinds = {each: ["mlp"] if each == EMBEDDING else ["linear", "mlp"] for each in features}
    return [(each, kind) for each in features for kind in (kinds[each] if adapter == "auto" else [adapter])]
