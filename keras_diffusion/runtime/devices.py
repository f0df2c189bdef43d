"""Placing arrays on devices when a `keras.distribution` is set, and bringing them back to the host.

    batch axis          split over the data axis of the device mesh; padded to a multiple of it, and cut afterwards
    everything else     copied to every device

Without a distribution, and on backends without one (TensorFlow, torch), the functions here return their input. With
several processes, none of them can read a whole array: every process must call `to_host` at the same place.
"""

import contextlib

import keras
import numpy as np
from keras import ops


def active_distribution():
    """The `keras.distribution.Distribution` that is set, or None; always None on TensorFlow and torch."""
    return keras.distribution.distribution() if keras.backend.backend() == "jax" else None


def several_processes():
    """Whether this process shares arrays with others, so that none of them holds all the values."""
    return active_distribution() is not None and _jax().process_count() > 1


def is_writer():
    """Whether this process writes files: it is the first of several, or the only one."""
    return not several_processes() or _jax().process_index() == 0


def wait_for_all(name):
    """Waits until every process has called this; returns at once if there is only one.

    Args:
        name: str, the same in all processes.
    """
    if several_processes():
        _multihost().sync_global_devices(name)


def values_of_all(number):
    """The values of `number`, an int, in all processes, as a list; every process must call this."""
    numbers = _multihost().process_allgather(np.int32(number)) if several_processes() else number
    return [int(n) for n in np.ravel(numbers)]


def to_host(tensor):
    """A tensor as a NumPy array, however it is spread over devices and processes."""
    if several_processes() and _is_spread(tensor):
        return np.asarray(_multihost().process_allgather(tensor, tiled=True))
    return ops.convert_to_numpy(tensor)


@contextlib.contextmanager
def writing(model):
    """A context for saving a model. Every process must enter it; leaving it does not synchronize them.

    Args:
        model: Keras model to be saved. Weights spread over processes are gathered while the context lasts.

    Yields:
        whether this process writes.
    """
    if not several_processes():
        yield True
        return
    variables = [*model.variables, *getattr(getattr(model, "optimizer", None), "variables", ())]
    spread = [(v, v.value) for v in variables if _is_spread(v.value)]
    writer, distribution = is_writer(), active_distribution()
    try:
        for variable, value in spread:
            variable._value = to_host(value)  # as Keras's trainer does; `assign` would spread it again
        # Keras creates variables while saving. Under a distribution, every process would have to create them.
        keras.distribution.set_distribution(None)
        yield writer
    finally:
        keras.distribution.set_distribution(distribution)
        for variable, value in spread:
            variable._value = value


@contextlib.contextmanager
def batches_that_divide(data=None, batch_size=None):
    """A context for `fit` and `evaluate` that explains how to fix batches that the devices cannot share evenly.

    Args:
        data: the data read. For arrays, and for data with `batch_size` and `remainders`, the sizes of smaller batches
            are known in advance.
        batch_size: batch size for arrays.
    """
    distribution = active_distribution()
    if distribution is None:
        yield
        return
    replicas = distribution.num_model_replicas
    remedy = (
        "Choose a batch size that divides evenly, and drop the rest of the data: data.Batches(drop_remainder=True), "
        "its default, or tf.data's batch(..., drop_remainder=True)"
    )
    sizes = {} if several_processes() else _batch_sizes(data, batch_size)
    for which, size in sizes.items():
        if size % replicas:
            raise ValueError(
                f"Every batch is split over {replicas} devices. Received: {which} of {size} samples. {remedy}."
            )
    try:
        yield
    except ValueError as error:
        if type(error).__name__ != "IndivisibleError":
            raise
        raise ValueError(
            f"Every batch is split over {replicas} devices. Received: another one, {error}. {remedy}."
        ) from error


def _batch_sizes(data, batch_size):
    """Batch sizes that are known in advance, a dict."""
    if hasattr(data, "remainders"):
        rests = [rest for rest in data.remainders if rest % active_distribution().num_model_replicas]
        size, rest = data.batch_size, next(iter(rests), 0)
    else:
        count = next((len(array) for array in keras.tree.flatten(data) if isinstance(array, np.ndarray)), 0)
        size = min(batch_size or 32, count)
        rest = count % size if size else 0
    return {which: n for which, n in (("batches", size), ("a last batch", rest)) if n}


def run_batch(function, x):
    """The result, as a NumPy array, of a function of one batch `(B, ...)`, which is split over the devices."""
    place = BatchPlacement(len(x))
    return place.to_host(function(ops.convert_to_tensor(place.batch(x))))


class BatchPlacement:
    """Places the arrays of one batch on the devices, and brings them back.

    Args:
        size: B, the number of samples in the batch.
        pad: whether B may be padded to a multiple of the devices on the data axis. If not, a batch that does not divide
            evenly is copied instead of split.

    Attributes:
        rows: number of rows on the devices, ≥ B.
    """

    def __init__(self, size, pad=True):
        self.distribution = active_distribution()
        replicas = 1 if self.distribution is None else self.distribution.num_model_replicas
        self.size, self.rows = size, -(-size // replicas) * replicas if pad else size
        self.split = self.rows % replicas == 0

    def batch(self, tree):
        """Arrays `(B, ...)`, padded with copies of their last row and split."""
        if self.distribution is None:
            return tree
        return keras.tree.map_structure(lambda value: self._put(self._padded(value), axis=0), tree)

    def copies(self, tree):
        """Tensors copied to every device."""
        return keras.tree.map_structure(self._put, tree) if several_processes() else tree

    def like(self, x, tree):
        """Tensors of a walk, those that end in the shape of `x` split like the padded batch `x`, others copied."""
        if self.distribution is None:
            return tree
        ends = tuple(x.shape)

        def put(value):
            axis = len(value.shape) - len(ends)
            return self._put(value, axis if axis >= 0 and tuple(value.shape[axis:]) == ends else None)

        return keras.tree.map_structure(put, tree)

    def to_host(self, tensor, axis=0):
        """A NumPy array without the padding of its batch axis."""
        return np.take(to_host(tensor), range(self.size), axis) if self.rows > self.size else to_host(tensor)

    def _padded(self, value):
        missing = self.rows - self.size
        if not missing:
            return value
        value = ops.convert_to_numpy(value)
        return np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])

    def _put(self, value, axis=None):
        import jax

        mesh = self.distribution.device_mesh.backend_mesh
        split = axis is not None and self.split
        axes = (*[None] * axis, self.distribution.batch_dim_name) if split else ()
        return put(value, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)))


def _jax():
    import jax

    return jax


def _multihost():
    from jax.experimental import multihost_utils

    return multihost_utils


def _is_spread(value):
    """Whether no single process holds all of a JAX array."""
    return not (value.is_fully_addressable or value.is_fully_replicated)


def put(value, sharding):
    """A host or device array, the same in every process, as a JAX array with the given sharding."""
    import jax

    if not several_processes():
        return jax.device_put(value, sharding)
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return jax.jit(lambda array: array, out_shardings=sharding)(value)
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
