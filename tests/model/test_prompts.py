import re

import open_clip
import pytest
import torch
from torch.nn import functional as F

from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._model.modules import RankFormer
from skl2rclip._model.prompts import RankPrompts, tokenize_prompts, tokenize_whole_prompts
from skl2rclip.errors import InvalidParameterError

# BPE makes a token of each digit: one, two and three tokens, and words of several
NAMES = ["7", "21", "100", "very old indeed", "excellent"]


def sentence(prompt, name, position):
    words = prompt.split()
    where = {"tail": len(words), "front": 0, "middle": len(words) // 2}[position]
    return " ".join([*words[:where], name, *words[where:]])


def rank_prompts(backbone, names, *, prompt="a photo of", n_context=3, position="tail", rankformer=None, **options):
    tokens = tokenize_prompts(backbone.tokenizer(), prompt, names, n_context, position)
    generator = torch.Generator().manual_seed(0)
    return RankPrompts(tokens, backbone.text_tower(torch.device("cpu")), rankformer, generator=generator, **options)


@pytest.mark.parametrize("kind", ["clip", "custom_text", "quick_gelu_resnet", "eos_linear_head"])
@pytest.mark.parametrize("position", ["tail", "front", "middle"])
def test_prototypes_equal_open_clip_when_nothing_is_trained(model_names, kind, position):
    name = model_names[kind]
    backbone = load_backbone(BackboneSource(name))
    sentences = [sentence("a photo of", word, position) for word in NAMES]
    with torch.no_grad():
        expected = backbone.model.encode_text(open_clip.get_tokenizer(name)(sentences), normalize=True)
        rankformer = RankFormer(32, blend_ratio=0.0)
        for given in (None, rankformer):
            actual = rank_prompts(backbone, NAMES, position=position, rankformer=given)()
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("position", ["tail", "front", "middle"])
def test_a_thousand_ranks_equal_open_clip(tiny, position):
    backbone = load_backbone(BackboneSource(tiny))
    names = [str(k) for k in range(1000)]
    sentences = [sentence("a photo of", name, position) for name in names]
    with torch.no_grad():
        expected = backbone.model.encode_text(open_clip.get_tokenizer(tiny)(sentences), normalize=True)
        torch.testing.assert_close(rank_prompts(backbone, names, position=position)(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "custom_text", "quick_gelu_resnet", "eos_linear_head"])
@pytest.mark.parametrize(
    "prompt", ["a photo of a {} year old person", "{} years", "aged {}", "{}", "a {}-year-old, at home", "({}) a photo"]
)
def test_braces_place_the_rank_as_open_clip_reads_the_sentence(model_names, kind, prompt):
    backbone = load_backbone(BackboneSource(model_names[kind]))
    sentences = [prompt.replace("{}", name) for name in NAMES]
    n_context = len(backbone.tokenizer().words(prompt.replace("{}", " ")))
    with torch.no_grad():
        expected = backbone.model.encode_text(open_clip.get_tokenizer(model_names[kind])(sentences), normalize=True)
        actual = rank_prompts(backbone, NAMES, prompt=prompt, n_context=n_context)()
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("prompt", "n_context", "n_before", "text"),
    [
        ("a photo of", 3, 3, "a photo of {}"),
        ("a photo of", 8, 8, "a photo of [5 random tokens] {}"),
        ("A photo of a {} year-old", 7, 4, "A photo of a {} year-old"),
        ("a photo of a {} year old", 7, 4, "a photo of a {} year old [1 random token]"),
        ("a photo of {}", 8, 3, "a photo of {} [5 random tokens]"),
        ("{} years", 1, 0, "{} years"),
        ("", 2, 2, "[2 random tokens] {}"),
        ("", 0, 0, "{}"),
    ],
)
def test_the_text_says_what_the_context_starts_from(tiny, prompt, n_context, n_before, text):
    tokens = tokenize_prompts(load_backbone(BackboneSource(tiny)).tokenizer(), prompt, NAMES, n_context, "tail")
    assert (tokens.n_before, tokens.text) == (n_before, text)


@pytest.mark.parametrize(
    ("prompt", "n_context", "n_before", "text"),
    [
        ("a photo of a {} year-old person", 6, 4, "a photo of a {} year -"),
        ("a photo of a {} year-old person", 4, 4, "a photo of a {}"),
        ("A photo of a {} year-old person", 2, 2, "a photo {}"),
    ],
)
def test_a_prompt_with_braces_is_cut_at_its_end(tiny, prompt, n_context, n_before, text):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    told = f"has 8 tokens and is cut to n_context_tokens={n_context}: what is left of it is {text!r}, and "
    with pytest.warns(UserWarning, match=re.escape(f"{told}n_context_tokens='auto' takes all of it.")):
        tokens = tokenize_prompts(tokenizer, prompt, NAMES, n_context, "tail")
    assert (tokens.n_before, tokens.text) == (n_before, text)
    assert list(tokens.context) == tokenizer.words(prompt.replace("{}", " "))[:n_context]


