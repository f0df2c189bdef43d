"""Calling a network or a layer in a test."""

import weakref

import keras
import numpy as np
from keras import ops

from keras_diffusion.runtime.compile import Compiled, as_tensors

_programs = weakref.WeakKeyDictionary()


def call(network, *inputs, **options):
    """The output of a network or layer, as a NumPy array.

    On JAX one compiled program makes it, as in `fit` and `generate`: compiling every operation by itself takes several
    times as long. What a call changes in the network (statistics, the state of dropout) is lost there; a test of that
    calls the network as it stands. Arrays may be named too (`context=…`); all other options are part of the program.
    """
    if keras.backend.backend() != "jax":
        return keras.tree.map_structure(ops.convert_to_numpy, network(*inputs, **options))
    named = {key: value for key, value in options.items() if isinstance(value, np.ndarray)}
    fixed = {key: value for key, value in options.items() if key not in named}
    if not network.built:
        args, kwargs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=np.shape(x), dtype=ops.dtype(x)), (inputs, named)
        )
        network(*args, **kwargs, **fixed)
    programs = _programs.setdefault(network, {})
    key = tuple(sorted(fixed.items()))
    if key not in programs:
        ref = weakref.ref(network)

        def pure(values, inputs, named):
            network = ref()
            with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
                return network(*inputs, **named, **fixed)

        programs[key] = Compiled(pure)
    outputs = programs[key]([variable.value for variable in network.variables], as_tensors(inputs), as_tensors(named))
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)
