"""Images as sequences of patches, and back.

    (B, H, W, C)  →  (B, H/p · W/p, p·p·C)  →  Dense  →  (B, N, E)

A patch is flattened row by row, channels last: (p₁, p₂, C). A dense layer on it is a convolution of stride p with a p×p
kernel. The sequence follows one of `PATCH_ORDERS`; `Unpatchify` undoes it, for grids of any shape.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.options import unbuilt_dense
from keras_diffusion.layers.patch_order import check_patch_order, inverse_order, patch_order
from keras_diffusion.layers.position import sincos_position


@serializable
class PatchEmbedding(Layer):
    """An image as a sequence of embedded patches.

    Args:
        patch_size: side of a patch, in pixels.
        dim: size of a token.
        order: one of `PATCH_ORDERS`. Default "raster".
        sincos_position: whether the sines and cosines of its row and column are added to each token; see
            `layers.position`. Default False.
        times: how often the patches are put in order: 1 (default), or 2 for the weights of FlaxDiff's UViT, which
            orders an ordered sequence once more.

    Call arguments:
        image: `(B, H, W, C)`, H and W multiples of `patch_size`.

    Returns:
        `(B, H/patch_size · W/patch_size, dim)`.

    Raises:
        ValueError: unknown order; a size that patches do not divide; an image of unknown size in an order that needs
            it.

    Example:

    >>> PatchEmbedding(4, 64, order="hilbert")(keras.ops.ones((2, 16, 24, 3))).shape
    (2, 24, 64)
    """

    def __init__(self, patch_size, dim, order="raster", sincos_position=False, times=1, **kwargs):
        super().__init__(**kwargs)
        check_patch_order(order)
        self.projection = unbuilt_dense(dim, dtype=self.dtype_policy, name="projection")

    def build(self, image_shape):
        self.projection.build((None, None, self.patch_size**2 * image_shape[-1]))

    def call(self, image):
        tokens = self.projection(to_patches(image, self.patch_size))
        if self.order == "raster" and not self.sincos_position:
            return tokens
        height, width = patch_grid(image.shape[1:3], self.patch_size)
        if None in (height, width):
            raise ValueError(
                f"Positions and order of patches need the image's size. Received: an image of shape {image.shape}"
            )
        sequence = patch_order(self.order, height, width)
        for _ in range(self.times - 1):
            sequence = sequence[patch_order(self.order, height, width)]
        if self.order != "raster":
            tokens = ops.take(tokens, sequence, axis=1)
        if self.sincos_position:
            tokens = tokens + ops.convert_to_tensor(sincos_position(height, width, self.dim)[sequence], tokens.dtype)
        return tokens

    def compute_output_shape(self, image_shape):
        height, width = patch_grid(image_shape[1:3], self.patch_size)
        return (image_shape[0], None if None in (height, width) else height * width, self.dim)


@serializable
class Unpatchify(Layer):
    """A sequence of flattened patches as an image.

    Args:
        patch_size: side of a patch, in pixels.
        channels: channels of the image. Tokens k times as large as a patch of it hold k images one after another, which
            are laid side by side in the channels.
        order: order of the sequence, one of `PATCH_ORDERS`. Default "raster".
        first_only: whether only the first of the k images is wanted. Default False.

    Call arguments:
        tokens: `(B, N, k·patch_size²·channels)`; what follows the patches of the image is left out.
        image: an image of the size that is wanted, `(B, H, W, any)`.

    Returns:
        `(B, H, W, k·channels)`, or `(B, H, W, channels)` with `first_only`.

    Raises:
        ValueError: unknown order; a size that patches do not divide.

    Example:

    >>> Unpatchify(4, 3)(keras.ops.ones((2, 24, 48)), keras.ops.ones((2, 16, 24, 3))).shape
    (2, 16, 24, 3)
    """

    def __init__(self, patch_size, channels, order="raster", first_only=False, **kwargs):
        super().__init__(**kwargs)
        check_patch_order(order)

    def call(self, tokens, image):
        size = ops.shape(image)
        height, width = patch_grid(size[1:3], self.patch_size)
        if self.order != "raster":
            tokens = ops.take(tokens, inverse_order(patch_order(self.order, height, width)), axis=1)
        values = self.patch_size**2 * self.channels
        images = 1 if self.first_only else tokens.shape[-1] // values
        return to_image(tokens[:, : height * width, : images * values], height, width, self.patch_size, images)

    def compute_output_shape(self, tokens_shape, image_shape):
        images = 1 if self.first_only else tokens_shape[-1] // (self.patch_size**2 * self.channels)
        return (*image_shape[:3], images * self.channels)


def to_patches(image, patch_size):
    """Flattened patches in raster order.

    Args:
        image: `(B, H, W, C)`.
        patch_size: p.

    Returns:
        `(B, H/p · W/p, p·p·C)`.

    Raises:
        ValueError: a size that patches do not divide.
    """
    size = ops.shape(image)
    height, width = patch_grid(size[1:3], patch_size)
    channels = image.shape[-1]
    rows = ops.reshape(image, (-1, height, patch_size, width, patch_size, channels))
    return ops.reshape(ops.transpose(rows, (0, 1, 3, 2, 4, 5)), (-1, height * width, patch_size**2 * channels))


def to_image(tokens, height, width, patch_size, images=1):
    """Flattened patches in raster order as an image: undoes `to_patches`.

    Args:
        tokens: `(B, height·width, images·p·p·C)`.
        height: rows of patches.
        width: columns of patches.
        patch_size: p.
        images: how many images a token holds patches of, one after another; they are laid side by side in the channels.

    Returns:
        `(B, height·p, width·p, images·C)`.
    """
    channels = tokens.shape[-1] // (images * patch_size**2)
    tokens = ops.reshape(tokens, (-1, height, width, images, patch_size, patch_size, channels))
    rows = ops.transpose(tokens, (0, 1, 4, 2, 5, 3, 6))  # B, h, p₁, w, p₂, images, C
    return ops.reshape(rows, (-1, height * patch_size, width * patch_size, images * channels))


def patch_grid(size, patch_size):
    """Rows and columns of patches; None, or a tensor, where the size is.

    Args:
        size: (H, W).
        patch_size: p.

    Raises:
        ValueError: a known size that is no multiple of `patch_size`.
    """
    if any(isinstance(n, int) and (n % patch_size or n < 1) for n in size):
        raise ValueError(
            f"Patches tile the image: each axis must be a multiple of {patch_size}. Received: size={tuple(size)}"
        )
    return tuple(None if n is None else n // patch_size for n in size)
