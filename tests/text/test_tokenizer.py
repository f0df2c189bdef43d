"""Tokenizers of tokenizer.json: definitions made here, in the form of T5, CLIP and Qwen."""

import json
import pickle

import keras
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from keras_diffusion.text import CLIPTokenizer, Tokenizer

MERGES = ["c a", "ca t</w>", "d o", "do g</w>"]


def t5():
    """Pieces with probabilities, "▁" for spaces, </s> at the end."""
    pieces = ["<pad>", "</s>", "<unk>", "▁a", "▁red", "▁cat", "▁", "r", "e", "d", "c", "a", "t"]
    made = tokenizers.Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return made.to_str()


def clip(words, merges):
    """Lower case, bytes, "</w>" at the end of words, both ends marked."""
    pairs = [tuple(merge.split()) for merge in merges]
    vocabulary = {word: i for i, word in enumerate(words)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    cuts = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(cuts, "removed", invert=True), bytes_])
    ends = [(word, vocabulary[word]) for word in ("<|startoftext|>", "<|endoftext|>")]
    made.post_processor = processors.TemplateProcessing("<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    return made.to_str()


def qwen():
    """Bytes with a space before words; nothing at the ends."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: i for i, sign in enumerate([*signs, "ca", "cat"])}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [("c", "a"), ("ca", "t")]))
    made.normalizer, made.decoder = normalizers.NFC(), decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    return made.to_str()


def test_t5_ends_texts_and_fills_them_up(tmp_path):
    (tmp_path / "tokenizer.json").write_text(t5(), encoding="utf-8")
    tokenizer = Tokenizer.from_file(tmp_path, max_length=6)
    assert tokenizer(["a red cat", ""]).tolist() == [[3, 4, 5, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert tokenizer("a red cat").dtype == "int32" and tokenizer.vocabulary_size == 13
    assert tokenizer.decode(tokenizer("a red cat")[0]) == "a red cat"
    with pytest.raises(ValueError, match="at most 6 tokens.*Received: 8 tokens from 'a a a a a a a'"):
        tokenizer("a a a a a a a")
    assert Tokenizer(t5(), 3, truncate=True)("a red cat").tolist() == [[3, 4, 1]], "the end stays"


def test_clips_file_gives_the_tokens_of_clips_tokenizer():
    ours = CLIPTokenizer(merges=MERGES, max_length=16)
    theirs = Tokenizer(clip(ours.words, MERGES), max_length=16)
    texts = ["A cat", "dogs, cats!", "it's 42 Ünder", ""]
    np.testing.assert_array_equal(theirs(texts), ours(texts))
    assert theirs.vocabulary_size == ours.vocabulary_size


def test_qwen_reads_bytes():
    tokenizer = Tokenizer(qwen(), max_length=5)
    row = tokenizer("cat é")[0]
    assert row[0] == 257 and tokenizer.decode(row) == "cat é" and tokenizer.encode("") == []
    assert tokenizer("cat").tolist() == [[257] + [258] * 4], "<|endoftext|> fills up"


def test_configs_and_processes_have_the_definition():
    tokenizer = Tokenizer(t5(), max_length=5, pad_token=2, truncate=True)
    for again in (
        pickle.loads(pickle.dumps(tokenizer)),
        keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(tokenizer)))),
    ):
        assert again.get_config() == tokenizer.get_config()
        assert again("a red").tolist() == [[3, 4, 1, 2, 2]]


@pytest.mark.parametrize(
    ("definition", "options", "message"),
    [
        ("{", {}, "no JSON"),
        ('{"model": {"type": "Exec"}}', {}, "cannot read the definition"),
        (7, {}, "text of a tokenizer.json. Received: 7"),
        (None, {"max_length": 1}, "at least one. Received: max_length=1"),
        (None, {"pad_token": -1}, "pad_token"),
        (None, {"truncate": 1}, "truncate"),
        ("padless", {}, "names none.*Pass its number"),
    ],
)
def test_bad_definitions(definition, options, message):
    if definition == "padless":
        definition = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str()
    with pytest.raises(ValueError, match=message):
        Tokenizer(t5() if definition is None else definition, **{"max_length": 5, **options})


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    from keras_diffusion.runtime import limits

    (tmp_path / "tokenizer.json").write_text(t5(), encoding="utf-8")
    with limits.raised(text_bytes=100), pytest.raises(ValueError, match="text_bytes"):
        Tokenizer.from_file(tmp_path / "tokenizer.json", 5)
