"""Choices that several layers share: activation, normalization, convolution by rank, dense layer, dropout rate."""

import math

import keras

from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.layers.activations import ACTIVATIONS
from keras_diffusion.layers.adaptable_dense import AdaptableDense
from keras_diffusion.layers.group_normalization import GroupNormalization
from keras_diffusion.layers.initializers import Ones, RandomUniform, Zeros, first_kernel
from keras_diffusion.layers.rms_normalization import RMSNormalization

NORMS = ("group", "rms")


def get_activation(identifier):
    """The function that an activation's name means."""
    if isinstance(identifier, str) and identifier in ACTIVATIONS:
        return ACTIVATIONS[identifier]
    try:
        return keras.activations.get(identifier)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Unknown activation: {shown(identifier)}. Pass a function or a name that `keras.activations` knows: "
            f"swish, gelu, relu, mish, …; or {', '.join(ACTIVATIONS)}. Received: activation={shown(identifier)}"
        ) from error


def check_norm(norm):
    """Raises ValueError unless `norm` is one of `NORMS`."""
    if norm not in NORMS:
        raise ValueError(f"Unknown norm: {shown(norm)}. Known norms: {', '.join(NORMS)}. Received: norm={shown(norm)}")


def normalization(norm, channels, groups, epsilon, name, dtype):
    """A normalization layer for `channels` channels; both kinds take their statistics in float32 under mixed precision.

    "group": mean and variance over all positions of a group of channels. Where `groups` does not divide `channels`,
    their greatest common divisor is taken: a network of 12 channels asked for 8 groups gets 4. "rms": divides each
    position by the root mean
    square of its channels. None: nothing.
    """
    if norm is None:
        return keras.layers.Identity(name=name, dtype=dtype)
    if norm == "rms":
        return RMSNormalization(epsilon=epsilon, name=name, dtype=dtype)
    start = {"gamma_initializer": Ones(), "beta_initializer": Zeros()}
    return GroupNormalization(groups=math.gcd(groups, channels), epsilon=epsilon, **start, name=name, dtype=dtype)


def layer_normalization(**options):
    """`keras.layers.LayerNormalization` whose scale and shift start as `initializers` explains."""
    return keras.layers.LayerNormalization(gamma_initializer=Ones(), beta_initializer=Zeros(), **options)


def unbuilt_dense(units, kernel_initializer="glorot_uniform", **options):
    """A dense layer that can take adapters, whose kernel starts as `initializers.first_kernel` says; not yet built."""
    return AdaptableDense(
        units, kernel_initializer=first_kernel(kernel_initializer), bias_initializer=Zeros(), **options
    )


def convolution(rank, filters, kernel_size, kernel_initializer="glorot_uniform", **options):
    """A channels-last "same" convolution over `rank` spatial axes (1 to 3)."""
    layer = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}.get(rank)
    if layer is None:
        raise ValueError(
            "Convolutions take sequences (B, L, C), images (B, H, W, C) or videos (B, F, "
            f"H, W, C). Received: {rank} spatial axes"
        )
    options = {"padding": "same", "data_format": "channels_last", "bias_initializer": Zeros(), **options}
    return layer(filters, kernel_size, kernel_initializer=first_kernel(kernel_initializer), **options)


def embedding_table(rows, dim, embeddings_initializer=None, **options):
    """`keras.layers.Embedding` whose table is drawn on the host: uniform in ±0.05 unless told otherwise."""
    return keras.layers.Embedding(
        rows, dim, embeddings_initializer=embeddings_initializer or RandomUniform(), **options
    )


def check_dropout(dropout):
    """Raises ValueError unless `dropout` is a probability below 1."""
    check_number(
        "dropout", dropout, 0, below=1, rule="`dropout` is the share of activations that training sets to 0, in [0, 1)"
    )
