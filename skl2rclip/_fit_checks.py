"""What a call of ``fit`` hands over, checked from the cheapest to the dearest, and made a request for a fit.

Modules that need torch, which takes seconds to import, are imported when a fit is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from skl2rclip._images.collection import as_image_list, holds_images
from skl2rclip._images.files import stamped
from skl2rclip._ordinal.features import FeatureBlocks, column_order
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._ordinal.ranks import given_ranks, rank_scale
from skl2rclip._settings import Settings
from skl2rclip._utils.arguments import (
    Recorded,
    check_fingerprint,
    check_groups,
    check_label_std,
    check_lengths,
    check_no_embeddings,
    check_same_columns,
    check_sample_weight,
    check_validation_images,
    check_width,
    class_weights_of,
    column_count,
    column_names,
    fingerprint_of,
    in_range,
    seed_from,
)
from skl2rclip.errors import InvalidParameterError

if TYPE_CHECKING:
    from skl2rclip._clip.source import BackboneSource
    from skl2rclip._model.state import FittedState
    from skl2rclip._training.request import FitRequest


def checked_request(
    estimator: BaseEstimator,
    settings: Settings,
    X: Any,
    y: Any,
    sample_weight: Any,
    ranks: Any,
    previous: FittedState | None,
    one_pass: bool = False,
    groups: Any = None,
    label_std: Any = None,
) -> FitRequest:
    """Look for everything that can be wrong, from the cheapest to the dearest, before any long work."""
    from skl2rclip._clip.source import warn_if_random
    from skl2rclip._clip.tokenizer import PromptTokenizer
    from skl2rclip._model.prompts import tokenize_prompts
    from skl2rclip._training.distributed import check_devices
    from skl2rclip._training.request import FitRequest
    from skl2rclip._utils.devices import resolve_devices

    devices = resolve_devices(settings.device)
    check_devices(devices, starts_processes=not one_pass)
    labels, names = check_labels(y), column_names(X)
    data = checked_data(estimator, settings, X, fitted=previous is not None)
    check_lengths(data, labels)
    weight = check_sample_weight(sample_weight, len(labels))
    scale, target = rank_scale(y, ranks, estimator.rank_names)
    weight = weight * class_weights_of(estimator.class_weight, labels, scale.classes, weight > 0)
    weight = in_range(weight)
    if not weight.any():
        raise ValueError("No image is left: sample_weight and class_weight together are zero for all of them.")
    if label_std is not None:
        extent = float(np.ptp(scale.values))
        label_std = check_label_std(label_std, len(labels), extent, is_soft=settings.is_soft)
    seed = seed_from(estimator.random_state)
    source, config = _checked_source(settings, seed, previous)
    blocks = None
    if settings.is_precomputed:
        if previous is None:
            blocks = FeatureBlocks.of_table(names, data.shape[1], config["embed_dim"])
        else:
            blocks, names = previous.blocks, previous.column_names or names
            check_width(data, blocks.width, "the fitted model takes", "as in the fit before")
        data = _in_column_order(data, names)
    if previous is None:
        _check_features(settings, blocks, config["embed_dim"], "a first partial_fit" if one_pass else None)
        tokenizer, m = PromptTokenizer(source.model_name, config), settings.n_context_tokens
        tokens = tokenize_prompts(tokenizer, settings.prompt, scale.names, m, settings.rank_position)
        warn_if_random(source)
    else:
        previous.check_goes_on(settings, scale)
        scale, tokens = previous.scale, previous.tokens  # whose labels keep their type
    request = FitRequest(
        data=data if settings.is_precomputed else stamped(data),
        target=target,
        weight=weight,
        groups=None if groups is None else check_groups(groups, len(labels)),
        scale=scale,
        tokens=tokens,
        source=source,
        settings=settings,
        seed=seed,
        devices=devices,
        previous=previous,
        one_pass=one_pass,
        n_columns=column_count(X if not settings.is_precomputed else data),
        column_names=names,
        blocks=blocks,
        fingerprint=_fingerprint_of(X, blocks),
        kept=np.arange(len(labels)),
        n_given=len(labels),
        label_std=label_std,
    )
    return request.keep(weight > 0)


def fitted_table(state: FittedState, settings: Settings, X: Any, table: np.ndarray) -> np.ndarray:
    """Check that a table is as the fitted model reads it, and bring the columns of each block together."""
    blocks, how = state.blocks, "as the X of the fit"
    is_of_images = state.structure["image_tower"] != "precomputed"
    if is_of_images:
        wanted = "embedding" if blocks.is_plain else "both"
        how = f"with CLIPImageEncoder of the same model and image_features={wanted!r}"
    check_width(table, blocks.width, "the fitted model takes", how)
    if is_of_images:  # which has no names that scikit-learn could compare
        _check_columns(column_names(X), blocks, how)
    check_fingerprint(_fingerprint_of(X, blocks), state.record.fingerprint, settings.model_name)
    return _in_column_order(table, state.column_names)


def _fingerprint_of(X: Any, blocks: FeatureBlocks | None) -> str | None:
    """Fingerprint of the model that made a table's embeddings, where it holds such and says it."""
    return None if blocks is None or blocks.embedding is None else fingerprint_of(X)


