"""What is a text and what is none, and how texts pass the tower; that each family equals open_clip's is asked there."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from skl2rclip._clip import texts as texts_module
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.texts import as_texts, embed_texts
from skl2rclip.errors import InvalidParameterError

CPU = torch.device("cpu")
TEXTS = ["very old indeed", "7", "a photo of a glass", "excellent", "7"]


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        pd.Series(["a", "b"], index=[5, 3]),
        pd.Series(["a", "b"], dtype="category"),
        (letter for letter in "ab"),
        {1: "a", 2: "b"}.values(),
    ],
)
def test_a_sequence_of_strings_may_be_of_any_kind(given):
    assert as_texts(given) == ["a", "b"]


def test_a_string_is_one_text():
    assert as_texts("a photo") == ["a photo"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "texts must be a string or a sequence of strings, got NoneType"),
        (b"a", "got bytes"),
        ({"a": 1}, "got dict"),
        ({"a"}, "got set"),
        (pd.DataFrame({"words": ["a"]}), r"got DataFrame of shape \(1, 1\): choose the column"),
        (np.array([["a", "b"]]), r"got ndarray of shape \(1, 2\): choose the column"),
        (np.array("a"), r"got ndarray\.$"),
        (["a", 7], r"texts\[1\] must be a string, got int \(7\)"),
        ([["a", "b"]], r"texts\[0\] must be a string, got list"),
        ([Path("a")], r"texts\[0\] must be a string, got \w+Path"),
        ([np.zeros((9, 9), np.uint8)], r"texts\[0\] must be a string, got ndarray \(array\(.*\.\.\.\)"),
        (["a", None], r"texts\[1\] must be a string, got a missing value"),
        (pd.Series(["a", pd.NA], dtype="string"), r"texts\[1\] must be a string, got a missing value"),
    ],
)
def test_what_is_no_text_is_named(given, message):
    with pytest.raises(TypeError, match=message):
        as_texts(given)


def test_no_text_at_all_is_refused():
    with pytest.raises(ValueError, match=r"texts must hold at least one string, got none\."):
        as_texts([])
    with pytest.raises(ValueError, match="got none: the iterator has been gone through already"):
        as_texts(iter([]))
    with pytest.raises(ValueError, match=r"texts\[0\] \('a\\ud800'\) is no text of Unicode: surrogates not allowed"):
        as_texts("a\ud800")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", r"texts\[1\] \(' \\n'\) has no token that the model knows"),
        ("old <end_of_text> new", r"texts\[1\] \('old .*'\) holds the token that ends a text"),
        ("old " * 76, r"has 78 tokens, 2 of them around its words, but the text tower takes at most 77: .* by 1\."),
    ],
)
def test_texts_that_cannot_be_embedded_whole_are_refused_before_any_is_embedded(tiny, monkeypatch, text, message):
    monkeypatch.setattr(texts_module, "_TextEncoding", None)
    with pytest.raises(ValueError, match=message):
        embed_texts(load_backbone(BackboneSource(tiny)), ["old", text], CPU, "float32", 64)


def test_the_longest_text_that_fits_is_embedded(tiny):
    backbone = load_backbone(BackboneSource(tiny))
    longest = embed_texts(backbone, ["old " * 75, "old " * 74], CPU, "float32", 64)
    assert np.abs(longest[0] - longest[1]).max() > 1e-4


def test_texts_pass_in_portions_and_those_that_come_again_pass_once(tiny, monkeypatch):
    backbone, sizes = load_backbone(BackboneSource(tiny)), []
    at_once = embed_texts(backbone, TEXTS, CPU, "float32", "auto")
    original = texts_module._TextEncoding._of_batch

    def counted(self, words):
        sizes.append(len(words))
        return original(self, words)

    monkeypatch.setattr(texts_module._TextEncoding, "_of_batch", counted)
    np.testing.assert_allclose(embed_texts(backbone, TEXTS, CPU, "float32", 3), at_once, atol=1e-6)
    assert sizes == [3, 1]
    np.testing.assert_array_equal(at_once[1], at_once[4])


def test_auto_takes_fewer_at_once_where_the_memory_does_not_suffice(tiny, monkeypatch):
    backbone, sizes = load_backbone(BackboneSource(tiny)), []
    original = texts_module._TextEncoding._of_batch

    def small(self, words):
        sizes.append(len(words))
        if len(words) > 20:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, words)

    monkeypatch.setattr(texts_module._TextEncoding, "_of_batch", small)
    many = [str(number) for number in range(70)]
    assert embed_texts(backbone, many, CPU, "float32", "auto").shape == (70, 24)
    assert sizes == [64, 32, 16, 16, 16, 16, 6]
    with pytest.raises(MemoryError, match="out of memory at batch_size=70"):
        embed_texts(backbone, many, CPU, "float32", 70)


def test_nothing_warns_and_gradients_are_left_as_they_were(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed_texts(load_backbone(BackboneSource(tiny)), TEXTS, CPU, "bfloat16", 2)
    assert torch.is_grad_enabled()


def test_a_model_whose_texts_cannot_be_embedded_says_why(tiny, monkeypatch):
    monkeypatch.setattr(texts_module, "refusal", lambda config: "its text tower does not pool its tokens")
    with pytest.raises(InvalidParameterError, match=r"embeds images only: its text tower does not pool .* for texts"):
        embed_texts(load_backbone(BackboneSource(tiny)), TEXTS, CPU, "float32", 2)
