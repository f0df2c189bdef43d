"""Choices that several layers share: activation, normalization, convolution by rank, dropout rate."""

import math

import keras

NORMS = ("group", "rms")


def get_activation(identifier):
    """The function that an activation's name means."""
    try:
        return keras.activations.get(identifier)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Unknown activation: {identifier!r}. Pass a function or a name that `keras.activations` knows: swish, gelu, relu, mish, …"
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


def convolution(rank, filters, kernel_size, **options):
    """A channels-last "same" convolution over `rank` spatial axes (1 or 2)."""
    layer = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D}.get(rank)
    if layer is None:
        raise ValueError(f"Convolutions take sequences (B, L, C) or images (B, H, W, C). Received: {rank} spatial axes")
    return layer(filters, kernel_size, padding="same", data_format="channels_last", **options)


def check_dropout(dropout):
    """Raises ValueError unless `dropout` is a probability below 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is the share of activations that training sets to 0, in [0, 1). Received: dropout={dropout!r}")
