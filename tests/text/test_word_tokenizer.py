import numpy as np
import pytest

from keras_diffusion import text
from keras_diffusion.text import WordTokenizer


def test_words_become_tokens():
    tokenizer = WordTokenizer.from_texts(["A red apple!", ("a pear", "a pear, left of a plum")])
    assert tokenizer.words == ["!", ",", "a", "apple", "left", "of", "pear", "plum", "red"]
    assert tokenizer.vocabulary_size == 11 and tokenizer.max_length == 7
    tokens = tokenizer(["a RED pear", "", "a blue apple"])
    assert tokens.dtype == np.int32 and tokens.tolist() == [[4, 10, 8, 0, 0, 0, 0], [0] * 7, [4, 1, 5, 0, 0, 0, 0]]
    assert tokenizer("a red pear").tolist() == tokens[:1].tolist()
    assert tokenizer.unknown("a blue apple, äpple") == ["blue", "äpple"]


def test_rare_words_and_length():
    tokenizer = WordTokenizer.from_texts(["a cat", "a dog", "a cat"], max_length=5, min_count=2)
    assert tokenizer.words == ["a", "cat"] and tokenizer("a dog").tolist() == [[2, 1, 0, 0, 0]]


def test_it_survives_its_config():
    tokenizer = WordTokenizer.from_texts(["a red apple"])
    again = WordTokenizer.from_config(tokenizer.get_config())
    assert again.words == tokenizer.words and again("a red").tolist() == tokenizer("a red").tolist()
    assert repr(again) == "<WordTokenizer: 3 words, texts of 3>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WordTokenizer(["a", "a"], 3), "each word once.*Received: a word twice"),
        (lambda: WordTokenizer(["A"], 3), "in lower case. Received: 'A'"),
        (lambda: WordTokenizer(["a b"], 3), "Received: 'a b'"),
        (lambda: WordTokenizer(["a"], 0), "max_length"),
        (lambda: WordTokenizer.from_texts(["", " "]), "2 texts without any"),
        (lambda: WordTokenizer(["a"], 2)("a a a"), "at most 2 words and signs. Received: 3 in 'a a a'"),
        (lambda: WordTokenizer(["a"], 2)([3]), "A text is a string. Received: 3"),
    ],
)
def test_bad_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_small_encoder_is_as_wide_as_asked():
    encoder, tokenizer = text.small_encoder(["a red apple", "a green pear"], width=8, depth=1, num_heads=2)
    assert encoder(tokenizer(["a red pear", ""])).shape == (2, 3, 8) and encoder.vocabulary_size == 7
