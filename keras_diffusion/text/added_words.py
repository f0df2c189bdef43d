"""Words added to a vocabulary that is there already, each as tokens of its own: what textual inversion learns.

"a photo of a <lamp>"  →  a | photo | of | a | V, V+1        with added_words={"<lamp>": 2} and V tokens before
"""

import re

from keras_diffusion.configs.checks import check_whole, clip, shown

_RULE = "An added word is one without white space, such as “<lamp>”, and counts one token or more"
_MOST_TOKENS = 64


class AddedWords:
    """The added words of a tokenizer.

    Args:
        counts: dict from words to the number of their tokens, in the order in which they were added; or None.
        first_token: number of the first token: those before belong to the vocabulary.

    Raises:
        ValueError: words with white space, numbers out of range.
    """

    def __init__(self, counts, first_token):
        self.counts, self._tokens = _checked(counts or {}), {}
        for word, count in self.counts.items():
            if not isinstance(word, str) or not word or word != "".join(word.split()):
                raise ValueError(f"{_RULE}. Received: {shown(word)}")
            check_whole("tokens of an added word", count, 1, _MOST_TOKENS)
            self._tokens[word] = list(range(first_token, first_token + count))
            first_token += count
        longest_first = sorted(self.counts, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def split(self, text):
        """Cuts a text at added words.

        Args:
            text: str.

        Yields:
            (str without added words, the tokens of the added word behind it).
        """
        end = 0
        for found in self._any.finditer(text) if self._any else ():
            yield text[end : found.start()], self._tokens[found[0]]
            end = found.end()
        yield text[end:], []

    def extended(self, words):
        """The counts with further words, a dict.

        Raises:
            ValueError: what is no dict; a word that was added before.
        """
        words = _checked(words)
        twice = next((word for word in words if word in self.counts), None)
        if twice is not None:
            raise ValueError(f"A word is added once. Received: {clip(twice)}, which the tokenizer has. Take another.")
        return {**self.counts, **words}


class TakesWords:
    """Lets words be added to a tokenizer that has `vocabulary_size` and `added_words`."""

    def add_words(self, counts):
        """Adds words, with tokens from `vocabulary_size` on, behind those added before.

        Args:
            counts: dict from words, such as "<lamp>", to the number of their tokens.

        Raises:
            ValueError: words with white space, or added before; numbers out of range.
        """
        self.added_words = AddedWords(self.added_words.extended(counts), self.vocabulary_size)


def _checked(counts):
    if not isinstance(counts, dict):
        raise ValueError(f"{_RULE}. Received: {shown(counts)}, which is no dict of them")
    return dict(counts)
