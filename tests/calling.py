"""Calling a network or a layer in a test."""

import weakref

import keras
import numpy as np
from keras import ops

from keras_diffusion.core.compile import Compiled, as_tensors

_programs = weakref.WeakKeyDictionary()


def call(network, inputs, **options):
    """The output of a network or layer, as a NumPy array.

    On JAX one compiled program makes it, as in `fit` and `generate`: compiling every operation by itself takes several times as long.
    With options (`training=True`) the network is called as it stands.
    """
    if keras.backend.backend() != "jax" or options:
        return keras.tree.map_structure(ops.convert_to_numpy, network(inputs, **options))
    if not network.built:
        network(keras.tree.map_structure(lambda x: keras.Input(batch_shape=np.shape(x), dtype=ops.dtype(x)), inputs))
    if network not in _programs:
        ref = weakref.ref(network)

        def pure(values, inputs):
            network = ref()
            with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
                return network(inputs)

        _programs[network] = Compiled(pure)
    outputs = _programs[network]([variable.value for variable in network.variables], as_tensors(inputs))
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)
