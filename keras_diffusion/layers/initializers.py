"""First values of weights, drawn by NumPy on the host.

Keras's own initializers draw on the backend. JAX then compiles one program for every shape of kernel in the network,
which takes longer than all else that building a network does, and the same seed gives other weights on every backend.
Drawn on the host, a network of a given seed starts from the same weights on all of them, and nothing is compiled.

A seed of None takes one from Python's `random`, as Keras's initializers do; `keras.utils.set_random_seed` makes it
repeatable.
"""

import contextlib
import contextvars
import math
import random

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.noise import check_seed

_ZERO_KERNELS = contextvars.ContextVar("zero_kernels", default=False)


class HostInitializer(ArgumentsMixin, keras.initializers.Initializer):
    """Base of initializers that draw on the host; subclasses give `values`.

    Args:
        seed: int, or None (default) for one that Python's `random` draws. The same seed and shape give the same values.
    """

    def __init__(self, seed=None):
        self.init_seed = seed
        self.seed = random.randrange(1, 10**9) if seed is None else check_seed(seed)

    def __call__(self, shape, dtype=None):
        dtype = keras.backend.standardize_dtype(dtype)
        drawn = np.float64 if dtype == "float64" else np.float32
        return ops.convert_to_tensor(
            self.values(np.random.default_rng(self.seed), tuple(shape), drawn).astype(drawn), dtype
        )

    def values(self, rng, shape, dtype):
        """Array of `shape`; `rng` is a NumPy generator, `dtype` float32 or float64."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "seed": self.init_seed}


@serializable
class GlorotUniform(HostInitializer):
    """Uniform in ±√(6/(inputs + outputs)), the default of dense and convolutional kernels: variance neither grows nor
    falls with width.

    Args:
        seed: int or None, see `HostInitializer`.

    Reference: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS
    2010.
    """

    def values(self, rng, shape, dtype):
        window = math.prod(shape[:-2])
        limit = dtype(math.sqrt(6.0 / max(1, window * sum(shape[-2:]))))
        return (2 * limit) * rng.random(shape, dtype) - limit


@serializable
class RandomNormal(HostInitializer):
    """Normal with mean 0.

    Args:
        stddev: standard deviation. Default 0.05.
        seed: int or None, see `HostInitializer`.
    """

    def __init__(self, stddev=0.05, seed=None):
        super().__init__(seed)

    def values(self, rng, shape, dtype):
        return dtype(self.stddev) * rng.standard_normal(shape, dtype)


@serializable
class RandomUniform(HostInitializer):
    """Uniform between two numbers.

    Args:
        minval, maxval: the bounds. Default ±0.05.
        seed: int or None, see `HostInitializer`.
    """

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        super().__init__(seed)

    def values(self, rng, shape, dtype):
        return dtype(self.minval) + dtype(self.maxval - self.minval) * rng.random(shape, dtype)


@serializable
class Zeros(keras.initializers.Initializer):
    """Zeros. JAX compiles nothing for them, unlike for Keras's own, which are a program for every shape."""

    def __call__(self, shape, dtype=None):
        return _filled(np.zeros, shape, dtype)


@serializable
class Ones(keras.initializers.Initializer):
    """Ones, likewise."""

    def __call__(self, shape, dtype=None):
        return _filled(np.ones, shape, dtype)


def _filled(fill, shape, dtype):
    dtype = keras.backend.standardize_dtype(dtype)
    if keras.backend.backend() != "jax":  # nothing is compiled there, and memory is taken when it is written to
        return (ops.zeros if fill is np.zeros else ops.ones)(shape, dtype)
    return ops.convert_to_tensor(fill(tuple(shape), "float64" if dtype == "float64" else "float32"), dtype)


@contextlib.contextmanager
def zero_kernels():
    """A context in which layers start with kernels of zeros: for networks whose weights are read from a file at once.

    Zeros cost neither drawing nor, until they are written to, memory.
    """
    token = _ZERO_KERNELS.set(True)
    try:
        yield
    finally:
        _ZERO_KERNELS.reset(token)


def first_kernel(identifier="glorot_uniform"):
    """The initializer that a kernel gets: `identifier`, drawn on the host where that is "glorot_uniform"; zeros within
    `zero_kernels`.
    """
    if _ZERO_KERNELS.get() or identifier == "zeros":
        return Zeros()
    return GlorotUniform() if identifier == "glorot_uniform" else identifier
