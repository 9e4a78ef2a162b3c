"""Packed prompts against the same prompts one by one, and every family against open_clip's own ``encode_text``."""

import types

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer
from torch import nn

from skl2rclip._clip import text_tower
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.text_tower import PackedPrompts, TextTower, pack_prompts, text_tower_of
from skl2rclip._clip.texts import embed_texts
from skl2rclip._model.prompts import RankPrompts, tokenize_prompts
from skl2rclip.errors import InvalidParameterError
from tests.support.families import FAMILIES, TOWERS
from tests.support.small_models import CONFIGS

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


NAMES = ["7", "21", "100", "very old indeed", "excellent"]
PACKED = {"pe_core", "worldwide", "worldwide_mt5"}


def tokens_of(backbone, prompt, position="tail", more=0, names=NAMES):
    """Tokens of a prompt with all of its words, and so many random ones behind them."""
    tokenizer = backbone.tokenizer()
    before, _, after = prompt.partition("{}")
    n_context = len(tokenizer.words(before)) + len(tokenizer.words(after, before + names[0])) + more
    return tokenize_prompts(tokenizer, prompt, names, n_context, position)


def prompts_of(backbone, tokens):
    return RankPrompts(tokens, backbone.text_tower(CPU), None, generator=torch.Generator().manual_seed(0))


def encoded_sentences(backbone, sentences):
    with torch.no_grad():
        return backbone.model.encode_text(
            open_clip.get_tokenizer(backbone.source.model_name)(sentences), normalize=True
        )


