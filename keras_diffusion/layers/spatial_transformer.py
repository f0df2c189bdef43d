"""Transformer blocks on an image: its positions are the sequence, a text is the context.

    out = x + P₂·blocks(P₁·norm(x), context)

P₁ and P₂ mix channels at each position: 1×1 convolutions in Stable Diffusion 1, dense layers in 2. These are the same
product with kernels of another shape, (1, 1, C, C) or (C, C); here both are dense layers.

Reference: Rombach et al., "High-resolution image synthesis with latent diffusion models", arXiv:2112.10752, section
3.3.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import normalization
from keras_diffusion.layers.transformer_block import TransformerBlock


@serializable
class SpatialTransformer(Layer):
    """Group norm → dense → transformer blocks → dense, added to x.

    Args:
        num_heads: number of heads.
        head_dim: channels per head; num_heads·head_dim channels run inside the blocks.
        depth: number of transformer blocks. Default 1.
        activation: of the gated feed-forward steps. Default "gelu"; KerasCV's weights want "gelu_tanh".
        norm_groups: of the group norm. Default 32; the greatest common divisor with the channels is taken.
        norm_epsilon: of the group norm. Default 1e-6; KerasCV has 1e-5.
        flash_attention: as in `Attention`.
        cross_attention: whether the blocks take a `context`. Default True.
        remat: whether training computes the layer again on the way back, instead of remembering it: less memory, more
            time. Default False.

    Call arguments:
        x: `(B, H, W, C)`.
        context: `(B, M, D)`, with `cross_attention` only.
        context_mask: booleans `(B, M)`, which vectors of the context are seen; None (default): all of them.

    Returns:
        `(B, H, W, C)`.

    Raises:
        ValueError: heads < 1, an unknown activation; a context missing or not expected.

    Example:

    >>> layer = SpatialTransformer(num_heads=2, head_dim=16)
    >>> layer(keras.ops.ones((8, 4, 6, 32)), context=keras.ops.ones((8, 77, 768))).shape
    (8, 4, 6, 32)
    """

    block_kind: dict = {}  # further options of the blocks, of subclasses
    last_kernel = "glorot_uniform"  # what P₂ starts at

    def __init__(
        self,
        num_heads,
        head_dim,
        depth=1,
        activation="gelu",
        norm_groups=32,
        norm_epsilon=1e-6,
        flash_attention=None,
        cross_attention=True,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        options = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "activation": activation,
            "flash_attention": flash_attention,
            "cross_attention": cross_attention,
            "dtype": self.dtype_policy,
            **self.block_kind,
        }
        self.blocks = [TransformerBlock(**options, name=f"{self.name}_block_{i}") for i in range(depth)]

    def build(self, x_shape, context_shape=None):
        channels = x_shape[-1]
        inner = self.num_heads * self.head_dim
        norm = normalization("group", channels, self.norm_groups, self.norm_epsilon, "norm", self.dtype_policy)
        self.norm = built(norm, x_shape)
        self.project_in = self._dense(inner, channels, "project_in")
        for block in self.blocks:
            block.build((x_shape[0], None, inner), context_shape)
        self.project_out = self._dense(channels, inner, "project_out", kernel_initializer=self.last_kernel)

    def call(self, x, context=None, context_mask=None, training=False):
        given = [tensor for tensor in (x, context, context_mask) if tensor is not None]
        return self._recomputed(self._run, training)(*given)

    def _run(self, x, context=None, context_mask=None):
        tokens = self.project_in(self._sequences(self.norm(x)))
        for block in self.blocks:
            tokens = block(tokens, context=context, context_mask=context_mask)
        return x + self._positions(self.project_out(tokens), ops.shape(x))

    def _sequences(self, x):
        """`(B, H, W, C)` as `(B, H·W, C)`."""
        shape = ops.shape(x)
        return ops.reshape(x, (shape[0], -1, shape[-1]))

    def _positions(self, tokens, shape):
        """Back from `_sequences` to `shape`."""
        return ops.reshape(tokens, shape)
