"""The rank prompts: learned context tokens, rank tokens and RankFormer in, one text prototype for each rank out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skl2rclip._clip.text_tower import TextTower
from skl2rclip._clip.tokenizer import PromptTokenizer
from skl2rclip._model.modules import RankFormer
from skl2rclip._ordinal.order_inference import spoken
from skl2rclip._utils.arguments import warn_user
from skl2rclip.errors import InvalidParameterError

_RANDOM_CONTEXT_STD = 0.02


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of the rank prompts before anything is learned."""

    start: tuple[int, ...]  # what begins every prompt
    end: tuple[int, ...]  # what ends every prompt
    # the words of the prompt, at most n_context; the rest of the context starts from random numbers
    context: tuple[int, ...]
    n_context: int  # number m of context tokens
    n_before: int  # number of them before the rank
    ranks: tuple[tuple[int, ...], ...]  # the words of each of the K names
    text: str  # all of it in plain words, as `L2RCLIPClassifier.prompt_` has it
    # what fills a prompt up to the length that the text tower takes, and after it what stands at the very end
    filler: tuple[int, ...] = (0,)


def split_prompt(prompt: str) -> tuple[str, str | None]:
    """Words before the rank and after it, None where the prompt does not say where it stands."""
    before, found, after = prompt.partition("{}")
    return before, after if found else None


