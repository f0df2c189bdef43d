"""RMS normalization whose scale starts on the host."""

import keras

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.initializers import Ones


@serializable
class RMSNormalization(keras.layers.RMSNormalization):
    """`keras.layers.RMSNormalization` whose scale starts as ones made on the host, for which JAX compiles nothing.

    Args:
        axis: axis or axes of which the mean square is taken. Default -1.
        epsilon: added to the mean square. Default 1e-6.

    Call arguments:
        x: features `(..., C)`.

    Returns:
        features of the same shape.

    Reference: Zhang & Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """

    def add_weight(self, *args, **options):
        return super().add_weight(*args, **{**options, "initializer": Ones()})
