"""State of a model that Keras would lose.

Random state: Keras leaves the states of `SeedGenerator`s (a model's own, and those of dropout layers) out of `.keras`
and `.weights.h5` files. Here they are saved with the weights, so that a resumed training draws the noise it would have
drawn.

What happens to the weights while a step runs or fails is in `keeping.py`.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_diffusion.models.keeping import reads_weights
from keras_diffusion.runtime.files import check_room, write_errors
from keras_diffusion.runtime.finite import check_finite

_PREFIX = "random_state_"
_GROUPS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


class RandomStateMixin:
    """Adds every variable that Keras would leave out to what the model saves.

    Goes before `keras.Model` in the bases.
    """

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for i, variable in enumerate(self._random_state()):
            # One type for all backends, whose seeds are uint32, int32 or int64.
            store[f"{_PREFIX}{i}"] = ops.convert_to_numpy(variable.value).astype("int64")

    def load_own_variables(self, store):
        keys = set(store.keys())
        for i, variable in enumerate(self._random_state()):
            if f"{_PREFIX}{i}" in keys:  # files of plain weights have none
                variable.assign(
                    np.asarray(store[f"{_PREFIX}{i}"]).astype(keras.backend.standardize_dtype(variable.dtype))
                )
        super().load_own_variables({key: store[key] for key in keys if not key.startswith(_PREFIX)})

    def _random_state(self):
        known = {id(variable) for variable in (*self.weights, *self.metrics_variables)}
        return [variable for variable in self.variables if id(variable) not in known]


class SavesWholeMixin:
    """Saves finite weights only, and makes one kind of error of a full disk. Goes before `keras.Model` in the bases."""

    @reads_weights
    def save_weights(self, filepath, *args, **kwargs):
        """Keras's `save_weights`.

        Raises:
            FloatingPointError: weights, averages or optimizer variables that are NaN or infinite; a file that is there
                stays.
            OSError: they could not be written.
        """
        check_finite(self, f"The file {str(filepath)!r}")
        optimizer = getattr(self, "optimizer", None)
        variables = [*self.variables, *([] if optimizer is None else optimizer.variables)]
        check_room(filepath, sum(_bytes(variable) for variable in variables))
        with write_errors(filepath):
            return super().save_weights(filepath, *args, **kwargs)

    @reads_weights
    def save(self, filepath, *args, **kwargs):
        """Keras's `save`; raises as `save_weights` does."""
        check_finite(self, f"The file {str(filepath)!r}")
        with write_errors(filepath):
            return super().save(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Keras's `load_weights`."""
        self._require_weights("load_weights")
        return super().load_weights(filepath, *args, **kwargs)


def _bytes(variable):
    """Of a variable in an HDF5 file, roughly: two kilobytes are its name and tables."""
    return math.prod(variable.shape) * (8 if "64" in str(variable.dtype) else 4) + 2048


class StateTreeMixin:
    """`get_state_tree` and `set_state_tree` for a model with an `average`, and with them
    `keras.callbacks.OrbaxCheckpoint`.

    The average's weights have the paths of the network's, which Keras refuses; here they have "average/" in front. Goes
    before `keras.Model` in the bases.
    """

    def get_state_tree(self, value_format="backend_tensor"):
        if value_format not in ("backend_tensor", "numpy_array"):
            raise ValueError(
                f"`value_format` is 'backend_tensor' or 'numpy_array'. Received: value_format={value_format!r}"
            )
        tree = {}
        for group in _GROUPS:
            tree[group] = {}
            for path, variable in self._variables_by_path(group):
                *folders, name = path.split("/")
                folder = tree[group]
                for part in folders:
                    folder = folder.setdefault(part, {})
                folder[name] = (
                    variable.value if value_format == "backend_tensor" else ops.convert_to_numpy(variable.value)
                )
        return tree

    def set_state_tree(self, state_tree):
        for group, tree in state_tree.items():
            if group not in _GROUPS:
                raise ValueError(f"A state tree has the branches {', '.join(_GROUPS)}. Received: {group!r}")
            values = dict(_flat(tree))
            for path, variable in self._variables_by_path(group):
                if path in values:
                    variable.assign(values[path])

    def _variables_by_path(self, group):
        if group == "optimizer_variables":  # without the optimizer's own name: a process's second Adam is called adam_1
            return (
                []
                if self.optimizer is None
                else [(v.path.partition("/")[2] or v.path, v) for v in self.optimizer.variables]
            )
        variables = getattr(self, group)
        averages = set() if self.average is None else {id(variable) for variable in self.average.variables}
        return [(f"average/{v.path}" if id(v) in averages else v.path, v) for v in variables]


def _flat(tree, prefix=""):
    """(path, value) of each leaf of nested dicts."""
    for key, value in tree.items():
        yield from _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else [(prefix + key, value)]


def seed_generator(seed, stream, name):
    """A `SeedGenerator` for one stream of a seed.

    The seed is hashed: on torch, the streams of neighbouring seeds would overlap.
    """
    return keras.random.SeedGenerator(_hashed(seed, stream), name=name)


def reset_seed(generator, seed, stream):
    """Puts a generator of `seed_generator` back to its beginning."""
    generator.state.assign(ops.convert_to_tensor(np.array([_hashed(seed, stream), 0]), dtype=generator.state.dtype))


def _hashed(seed, stream):
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0] >> 1)
