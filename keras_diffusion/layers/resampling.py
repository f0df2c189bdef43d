"""Halving and doubling the size of a sequence or an image, with a convolution that may change the channels.

Doubling repeats each position, so a convolution of size 3 afterwards never sees more than two different ones along an
axis:

    repeated      a a b b c c          y at the first b:   k₀·a + (k₁ + k₂)·b
    kernel        k₀ k₁ k₂             y at the second b:  (k₀ + k₁)·b + k₂·c

That is two kernels of size 2 on what has not been doubled, in two dimensions four: 16 products in place of 36, and
nothing repeated is ever in memory. JAX on CPUs computes it so from 8×8 positions on, in about half the time
(`benchmarks/upsampling.py`); below, compiling it takes longer than it will ever save. TensorFlow and PyTorch would gain
with large images and lose with small ones, and other hardware has not been measured: they repeat and convolve.

Reference: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.
"""

import math

from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import convolution
from keras_diffusion.runtime.hardware import jax_platform

_MANY_POSITIONS = 64


class _Resampling(Layer):
    late_arguments = ("use_bias",)

    def __init__(self, filters, kernel_size=3, use_bias=True, **kwargs):
        super().__init__(**kwargs)

    def _convolution(self, rank, **options):
        options = {"use_bias": self.use_bias, "name": "conv", "dtype": self.dtype_policy, **options}
        return convolution(rank, self.filters, self.kernel_size, **options)


@serializable
class Downsample(_Resampling):
    """Halves every spatial axis: a convolution of stride 2.

    Args:
        filters: number of output channels.
        kernel_size: default 3.
        symmetric: where the zeros go at an even size: False (default) puts one more after the end than before the
            beginning, as TensorFlow does; True puts (kernel_size − 1)/2 on both sides, as PyTorch networks do.
        use_bias: whether the convolution has a bias. Default True.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.

    Returns:
        `(B, L/2, filters)` or `(B, H/2, W/2, filters)`; odd sizes are rounded up.

    Example:

    >>> Downsample(64)(keras.ops.ones((8, 16, 12, 32))).shape
    (8, 8, 6, 64)
    """

    def __init__(self, filters, kernel_size=3, symmetric=False, use_bias=True, **kwargs):
        super().__init__(filters, kernel_size, use_bias, **kwargs)

    def build(self, input_shape):
        padding = "valid" if self.symmetric else "same"
        self.conv = built(self._convolution(len(input_shape) - 2, strides=2, padding=padding), input_shape)

    def call(self, x):
        if self.symmetric:
            side = (self.kernel_size - 1) // 2
            x = ops.pad(x, [(0, 0), *[(side, side)] * (len(x.shape) - 2), (0, 0)])
        return self.conv(x)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(None if n is None else (n + 1) // 2 for n in input_shape[1:-1]), self.filters)


@serializable
class Upsample(_Resampling):
    """Doubles every spatial axis: each position is repeated, then a convolution smooths.

    A transposed convolution would leave checkerboards.

    Args:
        filters: number of output channels.
        kernel_size: default 3.
        use_bias: whether the convolution has a bias. Default True.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.

    Returns:
        `(B, 2L, filters)` or `(B, 2H, 2W, filters)`.

    Example:

    >>> Upsample(32)(keras.ops.ones((8, 8, 6, 64))).shape
    (8, 16, 12, 32)
    """

    def build(self, input_shape):
        # Holds the weights; `call` computes with them.
        self.conv = built(self._convolution(len(input_shape) - 2), input_shape)

    def call(self, x):
        convolve = convolve_in_phases if self._pays_in_phases(x.shape[1:-1]) else convolve_repeated
        x = convolve(x, self.conv.kernel)
        return x + self.conv.bias if self.use_bias else x

    def _pays_in_phases(self, size):
        if self.kernel_size != 3 or self.compute_dtype != self.variable_dtype or jax_platform() != "cpu":
            return False
        return all(isinstance(n, int) for n in size) and math.prod(size) >= _MANY_POSITIONS

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *(None if n is None else 2 * n for n in input_shape[1:-1]), self.filters)


def doubled(x):
    """Every position of `(B, L, C)` or `(B, H, W, C)` twice along every spatial axis: `(B, 2L, C)` or
    `(B, 2H, 2W, C)`.
    """
    for axis in range(1, len(x.shape) - 1):
        x = ops.repeat(x, 2, axis=axis)
    return x


def convolve_repeated(x, kernel):
    """A "same" convolution of `doubled(x)` with a kernel `(k, ..., C, filters)`: `(B, 2H, 2W, filters)`."""
    return ops.conv(doubled(x), kernel, padding="same", data_format="channels_last")


def convolve_in_phases(x, kernel):
    """What `convolve_repeated` returns, for a kernel of size 3 along every axis, without repeating anything."""
    rank = len(x.shape) - 2

    def from_axis(axis, x, kernel):
        if axis > rank:
            return ops.conv(x, kernel, padding="valid", data_format="channels_last")
        k0, k1, k2 = ops.split(kernel, 3, axis=axis - 1)
        before, after = [(slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None))]
        first = from_axis(axis + 1, x[before], ops.concatenate([k0, k1 + k2], axis=axis - 1))
        second = from_axis(axis + 1, x[after], ops.concatenate([k0 + k1, k2], axis=axis - 1))
        y = ops.stack([first, second], axis=axis + 1)
        shape = ops.shape(first)
        return ops.reshape(y, (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :]))

    return from_axis(1, ops.pad(x, [(0, 0), *[(1, 1)] * rank, (0, 0)]), ops.convert_to_tensor(kernel))
