"""The residual block of EDM's U-Nets, and halving and doubling of a size through a filter.

Halving the size by dropping positions, or doubling it by repeating them, lets high frequencies pass for low ones. A
filter f of an even number of taps before the one and after the other keeps them apart:

    down    y[i] = Σ_k f_k·x[2i + k − p]                 f sums to 1, p = taps/2 − 1, zeros outside
    up      y[j] = 2·Σ_i f_(j + p − 2i)·x[i]             along every axis

f = [1, 1] is the mean of two positions, and repeating them; [1, 3, 3, 1] is that of NCSN++.

References: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364, table
8; Song et al., arXiv:2011.13456, appendix H (anti-aliasing).
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.layer import built
from keras_diffusion.layers.options import convolution, normalization
from keras_diffusion.layers.resampling import Downsample
from keras_diffusion.layers.residual_block import ResidualBlock

_CHANNELS_PER_GROUP = 4


@serializable
class EDMBlock(ResidualBlock):
    """`ResidualBlock` for images with groups of at least 4 channels, filtered resampling, and a shortcut that may
    project more often.

    Args:
        filters: number of output channels.
        norm_groups: most groups of the group normalizations; C channels have min(norm_groups, C/4). Default 32.
        resample_filter: taps of the filter, an even number of positive numbers; their scale does not matter. Default
            (1, 1).
        project_resampled: whether the shortcut of a block that changes the size is a convolution where its channels
            stay, too. Default False.
        kwargs: other arguments of `ResidualBlock`.

    Call arguments:
        x: `(B, H, W, C)`.
        embedding: condition vector `(B, E)`.
        training: whether dropout drops.

    Returns:
        `(B, H, W, filters)`; half or twice as high and wide with `resample`.

    Raises:
        ValueError: taps that are odd in number or not positive, and what `ResidualBlock` raises.

    Example:

    >>> block = EDMBlock(64, resample="down", resample_filter=(1, 3, 3, 1))
    >>> block(keras.ops.ones((8, 16, 12, 32)), keras.ops.ones((8, 128))).shape
    (8, 8, 6, 64)
    """

    def __init__(self, filters, norm_groups=32, resample_filter=(1, 1), project_resampled=False, **kwargs):
        super().__init__(filters, norm_groups=norm_groups, **kwargs)
        self.resample_filter = check_filter(resample_filter)

    def _normalization(self, channels, name):
        groups = group_count(channels, self.norm_groups)
        return normalization(self.norm, channels, groups, self.norm_epsilon, name, self.dtype_policy)

    def _has_shortcut(self, channels):
        return channels != self.filters or (self.project_resampled and self.resample is not None)

    def _resampled(self, x):
        if set(self.resample_filter) == {1.0} and len(self.resample_filter) == 2:
            return super()._resampled(x)
        return {"down": filter_down, "up": filter_up}[self.resample](x, self.resample_filter)


@serializable
class SmoothDownsample(Downsample):
    """Halves both axes of an image: a convolution at full size, then a filter of every second position.

    Zeros stand outside of the image, not of what the convolution makes of it: at the borders that is not the same.

    Args:
        filters: number of output channels.
        kernel_size: odd. Default 3.
        resample_filter: see `EDMBlock`. Default (1, 1).

    Call arguments:
        x: `(B, H, W, C)`, H and W even.

    Returns:
        `(B, H/2, W/2, filters)`.

    Raises:
        ValueError: taps that are odd in number or not positive.

    Example:

    >>> SmoothDownsample(64, resample_filter=(1, 3, 3, 1))(keras.ops.ones((8, 16, 12, 3))).shape
    (8, 8, 6, 64)
    """

    fixed_arguments = ("symmetric",)

    def __init__(self, filters, kernel_size=3, resample_filter=(1, 1), **kwargs):
        super().__init__(filters, kernel_size, symmetric=True, **kwargs)
        self.resample_filter = check_filter(resample_filter)

    def build(self, input_shape):
        rank, options = len(input_shape) - 2, {"padding": "valid", "name": "conv", "dtype": self.dtype_policy}
        self.conv = built(convolution(rank, self.filters, self.kernel_size, **options), input_shape)

    def call(self, x):
        side = self.kernel_size // 2 + len(self.resample_filter) // 2 - 1
        x = self.conv(ops.pad(x, [(0, 0), (side, side), (side, side), (0, 0)]))
        return filter_down(x, self.resample_filter, pad=False)


def group_count(channels, most=32):
    """Groups of a group normalization with at least 4 channels each: min(most, channels/4), 1 or more."""
    return max(1, min(most, channels // _CHANNELS_PER_GROUP))


def check_filter(taps):
    """The taps as a tuple of floats; ValueError where they are no filter of an even number of taps."""
    taps = tuple(float(tap) for tap in taps)
    if not taps or len(taps) % 2 or min(taps) <= 0:
        raise ValueError(f"A resampling filter has an even number of positive taps. Received: resample_filter={taps}")
    return taps


def filter_down(x, taps, pad=True):
    """Every second position of the filtered image `(B, H, W, C)`; without `pad`, of positions where the filter lies
    inside.
    """
    weights, side = np.asarray(taps) / np.sum(taps), len(taps) // 2 - 1
    for axis in (1, 2):
        if pad and side:
            x = _pad(x, axis, side)
        # The last tap's slice runs to the end; the others stop as many positions before it.
        ends = [None if k == len(taps) - 1 else k - len(taps) + 1 for k in range(len(taps))]
        x = sum(float(w) * x[_along(axis, slice(k, end, 2))] for k, (w, end) in enumerate(zip(weights, ends)))
    return x


def filter_up(x, taps):
    """The image `(B, H, W, C)` with zeros between its positions, filtered: `(B, 2H, 2W, C)`."""
    weights, side = 2.0 * np.asarray(taps) / np.sum(taps), len(taps) // 2 - 1
    reach = len(taps) // 2
    for axis in (1, 2):
        shape = list(ops.shape(x))
        padded = _pad(x, axis, reach)
        halves = []
        for parity in (0, 1):
            # Output 2m + parity takes input m + s through the tap k = parity + side − 2s.
            steps = [(k, (parity + side - k) // 2) for k in range(len(taps)) if (parity + side - k) % 2 == 0]
            halves.append(sum(float(weights[k]) * padded[_along(axis, slice(reach + s, s - reach))] for k, s in steps))
        x = ops.stack(halves, axis=axis + 1)
        shape[axis] = 2 * shape[axis]
        x = ops.reshape(x, (-1, *shape[1:]))
    return x


def _pad(x, axis, side):
    return ops.pad(x, [(side, side) if i == axis else (0, 0) for i in range(4)])


def _along(axis, part):
    return tuple(part if i == axis else slice(None) for i in range(4))
