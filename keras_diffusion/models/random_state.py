"""Streams of random numbers, and their states in files.

Keras leaves the states of `SeedGenerator`s (a model's own, and those of dropout layers) out of `.keras` and
`.weights.h5` files. Saved with the weights, they let resumed training draw the noise that it would have drawn.
"""

import keras
import numpy as np
from keras import ops

_PREFIX = "random_state_"


def seed_generator(seed, stream, name):
    """A `SeedGenerator` for one stream of a seed.

    The seed is hashed: on torch, the streams of neighbouring seeds would overlap.
    """
    return keras.random.SeedGenerator(_hashed(seed, stream), name=name)


def reset_seed(generator, seed, stream):
    """Puts a generator of `seed_generator` back to its beginning."""
    generator.state.assign(ops.convert_to_tensor(np.array([_hashed(seed, stream), 0]), dtype=generator.state.dtype))


def save_random_state(model, store):
    """Writes every variable of `model` that Keras leaves out to `store`, a dict or an HDF5 group."""
    for i, variable in enumerate(_random_state(model)):
        # One type for all backends, whose seeds are uint32, int32 or int64.
        store[f"{_PREFIX}{i}"] = ops.convert_to_numpy(variable.value).astype("int64")


def load_random_state(model, store):
    """Reads what `save_random_state` wrote, if it is there; returns the rest of `store` as a dict."""
    rest = {key: store[key] for key in store.keys()}
    for i, variable in enumerate(_random_state(model)):
        value = rest.pop(f"{_PREFIX}{i}", None)  # files of plain weights have none
        if value is not None:
            variable.assign(np.asarray(value).astype(keras.backend.standardize_dtype(variable.dtype)))
    return {key: value for key, value in rest.items() if not key.startswith(_PREFIX)}


def _random_state(model):
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in known]


def _hashed(seed, stream):
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0] >> 1)
