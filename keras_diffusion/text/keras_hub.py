"""Text encoders of keras-hub, which its users bring along: backbones and tokenizers as `models.TextToImage` takes them.

    tokens ──▶ {"token_ids": tokens, "padding_mask": …} ──▶ backbone ──▶ "sequence_output"

Backbones differ in the names of what goes in and comes out; the names say which is which. Nothing here imports
keras-hub.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.registry import serializable
from keras_diffusion.text.text_encoder import TextEncoder, visible_tokens

_OUTPUTS = ("sequence_output", "encoder_sequence_output")


@serializable
class KerasHubEncoder(TextEncoder):
    """A backbone of keras-hub, or a model with its form, as a text encoder.

    Args:
        backbone: functional Keras model on a dict of "token_ids", perhaps with "padding_mask" and "segment_ids", or
            the same with "encoder_" before the names; of a model with a decoder, the decoder reads one padding token
            and is ignored.
        pad_token: the token that fills texts up. Default 0.
        output_name: which of several outputs is the context. None (default): "sequence_output", or
            "encoder_sequence_output".

    Call arguments:
        tokens: integers `(B, L)`.

    Returns:
        `(B, L, D)`, float32.

    Raises:
        ValueError: a model on something else, or whose outputs have other names.

    Example:

    >>> encoder = KerasHubEncoder(keras_hub.models.T5Backbone.from_preset("t5_small_multi"))
    >>> encoder(tokens).shape
    (1, 77, 512)
    """

    def __init__(self, backbone, pad_token=0, output_name=None, name="keras_hub_encoder", trainable=True, dtype=None):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        inputs, outputs = getattr(backbone, "input", None), getattr(backbone, "output", None)
        if not isinstance(inputs, dict) or not any(_kind(key) == "token_ids" for key in inputs):
            raise ValueError(
                "A backbone is a functional Keras model on a dict with “token_ids” or “encoder_token_ids”. Received: "
                f"{shown(backbone)}, on {shown(inputs)}"
            )
        if isinstance(outputs, dict):
            found = [key for key in ((output_name,) if output_name else _OUTPUTS) if key in outputs]
            if not found:
                raise ValueError(
                    f"`output_name` is one of the backbone's outputs: {', '.join(outputs)}. Received: {output_name=}"
                )
            self.output_key, outputs = found[0], outputs[found[0]]
        else:
            self.output_key = None
        self.pad_token = check_whole("pad_token", pad_token, 0)
        self.backbone, self.width = backbone, int(outputs.shape[-1])
        self.input_names = tuple(inputs)
        self.built = True

    def call(self, tokens):
        outputs = self.backbone({key: self._given(key, tokens) for key in self.input_names}, training=False)
        return ops.cast(outputs if self.output_key is None else outputs[self.output_key], "float32")

    def _given(self, key, tokens):
        kind = _kind(key)
        if key.startswith("decoder_"):
            tokens = ops.full((ops.shape(tokens)[0], 1), self.pad_token, "int32")
        if kind == "padding_mask":
            return ops.cast(self.token_mask(tokens), "int32")
        return ops.zeros_like(tokens) if kind == "segment_ids" else tokens

    def token_mask(self, tokens):
        return visible_tokens(tokens, self.pad_token)


def _kind(key):
    return key.removeprefix("encoder_").removeprefix("decoder_")


class KerasHubTokenizer:
    """A tokenizer of keras-hub, with the tokens that begin and end texts, filled up.

    Args:
        tokenizer: object with `end_token_id` or None, perhaps `start_token_id` and `pad_token_id`, that makes a list of
            ints of each text.
        max_length: tokens of a text.

    Call arguments:
        texts: a string, or a sequence of strings.

    Returns:
        int32 array `(N, max_length)`.

    Raises:
        ValueError: a text of too many tokens.

    Example:

    >>> tokenizer = KerasHubTokenizer(keras_hub.models.CLIPTokenizer.from_preset("clip_vit_large_patch14"), 77)
    >>> tokenizer("a red circle").shape
    (1, 77)
    """

    def __init__(self, tokenizer, max_length):
        self.tokenizer, self.max_length = tokenizer, check_whole("max_length", max_length, 1)
        ids = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("start", "end", "pad")}
        self.pad_token = ids["pad"] or 0
        # T5 names its end as its start, and puts it at the end alone.
        self._before = [] if ids["start"] in (None, ids["end"]) else [ids["start"]]
        self._behind = [] if ids["end"] is None else [ids["end"]]

    def __call__(self, texts):
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = np.full((len(texts), self.max_length), self.pad_token, "int32")
        for row, text in zip(tokens, texts):
            (found,) = _rows(self.tokenizer([text]))
            encoded = [*self._before, *found, *self._behind]
            if len(encoded) > self.max_length:
                raise ValueError(
                    f"A text has at most {self.max_length} tokens, those at its ends included. Received: "
                    f"{len(encoded)} tokens from {shown(text)}. Shorten it: what is cut off would not count"
                )
            row[: len(encoded)] = encoded
        return tokens

    def get_config(self):
        """Constructor arguments; keras-hub has to be there when they are read."""
        return {"tokenizer": keras.saving.serialize_keras_object(self.tokenizer), "max_length": self.max_length}


def _rows(found):
    """Lists of ints, of what keras-hub gives: lists, arrays, or a ragged tensor."""
    rows = found.to_list() if hasattr(found, "to_list") else found
    return [[int(token) for token in row] for row in rows]


def from_keras_hub(backbone, tokenizer, max_length, output_name=None):
    """An encoder and a tokenizer of keras-hub, for `models.TextToImage`.

    Args:
        backbone: as in `KerasHubEncoder`.
        tokenizer: as in `KerasHubTokenizer`.
        max_length: tokens of a text.
        output_name: as in `KerasHubEncoder`.

    Returns:
        (`KerasHubEncoder`, `KerasHubTokenizer`).

    Raises:
        ValueError: as they do.

    Example:

    >>> backbone = keras_hub.models.T5Backbone.from_preset("t5_1.1_small")
    >>> tokenizer = keras_hub.models.T5Tokenizer.from_preset("t5_1.1_small")
    >>> encoder, tokens_of = kd.text.from_keras_hub(backbone, tokenizer, max_length=77)
    >>> model = kd.models.TextToImage(network, encoder, tokens_of)
    """
    tokens_of = KerasHubTokenizer(tokenizer, max_length)
    return KerasHubEncoder(backbone, tokens_of.pad_token, output_name), tokens_of
