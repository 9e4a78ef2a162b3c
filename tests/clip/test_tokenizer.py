"""Tokenizers in parts against open_clip's own, on whole sentences."""

import importlib.util
import shutil

import open_clip
import pytest

from skl2rclip._clip import tokenizer as tokenizer_module
from skl2rclip._clip.backbone import model_config
from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.tokenizer import PromptTokenizer, tokenizer_of
from skl2rclip.errors import InvalidParameterError
from tests.support.families import FAMILIES, TOWERS
from tests.support.small_models import CONFIGS

SENTENCES = [
    "a photo of a person aged 3",
    "a photo of a person aged ninety nine and three quarters, or so they say",
    "a photo of",
]


@pytest.mark.parametrize("kind", [*CONFIGS, *EMBEDDED_NAMES])
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


@pytest.mark.parametrize("kind", [*FAMILIES, *TOWERS])
def test_the_parts_of_every_familys_texts_make_up_the_whole(family_sources, kind):
    """What begins, words, what ends, what fills up, and what stands at the very end."""
    source = family_sources(kind)
    tokenizer = PromptTokenizer(source.model_name, model_config(source))
    pad, *last = tokenizer.filler
    for sentence in ("", "a photo of 7", "very old indeed", "years"):
        own = [*tokenizer.start, *tokenizer.words(sentence), *tokenizer.end]
        ids = open_clip.get_tokenizer(source.model_name)([sentence])[0].tolist()
        assert len(ids) == tokenizer.context_length
        assert ids == own + [pad] * (len(ids) - len(own) - len(last)) + last


@pytest.mark.parametrize("kind", [*FAMILIES, *TOWERS])
def test_the_longest_text_that_fits_is_the_longest_that_open_clip_keeps(family_sources, kind):
    source = family_sources(kind)
    tokenizer = PromptTokenizer(source.model_name, model_config(source))
    n_last = len(tokenizer.filler) - 1
    room = tokenizer.context_length - len(tokenizer.start) - len(tokenizer.end) - n_last
    text = " ".join(["photo"] * 100)
    ids = open_clip.get_tokenizer(source.model_name)([text])[0].tolist()
    assert ids == [*tokenizer.start, *tokenizer.words(text)[:room], *tokenizer.end, *tokenizer.filler[1:]]


def test_words_within_a_text_are_written_as_the_tokenizer_writes_them_there(family_sources):
    source = family_sources("siglip2")
    tokenizer = PromptTokenizer(source.model_name, model_config(source))
    assert tokenizer.words("years") != tokenizer.words("years", "a ")
    assert tokenizer.words("a years") == tokenizer.words("a") + tokenizer.words("years", "a ")
    # one token would hold letters of both
    assert tokenizer.words("to", "pho") == tokenizer.words("to")


def test_a_token_that_pools_but_is_never_made_is_named(family_sources):
    source = family_sources("worldwide")
    config = model_config(source)
    config["text_cfg"]["eos_id"] = 77
    with pytest.raises(InvalidParameterError, match=r"pools at the token 77, .* ends texts with \[2\]: eos_id"):
        PromptTokenizer(source.model_name, config)


def test_tokenizers_of_hugging_face_name_the_extra_where_it_is_missing(family_sources, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(InvalidParameterError, match=r"'ViT-B-16-SigLIP' .*pip install 'skl2rclip\[transformers\]'"):
        tokenizer_of("ViT-B-16-SigLIP", {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"})
    assert tokenizer_of("ViT-B-16", {})(["a"]).shape == (1, 77)


def test_a_tokenizer_that_cannot_be_made_is_named(family_sources, tmp_path):
    source = family_sources("siglip")
    shutil.copytree(source.local_folder, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(RuntimeError, match=r"The tokenizer 'timm/ViT-B-16-SigLIP' of .* could not be made"):
        PromptTokenizer(f"local-dir:{tmp_path / 'm'}", model_config(source))


def test_tokenizers_are_kept(family_sources, monkeypatch):
    source = family_sources("siglip")
    PromptTokenizer(source.model_name, model_config(source))
    monkeypatch.setattr(tokenizer_module, "tokenizer_of", None)
    PromptTokenizer(source.model_name, model_config(source))
