"""Tokenizers of other families, from their `tokenizer.json`: T5, CLIP, Qwen, Gemma and others.

    "a red circle"  ── normalizer, pre-tokenizer, model, template of the file ──▶  [3, 9, 1131, 8196, 1]  ──▶  filled up

The file is data: which characters are replaced, where a text is cut, the vocabulary, what begins and ends a text. The
package `tokenizers` (extra `text`) computes with it and runs nothing of it.
"""

from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_flag, check_whole, shown
from keras_diffusion.configs.registry import serializable
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.files import read_bytes
from keras_diffusion.runtime.optional import import_optional

_PADDING = ("<pad>", "[PAD]", "<|endoftext|>", "</s>")  # T5, BERT, CLIP and Qwen, and families without one


@serializable
class Tokenizer:
    """Texts to tokens by a `tokenizer.json` of Hugging Face.

    Args:
        definition: the text of the file. `Tokenizer.from_file` reads it.
        max_length: tokens of a text, with those that the file puts at its beginning and end; shorter ones are filled
            up.
        pad_token: what fills them up, an int. None (default): what the file says, else the token "<pad>", "[PAD]",
            "<|endoftext|>" or "</s>" of its vocabulary, the first that there is.
        truncate: whether longer texts are cut off, keeping the tokens at the end. Default False: they are an error.

    Call arguments:
        texts: a string, or a sequence of strings.

    Returns:
        int32 array `(N, max_length)`.

    Raises:
        ValueError: a definition that is none, or larger than the limits; no token to fill up with; a text of too many
            tokens.
        ImportError: the package `tokenizers` is not installed.

    Example:

    >>> tokenizer = kd.text.Tokenizer.from_file("t5/tokenizer.json", max_length=77)
    >>> tokenizer("a red circle").shape
    (1, 77)
    """

    def __init__(self, definition, max_length, pad_token=None, truncate=False):
        self.max_length, self.truncate = check_whole("max_length", max_length, 1), check_flag("truncate", truncate)
        if not isinstance(definition, str):
            raise ValueError(f"A definition is the text of a tokenizer.json. Received: {shown(definition)}")
        self.definition = definition
        parsed = parse_json(definition, "definition of the tokenizer")
        self._tokenizer = _made(definition)
        self.pad_token = pad_token
        self._pad = self._padding_token(parsed) if pad_token is None else check_whole("pad_token", pad_token, 0)
        least = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= least:
            raise ValueError(
                f"Beside the {least} tokens at its beginning and end, a text has at least one. Received: {max_length=}"
            )

    @classmethod
    def from_file(cls, path, max_length, pad_token=None, truncate=False):
        """The tokenizer of a file.

        Args:
            path: of `tokenizer.json`, or of the folder that holds it.
            max_length, pad_token, truncate: as above.

        Returns:
            `Tokenizer`.

        Raises:
            ValueError: as above.
            FileNotFoundError: no such file.
        """
        path = Path(path)
        content = read_bytes(path / "tokenizer.json" if path.is_dir() else path)
        try:
            return cls(content.decode("utf-8"), max_length, pad_token, truncate)
        except UnicodeDecodeError as error:
            raise ValueError(f"A tokenizer.json is text in UTF-8. Received: {str(path)!r}: {error}") from error

    def _padding_token(self, parsed):
        told = (parsed.get("padding") or {}).get("pad_id")
        found = [token for name in _PADDING if (token := self._tokenizer.token_to_id(name)) is not None]
        if told is None and not found:
            raise ValueError(
                f"Short texts are filled up with a token, and the file names none, nor has it {', '.join(_PADDING)}. "
                "Received: pad_token=None. Pass its number"
            )
        return found[0] if told is None else check_whole("pad_id of the file", told, 0)

    @property
    def vocabulary_size(self):
        """Number of tokens."""
        return max(self._tokenizer.get_vocab_size(), self._pad + 1)

    def encode(self, text):
        """The tokens of one text, not filled up.

        Args:
            text: str.

        Returns:
            list of ints, with those that begin and end it.

        Raises:
            ValueError: no str; more tokens than `max_length`, unless they are cut off.
        """
        if not isinstance(text, str):
            raise ValueError(f"A text is a string. Received: {shown(text)}")
        found = self._tokenizer.encode(text)
        if len(found.ids) > self.max_length and not self.truncate:
            raise ValueError(
                f"A text has at most {self.max_length} tokens, those at its beginning and end included. Received: "
                f"{len(found.ids)} tokens from {shown(text)}. Shorten it, or pass truncate=True, which cuts it off"
            )
        if len(found.ids) > self.max_length:
            found = self._tokenizer.encode(text, add_special_tokens=False)
            found.truncate(self.max_length - self._tokenizer.num_special_tokens_to_add(False))
            found = self._tokenizer.post_process(found)
        return found.ids

    def decode(self, tokens):
        """The text of tokens.

        Args:
            tokens: sequence of ints.

        Returns:
            str, without the tokens that begin, end and fill up.
        """
        return self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True)

    def __call__(self, texts):
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = np.full((len(texts), self.max_length), self._pad, "int32")
        for row, text in zip(tokens, texts):  # one by one: threads of the package and processes of a loader do not mix
            encoded = self.encode(text)
            row[: len(encoded)] = encoded
        return tokens

    def get_config(self):
        """Constructor arguments; the definition itself, not the path."""
        names = ("definition", "max_length", "pad_token", "truncate")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`.

        Args:
            config: dict of constructor arguments.

        Returns:
            `Tokenizer`.
        """
        return cls(**config)

    def __reduce__(self):
        return type(self), tuple(self.get_config().values())

    def __repr__(self):
        return f"<Tokenizer: {self.vocabulary_size:,} tokens, texts of {self.max_length}>"


def _made(definition):
    """The object of the package `tokenizers`, which neither fills up nor cuts off: that is done here."""
    limits.check(len(definition), "text_bytes", "The length of the definition of a tokenizer")
    package = import_optional("tokenizers", "text", "tokenizers of tokenizer.json")
    try:
        made = package.Tokenizer.from_str(definition)
    except BaseException as error:
        # A panic of the package is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"The package `tokenizers` cannot read the definition: {shown(str(error))}") from error
    made.no_padding()
    made.no_truncation()
    return made
