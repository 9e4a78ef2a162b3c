"""What a deployed model says of itself beside its weights, of JSON's own types."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from skl2rclip._clip.source import BackboneSource, without_folders
from skl2rclip._model.state import FittedState
from skl2rclip._settings import Settings

VERSIONS = ("skl2rclip", "torch", "open_clip_torch")


def describe(state: FittedState, settings: Settings) -> dict[str, Any]:
    """Say what the columns of the output are, and what the input has to be.

    Parameters
    ----------
    state : FittedState
    settings : Settings
        The parameters as they are now.

    Returns
    -------
    dict
        "classes" are the labels of the columns; "ranks", "rank_names" and "values" go from the lowest rank to the
        highest. Of a table there is "columns" instead of what images need.
    """
    scale, record = state.scale, state.record
    described: dict[str, Any] = {
        "classes": scale.classes.tolist(),
        "ranks": scale.ranks.tolist(),
        "rank_names": list(scale.names),
        "values": scale.values.tolist(),
        "prompt": state.tokens.text,
        "backbone": named(state.source(settings)),
        "fingerprint": record.fingerprint,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    if settings.is_precomputed:
        return {**described, "columns": list(state.column_names or state.blocks.names)}
    return {
        **described,
        "preprocessing": record.preprocessing.to_config(),
        "white_level": settings.white_level,
        "mirror": settings.mirror,
    }


def named(source: BackboneSource) -> str:
    """Name a backbone without the folders of the machine that it is on."""
    known = without_folders(source)
    return known.model_name if known.has_own_weights else f"{known.model_name} ({known.pretrained or 'random weights'})"
