"""Rotary position embedding: queries and keys are turned by angles that grow with their place in the sequence.

    (x_i, x_{i+d/2}) ← (x_i·cos nθ_i − x_{i+d/2}·sin nθ_i,  x_{i+d/2}·cos nθ_i + x_i·sin nθ_i)

    θ_i = 10000^(−2i/d),    i = 0 … d/2 − 1

The product of a query at place n and a key at place m then depends on n − m alone. Pairs are channels half a head apart
("rotate half"). Where a head has an odd number of channels, the last one stays as it is.

Reference: Su et al., "RoFormer: enhanced transformer with rotary position embedding", arXiv:2104.09864, section 3.4.
"""

import functools

import numpy as np
from keras import ops

from keras_diffusion.runtime import limits


def rotate(x, base=10000.0):
    """Turns queries or keys by their place in the sequence.

    Args:
        x: `(B, N, heads, d)`.
        base: ratio of the highest to (about) the lowest frequency.

    Returns:
        shaped like `x`, in its dtype. For a sequence of known length, sines and cosines are constants of the compiled
        program.

    Example:

    >>> rotate(keras.ops.ones((2, 16, 4, 8))).shape
    (2, 16, 4, 8)
    """
    x = ops.convert_to_tensor(x)
    half = x.shape[-1] // 2
    if half == 0:
        return x
    if isinstance(x.shape[1], int):
        cos, sin = (ops.convert_to_tensor(table, x.dtype) for table in _tables(x.shape[1], half, float(base)))
    else:
        angles = ops.cast(ops.arange(ops.shape(x)[1]), "float32")[:, None, None] * ops.convert_to_tensor(
            _frequencies(half, base), "float32"
        )
        cos, sin = (ops.cast(f(angles), x.dtype) for f in (ops.cos, ops.sin))
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def _frequencies(half, base):
    """θ, `(half,)` float64."""
    return float(base) ** (-np.arange(half, dtype="float64") / half)


@functools.lru_cache(maxsize=16)
def _tables(positions, half, base):
    """cos and sin of the angles, each `(positions, 1, half)` float32; the same arrays for all layers, so that programs
    hold them once.
    """
    limits.check(positions * half, "table_values", "The number of values in a table of rotations")
    angles = np.arange(positions)[:, None, None] * _frequencies(half, base)
    return np.cos(angles).astype("float32"), np.sin(angles).astype("float32")
