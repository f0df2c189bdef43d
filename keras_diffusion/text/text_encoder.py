"""What a text encoder is: tokens go in, a vector for each of them comes out, and which of them are padding.

    texts ── tokenizer, on the host ──▶ tokens (B, L) ─┬─ call ───────▶ context (B, L, D)
                                                       └─ token_mask ─▶ mask (B, L), or None

The null text is the empty one: what guidance leads away from, and what replaces captions that training drops.
"""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.lora.network import LoRAMixin


class TextEncoder(ArgumentsMixin, LoRAMixin, keras.Model):
    """Base class of text encoders. A subclass has the attribute `width`, builds its layers, and writes `call`.

    `models.TextToImage` takes any Keras model from tokens to vectors. This class adds what the library's own have: a
    config from the constructor's arguments, adapters, and a mask.

    Attributes:
        width: D, channels of the context: the network's `context_dim`.
        max_length: greatest number of tokens L, or None.

    Call arguments:
        tokens: integers `(B, L)`.

    Returns:
        `(B, L, D)`, float32 under mixed precision.

    Example:

    >>> class Bag(kd.text.TextEncoder):
    ...     def __init__(self, vocabulary_size, width, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.table = keras.layers.Embedding(vocabulary_size, width)
    ...         self.table.build()
    ...         self.built = True
    ...
    ...     def call(self, tokens):
    ...         return self.table(tokens)
    ...
    ...     def token_mask(self, tokens):
    ...         return kd.text.visible_tokens(tokens, pad_token=0)
    >>> Bag(vocabulary_size=10, width=4)(keras.ops.zeros((2, 3), "int32")).shape
    (2, 3, 4)
    """

    width = max_length = None

    def call(self, tokens):
        raise NotImplementedError(f"{type(self).__name__} must implement call(tokens)")

    def token_mask(self, tokens):
        """Which tokens the network sees; runs within the compiled step.

        Args:
            tokens: integers `(B, L)`.

        Returns:
            booleans `(B, L)`, true at least once in each row; None (default): all are seen, padding too.
        """
        return None

    def compute_output_shape(self, tokens_shape):
        return (*tokens_shape, self.width)


def visible_tokens(tokens, pad_token):
    """Which tokens are no padding: all of them up to the first `pad_token`, which marks the end of the text.

    Keeping the first one leaves something to see of the empty text, and of tokenizers that end and fill up texts with
    the same token, as CLIP's does.

    Args:
        tokens: integers `(B, L)`.
        pad_token: int.

    Returns:
        booleans `(B, L)`.

    Example:

    >>> visible_tokens(keras.ops.array([[5, 3, 0, 0], [0, 0, 0, 0]]), pad_token=0)
    Array([[ True,  True,  True, False],
           [ True, False, False, False]], dtype=bool)
    """
    padding = ops.cast(ops.equal(tokens, pad_token), "int32")
    return ops.cumsum(padding, axis=1) - padding < 1
