"""Compiling a function of tensors on any backend."""

import keras
import numpy as np
from keras import ops


class Compiled:
    """A function compiled by the backend: `jax.jit`, `tf.function`, or as it is, without gradients, on torch.

    Args:
        function: function of pytrees of tensors, without side effects.

    Call arguments:
        args: pytrees of tensors (numbers and NumPy arrays on JAX and torch only).

    Attributes:
        traces: how often Python ran through `function`: once per structure and shapes of the arguments on JAX and TensorFlow.
    """

    def __init__(self, function):
        self.traces = 0

        def counted(*args):
            self.traces += 1
            return function(*args)

        backend = keras.backend.backend()
        if backend == "jax":
            import jax

            self._call = jax.jit(counted)
        elif backend == "tensorflow":
            self._call = _graphs(counted)
        else:
            import torch

            self._call = torch.no_grad()(counted)

    def __call__(self, *args):
        return self._call(*args)


def loop_bound(i):
    """An int as an argument of a compiled function that a loop in it ends at."""
    return i if keras.backend.backend() == "torch" else as_tensor(np.int32(i))


def as_tensor(value):
    """A tensor, array or number as a tensor; an array's type is kept where the backend has it."""
    if ops.is_tensor(value):
        return value
    # Told the type, JAX moves an array as it is; left to find out, it compiles a program for every shape.
    told = isinstance(value, (np.ndarray, np.generic)) and value.dtype.itemsize <= 4
    return ops.convert_to_tensor(np.asarray(value), value.dtype.name) if told else ops.convert_to_tensor(value)


def as_tensors(tree):
    """A pytree of tensors, arrays and numbers as one of tensors."""
    return keras.tree.map_structure(as_tensor, tree)


def _graphs(function):
    """A `tf.function` whose traces are kept here by shape: TensorFlow itself would warn that there are several."""
    import tensorflow as tf

    traced = tf.function(function, autograph=False)
    graphs = {}

    def call(*args):
        flat = keras.tree.flatten(args)
        key = (repr(keras.tree.map_structure(lambda v: 0, args)), tuple((tuple(v.shape), v.dtype) for v in flat))
        if key not in graphs:
            graphs[key] = traced.get_concrete_function(*keras.tree.map_structure(lambda v: tf.TensorSpec(v.shape, v.dtype), args))
        return graphs[key](*args)

    return call