@pytest.mark.parametrize(
    ("position", "text"), [("front", "{} a photo of [1 random token]"), ("middle", "a photo {} of [1 random token]")]
)
def test_the_text_shows_where_rank_position_puts_the_rank(tiny, position, text):
    tokens = tokenize_prompts(load_backbone(BackboneSource(tiny)).tokenizer(), "a photo of", NAMES, 4, position)
    assert tokens.text == text


def test_an_empty_context_is_the_names_alone(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    with torch.no_grad():
        expected = backbone.model.encode_text(open_clip.get_tokenizer(tiny)(NAMES), normalize=True)
        torch.testing.assert_close(rank_prompts(backbone, NAMES, n_context=0, prompt="")(), expected, atol=1e-5, rtol=0)


def test_short_prompts_are_filled_up_with_small_random_tokens(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    prompts = rank_prompts(backbone, NAMES, n_context=60)
    assert prompts.context.shape == (60, 32)
    words = backbone.model.token_embedding(torch.tensor(backbone.tokenizer().words("a photo of")))
    assert torch.equal(prompts.context[:3], words)
    assert prompts.context[3:].std().item() == pytest.approx(0.02, rel=0.1)


def test_long_prompts_are_cut_with_a_warning(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.warns(UserWarning, match=r"'a photo of' has 3 tokens and is cut to n_context_tokens=2"):
        tokens = tokenize_prompts(tokenizer, "a photo of", NAMES, 2, "tail")
    assert list(tokens.context) == tokenizer.words("a photo")


def test_a_cut_prompt_that_would_never_fit_is_to_be_shortened(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.warns(UserWarning, match=r"72 beside the longest rank name, so shorten the prompt"):
        tokenize_prompts(tokenizer, "old " * 80, ["1", "very old indeed"], 8, "tail")


@pytest.mark.parametrize(
    ("prompt", "position", "text"),
    [
        ("a photo of", "tail", "a photo of {}"),
        ("a photo of", "front", "{} a photo of"),
        ("a photo of", "middle", "a {} photo of"),
        ("a photo of a {} year-old person", "tail", "a photo of a {} year-old person"),
        ("{}", "tail", "{}"),
        ("", "tail", "{}"),
    ],
)
def test_automatic_context_is_as_long_as_the_prompt(tiny, prompt, position, text):
    tokens = tokenize_prompts(load_backbone(BackboneSource(tiny)).tokenizer(), prompt, NAMES, "auto", position)
    assert (len(tokens.context), tokens.text) == (tokens.n_context, text)


@pytest.mark.parametrize("position", ["tail", "front", "middle"])
def test_automatic_context_is_that_of_the_whole_prompt_in_every_family(family_sources, position):
    """As zero-shot CLIP has it; where a word within a text has other tokens than at its beginning, too."""
    for kind in ("siglip", "mt5"):
        tokenizer = load_backbone(family_sources(kind)).tokenizer()
        tokens = tokenize_prompts(tokenizer, "photo of the", ["three", "four"], "auto", position)
        assert tokens == tokenize_whole_prompts(tokenizer, "photo of the", ["three", "four"], position)


def test_an_automatic_context_that_does_not_fit_says_what_does(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.raises(InvalidParameterError) as caught:
        tokenize_prompts(tokenizer, "old " * 73, ["1", "very old indeed"], "auto", "tail")
    assert "73 context tokens (n_context_tokens='auto')" in str(caught.value)
    assert str(caught.value).endswith("shorten the prompt, or cut it with n_context_tokens=72.")


def test_same_names_warn(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.warns(UserWarning, match="same tokens"):
        tokenize_prompts(tokenizer, "a", ["Old", "old"], 1, "tail")


def test_prompts_longer_than_the_context_name_each_addend(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.raises(InvalidParameterError) as caught:
        tokenize_prompts(tokenizer, "a", ["1", "very old indeed"], 73, "tail")
    message = str(caught.value)
    for part in ("78 tokens", "1 start of text", "73 context tokens", "3 of the rank name 'very old indeed'",
                 "1 end of text", "at most 77", "n_context_tokens to 72"):  # fmt: skip
        assert part in message
    tokenize_prompts(tokenizer, "a", ["1", "very old indeed"], 72, "tail")  # the longest that fits


def test_names_without_a_token_are_refused(tiny):
    tokenizer = load_backbone(BackboneSource(tiny)).tokenizer()
    with pytest.raises(InvalidParameterError, match=r"rank_names: '\\x00' has no token"):
        tokenize_prompts(tokenizer, "a", ["1", "\x00"], 1, "tail")


def test_gradients_reach_every_learned_part_and_no_other(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    prompts = rank_prompts(backbone, NAMES, n_context=5, rankformer=RankFormer(32))
    target = F.normalize(torch.randn(len(NAMES), 24, generator=torch.Generator().manual_seed(3)), dim=-1)
    (prompts() * target).sum().backward()
    assert prompts.context.grad.abs().sum(dim=1).min() > 0
    assert prompts.rank_tokens.grad.abs().sum(dim=1).min() > 0
    assert prompts.rankformer.blocks[0].attention.out_proj.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_tune_ranks_decides_whether_rank_tokens_learn(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    names = {name for name, parameter in rank_prompts(backbone, NAMES, tune_ranks=False).named_parameters()
             if parameter.requires_grad}  # fmt: skip
    assert names == {"context"}
