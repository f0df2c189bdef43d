"""Reproducible noise: the same numbers for (seed, sample, step) on every backend and for every batch size.

Two sources:

- `initial_noise` draws x at t = 1 on the host with NumPy's Philox generator, one stream per (seed, sample index).
- `counter_normal` draws inside a compiled loop. It has no state: a bijection (Threefry-2x32, 20 rounds) maps a counter
  (sample index, element) to 64 random bits under a key made of (seed, step, draw), and Box–Muller turns them into two
  normals. Backends' own generators would be a little faster, but differ from each other, and a Keras `SeedGenerator`
  cannot advance inside a JAX loop.

Reference: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.runtime.compile import as_tensor

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_WORD = 0xFFFFFFFF


def initial_noise(seed, indices, shape):
    """Standard normal noise for the samples named by `indices`.

    Args:
        seed: int in [0, 2^64).
        indices: sequence of sample indices (ints ≥ 0).
        shape: shape of one sample, without the batch axis.

    Returns:
        float32 array `(len(indices), *shape)`. Row k depends on `seed` and `indices[k]` only.
    """
    rows = [philox(seed, i).standard_normal(shape, dtype="float32") for i in indices]
    return np.stack(rows) if rows else np.zeros((0, *shape), "float32")


def philox(seed, index, counter=(0, 0, 0, 0)):
    """NumPy's Philox generator under the key (seed, index).

    Args:
        seed: int in [0, 2^64), or None for a new one.
        index: int in [0, 2^64), of the sample, the epoch …
        counter: four such numbers, the start of the stream.

    Returns:
        `numpy.random.Generator`.

    Raises:
        ValueError: a seed out of range.
    """
    # With a given type: NumPy would turn a list with a number from 2^63 into floats, and merge neighbouring seeds.
    key = np.array([check_seed(seed), index], "uint64")
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(counter, "uint64")))


def check_seed(seed):
    """A seed, checked.

    Args:
        seed: int in [0, 2^64), or None for a new one from the operating system.

    Returns:
        int in [0, 2^64).

    Raises:
        ValueError: anything else.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    rule = "A seed must be an integer from 0 to 2^64 − 1, or None for a new one"
    return check_whole("seed", seed, 0, 2**64 - 1, rule=rule)


def generator_seed(seed):
    """A seed for a `keras.random.SeedGenerator`, which takes 31 bits on every backend: longer ones are hashed.

    Args:
        seed: int in [0, 2^64), or None.

    Returns:
        int in [0, 2^31), or None for None.

    Raises:
        ValueError: a seed out of range.
    """
    if seed is None:
        return None
    seed = check_seed(seed)
    return seed if seed < 2**31 else int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)


def seed_words(seed):
    """The two 32-bit words of a seed, low and high.

    Args:
        seed: int in [0, 2^64), or None for a new one.

    Returns:
        tensor `(2,)` of the type that `counter_normal` computes in.

    Raises:
        ValueError: a seed out of range.
    """
    seed = check_seed(seed)
    return as_tensor(np.array([seed & _WORD, seed >> 32], word_dtype()))


def counter_normal(words, step, draw, shape, first_index=0):
    """Standard normal noise for one step of a compiled loop.

    Args:
        words: tensor `(2,)` from `seed_words`.
        step: number of the step, a Python int or an integer scalar tensor.
        draw: number of the draw within the step, a Python int.
        shape: `(B, ...)`; static.
        first_index: index of the batch's first sample, an int or integer scalar tensor. Sample i of a long run gets the
            same noise for every batch size.

    Returns:
        tensor of `shape`; float32, or float64 where that is Keras's default.
    """
    dtype = word_dtype()
    batch, size = shape[0], math.prod(shape[1:])
    pairs = (size + 1) // 2
    zero = ops.zeros((), dtype)
    key = threefry_2x32((words[0], words[1]), (ops.cast(step, dtype), zero + draw))
    # In one long row: for short ones, XLA unrolls every round of the bijection and compiles for too long.
    number = ops.arange(batch * pairs, dtype=dtype)
    sample, element = number // pairs + ops.cast(first_index, dtype), number % pairs
    first, second = threefry_2x32(key, (sample, element))
    # 24 bits fill a float32 mantissa: u₁ ∈ (0, 1), never 0, so that its logarithm is finite; u₂ ∈ [0, 1).
    u1 = (ops.cast(_shift_right(first, 8), "float32") + 0.5) * 2.0**-24
    u2 = ops.cast(_shift_right(second, 8), "float32") * 2.0**-24
    radius, angle = ops.sqrt(-2.0 * ops.log(u1)), (2.0 * math.pi) * u2
    halves = [ops.reshape(radius * of_angle, (batch, pairs)) for of_angle in (ops.cos(angle), ops.sin(angle))]
    normals = ops.concatenate(halves, axis=1)
    return ops.cast(ops.reshape(normals[:, :size], shape), solver_dtype())


def threefry_2x32(key, counter, xor=ops.bitwise_xor, rotate=None, wrap=None):
    """The Threefry-2x32-20 bijection.

    Args:
        key: two integer tensors holding 32-bit words.
        counter: two integer tensors holding 32-bit words, of one shape.
        xor, rotate, wrap: functions of two words, of a word and a number of bits, and of a sum. Default: on tensors.

    Returns:
        two tensors of 32-bit words.
    """
    k0, k1 = key
    rotate, wrap = rotate or _rotate, wrap or _wrap
    schedule = (k0, k1, xor(xor(k0, k1), _PARITY))
    x0, x1 = wrap(counter[0] + k0), wrap(counter[1] + k1)
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = wrap(x0 + x1)
            x1 = xor(rotate(x1, rotation), x0)
        x0 = wrap(x0 + schedule[(block + 1) % 3])
        x1 = wrap(x1 + schedule[(block + 2) % 3] + (block + 1))
    return x0, x1


def word_dtype():
    """The integer type that 32-bit words are computed in."""
    # JAX has no 64-bit integers by default, but full 32-bit arithmetic; TensorFlow and torch are the other way round.
    return "uint32" if keras.backend.backend() == "jax" else "int64"


def _wrap(word):
    return word if word_dtype() == "uint32" else ops.bitwise_and(word, _WORD)


def _shift_right(word, bits):
    return ops.right_shift(word, ops.cast(bits, word_dtype()))


def _rotate(word, bits):
    left = ops.left_shift(word, ops.cast(bits, word_dtype()))
    return _wrap(ops.bitwise_or(left, _shift_right(word, 32 - bits)))
