"""Random state that is saved with the weights, so that a resumed training draws the noise it would have drawn.

Keras leaves the states of `SeedGenerator`s (a model's own, and those of dropout layers) out of `.keras` and `.weights.h5` files.
"""

import keras
import numpy as np
from keras import ops

_PREFIX = "random_state_"


class RandomStateMixin:
    """Adds every variable that Keras would leave out to what the model saves. Goes before `keras.Model` in the bases."""

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for i, variable in enumerate(self._random_state()):
            # One type for all backends, whose seeds are uint32, int32 or int64.
            store[f"{_PREFIX}{i}"] = ops.convert_to_numpy(variable.value).astype("int64")

    def load_own_variables(self, store):
        keys = set(store.keys())
        for i, variable in enumerate(self._random_state()):
            if f"{_PREFIX}{i}" in keys:  # files of plain weights have none
                variable.assign(np.asarray(store[f"{_PREFIX}{i}"]).astype(keras.backend.standardize_dtype(variable.dtype)))
        super().load_own_variables({key: store[key] for key in keys if not key.startswith(_PREFIX)})

    def _random_state(self):
        known = {id(variable) for variable in (*self.weights, *self.metrics_variables)}
        return [variable for variable in self.variables if id(variable) not in known]


def seed_generator(seed, stream, name):
    """A `SeedGenerator` for one stream of a seed. The seed is hashed: on torch, the streams of neighbouring seeds would overlap."""
    return keras.random.SeedGenerator(_hashed(seed, stream), name=name)


def reset_seed(generator, seed, stream):
    """Puts a generator of `seed_generator` back to its beginning."""
    generator.state.assign(ops.convert_to_tensor(np.array([_hashed(seed, stream), 0]), dtype=generator.state.dtype))


def _hashed(seed, stream):
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0] >> 1)
