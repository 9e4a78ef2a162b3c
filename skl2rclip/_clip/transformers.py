"""What tokenizers and text towers of Hugging Face need: the library, and that no code comes with them.

Nothing of transformers is imported here before it is asked for. How such a tower runs is left to
``_clip.text_tower``.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from open_clip.hf_configs import arch_dict

from skl2rclip._clip.hub import concerns_the_hub, unexplained, why_not_fetched, why_unreachable
from skl2rclip.errors import InvalidParameterError

EXTRA = "pip install 'skl2rclip[transformers]'"


def require_transformers(model_name: str, part: str) -> None:
    """Raise, with the command that installs it, where a part of a model needs transformers and it is not there."""
    if importlib.util.find_spec("transformers") is None:
        raise InvalidParameterError(
            f"model_name={model_name!r} has {part}, which needs transformers, and that is not installed: {EXTRA}, or "
            "choose a model with CLIP's own tokenizer, such as ViT-B-16."
        )


def check_text_model(model_name: str, hub_name: str) -> None:
    """Look at the configuration of a text tower of Hugging Face before anything of it is loaded.

    `hub_name` is the text tower's, an id of the hub or a folder; `model_name` is the whole model's, for messages.
    """
    require_transformers(model_name, f"the Hugging Face text tower {hub_name!r}")
    from transformers import PretrainedConfig

    where = f"model_name={model_name!r}: its text tower {hub_name!r}"
    no_connection = None if os.path.isdir(hub_name) else why_unreachable(hub_name, "config.json")
    try:
        config: dict[str, Any] = PretrainedConfig.get_config_dict(hub_name, local_files_only=bool(no_connection))[0]
    except Exception as error:  # transformers and the hub's client raise families of their own
        what, cause = f"{where} cannot be described, since its config.json is not there.", no_connection or error
        if no_connection is not None or concerns_the_hub(error):
            raise RuntimeError(f"{what} {why_not_fetched(cause)}") from unexplained(cause)
        raise RuntimeError(f"{what} {error}") from error
    if config.get("auto_map"):
        raise InvalidParameterError(f"{where} would run code that came with the model (auto_map), which is never done.")
    if config.get("model_type") not in arch_dict:
        raise InvalidParameterError(
            f"{where} is of the type {config.get('model_type')!r}, of which open_clip builds no text tower; it knows "
            f"{', '.join(map(repr, arch_dict))}."
        )
