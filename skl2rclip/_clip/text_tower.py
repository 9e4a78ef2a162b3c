"""The text tower of an open_clip model, run from word embeddings instead of token ids.

Where it is causal, prompts that share their beginning are packed into one sequence, so that the beginning is computed
once. All others run in full, with their padding, some ranks at a time. What prompts say and which of their embeddings
are trained is said in ``_model.prompts``; where models come from, in ``_clip.backbone``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skl2rclip._utils.threads import n_side_by_side, side_by_side
from skl2rclip.errors import InvalidParameterError

# Longer packs spend more on attention (quadratic in the length), shorter ones repeat the shared prefix more often.
_MAX_PACKED_TOKENS = 512
# What the activations of prompts that run in full may take, about; beyond it they are computed again for the gradient.
_MAX_ACTIVATION_BYTES = 2**31
# of a transformer's layer, for each token and each unit of its width: inputs of maps, norms, activations, attention
_KEPT_PER_LAYER = 11
_PARAMETERS_PER_LAYER = 12  # times the width squared
# Tokens, and products, of a part that is worth a thread of its own. With fewer tokens the threads wait for the weights,
# which each of them reads, and with fewer products for Python.
_TOKENS_WORTH_A_THREAD, _WORTH_A_THREAD = 128, 10**9


def refusal(config: dict[str, Any]) -> str | None:
    """Say why the prompts of a model cannot start from word embeddings; None where they can."""
    text = config["text_cfg"]
    pool_type = text.get("pool_type", "argmax")
    if text.get("hf_model_name"):
        if text.get("hf_pooler_type", "mean_pooler") == "max_pooler":
            return "its text tower pools by the maximum (max_pooler), which open_clip itself cannot run"
        if text.get("tokenizer_mode"):
            return f"its tokenizer_mode={text['tokenizer_mode']!r} is not for Hugging Face text towers"
        return None
    if text.get("embed_cls"):
        is_own_tower = config.get("custom_text") or "multimodal_cfg" in config
        return (
            None if is_own_tower else "it appends a class token (embed_cls), which open_clip runs with custom_text only"
        )
    if pool_type not in ("first", "last", "argmax", "eos"):
        return f"its text tower does not pool its tokens (pool_type={pool_type!r})"
    if pool_type == "first" and not text.get("no_causal_mask"):
        return (
            "its text tower is causal and pools at the first token (pool_type='first'), which sees no word of any text"
        )
    return None


@dataclass(frozen=True)
class PackedPrompts:
    """One sequence that holds a shared prefix and, after it, the own tokens of several prompts."""

    rows: Tensor  # (L,), int64, row of each token in a table of token embeddings
    positions: Tensor  # (L,), int64, position of each token in its own prompt
    mask: Tensor  # (L, L), additive: 0 where the query (row) sees the key (column), else -inf
    ends: Tensor  # (k,), int64, where each prompt ends in the sequence


def pack_prompts(
    prefix: Sequence[int], own: Sequence[Sequence[int]], max_tokens: int = _MAX_PACKED_TOKENS
) -> list[PackedPrompts]:
    """Lay K prompts that share the beginning `prefix` out in as few sequences as `max_tokens` allows, in order.

    `own` holds each prompt's further tokens, the last of them its end of text. A sequence is longer only where a single
    prompt is: the bound on the attention's memory keeps the whole linear in K.
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


@dataclass(frozen=True)
class FullPrompts:
    """Whole prompts, one a row, as far as their tokens take part in the result."""

    rows: Tensor  # (k, L), int64, row of each token in a table of token embeddings
    positions: Tensor  # (L,), int64, position of each column in a text
    keys: Tensor | None  # (k, L), bool, the tokens that are seen by others; None where all are
    pooled: Tensor  # (k,), int64, column at which each prompt is read
    is_kept: bool = True  # whether activations are kept for the gradient, else they are computed again

    def split(self, size: int, *, is_kept: bool) -> list[FullPrompts]:
        """Cut into chunks of `size` prompts."""
        keys = [None] * len(self.rows) if self.keys is None else self.keys.split(size)
        chunks = zip(self.rows.split(size), keys, self.pooled.split(size), strict=False)
        return [FullPrompts(rows, self.positions, own, pooled, is_kept) for rows, own, pooled in chunks]


def _on(device: torch.device, prompts: Any) -> Any:
    """Return prompts, packed or full, with their tensors on a device."""
    return replace(prompts, **{name: it.to(device) for name, it in vars(prompts).items() if isinstance(it, Tensor)})


