"""The noise level as further channels of the image.

    e(c) = [sin(2π·f·c), cos(2π·f·c)],      f = max_frequency^(k/(dim/2 − 1)), k = 0 … dim/2 − 1

the same vector at every pixel, to be concatenated with the image's own channels. From there the convolutions carry it
on, so that the network's blocks need no input of their own for it. The frequencies run from 1 to `max_frequency`, both
included, in cycles per unit of c; they fit a noise variance c in [0, 1].

Reference: A. Béres, "Denoising diffusion implicit models", a Keras example, keras.io/examples/generative/ddim (2022).
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.precision import solver_layer_options
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.time_embedding import check_even


@serializable
class NoiseMap(Layer):
    """Sines and cosines of the noise level, spread over an image.

    Args:
        dim: number of channels, even, ≥ 4; half of them sines.
        max_frequency: highest frequency, > 1, in cycles per unit of the noise level. Default 1000.

    Call arguments:
        noise_level: `(B,)`.
        image: `(B, H, W, C)`; only its size counts.

    Returns:
        float32 `(B, H, W, dim)`.

    Raises:
        ValueError: `dim` odd or < 4; `max_frequency` ≤ 1.

    Example:

    >>> NoiseMap(32)(keras.ops.zeros((8,)), keras.ops.ones((8, 16, 12, 3))).shape
    (8, 16, 12, 32)
    """

    def __init__(self, dim, max_frequency=1000.0, **kwargs):
        # float32 whatever the network's precision: bfloat16 cannot tell 0.999 from 1.
        super().__init__(**solver_layer_options(kwargs, self))
        check_even(dim, 4, "Half of a noise map's channels are sines")
        rule = "The frequencies start at 1, so `max_frequency` must be > 1"
        self.max_frequency = check_number("max_frequency", max_frequency, above=1, rule=rule)

    def call(self, noise_level, image):
        # Rounded to float32 where the example rounds: with angles of 2π·1000 the seventh digit of a frequency can be
        # seen in the output.
        exponents = np.linspace(0.0, math.log(self.max_frequency), self.dim // 2, dtype="float32")
        frequencies = np.exp(exponents, dtype="float64").astype("float32") * np.float32(2.0 * math.pi)
        angle = ops.cast(noise_level, self.compute_dtype)[:, None] * ops.convert_to_tensor(
            frequencies, self.compute_dtype
        )
        embedding = ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)
        batch, height, width = ops.shape(image)[:3]
        return ops.broadcast_to(embedding[:, None, None, :], (batch, height, width, self.dim))

    def compute_output_shape(self, noise_level_shape, image_shape):
        return (*image_shape[:-1], self.dim)
