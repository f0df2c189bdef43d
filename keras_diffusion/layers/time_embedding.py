"""How a network learns how noisy its input is.

One number per sample, the noise level c, is a poor input for a network: neighbouring levels differ by a few percent,
yet the output must change sharply between them. So c is first written as sines and cosines of many frequencies f,

    e(c) = [sin(2π·f·c), cos(2π·f·c)],

and two dense layers make of it the vector that every residual block receives. Frequencies that are too high make the
network jump between levels that it was never trained on; too low, it cannot tell levels apart. What counts is f times
the range of c: log(σ/α)/4 spans about 5, where Gaussian frequencies of standard deviation 1 resolve steps of about 0.1;
timesteps 0 … 999 want frequencies a few hundred times lower.

The embeddings compute in float32 whatever the network's precision: bfloat16 cannot tell timestep 900 from 901.

References: Vaswani et al., "Attention is all you need", arXiv:1706.03762, section 3.5 (geometric frequencies); Tancik
et al., "Fourier features let networks learn high frequency functions", arXiv:2006.10739 (Gaussian frequencies).
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_flag, check_number, check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.noise import check_seed
from keras_diffusion.core.precision import solver_layer_options
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.options import get_activation, unbuilt_dense


class VectorLayer(Layer):
    """Base class of layers whose output is a vector of `dim` numbers for each sample."""

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.dim)


@serializable
class FourierEmbedding(VectorLayer):
    """Sines and cosines of Gaussian frequencies: [sin(2πf·c), cos(2πf·c)], f ~ N(0, scale²).

    The frequencies are a weight, though not trained: they are drawn by NumPy from `seed`, the same on every backend,
    and saved.

    Args:
        dim: size of the embedding, even; half of it sines.
        scale: standard deviation of the frequencies, in cycles per unit of the noise level. Default 1.0, for
            log(σ/α)/4.
        seed: int; the same seed gives the same frequencies.
        log: whether c is the logarithm of what is passed, which must then be positive. Default False.

    Call arguments:
        noise_level: `(B,)`.

    Returns:
        float32 `(B, dim)`.

    Raises:
        ValueError: `dim` odd or < 2; `scale` ≤ 0.

    Example:

    >>> FourierEmbedding(64)(keras.ops.zeros((8,))).shape
    (8, 64)
    """

    def __init__(self, dim, scale=1.0, seed=0, log=False, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        check_even(dim)
        _check_positive("scale", scale)
        self.seed, self.log = check_seed(seed), check_flag("log", log)

    def build(self, input_shape):
        self.frequencies = self.add_weight(
            name="frequencies", shape=(self.dim // 2,), initializer=self._draw, trainable=False, autocast=False
        )

    def _draw(self, shape, dtype=None):
        # RandomState: NumPy promises never to change its stream, which it doesn't for newer generators.
        seed = self.seed if self.seed < 2**32 else [self.seed & 0xFFFFFFFF, self.seed >> 32]
        drawn = self.scale * np.random.RandomState(seed).standard_normal(shape)
        return ops.convert_to_tensor(drawn if dtype == "float64" else drawn.astype("float32"), dtype)

    def call(self, noise_level):
        c = ops.cast(noise_level, self.compute_dtype)
        angle = (2.0 * math.pi) * (ops.log(c) if self.log else c)[:, None] * self.frequencies
        return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)


@serializable
class SinusoidalEmbedding(VectorLayer):
    """Sines and cosines of geometric frequencies: [sin(f·c), cos(f·c)], f_k = scale · max_period^(−k/(dim/2)), k = 0 …
    dim/2 − 1.

    Args:
        dim: size of the embedding, even; half of it sines.
        max_period: ratio of the highest to (about) the lowest frequency. Default 10000.
        scale: multiplies the noise level. 1.0 (the default) is for timesteps 0 … 999; 250.0 spreads log(σ/α)/4 as
            widely.
        cos_first: whether the cosines come first, as in Stable Diffusion. Default False.

    Call arguments:
        noise_level: `(B,)`.

    Returns:
        float32 `(B, dim)`.

    Raises:
        ValueError: `dim` odd or < 2; `max_period` or `scale` ≤ 0.

    Example:

    >>> SinusoidalEmbedding(64)(keras.ops.arange(8)).shape
    (8, 64)
    """

    def __init__(self, dim, max_period=10000.0, scale=1.0, cos_first=False, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        check_even(dim)
        _check_positive("max_period", max_period)
        _check_positive("scale", scale)

    def call(self, noise_level):
        half = self.dim // 2
        frequencies = self.scale * np.power(float(self.max_period), -np.arange(half) / half)
        angle = ops.cast(noise_level, self.compute_dtype)[:, None] * ops.convert_to_tensor(
            frequencies, self.compute_dtype
        )
        waves = [ops.sin(angle), ops.cos(angle)]
        return ops.concatenate(waves[::-1] if self.cos_first else waves, axis=-1)


@serializable
class TimeProjection(VectorLayer):
    """Dense → activation → Dense → activation: makes the condition vector of an embedded noise level.

    Args:
        dim: size of the output.
        activation: name or function. Default "swish".
        last_activation: the second one, where it is another. Default None: the same.

    Call arguments:
        embedding: `(B, E)`.

    Returns:
        `(B, dim)`.

    Raises:
        ValueError: unknown activation.

    Example:

    >>> TimeProjection(128)(FourierEmbedding(64)(keras.ops.zeros((8,)))).shape
    (8, 128)
    """

    def __init__(self, dim, activation="swish", last_activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = get_activation(activation)
        self.dense1 = unbuilt_dense(dim, activation=self.activation, dtype=self.dtype_policy, name="dense1")
        last = self.activation if last_activation is None else get_activation(last_activation)
        self.dense2 = unbuilt_dense(dim, activation=last, dtype=self.dtype_policy, name="dense2")

    def build(self, input_shape):
        self.dense1.build(input_shape)
        self.dense2.build((input_shape[0], self.dim))

    def call(self, embedding):
        return self.dense2(self.dense1(embedding))


def check_even(dim, least=2, why="An embedding is half sines, half cosines"):
    """Raises ValueError unless `dim` is an even integer ≥ `least`."""
    rule = f"{why}: `dim` must be an even integer ≥ {least}"
    if check_whole("dim", dim, least, rule=rule) % 2:
        raise ValueError(f"{rule}. Received: dim={dim!r}")


def _check_positive(name, value):
    check_number(name, value, above=0, rule=f"`{name}` must be > 0")
