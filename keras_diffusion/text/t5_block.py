"""The block of T5's encoder, and its positions: a number for each distance between two tokens.

    x ← x + W_o·softmax(q·kᵀ + b)·v,    q, k, v = W·norm₁(x)       no 1/√d; b: of the distance, one number per head
    x ← x + W₂·(act(V·y)·(W₁·y)),       y = norm₂(x)               gated (T5 1.1), else W₂·act(W₁·y)

Norms divide by the root mean square. Nothing has a bias. The sums x stay in float32 under mixed precision, and so does
the last product of the feed-forward step: they outgrow float16.

Distances are told apart exactly up to half of the buckets of a direction, then by their logarithm:

    distance   0 1 2 … 7 | 8 … 11 | 12 … 15 | … | ≥ 128         with 32 buckets, 16 for each direction

Reference: Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text transformer",
arXiv:1910.10683, section 2.1.
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import get_activation, unbuilt_dense
from keras_diffusion.layers.rms_normalization import RMSNormalization
from keras_diffusion.networks.network import wide_dtype


@serializable
class T5Block(Layer):
    """Self-attention with a bias, and a feed-forward step, each added to x.

    Args:
        num_heads: attention heads.
        head_dim: channels per head; num_heads·head_dim need not be the channels of x.
        hidden_dim: channels within the feed-forward step.
        gated: whether that is gated. Default True.
        activation: name or function. Default "gelu_tanh".
        norm_epsilon: added to the mean square. Default 1e-6.

    Call arguments:
        x: `(B, L, C)`, float32.
        bias: added to the logits, `(B or 1, heads, L, L)`, float32.

    Returns:
        `(B, L, C)`, float32.
    """

    def __init__(
        self, num_heads, head_dim, hidden_dim, gated=True, activation="gelu_tanh", norm_epsilon=1e-6, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.activation = get_activation(activation)

    def build(self, x_shape, bias_shape=None):
        channels, inner = x_shape[-1], self.num_heads * self.head_dim
        self.wide = wide_dtype(self.dtype_policy)
        norm = {"epsilon": self.norm_epsilon, "dtype": self.wide}
        self.norm1 = built(RMSNormalization(name="norm1", **norm), x_shape)
        for name in ("to_q", "to_k", "to_v"):
            setattr(self, name, self._dense(inner, channels, name, use_bias=False))
        self.to_out = self._dense(channels, inner, "to_out", use_bias=False)
        self.norm2 = built(RMSNormalization(name="norm2", **norm), x_shape)
        hidden = (2 if self.gated else 1) * self.hidden_dim
        self.feed_forward1 = self._dense(hidden, channels, "feed_forward1", use_bias=False)
        last = unbuilt_dense(channels, use_bias=False, name="feed_forward2", dtype=self.wide)
        self.feed_forward2 = built(last, (None, self.hidden_dim))

    def call(self, x, bias):
        x = x + ops.cast(self._attend(self.norm1(x), bias), x.dtype)
        hidden = self.feed_forward1(self.norm2(x))
        if self.gated:  # values first, gates behind, as in `TransformerBlock`
            hidden, gate = ops.split(hidden, 2, axis=-1)
            hidden = hidden * self.activation(gate)
        else:
            hidden = self.activation(hidden)
        return x + self.feed_forward2(hidden)

    def _attend(self, x, bias):
        query, key, value = (self._heads(layer(x)) for layer in (self.to_q, self.to_k, self.to_v))
        logits = ops.einsum("bnhd,bmhd->bhnm", ops.cast(query, self.wide), ops.cast(key, self.wide))
        weights = ops.cast(ops.softmax(logits + bias, axis=-1), value.dtype)
        attended = ops.einsum("bhnm,bmhd->bnhd", weights, value)
        shape = ops.shape(attended)
        return self.to_out(ops.reshape(attended, (-1, shape[1], self.num_heads * self.head_dim)))

    def _heads(self, tokens):
        return ops.reshape(tokens, (-1, ops.shape(tokens)[1], self.num_heads, self.head_dim))

    def attention_projections(self):
        """Dict of the dense layers that make queries, keys, values and the output; see `lora.network`."""
        return {name: getattr(self, name) for name in ("to_q", "to_k", "to_v", "to_out")}


def distance_buckets(length, num_buckets, max_distance):
    """The bucket of the distance from each token to each other one.

    Args:
        length: L, number of tokens.
        num_buckets: even number, half of them for tokens that come later.
        max_distance: from here on all distances are alike.

    Returns:
        int32 array `(L, L)`, a row for each token that looks.
    """
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = num_buckets // 2
    exact, far = half // 2, np.abs(distance)
    # In float32, as the models were trained: at the borders, float64 may round the other way.
    logarithm = np.log(np.maximum(far, 1).astype("float32") / np.float32(exact))
    steps = (logarithm / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)).astype("int32")
    bucket = np.where(far < exact, far, np.minimum(exact + steps, half - 1))
    return (bucket + half * (distance > 0)).astype("int32")
