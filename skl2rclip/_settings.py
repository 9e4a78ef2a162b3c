"""`Settings`: the estimator's parameters as one frozen, typed record, checked in one place.

Every floor below the estimator reads this record instead of the estimator. What only says what labels mean (``ranks``,
``rank_names``, ``class_weight``) is the business of ``_ordinal.ranks`` and ``_utils.arguments``, and ``random_state``
becomes a seed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from skl2rclip._utils.arguments import (
    Recorded,
    check_batch_size,
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
    path_or_string,
)
from skl2rclip.errors import InvalidParameterError

# the names in `READ_OUTS` of `_ordinal.decisions`, which stands above
DECISIONS = ("argmax", "mean", "median")


@dataclass(frozen=True)
class Settings:
    """Parameters of `L2RCLIPClassifier`, which documents them, as plain Python values that have been checked.

    Paths are strings, sizes of memory are bytes, and `device` is a tuple where several devices were named.
    """

    model_name: str
    pretrained: str | None
    image_tower: str
    image_adapter: str | None
    rank_targets: str
    prompt: str
    n_context_tokens: int
    rank_position: str
    tune_ranks: bool
    rankformer_layers: int
    blend_ratio: float
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
        """Check parameters, in the order of the fields, and make a record of them.

        Parameters
        ----------
        parameters : mapping
            What ``get_params`` returns; entries that are no fields are left alone.

        Raises
        ------
        InvalidParameterError
            If a parameter is of the wrong type or out of range; names it, what it may be, and the value given.
        """
        settings = cls(**{field.name: _CHECKS[field.name](field.name, parameters[field.name]) for field in fields(cls)})
        check_prompt(settings.prompt, settings.rank_position)
        return settings

    @property
    def is_soft(self) -> bool:
        """Whether each image has a distribution over the ranks as its target."""
        return self.rank_targets == "soft"

    @property
    def finetunes(self) -> bool:
        """Whether the image tower is trained."""
        return self.image_tower == "finetune"

    @property
    def is_precomputed(self) -> bool:
        """Whether X holds embeddings instead of images."""
        return self.image_tower == "precomputed"


_Check = Callable[[str, Any], Any]


def _choice(*choices: str | None) -> _Check:
    def check(name: str, value: Any) -> Any:
        check_choice(name, value, choices)
        return value

    return check


def _integer(minimum: int) -> _Check:
    def check(name: str, value: Any) -> int:
        check_integer(name, value, minimum)
        return int(value)

    return check


def _real(low: float, high: float = float("inf"), *, open_ends: bool = False) -> _Check:
    def check(name: str, value: Any) -> float:
        check_real(name, value, low, high, open_ends=open_ends)
        return float(value)

    return check


def _boolean(name: str, value: Any) -> bool:
    check_boolean(name, value)
    return bool(value)


def _string(name: str, value: Any) -> str:
    check_string(name, value)
    return value


def _epochs(name: str, value: Any) -> int | str:
    if isinstance(value, str):
        if value != "auto":
            raise InvalidParameterError(f"{name} must be an integer of at least 0, or 'auto', got {value!r}.")
        return value
    return _integer(0)(name, value)


def _rate(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        if value != "auto":
            raise InvalidParameterError(f"{name} must be a number above 0, or 'auto', got {value!r}.")
        return value
    return _real(0, open_ends=True)(name, value)


def _batch_size(name: str, value: Any) -> int | str:
    check_batch_size(value)
    return value if isinstance(value, str) else int(value)


def _device(name: str, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, list | tuple):
        for entry in value:
            check_string(f"{name}: each entry of a list", entry)
        return tuple(value)
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name} must be a string, or a list of strings, got {value!r}.")
    return value


def _memory(name: str, value: Any) -> int | None:
    return parse_max_memory(value)


def _white_level(name: str, value: Any) -> float | None:
    return check_white_level(value)


def _place(check: Callable[[str, Any], None]) -> _Check:
    def checked(name: str, value: Any) -> str | None:
        if isinstance(value, Recorded):  # a saved folder may not say where to write
            return None
        check(name, value)
        return None if value is None else os.fspath(value)

    return checked


def _thread_count(name: str, value: Any) -> int | None:
    check_thread_count(name, value)
    return None if value is None else int(value)


_CHECKS: dict[str, _Check] = {
    "model_name": _string,
    "pretrained": path_or_string,
    "image_tower": _choice("finetune", "frozen", "precomputed"),
    "image_adapter": _choice("linear", "mlp", None),
    "rank_targets": _choice("soft", "hard"),
    "prompt": _string,
    "n_context_tokens": _integer(0),
    "rank_position": _choice("tail", "front", "middle"),
    "tune_ranks": _boolean,
    "rankformer_layers": _integer(0),
    "blend_ratio": _real(0, 1),
    "contrastive_weight": _real(0),
    "pairwise_weight": _real(0),
    "tightness_weight": _real(0),
    "text_ordering_weight": _real(0),
    "prompt_epochs": _epochs,
    "image_epochs": _epochs,
    "batch_size": _batch_size,
    "learning_rate": _real(0, open_ends=True),
    "image_learning_rate": _rate,
    "weight_decay": _real(0),
    "augment": _boolean,
    "white_level": _white_level,
    "early_stopping": _boolean,
    "validation_fraction": _real(0, 1, open_ends=True),
    "n_iter_no_change": _integer(1),
    "warm_start": _boolean,
    "decision": _choice(*DECISIONS),
    "device": _device,
    "precision": _choice("auto", "float32", "bfloat16"),
    "compile": _boolean,
    "max_memory": _memory,
    "embedding_cache": _place(check_path),
    "checkpoint_dir": _place(check_folder),
    "on_bad_image": _choice("raise", "skip"),
    "n_jobs": _thread_count,
    "verbose": _integer(0),
}
