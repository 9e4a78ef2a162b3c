"""The text side of an open_clip model: its tokenizer in parts, and its tower run from word embeddings.

Prompts that share their beginning are packed into one sequence, so that the beginning is computed once. What prompts
say and which of their embeddings are trained is the business of ``_prompts``; where models come from, of ``_backbone``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._tiny_clip import EMBEDDED_NAME, embedded_tokenizer
from skl2rclip.errors import InvalidParameterError

# Longer packs spend more on attention (quadratic in the length), shorter ones repeat the shared prefix more often.
_MAX_PACKED_TOKENS = 512


def tokenizer_of(model_name: str, text_config: dict[str, Any]) -> Any:
    """Return open_clip's tokenizer of a model, which is called as ``tokenizer(texts, context_length=...)``."""
    if model_name == EMBEDDED_NAME:
        return embedded_tokenizer()
    # those of Hugging Face would else ask, at the terminal, whether to run code that came with the model
    options = {"trust_remote_code": False} if text_config.get("hf_tokenizer_name") else {}
    return open_clip.get_tokenizer(model_name.replace("/", "-") if ":" not in model_name else model_name, **options)


@cache
def _tokenizer_of(model_name: str, text_config: str) -> Any:
    """Keep tokenizers, which take a fit's worth of time to make; a model's description goes with its name."""
    return tokenizer_of(model_name, json.loads(text_config))


class PromptTokenizer:
    """A model's own tokenizer, split into what begins a text, what ends it, and the words between.

    Attributes
    ----------
    start, end : list of int
        Token ids around the words.
    context_length : int
        The most tokens that the text tower takes, `start` and `end` included.
    """

    def __init__(self, model_name: str, config: dict[str, Any]):
        text = config["text_cfg"]
        self._tokenize = _tokenizer_of(model_name, json.dumps(text, sort_keys=True))
        self._end_id = text.get("eos_id", 2) if text.get("pool_type") == "eos" else None
        self._vocabulary = text.get("vocab_size", 49408)
        self.context_length = int(text.get("context_length", 77))
        empty = self._tokenize([""], context_length=8)[0]
        length = self._end_position(empty)
        self.start: list[int] = empty[:length].tolist()
        self.end: list[int] = [int(empty[length])]

    def _end_position(self, ids: Tensor) -> int:
        """Where open_clip pools: at the highest id, or at the first end-of-text id."""
        return int((ids if self._end_id is None else (ids == self._end_id).int()).argmax())

    def words(self, text: str) -> list[int]:
        """Token ids of `text` without those that begin and end it, however many they are."""
        ids = self._tokenize([text], context_length=2 * len(text.encode()) + 8)[0]
        tokens = ids[len(self.start) : self._end_position(ids)].tolist()
        if max(tokens + self.end) >= self._vocabulary:
            raise InvalidParameterError(
                f"the tokenizer makes token id {max(tokens + self.end)} of {text!r}, but the model's vocabulary has "
                f"{self._vocabulary} entries: vocab_size in its configuration does not fit its tokenizer."
            )
        return tokens

    def text(self, tokens: Sequence[int]) -> str:
        """Words that token ids stand for, as the tokenizer writes them: in small letters where it knows no others."""
        return self._decode(list(tokens)).strip()

    @property
    def _decode(self) -> Callable[[list[int]], str]:
        # those of Hugging Face stand behind open_clip's own
        return getattr(self._tokenize, "decode", None) or self._tokenize.tokenizer.decode


@dataclass(frozen=True)
class PackedPrompts:
    """One sequence that holds a shared prefix and, after it, the own tokens of several prompts.

    Attributes
    ----------
    rows : tensor of shape (L,), int64
        Row of each token in a table of token embeddings.
    positions : tensor of shape (L,), int64
        Position of each token in its own prompt.
    mask : tensor of shape (L, L)
        Additive: 0 where the query (row) sees the key (column), else -inf.
    ends : tensor of shape (k,), int64
        Where each prompt ends in the sequence.
    """

    rows: Tensor
    positions: Tensor
    mask: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> PackedPrompts:
        """Return the same on another device."""
        return PackedPrompts(*(getattr(self, name).to(device) for name in ("rows", "positions", "mask", "ends")))


