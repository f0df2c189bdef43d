"""Attention: every position looks at every other one, and at the context (a text, say).

    x ← x + W·attention(q, k, v of norm(x))                    self-attention, over all positions
    x ← x + W·attention(q of norm(x), k, v of the context)     cross-attention, if there is a context
    x ← x + W₂·act(W₁·norm(x))                                 feed-forward, optional

    attention(q, k, v) = softmax(q·kᵀ/√d)·v                    per head of d channels

(`layers.perturbation` can replace the softmax of self-attention by the identity, for guidance.)

Each step adds to x itself, not to its normalized copy: the identity path through the block stays whole. Cost grows with
the square of the number of positions, so U-Nets attend at low resolutions only.

Reference: Vaswani et al., "Attention is all you need", arXiv:1706.03762, equation 1.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.dot_product_attention import dot_product_attention
from keras_diffusion.layers.layer import Layer, built, check_context
from keras_diffusion.layers.options import check_norm, get_activation, normalization
from keras_diffusion.layers.perturbation import is_perturbed


@serializable
class AttentionBlock(Layer):
    """Self-attention, with cross-attention to a context and a feed-forward step where wanted.

    Args:
        num_heads: number of heads; must divide the channels. Default 4.
        head_dim: channels per head, instead of `num_heads` (default None); must divide the channels.
        cross_attention: whether the block takes a `context`. Default False.
        feed_forward: whether a feed-forward step (4 × the channels) follows. Default False.
        norm: "group" (default), "rms", or None for attention that looks at x itself.
        norm_groups: groups of "group". Default 8; the greatest common divisor with the channels is taken.
        norm_epsilon: added to the variance. Default 1e-5.
        activation: of the feed-forward step. Default "gelu".
        flash_attention: None (default: use a fused kernel where Keras finds one), True (fail without one), or False.
        zero_init: whether the projections that are added to x start at 0. Default True.
        output_scale: divides x + attention. Default 1; √2 keeps the variance.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.
        context: `(B, M, D)`, with `cross_attention` only.
        context_mask: booleans `(B, M)`, which vectors of the context are seen; None (default): all of them.

    Returns:
        shaped like `x`.

    Raises:
        ValueError: heads that do not divide the channels; unknown norm; a context missing or not expected.

    Example:

    >>> AttentionBlock(num_heads=2)(keras.ops.ones((8, 4, 6, 32))).shape
    (8, 4, 6, 32)
    """

    def __init__(
        self,
        num_heads=4,
        head_dim=None,
        cross_attention=False,
        feed_forward=False,
        norm="group",
        norm_groups=8,
        norm_epsilon=1e-5,
        activation="gelu",
        flash_attention=None,
        zero_init=True,
        output_scale=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm is not None:
            check_norm(norm)
        self.activation = get_activation(activation)

    def build(self, x_shape, context_shape=None):
        check_context(self, context_shape)
        channels = x_shape[-1]
        self.heads, self.channels_per_head = self._heads(channels)
        tokens_shape = (x_shape[0], None, channels)
        self.norm1 = self._norm("norm1", tokens_shape)
        last = {"kernel_initializer": "zeros" if self.zero_init else "glorot_uniform"}
        self.qkv = self._dense(3 * channels, channels, "qkv")
        self.out = self._dense(channels, channels, "out", **last)
        if self.cross_attention:
            self.norm2 = self._norm("norm2", tokens_shape)
            self.cross_q = self._dense(channels, channels, "cross_q")
            self.cross_kv = self._dense(2 * channels, context_shape[-1], "cross_kv")
            self.cross_out = self._dense(channels, channels, "cross_out", **last)
        if self.feed_forward:
            self.norm3 = self._norm("norm3", tokens_shape)
            self.feed_forward1 = self._dense(4 * channels, channels, "feed_forward1")
            self.feed_forward2 = self._dense(channels, 4 * channels, "feed_forward2", **last)

    def call(self, x, context=None, context_mask=None):
        check_context(self, context)
        shape = ops.shape(x)
        tokens = ops.reshape(x, (shape[0], -1, shape[-1]))
        # One product makes queries, keys and values together.
        query, key, value = self._split(self.qkv(self.norm1(tokens)), 3)
        attended = value if is_perturbed(self.name) else self._attend(query, key, value, self.path)
        tokens = tokens + self.out(self._merge(attended))
        tokens = tokens if self.output_scale == 1 else tokens / self.output_scale
        if self.cross_attention:
            (query,) = self._split(self.cross_q(self.norm2(tokens)), 1)
            key, value = self._split(self.cross_kv(context), 2)
            attended = self._attend(query, key, value, f"{self.path}/cross", context_mask)
            tokens = tokens + self.cross_out(self._merge(attended))
        if self.feed_forward:
            tokens = tokens + self.feed_forward2(self.activation(self.feed_forward1(self.norm3(tokens))))
        return ops.reshape(tokens, shape)

    def _attend(self, query, key, value, name, key_mask=None):
        return dot_product_attention(query, key, value, self.flash_attention, name=name, key_mask=key_mask)

    def _split(self, tokens, parts):
        """`(B, N, parts·C)` as `parts` tensors `(B, N, heads, d)`."""
        shape = ops.shape(tokens)
        tokens = ops.reshape(tokens, (shape[0], shape[1], parts, self.heads, self.channels_per_head))
        return [tokens[:, :, i] for i in range(parts)]

    def _merge(self, attended):
        """`(B, N, heads, d)` as `(B, N, C)`."""
        shape = ops.shape(attended)
        return ops.reshape(attended, (shape[0], shape[1], self.heads * self.channels_per_head))

    def _heads(self, channels):
        name, value = ("head_dim", self.head_dim) if self.head_dim is not None else ("num_heads", self.num_heads)
        if not isinstance(value, int) or value < 1 or channels % value:
            fitting = [n for n in range(1, channels + 1) if channels % n == 0]
            raise ValueError(
                f"Attention cuts the channels into equal heads: `{name}` must divide {channels}. Received: "
                f"{name}={value!r}. "
                f"Values that work: {', '.join(map(str, fitting))}"
            )
        heads = value if name == "num_heads" else channels // value
        return heads, channels // heads

    def _norm(self, name, shape):
        layer = normalization(self.norm, shape[-1], self.norm_groups, self.norm_epsilon, name, self.dtype_policy)
        return built(layer, shape)

    def attention_projections(self):
        """Dict of the dense layers that make queries, keys, values and the output; see `lora.network`."""
        names = ("qkv", "out", *(("cross_q", "cross_kv", "cross_out") if self.cross_attention else ()))
        return {name: getattr(self, name) for name in names}
