"""A tokenizer whose vocabulary is the words of one's own captions.

    "A red circle, left of a blue square"  →  a | red | circle | , | left | of | a | blue | square
                                           →  [2, 9, 4, 12, 6, 7, 2, 3, 10, 0, 0]

Lower case, split into runs of letters and digits and single other signs. 0 fills short texts up, 1 is any unknown word.
For captions of a few hundred words it says all that there is to say, and needs no file.
"""

import collections
import re

import numpy as np

from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.registry import serializable
from keras_diffusion.text.added_words import AddedWords, TakesWords

PAD, UNKNOWN, FIRST_WORD = 0, 1, 2
_WORD = re.compile(r"\w+|[^\w\s]")


@serializable
class WordTokenizer(TakesWords):
    """Texts to tokens, one for each word.

    Args:
        words: list of the known words, in lower case; word i is token i + 2.
        max_length: tokens of a text, int ≥ 1; shorter ones are filled up with 0.
        added_words: dict from words that were added later, as `learn_words` does, to the number of their tokens, which
            follow those of `words`. None (default): none.

    Call arguments:
        texts: a string, or a sequence of strings.

    Returns:
        int32 array `(N, max_length)`.

    Raises:
        ValueError: words that are no words or stand twice; a text of too many words.

    Example:

    >>> tokenizer = WordTokenizer.from_texts(["a red apple", "a green pear"])
    >>> tokenizer("a red pear")
    array([[2, 6, 5]], dtype=int32)
    """

    def __init__(self, words, max_length, added_words=None):
        self.words, self.max_length = list(words), check_whole("max_length", max_length, 1)
        wrong = next((word for word in self.words if not isinstance(word, str) or split_words(word) != [word]), None)
        if wrong is not None or len(set(self.words)) != len(self.words):
            raise ValueError(
                "A vocabulary lists each word once, in lower case. Received: "
                f"{'a word twice' if wrong is None else shown(wrong)}"
            )
        self._tokens = {word: FIRST_WORD + i for i, word in enumerate(self.words)}
        self.added_words = AddedWords(added_words, self.vocabulary_size)

    @classmethod
    def from_texts(cls, texts, max_length=None, min_count=1):
        """The tokenizer of some captions: all their words, in alphabetical order.

        Args:
            texts: iterable of strings, or of tuples of strings (several captions of a picture).
            max_length: tokens of a text. None (default): those of the longest.
            min_count: words that are rarer are unknown. Default 1.

        Returns:
            `WordTokenizer`.

        Raises:
            ValueError: no texts, or numbers out of range.
        """
        check_whole("min_count", min_count, 1)
        all_texts = [text for several in texts for text in ((several,) if isinstance(several, str) else several)]
        split = [split_words(text) for text in all_texts]
        if not any(split):
            raise ValueError(f"A vocabulary is made of texts with words. Received: {len(all_texts)} texts without any")
        counts = collections.Counter(word for words in split for word in words)
        words = sorted(word for word, count in counts.items() if count >= min_count)
        return cls(words, max(map(len, split)) if max_length is None else max_length)

    @property
    def vocabulary_size(self):
        """Number of tokens, with those for padding and unknown words."""
        return FIRST_WORD + len(self.words)

    def __call__(self, texts):
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = np.full((len(texts), self.max_length), PAD, "int32")
        for row, text in zip(tokens, texts):
            encoded = self.encode(text)
            if len(encoded) > self.max_length:
                raise ValueError(
                    f"A text has at most {self.max_length} words and signs. Received: {len(encoded)} in {shown(text)}. "
                    "Shorten it: what is cut off would not count"
                )
            row[: len(encoded)] = encoded
        return tokens

    def encode(self, text):
        """The tokens of one text, not filled up.

        Args:
            text: str.

        Returns:
            list of ints.

        Raises:
            ValueError: no str.
        """
        _check_text(text)
        tokens = []
        for plain, added in self.added_words.split(text):
            tokens += [self._tokens.get(word, UNKNOWN) for word in split_words(plain)] + added
        return tokens

    def unknown(self, text):
        """The words of a text that are not in the vocabulary.

        Args:
            text: str.

        Returns:
            list of str.

        Raises:
            ValueError: no str.
        """
        _check_text(text)
        words = [word for plain, _ in self.added_words.split(text) for word in split_words(plain)]
        return [word for word in words if word not in self._tokens]

    def get_config(self):
        """Constructor arguments."""
        config = {"words": self.words, "max_length": self.max_length}
        return config | ({"added_words": self.added_words.counts} if self.added_words.counts else {})

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`.

        Args:
            config: dict of constructor arguments.

        Returns:
            `WordTokenizer`.
        """
        return cls(**config)

    def __repr__(self):
        return f"<WordTokenizer: {len(self.words):,} words, texts of {self.max_length}>"


def split_words(text):
    """A text as a list of words in lower case and single signs."""
    _check_text(text)
    return _WORD.findall(text.lower())


def _check_text(text):
    if not isinstance(text, str):
        raise ValueError(f"A text is a string. Received: {shown(text)}")
