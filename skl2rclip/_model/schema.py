"""What ``model.json`` of a saved model may hold: the type, the range and the length of every field.

A saved folder may come from anybody. Nothing in it is used before it has passed here; how fields and arrays agree with
each other is checked by `skl2rclip._model.state`, which knows what they mean.
"""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from skl2rclip._settings import MAX_VIEWS

FORMAT_NAME = "skl2rclip model"
FORMAT_VERSION = 8

# more than any CLIP has, and little enough to be allocated
MAX_WIDTH = 16_384
# of features of several depths, or of several models
MAX_COLUMNS = 1_000_000
_MAX_RANKS = 1_000_000
_MAX_IMAGES = 2**53
_MAX_TOKEN = 10_000_000
_MAX_PIXELS = 8_192
_TEXT = 100_000

Schema = dict[str, Any]


def _record(may_lack: str = "", **fields: Schema) -> Schema:
    required = [name for name in fields if name != may_lack]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _list(of: Schema, fewest: int, most: int) -> Schema:
    return {"type": "array", "items": of, "minItems": fewest, "maxItems": most}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _text(most: int = _TEXT) -> Schema:
    return {"type": "string", "maxLength": most}


def _one_of(*choices: Any) -> Schema:
    return {"enum": list(choices)}


_HUGE = 1e300
_FINITE = _number(-_HUGE, _HUGE)
_BOOLEAN = {"type": "boolean"}
_LABEL = {"anyOf": [_text(), _FINITE, _BOOLEAN]}
_DIGEST = {"type": "string", "pattern": r"^[0-9a-f]{64}\Z"}
_TOKENS = _integer(0, _MAX_TOKEN)
_SIZE = _integer(1, _MAX_PIXELS)

_RECORD = _record(
    source=_record(model_name=_text(), pretrained=_or_null(_text()), seed=_integer(0, 2**32)),
    fingerprint=_DIGEST,
    preprocessing=_record(
        size=_list(_SIZE, 2, 2),
        mean=_list(_number(-1e3, 1e3), 3, 3),
        std=_list(_number(1e-6, 1e3), 3, 3),
        interpolation=_one_of("bicubic", "bilinear", "random"),
        resize_mode=_one_of("shortest", "longest", "squash"),
        fill_color=_integer(0, 255),
    ),
    embedding_width=_integer(1, MAX_WIDTH),
    image_config=_record(
        embed_dim=_integer(1, MAX_WIDTH), vision_cfg={"type": "object"}, quick_gelu={"type": ["boolean", "null"]}
    ),
)

