"""FlaxDiff's Fourier features of the noise level: [sin(2πf·c), cos(2πf·c)], f = 16·z, z = JAX's normal numbers of seed
42.

FlaxDiff drew the frequencies at every start and stored them nowhere. JAX 0.5 changed the stream that they come from, so
a network goes with one of two tables, and with the other it is lost: every noise level looks like some other one.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.jax_random import jax_normal
from keras_diffusion.core.precision import solver_layer_options
from keras_diffusion.layers.time_embedding import VectorLayer, check_even

_SEED, _SCALE = 42, 16.0


@serializable
class FlaxFourierEmbedding(VectorLayer):
    """Sines and cosines of FlaxDiff's frequencies. No weights: the table follows from `dim` and `stream`.

    For networks that shall be trained anew `FourierEmbedding` is the better choice: 16 is a high standard deviation for
    log(σ/α)/4.

    Args:
        dim: size of the embedding, even; half of it sines.
        stream: which of JAX's random streams the network was trained with: "partitionable" (default; JAX from 0.5 on)
            or "original".

    Call arguments:
        noise_level: `(B,)`.

    Returns:
        float32 `(B, dim)`.

    Raises:
        ValueError: `dim` odd or < 2; unknown stream.

    Example:

    >>> FlaxFourierEmbedding(64)(keras.ops.zeros((8,))).shape
    (8, 64)
    """

    def __init__(self, dim, stream="partitionable", **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        check_even(dim)
        self._radians = np.float32(2.0 * np.pi) * (np.float32(_SCALE) * jax_normal(_SEED, dim // 2, stream))

    def call(self, noise_level):
        angle = ops.cast(noise_level, self.compute_dtype)[:, None] * ops.convert_to_tensor(
            self._radians, self.compute_dtype
        )
        return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
