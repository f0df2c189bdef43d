"""One attention, without norm and without residual: what transformer blocks are made of.

    out = W_o·attention(W_q·x, W_k·c, W_v·c),      c: the context, or x itself

    attention(q, k, v) = softmax(q·kᵀ/√d)·v        per head of d channels

Queries, keys and values have kernels of their own, as in the checkpoints of Stable Diffusion and CLIP; `AttentionBlock`
fuses them. `causal` lets position n see the positions up to n only: language models read from left to right.

Reference: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.2.
"""

from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.dot_product_attention import dot_product_attention
from keras_diffusion.layers.layer import Layer


@serializable
class Attention(Layer):
    """Attention of a sequence to itself or to a context.

    Args:
        num_heads: number of heads, ≥ 1.
        head_dim: channels per head, ≥ 1; num_heads·head_dim need not be the channels of x.
        use_bias: whether the projections to queries, keys and values have a bias (the one to the output always has).
            Default False.
        causal: whether a position sees only itself and those before it. Default False.
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.

    Call arguments:
        x: `(B, L, C)`.
        context: `(B, M, D)`, or None (default) for attention to x itself.
        context_mask: booleans `(B, M)`, which vectors of the context are seen; None (default): all of them.
        identity: whether every position sees itself alone; see `layers/perturbation.py`. Default False.

    Returns:
        `(B, L, C)`.

    Raises:
        ValueError: `num_heads` or `head_dim` < 1.

    Example:

    >>> Attention(num_heads=2, head_dim=16)(keras.ops.ones((8, 24, 32)), context=keras.ops.ones((8, 77, 768))).shape
    (8, 24, 32)
    """

    def __init__(self, num_heads, head_dim, use_bias=False, causal=False, flash_attention=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = check_whole("num_heads", num_heads, 1)
        self.head_dim = check_whole("head_dim", head_dim, 1)

    def build(self, x_shape, context_shape=None):
        channels, inner = x_shape[-1], self.num_heads * self.head_dim
        source = channels if context_shape is None else context_shape[-1]
        self.to_q = self._dense(inner, channels, "to_q", use_bias=self.use_bias)
        self.to_k = self._dense(inner, source, "to_k", use_bias=self.use_bias)
        self.to_v = self._dense(inner, source, "to_v", use_bias=self.use_bias)
        self.to_out = self._dense(channels, inner, "to_out")

    def call(self, x, context=None, context_mask=None, identity=False):
        source = x if context is None else context
        value = self._heads(self.to_v(source))
        if identity:
            attended = value
        else:
            query, key = self._heads(self.to_q(x)), self._heads(self.to_k(source))
            options = {"name": self.path, "key_mask": context_mask}
            attended = dot_product_attention(query, key, value, self.flash_attention, self.causal, **options)
        shape = ops.shape(attended)
        return self.to_out(ops.reshape(attended, (shape[0], shape[1], self.num_heads * self.head_dim)))

    def _heads(self, tokens):
        shape = ops.shape(tokens)
        return ops.reshape(tokens, (shape[0], shape[1], self.num_heads, self.head_dim))

    def attention_projections(self):
        """Dict of the dense layers that make queries, keys, values and the output; see `lora.network`."""
        return {name: getattr(self, name) for name in ("to_q", "to_k", "to_v", "to_out")}
