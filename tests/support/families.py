"""A small model of each family of text towers, with tokenizers that are made on the spot."""

from __future__ import annotations

import json

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    M2M100Config,
    MT5Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from tests.support.small_models import TEXT, VIT, write_model

CORPUS = ["a photo of a person aged 0 1 2 3 4 5 6 7 8 9", "very old indeed excellent", "the years of a {} at home"] * 5
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def _pieces(special):
    """Vocabulary of a unigram model: whole words of the corpus, and letters for all others."""
    words = sorted({word for line in CORPUS for word in line.split()})
    return [(token, 0.0) for token in special] + [("▁" + word, -2.0) for word in words if not word.isdigit()] + [
        (letter, -9.0) for letter in ("▁", *LETTERS)
    ]  # fmt: skip


def _unigram(special, unknown, template):
    tokenizer = Tokenizer(models.Unigram(_pieces(special), unk_id=special.index(unknown)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, special.index(token)) for token in special if token in template]
    )
    return tokenizer


def _t5():
    """SigLIP's: no beginning, and padding with the very token that ends a text."""
    special = ["<pad>", "</s>", "<unk>"]
    return _unigram(special, "<unk>", "$A </s>"), {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}


def _mt5():
    special = ["<pad>", "</s>", "<unk>"]
    return _unigram(special, "<unk>", "$A </s>"), {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def _xlm():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _unigram(special, "<unk>", "<s> $A </s>"), names


def _nllb():
    """A language in front."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn"]
    return _unigram(special, "<unk>", "eng_Latn $A </s>"), {"pad_token": "<pad>", "eos_token": "</s>"}


def _gemma():
    """SigLIP 2's: a word at the beginning of a text is written otherwise than behind a space."""
    tokenizer = Tokenizer(models.BPE(**{"unk_token": "<unk>"}))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=special, initial_alphabet=["▁", *LETTERS], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer, {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}


def _roberta():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}


def _bert():
    words = sorted({word for line in CORPUS for word in line.split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]"]
    vocabulary = [*special, *words, *LETTERS, *("##" + letter for letter in LETTERS)]
    tokenizer = Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(dict.fromkeys(vocabulary))}, **{"unk_token": "[UNK]"})
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return tokenizer, {**names, "bos_token": "[BOS]", "eos_token": "[EOS]"}


def write_tokenizer(folder, make):
    """Write the files that AutoTokenizer reads."""
    tokenizer, special = make()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


SMALL = {"width": 32, "heads": 4, "layers": 2, "vocab_size": 400}
COCA = {
    "custom_text": True,
    "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    "text_cfg": {**TEXT, "context_length": 20, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "context_length": 20, "attn_pooler_heads": 4},
}
SIGLIP = {
    **SMALL,
    "context_length": 20,
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
# what open_clip's own configurations say of each family, with small numbers; and what makes the tokenizer's files
FAMILIES = {
    "siglip": ({"custom_text": True, "init_logit_bias": -10, "text_cfg": SIGLIP}, _t5),
    "siglip_i18n": (
        {"custom_text": True, "init_logit_bias": -10,
         "text_cfg": {**SIGLIP, "proj_bias": False, "proj_type": "none", "width": 24}},
        _mt5,
    ),
    "siglip2": (
        {"custom_text": True, "init_logit_bias": -10, "text_cfg": {**SIGLIP, "act_kwargs": {"approximate": "tanh"}}},
        _gemma,
    ),
    "clipa": (
        {"text_cfg": {**SMALL, "context_length": 20, "hf_tokenizer_name": "bert-base-uncased",
                      "tokenizer_kwargs": {"strip_sep_token": True}, "pool_type": "last", "no_causal_mask": True}},
        _bert,
    ),
    "clips": (
        {"text_cfg": {**SMALL, "context_length": 20, "hf_tokenizer_name": "bert-base-uncased",
                      "tokenizer_mode": "clips", "pool_type": "last", "no_causal_mask": True}},
        _bert,
    ),
    "mobileclip": ({"custom_text": True, "text_cfg": {**TEXT, "context_length": 20, "no_causal_mask": True}}, None),
    "worldwide": (
        {"text_cfg": {**SMALL, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2}}, _xlm
    ),
    "worldwide_mt5": (
        {"quick_gelu": True,
         "text_cfg": {**SMALL, "hf_tokenizer_name": "google/mt5-base", "pool_type": "eos", "eos_id": 1,
                      "tokenizer_kwargs": {"clean": "canonicalize"}}},
        _mt5,
    ),
    "pe_core": ({"custom_text": True, "text_cfg": {**TEXT, "context_length": 32}}, None),
    "coca": (COCA, None),
    "class_token_not_causal": (
        {"custom_text": True, "text_cfg": {**TEXT, "context_length": 20, "embed_cls": True, "no_causal_mask": True}},
        None,
    ),
    "first": (
        {"custom_text": True,
         "text_cfg": {**TEXT, "context_length": 20, "pool_type": "first", "no_causal_mask": True}},
        None,
    ),
    "last_causal": ({"custom_text": True, "text_cfg": {**TEXT, "context_length": 20, "pool_type": "last"}}, None),
    "custom_blocks": (
        {"custom_text": True,
         "text_cfg": {**TEXT, "context_length": 20, "no_causal_mask": True, "qk_norm": True, "scale_heads": True,
                      "scale_attn": True, "scale_fc": True, "scale_attn_inner": True}},
        None,
    ),
}  # fmt: skip

_HIDDEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
           "vocab_size": 400, "max_position_embeddings": 90}  # fmt: skip
# text towers of Hugging Face: open_clip's settings, the architecture, the tokenizer
TOWERS = {
    "roberta": ({"hf_pooler_type": "mean_pooler"}, lambda: RobertaConfig(**_HIDDEN), _roberta),
    "xlm_roberta": ({"hf_pooler_type": "mean_pooler"}, lambda: XLMRobertaConfig(**_HIDDEN), _xlm),
    "bert": ({"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}, lambda: BertConfig(**_HIDDEN), _bert),
    "bert_last_hidden": (
        {"hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "linear"},
        lambda: BertConfig(**_HIDDEN),
        _bert,
    ),
    "mt5": (
        {"hf_pooler_type": "mean_pooler"},
        lambda: MT5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=400),
        _mt5,
    ),
    "nllb": (
        {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        lambda: M2M100Config(
            d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=400, max_position_embeddings=90,
        ),
        _nllb,
    ),
}  # fmt: skip


def write_family(folder, kind):
    """Write a model of a family as a folder, and return its `model_name`."""
    config, make = FAMILIES[kind]
    if make is not None:
        folder.mkdir()
        write_tokenizer(folder, make)
    return write_model(folder, {"embed_dim": 24, "vision_cfg": VIT, **json.loads(json.dumps(config))})


def register_tower(folder, kind, name):
    """Make open_clip know a model with a text tower of Hugging Face, and return the file of its weights."""
    settings, describe, make = TOWERS[kind]
    tower = folder / "tower"
    describe().save_pretrained(tower)
    write_tokenizer(tower, make)
    text = {**settings, "hf_model_name": str(tower), "hf_tokenizer_name": str(tower)}
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained_text=False)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    save_file({key: value.clone().contiguous() for key, value in model.state_dict().items()}, folder / "w.safetensors")
    return str(folder / "w.safetensors")
