"""Where arrays lie when a `keras.distribution` is set, and how they come back to the host.

    batch axis    split over the data axis of the device mesh; padded first where the mesh does not divide it, and cut afterwards
    all else      a copy on every device

Without a distribution, and on the backends that have none (TensorFlow, torch), everything here hands back what it was
given. With several processes no array can be read whole by one of them: every process has to call `to_host` at the same
place of the program.
"""

import contextlib

import keras
import numpy as np
from keras import ops


def active_distribution():
    """The `keras.distribution.Distribution` that is set, or None; always None on TensorFlow and torch."""
    return keras.distribution.distribution() if keras.backend.backend() == "jax" else None


def several_processes():
    """Whether this process works together with others, on arrays that none of them holds whole."""
    if active_distribution() is None:
        return False
    import jax

    return jax.process_count() > 1


def is_writer():
    """Whether this process is the one that writes files, the first of several or the only one."""
    if not several_processes():
        return True
    import jax

    return jax.process_index() == 0


def wait_for_all(name):
    """Returns when every process has come here; at once where there is only one.

    Args:
        name: str, the same in all processes.
    """
    if several_processes():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def values_of_all(number):
    """An int of every process, as a list; all of them have to call this."""
    if not several_processes():
        return [int(number)]
    from jax.experimental import multihost_utils

    return [int(n) for n in np.ravel(multihost_utils.process_allgather(np.int32(number)))]


def to_host(tensor):
    """A tensor as a NumPy array, however it lies on devices and processes."""
    if several_processes() and not (tensor.is_fully_addressable or tensor.is_fully_replicated):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(tensor, tiled=True))
    return ops.convert_to_numpy(tensor)


@contextlib.contextmanager
def writing(model):
    """A context for saving a model; all processes have to enter it. It waits for none of them at its end.

    Args:
        model: Keras model to be written. Weights that lie spread over processes are fetched for the time of the
            context.

    Yields:
        whether this process is the one that writes.
    """
    if not several_processes():
        yield True
        return
    variables = [*model.variables, *getattr(getattr(model, "optimizer", None), "variables", ())]
    spread = [(v, v.value) for v in variables if not (v.value.is_fully_addressable or v.value.is_fully_replicated)]
    writer, distribution = is_writer(), active_distribution()
    try:
        for variable, value in spread:
            variable._value = to_host(
                value
            )  # as Keras's own trainer puts values in and out; `assign` would spread it again
        # While it saves, Keras makes variables, which under a distribution all processes would have to make.
        keras.distribution.set_distribution(None)
        yield writer
    finally:
        keras.distribution.set_distribution(distribution)
        for variable, value in spread:
            variable._value = value


@contextlib.contextmanager
def batches_that_divide(data=None, batch_size=None):
    """A context for `fit` and `evaluate`: batches that the devices cannot share are an error that says what to do.

    Args:
        data: what is read. Of arrays, and of data with `source`, `batch_size` and `drop_remainder`, the last batch is
            known beforehand.
        batch_size: of arrays.
    """
    distribution = active_distribution()
    if distribution is None:
        yield
        return
    replicas = distribution.num_model_replicas
    remedy = (
        "Choose a batch size that divides, and leave the rest of the data out: data.Batches(drop_remainder=True), its "
        "default, or tf.data's batch(..., drop_remainder=True)"
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
    """What is known of the sizes of batches, a dict."""
    if hasattr(data, "drop_remainder"):
        rest = 0 if data.drop_remainder or data.batches_per_epoch else len(data.source) % data.batch_size
        return {"batches": data.batch_size, **({"a last batch": rest} if rest else {})}
    arrays = [array for array in keras.tree.flatten(data) if isinstance(array, np.ndarray)]
    if not arrays:
        return {}
    size = min(batch_size or 32, len(arrays[0]))
    rest = len(arrays[0]) % size if size else 0
    return {"batches": size, **({"a last batch": rest} if rest else {})}


def run_batch(function, x):
    """A function of one batch `(B, ...)` that ends on the host: split over the devices where there are several."""
    place = BatchPlacement(len(x))
    return place.to_host(function(ops.convert_to_tensor(place.batch(x))))


class BatchPlacement:
    """Puts the arrays of one batch where they belong, and takes them back.

    Args:
        size: B, the number of samples in the batch.
        pad: whether B may be raised to a multiple of the devices on the data axis. If not, a batch that does not divide
            is not split.

    Attributes:
        rows: number of rows on the devices, ≥ B.
    """

    def __init__(self, size, pad=True):
        self.distribution = active_distribution()
        replicas = 1 if self.distribution is None else self.distribution.num_model_replicas
        self.size, self.rows = size, -(-size // replicas) * replicas if pad else size
        self.split = self.rows % replicas == 0

    def batch(self, tree):
        """Arrays `(B, ...)`, padded by copies of their last row and split."""
        if self.distribution is None:
            return tree
        return keras.tree.map_structure(lambda value: self._put(self._padded(value), axis=0), tree)

    def copies(self, tree):
        """Tensors that every device has whole."""
        return keras.tree.map_structure(self._put, tree) if several_processes() else tree

    def like(self, x, tree):
        """Tensors of a walk: those that end in the shape of `x`, a padded batch, are split as it is, all
        others copied.
        """
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
        axes = (
            (*(None for _ in range(axis)), self.distribution.batch_dim_name) if axis is not None and self.split else ()
        )
        return put(value, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)))


def put(value, sharding):
    """A host or device array, the same in every process, as a JAX array with the given sharding."""
    import jax

    if not several_processes():
        return jax.device_put(value, sharding)
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return jax.jit(lambda array: array, out_shardings=sharding)(value)
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
