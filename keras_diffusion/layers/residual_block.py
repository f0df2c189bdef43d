"""The residual block of diffusion U-Nets: two convolutions that know how noisy their input is.

    h = conv1(act(norm1(x)))
    h = h + W·e                    "add": the noise level shifts each channel
    h = norm2(h)·(1 + s) + b       "scale_shift": it scales and shifts each normalized channel; (s, b) = W·e
    h = norm2(h)                   None: the block of autoencoders, which know no noise level
    out = (shortcut(x) + conv2(dropout(act(norm2(h)))))/output_scale

e is the condition vector (noise level and class). The shortcut is x itself, or a 1×1 convolution where the number of
channels changes. With `zero_init` conv2 starts at 0, so that a deep network starts as the identity and its first steps
are stable. A separable convolution filters each channel by itself and then mixes them: fewer weights for the same
reach. With `resample` the block also halves or doubles the size: x and act(norm1(x)) are averaged over 2 × 2 positions,
or each position is repeated.

References: Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, appendix B ("add"); Dhariwal &
Nichol, "Diffusion models beat GANs", arXiv:2105.05233, section 3.1 ("scale_shift", there adaptive group normalization).
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.initializers import first_kernel
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import (
    check_dropout,
    check_norm,
    convolution,
    get_activation,
    normalization,
)
from keras_diffusion.layers.resampling import doubled

TIME_INJECTIONS = ("add", "scale_shift")
RESAMPLINGS = ("down", "up")


@serializable
class ResidualBlock(Layer):
    """Norm → act → conv → time injection → norm → act → dropout → conv, plus the shortcut.

    Args:
        filters: number of output channels.
        kernel_size: of both convolutions. Default 3.
        norm: "group" (default) or "rms".
        norm_groups: groups of "group". Default 8; the greatest common divisor with the channels is taken.
        norm_epsilon: added to the variance. Default 1e-5.
        activation: name or function. Default "swish".
        time_injection: "scale_shift" (default), "add", or None for a block without a condition vector.
        dropout: share of activations that training sets to 0, in [0, 1). Default 0.
        zero_init: whether the last convolution starts at 0. Default True.
        seed: int or None; of dropout.
        separable: whether all convolutions, the shortcut's too, are separable ones without bias; images only. Default
            False.
        remat: whether training computes the block again on the way back, instead of remembering it: less memory, more
            time. Default False.
        resample: None (default), "down" (half the size, which must be even) or "up" (twice the size).
        output_scale: divides the sum of both branches. Default 1; √2 keeps the variance.

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.
        embedding: condition vector `(B, E)`; None without time injection.
        training: whether dropout drops.

    Returns:
        `(B, ..., filters)`, of another size with `resample`.

    Raises:
        ValueError: unknown norm, activation, resampling or time injection; `dropout` outside [0, 1).

    Example:

    >>> ResidualBlock(64)(keras.ops.ones((8, 16, 16, 32)), keras.ops.ones((8, 128))).shape
    (8, 16, 16, 64)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        norm="group",
        norm_groups=8,
        norm_epsilon=1e-5,
        activation="swish",
        time_injection="scale_shift",
        dropout=0.0,
        zero_init=True,
        seed=None,
        separable=False,
        remat=False,
        resample=None,
        output_scale=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        check_dropout(dropout)
        if time_injection is not None and time_injection not in TIME_INJECTIONS:
            raise ValueError(
                f"Unknown time injection: {time_injection!r}. Known ones: {', '.join(TIME_INJECTIONS)}, None."
            )
        if resample is not None:
            check_choice("resample", resample, RESAMPLINGS)
        self.activation = get_activation(activation)
        self.seed_generator = self._dropout_generator()

    def build(self, x_shape, embedding_shape=None):
        channels, rank = x_shape[-1], len(x_shape) - 2
        hidden_shape = (*x_shape[:-1], self.filters)
        self.norm1 = built(self._normalization(channels, "norm1"), x_shape)
        self.conv1 = built(self._convolution(rank, self.kernel_size, "conv1"), x_shape)
        if self.time_injection is not None:
            outputs = self.filters * (2 if self.time_injection == "scale_shift" else 1)
            self.time_projection = self._dense(outputs, embedding_shape[-1], "time_projection")
        self.norm2 = built(self._normalization(self.filters, "norm2"), hidden_shape)
        last = "zeros" if self.zero_init else "glorot_uniform"
        self.conv2 = built(self._convolution(rank, self.kernel_size, "conv2", last), hidden_shape)
        self.shortcut = built(self._convolution(rank, 1, "shortcut"), x_shape) if self._has_shortcut(channels) else None

    def call(self, x, embedding=None, training=False):
        given = [x] if embedding is None else [x, embedding]
        masks = self._dropout_masks(1, self.compute_output_shape(ops.shape(x)), training)
        return self._recomputed(self._run, training)(*given, *masks)

    def _run(self, x, *others):
        others = list(others)
        embedding = others.pop(0) if self.time_injection is not None else None
        h = self.activation(self.norm1(x))
        if self.resample is not None:
            x, h = self._resampled(x), self._resampled(h)
        h = self.conv1(h)
        h = self.activation(self.norm2(h) if embedding is None else self._inject(h, embedding))
        h = h * others.pop() if others else h
        h = (x if self.shortcut is None else self.shortcut(x)) + self.conv2(h)
        return h if self.output_scale == 1 else h / self.output_scale

    # What subclasses may do otherwise.

    def _normalization(self, channels, name):
        return normalization(self.norm, channels, self.norm_groups, self.norm_epsilon, name, self.dtype_policy)

    def _has_shortcut(self, channels):
        return channels != self.filters

    def _resampled(self, x):
        return _resample(x, self.resample)

    def _convolution(self, rank, kernel_size, name, initializer="glorot_uniform"):
        if not self.separable:
            return convolution(
                rank, self.filters, kernel_size, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )
        return keras.layers.SeparableConv2D(
            self.filters,
            kernel_size,
            padding="same",
            data_format="channels_last",
            depthwise_initializer=first_kernel(),
            pointwise_initializer=first_kernel(initializer),
            use_bias=False,
            name=name,
            dtype=self.dtype_policy,
        )

    def _inject(self, h, embedding):
        time = self.time_projection(embedding)
        time = ops.reshape(time, (-1,) + (1,) * (len(h.shape) - 2) + (time.shape[-1],))
        if self.time_injection == "add":
            return self.norm2(h + time)
        scale, shift = ops.split(time, 2, axis=-1)
        return self.norm2(h) * (1.0 + scale) + shift

    def compute_output_shape(self, x_shape, embedding_shape=None):
        change = {None: lambda n: n, "down": lambda n: n // 2, "up": lambda n: 2 * n}[self.resample]
        return (x_shape[0], *(None if n is None else change(n) for n in x_shape[1:-1]), self.filters)


def _resample(x, direction):
    """Means of 2 (sequences) or 2 × 2 (images) positions, or each position twice along every spatial axis."""
    rank = len(x.shape) - 2
    if direction == "down":
        return ops.average_pool(x, (2,) * rank, strides=(2,) * rank, padding="valid", data_format="channels_last")
    return doubled(x)