def pack_prompts(
    prefix: Sequence[int], own: Sequence[Sequence[int]], max_tokens: int = _MAX_PACKED_TOKENS
) -> list[PackedPrompts]:
    """Lay prompts that share their beginning out in as few sequences as `max_tokens` allows.

    Parameters
    ----------
    prefix : sequence of int
        Rows of the tokens that every prompt begins with.
    own : sequence of K sequences of int
        Rows of each prompt's further tokens, the last of them its end of text.
    max_tokens : int, optional
        Length of a sequence, exceeded only where a single prompt is longer. It bounds the attention's memory, so that
        the whole stays linear in K.

    Returns
    -------
    list of PackedPrompts
        Together K prompts, in order.
    """
    packs: list[PackedPrompts] = []
    group: list[Sequence[int]] = []
    length = len(prefix)
    for rows in own:
        if group and length + len(rows) > max_tokens:
            packs.append(_pack(prefix, group))
            group, length = [], len(prefix)
        group.append(rows)
        length += len(rows)
    return [*packs, _pack(prefix, group)]


def _pack(prefix: Sequence[int], own: Sequence[Sequence[int]]) -> PackedPrompts:
    lengths = torch.tensor([len(rows) for rows in own])
    shared = len(prefix)
    owner = torch.cat([torch.full((shared,), -1), torch.repeat_interleave(torch.arange(len(own)), lengths)])  # (L,)
    positions = torch.cat([torch.arange(shared)] + [shared + torch.arange(len(rows)) for rows in own])
    order = torch.arange(len(owner))
    visible = (owner == -1) | (owner[:, None] == owner)  # the prefix, and what belongs to the same prompt
    visible &= order[:, None] >= order
    mask = torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))
    return PackedPrompts(
        rows=torch.tensor([*prefix, *(row for rows in own for row in rows)]),
        positions=positions,
        mask=mask,
        ends=shared + lengths.cumsum(0) - 1,
    )


class TextTower:
    """A causal open_clip text tower that starts from word embeddings instead of token ids.

    It holds references to the modules of the shared, frozen model and is not itself a module, so that whoever keeps
    one does not register its parameters.
    """

    def __init__(self, model: nn.Module):
        text: Any = getattr(model, "text", model)
        self.token_embedding: nn.Embedding = text.token_embedding
        self.width: int = text.token_embedding.weight.shape[1]
        self._transformer = text.transformer
        self._positions = text.positional_embedding
        self._final_norm = text.ln_final
        self._projection = text.text_projection

    @property
    def device(self) -> torch.device:
        """Where the tower runs."""
        return self._positions.device

    def encode(self, table: Tensor, packs: Sequence[PackedPrompts]) -> Tensor:
        """Embed packed prompts; exact, and differentiable with respect to `table`.

        Parameters
        ----------
        table : tensor of shape (T, d)
            Token embeddings that the packs' rows point into.
        packs : sequence of PackedPrompts
            K prompts in all.

        Returns
        -------
        tensor of shape (K, D)
            Not normalised.
        """
        return torch.cat([self._encode(table, pack) for pack in packs])

    def _encode(self, table: Tensor, pack: PackedPrompts) -> Tensor:
        tokens = F.embedding(pack.rows, table) + self._positions[pack.positions]  # (L, d)
        hidden = self._transformer(tokens[None], attn_mask=pack.mask)[0]  # (L, d)
        pooled = self._final_norm(F.embedding(pack.ends, hidden))  # (k, d)
        if self._projection is None:
            return pooled
        return self._projection(pooled) if isinstance(self._projection, nn.Linear) else pooled @ self._projection
