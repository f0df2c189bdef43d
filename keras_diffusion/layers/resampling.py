"""Halving and doubling the size of a sequence or an image, with a convolution that may change the channels."""

import keras
from keras import ops

from keras_diffusion.core.registry import serializable
from keras_diffusion.layers.options import convolution


class _Resampling(keras.layers.Layer):
    def __init__(self, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@serializable
class Downsample(_Resampling):
    """Halves every spatial axis: a convolution of stride 2.

    Args:
        filters: number of output channels.
        kernel_size: default 3.
        symmetric: where the zeros go at an even size: False (default) puts one more after the end than before the beginning, as TensorFlow
            does; True puts (kernel_size − 1)/2 on both sides, as PyTorch networks do.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.

    Returns:
        `(B, L/2, filters)` or `(B, H/2, W/2, filters)`; odd sizes are rounded up.

    Example:

    >>> Downsample(64)(keras.ops.ones((8, 16, 12, 32))).shape
    (8, 8, 6, 64)
    """

    def __init__(self, filters, kernel_size=3, symmetric=False, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        self.symmetric = symmetric

    def build(self, input_shape):
        rank = len(input_shape) - 2
        options = {"padding": "valid" if self.symmetric else "same", "name": "conv", "dtype": self.dtype_policy}
        self.conv = convolution(rank, self.filters, self.kernel_size, strides=2, **options)
        self.conv.build(input_shape)

    def call(self, x):
        if self.symmetric:
            side = (self.kernel_size - 1) // 2
            x = ops.pad(x, [(0, 0), *[(side, side)] * (len(x.shape) - 2), (0, 0)])
        return self.conv(x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(None if n is None else (n + 1) // 2 for n in input_shape[1:-1]), self.filters)

    def get_config(self):
        return {**super().get_config(), "symmetric": self.symmetric}


@serializable
class Upsample(_Resampling):
    """Doubles every spatial axis: each position is repeated, then a convolution smooths. (A transposed convolution leaves checkerboards.)

    Args:
        filters: number of output channels.
        kernel_size: default 3.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.

    Returns:
        `(B, 2L, filters)` or `(B, 2H, 2W, filters)`.

    Example:

    >>> Upsample(32)(keras.ops.ones((8, 8, 6, 64))).shape
    (8, 16, 12, 32)
    """

    def build(self, input_shape):
        rank = len(input_shape) - 2
        self.conv = convolution(rank, self.filters, self.kernel_size, name="conv", dtype=self.dtype_policy)
        repeat = {1: keras.layers.UpSampling1D, 2: keras.layers.UpSampling2D, 3: keras.layers.UpSampling3D}[rank]
        self.repeat = repeat(2, name="repeat", dtype=self.dtype_policy)
        self.repeat.build(input_shape)  # without weights; but `predict` runs a model with an unbuilt layer once uncompiled
        self.conv.build((input_shape[0], *(None if n is None else 2 * n for n in input_shape[1:-1]), input_shape[-1]))

    def call(self, x):
        return self.conv(self.repeat(x))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(None if n is None else 2 * n for n in input_shape[1:-1]), self.filters)
