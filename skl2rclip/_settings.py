"""`Settings`: the estimator's parameters as one frozen, typed record, checked in one place.

Every layer below the estimator reads this record instead of the estimator. What only says what labels mean (``ranks``,
``rank_names``, ``class_weight``) is checked by ``_ordinal.ranks`` and ``_utils.arguments``, and ``random_state``
becomes a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from skl2rclip._utils.arguments import (
    Recorded,
    check_boolean,
    check_choice,
    check_folder,
    check_integer,
    check_path,
    check_prompt,
    check_real,
    check_string,
    check_thread_count,
    check_white_level,
    parse_max_memory,
)
from skl2rclip.errors import InvalidParameterError

# the names in `READ_OUTS` of `_ordinal.decisions`, which stands above
DECISIONS = ("argmax", "mean", "median")
# of an image, which pass the tower together
MAX_VIEWS = 100


@dataclass(frozen=True)
class Settings:
    """Parameters of `L2RCLIPClassifier`, which documents them, as plain Python values that have been checked.

    Paths are strings, sizes of memory are bytes, and `device` is a tuple where several devices were named.
    """

    model_name: str
    pretrained: str | None
    image_tower: str
    image_features: str
    image_adapter: str | None
    rank_targets: str
    prompt: str
    n_context_tokens: int | str
    rank_position: str
    tune_ranks: bool
    rankformer_layers: int
    blend_ratio: float
    zero_shot_share: float | str
    contrastive_weight: float
    pairwise_weight: float
    tightness_weight: float
    text_ordering_weight: float
    prompt_epochs: int | str
    image_epochs: int | str
    batch_size: int | str
    learning_rate: float
    image_learning_rate: float | str
    weight_decay: float
    augment: bool
    n_views: int | str
    mirror: bool
    white_level: float | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    decision: str
    device: str | tuple[str, ...]
    precision: str
    compile: bool
    max_memory: int | None
    embedding_cache: str | None
    checkpoint_dir: str | None
    on_bad_image: str
    n_jobs: int | None
    verbose: int

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Settings:
        """Check what ``get_params`` returns, in the order of the fields, and make a record of it.

        Raises
        ------
        InvalidParameterError
            If a parameter is of the wrong type or out of range; names it, what it may be, and the value given.
        """
        settings = cls(**checked(parameters))
        check_prompt(settings.prompt, settings.rank_position)
        return settings

    @property
    def is_soft(self) -> bool:
        """Whether each image has a distribution over the ranks as its target."""
        return self.rank_targets == "soft"

    @property
    def adapter_kind(self) -> str:
        """The adapter of embeddings, where it is not chosen on images that are left out."""
        return "mlp" if self.image_adapter in ("auto", None) else self.image_adapter

    @property
    def may_read_tower(self) -> bool:
        """Whether more than the embedding can be learned from."""
        return self.is_soft and self.image_adapter is not None

    @property
    def finetunes(self) -> bool:
        """Whether the image tower is trained."""
        return self.image_tower == "finetune"

    @property
    def is_precomputed(self) -> bool:
        """Whether X holds embeddings instead of images."""
        return self.image_tower == "precomputed"


def checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters of an estimator, and return those that are settings as plain Python values."""
    return {name: check(name, parameters[name]) for name, check in _CHECKS.items() if name in parameters}


def _check_device(name: str, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(check_string(f"{name}: each entry of a list", entry) for entry in value)
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name} must be a string, or a list of strings, got {value!r}.")
    return value


def _check_place(name: str, value: Any, check: Callable[[str, Any], str | None] = check_path) -> str | None:
    """Check where to write, which a saved folder may not say."""
    return None if isinstance(value, Recorded) else check(name, value)


def _choice(*choices: str | None) -> Callable[[str, Any], Any]:
    return partial(check_choice, choices=choices)


_at_least_0 = partial(check_integer, minimum=0)
_not_negative = partial(check_real, low=0)
_positive = partial(check_real, low=0, open_ends=True)

# by parameter: a function of its name and value, which returns the value as plain Python has it
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model_name": check_string,
    "pretrained": check_path,
    "image_tower": _choice("finetune", "frozen", "precomputed"),
    "image_features": _choice("auto", "embedding", "tower", "both"),
    "image_adapter": _choice("auto", "linear", "mlp", None),
    "rank_targets": _choice("soft", "hard"),
    "prompt": check_string,
    "n_context_tokens": partial(check_integer, minimum=0, also=("auto",)),
    "rank_position": _choice("tail", "front", "middle"),
    "tune_ranks": check_boolean,
    "rankformer_layers": _at_least_0,
    "blend_ratio": partial(check_real, low=0, high=1),
    "zero_shot_share": partial(check_real, low=0, high=1, also=("auto",)),
    "contrastive_weight": _not_negative,
    "pairwise_weight": _not_negative,
    "tightness_weight": _not_negative,
    "text_ordering_weight": _not_negative,
    "prompt_epochs": partial(check_integer, minimum=0, also=("auto",)),
    "image_epochs": partial(check_integer, minimum=0, also=("auto",)),
    "batch_size": partial(check_integer, minimum=1, also=("auto",)),
    "learning_rate": _positive,
    "image_learning_rate": partial(check_real, low=0, open_ends=True, also=("auto",)),
    "weight_decay": _not_negative,
    "augment": check_boolean,
    "n_views": partial(check_integer, minimum=1, maximum=MAX_VIEWS, also=("auto",)),
    "mirror": check_boolean,
    "white_level": lambda name, value: check_white_level(value),
    "early_stopping": check_boolean,
    "validation_fraction": partial(check_real, low=0, high=1, open_ends=True),
    "n_iter_no_change": partial(check_integer, minimum=1),
    "warm_start": check_boolean,
    "decision": _choice(*DECISIONS),
    "device": _check_device,
    "precision": _choice("auto", "float32", "bfloat16"),
    "compile": check_boolean,
    "max_memory": lambda name, value: parse_max_memory(value),
    "embedding_cache": _check_place,
    "checkpoint_dir": partial(_check_place, check=check_folder),
    "on_bad_image": _choice("raise", "skip"),
    "n_jobs": check_thread_count,
    "verbose": _at_least_0,
}
