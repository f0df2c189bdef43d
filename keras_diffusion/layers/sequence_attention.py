"""Attention between sequences, with the options that transformers differ in: biases, rotary positions, a head size of
its own.

    y = W·softmax(q·kᵀ/√d)·v,    q = W_q·x,  k, v = W_k·z, W_v·z,    z: x itself, or the context

No norm and no residual: the block around it has them.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.dot_product_attention import dot_product_attention
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.rotary import rotate


@serializable
class SequenceAttention(Layer):
    """Multi-head attention from a sequence to itself or to another one.

    Args:
        num_heads: number of heads.
        head_dim: channels per head; None (default) for as many as fit into the channels of x, rounded down.
        use_bias: whether the projections have biases. Default True.
        rotary: whether queries and keys are turned by their place; see `layers.rotary`. Default False.
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.

    Call arguments:
        x: `(B, N, C)`.
        context: `(B, M, D)`, or None for self-attention.
        context_mask: booleans `(B, M)`, which keys are seen; None (default): all of them.
        identity: whether the attention map is the identity instead (for perturbed-attention guidance; self-attention
            only).

    Returns:
        `(B, N, C)`.

    Raises:
        ValueError: more heads than channels.

    Example:

    >>> SequenceAttention(4, rotary=True)(keras.ops.ones((8, 16, 32))).shape
    (8, 16, 32)
    """

    def __init__(self, num_heads, head_dim=None, use_bias=True, rotary=False, flash_attention=None, **kwargs):
        super().__init__(**kwargs)

    def build(self, x_shape, context_shape=None):
        channels = x_shape[-1]
        self.channels_per_head = channels // self.num_heads if self.head_dim is None else self.head_dim
        if self.channels_per_head < 1:
            raise ValueError(f"Each head needs a channel. Received: num_heads={self.num_heads}, {channels} channels")
        inner = self.num_heads * self.channels_per_head
        other = channels if context_shape is None else context_shape[-1]
        self.query = self._dense(inner, channels, "query", use_bias=self.use_bias)
        self.key = self._dense(inner, other, "key", use_bias=self.use_bias)
        self.value = self._dense(inner, other, "value", use_bias=self.use_bias)
        self.out = self._dense(channels, inner, "out", use_bias=self.use_bias)

    def call(self, x, context=None, context_mask=None, identity=False):
        source = x if context is None else context
        query, key, value = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        if self.rotary:
            query, key = rotate(query), rotate(key)
        if identity:
            attended = value
        else:
            options = {"name": self.path, "key_mask": context_mask}
            attended = dot_product_attention(query, key, value, self.flash_attention, **options)
        shape = ops.shape(attended)
        return self.out(ops.reshape(attended, (-1, shape[1], self.num_heads * self.channels_per_head)))

    def _split(self, tokens):
        return ops.reshape(tokens, (-1, ops.shape(tokens)[1], self.num_heads, self.channels_per_head))

    def attention_projections(self):
        """Dict of the dense layers that make queries, keys, values and the output; see `lora.network`."""
        return {name: getattr(self, name) for name in ("query", "key", "value", "out")}
