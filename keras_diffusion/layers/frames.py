"""Layers for images on videos: every frame by itself.

    (B, F, H, W, C)  →  (B·F, H, W, C)  →  layer  →  (B, F, H', W', C')

A condition of the video (its noise level, its text) is one of every frame.
"""

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer


class _Around(Layer):
    """Base class: a layer that is applied to a video laid out in another way."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def build_layer(self, *shapes):
        """Builds the inner layer, unless it came built."""
        if not self.layer.built:
            self.layer.build(*shapes)


@serializable
class PerFrame(_Around):
    """Applies a layer for images to every frame of a video.

    Args:
        layer: Keras layer on `(N, H, W, C)`, or on that, a condition `(N, ...)` and perhaps the condition's mask.

    Call arguments:
        x: `(B, F, H, W, C)`.
        condition: `(B, ...)`, or None (default) for a layer without one. All frames of a video get the same.
        condition_mask: `(B, ...)`, likewise.

    Returns:
        `(B, F, ...)`: what the layer makes of each frame.

    Example:

    >>> PerFrame(Downsample(8))(keras.ops.ones((2, 5, 4, 6, 3))).shape
    (2, 5, 2, 3, 8)
    """

    def build(self, x_shape, condition_shape=None):
        self.build_layer(*_frame_shapes(x_shape, condition_shape))

    def call(self, x, condition=None, condition_mask=None):
        shape = ops.shape(x)
        conditions = [c for c in (condition, condition_mask) if c is not None]
        y = self.layer(ops.reshape(x, (-1, *shape[2:])), *(ops.repeat(c, shape[1], axis=0) for c in conditions))
        return ops.reshape(y, (-1, shape[1], *ops.shape(y)[1:]))

    def compute_output_shape(self, x_shape, condition_shape=None):
        return (*x_shape[:2], *self.layer.compute_output_shape(*_frame_shapes(x_shape, condition_shape))[1:])


@serializable
class AsOneVideo(_Around):
    """Applies a layer to the batch as to one video, in which the samples follow each other: the last frame of one
    touches the next one.

    Args:
        layer: Keras layer on `(1, F, H, W, C)` that keeps the number of frames.

    Call arguments:
        x: `(B, F, H, W, C)`.

    Returns:
        `(B, F, ...)`.
    """

    def build(self, x_shape):
        self.build_layer((1, None, *x_shape[2:]))

    def call(self, x):
        shape = ops.shape(x)
        y = self.layer(ops.reshape(x, (1, -1, *shape[2:])))
        return ops.reshape(y, (-1, shape[1], *ops.shape(y)[2:]))

    def compute_output_shape(self, x_shape):
        return (*x_shape[:2], *self.layer.compute_output_shape((1, None, *x_shape[2:]))[2:])


def _frame_shapes(x_shape, condition_shape):
    """Shapes of what the layer for images takes."""
    x_shape = (None, *x_shape[2:])
    return (x_shape,) if condition_shape is None else (x_shape, (None, *condition_shape[1:]))
