"""The transformer block of diffusion transformers: norms that take scale, shift and gate from the condition
("adaLN-Zero").

    (b₁, s₁, g₁, b₂, s₂, g₂) = V·e
    x ← x + g₁·attention(norm(x)·(1 + s₁) + b₁)
    x ← x + g₂·W₂·act(W₁·(norm(x)·(1 + s₂) + b₂))

V starts at 0: the block starts as the identity.

Reference: Peebles & Xie, "Scalable diffusion models with transformers", arXiv:2212.09748, section 3.2.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.attention import Attention
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import check_dropout, get_activation


@serializable
class AdaptiveTransformerBlock(Layer):
    """Attention and a feed-forward step, whose norms follow the condition: adaLN-Zero.

    Args:
        num_heads: number of heads.
        head_dim: channels per head.
        activation: of the feed-forward step. Default "gelu_tanh".
        use_bias: whether queries, keys and values have a bias. Default True.
        norm_epsilon: of the norm before the feed-forward step; the other has 1e-6. Default 1e-5.
        dropout: after attention and in the feed-forward step, in [0, 1). Default 0.
        flash_attention: as in `Attention`.
        seed: int or None; of dropout.

    Call arguments:
        x: `(B, L, C)`.
        embedding: `(B, E)`, activated.
        training: whether dropout drops.

    Returns:
        `(B, L, C)`.

    Example:

    >>> AdaptiveTransformerBlock(num_heads=2, head_dim=16)(keras.ops.ones((8, 24, 32)), keras.ops.ones((8, 64))).shape
    (8, 24, 32)
    """

    def __init__(
        self,
        num_heads,
        head_dim,
        activation="gelu_tanh",
        use_bias=True,
        norm_epsilon=1e-5,
        dropout=0.0,
        flash_attention=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_dropout(dropout)
        self.activation = get_activation(activation)
        options = {"use_bias": use_bias, "flash_attention": flash_attention}
        self.attention = Attention(num_heads, head_dim, **options, name="attention", dtype=self.dtype_policy)
        self.seed_generator = self._dropout_generator()

    def build(self, x_shape, embedding_shape):
        channels = x_shape[-1]
        self.modulation = self._dense(6 * channels, embedding_shape[-1], "modulation", kernel_initializer="zeros")
        options = {"center": False, "scale": False, "dtype": self.dtype_policy}
        self.norm1 = built(keras.layers.LayerNormalization(epsilon=1e-6, name="norm1", **options), x_shape)
        self.norm2 = built(keras.layers.LayerNormalization(epsilon=self.norm_epsilon, name="norm2", **options), x_shape)
        self.attention.build(x_shape)
        self.feed_forward1 = self._dense(4 * channels, channels, "feed_forward1")
        self.feed_forward2 = self._dense(channels, 4 * channels, "feed_forward2")

    def call(self, x, embedding, training=False):
        shift1, scale1, gate1, shift2, scale2, gate2 = ops.split(self.modulation(embedding)[:, None], 6, axis=-1)
        h = self.attention(self.norm1(x) * (1.0 + scale1) + shift1)
        x = x + gate1 * self._drop(h, training)
        h = self.activation(self.feed_forward1(self.norm2(x) * (1.0 + scale2) + shift2))
        return x + gate2 * self.feed_forward2(self._drop(h, training))

    def _drop(self, h, training):
        if self.seed_generator is None or not training:
            return h
        return keras.random.dropout(h, self.dropout, seed=self.seed_generator)