def _check_columns(names: tuple[str, ...] | None, blocks: FeatureBlocks, how: str) -> None:
    """Raise where a table's columns are named as others than those that an image tower gives, or in another order."""
    if names is None or not any("__" in name for name in names):
        return
    for name, column in zip(names, blocks.names, strict=True):
        if not f"__{name}".endswith(f"__{column}"):
            raise ValueError(f"X has the column {name!r} where the fitted model takes {column!r}: make X {how}.")


def _in_column_order(table: np.ndarray, names: tuple[str, ...] | None) -> np.ndarray:
    """Bring the columns of each block together."""
    order = column_order(names)
    return table if order is None else table[:, order]


def _check_features(settings: Settings, blocks: FeatureBlocks | None, width: int, reader: str | None = None) -> None:
    """Raise where the features that are asked for are not there, or cannot be read, of a table or of images.

    `reader` is what reads the embedding alone, beside what the settings say.
    """
    wanted, has_no_tower_epochs = settings.image_features, not settings.finetunes or settings.image_epochs == 0
    limits = {
        "rank_targets='hard'": not settings.is_soft,
        "image_adapter=None": settings.image_adapter is None,
        "prompt_epochs=0": settings.prompt_epochs == 0 and has_no_tower_epochs and reader is None,
    }
    reader = reader or next((what for what, holds in limits.items() if holds), None)
    if reader is not None and wanted not in ("auto", "embedding"):
        raise InvalidParameterError(
            f"image_features={wanted!r} cannot be had with {reader}, which reads the embedding alone: leave it at "
            "'auto', or set it to 'embedding'."
        )
    if blocks is None:
        return
    holds = "X holds nothing but embeddings"
    if blocks.embedding is None:
        holds = (
            f"X holds no embeddings of {settings.model_name}, or more than one block of them: that is an array of "
            f"{width} columns without names, or columns named as CLIPImageEncoder does, 'embedding__0' and so on. X "
            f"has {blocks.width} columns, of the blocks {blocks.shown}"
        )
    if wanted != "auto" and wanted not in blocks.choices:
        raise InvalidParameterError(f"image_features={wanted!r} cannot be had: {holds}.")
    if reader is not None and blocks.embedding is None:
        raise ValueError(f"{reader} reads the embedding alone, and {holds}.")


