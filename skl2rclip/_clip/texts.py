"""Texts in, embeddings out, by the text tower of a model as it came.

Prompts of which something is learned are in ``_model.prompts``; how a text tower runs is said in ``_clip.text_tower``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skl2rclip._clip.backbone import Backbone
from skl2rclip._clip.text_tower import TextTower, refusal
from skl2rclip._clip.tokenizer import PromptTokenizer
from skl2rclip._utils.arguments import is_missing
from skl2rclip._utils.devices import autocast_for, explain_out_of_memory, in_batches
from skl2rclip._utils.eta import ProgressMonitor, quicker_device
from skl2rclip._utils.progress import progress_bar
from skl2rclip._utils.threads import threads_for
from skl2rclip.errors import InvalidParameterError

_MAX_SHOWN = 80


def as_texts(texts: Any) -> list[str]:
    """Turn a string or a sequence of strings into a list of strings, and name the first entry that is none."""
    texts = [texts] if isinstance(texts, str) else texts
    shape: Any = getattr(texts, "shape", None)
    is_table = isinstance(shape, tuple) and len(shape) != 1
    if is_table or not isinstance(texts, Iterable) or isinstance(texts, bytes | bytearray | Mapping | Set):
        what = f" of shape {shape}: choose the column that holds them" if shape else ""
        raise TypeError(f"texts must be a string or a sequence of strings, got {type(texts).__name__}{what}.")
    entries = list(texts)
    if not entries:
        used_up = ": the iterator has been gone through already" if hasattr(texts, "__next__") else ""
        raise ValueError(f"texts must hold at least one string, got none{used_up}.")
    for index, entry in enumerate(entries):
        _check_text(index, entry)
    return entries


def _check_text(index: int, entry: Any) -> None:
    if not isinstance(entry, str):
        is_scalar = getattr(entry, "shape", ()) == ()
        shown = "a missing value" if is_scalar and is_missing(entry) else f"{type(entry).__name__} ({_shown(entry)})"
        raise TypeError(f"texts[{index}] must be a string, got {shown}.")
    try:
        entry.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"texts[{index}] ({_shown(entry)}) is no text of Unicode: {error.reason}.") from error


def _shown(entry: Any) -> str:
    shown = " ".join(repr(entry).split())
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 3]}..."


def embed_texts(
    backbone: Backbone,
    texts: Sequence[str],
    device: torch.device,
    precision: str,
    batch_size: int | str,
    verbose: int = 0,
) -> np.ndarray:
    """Embed texts as open_clip's ``encode_text`` does: unit rows, ndarray of shape (n, D), float32.

    `batch_size` texts pass the tower at once, those that come several times once altogether.

    Raises
    ------
    InvalidParameterError
        If the model has no text tower that runs.
    ValueError
        If a text has no token, or more than the tower takes; before any text is embedded.
    MemoryError
    """
    reason = refusal(backbone.config)
    if reason is not None:
        raise InvalidParameterError(
            f"model_name={backbone.source.model_name!r} embeds images only: {reason}. Choose another model for texts."
        )
    different = list(dict.fromkeys(texts))
    tokenizer = backbone.tokenizer()
    words = _tokenized(tokenizer, different, texts)
    encoding = _TextEncoding(backbone.text_tower(device), tokenizer, precision, verbose)
    with explain_out_of_memory(batch_size, "embedding texts"):
        embeddings = in_batches(partial(encoding.of_words, words), batch_size)
    row = {text: index for index, text in enumerate(different)}
    return embeddings[[row[text] for text in texts]]


def _tokenized(tokenizer: PromptTokenizer, different: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text without those around them, once it is sure that all of them can be embedded whole."""
    words = []
    for text in different:
        tokens = tokenizer.all_words(text)
        problem = _problem_of(tokens, tokenizer)
        if problem is not None:
            raise ValueError(f"texts[{texts.index(text)}] ({_shown(text)}) {problem}.")
        words.append(tokens)
    return words


def _problem_of(tokens: Sequence[int], tokenizer: PromptTokenizer) -> str | None:
    """Why a text of these words cannot be embedded, None where it can."""
    n_tokens, n_max = len(tokens) + tokenizer.n_around, tokenizer.context_length
    if not tokens:
        return "has no token that the model knows"
    if tokenizer.end[0] in tokens:
        return "holds the token that ends a text, so that what follows would not count"
    if n_tokens > n_max:
        return (
            f"has {n_tokens} tokens, {tokenizer.n_around} of them around its words, but the text tower takes at most "
            f"{n_max}: shorten it by {n_tokens - n_max}"
        )
    return None


@dataclass(frozen=True)
class _TextEncoding:
    """How texts become embeddings."""

    tower: TextTower
    tokenizer: PromptTokenizer
    precision: str
    verbose: int

    @torch.no_grad()  # no inference mode: what the tower makes and keeps may be needed for gradients
    def of_words(self, words: Sequence[Sequence[int]], batch_size: int) -> np.ndarray:
        """Embed texts of these words, so many at once: unit rows (n, D), float32."""
        n_texts, device = len(words), self.tower.device
        quicker = [*quicker_device(device), "a smaller model_name"]
        monitor = ProgressMonitor(f"Embedding the texts on {device}", n_texts, "text", quicker)
        n_tokens = sum(len(own) + self.tokenizer.n_around for own in words[:batch_size])
        parts = []
        with (
            threads_for(self.tower.n_products(n_tokens)) as watch,
            progress_bar(self.verbose, "embedding", n_texts, "text") as bar,
        ):
            for start in range(0, n_texts, batch_size):
                parts.append(self._of_batch(words[start : start + batch_size]))
                bar.update(len(parts[-1]))
                monitor.done(start + len(parts[-1]))
                watch.step()
        # one copy to the host: the device works through the batches without waiting for it
        return torch.cat(parts).cpu().numpy()

    def _of_batch(self, words: Sequence[Sequence[int]]) -> Tensor:
        start, end, filler = self.tokenizer.start, self.tokenizer.end, self.tokenizer.filler
        ids = list(dict.fromkeys(chain(start, end, filler, *words)))
        row = {token: place for place, token in enumerate(ids)}
        own = [[row[token] for token in chain(tokens, end)] for tokens in words]
        table = self.tower.embed_tokens(ids)
        arranged = self.tower.arrange([row[token] for token in start], own, ids, [row[token] for token in filler])
        with autocast_for(self.precision, self.tower.device):
            embeddings = self.tower.encode(table, arranged)
        return F.normalize(embeddings.float(), dim=-1)
