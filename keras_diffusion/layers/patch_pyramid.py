"""Coarser and finer grids of tokens: four neighbours become one token, and one becomes four.

    merge     (B, N, C)  →  2×2 neighbours side by side (B, N/4, 4C)  →  LayerNorm  →  Dense (B, N/4, E)
    expand    (B, N, C)  →  Dense (B, N, 4E)  →  LayerNorm  →  2×2 neighbours (B, 4N, E)

Which tokens are neighbours depends on the order of the sequence; both layers take it in its order and leave it in the
same one.

Reference: Liu et al., "Swin transformer", arXiv:2103.14030, section 3.1 (merging).
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.options import layer_normalization
from keras_diffusion.layers.patch_order import check_patch_order, inverse_order, patch_order
from keras_diffusion.layers.patches import patch_grid, to_image, to_patches


class _Resampling(Layer):
    """What `PatchMerging` and `PatchExpanding` share."""

    def __init__(self, dim, patch_size, order="raster", norm_epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        check_patch_order(order)
        self.norm = layer_normalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)

    def _grid(self, image, patch_size):
        """Rows and columns of patches of `patch_size`."""
        patch_grid(image.shape[1:3], 2 * self.patch_size)
        return patch_grid(ops.shape(image)[1:3], patch_size)

    def _into_order(self, tokens, grid):
        return tokens if self.order == "raster" else ops.take(tokens, patch_order(self.order, *grid), axis=1)

    def _out_of_order(self, tokens, grid):
        return (
            tokens
            if self.order == "raster"
            else ops.take(tokens, inverse_order(patch_order(self.order, *grid)), axis=1)
        )

    def compute_output_shape(self, tokens_shape, image_shape):
        return (tokens_shape[0], None, self.dim)


@serializable
class PatchMerging(_Resampling):
    """Four neighbouring tokens as one.

    Args:
        dim: size of the merged tokens.
        patch_size: side of the patch that a token stands for when it enters, in pixels.
        order: order of the sequence, one of `PATCH_ORDERS`. Default "raster".
        norm_epsilon: added to the variance. Default 1e-5.

    Call arguments:
        tokens: `(B, N, C)`.
        image: the image they are patches of, `(B, H, W, any)`, for its size; H and W multiples of 2·`patch_size`.

    Returns:
        `(B, N/4, dim)`.

    Raises:
        ValueError: unknown order; a size that does not fit.

    Example:

    >>> PatchMerging(64, patch_size=4)(keras.ops.ones((2, 24, 32)), keras.ops.ones((2, 16, 24, 3))).shape
    (2, 6, 64)
    """

    def build(self, tokens_shape, image_shape):
        self.norm.build((None, None, 4 * tokens_shape[-1]))
        self.projection = self._dense(self.dim, 4 * tokens_shape[-1], "projection")

    def call(self, tokens, image):
        fine, coarse = self._grid(image, self.patch_size), self._grid(image, 2 * self.patch_size)
        grid = ops.reshape(self._out_of_order(tokens, fine), (-1, *fine, tokens.shape[-1]))
        return self._into_order(self.projection(self.norm(to_patches(grid, 2))), coarse)


@serializable
class PatchExpanding(_Resampling):
    """One token as four neighbouring ones.

    Args:
        dim: size of the new tokens.
        patch_size: side of the patch that a new token stands for, in pixels.
        order: order of the sequence, one of `PATCH_ORDERS`. Default "raster".
        norm_epsilon: added to the variance. Default 1e-5.

    Call arguments:
        tokens: `(B, N, C)`.
        image: the image they are patches of, `(B, H, W, any)`, for its size; H and W multiples of 2·`patch_size`.

    Returns:
        `(B, 4·N, dim)`.

    Raises:
        ValueError: unknown order; a size that does not fit.

    Example:

    >>> PatchExpanding(32, patch_size=4)(keras.ops.ones((2, 6, 64)), keras.ops.ones((2, 16, 24, 3))).shape
    (2, 24, 32)
    """

    def build(self, tokens_shape, image_shape):
        self.projection = self._dense(4 * self.dim, tokens_shape[-1], "projection")
        self.norm.build((None, None, 4 * self.dim))

    def call(self, tokens, image):
        fine, coarse = self._grid(image, self.patch_size), self._grid(image, 2 * self.patch_size)
        grid = to_image(self._out_of_order(self.norm(self.projection(tokens)), coarse), *coarse, 2)
        return self._into_order(ops.reshape(grid, (-1, fine[0] * fine[1], self.dim)), fine)
