"""The residual block of diffusion U-Nets: two convolutions that know how noisy their input is.

    h = conv1(act(norm1(x)))
    h = h + W·e                    "add": the noise level shifts each channel
    h = norm2(h)·(1 + s) + b       "scale_shift": it scales and shifts each normalized channel; (s, b) = W·e
    h = norm2(h)                   None: the block of autoencoders, which know no noise level
    out = shortcut(x) + conv2(dropout(act(norm2(h))))

e is the condition vector (noise level and class). The shortcut is x itself, or a 1×1 convolution where the number of channels changes.
With `zero_init` conv2 starts at 0, so that a deep network starts as the identity and its first steps are stable.

References: Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, appendix B ("add"); Dhariwal & Nichol, "Diffusion
models beat GANs", arXiv:2105.05233, section 3.1 ("scale_shift", there adaptive group normalization).
"""

import keras
from keras import ops

from keras_diffusion.core.registry import serializable
from keras_diffusion.layers.options import check_dropout, check_norm, convolution, dense, get_activation, normalization

TIME_INJECTIONS = ("add", "scale_shift")


@serializable
class ResidualBlock(keras.layers.Layer):
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

    Call arguments:
        x: `(B, L, C)` or `(B, H, W, C)`.
        embedding: condition vector `(B, E)`; None without time injection.
        training: whether dropout drops.

    Returns:
        `(B, ..., filters)`.

    Raises:
        ValueError: unknown norm, activation or time injection; `dropout` outside [0, 1).

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_norm(norm)
        check_dropout(dropout)
        if time_injection is not None and time_injection not in TIME_INJECTIONS:
            raise ValueError(f"Unknown time injection: {time_injection!r}. Known ones: {', '.join(TIME_INJECTIONS)}, None.")
        self.filters, self.kernel_size = filters, kernel_size
        self.norm, self.norm_groups, self.norm_epsilon = norm, norm_groups, norm_epsilon
        self.activation = get_activation(activation)
        self.time_injection, self.dropout, self.zero_init, self.seed = time_injection, dropout, zero_init, seed
        # Not keras.layers.Dropout: the state of its generator would bear an automatic name, which differs from process to process.
        self.seed_generator = keras.random.SeedGenerator(seed, name=f"{self.name}_seed_generator") if dropout else None

    def build(self, x_shape, embedding_shape=None):
        channels, rank = x_shape[-1], len(x_shape) - 2
        hidden_shape = (*x_shape[:-1], self.filters)
        dtype = self.dtype_policy
        self.norm1 = normalization(self.norm, channels, self.norm_groups, self.norm_epsilon, "norm1", dtype)
        self.norm1.build(x_shape)
        self.conv1 = convolution(rank, self.filters, self.kernel_size, name="conv1", dtype=dtype)
        self.conv1.build(x_shape)
        if self.time_injection is not None:
            outputs = self.filters * (2 if self.time_injection == "scale_shift" else 1)
            self.time_projection = dense(outputs, embedding_shape[-1], "time_projection", dtype)
        self.norm2 = normalization(self.norm, self.filters, self.norm_groups, self.norm_epsilon, "norm2", dtype)
        self.norm2.build(hidden_shape)
        last = "zeros" if self.zero_init else "glorot_uniform"
        self.conv2 = convolution(rank, self.filters, self.kernel_size, kernel_initializer=last, name="conv2", dtype=dtype)
        self.conv2.build(hidden_shape)
        self.shortcut = None
        if channels != self.filters:
            self.shortcut = convolution(rank, self.filters, 1, name="shortcut", dtype=dtype)
            self.shortcut.build(x_shape)

    def call(self, x, embedding=None, training=False):
        h = self.conv1(self.activation(self.norm1(x)))
        h = self.activation(self.norm2(h) if self.time_injection is None else self._inject(h, embedding))
        if self.seed_generator is not None and training:
            h = keras.random.dropout(h, self.dropout, seed=self.seed_generator)
        return (x if self.shortcut is None else self.shortcut(x)) + self.conv2(h)

    def _inject(self, h, embedding):
        time = self.time_projection(embedding)
        time = ops.reshape(time, (-1,) + (1,) * (len(h.shape) - 2) + (time.shape[-1],))
        if self.time_injection == "add":
            return self.norm2(h + time)
        scale, shift = ops.split(time, 2, axis=-1)
        return self.norm2(h) * (1.0 + scale) + shift

    def compute_output_shape(self, x_shape, embedding_shape=None):
        return (*x_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "norm": self.norm,
            "norm_groups": self.norm_groups,
            "norm_epsilon": self.norm_epsilon,
            "activation": keras.activations.serialize(self.activation),
            "time_injection": self.time_injection,
            "dropout": self.dropout,
            "zero_init": self.zero_init,
            "seed": self.seed,
        }
