"""The transformer block of Stable Diffusion and of CLIP: attention and feed-forward steps on a sequence, each after a
layer norm.

    x ← x + attention(norm1(x))                   self-attention
    x ← x + attention(norm2(x), context)          optional cross-attention, or a second self-attention in its place
    x ← x + W₂·f(norm3(x))

    f(y) = act(W₁·y)                              plain
    f(y) = (W₁·y)·act(V·y)                        gated: half of the layer opens and shuts the other half (GEGLU)

Gated, [W₁ V] is one kernel: the values first, the gates behind them. (`layers.perturbation` can replace the softmax of
self-attention by the identity, for guidance.)

References: Vaswani et al., arXiv:1706.03762; norms first: Xiong et al., arXiv:2002.04745; gates: Shazeer, "GLU variants
improve transformer", arXiv:2002.05202.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.attention import Attention
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import get_activation, layer_normalization
from keras_diffusion.layers.perturbation import is_perturbed


@serializable
class TransformerBlock(Layer):
    """Layer norm → self-attention, layer norm → cross-attention, layer norm → feed-forward, each added to x.

    Args:
        num_heads: number of heads.
        head_dim: channels per head.
        cross_attention: whether the block takes a `context`. Default True.
        gated: whether the feed-forward step is gated. Default True.
        activation: of the feed-forward step, name or function: "gelu" (default), "gelu_tanh", "quick_gelu", …
        use_bias: whether queries, keys and values have a bias. Default False.
        causal: whether a position sees only itself and those before it. Default False.
        norm_epsilon: added to the variance. Default 1e-5.
        flash_attention: as in `Attention`.
        double_self_attention: whether a second self-attention stands in the place of cross-attention. Default False.

    Call arguments:
        x: `(B, L, C)`.
        context: `(B, M, D)`, with `cross_attention` only.
        context_mask: booleans `(B, M)`, which vectors of the context are seen; None (default): all of them.

    Returns:
        `(B, L, C)`.

    Raises:
        ValueError: heads < 1, an unknown activation; a context missing or not expected; cross-attention and a second
            self-attention.

    Example:

    >>> block = TransformerBlock(num_heads=2, head_dim=16)
    >>> block(keras.ops.ones((8, 24, 32)), context=keras.ops.ones((8, 77, 768))).shape
    (8, 24, 32)
    """

    def __init__(
        self,
        num_heads,
        head_dim,
        cross_attention=True,
        gated=True,
        activation="gelu",
        use_bias=False,
        causal=False,
        norm_epsilon=1e-5,
        flash_attention=None,
        double_self_attention=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if cross_attention and double_self_attention:
            raise ValueError(
                "A second self-attention stands in the place of cross-attention. "
                "Received: cross_attention=True and double_self_attention=True. Choose one"
            )
        self.activation = get_activation(activation)
        options = {"use_bias": use_bias, "flash_attention": flash_attention, "dtype": self.dtype_policy}
        self.attention1 = Attention(num_heads, head_dim, causal=causal, name="attention1", **options)
        second = cross_attention or double_self_attention
        self.attention2 = Attention(num_heads, head_dim, name="attention2", **options) if second else None

    def build(self, x_shape, context_shape=None):
        self._check_context(context_shape)
        channels = x_shape[-1]
        self.norm1 = self._norm("norm1", x_shape)
        self.attention1.build(x_shape)
        if self.attention2 is not None:
            self.norm2 = self._norm("norm2", x_shape)
            self.attention2.build(x_shape, context_shape)
        self.norm3 = self._norm("norm3", x_shape)
        self.feed_forward1 = self._dense((8 if self.gated else 4) * channels, channels, "feed_forward1")
        self.feed_forward2 = self._dense(channels, 4 * channels, "feed_forward2")

    def call(self, x, context=None, context_mask=None):
        self._check_context(context)
        x = x + self.attention1(self.norm1(x), identity=is_perturbed(self.name))
        if self.attention2 is not None:
            x = x + self.attention2(self.norm2(x), context=context, context_mask=context_mask)
        hidden = self.feed_forward1(self.norm3(x))
        if self.gated:
            hidden, gate = ops.split(hidden, 2, axis=-1)
            hidden = hidden * self.activation(gate)
        else:
            hidden = self.activation(hidden)
        return x + self.feed_forward2(hidden)

    def _norm(self, name, shape):
        return built(layer_normalization(epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy), shape)

    def _check_context(self, context):
        if self.cross_attention != (context is not None):
            received = "no context" if context is None else "a context"
            raise ValueError(
                f"A context goes with cross-attention. Received: {received}, and "
                f"cross_attention={self.cross_attention}. "
                "Pass a context (B, M, D) to blocks with cross-attention, and to no others"
            )
