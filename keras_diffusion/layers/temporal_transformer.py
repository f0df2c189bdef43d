"""Transformer blocks along time: the frames at one position of the image are the sequence.

    out = x + P₂·blocks(P₁·norm(x))

The blocks have two self-attentions and no context. They know no positions: which frame comes before which, the
convolutions along time tell. Cost grows with the square of the number of frames, and not with that of pixels. The
norm's statistics are those of all frames.

Reference: Wang et al., "ModelScope text-to-video technical report", arXiv:2308.06571.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.spatial_transformer import SpatialTransformer


@serializable
class TemporalTransformer(SpatialTransformer):
    """Group norm → dense → transformer blocks over the frames → dense, added to x.

    Args:
        num_heads: number of heads.
        head_dim: channels per head; num_heads·head_dim channels run inside the blocks.
        depth: number of transformer blocks. Default 1.
        activation: of the gated feed-forward steps. Default "gelu".
        norm_groups: of the group norm. Default 32; the greatest common divisor with the channels is taken.
        norm_epsilon: of the group norm. Default 1e-6.
        flash_attention: as in `Attention`.
        zero_init: whether the last projection starts at 0, and with it the layer as the identity. Default True.
        remat: whether training computes the layer again on the way back, instead of remembering it. Default False.

    Call arguments:
        x: `(B, F, H, W, C)`.

    Returns:
        `(B, F, H, W, C)`.

    Raises:
        ValueError: heads < 1, an unknown activation.

    Example:

    >>> TemporalTransformer(num_heads=2, head_dim=16)(keras.ops.ones((2, 5, 4, 6, 32))).shape
    (2, 5, 4, 6, 32)
    """

    fixed_arguments = ("cross_attention",)
    block_kind = {"double_self_attention": True}

    def __init__(
        self,
        num_heads,
        head_dim,
        depth=1,
        activation="gelu",
        norm_groups=32,
        norm_epsilon=1e-6,
        flash_attention=None,
        zero_init=True,
        remat=False,
        **kwargs,
    ):
        options = {"flash_attention": flash_attention, "cross_attention": False, "remat": remat, **kwargs}
        super().__init__(num_heads, head_dim, depth, activation, norm_groups, norm_epsilon, **options)
        self.last_kernel = "zeros" if zero_init else "glorot_uniform"

    def build(self, x_shape):
        super().build(x_shape)

    def call(self, x, training=False):
        return super().call(x, training=training)

    def _sequences(self, x):
        """`(B, F, H, W, C)` as `(B·H·W, F, C)`."""
        shape = ops.shape(x)
        return ops.reshape(ops.transpose(x, (0, 2, 3, 1, 4)), (-1, shape[1], shape[4]))

    def _positions(self, tokens, shape):
        batch, frames, height, width, channels = shape
        return ops.transpose(ops.reshape(tokens, (batch, height, width, frames, channels)), (0, 3, 1, 2, 4))
