"""Where a patch is: sines and cosines of its row and its column.

    p(r, c) = [sin(ω·r), cos(ω·r), sin(ω·c), cos(ω·c)],    ω_i = 10000^(−i/(d/4)), i = 0 … d/4 − 1

A quarter of the d channels each. The table is computed for the grid at hand, so that a network takes images of any
size.

Reference: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.5 (one axis); Dosovitskiy et al.,
"An image is worth 16x16 words", arXiv:2010.11929, appendix D.4 (two).
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.initializers import RandomNormal
from keras_diffusion.layers.layer import Layer
from keras_diffusion.runtime import limits


def sincos_position(height, width, dim):
    """The table p for a grid.

    Args:
        height: rows.
        width: columns.
        dim: channels, a multiple of 4.

    Returns:
        float32 `(height * width, dim)`, in raster order.

    Raises:
        ValueError: `dim` is no multiple of 4.
    """
    if dim < 4 or dim % 4:
        raise ValueError(
            f"Two axes, sines and cosines: a sin-cos position takes a multiple of 4 channels. Received: {dim}. Use "
            "another width, or sincos_position=False"
        )
    limits.check(height * width * dim, "table_values", "The number of values in a table of positions")
    omega = 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    rows, columns = np.divmod(np.arange(height * width), width)
    angles = [axis[:, None] * omega for axis in (rows, columns)]
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=-1).astype("float32")


@serializable
class LearnedPosition(Layer):
    """Adds a learned vector for each place in the sequence: a table, of which a sequence of N tokens takes the first N
    rows.

    Args:
        max_tokens: rows of the table; the longest sequence.

    Call arguments:
        tokens: `(B, N, C)`, N ≤ `max_tokens`.

    Returns:
        `(B, N, C)`.

    Raises:
        ValueError: more tokens than rows.

    Example:

    >>> LearnedPosition(64)(keras.ops.ones((2, 16, 32))).shape
    (2, 16, 32)
    """

    def __init__(self, max_tokens, **kwargs):
        super().__init__(**kwargs)

    def build(self, tokens_shape):
        initializer = RandomNormal(stddev=0.02)
        self.table = self.add_weight(name="table", shape=(self.max_tokens, tokens_shape[-1]), initializer=initializer)

    def call(self, tokens):
        count = tokens.shape[1] if tokens.shape[1] is not None else ops.shape(tokens)[1]
        if isinstance(count, int) and count > self.max_tokens:
            raise ValueError(
                f"The table of positions has {self.max_tokens} rows, one for each token. Received: {count} tokens. Use "
                "larger patches or smaller images, or build the network with more (`max_tokens`)"
            )
        return tokens + self.table[None, :count]
