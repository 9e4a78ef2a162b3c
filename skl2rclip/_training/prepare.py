"""From a request to what the stages need: images decoded and embedded, some held out, soft targets measured.

What learns is only asked for its tower and its predictions here; how it learns is not known.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skl2rclip._clip.backbone import Backbone
from skl2rclip._embedding.embedder import decode_and_embed, embed_images
from skl2rclip._embedding.encoding import cache_of, shared_encoding
from skl2rclip._embedding.pixel_store import PixelStore
from skl2rclip._images.files import identity_of
from skl2rclip._model.state import table_rows
from skl2rclip._ordinal.features import FeatureBlocks
from skl2rclip._ordinal.leverage import Leverage
from skl2rclip._ordinal.soft_targets import (
    Measurement,
    RankTargets,
    RunningErrors,
    reliability,
    targets_of_predictions,
)
from skl2rclip._ordinal.splits import blocks_of, split_off_validation
from skl2rclip._ordinal.views import Views
from skl2rclip._training.early_stopping import EarlyStopping
from skl2rclip._training.feature_selection import select_features
from skl2rclip._training.learner import Learner, TrainingData
from skl2rclip._training.request import FitRequest
from skl2rclip._training.usualness import of_encoded
from skl2rclip._utils.arguments import warn_user
from skl2rclip._utils.devices import explain_out_of_memory
from skl2rclip._utils.progress import counted
from skl2rclip.errors import UnreadableImagesError

# where what is read of all images is too much
REMEDIES_OF_FEATURES = ("set image_features='embedding'", "lower n_views", "set image_adapter='linear'")


@dataclass(frozen=True)
class Prepared:
    """What the stages need of the images that are learned from, and of those that are not."""

    training: TrainingData
    stopping: EarlyStopping | None
    targets: RankTargets | None  # of the training images; None with hard targets, and where nothing was embedded
    measured: Measurement | None  # what the targets were measured on; None in a single pass too
    errors: RunningErrors | None  # of a single pass, with those before it
    seen: np.ndarray  # (all,), bool, which of the request's images are learned from
    leverage: Leverage | None = None  # of images, where what is seen of them does not change


def prepare(request: FitRequest, backbone: Backbone, learner: Learner) -> Prepared:
    """Decode and embed what the stages will need, measure soft targets, set images aside for early stopping."""
    settings, group = request.settings, learner.group
    held_out = np.zeros(len(request.target), dtype=bool) if request.held_out is None else request.held_out
    if settings.early_stopping and not request.one_pass and request.held_out is None:
        generator = np.random.default_rng(request.seed)
        held_out = split_off_validation(request.target, settings.validation_fraction, generator, _together(request))
        if not held_out.any():
            warn_user("early_stopping: no image can be held out without taking a rank's last; training is not watched.")
    if isinstance(request.data, np.ndarray):
        decoded = _Decoded(table_rows(request.data, learner.blocks)[:, None])
    else:
        decoded = _decode(request, backbone, learner, held_out)
    share = torch.from_numpy(np.flatnonzero(group.is_mine(int((~held_out).sum()))))

    learner.views = request.views
    targets, measured, errors = _soft_targets(request, learner, decoded.rows, ~held_out)
    weights = request.weight
    if request.label_std is not None and measured is not None:
        weights = weights * reliability(request.label_std, measured.variance)
    # equal weights are no weights
    is_weighted = bool((weights != weights[0]).any())

    def part(
        rows: np.ndarray, pixels: PixelStore | None, views: Views, distributions: np.ndarray | None = None
    ) -> TrainingData:
        weight = torch.tensor(weights[rows], dtype=torch.float32, device=request.device)
        images = None
        if decoded.rows is not None:
            encoded = torch.from_numpy(decoded.rows[rows][:, : views.n]).flatten(0, 1)
            images = learner.read(encoded.to(request.device), views)
        return TrainingData(
            target=torch.from_numpy(request.target[rows]).to(request.device),
            weight=weight if is_weighted else None,
            distributions=None if distributions is None else torch.from_numpy(distributions).float().to(request.device),
            images=images,
            pixels=pixels,
            share=share,
        )

    stopping = None
    if held_out.any():
        aside = part(held_out, decoded.held_out_pixels, learner.views.predicted)
        stopping = EarlyStopping(aside, settings, request.scale.values)
    distributions = None if targets is None else targets.around_labels()
    training = part(~held_out, decoded.pixels, learner.views, distributions)
    return Prepared(
        training=training,
        stopping=stopping,
        targets=targets,
        measured=measured,
        errors=errors,
        seen=~held_out,
        leverage=_leverage(request, learner, training, ~held_out, measured),
    )


def _leverage(
    request: FitRequest, learner: Learner, training: TrainingData, seen: np.ndarray, measured: Measurement | None
) -> Leverage | None:
    """Learn what images are usual, where they are embedded as they will be; a single pass keeps what is known."""
    if training.images is None or training.pixels is not None:  # a tower that is trained will see them otherwise
        return None
    if request.one_pass:
        return None if request.previous is None else request.previous.leverage
    groups = None if request.groups is None else request.groups[seen]
    return of_encoded(training.images, request.weight[seen], groups, None if measured is None else measured.blocks)


def _together(request: FitRequest) -> np.ndarray | None:
    """Tell what is held out together: groups, and with soft targets the same files and equal embeddings."""
    if not request.settings.is_soft:
        return request.groups
    if isinstance(request.data, np.ndarray):
        blocks = blocks_of(request.data, request.groups)
    else:
        places = [identity_of(image) for image in request.data]
        numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
        blocks = blocks_of(np.array([[numbers[place]] for place in places], np.float32), request.groups)
    return blocks if request.groups is not None or len(np.unique(blocks)) < len(blocks) else None


def _soft_targets(
    request: FitRequest, learner: Learner, rows: np.ndarray | None, seen: np.ndarray
) -> tuple[RankTargets | None, Measurement | None, RunningErrors | None]:
    """Measure soft targets on all images of a fit, or, batch by batch, by what the model says of each beforehand.

    Measured, they come with the features that the learner is to read.
    """
    if not request.settings.is_soft or rows is None or not request.plan:
        return None, None, None
    target, values, weight = request.target[seen], request.scale.values, request.weight[seen]
    if request.one_pass:
        before = None if request.previous is None else request.previous.errors
        images = torch.from_numpy(rows[seen]).flatten(0, 1).to(learner.device)
        probabilities = learner.probabilities(learner.read(images, learner.views))
        targets, errors = targets_of_predictions(probabilities, target, values, weight, before or RunningErrors())
        return targets, None, errors
    with explain_out_of_memory(None, "measuring soft targets", REMEDIES_OF_FEATURES):
        selected = select_features(request, learner.blocks, rows[seen], seen)
    learner.views = selected.views
    if request.previous is None:
        learner.take_features(selected.features, selected.projection, selected.adapter)
        if request.blocks is None and selected.projection is None:
            learner.blocks = FeatureBlocks.of_embeddings(learner.prototypes_width)  # a tower need not give more
    return selected.measured.targets, selected.measured, None


@dataclass(frozen=True)
class _Decoded:
    """What the tower gives of all images (n, views, W), pixels of the training images, pixels of those held out."""

    rows: np.ndarray | None = None
    pixels: PixelStore | None = None
    held_out_pixels: PixelStore | None = None


def _decode(request: FitRequest, backbone: Backbone, learner: Learner, held_out: np.ndarray) -> _Decoded:
    """Decode each image once, for whatever the stages need of it, each process of a group its share."""
    group, failures = learner.group, {}
    is_mine = np.ones(len(held_out), bool)  # those held out every process has
    is_mine[~held_out] = group.is_mine(int((~held_out).sum()))
    mine, decoded = np.flatnonzero(is_mine), _Decoded()
    try:
        decoded = _decode_mine(request, backbone, learner, held_out, mine)
    except UnreadableImagesError as error:
        failures = {int(mine[i]): reason for i, reason in error.failures.items()}
    # one process may not leave while the others wait for it
    failures = {row: reason for each in group.all_gather_object(failures) for row, reason in each.items()}
    if failures:
        raise UnreadableImagesError(failures, request.data, len(request.data))
    if decoded.rows is None:
        return decoded
    if group.rank > 0:
        decoded.rows[held_out] = 0
    return replace(decoded, rows=group.all_reduce(decoded.rows))


def _decode_mine(
    request: FitRequest, backbone: Backbone, learner: Learner, held_out: np.ndarray, mine: np.ndarray
) -> _Decoded:
    settings, needs = request.settings, {stage.needs for stage in request.plan}
    if not needs:
        return _Decoded()
    images, names = [request.data[i] for i in mine], request.names.at(mine.tolist())
    verbose = 0 if learner.group.rank else settings.verbose
    encoding = cache = of_tower = None
    # the width of soft targets is measured on the frozen tower's embeddings, whatever is trained
    if "embeddings" in needs or settings.is_soft:
        n_views = request.views.n
        of_tower = np.zeros((len(held_out), n_views, learner.blocks.width), np.float32)
        encoding, cache = _frozen_encoding(request, backbone, learner)
        if "pixels" not in needs:
            of_mine = embed_images(
                images,
                encoding,
                cache,
                settings.n_jobs,
                settings.max_memory,
                verbose,
                names,
                request.white,
                request.known,
                # those held out are only predicted
                np.where(held_out[mine], request.views.n_predicted, n_views),
            )
            n_embedded = len(of_mine) // max(len(mine), 1)
            of_tower[mine, :n_embedded] = of_mine.reshape(len(mine), n_embedded, -1)
            return _Decoded(of_tower)
    own = backbone.preprocessing
    enlarged = own.enlarged(8, 7) if settings.augment else own  # as OrdinalCLIP: 256 for a tower that takes 224
    wanted = [own, enlarged] if enlarged != own and (encoding is not None or held_out.any()) else [enlarged]
    learns = np.isin(np.arange(len(held_out)), mine) & ~held_out
    pixels = PixelStore((int(learns.sum()), *enlarged.size, 3), request.device, settings.max_memory)
    held_out_pixels = PixelStore((int(held_out.sum()), *own.size, 3), request.device, settings.max_memory)
    place = np.where(held_out, np.cumsum(held_out), np.cumsum(learns)) - 1
    chunks = decode_and_embed(
        images, wanted, encoding, cache, settings.n_jobs, settings.max_memory, names, request.white, request.known
    )
    description = "decoding" if encoding is None else "embedding"
    with closing(counted(chunks, len(images), verbose, description)) as all_chunks:
        for chunk, decoded, of_chunk in all_chunks:
            rows = mine[chunk]
            if of_tower is not None:
                of_tower[rows, 0] = of_chunk
            aside = held_out[rows]
            pixels.write(place[rows[~aside]], decoded[-1][~aside])
            held_out_pixels.write(place[rows[aside]], decoded[0][aside])
    return _Decoded(of_tower, pixels, held_out_pixels)


def _frozen_encoding(request: FitRequest, backbone: Backbone, learner: Learner) -> Any:
    """How images are embedded for the first stage; the cache is for towers that are still the backbone's own."""
    device, settings = request.device, request.settings
    compiled = settings.compile and learner.tower is None
    # a search over features passes each image once: what this fit does not read, another may
    alone = learner.blocks.is_plain and settings.may_read_tower and learner.tower is None
    blocks = backbone.readable_blocks if alone else learner.blocks
    encoding = shared_encoding(backbone, device, settings.precision, settings.batch_size, compiled, blocks, alone)
    if learner.tower is not None and request.previous is not None and "tower" in request.previous.arrays:
        return replace(encoding, tower=learner.reader), None
    return encoding, cache_of(
        backbone,
        device,
        settings.precision,
        settings.embedding_cache,
        settings.max_memory,
        request.white,
        blocks,
        alone,
    )
