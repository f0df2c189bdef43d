"""CLIP's tokenizer: text to integers, by byte-pair encoding.

    "A cat!"  →  a | cat | !               lower case, split into runs of letters, single digits, runs of other signs
              →  a</w>  c a t</w>  !</w>   UTF-8 bytes, each as one printable character; the last ends the word
              →  a</w>  cat</w>  !</w>     the pair that comes first in the list of merges is joined, again and again
              →  [start, 320, 2368, 256, end, end, …]

The vocabulary follows from the list of merges: 256 bytes, the same 256 at the end of a word, one token per merge, start
and end. OpenAI's list is the file `bpe_simple_vocab_16e6.txt.gz` of https://github.com/openai/CLIP (1.3 MB); nothing is
downloaded here.

References: Radford et al., arXiv:2103.00020, section 2.4; byte-pair encoding: Sennrich et al., arXiv:1508.07909.
"""

import gzip
import html
import io
import itertools
import re
import unicodedata
import zlib

import numpy as np

from keras_diffusion.configs.checks import shown
from keras_diffusion.configs.file_paths import FilePath
from keras_diffusion.configs.registry import serializable
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.files import read_bytes
from keras_diffusion.text.added_words import AddedWords, TakesWords

START, END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# OpenAI's file lists more merges than its model knows: 49152 tokens, less twice 256 bytes.
_MERGES = 49152 - 2 * 256
# Tried before letters, digits and signs: what "don't" and "it's" are cut at.
_FIRST = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d", re.IGNORECASE)


