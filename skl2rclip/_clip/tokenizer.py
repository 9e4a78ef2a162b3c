"""A model's tokenizer, taken apart: what begins a text, its words, what ends it, and what fills the rest.

``_model.prompts`` says what the words are for, ``_clip.text_tower`` how a text tower reads them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import open_clip

from skl2rclip._clip.embedded import EMBEDDED_NAMES, embedded_tokenizer
from skl2rclip._clip.hub import concerns_the_hub, unexplained, why_not_fetched, why_unreachable
from skl2rclip._clip.source import LOCAL_DIR_PREFIX
from skl2rclip._clip.transformers import EXTRA, require_transformers
from skl2rclip.errors import InvalidParameterError

_PROBE_LENGTH = 16


def tokenizer_of(model_name: str, text_config: dict[str, Any]) -> Any:
    """Return open_clip's tokenizer of a model, which is called as ``tokenizer(texts, context_length=...)``."""
    if model_name in EMBEDDED_NAMES:
        return embedded_tokenizer(model_name)
    name = model_name.replace("/", "-") if ":" not in model_name else model_name
    hub_name = text_config.get("hf_tokenizer_name")
    if not hub_name:
        with root_logger_kept():
            return open_clip.get_tokenizer(name)
    require_transformers(model_name, f"the Hugging Face tokenizer {hub_name!r}")
    is_local = name.startswith(LOCAL_DIR_PREFIX) or os.path.isdir(hub_name)
    no_connection = None if is_local else why_unreachable(hub_name, "tokenizer_config.json")
    # the first would else ask, at the terminal, whether to run code that came with the model
    options = {"trust_remote_code": False, **({} if no_connection is None else {"local_files_only": True})}
    try:
        with root_logger_kept():
            return open_clip.get_tokenizer(name, **options)
    except Exception as error:  # transformers, its tokenizers and the hub's client raise families of their own
        which = f"The tokenizer {hub_name!r} of model_name={model_name!r}"
        if no_connection is not None or concerns_the_hub(error):
            why = no_connection or error
            raise RuntimeError(f"{which} could not be fetched. {why_not_fetched(why)}") from unexplained(why)
        raise RuntimeError(
            f"{which} could not be made: {error}\nTokenizers of Hugging Face are fetched at the first use, and need "
            f"what {EXTRA} installs."
        ) from error


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Leave the root logger without a handler where it has none; open_clip's first message would give it one.

    All that other libraries log would then be written twice, and a ``logging.basicConfig`` of the user do nothing.
    """
    before = list(logging.root.handlers)
    try:
        yield
    finally:
        for handler in [] if before else list(logging.root.handlers):
            logging.root.removeHandler(handler)


@cache
def _tokenizer_of(model_name: str, text_config: str) -> Any:
    """Keep tokenizers, which take a fit's worth of time to make; a model's description goes with its name."""
    return tokenizer_of(model_name, json.loads(text_config))


class PromptTokenizer:
    """A model's own tokenizer, split into what begins a text, what ends it, and the words between.

    `filler` is the id that fills a text up to the context length, which includes `start` and `end`, and after it what
    stands at the very end, where something does.
    """

    def __init__(self, model_name: str, config: dict[str, Any]):
        text = config["text_cfg"]
        self._tokenize = _tokenizer_of(model_name, json.dumps(text, sort_keys=True))
        # only the own description of a text tower of a hub would say it
        self._vocabulary = None if text.get("hf_model_name") else int(text.get("vocab_size", 49408))
        self._n_last = 1 if text.get("tokenizer_mode") == "clips" else 0  # a class token behind the padding
        self.context_length = int(text.get("context_length", 77))
        empty = self._ids("", _PROBE_LENGTH)
        pad, last = empty[-1 - self._n_last], empty[len(empty) - self._n_last :]
        self.filler: list[int] = [pad, *last]
        around, probe = self._unpadded("", _PROBE_LENGTH), self._unpadded("a", _PROBE_LENGTH)
        n_start = next((i for i, (one, other) in enumerate(zip(around, probe, strict=False)) if one != other), None)
        n_start = min(len(around), len(probe)) if n_start is None else n_start
        self.start: list[int] = around[:n_start]
        self._end = around[n_start:]
        # some end a text with what also fills it up
        self.end: list[int] = self._end or [pad]
        if text.get("pool_type") == "eos" and not text.get("hf_model_name") and text.get("eos_id", 2) not in self.end:
            raise InvalidParameterError(
                f"the text tower pools at the token {text.get('eos_id', 2)}, and its tokenizer ends texts with "
                f"{self.end}: eos_id in the model's configuration does not fit its tokenizer."
            )

    @property
    def n_around(self) -> int:
        """How many tokens of the context length are no words: those that begin a text, end it, and stand at the end."""
        return len(self.start) + len(self.end) + self._n_last

    def _ids(self, text: str, length: int) -> list[int]:
        return self._tokenize([text], context_length=length)[0].tolist()

    def _unpadded(self, text: str, length: int) -> list[int]:
        ids = self._ids(text, length)
        ids = ids[: len(ids) - self._n_last]
        while ids and ids[-1] == self.filler[0]:
            ids.pop()
        return ids

    def words(self, text: str, before: str = "") -> list[int]:
        """Token ids of `text` without those that begin and end it, however many they are.

        Many tokenizers write a word within a text otherwise than at its beginning: `before` stands in front of it.
        Where a token would hold letters of both, `text` is taken by itself.
        """
        head, whole = self._words(before), self._words(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self._words(text)

    def _words(self, text: str) -> list[int]:
        tokens = self.all_words(text)
        if self.end[0] in tokens:  # written out in the text; a tower would take it for the end
            tokens = tokens[: tokens.index(self.end[0])]
        return tokens

    def all_words(self, text: str) -> list[int]:
        """Token ids of `text` at the beginning of a text, an end that is written out in it among them."""
        ids = self._unpadded(text, 2 * len(text.encode()) + _PROBE_LENGTH)
        tokens = ids[len(self.start) : len(ids) - len(self._end)]
        largest = max(tokens + self.end)
        if self._vocabulary is not None and largest >= self._vocabulary:
            raise InvalidParameterError(
                f"the tokenizer makes token id {largest} of {text!r}, but the model's vocabulary has "
                f"{self._vocabulary} entries: vocab_size in its configuration does not fit its tokenizer."
            )
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """Words that token ids stand for, as the tokenizer writes them: in small letters where it knows no others."""
        # those of Hugging Face stand behind open_clip's own
        decode = getattr(self._tokenize, "decode", None) or self._tokenize.tokenizer.decode
        return decode(list(tokens)).strip()
