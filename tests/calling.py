"""Calling a network in a test."""

import keras
from keras import ops


def call(network, inputs, **options):
    """The output of a network, as a NumPy array.

    On JAX one compiled program makes it, as in `fit` and `generate`: compiling every operation by itself takes several times as long.
    With options (`training=True`) the network is called as it stands.
    """
    if keras.backend.backend() == "jax" and not options:
        return network.predict_on_batch(inputs)
    return ops.convert_to_numpy(network(inputs, **options))