@pytest.mark.parametrize("kind", [*FAMILIES, *TOWERS])
@pytest.mark.parametrize("position", ["tail", "front", "middle"])
def test_every_family_equals_open_clips_encode_text_of_the_sentences(family_sources, kind, position):
    """Whether the parts are tokenised as the whole is asked too: 'of 7' and '7' are not the same to all tokenizers."""
    backbone = load_backbone(family_sources(kind))
    words = "a photo of the".split()
    place = {"tail": 4, "front": 0, "middle": 2}[position]
    sentences = [" ".join([*words[:place], name, *words[place:]]) for name in NAMES]
    prompts = prompts_of(backbone, tokens_of(backbone, "a photo of the", position))
    assert isinstance(prompts._arranged[0], PackedPrompts) == (kind in PACKED)
    expected = encoded_sentences(backbone, sentences)
    torch.testing.assert_close(prompts().detach(), expected, atol=1e-5, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # ranks differ by more than what is let pass


@pytest.mark.parametrize("kind", [*FAMILIES, *TOWERS])
def test_whole_texts_of_every_family_equal_open_clips_encode_text(family_sources, kind):
    """Of uneven lengths, in portions, and as long as the tower takes."""
    backbone = load_backbone(family_sources(kind))
    tokenizer = backbone.tokenizer()
    longest = ["7"] * (tokenizer.context_length - tokenizer.n_around)
    while len(tokenizer.words(" ".join(longest))) > tokenizer.context_length - tokenizer.n_around:
        longest.pop()
    texts = ["a photo of 7", "very old indeed", "years", " ".join(longest), "Excellent"]
    expected = encoded_sentences(backbone, texts).numpy()
    np.testing.assert_allclose(embed_texts(backbone, texts, CPU, "float32", 2), expected, atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("kind", [*FAMILIES, *TOWERS])
@pytest.mark.parametrize("prompt", ["a photo of a {} old person", "{} years", "aged {}", "{}"])
def test_braces_place_the_rank_in_every_family(family_sources, kind, prompt):
    backbone = load_backbone(family_sources(kind))
    expected = encoded_sentences(backbone, [prompt.replace("{}", name) for name in NAMES])
    actual = prompts_of(backbone, tokens_of(backbone, prompt))().detach()
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def through_open_clip(backbone, tokens, context, rank_tokens):
    """Encode prompts by open_clip from token ids, what comes out of its table of embeddings being replaced."""
    model, tower = backbone.model, backbone.text_tower(CPU)
    length = backbone.tokenizer().context_length
    words = [
        *tokens.context,
        *[tokens.ranks[0][0]] * (tokens.n_context - len(tokens.context)),
    ]  # learned ones are words
    pad, last = tokens.filler[0], tokens.filler[1:]
    ids, embedded, offset = [], [], 0
    for rank in tokens.ranks:
        before, after = words[: tokens.n_before], words[tokens.n_before :]
        row = [*tokens.start, *before, *rank, *after, *tokens.end]
        row += [pad] * (length - len(row) - len(last)) + [*last]
        x = tower.token_embedding(torch.tensor(row)).detach()
        own = torch.cat(
            [context[: tokens.n_before], rank_tokens[offset : offset + len(rank)], context[tokens.n_before :]]
        )
        first = len(tokens.start)
        ids.append(row)
        embedded.append(torch.cat([x[:first], own, x[first + len(own) :]]))
        offset += len(rank)
    hook = tower.token_embedding.register_forward_hook(lambda *_: torch.stack(embedded))
    try:
        return model.encode_text(torch.tensor(ids), normalize=True)
    finally:
        hook.remove()


# each family with each position and each way, and each position with each way, in some families
PORTIONS = [(2**31, 1), (1, 1), (2**31, 2)]
OF_GRADIENTS = [
    (kind, position, *PORTIONS[(i + j) % 3])
    for i, kind in enumerate([*FAMILIES, *TOWERS])
    for j, position in enumerate(["tail", "front", "middle"])
]


@pytest.mark.parametrize(("kind", "position", "n_bytes", "n_threads"), OF_GRADIENTS)
def test_gradients_equal_those_through_open_clips_full_tower(
    family_sources, monkeypatch, torch_threads, kind, position, n_bytes, n_threads
):
    """Learned tokens that began as no word among them; all ranks at once, each by itself, and in two threads."""
    monkeypatch.setattr(text_tower, "_MAX_ACTIVATION_BYTES", n_bytes)
    for worth in ("_WORTH_A_THREAD", "_TOKENS_WORTH_A_THREAD"):
        monkeypatch.setattr(text_tower, worth, 1)
    torch_threads(n_threads)
    backbone = load_backbone(family_sources(kind))
    tokens = tokens_of(backbone, "a photo of", position, more=3)
    prompts = prompts_of(backbone, tokens)
    n_parts = len(NAMES) if n_bytes == 1 else n_threads
    assert len(prompts._arranged) == (n_threads if kind in PACKED else n_parts)
    with torch.no_grad():
        prompts.context += 0.1 * torch.randn(prompts.context.shape, generator=torch.Generator().manual_seed(1))
    learned = [prompts.context.detach().clone().requires_grad_(), prompts.rank_tokens.detach().clone().requires_grad_()]
    expected = through_open_clip(backbone, tokens, *learned)
    actual = prompts()
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (actual * direction).sum().backward()
    (expected * direction).sum().backward()
    for ours, theirs in zip((prompts.context, prompts.rank_tokens), learned, strict=True):
        largest = theirs.grad.abs().max()
        assert theirs.grad.abs().sum(dim=1).min() > 0
        torch.testing.assert_close(ours.grad / largest, theirs.grad / largest, atol=1e-4, rtol=0)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


@pytest.mark.parametrize("kind", ["siglip", "coca", "xlm_roberta"])
def test_what_is_kept_for_the_gradient_does_not_grow_with_the_ranks_beyond_a_chunk(family_sources, monkeypatch, kind):
    backbone = load_backbone(family_sources(kind))
    tokens = tokens_of(backbone, "a photo of", names=[str(number) for number in range(200)])

    def kept():
        sizes = []
        prompts = prompts_of(backbone, tokens)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            prompts()
        return sum(sizes), prompts._arranged[0].rows.shape

    at_once, (n_ranks, length) = kept()
    assert n_ranks == 200
    monkeypatch.setattr(text_tower, "_MAX_ACTIVATION_BYTES", at_once / 10)
    in_chunks, (n_ranks, _) = kept()
    assert 1 < n_ranks < 100
    # beside the embeddings of all tokens, from which each chunk is computed anew
    assert in_chunks < 200 * length * 32 * 4 + at_once / 10


@pytest.mark.parametrize("settings", [
    {"use_pad_mask": True},
    {"use_pad_mask": True, "pool_type": "last"},
    {"use_pad_mask": True, "pool_type": "first"},
    {"use_pad_mask": True, "embed_cls": True},
    {"embed_cls": True, "correct_cls_mask": True},
    {"embed_cls": True, "correct_cls_mask": True, "no_causal_mask": False},
    {"embed_cls": True, "no_causal_mask": False, "pad_id": 1},
    {"use_pad_mask": True, "proj_type": "none", "proj_bias": True},
])  # fmt: skip
def test_masks_of_padding_that_no_configuration_names_yet_equal_open_clips(settings):
    """A short text, a long one, and one that fills the tower; with padding in the words where it is no padding."""
    torch.manual_seed(0)
    settings = {"no_causal_mask": True, **settings}
    text = TextTransformer(context_length=12, vocab_size=60, width=32, heads=4, layers=2, output_dim=24, **settings)
    for parameter in text.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    texts = [[50, 7, 8, 59], [50, 7, *range(20, 27), 59], [50, 7, *range(30, 39), 59]]
    pad = settings.get("pad_id", 0)
    ids = torch.tensor([row + [pad] * (12 - len(row)) for row in texts])
    tower = TextTower(types.SimpleNamespace(text=text))
    arranged = tower.arrange([50, 7], [row[2:] for row in texts], range(60), [pad])
    with torch.no_grad():
        torch.testing.assert_close(tower.encode(text.token_embedding.weight, arranged), text(ids), atol=1e-5, rtol=0)


def test_hidden_padding_is_not_computed(family_sources):
    """CoCa's class token stands at the end of 20 places; the longest prompt has eight, and one of padding is seen."""
    backbone = load_backbone(family_sources("coca"))
    [chunk] = prompts_of(backbone, tokens_of(backbone, "a photo of", names=["7", "very old indeed"]))._arranged
    assert chunk.positions.tolist() == [*range(9), 20]
    backbone = load_backbone(family_sources("xlm_roberta"))
    [chunk] = prompts_of(backbone, tokens_of(backbone, "a photo of", names=["7", "very old indeed"]))._arranged
    assert chunk.rows.shape == (2, 8)


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        ({"pool_type": "none"}, {"custom_text": True}, "does not pool its tokens"),
        ({"pool_type": "first"}, {}, "which sees no word of any text"),
        ({"embed_cls": True}, {}, "which open_clip runs with custom_text only"),
        ({"hf_model_name": "x", "hf_pooler_type": "max_pooler"}, {}, "which open_clip itself cannot run"),
        ({"hf_model_name": "x", "tokenizer_mode": "clips"}, {}, "is not for Hugging Face text towers"),
    ],
)
def test_what_cannot_be_is_told_from_the_configuration(text, more, reason):
    assert reason in text_tower.refusal({"embed_dim": 24, "text_cfg": text, **more})


