"""Compiling a function of tensors on any backend.

On CPUs, XLA (jaxlib 0.10) computes each convolution with YNNPACK, on one core. Eigen, the former default, uses all
cores: on two, U-Nets take 0.6 to 0.8 of the time. So programs are compiled to leave convolutions to Eigen and matrix
products and sums to YNNPACK. Nothing is changed if the CPU acts as several (virtual) devices, which keep the cores
busy, if `XLA_FLAGS` names `xla_cpu_experimental_ynn_fusion_type`, or if XLA has no such option.
"""

import functools
import os

import keras
import numpy as np
from keras import ops

from keras_diffusion.runtime.devices import active_distribution

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"  # what YNNPACK computes


class Compiled:
    """A function compiled by the backend: `jax.jit`, `tf.function`, or, on torch, run eagerly without gradients.

    Args:
        function: function of pytrees of tensors, without side effects.

    Call arguments:
        args: pytrees of tensors (numbers and NumPy arrays on JAX and torch only).

    Attributes:
        traces: how often Python has run `function`: on JAX and TensorFlow, once per structure and shapes of the
            arguments.
    """

    def __init__(self, function):
        self.traces = 0

        def counted(*args):
            self.traces += 1
            return function(*args)

        backend = keras.backend.backend()
        if backend == "jax":
            import jax

            self._call = jax.jit(counted, compiler_options=compiler_options())
        elif backend == "tensorflow":
            self._call = _graphs(counted)
        else:
            import torch

            self._call = torch.no_grad()(counted)

    def __call__(self, *args):
        return self._call(*args)


def jit_step(step):
    """A step of training that Keras has compiled with `jax.jit`, compiled with `compiler_options` instead.

    It is returned unchanged on other backends, without such options, and under a distribution, where Keras tells
    `jax.jit` how to place the results.
    """
    on_jax = keras.backend.backend() == "jax" and active_distribution() is None
    options = compiler_options() if on_jax else None
    if not options:
        return step
    import jax

    return jax.jit(step.__wrapped__, donate_argnums=0, compiler_options=options)


@functools.lru_cache(maxsize=1)
def compiler_options():
    """Options for `jax.jit(compiler_options=)` on this process's devices, a dict, or None; JAX only.

    Determined once per process, by compiling an empty program with them.
    """
    import jax

    if jax.default_backend() != "cpu" or jax.local_device_count() > 1 or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return None
    options = {_LIBRARY: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return options


def is_traced(x):
    """Whether a tensor has no value yet: inside a function that is being compiled, or in a graph of Keras."""
    if isinstance(x, keras.KerasTensor):
        return True
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(x, jax.core.Tracer)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.is_symbolic_tensor(x) if isinstance(x, tf.Tensor) else False
    return False


def loop_bound(i):
    """An int as an argument of a compiled function, the bound of a loop in it."""
    return i if keras.backend.backend() == "torch" else as_tensor(np.int32(i))


def as_tensor(value):
    """A tensor, array or number as a tensor; an array's type is kept where the backend has it."""
    if ops.is_tensor(value):
        return value
    # With a given type, JAX copies the array; without one, it compiles a program for every shape.
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.itemsize <= 4:
        return ops.convert_to_tensor(np.asarray(value), value.dtype.name)
    return ops.convert_to_tensor(value)


def as_tensors(tree):
    """A pytree of tensors, arrays and numbers as one of tensors."""
    return keras.tree.map_structure(as_tensor, tree)


def _graphs(function):
    """A `tf.function` whose traces are cached here by shape, since TensorFlow would warn about several."""
    import tensorflow as tf

    traced = tf.function(function, autograph=False)
    graphs = {}

    def call(*args):
        flat = keras.tree.flatten(args)
        key = (repr(keras.tree.map_structure(lambda v: 0, args)), tuple((tuple(v.shape), v.dtype) for v in flat))
        if key not in graphs:
            graphs[key] = traced.get_concrete_function(
                *keras.tree.map_structure(lambda v: tf.TensorSpec(v.shape, v.dtype), args)
            )
        return graphs[key](*args)

    return call


def of_shape(x, shape):
    """`x`, known to be `(B, *shape)`; None where any size goes.

    TensorFlow traces a function for new shapes with the axes that differ left open, so that no check of shapes sees
    them before the function runs. There, values of another shape then end it.

    Args:
        x: tensor of that rank.
        shape: tuple.
    """
    pairs = zip(x.shape[1:], shape, strict=True)
    if keras.backend.backend() != "tensorflow" or not any(a is None and b is not None for a, b in pairs):
        return x
    import tensorflow as tf

    return tf.ensure_shape(x, (None, *shape))