@serializable
class CLIPTokenizer(TakesWords):
    """Texts to tokens for `CLIPTextEncoder`.

    Args:
        bpe_path: path of `bpe_simple_vocab_16e6.txt.gz`: gzip or plain text, a heading, then one merge "a b" per line.
        merges: the list of merges as strings, instead of the file; `get_config` gives it, so that saved models need no
            file.
        max_length: tokens per text, with start and end. Default 77.
        pad_token: what fills short texts up. None (default): the end token, as OpenAI and KerasCV do; diffusers' Stable
            Diffusion 2 has 0.
        added_words: dict from words that are no part of the vocabulary, as `learn_words` adds them, to the number of
            their tokens, which follow those of the vocabulary. None (default): none.

    Call arguments:
        texts: a string, or a sequence of strings.

    Returns:
        int32 array `(N, max_length)`.

    Raises:
        ValueError: neither or both of `bpe_path` and `merges`; lines that are no merges; a text of too many tokens.
        FileNotFoundError: no file at `bpe_path`.

    Example:

    >>> tokenizer = CLIPTokenizer("bpe_simple_vocab_16e6.txt.gz")
    >>> tokenizer(["a photograph of an astronaut riding a horse"]).shape
    (1, 77)
    """

    path_arguments = ("bpe_path",)  # what a config from a file may only lead to beside that file

    def __init__(self, bpe_path=None, merges=None, max_length=77, pad_token=None, added_words=None):
        if (bpe_path is None) == (merges is None):
            raise ValueError(
                "A tokenizer needs its list of merges: the path of bpe_simple_vocab_16e6.txt.gz (from "
                f"https://github.com/openai/CLIP) as `bpe_path`, or `merges`. Received: bpe_path={bpe_path!r}, and "
                f"merges {'not ' if merges is None else ''}given"
            )
        self.merges = _read_merges(bpe_path) if merges is None else list(merges)
        self.max_length, self.pad_token = max_length, pad_token
        pairs = [tuple(merge.split()) for merge in self.merges]
        wrong = next((i for i, pair in enumerate(pairs) if len(pair) != 2), None)
        if wrong is not None:
            raise ValueError(
                f"A merge is two tokens with a space between. Received: merge {wrong} is {self.merges[wrong]!r}"
            )
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._signs = _signs_of_bytes()
        signs = sorted(self._signs, key=ord)  # the vocabulary's order
        words = [*signs, *(sign + _WORD_END for sign in signs), *("".join(pair) for pair in pairs), START, END]
        self._tokens = {word: token for token, word in enumerate(words)}
        self._words = words
        self._known = {START: [self.start_token], END: [self.end_token]}
        self.added_words = AddedWords(added_words, self.vocabulary_size)

    @property
    def start_token(self):
        """The token that every text begins with."""
        return self._tokens[START]

    @property
    def end_token(self):
        """The token that every text ends with."""
        return self._tokens[END]

    @property
    def vocabulary_size(self):
        """Number of tokens."""
        return len(self._words)

    @property
    def words(self):
        """The vocabulary, a list: token i is words[i]."""
        return list(self._words)

    def __call__(self, texts):
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = np.full(
            (len(texts), self.max_length), self.end_token if self.pad_token is None else self.pad_token, "int32"
        )
        for row, text in zip(tokens, texts):
            encoded = self.encode(text)
            if len(encoded) > self.max_length:
                raise ValueError(
                    f"A text has at most {self.max_length} tokens, start and end included. Received: {len(encoded)} "
                    f"tokens from {text!r}. "
                    "Shorten it: what is cut off would not count"
                )
            row[: len(encoded)] = encoded
        return tokens

    def encode(self, text):
        """The tokens of one text, not filled up.

        Args:
            text: str.

        Returns:
            list of ints, start and end included.
        """
        tokens = []
        for plain, added in self.added_words.split(html.unescape(html.unescape(text))):
            tokens += [token for word in _split(" ".join(plain.split()).lower()) for token in self._encode_word(word)]
            tokens += added
        return [self.start_token, *tokens, self.end_token]

    def decode(self, tokens):
        """The text of tokens.

        Args:
            tokens: sequence of ints in [0, vocabulary_size).

        Returns:
            str, without start and end.
        """
        words = "".join(
            self._words[token] for token in tokens if token not in (self.start_token, self.end_token)
        ).split(_WORD_END)
        raw = b" ".join(bytes(self._signs.index(sign) for sign in word) for word in words)
        return raw.decode("utf-8", errors="replace").strip()

    def _encode_word(self, word):
        if word not in self._known:
            parts = [self._signs[byte] for byte in word.encode("utf-8")]
            self._known[word] = [self._tokens[part] for part in self._merge([*parts[:-1], parts[-1] + _WORD_END])]
        return self._known[word]

    def _merge(self, parts):
        """Joins neighbours, the earliest merge of the list first, until none is left to join."""
        while len(parts) > 1:
            best = min(itertools.pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                found = tuple(parts[i : i + 2]) == best
                joined.append("".join(best) if found else parts[i])
                i += 2 if found else 1
            parts = joined
        return parts

    def get_config(self):
        """Constructor arguments; the merges themselves, not the path."""
        config = {"merges": self.merges, "max_length": self.max_length, "pad_token": self.pad_token}
        return config | ({"added_words": self.added_words.counts} if self.added_words.counts else {})

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`, which has the merges and no path.

        Args:
            config: dict of constructor arguments.

        Returns:
            tokenizer.

        Raises:
            ValueError: a path, unless it was found beside the file that the config comes from: a config opens no other
                file.
        """
        path = config.get("bpe_path")
        if path is not None and not isinstance(path, FilePath):
            raise ValueError(
                "The config of a tokenizer holds its merges; a path is for the constructor. Received: "
                f"bpe_path={shown(path)}. "
                "Use CLIPTokenizer(bpe_path), and save what it gives"
            )
        return cls(**config)


def _read_merges(path):
    content = read_bytes(path)
    if content[:2] == b"\x1f\x8b":
        most = limits.current().text_bytes
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(most + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"Cannot unpack the vocabulary {str(path)!r}: {error}") from error
        limits.check(len(content), "text_bytes", f"The length of the vocabulary {str(path)!r}, unpacked,")
    lines = content.decode("utf-8").split("\n")
    return [line for line in lines[1 : _MERGES + 1] if line.strip()]


def _split(text):
    """Words: what `_FIRST` finds, else a run of letters, one digit, or a run of other signs; spaces separate."""
    i = 0
    while i < len(text):
        first = _FIRST.match(text, i)
        if first:
            end = first.end()
        else:
            kind, end = _kind(text[i]), i + 1
            while kind in ("letter", "sign") and end < len(text) and _kind(text[end]) == kind:
                end += 1
        if not text[i].isspace():
            yield text[i:end]
        i = end


def _kind(sign):
    if sign.isspace():
        return "space"
    return {"L": "letter", "N": "digit"}.get(unicodedata.category(sign)[0], "sign")


def _signs_of_bytes():
    """A character for each of the 256 bytes: printable Latin-1 stands for itself, the rest are U+0100 and on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = itertools.count(256)
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