def test_open_clip_itself_cannot_run_what_is_refused(family_sources):
    """As the reasons say: maximum pooling, a class token without custom_text."""
    backbone = load_backbone(family_sources("roberta"))
    pooler = open_clip.hf_model.MaxPooler()
    output = types.SimpleNamespace(last_hidden_state=torch.ones(1, 3, 4))
    with pytest.raises(RuntimeError, match="bool"):
        pooler(output, torch.ones(1, 3, dtype=torch.int64))
    config = {**CONFIGS["clip"], "text_cfg": {**CONFIGS["clip"]["text_cfg"], "embed_cls": True}}
    with pytest.raises(RuntimeError, match="size"):
        open_clip.CLIP(**config).encode_text(backbone.tokenizer()._tokenize(["a"], context_length=77))


def test_word_embeddings_that_are_not_what_the_tower_starts_from_are_refused(family_sources):
    model = open_clip.create_model(family_sources("bert").model_name, pretrained_text=False).eval()
    words = model.text.transformer.embeddings.word_embeddings
    text_tower_of(model, "mine")
    model.text.transformer.get_input_embeddings = lambda: nn.Embedding(*words.weight.shape)
    with pytest.raises(InvalidParameterError, match=r"'mine' cannot be used: the word embeddings .* cannot be reached"):
        text_tower_of(model, "mine")

    def missing():
        raise NotImplementedError

    model.text.transformer.get_input_embeddings = missing
    with pytest.raises(InvalidParameterError, match="it has no table of them"):
        text_tower_of(model, "mine")