class _SideBySide(torch.autograd.Function):
    """Several packs or chunks of prompts, each with a thread and a graph of its own, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, encode: Callable[[Tensor, Any], Tensor], prompts: Sequence[Any]) -> Tensor:
        def embed(each: Any) -> tuple[Tensor, Tensor]:
            own = table.detach().requires_grad_()
            with torch.enable_grad():
                return own, encode(own, each)

        ctx.parts = side_by_side(embed, prompts)
        return torch.cat([output.detach() for _, output in ctx.parts])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        def of_table(part: tuple[Tensor, Tensor, Tensor]) -> Tensor:
            own, output, gradient = part
            return torch.autograd.grad(output, own, gradient)[0]

        gradients = gradient.split([len(output) for _, output in ctx.parts])
        parts = [(*part, own) for part, own in zip(ctx.parts, gradients, strict=True)]
        return torch.stack(side_by_side(of_table, parts)).sum(dim=0), None, None


class TextTower:
    """An open_clip text tower that starts from word embeddings, of width d, instead of token ids.

    It holds references to the modules of the shared, frozen model and is not itself a module, so that whoever keeps one
    does not register its parameters.
    """

    # CoCa's: it stands behind the padding, and is read in the place of any other token
    _class_token: Tensor | None = None

    def __init__(self, model: nn.Module):
        text: Any = getattr(model, "text", model)
        self.token_embedding: Any = text.token_embedding
        self.width = int(self.token_embedding.weight.shape[1])
        self._transformer = text.transformer
        self._positions = text.positional_embedding
        self._final_norm = text.ln_final
        self._projection = text.text_projection
        self._context_length = int(text.context_length)
        self._heads = int(self._transformer.resblocks[0].attn.num_heads)
        self._is_causal = text.attn_mask is not None
        self._pool_type = getattr(text, "pool_type", None) or model.text_pool_type
        self._eos_id = text.eos_id if hasattr(text, "eos_id") else model.text_eos_id
        self._pad_id = int(getattr(text, "pad_id", 0))
        self._class_token = getattr(text, "cls_emb", None)
        self._masks_class_last = bool(getattr(text, "correct_cls_mask", False))
        self._hides_padding = bool(getattr(text, "use_pad_mask", False)) or self._class_token is not None

    @property
    def device(self) -> torch.device:
        """Where the tower runs."""
        return self.token_embedding.weight.device

    def embed_tokens(self, ids: Sequence[int]) -> Tensor:
        """Word embeddings of token ids, tensor of shape (T, d)."""
        known = len(self.token_embedding.weight)
        if max(ids, default=0) >= known:  # of a Hugging Face text tower, only the loaded model says how many
            raise ValueError(
                f"The model's texts hold the token {max(ids)}, and the text tower of its backbone knows {known}: its "
                "tokenizer is another model's, or its prompts are damaged."
            )
        return self.token_embedding(torch.tensor(ids, dtype=torch.int64, device=self.device)).detach().clone()

    def arrange(
        self, prefix: Sequence[int], own: Sequence[Sequence[int]], ids: Sequence[int], filler: Sequence[int]
    ) -> list[PackedPrompts] | list[FullPrompts]:
        """Lay prompts out for `encode`: packed where that is exact, else in full.

        All but `ids` are rows of a table of T token embeddings: those that every prompt begins with, each prompt's
        further ones, of which the last is its end of text, and what fills a text up, with what stands at the very end
        behind it. `ids` are the T tokens of the table, -1 for learned embeddings that began as none.
        """
        lengths = np.array([len(prefix) + len(rows) for rows in own])
        rows = self._padded(prefix, own, filler, lengths)
        tokens = np.asarray(ids)[rows]  # (K, L)
        pooled = self._pooled_at(tokens)
        if self._is_causal and not self._hides_padding and (pooled == lengths - 1).all():
            return [_on(self.device, pack) for pack in pack_prompts(prefix, own, self._pack_size(prefix, own))]
        keys = self._seen(tokens)
        if self._class_token is not None:
            rows = np.column_stack([rows, np.full(len(rows), len(ids))])  # the row behind the table
        columns = self._columns(rows.shape[1], int(lengths.max()), pooled)
        prompts = FullPrompts(
            rows=torch.from_numpy(rows[:, columns]),
            positions=torch.from_numpy(columns),
            keys=None if keys is None else torch.from_numpy(keys[:, columns]),
            pooled=torch.from_numpy(np.searchsorted(columns, pooled)),
        )
        return self._divided(_on(self.device, prompts))

    def _padded(
        self, prefix: Sequence[int], own: Sequence[Sequence[int]], filler: Sequence[int], lengths: np.ndarray
    ) -> np.ndarray:
        """Rows of whole texts, ndarray of shape (K, L)."""
        rows = np.full((len(own), self._context_length), filler[0])
        for line, length, further in zip(rows, lengths, own, strict=True):
            line[:length] = [*prefix, *further]
        if len(filler) > 1:
            rows[:, 1 - len(filler) :] = filler[1:]
        return rows

    def _pooled_at(self, tokens: np.ndarray) -> np.ndarray:
        """Where open_clip reads texts of these tokens, ndarray of shape (K,)."""
        n_texts, length = tokens.shape
        if self._class_token is not None:
            return np.full(n_texts, length)
        if self._pool_type in ("first", "last"):
            return np.full(n_texts, 0 if self._pool_type == "first" else length - 1)
        return (tokens if self._pool_type == "argmax" else tokens == self._eos_id).argmax(axis=1)

    def _seen(self, tokens: np.ndarray) -> np.ndarray | None:
        """Which tokens others may see, ndarray of shape (K, L), bool; None where that does not depend on the text."""
        if not self._hides_padding:
            return None
        seen = tokens != self._pad_id
        if self._class_token is None:
            return seen
        always = np.ones((len(tokens), 1), dtype=bool)
        # in CoCa's published weights the class token's place in the mask is in front, so that all others are shifted
        return np.hstack([seen, always] if self._masks_class_last else [always, seen])

    def _columns(self, length: int, longest: int, pooled: np.ndarray) -> np.ndarray:
        """Positions that take part in the result: all, but for those that no one sees or that come too late."""
        if self._hides_padding:
            # one more than the longest prompt has, for masks that are shifted by one
            return np.union1d(np.arange(min(longest + 1, length)), pooled)
        return np.arange(pooled.max() + 1 if self._is_causal else length)

    def n_products(self, n_tokens: int) -> int:
        """Count the products of so many tokens with the weights that each of them meets."""
        words = self.token_embedding.weight
        return n_tokens * sum(each.numel() for each in self._transformer.parameters() if each is not words)

    def _n_threads(self, n_tokens: int) -> int:
        """How many threads are worth their while, for so many tokens."""
        worth = min(n_tokens // _TOKENS_WORTH_A_THREAD, self.n_products(n_tokens) // _WORTH_A_THREAD)
        return max(1, min(n_side_by_side(), worth)) if self.device.type == "cpu" else 1

    def _pack_size(self, prefix: Sequence[int], own: Sequence[Sequence[int]]) -> int:
        """Length of a sequence, with which there is one for each thread, or more."""
        lengths = [len(rows) for rows in own]
        n_packs = self._n_threads(sum(lengths))
        return min(_MAX_PACKED_TOKENS, len(prefix) + -(-sum(lengths) // n_packs) + max(lengths) - 1)

    def _divided(self, prompts: FullPrompts) -> list[FullPrompts]:
        """Cut into chunks whose activations fit, one for each thread, or more."""
        n_texts, length = prompts.rows.shape
        layers_times_width = self.n_products(1) / (_PARAMETERS_PER_LAYER * self.width)
        n_fit = max(1, int(_MAX_ACTIVATION_BYTES / (4 * _KEPT_PER_LAYER * layers_times_width * length)))
        n_threads = self._n_threads(n_texts * length)
        size = -(-min(n_texts, n_fit) // n_threads)
        return prompts.split(size, is_kept=n_texts <= n_fit)

    def encode(self, table: Tensor, prompts: Sequence[PackedPrompts | FullPrompts]) -> Tensor:
        """Embed K prompts, whose rows point into a table (T, d): (K, D), not normalised; exact and differentiable."""
        if len(prompts) == 1 or self.device.type != "cpu":
            return torch.cat([self._encode(table, each) for each in prompts])
        if torch.is_grad_enabled() and table.requires_grad:
            return _SideBySide.apply(table, self._encode, prompts)
        return torch.cat(side_by_side(lambda each: self._encode(table, each), prompts))

    def _encode(self, table: Tensor, prompts: PackedPrompts | FullPrompts) -> Tensor:
        encode: Callable[..., Tensor] = self._encode_packed if isinstance(prompts, PackedPrompts) else self._encode_full
        return encode(table, prompts)

    def _encode_packed(self, table: Tensor, pack: PackedPrompts) -> Tensor:
        tokens = F.embedding(pack.rows, table) + self._positions[pack.positions]  # (L, d)
        hidden = self._transformer(tokens[None], attn_mask=pack.mask)[0]  # (L, d)
        return self._project(self._final_norm(F.embedding(pack.ends, hidden)))  # (k, D)

    def _encode_full(self, table: Tensor, prompts: FullPrompts) -> Tensor:
        if self._class_token is not None:
            table = torch.cat([table, self._class_token[None]])
        tokens = F.embedding(prompts.rows, table)  # (k, L, d)
        if prompts.is_kept or not torch.is_grad_enabled():
            return self._run(tokens, prompts)
        return checkpoint(self._run, tokens, prompts, use_reentrant=False, preserve_rng_state=False)

    def _run(self, tokens: Tensor, prompts: FullPrompts) -> Tensor:
        hidden = self._transformer(tokens + self._positions[prompts.positions], attn_mask=self._mask(prompts))
        pooled = hidden.take_along_dim(prompts.pooled[:, None, None], dim=1)[:, 0]  # (k, d)
        return self._project(self._final_norm(pooled))

    def _mask(self, prompts: FullPrompts) -> Tensor | None:
        """Additive mask, tensor of shape (L, L), or (k * heads, L, L) where it depends on the text."""
        n_texts, length = prompts.rows.shape
        hidden = torch.zeros(length, length, dtype=torch.bool, device=self.device)
        if self._is_causal:
            hidden = prompts.positions[:, None] < prompts.positions
        elif prompts.keys is None:
            return None
        if prompts.keys is not None:
            hidden = hidden | ~prompts.keys[:, None, :]  # (k, L, L)
            hidden = hidden.repeat_interleave(self._heads, dim=0, output_size=n_texts * self._heads)
        return torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, float("-inf"))

    def _project(self, pooled: Tensor) -> Tensor:
        if self._projection is None:
            return pooled
        return self._projection(pooled) if isinstance(self._projection, nn.Linear) else pooled @ self._projection


class HuggingFaceTextTower(TextTower):
    """A text tower of Hugging Face inside an open_clip model.

    Padding is hidden from the other tokens and from the pooling, so that texts end where the longest of them does.
    """

    def __init__(self, model: nn.Module, name: str):
        text: Any = model.text
        self._text = text
        self._transformer = text.transformer
        try:
            self.token_embedding = text.transformer.get_input_embeddings()
        except NotImplementedError:
            self.token_embedding = None
        if not isinstance(self.token_embedding, nn.Embedding):
            raise InvalidParameterError(_unreachable(name, "it has no table of them"))
        self.width = int(self.token_embedding.weight.shape[1])
        self._pad_id = int(text.config.pad_token_id)
        self._check_reached(name)

    @torch.no_grad()
    def _check_reached(self, name: str) -> None:
        """Run a text from its ids, and from what are said to be its word embeddings."""
        n_tokens = min(8, len(self.token_embedding.weight))
        ids = torch.arange(n_tokens, device=self.device)[None]
        ids = ids[ids != self._pad_id][None]
        expected = self._text(ids)
        expected = expected[0] if isinstance(expected, tuple) else expected
        rows = FullPrompts(ids, ids[0], torch.ones_like(ids, dtype=torch.bool), ids[0, :1])
        if not torch.allclose(self._run(self.token_embedding(ids), rows), expected, atol=1e-4, rtol=1e-3):
            raise InvalidParameterError(_unreachable(name, "it makes something else of them than of the words' ids"))

    def arrange(
        self, prefix: Sequence[int], own: Sequence[Sequence[int]], ids: Sequence[int], filler: Sequence[int]
    ) -> list[FullPrompts]:
        """Lay prompts out for `encode`, see `TextTower.arrange`."""
        lengths = np.array([len(prefix) + len(rows) for rows in own])
        self._context_length = int(lengths.max())
        rows = self._padded(prefix, own, filler[:1], lengths)
        prompts = FullPrompts(
            rows=torch.from_numpy(rows),
            positions=torch.arange(self._context_length),
            keys=torch.from_numpy(np.asarray(ids)[rows] != self._pad_id),
            pooled=torch.zeros(len(rows), dtype=torch.int64),
        )
        return self._divided(_on(self.device, prompts))

    def _run(self, tokens: Tensor, prompts: FullPrompts) -> Tensor:
        assert prompts.keys is not None
        mask = prompts.keys.long()
        output = self._transformer(inputs_embeds=tokens, attention_mask=mask)
        return self._text.proj(self._text.pooler(output, mask))


def _unreachable(name: str, reason: str) -> str:
    return (
        f"model_name={name!r} cannot be used: the word embeddings of its text tower cannot be reached ({reason}), and "
        "texts start there."
    )


def text_tower_of(model: nn.Module, name: str) -> TextTower:
    """Text tower of an open_clip model of any family; `name` is for messages."""
    text = getattr(model, "text", None)
    return HuggingFaceTextTower(model, name) if hasattr(text, "pooler") else TextTower(model)