def request_without_images(estimator: BaseEstimator, settings: Settings) -> FitRequest:
    """Check what a model is made of that sees no image, ranks and words, and make it a request of no epochs."""
    from skl2rclip._clip.source import warn_if_random
    from skl2rclip._clip.tokenizer import PromptTokenizer
    from skl2rclip._model.prompts import count_words, tokenize_whole_prompts, warn_of_same_names
    from skl2rclip._training.request import FitRequest
    from skl2rclip._utils.devices import resolve_devices

    if estimator.ranks is None:
        raise InvalidParameterError("fit_zero_shot sees no labels: list them with ranks=[...], lowest first.")
    devices = resolve_devices(settings.device)
    scale, _ = rank_scale(np.asarray(given_ranks(estimator.ranks)), estimator.ranks, estimator.rank_names)
    seed = seed_from(estimator.random_state)
    source, config = _checked_source(settings, seed, None)
    _check_features(settings, None, config["embed_dim"], "fit_zero_shot")
    tokenizer = PromptTokenizer(source.model_name, config)
    tokens = tokenize_whole_prompts(tokenizer, settings.prompt, scale.names, settings.rank_position)
    n_words = count_words(tokenizer, settings.prompt)
    if tokens.n_context < n_words:
        raise InvalidParameterError(
            f"prompt has {n_words} tokens, and beside the longest rank name the text tower takes {tokens.n_context}: "
            "shorten the prompt."
        )
    warn_of_same_names(tokens)
    warn_if_random(source)
    none, width = np.empty(0), config["embed_dim"]
    return FitRequest(
        data=np.empty((0, width), np.float32) if settings.is_precomputed else [],
        target=none.astype(int),
        weight=none,
        groups=None,
        scale=scale,
        tokens=tokens,
        source=source,
        settings=replace(settings, n_context_tokens=tokens.n_context, prompt_epochs=0, image_epochs=0),
        seed=seed,
        devices=devices[:1],
        previous=None,
        one_pass=False,
        n_columns=width if settings.is_precomputed else None,
        column_names=None,
        blocks=FeatureBlocks.of_table(None, width, width) if settings.is_precomputed else None,
        kept=none.astype(int),
        n_given=0,
    )


def _checked_source(
    settings: Settings, seed: int, previous: FittedState | None
) -> tuple[BackboneSource, dict[str, Any]]:
    """Find where the backbone comes from, and what its configuration says."""
    from skl2rclip._clip.backbone import check_text_config, model_config
    from skl2rclip._clip.source import LOCAL_DIR_PREFIX, BackboneSource
    from skl2rclip._clip.untrusted import allowed_source

    source = BackboneSource(settings.model_name, settings.pretrained, seed)
    inside = getattr(settings.model_name, "inside", None)
    if inside is not None:  # of the saved model that the parameters come from
        source = BackboneSource(Recorded(LOCAL_DIR_PREFIX + inside), None, seed)
    source = allowed_source(source if previous is None else previous.source(settings))
    config = model_config(source)
    check_text_config(source, config)
    return source, config


def with_validation_images(estimator: BaseEstimator, request: FitRequest, X_val: Any, y_val: Any) -> FitRequest:
    """Put images behind those of a fit that only validate what is learned from these."""
    settings, is_table = request.settings, request.settings.is_precomputed
    check_validation_images(X_val, y_val, early_stopping=settings.early_stopping)
    labels = check_labels(y_val, "y_val")
    check_same_columns(column_names(X_val), request.column_names)
    data = checked_data(estimator, settings, X_val, fitted=False, name="X_val")
    check_lengths(data, labels, "X_val", "y_val")
    target = request.scale.encode(labels, "y_val")
    if is_table:
        check_width(data, request.data.shape[1], "X has", "as X", "X_val")
        data = _in_column_order(data, request.column_names)
        fingerprint = _fingerprint_of(X_val, request.blocks)
        check_fingerprint(fingerprint, request.fingerprint or fingerprint, settings.model_name, "X_val")
        request = replace(request, fingerprint=fingerprint or request.fingerprint)
    return request.with_validation(data if is_table else stamped(data), target)


def checked_data(estimator: BaseEstimator, settings: Settings, X: Any, *, fitted: bool, name: str = "X") -> Any:
    """List of images, or table of embeddings with the columns of the fit where there was one."""
    has_columns = fitted and _has_columns_for(estimator, settings)
    if not settings.is_precomputed:
        check_no_embeddings(X, name)
        if has_columns and column_count(X) is not None:
            validate_data(estimator, X, reset=False, skip_check_array=True)
        return as_image_list(X, name)
    if holds_images(X):
        raise ValueError(
            f"image_tower='precomputed' takes a table of embeddings, or other features, and {name} holds images or "
            "paths: embed them with CLIPImageEncoder, or set image_tower='frozen'."
        )
    if has_columns:
        return validate_data(estimator, X, dtype=np.float32, reset=False)
    return check_array(X, dtype=np.float32, input_name=name, estimator=estimator)


def _has_columns_for(estimator: BaseEstimator, settings: Settings) -> bool:
    """Whether the columns of the fit are known, and X is still what it was then: images, or embeddings."""
    was_precomputed = estimator._state.structure["image_tower"] == "precomputed"
    return hasattr(estimator, "n_features_in_") and settings.is_precomputed == was_precomputed
