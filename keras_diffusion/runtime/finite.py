"""Checks that weights are finite, so that good files are never overwritten with NaN."""

import keras
import numpy as np
from keras import ops


def non_finite(variables):
    """Paths, a list of str, of the variables that hold NaN or infinity; every process must call this."""
    return [v.path for v in variables if keras.backend.is_float_dtype(v.dtype) and not _is_finite(v.value)]


def check_finite(model, what):
    """Raises a FloatingPointError unless weights, averages and the optimizer's variables are finite.

    Args:
        model: Keras model.
        what: what would be written, such as "The state after epoch 3".
    """
    variables = [*model.weights, *getattr(getattr(model, "optimizer", None), "variables", ())]
    _refuse(non_finite(variables), len(variables), what)


def check_finite_arrays(arrays, what):
    """Raises a FloatingPointError unless all NumPy arrays of a dict are finite; `what` would be written."""
    broken = [name for name, array in arrays.items() if array.dtype.kind not in "iub" and not np.isfinite(array).all()]
    _refuse(broken, len(arrays), what)


def _refuse(broken, count, what):
    if broken:
        raise FloatingPointError(f"{what} is not written, and what was written before stays: {describe(broken, count)}")


def describe(broken, count, shown=5):
    """A sentence about `broken`, paths of some of `count` weights, and the remedy."""
    more = f" and {len(broken) - shown} more" if len(broken) > shown else ""
    return (
        f"{len(broken)} of {count} weights hold NaN or infinity: {', '.join(broken[:shown])}{more}. "
        "Go back to the last checkpoint; try a lower learning rate, clipnorm=1.0 in the optimizer, or "
        "a warm-up, and check the data for NaN."
    )


def _is_finite(value):
    if getattr(value, "is_fully_addressable", True):
        return bool(np.isfinite(ops.convert_to_numpy(value)).all())
    return bool(ops.convert_to_numpy(ops.all(ops.isfinite(value))))  # no process has all of it