def tokens_before(position: str, n_context: int) -> int:
    """Count the context tokens before the rank, where `rank_position` says it."""
    return {"tail": n_context, "front": 0, "middle": n_context // 2}[position]


def tokenize_prompts(
    tokenizer: PromptTokenizer, prompt: str, names: Sequence[str], n_context: int | str, position: str
) -> PromptTokens:
    """Tokenise a prompt and the names of the ranks, and check that they fit; a prompt that is cut gives a warning.

    `n_context` of "auto" is as many context tokens as the words of the prompt have.
    """
    tokens, n_words = _tokenized(tokenizer, prompt, names, n_context, position)
    if n_words > tokens.n_context:
        most = _max_context_tokens(tokenizer, tokens.ranks)
        remedy = "n_context_tokens='auto' takes all of it"
        if n_words > most:
            remedy = f"the text tower takes {most} beside the longest rank name, so shorten the prompt"
        warn_user(
            f"prompt={prompt!r} has {n_words} tokens and is cut to n_context_tokens={n_context}: what is left of it is "
            f"{tokens.text!r}, and {remedy}."
        )
    warn_of_same_names(tokens)
    return tokens


def warn_of_same_names(tokens: PromptTokens) -> None:
    """Warn where the words alone do not tell all ranks apart."""
    if len(set(tokens.ranks)) < len(tokens.ranks):
        warn_user("Some ranks have names of the same tokens; before training the model cannot tell them apart.")


def tokenize_whole_prompts(
    tokenizer: PromptTokenizer, prompt: str, names: Sequence[str], position: str
) -> PromptTokens:
    """Tokenise the words of a prompt and nothing else, as zero-shot CLIP has them; cut only where they do not fit."""
    n_words = count_words(tokenizer, prompt)
    most = _max_context_tokens(tokenizer, [tokenizer.words(name, "a") for name in spoken(names)])
    return _tokenized(tokenizer, prompt, names, max(0, min(n_words, most)), position)[0]


def count_words(tokenizer: PromptTokenizer, prompt: str) -> int:
    """Count the tokens that the words of a prompt have."""
    return sum(len(tokenizer.words(part or "")) for part in split_prompt(prompt))


def _max_context_tokens(tokenizer: PromptTokenizer, ranks: Sequence[Sequence[int]]) -> int:
    """Count the context tokens that fit beside the longest of the ranks' names."""
    return tokenizer.context_length - tokenizer.n_around - max(len(rank) for rank in ranks)


def _tokenized(
    tokenizer: PromptTokenizer, prompt: str, names: Sequence[str], n_context: int | str, position: str
) -> tuple[PromptTokens, int]:
    """Tokens of the prompts, and how many the words of the prompt would have, of which `n_context` are taken."""
    said = spoken(names)
    before, after = split_prompt(prompt)
    given, n_words = n_context, count_words(tokenizer, prompt)
    leads, follows = _around(prompt, said, n_words if isinstance(given, str) else given, position)
    first, rest = tokenizer.words(before, follows if after is None else ""), tokenizer.words(after or "", follows)
    context = first + rest
    ranks = [tokenizer.words(name, leads) for name in said]
    for name, words in zip(names, ranks, strict=True):
        if not words:
            raise InvalidParameterError(f"rank_names: {name!r} has no token that the model knows.")
    n_words = len(context)
    n_context = n_words if isinstance(given, str) else given
    if n_context > _max_context_tokens(tokenizer, ranks):
        raise InvalidParameterError(_too_long(tokenizer, names, ranks, n_context, given))
    context = context[:n_context]
    n_before = tokens_before(position, n_context) if after is None else min(len(first), n_context)
    tokens = PromptTokens(
        start=tuple(tokenizer.start),
        end=tuple(tokenizer.end),
        context=tuple(context),
        n_context=n_context,
        n_before=n_before,
        ranks=tuple(tuple(tokens) for tokens in ranks),
        text=_in_words(tokenizer, context, n_context, n_before, {tuple(first): before, tuple(rest): after or ""}),
        filler=tuple(tokenizer.filler),
    )
    return tokens, n_words


def _too_long(
    tokenizer: PromptTokenizer, names: Sequence[str], ranks: list[list[int]], n_context: int, given: int | str
) -> str:
    """Say of the longest prompt what it consists of, and what to make shorter."""
    longest, most = max(range(len(ranks)), key=lambda k: len(ranks[k])), _max_context_tokens(tokenizer, ranks)
    n_start, n_rank = len(tokenizer.start), len(ranks[longest])
    n_end, n_all = tokenizer.n_around - n_start, tokenizer.n_around + n_context + n_rank
    remedy, parameter = f"lower n_context_tokens to {most} or less", "n_context_tokens"
    if isinstance(given, str):
        remedy, parameter = f"shorten the prompt, or cut it with n_context_tokens={most}", f"{parameter}={given!r}"
    if most < 0:
        remedy = "give shorter rank_names"
    return (
        f"the longest prompt has {n_all} tokens: {n_start} start of text + {n_context} context tokens ({parameter}) + "
        f"{n_rank} of the rank name {names[longest]!r} + {n_end} end of text, but the text tower takes at most "
        f"{tokenizer.context_length}; {remedy}."
    )


def _around(prompt: str, names: Sequence[str], n_context: int, position: str) -> tuple[str, str]:
    """Words in front of the ranks, and words in front of the context that comes after them.

    Many tokenizers write a word otherwise at the beginning of a text than within it, and none needs to know more.
    """
    before, after = split_prompt(prompt)
    if after is not None:
        return (before if n_context else ""), before + names[0]
    leads = (before.strip() or names[0]) + " " if tokens_before(position, n_context) else ""
    return leads, "" if leads or not n_context else names[0] + " "


def _in_words(
    tokenizer: PromptTokenizer, context: list[int], n_context: int, n_before: int, written: dict[tuple[int, ...], str]
) -> str:
    """Say what the context tokens start from, with ``{}`` where the rank stands and the random ones counted.

    `written` holds the words of whole parts of the prompt as the user wrote them.
    """
    parts = []
    for low, high, mark in ((0, n_before, "{}"), (n_before, n_context, "")):
        tokens = tuple(context[low:high])
        n_random = high - low - len(tokens)
        random = f"[{n_random} random token{'s' if n_random > 1 else ''}]" if n_random else ""
        parts += [written[tokens].strip() if tokens in written else tokenizer.text(tokens), random, mark]
    return " ".join(part for part in parts if part)


class RankPrompts(nn.Module):
    """K prompts that differ in their rank tokens: ``[SOT] c_1 .. c_m  r_k1 .. r_kn [EOT]``.

    The frozen tower's token embeddings are the initial values; context tokens that the prompt's words do not fill are
    drawn from N(0, 0.02^2).

    References
    ----------
    CoOp (Zhou et al., IJCV 2022) for learned context and the positions of the class; OrdinalCLIP (Li et al., NeurIPS
    2022) for rank tokens; L2RCLIP (Wang et al., NeurIPS 2023) for RankFormer.
    """

    def __init__(
        self,
        tokens: PromptTokens,
        tower: TextTower,
        rankformer: RankFormer | None,
        *,
        tune_ranks: bool = True,
        generator: torch.Generator,
    ):
        super().__init__()
        self._tower = tower
        self.rankformer = rankformer
        words = tower.embed_tokens(tokens.context)
        rest = torch.randn(tokens.n_context - len(words), tower.width, generator=generator) * _RANDOM_CONTEXT_STD
        self.context = nn.Parameter(torch.cat([words, rest.to(words)]))  # (m, d)
        flat = [token for rank in tokens.ranks for token in rank]
        self.rank_tokens = nn.Parameter(tower.embed_tokens(flat), requires_grad=tune_ranks)  # (sum of n_k, d)
        self._start: Tensor
        self._end: Tensor  # and what fills the prompts up
        self.register_buffer("_start", tower.embed_tokens(tokens.start), persistent=False)
        self.register_buffer("_end", tower.embed_tokens([*tokens.end, *tokens.filler]), persistent=False)
        self._lay_out(tokens)

    def _lay_out(self, tokens: PromptTokens) -> None:
        """Fix where everything stands in the table of token embeddings (start, context, ranks, end, filler)."""
        numbers = count()
        start, context, *ranks, end, filler = (
            list(islice(numbers, len(part)))
            for part in (tokens.start, range(tokens.n_context), *tokens.ranks, tokens.end, tokens.filler)
        )
        unknown = [-1] * (tokens.n_context - len(tokens.context))
        words = [token for rank in tokens.ranks for token in rank]
        ids = [*tokens.start, *tokens.context, *unknown, *words, *tokens.end, *tokens.filler]
        shared, further = context[: tokens.n_before], context[tokens.n_before :]
        own = [[*rank, *further, *end] for rank in ranks]
        self._arranged = self._tower.arrange([*start, *shared], own, ids, filler)
        lengths = torch.tensor([len(rank) for rank in ranks])
        present = torch.arange(int(lengths.max())) < lengths[:, None]  # (K, n)
        padded = torch.zeros(present.shape, dtype=torch.int64).masked_scatter(present, torch.arange(len(words)))
        self._present = present.to(self._tower.device)
        self._padded = padded.to(self._tower.device)  # (K, n), rows of rank_tokens
        self._flat = present.flatten().nonzero()[:, 0].to(self._tower.device)  # (sum of n_k,), places in (K, n)

    @property
    def n_products(self) -> int:
        """How many products the prompts take in the text tower, about."""
        return self._tower.n_products(sum(each.rows.numel() for each in self._arranged))

    def blended_rank_tokens(self) -> Tensor:
        """Rank tokens after RankFormer, tensor of shape (sum of n_k, d)."""
        if self.rankformer is None:
            return self.rank_tokens
        blended = self.rankformer(F.embedding(self._padded, self.rank_tokens), self._present)  # (K, n, d)
        return F.embedding(self._flat, blended.flatten(0, 1))

    def forward(self) -> Tensor:
        """Text prototypes of all ranks, tensor of shape (K, D), unit rows, float32."""
        table = torch.cat([self._start, self.context, self.blended_rank_tokens(), self._end])
        return F.normalize(self._tower.encode(table, self._arranged).float(), dim=-1)