_STATE = _record(
    "leverage",  # folders from before it was kept
    record=_RECORD,
    tokens=_record(
        "filler",  # folders from before text towers that are not causal
        start=_list(_TOKENS, 0, 1_000),
        end=_list(_TOKENS, 1, 1_000),
        context=_list(_TOKENS, 0, 100_000),
        n_context=_integer(0, 100_000),
        n_before=_integer(0, 100_000),
        ranks=_list(_list(_TOKENS, 1, 100_000), 2, _MAX_RANKS),
        text=_text(2 * _TEXT),
        filler=_list(_TOKENS, 1, 1_000),
    ),
    # of NumPy's types only those of numbers and text; "str" are Python's own strings
    ranks=_record(
        dtype={"type": "string", "pattern": "^([<>=|]?(b1|[iu][1248]|f[248]|U[1-9][0-9]{0,4})|str)\\Z"},
        labels=_list(_LABEL, 2, _MAX_RANKS),
    ),
    values=_list(_FINITE, 2, _MAX_RANKS),
    names=_list({"type": "string", "minLength": 1, "maxLength": _TEXT}, 2, _MAX_RANKS),
    logit_scale=_number(1e-12, 1e12),
    structure=_record(
        image_tower=_one_of("finetune", "frozen", "precomputed"),
        image_features=_one_of("auto", "embedding", "tower", "both"),
        image_adapter=_one_of("auto", "linear", "mlp", None),
        rank_targets=_one_of("soft", "hard"),
        prompt=_text(),
        n_context_tokens={"anyOf": [_integer(0, 100_000), _one_of("auto")]},
        rank_position=_one_of("tail", "front", "middle"),
        tune_ranks=_BOOLEAN,
        rankformer_layers=_integer(0, 1_000),
        white_level=_or_null({**_number(0, _HUGE), "exclusiveMinimum": 0}),
    ),
    asked_for=_list({"anyOf": [_text(), {"type": "null"}]}, 2, 2),
    history=_list(
        {"type": "object", "additionalProperties": {"anyOf": [_text(100), _FINITE, {"type": "null"}]}}, 0, 10_000_000
    ),
    device=_text(100),
    blocks=_record(
        blocks=_list(
            {"type": "array", "prefixItems": [_text(), _integer(1, MAX_COLUMNS)], "items": False, "minItems": 2},
            1,
            MAX_COLUMNS,
        ),
        embedding=_or_null(_integer(0, MAX_COLUMNS)),
    ),
    features=_one_of("embedding", "tower", "both"),
    n_views=_integer(1, MAX_VIEWS),
    n_images=_list(_integer(0, _MAX_IMAGES), 2, _MAX_RANKS),
    n_groups=_or_null(_integer(1, _MAX_IMAGES)),
    adapter=_one_of("linear", "mlp"),
    n_features=_or_null(_integer(0, MAX_WIDTH)),
    noise=_or_null(_number(0, _HUGE)),
    trust=_or_null(_number(-_HUGE, 1)),
    errors=_or_null(
        _record(
            weight=_number(0, _HUGE),
            squared_error=_number(0, _HUGE),
            squared_value_error=_number(0, _HUGE),
            position=_FINITE,
            squared_position=_number(0, _HUGE),
        )
    ),
    leverage=_or_null(
        _record(
            n_axes=_integer(1, MAX_WIDTH),
            rest=_number(0, _HUGE),
            total={**_number(0, _HUGE), "exclusiveMinimum": 0},
            offset=_FINITE,
        )
    ),
    n_columns=_or_null(_integer(1, MAX_COLUMNS)),
    column_names=_or_null(_list(_text(), 1, MAX_COLUMNS)),
)

# what a constructor's parameter may be in JSON; its meaning is checked by `Settings`
_PARAMETER = {
    "anyOf": [
        {"type": ["null", "boolean"]},
        _text(),
        _number(-1e18, 1e18),
        _list({"anyOf": [_LABEL, _list(_LABEL, 2, 2)]}, 0, _MAX_RANKS),
    ]
}

_MODEL = _record(
    format={"const": FORMAT_NAME},
    format_version={"const": FORMAT_VERSION},
    library_version=_text(100),
    params={"type": "object", "additionalProperties": _PARAMETER},
    state=_STATE,
    # false, or the name of its folder
    includes_backbone={"anyOf": [_one_of(False), {"type": "string", "pattern": "^backbone(-[0-9a-f]{16})?\\Z"}]},
    arrays=_record(sha256=_DIGEST, bytes=_integer(8, 2**42)),
    checksum=_DIGEST,
)

# true and 3.0 are no integers here
_VALIDATOR = extend(Draft202012Validator, type_checker=Draft4Validator.TYPE_CHECKER)(_MODEL)


def parse_json(text: str) -> Any:
    """Read JSON as the standard has it: without NaN and infinities, and no name twice in an object."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name stands twice in the same object")
    return result


def check_description(description: Any) -> None:
    """Raise a ValueError that names the first field of a wrong type, range or length."""
    error = best_match(_VALIDATOR.iter_errors(description))
    if error is not None:
        raise ValueError(_message(error))


def _message(error: Any) -> str:
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"the part {missing!r} is missing{f' in {path}' if path else ''}"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        return f"{path or 'the file'} holds an unknown part {unknown[:1]}"
    return f"{path}: {error.message:.300}"
