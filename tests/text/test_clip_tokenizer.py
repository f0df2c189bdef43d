import gzip

import numpy as np
import pytest

from keras_diffusion.text import CLIPTokenizer

MERGES = [
    "i n",
    "t h",
    "th e</w>",
    "a n",
    "an d</w>",
    "e r</w>",
    "c a",
    "ca t</w>",
    "in g</w>",
    "1 2",
    "d o",
    "do g</w>",
    "Ã ¤",
]
TEXTS = [
    "The cat and the dog",
    "  many\n\t spaces   ",
    "don't, we'll; it's … 'TWAS",
    "12 dogs &amp; 3½ cats &lt;3",
    "Ünïcödé ǅ Ⅷ ² ä 日本語 🐱🐱 naïve_snake-case",
    "<|startoftext|>cat<|endoftext|>",
    "",
    "thethe inging '' ''s 's'",
]


@pytest.fixture(scope="module")
def bpe_path(tmp_path_factory):
    """A vocabulary file like OpenAI's, of a dozen merges."""
    path = tmp_path_factory.mktemp("bpe") / "vocabulary.txt.gz"
    path.write_bytes(gzip.compress("\n".join(['"heading"', *MERGES]).encode()))
    return path


@pytest.fixture(scope="module")
def tokenizer(bpe_path):
    return CLIPTokenizer(bpe_path)


@pytest.mark.slow
def test_same_tokens_as_keras_cv(bpe_path, tokenizer):
    clip_tokenizer = pytest.importorskip("keras_cv.src.models.stable_diffusion.clip_tokenizer")
    reference = clip_tokenizer.SimpleTokenizer(bpe_path=str(bpe_path))
    assert tokenizer.vocabulary_size == len(reference.vocab)
    for text in TEXTS:
        assert tokenizer.encode(text) == reference.encode(text), text


def test_merges_in_their_order(tokenizer):
    start, end = tokenizer.start_token, tokenizer.end_token
    the, cat = 512 + MERGES.index("th e</w>"), 512 + MERGES.index("ca t</w>")
    assert tokenizer.encode("The cat") == [start, the, cat, end]
    assert (start, end) == (512 + len(MERGES), 513 + len(MERGES))
    assert tokenizer.encode("A!") == [start, 256 + ord("a") - ord("!"), 256, end]


def test_fills_up_with_the_end_token_or_another(tokenizer):
    tokens = tokenizer(["cat", "the dog"])
    assert tokens.shape == (2, 77) and tokens.dtype == np.int32
    assert set(tokens[0, 2:]) == {tokenizer.end_token}
    assert set(CLIPTokenizer(merges=MERGES, pad_token=0)("cat")[0, 3:]) == {0}


def test_decode_is_the_inverse_of_encode(tokenizer):
    assert tokenizer.decode(tokenizer.encode("the dog 日本語 naïve")) == "the dog 日本語 naïve"


def test_config_needs_no_file(tokenizer):
    again = CLIPTokenizer.from_config(tokenizer.get_config())
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"needs its list of merges.*Received: bpe_path=None, and merges not given"):
        CLIPTokenizer()
    with pytest.raises(ValueError, match=r"Received: merge 1 is 'b'"):
        CLIPTokenizer(merges=["a b", "b"])
    with pytest.raises(ValueError, match=r"at most 4 tokens.*Received: 5 tokens from 'a b c'"):
        CLIPTokenizer(merges=MERGES, max_length=4)("a b c")
    with pytest.raises(FileNotFoundError):
        CLIPTokenizer(tmp_path / "nothing.gz")
