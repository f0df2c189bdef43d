"""A diagonal state space: a linear recurrence along a sequence, computed for all its places at once.

    x_k = Ā·x_{k−1} + B̄·u_k      Ā = exp(A·Δ),   B̄ = (Ā − 1)/A·B      (A, Δ one number for each of the n states)
    y_k = Re(C·x_k) + D·u_k

The states are damped oscillations, A_n = −(n + ½) + iπn at the start. As Ā is the same at each step, two steps are one
step of Ā²:

    x_{k+1} = Ā²·x_{k−1} + (Ā·B̄·u_k + B̄·u_{k+1})

So pairs of places are a sequence half as long, of the same kind; its states are every second one here, and the ones
between are a step away (Blelloch, "Prefix sums and their applications", CMU-CS-90-190). N places take 2·log₂N rounds,
whose cost in all grows with N, where attention's grows with N².

Complex numbers are pairs of real ones here, in float32 whatever the network's precision: the recurrence multiplies up
to N factors.

References: Smith, Warrington & Linderman, "Simplified state space layers for sequence modeling", arXiv:2208.04933 (S5);
Gu et al., "On the parameterization and initialization of diagonal state space models", arXiv:2206.11893 (the start of
A).
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.precision import solver_layer_options
from keras_diffusion.layers.initializers import Ones, RandomNormal, RandomUniform
from keras_diffusion.layers.layer import Layer

_TINY = 1e-8  # added to A before dividing, as FlaxDiff does


@serializable
class StateSpace(Layer):
    """A sequence filtered by a diagonal state space.

    Args:
        state_dim: number of complex states. Default 64.
        reverse: whether the recurrence runs from the end of the sequence to its beginning. Default False.
        seed: int or None; of the weights.

    Call arguments:
        u: `(B, N, C)`; N must be known when the layer is traced.

    Returns:
        `(B, N, C)`, in float32.

    Raises:
        ValueError: N unknown.

    Example:

    >>> StateSpace(16)(keras.ops.ones((2, 10, 8))).shape
    (2, 10, 8)
    """

    def __init__(self, state_dim=64, reverse=False, seed=None, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))

    def build(self, u_shape):
        n, channels = self.state_dim, u_shape[-1]
        index = np.arange(n)
        steps = RandomUniform(math.log(1e-3), math.log(0.1), seed=self.seed)
        self.log_a_real = self._weight("log_a_real", (n,), _starts_as(np.log(index + 0.5)))
        self.a_imag = self._weight("a_imag", (n,), _starts_as(np.pi * index))
        self.log_dt = self._weight("log_dt", (n,), steps)
        self.b_real = self._weight("b_real", (channels, n), RandomNormal(channels**-0.5, self.seed))
        self.b_imag = self._weight(
            "b_imag", (channels, n), RandomNormal(channels**-0.5, None if self.seed is None else self.seed + 1)
        )
        self.c_real = self._weight(
            "c_real", (n, channels), RandomNormal(n**-0.5, None if self.seed is None else self.seed + 2)
        )
        self.c_imag = self._weight(
            "c_imag", (n, channels), RandomNormal(n**-0.5, None if self.seed is None else self.seed + 3)
        )
        self.d = self._weight("d", (channels,), Ones())

    def _weight(self, name, shape, initializer):
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def call(self, u):
        u = ops.cast(u, self.compute_dtype)
        a_real, a_imag = -ops.exp(self.log_a_real), self.a_imag
        dt = ops.exp(self.log_dt)
        size = ops.exp(a_real * dt)
        step = size * ops.cos(a_imag * dt), size * ops.sin(a_imag * dt)
        gain = _divide((step[0] - 1.0, step[1]), (a_real + _TINY, a_imag))
        force = _multiply((u @ self.b_real, u @ self.b_imag), gain)
        states = self._scan(step, force)
        return states[0] @ self.c_real - states[1] @ self.c_imag + self.d * u

    def _scan(self, step, force):
        """All x_k of x_k = step·x_{k−1} + force_k; with `reverse`, of x_k = step·x_{k+1} + force_k."""
        count = force[0].shape[1]
        if count is None:
            raise ValueError(
                "A state space needs to know how long the sequence is. Received: `input_shape` or data of unknown size"
            )
        if count == 1:
            return force
        even, odd = zip(*(_pairs(part) for part in force))
        first, second = (odd, even) if self.reverse else (even, odd)
        after_second = self._scan(_multiply(step, step), _add(_multiply(step, first), second))
        before_first = [self._moved_on(part) for part in after_second]
        after_first = _add(_multiply(step, before_first), first)
        even, odd = (after_second, after_first) if self.reverse else (after_first, after_second)
        return tuple(_interleaved(*parts, count) for parts in zip(even, odd))

    def _moved_on(self, states):
        """Each state one place further on; zeros at the first."""
        return (
            ops.pad(states[:, 1:], [(0, 0), (0, 1), (0, 0)])
            if self.reverse
            else ops.pad(states[:, :-1], [(0, 0), (1, 0), (0, 0)])
        )


def _starts_as(values):
    """The initializer of a weight that starts as these numbers."""
    return lambda shape, dtype: ops.convert_to_tensor(
        values.astype("float64" if dtype == "float64" else "float32"), dtype
    )


def _pairs(sequence):
    """`(B, N, n)` as the places 0, 2, … and the places 1, 3, …; an odd N gets zeros behind it."""
    batch, count, states = ops.shape(sequence)
    sequence = ops.pad(sequence, [(0, 0), (0, count % 2), (0, 0)])
    pairs = ops.reshape(sequence, (batch, (count + 1) // 2, 2, states))
    return pairs[:, :, 0], pairs[:, :, 1]


def _interleaved(even, odd, count):
    batch, half, states = ops.shape(even)
    return ops.reshape(ops.stack([even, odd], axis=2), (batch, 2 * half, states))[:, :count]


def _add(a, b):
    return a[0] + b[0], a[1] + b[1]


def _multiply(a, b):
    """Product of complex numbers, given as pairs."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _divide(a, b):
    square = b[0] * b[0] + b[1] * b[1]
    product = _multiply(a, (b[0], -b[1]))
    return product[0] / square, product[1] / square
