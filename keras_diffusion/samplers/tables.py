"""Tables on their way to the device: from float64 columns to tensors, and from their noise columns to noise.

Also what the arguments `noise` and `trajectory` of a walk mean.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, shown
from keras_diffusion.core.brownian import brownian_normal
from keras_diffusion.core.noise import counter_normal
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.runtime.compile import as_tensor


def to_tensors(plan):
    """A table's float64 columns as tensors of the solver's type."""
    return keras.tree.map_structure(lambda column: as_tensor(np.asarray(column, solver_dtype())), plan)


def padded(table, length):
    """A table made longer by repeating its last row."""
    return keras.tree.map_structure(
        lambda column: np.concatenate([column, np.repeat(column[-1:], length - len(column), axis=0)]), table
    )


def rows_of(plan):
    """Number of rows of a table."""
    return keras.tree.flatten(plan)[0].shape[0]


def noise_source(plan, words, shape, first_index=0):
    """The function (row, draw) → standard normals of `shape`: Brownian where the plan has a column "brownian", else
    counter noise.
    """
    shape = tuple(shape)

    def independent(i, draw):
        return counter_normal(words, i, draw, shape, first_index)

    def coupled(i, draw):
        share = ops.take(plan["coupling"], i, axis=0)[draw]
        return sum(share[k] * independent(i, k) for k in range(draw + 1))

    def brownian(i, draw):
        row = {key: ops.take(column, i, axis=0)[draw] for key, column in plan["brownian"].items()}
        return brownian_normal(words, row, shape, first_index)

    if "brownian" in plan:
        return brownian
    return coupled if "coupling" in plan else independent


def check_noise_kind(kind):
    """`kind` if it is "independent" or "brownian"."""
    rule = "Noise is an array, 'independent', 'brownian', or None for the sampler's own way"
    return check_choice("noise", kind, ("independent", "brownian"), rule)


def recorded(trajectory):
    """What a `trajectory` argument asks for: a tuple of "x" and "x0"."""
    known = {False: (), True: ("x",), "x": ("x",), "x0": ("x0",), "both": ("x", "x0")}
    if not isinstance(trajectory, (bool, str)) or trajectory not in known:
        raise ValueError(
            f"`trajectory` must be False, True or 'x', 'x0', or 'both'. Received: trajectory={shown(trajectory)}"
        )
    return known[trajectory]
