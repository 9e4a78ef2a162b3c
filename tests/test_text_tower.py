"""Packed prompts against the same prompts one by one, in the modules of the tower and in open_clip itself."""

import numpy as np
import pytest
import torch
from conftest import CONFIGS
from torch import nn

from skl2rclip._backbone import BackboneSource, load_backbone, model_config
from skl2rclip._prompt_tokenizer import PromptTokenizer
from skl2rclip._text_tower import pack_prompts
from skl2rclip._tiny_clip import EMBEDDED_NAME
from skl2rclip.errors import InvalidParameterError

CPU = torch.device("cpu")
SENTENCES = [
    "a photo of a person aged 3",
    "a photo of a person aged",
    "a photo of a person aged ninety nine and three quarters, or so they say",
    "a photo of a person aged twenty",
    "a photo of",
]


def packed_as_open_clip_sees_it(backbone, sentences, shared, max_tokens):
    """Embed sentences that share their first tokens, the table of embeddings being the model's own."""
    tower, tokenizer = backbone.text_tower(CPU), backbone.tokenizer()
    words = [tokenizer.words(sentence) for sentence in sentences]
    prefix = [*tokenizer.start, *words[0][:shared]]
    own = [[*tokens[shared:], *tokenizer.end] for tokens in words]
    assert all(tokens[:shared] == words[0][:shared] for tokens in words)
    with torch.no_grad():
        return tower.encode(tower.token_embedding.weight, pack_prompts(prefix, own, max_tokens))


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize(("shared", "max_tokens"), [(0, 512), (3, 512), (3, 30), (3, 1)])
def test_packed_sentences_equal_open_clips_encode_text(model_names, kind, shared, max_tokens):
    """Names of uneven lengths, an empty one among them, in one pack, in several, and in one for each."""
    backbone = load_backbone(BackboneSource(model_names[kind]))
    actual = packed_as_open_clip_sees_it(backbone, SENTENCES, shared, max_tokens)
    ids = backbone.tokenizer()._tokenize(SENTENCES, context_length=backbone.tokenizer().context_length)
    with torch.no_grad():
        expected = backbone.model.encode_text(ids)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_a_prompt_may_fill_the_whole_context(model_names):
    """The last position counts; what the tower does there differs from what it does one position before."""
    backbone = load_backbone(BackboneSource(model_names["quick_gelu_resnet"]))
    tokenizer = backbone.tokenizer()
    sentences = [" ".join(["old"] * n) for n in (tokenizer.context_length - 2, tokenizer.context_length - 3)]
    actual = packed_as_open_clip_sees_it(backbone, sentences, 1, 512)
    with torch.no_grad():
        expected = backbone.model.encode_text(tokenizer._tokenize(sentences, context_length=tokenizer.context_length))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(actual[0], actual[1], atol=1e-3)


def encoded_one_by_one(tower, table, prompts):
    """One prompt after the other, through the modules of the tower with an ordinary causal mask."""
    rows = []
    for prompt in prompts:
        length = len(prompt)
        x = table[torch.tensor(prompt)] + tower._positions[:length]
        causal = torch.full((length, length), float("-inf")).triu(1)
        x = tower._transformer(x[None], attn_mask=causal)[0]
        x = tower._final_norm(x[-1])
        rows.append(tower._projection(x) if isinstance(tower._projection, nn.Linear) else x @ tower._projection)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["clip", "eos_linear_head"])
@pytest.mark.parametrize(("n_prompts", "max_tokens"), [(2, 512), (7, 512), (7, 12), (40, 30), (40, 1)])
def test_packing_changes_neither_values_nor_gradients(model_names, kind, n_prompts, max_tokens):
    tower = load_backbone(BackboneSource(model_names[kind])).text_tower(CPU)
    rng = np.random.default_rng(n_prompts)
    table = torch.randn(90, tower.width, generator=torch.Generator().manual_seed(0))
    prefix = [0, 5, 6]
    own = [rng.integers(7, 90, rng.integers(1, 6)).tolist() for _ in range(n_prompts)]
    direction = torch.randn(n_prompts, 24, generator=torch.Generator().manual_seed(1))
    packed_table, slow_table = table.clone().requires_grad_(), table.clone().requires_grad_()
    packed = tower.encode(packed_table, pack_prompts(prefix, own, max_tokens))
    slow = encoded_one_by_one(tower, slow_table, [prefix + rows for rows in own])
    torch.testing.assert_close(packed, slow, atol=1e-5, rtol=1e-4)
    (packed * direction).sum().backward()
    (slow * direction).sum().backward()
    torch.testing.assert_close(packed_table.grad, slow_table.grad, atol=1e-5, rtol=1e-4)


def test_a_pack_lays_rows_positions_and_ends_out_as_told():
    [pack] = pack_prompts([8, 9], [[1], [2, 3, 4], [5, 6]])
    assert pack.rows.tolist() == [8, 9, 1, 2, 3, 4, 5, 6]
    assert pack.positions.tolist() == [0, 1, 2, 2, 3, 4, 2, 3]
    assert pack.ends.tolist() == [2, 5, 7]
    sees = [np.flatnonzero(row == 0).tolist() for row in pack.mask.numpy()]
    assert sees == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [0, 1, 3, 4, 5], [0, 1, 6], [0, 1, 6, 7]]


def test_packs_keep_the_order_and_split_where_they_are_full():
    packs = pack_prompts([8, 9], [[1], [2, 3, 4], [5, 6], [7] * 9], max_tokens=6)
    assert [pack.rows.tolist() for pack in packs] == [[8, 9, 1, 2, 3, 4], [8, 9, 5, 6], [8, 9] + [7] * 9]
    assert [pack.ends.tolist() for pack in packs] == [[2, 5], [3], [10]]


def test_packs_are_bounded_so_that_memory_is_linear_in_the_ranks():
    packs = pack_prompts([0, 1], [[2, 3, 4]] * 1000, max_tokens=100)
    assert max(len(pack.rows) for pack in packs) <= 100
    assert sum(len(pack.ends) for pack in packs) == 1000
    assert sum(len(pack.rows) for pack in packs) < 1.1 * 3000


@pytest.mark.parametrize("kind", [*CONFIGS, EMBEDDED_NAME])
def test_words_between_start_and_end_make_what_the_tokenizer_makes(model_names, kind):
    name = model_names.get(kind, kind)
    tokenizer = PromptTokenizer(name, model_config(BackboneSource(name)))
    for sentence in (*SENTENCES, ""):
        whole = [*tokenizer.start, *tokenizer.words(sentence), *tokenizer.end]
        ids = tokenizer._tokenize([sentence], context_length=tokenizer.context_length)[0].tolist()
        assert ids == whole + [0] * (tokenizer.context_length - len(whole))


def test_long_texts_keep_every_word(tiny):
    tokenizer = PromptTokenizer(tiny, model_config(BackboneSource(tiny)))
    assert len(tokenizer.words("old " * 300)) == 300


def test_a_vocabulary_that_does_not_fit_is_named(tiny):
    config = model_config(BackboneSource(tiny))
    config["text_cfg"]["vocab_size"] = 1000
    with pytest.raises(InvalidParameterError, match="the model's vocabulary has 1000 entries: vocab_size"):
        PromptTokenizer(tiny, config).words("a photo")
