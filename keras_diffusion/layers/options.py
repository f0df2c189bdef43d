"""Choices that several layers share: activation, normalization, convolution by rank, dense layer, dropout rate."""

import contextlib
import contextvars
import math

import keras

from keras_diffusion.layers.activations import ACTIVATIONS

NORMS = ("group", "rms")

_ZERO_KERNELS = contextvars.ContextVar("zero_kernels", default=False)


def get_activation(identifier):
    """The function that an activation's name means."""
    if isinstance(identifier, str) and identifier in ACTIVATIONS:
        return ACTIVATIONS[identifier]
    try:
        return keras.activations.get(identifier)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Unknown activation: {identifier!r}. Pass a function or a name that `keras.activations` knows: swish, gelu, relu, mish, …; "
            f"or {', '.join(ACTIVATIONS)}."
        ) from error


def check_norm(norm):
    """Raises ValueError unless `norm` is one of `NORMS`."""
    if norm not in NORMS:
        raise ValueError(f"Unknown norm: {norm!r}. Known norms: {', '.join(NORMS)}.")


def normalization(norm, channels, groups, epsilon, name, dtype):
    """A normalization layer for `channels` channels; both kinds take their statistics in float32 under mixed precision.

    "group": mean and variance over all positions of a group of channels. Where `groups` does not divide `channels`, their greatest
    common divisor is taken: a network of 12 channels asked for 8 groups gets 4. "rms": divides each position by the root mean
    square of its channels.
    """
    if norm == "rms":
        return keras.layers.RMSNormalization(epsilon=epsilon, name=name, dtype=dtype)
    return keras.layers.GroupNormalization(groups=math.gcd(groups, channels), epsilon=epsilon, name=name, dtype=dtype)


@contextlib.contextmanager
def zero_kernels():
    """A context in which layers start with kernels of zeros: for networks whose weights are read from a file at once.

    Random numbers for the 860 million weights of Stable Diffusion take JAX 14 seconds on two cores, zeros two.
    """
    token = _ZERO_KERNELS.set(True)
    try:
        yield
    finally:
        _ZERO_KERNELS.reset(token)


def dense(units, inputs, name, dtype, use_bias=True, kernel_initializer="glorot_uniform"):
    """A built dense layer from `inputs` to `units` channels."""
    initializer = "zeros" if _ZERO_KERNELS.get() else kernel_initializer
    layer = keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=initializer, name=name, dtype=dtype)
    layer.build((None, inputs))
    return layer


def convolution(rank, filters, kernel_size, **options):
    """A channels-last "same" convolution over `rank` spatial axes (1 or 2)."""
    options = {"padding": "same", **options}
    if _ZERO_KERNELS.get():
        options["kernel_initializer"] = "zeros"
    layer = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D}.get(rank)
    if layer is None:
        raise ValueError(f"Convolutions take sequences (B, L, C) or images (B, H, W, C). Received: {rank} spatial axes")
    return layer(filters, kernel_size, data_format="channels_last", **options)


def check_dropout(dropout):
    """Raises ValueError unless `dropout` is a probability below 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is the share of activations that training sets to 0, in [0, 1). Received: dropout={dropout!r}")
