"""A block of diffusion transformers with a state space in the place of attention.

    x ← x + g₂·mix(norm(x)·(1 + s₂) + b₂),    mix(u) = W·[→S(u), ←S(u)]         one state space in each direction
    x ← x + g₁·MLP(norm(x)·(1 + s₁) + b₁)                                       as in `DiTBlock`

With `spatial_fusion`, what the state spaces say is laid out on the grid again, and neighbours in the image exchange it,
whatever lies between them in the sequence: y + Σ_r depthwise 3×3 convolution of dilation r, r = 1, 2, 3; the
convolutions start at 0.
"""

import keras
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.layers.layer import built
from keras_diffusion.layers.patch_order import check_patch_order, inverse_order, patch_order
from keras_diffusion.layers.patches import patch_grid
from keras_diffusion.layers.state_space import StateSpace


@serializable
class SSMDiTBlock(DiTBlock):
    """State space and feed-forward on tokens, with AdaLN-Zero.

    Args:
        state_dim: complex states of each state space. Default 64.
        bidirectional: whether one runs in each direction (default), or one forwards alone.
        spatial_fusion: whether neighbours in the image exchange the result. Default False.
        order: order of the patches, for `spatial_fusion`; one of `PATCH_ORDERS`. Default "raster".
        patch_size: side of a patch, in pixels, for `spatial_fusion`. Default 1.
        kwargs: those of `DiTBlock` that are not about attention.

    Call arguments:
        x: tokens `(B, N, C)`.
        conditions: list of tensors `(B, E)`.
        image: with `spatial_fusion`, the image that the tokens are patches of, `(B, H, W, any)`, for its size; None
            otherwise.
        training: whether dropout drops.

    Returns:
        `(B, N, C)`.

    Example:

    >>> SSMDiTBlock(state_dim=8)(keras.ops.ones((2, 16, 32)), [keras.ops.ones((2, 64))]).shape
    (2, 16, 32)
    """

    def __init__(self, state_dim=64, bidirectional=True, spatial_fusion=False, order="raster", patch_size=1, **kwargs):
        super().__init__(**kwargs)
        check_patch_order(order)

    def build(self, x_shape, conditions_shape, image_shape=None):
        super().build(x_shape, conditions_shape)
        if self.bidirectional:
            seed = None if self.seed is None else self.seed + 4
            backward = StateSpace(self.state_dim, reverse=True, seed=seed, name="backward")
            self.backward = built(backward, x_shape)
            self.out = self._dense(x_shape[-1], 2 * x_shape[-1], "out")
        self.convolutions = []
        if self.spatial_fusion:
            options = {
                "padding": "same",
                "data_format": "channels_last",
                "depthwise_initializer": "zeros",
                "use_bias": False,
                "dtype": self.dtype_policy,
            }
            for rate in (1, 2, 3):
                layer = keras.layers.DepthwiseConv2D(3, dilation_rate=rate, name=f"fusion_{rate}", **options)
                self.convolutions.append(built(layer, (None, None, None, x_shape[-1])))

    def _mixer(self, x_shape):
        return built(StateSpace(self.state_dim, seed=self.seed, name="forward"), x_shape)

    def call(self, x, conditions, image=None, training=False):
        return self.run(x, *conditions, *([image] if self.spatial_fusion else []), training=training)

    def _mix(self, x, image=None):
        y = ops.cast(self.mixer(x), x.dtype)
        if self.bidirectional:
            y = self.out(ops.concatenate([y, ops.cast(self.backward(x), x.dtype)], axis=-1))
        return self._fuse(y, patch_grid(image.shape[1:3], self.patch_size)) if self.spatial_fusion else y

    def _fuse(self, y, grid):
        sequence = patch_order(self.order, *grid)
        image = ops.reshape(ops.take(y, inverse_order(sequence), axis=1), (-1, *grid, y.shape[-1]))
        image = image + sum(convolution(image) for convolution in self.convolutions)
        return ops.take(ops.reshape(image, (-1, len(sequence), y.shape[-1])), sequence, axis=1)
